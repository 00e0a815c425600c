//! Whose token is good at `/live` of a real node: by the keys of the users' own issuer, and by asking; and what is recorded of
//! who connects.

mod counted;
mod publishing;
mod told;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Method, StatusCode};
use meridian_flow::ports::{
    FlowFilter, FlowRepository as _, FlowStepRepository as _, SessionRepository as _,
};
use meridian_flow::sql::SqlFlows;
use meridian_flow::{FlowStatus, StepStatus};
use meridian_server::config::{self, Config};
use meridian_server::roles::{self, Node};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::authn::issuer::{Issuer, Key, hmac, now, unsigned};
use crate::harness::{NOBODY, alone, send};

async fn node(live: config::Live) -> Node {
    node_with(live, |_| ()).await
}

async fn node_with(live: config::Live, set: impl FnOnce(&mut Config)) -> Node {
    let mut config = Config {
        live: config::Live {
            enabled: true,
            store: Some(NOBODY.into()),
            ..live
        },
        ..alone()
    };
    set(&mut config);
    let node = roles::central(&config).await.unwrap();
    node.ready().await;
    node
}

/// What a client with this token is told first, and how it is closed if it is.
async fn told(node: &Node, token: &str) -> (Value, Option<u16>) {
    told_of(node, NOBODY, token).await
}

/// The same, of a store.
async fn told_of(node: &Node, store: &str, token: &str) -> (Value, Option<u16>) {
    let mut request = format!("ws://{}/live?store_id={store}", node.http)
        .into_client_request()
        .unwrap();
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let agent = "race/1.0".parse().unwrap();
    request.headers_mut().insert("user-agent", agent);
    let (mut socket, _) = connect_async(request).await.unwrap();
    let mut first = Value::Null;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => {
                first = serde_json::from_str(&text).unwrap();
                if first["type"] == "welcome" {
                    return (first, None);
                }
            }
            Message::Close(frame) => return (first, frame.map(|frame| frame.code.into())),
            _ => {}
        }
    }
    (first, None)
}

#[tokio::test]
async fn only_a_good_token_of_the_users_issuer_is_welcome() {
    let (key, other) = (Key::rsa("a"), Key::rsa("a"));
    let issuer = Issuer::start(&[&key]).await;
    let mut live = config::Live::default();
    live.oidc.issuer.clone_from(&issuer.url);
    live.oidc.audience = "meridian".into();
    let node = node(live).await;
    let mut good = issuer.claims();
    good["sub"] = json!("anne");
    // The issuer's keys may still be on their way.
    let (welcome, _) = loop {
        let told = told(&node, &key.token(&good)).await;
        if told.1 != Some(4503) {
            break told;
        }
    };
    assert_eq!(
        (&welcome["type"], &welcome["user"]),
        (&json!("welcome"), &json!("user:anne")),
        "{welcome}"
    );
    assert!(welcome["expires_at"].is_string());
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let none = json!({"alg": "none", "typ": "JWT", "kid": "a"});
    let shared = json!({"alg": "HS256", "typ": "JWT", "kid": "a"});
    for (what, token) in [
        ("expired", key.token(&with("exp", json!(now() - 10)))),
        ("for somebody else", key.token(&with("aud", json!("shop")))),
        (
            "of another issuer",
            key.token(&with("iss", json!("https://evil.example"))),
        ),
        ("not yet", key.token(&with("nbf", json!(now() + 1000)))),
        ("signed by another", other.token(&good)),
        ("not signed", format!("{}.", unsigned(&none, &good))),
        (
            "signed with what everybody knows",
            hmac(&shared, &good, b"a"),
        ),
        ("no user's id", key.token(&with("sub", json!("a b")))),
        ("of nobody", key.token(&with("sub", json!("")))),
        ("no token", "nonsense".to_owned()),
    ] {
        let (told, code) = told(&node, &token).await;
        assert_eq!(
            (&told["code"], code),
            (&json!(401), Some(4401)),
            "{what}: {told}"
        );
    }
    node.stop().await;
}

#[tokio::test]
async fn who_issued_a_token_can_be_asked_whose_it_is_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let me = get(async move |headers: HeaderMap| {
        counted.fetch_add(1, Ordering::SeqCst);
        match headers["authorization"].as_bytes() {
            b"Bearer good" => (StatusCode::OK, r#"{"data":{"id":"anne"}}"#),
            b"Bearer ill" => (StatusCode::INTERNAL_SERVER_ERROR, ""),
            _ => (StatusCode::UNAUTHORIZED, ""),
        }
    });
    let url = serves(Router::new().route("/users/me", me)).await;
    let live = config::Live {
        userinfo_url: Some(url),
        ..Default::default()
    };
    let node = node(live).await;
    for _ in 0..3 {
        assert_eq!(told(&node, "good").await.0["user"], "user:anne");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "its answer is kept");
    assert_eq!(told(&node, "bad").await.1, Some(4401));
    assert_eq!(told(&node, "ill").await.1, Some(4503));
    node.stop().await;
}

#[tokio::test]
async fn a_connection_is_recorded_as_a_flow_with_its_session_and_a_refusal_once() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!(
        "sqlite://{}?mode=rwc",
        folder.path().join("central.db").display()
    );
    let node = node_with(config::Live::default(), |config| {
        config.datastore.url.clone_from(&url);
        config.recorder.enabled = true;
    })
    .await;
    let headers = [("content-type", "application/json")];
    let named = Bytes::from_static(br#"{"name": "race"}"#);
    let made = send(node.http, Method::POST, "/stores", &headers, named).await;
    let name = made.body["id"].as_str().unwrap();
    // Nothing is recorded of a store that does not exist.
    told_of(&node, NOBODY, "anne").await;
    told_of(&node, NOBODY, "no user").await;
    let (welcome, _) = told_of(&node, name, "anne").await;
    let session = welcome["session"].as_str().unwrap();
    let (flows, deadline) = (
        SqlFlows::connect_lazy(&url).unwrap(),
        Instant::now() + Duration::from_secs(60),
    );
    let store = name.parse().unwrap();
    let all = async || {
        let filter = FlowFilter::default();
        let flows = flows.get_flows(store, &filter, None, 100, deadline).await;
        flows.unwrap().flows
    };
    // All of it is written aside.
    let of_flow = async |flow| {
        let session = flows.get_session_of_flow(store, flow, deadline).await;
        session.unwrap()
    };
    let kept = loop {
        let found = all().await;
        let good = found.iter().find(|flow| flow.status == FlowStatus::Success);
        let session = match good {
            Some(good) => of_flow(good.id).await,
            None => None,
        };
        if let Some(session) = session.filter(|session| session.ended_at.is_some()) {
            break session;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::task::yield_now().await;
    };
    // A refusal is forgotten once it is known that the store it names is none, and recorded the next time.
    while all().await.len() < 2 {
        assert_eq!(told_of(&node, name, "no user").await.1, Some(4401));
        assert!(Instant::now() < deadline);
    }
    for _ in 0..5 {
        assert_eq!(told_of(&node, name, "no user").await.1, Some(4401));
    }
    node.stop().await;
    assert_eq!(flows.next_store(None, deadline).await.unwrap(), Some(store));
    assert_eq!(flows.next_store(Some(store), deadline).await.unwrap(), None);
    let mut found = all().await;
    found.sort_by_key(|flow| flow.status.number());
    let [good, bad] = <[_; 2]>::try_from(found).unwrap();
    assert_eq!(
        (
            good.status,
            good.grant_type.as_deref(),
            good.user_id.as_deref(),
            good.user_agent.as_deref()
        ),
        (
            FlowStatus::Success,
            Some("live_none"),
            Some("user:anne"),
            Some("race/1.0")
        )
    );
    assert!(good.ip.unwrap().is_loopback());
    let [step] =
        <[_; 1]>::try_from(flows.get_steps_for_flow(good.id, deadline).await.unwrap()).unwrap();
    assert_eq!(
        (step.name.as_str(), step.status),
        ("authenticate", StepStatus::Success)
    );
    assert_eq!(
        (
            kept.id.as_str(),
            kept.user.as_str(),
            kept.flow,
            kept.close_code
        ),
        (session, "user:anne", Some(good.id), Some(1000))
    );
    assert!(kept.ended_at.unwrap() >= kept.connected_at);

    assert_eq!((bad.status, bad.user_id), (FlowStatus::Failure, None));
    let [step] =
        <[_; 1]>::try_from(flows.get_steps_for_flow(bad.id, deadline).await.unwrap()).unwrap();
    assert_eq!(
        (step.name.as_str(), step.status, step.error_code.as_deref()),
        ("authenticate", StepStatus::Failure, Some("4401"))
    );
    assert_eq!(of_flow(bad.id).await, None);
}

#[tokio::test]
async fn a_recorder_that_cannot_write_keeps_nobody_waiting() {
    let patience = Duration::from_secs(30);
    let node = node_with(config::Live::default(), |config| {
        config.recorder.enabled = true;
        config.recorder.url = Some("postgres://nobody@127.0.0.1:9/none".into());
        config.recorder.start_timeout = 2 * patience;
    })
    .await;
    let welcome = tokio::time::timeout(patience, told(&node, "anne"));
    assert_eq!(welcome.await.unwrap().0["type"], "welcome");
    node.stop().await;
}

/// Serves a page, and says where.
async fn serves(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/users/me", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test]
async fn a_token_ends_when_it_says_or_when_who_issued_it_says_no_more() {
    let is_bad = Arc::new(AtomicBool::new(false));
    let bad = Arc::clone(&is_bad);
    let me = get(async move || match bad.load(Ordering::SeqCst) {
        false => (StatusCode::OK, r#"{"sub":"anne"}"#),
        true => (StatusCode::UNAUTHORIZED, ""),
    });
    let live = config::Live {
        userinfo_url: Some(serves(Router::new().route("/users/me", me)).await),
        userinfo_max_age: Duration::from_millis(100),
        ..Default::default()
    };
    let node = node(live).await;
    let head = json!({"alg": "RS256", "typ": "JWT"});
    let jwt = |until: i64| format!("{}.signed", unsigned(&head, &json!({"exp": until})));
    let until = i64::try_from(now()).unwrap();
    let (welcome, _) = told(&node, &jwt(until + 100)).await;
    assert!(welcome["expires_at"].is_string(), "{welcome}");
    let (refused, code) = told(&node, &jwt(until - 100)).await;
    assert_eq!(
        (&refused["code"], code),
        (&json!(401), Some(4401)),
        "{refused}"
    );

    let mut request = format!("ws://{}/live", node.http)
        .into_client_request()
        .unwrap();
    let bearer = "Bearer opaque".parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = connect_async(request).await.unwrap();
    let welcome = socket.next().await.unwrap().unwrap();
    assert!(welcome.into_text().unwrap().contains("welcome"));
    is_bad.store(true, Ordering::SeqCst);
    let code = loop {
        if let Message::Close(frame) = socket.next().await.unwrap().unwrap() {
            break frame.map(|frame| u16::from(frame.code));
        }
    };
    assert_eq!(code, Some(4401));
    node.stop().await;
}
