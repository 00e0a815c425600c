//! Somebody else says who may see what: a server of the test's own, asked with the user's token.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use meridian_e2e::{Kafka, Workdir};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::client::{Live, publish};
use super::flowing_at;
use crate::http::metric;
use crate::system::{Node, Role};
use crate::until::{heavy, until};

const SOON: Duration = Duration::from_secs(30);
const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// What it answers, by path, and what it was asked: path and token.
#[derive(Default)]
struct Says {
    status: HashMap<&'static str, u16>,
    asked: Vec<(String, String)>,
}

type Shared = Arc<Mutex<Says>>;

/// Each request on a connection of its own: none is left when the server goes away.
async fn answer(
    State(says): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
) -> (StatusCode, [(&'static str, &'static str); 1]) {
    let mut says = says.lock().unwrap();
    let token = headers["authorization"].to_str().unwrap().to_owned();
    says.asked.push((uri.path().to_owned(), token));
    let status = says.status.get(uri.path()).copied().unwrap_or(403);
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("connection", "close")])
}

/// Answers at an address until it is aborted.
async fn serve(address: SocketAddr, says: &Shared) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(Arc::clone(says));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, serving)
}

#[tokio::test]
async fn an_outside_authority_decides_and_takes_back_and_while_it_is_away_nothing_new_begins() {
    let _leave = heavy().await;
    let says = Shared::default();
    says.lock().unwrap().status = HashMap::from([
        ("/may/event/42", 200),
        ("/may/event/a%2Fb", 204),
        ("/may/event/44", 500),
        ("/may/event/45", 404),
    ]);
    let (address, serving) = serve(([127, 0, 0, 1], 0).into(), &says).await;
    let (kafka, dir) = (Kafka::start().await.unwrap(), Workdir::new("said").unwrap());
    let settings = format!(
        "datastore: {{url: \"memory:\"}}
live: {{enabled: true, store: {STORE}, grace: 2s, reviewInterval: 1s, authorityUrl: \"http://{address}/may/{{type}}/{{id}}\"}}"
    );
    let mut node = Node::new(Role::Central, &dir, &kafka.bootstrap(), &settings);
    node.start().await;
    let mut anne = Live::connect(node.http, STORE, "anne").await;
    until("the topic to be read", SOON, async || {
        match anne.ask("event:42").await {
            told if told["type"] == "subscribed" => Ok(()),
            told => Err(told.to_string()),
        }
    })
    .await;
    let asked = says.lock().unwrap().asked.first().cloned().unwrap();
    assert_eq!(asked, ("/may/event/42".into(), "Bearer anne".into()));
    anne.subscribe("event:a/b").await;
    for (object, code) in [("event:43", 403), ("event:44", 503), ("event:45", 403)] {
        let refused = anne.ask(object).await;
        assert_eq!(refused["code"], code, "{refused}");
    }
    flowing_at(node.http, STORE, std::slice::from_mut(&mut anne)).await;

    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    assert_eq!(anne.ask("event:46").await["code"], 503);
    let reviews = async || {
        let name = "meridian_live_authority_calls_total";
        metric(node.metrics, name, "why=\"periodic\"").await
    };
    let before = reviews().await;
    until("a review that comes to nothing", SOON, async || {
        let begun = reviews().await - before;
        (begun > 1).then_some(()).ok_or(begun.to_string())
    })
    .await;
    let log = node.log();
    let told = log.matches("cannot be asked who may see an object").count();
    assert_eq!(
        told, 2,
        "once for its answer of 500, once when it was away: {log}"
    );
    let sent = publish(node.http, STORE, "event:42", &json!("goes on")).await;
    assert_eq!(sent, 200);
    assert_eq!(anne.record().await["data"], "goes on");

    says.lock().unwrap().status.insert("/may/event/42", 403);
    let (_, _serving) = serve(address, &says).await;
    let told = anne.hear().await;
    assert_eq!(
        (&told["type"], &told["object"], &told["reason"]),
        (
            &json!("unsubscribed"),
            &json!("event:42"),
            &json!("revoked")
        )
    );
    for object in ["event:42", "event:a/b"] {
        assert_eq!(publish(node.http, STORE, object, &json!(object)).await, 200);
    }
    assert_eq!(anne.record().await["data"], "event:a/b", "and no other");
    let log = node.log();
    assert!(log.contains("says again who may see an object"), "{log}");

    // It takes the token no longer: that is not for good.
    says.lock().unwrap().status.insert("/may/event/a%2Fb", 401);
    let told = anne.hear().await;
    let object = json!("event:a/b");
    assert_eq!(
        (&told["type"], &told["object"], &told["reason"]),
        (&json!("unsubscribed"), &object, &json!("expired"))
    );
    assert_eq!(anne.ask("event:a/b").await["code"], 401);
}
