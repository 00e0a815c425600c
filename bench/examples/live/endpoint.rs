//! What serves the clients: the live channel, or as little as can be.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use async_trait::async_trait;
use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::routing::get;
use futures::SinkExt as _;
use meridian_live_channel::ports::{
    Authority, Decided, Identity, Question, Rests, TokenError, Tokens, Undecided,
};
use meridian_live_channel::review::Review;
use meridian_live_channel::{Hub, Place, Record, Server, Settings, Touched};
use meridian_model::{Position, StoreId};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// Sends records to all clients.
pub(crate) trait Endpoint {
    fn address(&self) -> SocketAddr;
    fn send(&self);
}

fn now() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos()
}

/// A position of a car, as one would be.
fn data() -> String {
    format!(
        r#"{{"t":{},"lat":46.94809,"lon":7.44744,"speed":12.5,"heading":271}}"#,
        now()
    )
}

async fn serve(router: Router) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// A broadcast to all, whoever they are.
pub(crate) struct Bare {
    address: SocketAddr,
    records: broadcast::Sender<Utf8Bytes>,
}

impl Bare {
    pub(crate) async fn start() -> Result<Self> {
        let records = broadcast::Sender::<Utf8Bytes>::new(4096);
        let of_all = records.clone();
        let route = get(async move |upgrade: WebSocketUpgrade| {
            let receiver = of_all.subscribe();
            upgrade
                .read_buffer_size(4096)
                .write_buffer_size(4096)
                .on_upgrade(|socket| to_one(socket, receiver))
        });
        let address = serve(Router::new().route("/live", route)).await?;
        Ok(Self { address, records })
    }
}

async fn to_one(mut socket: WebSocket, mut records: broadcast::Receiver<Utf8Bytes>) {
    let subscribed = Message::Text(r#"{"type":"subscribed"}"#.into());
    if socket.send(subscribed).await.is_err() {
        return;
    }
    while let Ok(record) = records.recv().await {
        let mut next = Some(record);
        while let Some(record) = next {
            if socket.feed(Message::Text(record)).await.is_err() {
                return;
            }
            next = records.try_recv().ok();
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}

impl Endpoint for Bare {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn send(&self) {
        let record = format!(
            r#"{{"type":"record","object":"event:42","position":"AQAAAAAAAAAAAAA","at":"2026-01-01T00:00:00Z","data":{}}}"#,
            data()
        );
        // Nobody may be there.
        let _sent = self.records.send(record.into());
    }
}

/// What every permission rests on.
const SET: u64 = 1;

/// The live channel.
pub(crate) struct Channel {
    address: SocketAddr,
    hub: Arc<Hub>,
    offset: AtomicI64,
    store: StoreId,
    says: Arc<Yes>,
    _end: DropGuard,
}

impl Channel {
    pub(crate) async fn start() -> Result<Self> {
        let mut settings = Settings::default();
        settings.limits.connections_per_address = 100_000;
        settings.limits.connections_per_user = 100_000;
        let hub = Arc::new(Hub::new(settings.limits));
        hub.reading("cluster", "topic", &[0]);
        let says = Arc::new(Yes::default());
        let authority = Arc::clone(&says) as Arc<dyn Authority>;
        let stop = CancellationToken::new();
        let review = Review {
            hub: Arc::clone(&hub),
            authority: Arc::clone(&authority),
            times: settings.times,
        };
        tokio::spawn(review.run(stop.clone()));
        let end = stop.clone().drop_guard();
        let server = Server::new(
            Arc::clone(&hub),
            Arc::new(Anybody),
            authority,
            settings,
            stop,
        );
        Ok(Self {
            address: serve(Arc::new(server).router()).await?,
            hub,
            offset: AtomicI64::new(0),
            store: STORE.parse()?,
            says,
            _end: end,
        })
    }

    /// Takes a user's permission away, in a revision that the node then shows.
    pub(crate) fn revoke(&self, user: String) {
        let mut denied = self
            .says
            .denied
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        denied.insert(user);
        drop(denied);
        let revision = self.says.revision.fetch_add(1, Ordering::SeqCst) + 1;
        let position = Position::new(1, revision);
        let touched = Touched::Sets(vec![(position, vec![SET])]);
        self.hub.touched(self.store, position, touched);
    }

    /// How often the authority was asked.
    pub(crate) fn asked(&self) -> usize {
        self.says.asked.load(Ordering::Relaxed)
    }
}

impl Endpoint for Channel {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn send(&self) {
        let Ok(data) = serde_json::value::RawValue::from_string(data()) else {
            return;
        };
        self.hub.publish(Record {
            store: self.store,
            object: "event:42".to_owned(),
            objects: Vec::new(),
            data,
            at: i64::try_from(now() / 1_000_000).unwrap_or_default(),
            place: Place {
                partition: 0,
                offset: self.offset.fetch_add(1, Ordering::Relaxed),
            },
        });
    }
}

/// Lets everybody see everything who was not denied it, and counts.
#[derive(Default)]
struct Yes {
    asked: AtomicUsize,
    denied: Mutex<HashSet<String>>,
    revision: AtomicU64,
}

#[async_trait]
impl Authority for Yes {
    async fn follow(&self, _: StoreId) -> Result<Position, Undecided> {
        Ok(Position::default())
    }

    async fn decide(
        &self,
        _: StoreId,
        _: Option<Position>,
        questions: &[Question],
    ) -> Vec<Result<Decided, Undecided>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let position = Position::new(1, self.revision.load(Ordering::SeqCst));
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        let decide = |question: &Question| {
            Ok(Decided {
                allowed: !denied.contains(&*question.user),
                position,
                rests: Rests::On(vec![SET, 2, 3]),
                model: None,
                served_by: Arc::from("bench"),
            })
        };
        questions.iter().map(decide).collect()
    }
}

struct Anybody;

#[async_trait]
impl Tokens for Anybody {
    async fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        Ok(Identity {
            subject: token.to_owned(),
            user: format!("user:{token}"),
            expires_at: None,
            scopes: Vec::new(),
            client: None,
        })
    }
}
