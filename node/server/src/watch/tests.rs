use std::time::Instant;

use futures::{SinkExt as _, StreamExt as _};
use meridian_model::change::{Change, ChangeSet};
use meridian_model::ports::{Datastore as _, StoreHead};
use meridian_model::{Position, StoreId, Tiers, Timestamp};
use meridian_store::memory::MemoryDatastore;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::feed::Feeds;
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// `/watch` of a node whose database another writes.
async fn region(datastore: &MemoryDatastore, stop: &CancellationToken) -> String {
    let feeds = Arc::new(Feeds::new(100, 1024 * 1024));
    let following = Following::new(Arc::new(datastore.clone()), None, feeds, true);
    let following = Arc::new(following);
    tokio::spawn(Arc::clone(&following).run(stop.clone()));
    let settings = Settings {
        node: "region/one".into(),
        origins: Vec::new(),
        connections: 10,
        decisions: 10,
        hello_timeout: PATIENCE,
        ping_interval: PATIENCE,
        idle_timeout: PATIENCE,
    };
    let authenticator = Arc::new(Authenticator::None);
    let recorder = FlowRecorder::disabled();
    let watch = Watch::new(following, recorder, authenticator, settings, stop.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}{PATH}", listener.local_addr().unwrap());
    let router = Arc::new(watch).router();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

struct Watcher(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Watcher {
    /// Goes on behind a position.
    async fn after(url: &str, store: StoreId, after: Position) -> Self {
        let url = format!("{url}?store_id={store}&after={after}");
        let mut watcher = Self(connect_async(url).await.unwrap().0);
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

    /// Whether there is nothing to be told.
    async fn is_up_to_date(&mut self) {
        let ping = Message::text(r#"{"type":"ping"}"#);
        self.0.send(ping).await.unwrap();
        assert_eq!(self.hear().await["type"], "pong");
    }
}

#[tokio::test]
async fn who_comes_from_a_later_epoch_is_told_nothing_of_the_one_before() {
    let (datastore, stop) = (MemoryDatastore::new(), CancellationToken::new());
    let store: StoreId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let created = datastore.create_store(store, "shop", soon()).await.unwrap();
    let tiers = Tiers::default();
    let revise = async || {
        let revised = datastore.assign_tiers(store, &tiers, soon());
        revised.await.unwrap().position
    };
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
