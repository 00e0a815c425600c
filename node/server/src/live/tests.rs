//! When the hub knows of a change: what the hub holds back is never asked about again here, so whatever it knows of shows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{SinkExt as _, StreamExt as _};
use meridian_engine::View;
use meridian_live_channel::record::Place;
use meridian_live_channel::{Hub, Record, Server, Settings};
use meridian_model::hash::set_hash;
use meridian_model::ports::Datastore;
use meridian_model::{Position, StoreId};
use meridian_proto::openfga::v1;
use meridian_store::memory::MemoryDatastore;
use meridian_sync::edge;
use meridian_sync::views::Observer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

use super::authority::{Changes, Checks};
use super::stores::Stores;
use super::tokens::Verifier;
use super::views::Watching;
use crate::calls::{Calls as _, Context, ServedBy};
use crate::commands::Local;
use crate::config::Live;
use crate::config::authn::Method;
use crate::following::Following;
use crate::limits::Limits;
use crate::watch::feed::Feeds;

const PATIENCE: Duration = Duration::from_secs(30);
const TOPIC: &str = "meridian.default.live";

/// A central node whose database nobody reads for changes, and who subscribed to `event:42` there, as anne.
struct World {
    local: Arc<Local>,
    hub: Arc<Hub>,
    store: StoreId,
    /// Where the store stood when the subscription was checked.
    head: Position,
    client: WebSocketStream<MaybeTlsStream<TcpStream>>,
    published: i64,
}

fn key() -> v1::TupleKey {
    v1::TupleKey {
        user: "user:anne".into(),
        relation: "can_watch".into(),
        object: "event:42".into(),
        condition: None,
    }
}

fn soon() -> Context {
    Context::own(Instant::now() + PATIENCE)
}

impl World {
    async fn new() -> Self {
        let datastore: Arc<dyn Datastore> = Arc::new(MemoryDatastore::new());
        let hub = Arc::new(Hub::new(Default::default()));
        hub.reading("one", TOPIC, &[0]);
        let name = ServedBy::new("central/one").unwrap();
        let committed = Arc::new(Notify::new());
        let local = Local::new(Arc::clone(&datastore), name, Limits::default(), committed);
        let local = Arc::new(local.telling(Some(Arc::clone(&hub))));
        let (store, head) = stored(&local).await;
        let feeds = Arc::new(Feeds::new(10, 1024));
        let following = Following::new(datastore, Some(Arc::clone(&hub)), feeds, false);
        let checks = Checks {
            decider: Arc::clone(&local) as _,
            changes: Changes::Database(Arc::new(following)),
            stores: Arc::new(Stores::new(Arc::clone(&local) as _)),
            timeout: PATIENCE,
        };
        let tokens = Verifier::new(&Live::default(), Method::None, None).unwrap();
        let server = Server::new(
            Arc::clone(&hub),
            Arc::new(tokens),
            Arc::new(checks),
            Settings::default(),
            CancellationToken::new(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "ws://{}/live?store_id={store}",
            listener.local_addr().unwrap()
        );
        let router = Arc::new(server).router();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let mut request = url.into_client_request().unwrap();
        let bearer = "Bearer anne".parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        let mut world = Self {
            local,
            hub,
            store,
            head,
            client: connect_async(request).await.unwrap().0,
            published: 0,
        };
        assert_eq!(world.hear().await["type"], "welcome");
        let subscribe = json!({"type": "subscribe", "id": "a", "object": "event:42"});
        world.say(&subscribe).await;
        assert_eq!(world.hear().await["type"], "subscribed");
        world
    }

    async fn say(&mut self, said: &Value) {
        let said = Message::text(said.to_string());
        self.client.send(said).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let message = tokio::time::timeout(PATIENCE, self.client.next()).await;
        let text = message.unwrap().unwrap().unwrap().into_text().unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Whether a record that is published now is held back.
    async fn holds(&mut self) -> bool {
        let place = Place {
            partition: 0,
            offset: self.published,
        };
        self.published += 1;
        self.hub.publish(Record {
            store: self.store,
            object: "event:42".into(),
            objects: Vec::new(),
            data: serde_json::value::to_raw_value(&1).unwrap(),
            at: 0,
            place,
        });
        self.say(&json!({"type": "ping"})).await;
        let told = self.hear().await;
        if told["type"] == "pong" {
            return true;
        }
        assert_eq!(told["type"], "record", "{told}");
        assert_eq!(self.hear().await["type"], "pong");
        false
    }
}

/// A store in which anne can watch `event:42`, and where it stands.
async fn stored(local: &Local) -> (StoreId, Position) {
    let request = v1::CreateStoreRequest {
        name: "race".into(),
    };
    let created = local.create_store(&soon(), request).await.unwrap();
    let store_id = created.body.id;
    let model =
        "model\n  schema 1.1\ntype user\ntype event\n  relations\n    define can_watch: [user]\n";
    let model = serde_json::to_value(meridian_model::dsl::parse(model).unwrap()).unwrap();
    let mut model: v1::WriteAuthorizationModelRequest = serde_json::from_value(model).unwrap();
    model.store_id.clone_from(&store_id);
    let written = local.write_authorization_model(&soon(), model).await;
    written.unwrap();
    let write = v1::WriteRequest {
        store_id: store_id.clone(),
        writes: Some(v1::WriteRequestWrites {
            tuple_keys: vec![key()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let written = local.write(&soon(), write).await.unwrap();
    (store_id.parse().unwrap(), written.position.unwrap())
}

#[tokio::test]
async fn a_write_is_known_before_it_is_acknowledged() {
    let mut world = World::new().await;
    assert!(!world.holds().await);
    let v1::TupleKey {
        user,
        relation,
        object,
        ..
    } = key();
    let delete = v1::WriteRequest {
        store_id: world.store.to_string(),
        deletes: Some(v1::WriteRequestDeletes {
            tuple_keys: vec![v1::TupleKeyWithoutCondition {
                user,
                relation,
                object,
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    let acknowledged = world.local.write(&soon(), delete).await;
    acknowledged.unwrap();
    assert!(world.holds().await);
}

/// Who is told the same.
struct Nobody;

impl Observer for Nobody {
    fn publish(&self, _: StoreId, _: &View, _: &edge::Touched) {}

    fn drop_store(&self, _: StoreId) {}
}

/// That views tell of what they show before they do is for `meridian_sync::views` to show.
#[tokio::test]
async fn what_an_edge_is_about_to_show_is_known_once_it_was_told() {
    let mut world = World::new().await;
    let (store, head) = (world.store, world.head);
    let watching = Watching::new(Arc::new(Nobody), Arc::clone(&world.hub));
    let at = |later| Position::new(head.epoch.0, head.revision.0 + later);
    let set = |object: &str| set_hash(&object.parse().unwrap(), "can_watch");
    // Where the subscription's check was made.
    watching.publish(store, &View::new(head), &edge::Touched::All);
    assert!(!world.holds().await);
    let other = edge::Touched::Sets(vec![(at(1), vec![set("event:7")])]);
    watching.publish(store, &View::new(at(1)), &other);
    assert!(!world.holds().await);
    let own = edge::Touched::Sets(vec![(at(2), vec![set("event:42")])]);
    watching.publish(store, &View::new(at(2)), &own);
    assert_eq!(watching.told(store), Some(at(2)));
    assert!(world.holds().await);
}
