use std::time::Instant;

use futures::{SinkExt as _, StreamExt as _};
use meridian_model::change::{Change, ChangeSet};
use meridian_model::ports::{Datastore as _, StoreHead};
use meridian_model::{Position, StoreId, Tiers, Timestamp};
use meridian_store::memory::MemoryDatastore;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::feed::Feeds;
use super::*;
use crate::config::authn::{Authn, Method, Nodes};
use issuer::{Issuer, Key, now};

#[path = "../../tests/it/authn/issuer.rs"]
#[allow(dead_code, reason = "the tests of callers use the rest")]
mod issuer;

const PATIENCE: Duration = Duration::from_secs(30);

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// `/watch` of a node whose database another writes.
async fn region(datastore: &MemoryDatastore, stop: &CancellationToken) -> String {
    let authenticator = Authenticator::None;
    region_for(authenticator, datastore, stop).await.0
}

/// The same, for those whom `authenticator` lets in; where, and what is behind it.
async fn region_for(
    authenticator: Authenticator,
    datastore: &MemoryDatastore,
    stop: &CancellationToken,
) -> (String, Arc<Watch>) {
    let feeds = Arc::new(Feeds::new(100, 1024 * 1024));
    let following = Following::new(Arc::new(datastore.clone()), None, feeds, true);
    let following = Arc::new(following);
    tokio::spawn(Arc::clone(&following).run(stop.clone()));
    let settings = Settings {
        node: "region/one".into(),
        origins: Vec::new(),
        proxies: Proxies::default(),
        connections: 10,
        decisions: 10,
        hello_timeout: PATIENCE,
        ping_interval: PATIENCE,
        idle_timeout: PATIENCE,
    };
    let recorder = FlowRecorder::disabled();
    let watch = Watch::new(
        following,
        recorder,
        Arc::new(authenticator),
        settings,
        stop.clone(),
    );
    let watch = Arc::new(watch);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}{PATH}", listener.local_addr().unwrap());
    let router = Arc::clone(&watch).router();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, watch)
}

struct Watcher(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Watcher {
    /// Goes on behind a position.
    async fn after(url: &str, store: StoreId, after: Position) -> Self {
        Self::showing(None, url, store, after).await
    }

    /// The same, with a token.
    async fn showing(token: Option<&str>, url: &str, store: StoreId, after: Position) -> Self {
        let url = format!("{url}?store_id={store}&after={after}");
        let mut request = url.into_client_request().unwrap();
        if let Some(token) = token {
            let bearer = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", bearer);
        }
        let mut watcher = Self(connect_async(request).await.unwrap().0);
        let welcome = watcher.hear().await;
        assert_eq!(
            (&welcome["type"], &welcome["position"]),
            (&json!("welcome"), &json!(after.to_string()))
        );
        watcher
    }

    async fn hear(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await;
            if let Message::Text(text) = message.unwrap().unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    async fn is_told(&mut self, position: Position) {
        let told = self.hear().await;
        assert_eq!(
            (&told["type"], &told["position"]),
            (&json!("change"), &json!(position.to_string())),
            "{told}"
        );
    }

    async fn say(&mut self, said: &Value) {
        let said = Message::text(said.to_string());
        self.0.send(said).await.unwrap();
    }

    /// The code by which it is closed next.
    async fn closed(&mut self) -> u16 {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match message.unwrap().unwrap().unwrap() {
                Message::Close(frame) => return frame.unwrap().code.into(),
                Message::Text(text) => panic!("{text}"),
                _ => {}
            }
        }
    }

    /// Whether there is nothing to be told.
    async fn is_up_to_date(&mut self) {
        self.say(&json!({"type": "ping"})).await;
        assert_eq!(self.hear().await["type"], "pong");
    }
}

/// The store's position after one more revision.
async fn revise(datastore: &MemoryDatastore, store: StoreId) -> Position {
    let tiers = Tiers::default();
    let revised = datastore.assign_tiers(store, &tiers, soon());
    revised.await.unwrap().position
}

/// A store of so many revisions, and where it stands.
async fn store_of(datastore: &MemoryDatastore, revisions: u64) -> (StoreId, Position) {
    let store = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let created = datastore.create_store(store, "shop", soon()).await;
    let mut head = created.unwrap().position;
    while head.revision.0 < revisions {
        head = revise(datastore, store).await;
    }
    (store, head)
}

/// As with a database that answers nobody: four hold all the turns that there are.
#[tokio::test]
async fn who_waits_for_the_database_is_heard_and_told_when_the_node_stops() {
    let (datastore, stop) = (MemoryDatastore::new(), CancellationToken::new());
    let (store, head) = store_of(&datastore, 5).await;
    let (url, watch) = region_for(Authenticator::None, &datastore, &stop).await;
    let all = u32::try_from(READS).unwrap();
    let turns = watch.reads.acquire_many(all).await.unwrap();
    let first = Position::new(head.epoch.0, 1);
    let mut late = Watcher::after(&url, store, first).await;
    let mut live = Watcher::after(&url, store, head).await;
    for _ in 0..3 {
        late.is_up_to_date().await;
    }
    let next = revise(&datastore, store).await;
    live.is_told(next).await;
    late.is_up_to_date().await;
    drop(turns);
    for revision in 2..=6 {
        late.is_told(Position::new(head.epoch.0, revision)).await;
    }
    late.is_up_to_date().await;

    let _turns = watch.reads.acquire_many(all).await.unwrap();
    let mut late = Watcher::after(&url, store, first).await;
    late.is_up_to_date().await;
    stop.cancel();
    assert_eq!(late.closed().await, 1001);
}

/// Lets in by tokens of an issuer.
async fn by_tokens(issuer: &Issuer) -> Authenticator {
    let mut settings = Authn {
        method: Method::Oidc,
        ..Authn::default()
    };
    settings.oidc.issuer.clone_from(&issuer.url);
    settings.oidc.audience = "meridian".into();
    let authenticator = Authenticator::new(&settings, &Nodes::default()).unwrap();
    let oidc = Arc::clone(authenticator.oidc().unwrap());
    tokio::spawn(async move { oidc.keep_keys().await });
    authenticator.ready().await;
    authenticator
}

#[tokio::test]
async fn nothing_is_told_once_its_token_has_ended_however_long_the_database_takes() {
    let (datastore, stop) = (MemoryDatastore::new(), CancellationToken::new());
    let (store, head) = store_of(&datastore, 5).await;
    let key = Key::p256("a");
    let issuer = Issuer::start(&[&key]).await;
    let (url, watch) = region_for(by_tokens(&issuer).await, &datastore, &stop).await;
    let all = u32::try_from(READS).unwrap();
    let turns = watch.reads.acquire_many(all).await.unwrap();
    let token = key.token(&issuer.claims_with("exp", json!(now() + 2)));
    let first = Position::new(head.epoch.0, 1);
    let mut late = Watcher::showing(Some(&token), &url, store, first).await;
    assert_eq!(late.closed().await, 4401);
    drop(turns);
    stop.cancel();
}

#[tokio::test]
async fn who_shows_a_newer_token_is_told_of_changes_while_its_issuer_is_asked() {
    let (datastore, stop) = (MemoryDatastore::new(), CancellationToken::new());
    let (store, head) = store_of(&datastore, 2).await;
    let (key, newer) = (Key::p256("a"), Key::p256("b"));
    let issuer = Issuer::start(&[&key]).await;
    let (url, _) = region_for(by_tokens(&issuer).await, &datastore, &stop).await;
    let token = key.token(&issuer.claims());
    let mut watcher = Watcher::showing(Some(&token), &url, store, head).await;
    issuer.publish(&[&key, &newer]);
    issuer.holds.send_replace(true);
    let asked = issuer.asked();
    let token = newer.token(&issuer.claims());
    watcher.say(&json!({"type": "auth", "token": token})).await;
    while issuer.asked() == asked {
        tokio::task::yield_now().await;
    }
    let next = revise(&datastore, store).await;
    watcher.is_told(next).await;
    issuer.holds.send_replace(false);
    let welcome = watcher.hear().await;
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    watcher.is_up_to_date().await;
    stop.cancel();
}

#[tokio::test]
async fn who_comes_from_a_later_epoch_is_told_nothing_of_the_one_before() {
    let (datastore, stop) = (MemoryDatastore::new(), CancellationToken::new());
    let store: StoreId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let created = datastore.create_store(store, "shop", soon()).await.unwrap();
    let revise = async || revise(&datastore, store).await;
    let mut head = created.position;
    for _ in 0..9 {
        head = revise().await;
    }
    let url = region(&datastore, &stop).await;
    let of_next = |revision| Position::new(head.epoch.0 + 1, revision);
    let mut ahead = Watcher::after(&url, store, of_next(4)).await;
    let mut here = Watcher::after(&url, store, head).await;
    ahead.is_up_to_date().await;
    let next = revise().await;
    here.is_told(next).await;
    ahead.is_up_to_date().await;

    // The region takes over what central was restored to, and goes on from there.
    let head = StoreHead {
        info: created.info,
        position: of_next(4),
        models: Vec::new(),
        tiers: Tiers::default(),
        deleted_at: None,
    };
    let replacement = datastore.replace(&head, PATIENCE).await.unwrap();
    replacement.unwrap().finish().await.unwrap();
    let told = here.hear().await;
    assert_eq!(
        (&told["type"], &told["reason"]),
        (&json!("reset"), &json!("new_epoch")),
        "{told}"
    );
    let next = of_next(5);
    let set = ChangeSet {
        store,
        epoch: next.epoch,
        revision: next.revision,
        committed_at: Timestamp(0),
        changes: vec![Change::TiersAssigned(Tiers::default())],
        touched: Vec::new(),
    };
    datastore.apply(&[set], soon()).await.unwrap();
    ahead.is_told(next).await;
    here.is_told(next).await;
    stop.cancel();
}
