//! An endpoint, clients of it, and what it asks for.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::{SinkExt as _, StreamExt as _};
use meridian_live_channel::ports::{
    Authority, Decided, Identity, Question, Rests, TokenError, Tokens, Undecided,
};
use meridian_live_channel::review::Review;
use meridian_live_channel::{Hub, PROTOCOL, Place, Record, Server, Settings, Touched};
use meridian_model::{Position, StoreId};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
/// More than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// What every permission of the tests rests on.
pub(crate) const SET: u64 = 7;

pub(crate) fn store() -> StoreId {
    STORE.parse().unwrap()
}

type Allowed = HashSet<(String, String, String)>;

/// Who may see what, and whether anybody can say so.
pub(crate) struct Says {
    allowed: Mutex<Allowed>,
    pub(crate) position: Mutex<Position>,
    /// What is answered from, unless a later position is asked for.
    replica: Mutex<Option<(Position, Allowed)>>,
    /// Whether that is so whatever is asked for.
    pub(crate) is_stuck: AtomicBool,
    pub(crate) is_away: AtomicBool,
    /// While it is, whoever asks waits.
    pub(crate) holds: watch::Sender<bool>,
    pub(crate) asked: AtomicUsize,
    /// The token of each question.
    pub(crate) shown: Mutex<Vec<Option<Arc<str>>>>,
}

impl Says {
    pub(crate) fn allow(&self, user: &str, relation: &str, object: &str) {
        let tuple = [user, relation, object].map(str::to_owned).into();
        self.allowed.lock().unwrap().insert(tuple);
    }

    /// Takes a permission away, in a revision of its own.
    pub(crate) fn revoke(&self, user: &str, relation: &str, object: &str) -> Position {
        let tuple = [user, relation, object].map(str::to_owned).into();
        self.allowed.lock().unwrap().remove(&tuple);
        self.step()
    }

    /// Answers as of now from here on, unless somebody asks for a later position.
    pub(crate) fn lag(&self) {
        let now = (
            *self.position.lock().unwrap(),
            self.allowed.lock().unwrap().clone(),
        );
        *self.replica.lock().unwrap() = Some(now);
    }

    /// What is answered from.
    fn known(&self, at_least: Option<Position>) -> (Position, Allowed) {
        let is_stuck = self.is_stuck.load(Ordering::SeqCst);
        let replica = self.replica.lock().unwrap().clone();
        let serves = |(position, _): &(Position, Allowed)| {
            is_stuck || at_least.is_none_or(|least| *position >= least)
        };
        let now = || {
            (
                *self.position.lock().unwrap(),
                self.allowed.lock().unwrap().clone(),
            )
        };
        replica.filter(serves).unwrap_or_else(now)
    }

    /// The next revision.
    pub(crate) fn step(&self) -> Position {
        let mut position = self.position.lock().unwrap();
        position.revision.0 += 1;
        *position
    }
}

#[async_trait]
impl Authority for Says {
    async fn follow(&self, store: StoreId) -> Result<Position, Undecided> {
        if store != self::store() {
            return Err(Undecided::NoStore);
        }
        Ok(*self.position.lock().unwrap())
    }

    async fn decide(
        &self,
        _: StoreId,
        at_least: Option<Position>,
        questions: &[Question],
    ) -> Vec<Result<Decided, Undecided>> {
        let tokens = questions.iter().map(|question| question.token.clone());
        self.shown.lock().unwrap().extend(tokens);
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (position, known) = self.known(at_least);
        let decide = |question: &Question| {
            let Question {
                user,
                relation,
                object,
                ..
            } = question;
            let tuple = [user, relation, object].map(|text| text.to_string()).into();
            Decided {
                allowed: known.contains(&tuple),
                position,
                rests: Rests::On(vec![SET]),
                model: None,
                served_by: Arc::from("test"),
            }
        };
        let decided: Vec<_> = questions.iter().map(decide).collect();
        // What was decided is told later: changes come between.
        let mut holds = self.holds.subscribe();
        holds.wait_for(|holds| !holds).await.unwrap();
        let is_away = self.is_away.load(Ordering::SeqCst);
        let is_stuck = self.is_stuck.load(Ordering::SeqCst);
        let is_behind = !is_stuck && at_least.is_some_and(|least| position < least);
        let away = |decided| match is_away || is_behind {
            true => Err(Undecided::Unreachable),
            false => Ok(decided),
        };
        decided.into_iter().map(away).collect()
    }
}

/// Tokens like `anne`, `anne until 5` (seconds from now) and `anne for event:1,stage:*`.
#[derive(Default)]
pub(crate) struct Words {
    /// How often one without an end is verified again.
    pub(crate) every: Mutex<Option<Duration>>,
    /// One that is not good any longer.
    pub(crate) bad: Mutex<Option<&'static str>>,
    pub(crate) is_away: AtomicBool,
    /// While it is, whoever asks waits.
    pub(crate) holds: watch::Sender<bool>,
    pub(crate) asked: AtomicUsize,
}

#[async_trait]
impl Tokens for Words {
    fn verify_every(&self) -> Option<Duration> {
        *self.every.lock().unwrap()
    }

    async fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut holds = self.holds.subscribe();
        holds.wait_for(|holds| !holds).await.unwrap();
        if self.is_away.load(Ordering::SeqCst) {
            return Err(TokenError::Unavailable);
        }
        if *self.bad.lock().unwrap() == Some(token) {
            return Err(TokenError::Invalid("it was taken back".into()));
        }
        let mut words = token.split(' ');
        let subject = words.next().unwrap_or_default();
        match subject {
            "bad" => return Err(TokenError::Invalid("it has expired".into())),
            "later" => return Err(TokenError::Unavailable),
            _ => {}
        }
        let mut identity = Identity {
            subject: subject.to_owned(),
            user: format!("user:{subject}"),
            expires_at: None,
            scopes: Vec::new(),
            client: None,
        };
        while let (Some(word), Some(value)) = (words.next(), words.next()) {
            match word {
                "until" => {
                    let left = Duration::from_secs_f64(value.parse().unwrap());
                    identity.expires_at = Some(SystemTime::now() + left);
                }
                _ => identity.scopes = value.split(',').map(str::to_owned).collect(),
            }
        }
        Ok(identity)
    }
}

/// A running endpoint.
pub(crate) struct Endpoint {
    pub(crate) hub: Arc<Hub>,
    pub(crate) says: Arc<Says>,
    pub(crate) tokens: Arc<Words>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    offset: AtomicI64,
    _end: DropGuard,
}

impl Endpoint {
    pub(crate) async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    /// One whose store, unless `settings` name another, is [`STORE`].
    pub(crate) async fn with(settings: Settings) -> Self {
        let endpoint = Self::unread(settings).await;
        endpoint.read();
        endpoint
    }

    /// Begins to read the topic.
    pub(crate) fn read(&self) {
        self.hub.reading("cluster", "topic", &[0]);
    }

    /// The same, whose topic is not read yet.
    pub(crate) async fn unread(settings: Settings) -> Self {
        let store = settings.store.or_else(|| Some(store()));
        Self::plain(Settings { store, ..settings }).await
    }

    pub(crate) async fn plain(settings: Settings) -> Self {
        let hub = Arc::new(Hub::new(settings.limits));
        let says = Arc::new(Says {
            allowed: Mutex::default(),
            position: Mutex::new(Position::new(1, 1)),
            replica: Mutex::default(),
            is_stuck: AtomicBool::new(false),
            is_away: AtomicBool::new(false),
            holds: watch::Sender::new(false),
            asked: AtomicUsize::new(0),
            shown: Mutex::default(),
        });
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        let authority = Arc::clone(&says) as Arc<dyn Authority>;
        let review = Review {
            hub: Arc::clone(&hub),
            authority: Arc::clone(&authority),
            times: settings.times,
        };
        tokio::spawn(review.run(end.clone()));
        let tokens = Arc::new(Words::default());
        let shown = Arc::clone(&tokens) as Arc<dyn Tokens>;
        let server = Server::new(Arc::clone(&hub), shown, authority, settings, stop.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Arc::new(server).router();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let ended = end.clone();
        tokio::spawn(async move {
            tokio::select! {
                served = async { axum::serve(listener, service).await } => served.unwrap(),
                () = ended.cancelled() => {}
            }
        });
        Self {
            hub,
            says,
            tokens,
            address,
            stop,
            offset: AtomicI64::new(0),
            _end: end.drop_guard(),
        }
    }

    /// Sends a record; returns its number.
    pub(crate) fn publish(&self, object: &str, objects: &[&str], data: Value) -> i64 {
        let offset = self.offset.fetch_add(1, Ordering::SeqCst);
        self.hub.publish(Record {
            store: store(),
            object: object.to_owned(),
            objects: objects.iter().map(|&object| object.to_owned()).collect(),
            data: serde_json::value::to_raw_value(&data).unwrap(),
            at: 1_700_000_000_123,
            place: Place {
                partition: 0,
                offset,
            },
        });
        offset
    }

    pub(crate) fn touched(&self, position: Position) {
        let touched = Touched::Sets(vec![(position, vec![SET])]);
        self.hub.touched(store(), position, touched);
    }

    pub(crate) fn request(&self, query: &str) -> Request<()> {
        let url = format!("ws://{}/live{query}", self.address);
        let mut request = url.into_client_request().unwrap();
        let protocol = HeaderValue::from_static(PROTOCOL);
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        request
    }

    /// A client that has shown its token and was welcomed.
    pub(crate) async fn client(&self, token: &str) -> Client {
        let mut client = self.stranger().await;
        client.say(json!({"type": "auth", "token": token})).await;
        let welcome = client.hear().await;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        client
    }

    /// A client that has shown nothing yet.
    pub(crate) async fn stranger(&self) -> Client {
        self.connect(self.request(&format!("?store_id={STORE}")))
            .await
            .unwrap()
    }

    /// # Errors
    /// The status where it is not let in.
    pub(crate) async fn connect(&self, request: Request<()>) -> Result<Client, u16> {
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Client { socket }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
}

impl Client {
    pub(crate) async fn say(&mut self, message: Value) {
        self.say_text(&message.to_string()).await;
    }

    pub(crate) async fn say_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// What comes next, pings apart.
    pub(crate) async fn hear(&mut self) -> Value {
        match self.next().await {
            Ok(value) => value,
            Err(code) => panic!("closed: {code}"),
        }
    }

    /// # Errors
    /// The code it was closed with.
    pub(crate) async fn next(&mut self) -> Result<Value, u16> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next());
            match next.await.expect("nothing comes") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    /// The code that it is closed with, whatever comes before.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, id: &str, object: &str) -> Value {
        let message = json!({"type": "subscribe", "id": id, "object": object});
        self.say(message).await;
        self.hear().await
    }

    /// Subscribes to an object under its own name, as that is allowed.
    pub(crate) async fn sees(&mut self, object: &str) -> String {
        let told = self.subscribe(object, object).await;
        assert_eq!(
            (&told["type"], &told["id"]),
            (&json!("subscribed"), &json!(object)),
            "{told}"
        );
        told["position"].as_str().unwrap().to_owned()
    }

    /// The data of the next message, which must be a record.
    pub(crate) async fn data(&mut self) -> Value {
        let told = self.hear().await;
        assert_eq!(told["type"], "record", "{told}");
        told["data"].clone()
    }

    /// Everything the node has told up to now.
    pub(crate) async fn drain(&mut self) -> Vec<Value> {
        self.ping().await.0
    }

    /// Everything the node has told up to now, and up to where that is all.
    pub(crate) async fn ping(&mut self) -> (Vec<Value>, Option<String>) {
        self.say(json!({"type": "ping"})).await;
        let mut told = Vec::new();
        loop {
            match self.hear().await {
                pong if pong["type"] == "pong" => {
                    return (told, pong["position"].as_str().map(str::to_owned));
                }
                other => told.push(other),
            }
        }
    }
}
