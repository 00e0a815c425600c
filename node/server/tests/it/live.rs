//! Whose token is good at `/live` of a real node: by the keys of the users' own issuer, and by asking.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode};
use meridian_server::config::{self, Config};
use meridian_server::roles::{self, Node};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::authn::issuer::{Issuer, Key, hmac, now, unsigned};
use crate::harness::NOBODY;

async fn node(live: config::Live) -> Node {
    let any = ([127, 0, 0, 1], 0).into();
    let config = Config {
        listen: config::Listen {
            grpc: any,
            http: any,
            nodes: any,
            metrics: None,
        },
        datastore: config::Datastore {
            url: "memory:".into(),
            ..Default::default()
        },
        kafka: config::Kafka {
            bootstrap: "127.0.0.1:9".into(),
            ..Default::default()
        },
        live: config::Live {
            enabled: true,
            store: Some(NOBODY.into()),
            ..live
        },
        ..Config::default()
    };
    let node = roles::central(&config).await.unwrap();
    node.ready().await;
    node
}

/// What a client with this token is told first, and how it is closed if it is.
async fn told(node: &Node, token: &str) -> (Value, Option<u16>) {
    let mut request = format!("ws://{}/live", node.http)
        .into_client_request()
        .unwrap();
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/users/me", listener.local_addr().unwrap());
    tokio::spawn(async move {
        axum::serve(listener, Router::new().route("/users/me", me))
            .await
            .unwrap();
    });
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
