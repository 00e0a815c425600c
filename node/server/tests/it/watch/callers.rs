//! Who may watch, and what is refused.

use std::time::Duration;

use http::StatusCode;
use meridian_server::config::authn::{Method as Way, Secrets};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::harness::{
    PATIENCE, Watcher, central, config, connect, connect_with_little_room, key, store, watch, write,
};
use crate::authn::issuer::{Issuer, Key, now};
use crate::harness::NOBODY;

#[tokio::test]
async fn who_may_call_may_watch_and_nobody_else() {
    let mut config = config("memory:");
    config.authn.method = Way::Preshared;
    config.authn.preshared.keys = Secrets::new(["key".to_owned()]);
    config.nodes.tokens = Secrets::new(["token".to_owned()]);
    config.watch.hello_timeout = Duration::from_millis(300);
    let node = central(&config).await;
    let store = store(&node).await;
    let query = format!("store_id={store}");
    let told = async |headers: &[(&'static str, &str)], said: Option<&str>| {
        let mut watcher = connect(&node, &query, headers).await.unwrap();
        if let Some(said) = said {
            watcher.say(said).await;
        }
        let first = watcher.next().await;
        match first {
            Ok(told) if told["type"] == "welcome" => (json!("welcome"), 0),
            Ok(told) => (told["code"].clone(), watcher.next().await.unwrap_err()),
            Err(code) => (Value::Null, code),
        }
    };
    let welcome = (json!("welcome"), 0);
    let offered = "sec-websocket-protocol";
    let auth = |token: &str| json!({"type": "auth", "token": token}).to_string();
    assert_eq!(
        told(&[("authorization", "Bearer key")], None).await,
        welcome
    );
    assert_eq!(
        told(&[(offered, "meridian.watch.v1, bearer.key")], None).await,
        welcome
    );
    assert_eq!(told(&[], Some(&auth("key"))).await, welcome);
    let refused = (json!(401), 4401);
    assert_eq!(told(&[("authorization", "Bearer no")], None).await, refused);
    assert_eq!(
        told(&[(offered, "meridian.watch.v1, bearer.no")], None).await,
        refused
    );
    assert_eq!(told(&[], Some(&auth("no"))).await, refused);
    assert_eq!(
        told(&[], Some(r#"{"type":"ping"}"#)).await,
        (Value::Null, 4401)
    );
    assert_eq!(told(&[], Some("nonsense")).await, (Value::Null, 4400));
    assert_eq!(told(&[], None).await, (Value::Null, 4408), "in time");
    // Who is not known does not learn which stores there are.
    let (query, bad) = (
        format!("store_id={NOBODY}"),
        [("authorization", "Bearer no")],
    );
    let mut nobody = connect(&node, &query, &bad).await.unwrap();
    assert_eq!(nobody.hear().await["code"], 401);
    node.stop().await;
}

#[tokio::test]
async fn a_watch_ends_with_its_token_unless_a_newer_one_comes() {
    let key_of = Key::rsa("a");
    let issuer = Issuer::start(&[&key_of]).await;
    let mut config = config("memory:");
    config.authn.method = Way::Oidc;
    config.authn.oidc.issuer.clone_from(&issuer.url);
    config.authn.oidc.audience = "meridian".into();
    config.nodes.tokens = Secrets::new(["key".to_owned()]);
    let node = central(&config).await;
    let store = store(&node).await;
    let token = |subject: &str, seconds: u64| {
        let mut claims = issuer.claims();
        claims["sub"] = json!(subject);
        claims["exp"] = json!(now() + seconds);
        key_of.token(&claims)
    };
    let watcher = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let mut watcher = connect(&node, &format!("store_id={store}"), &headers)
            .await
            .unwrap();
        let welcome = watcher.hear().await;
        assert!(welcome["expires_at"].is_string(), "{welcome}");
        watcher
    };
    let renew = async |watcher: &mut Watcher, token: String| {
        watcher
            .say(&json!({"type": "auth", "token": token}).to_string())
            .await;
        watcher.next().await
    };
    let mut short = watcher(&token("anne", 2)).await;
    let mut renewed = watcher(&token("anne", 2)).await;
    assert_eq!(
        renew(&mut renewed, token("anne", 600)).await.unwrap()["type"],
        "welcome"
    );
    assert_eq!(short.rest().await, (Vec::new(), 4401));
    write(&node, &store, &[key("user:anne", "document:1")], &[]).await;
    assert_eq!(renewed.revision().await, 3, "it goes on");
    assert_eq!(
        renew(&mut renewed, token("beth", 600)).await.unwrap()["code"],
        403
    );
    assert_eq!(renewed.next().await, Err(4403));
    let mut other = watcher(&token("anne", 600)).await;
    assert_eq!(
        renew(&mut other, "nonsense".into()).await.unwrap()["code"],
        401
    );
    assert_eq!(other.next().await, Err(4401));
    node.stop().await;
}

#[tokio::test]
async fn who_shows_a_token_that_nobody_vouches_for_in_time_is_to_come_again() {
    let (key_of, newer) = (Key::rsa("a"), Key::rsa("b"));
    let issuer = Issuer::start(&[&key_of]).await;
    let mut config = config("memory:");
    config.authn.method = Way::Oidc;
    config.authn.oidc.issuer.clone_from(&issuer.url);
    config.authn.oidc.audience = "meridian".into();
    config.watch.hello_timeout = Duration::from_millis(500);
    let node = central(&config).await;
    issuer.holds.send_replace(true);
    let token = newer.token(&issuer.claims());
    let auth = json!({"type": "auth", "token": token}).to_string();
    let bearer = format!("Bearer {token}");
    let query = format!("store_id={NOBODY}");
    for header in [Some(("authorization", bearer.as_str())), None] {
        let mut watcher = connect(&node, &query, header.as_slice()).await.unwrap();
        if header.is_none() {
            watcher.say(&auth).await;
        }
        let told = watcher.hear().await;
        assert_eq!(told["code"], 503, "{told}");
        assert_eq!(watcher.next().await, Err(4503));
    }
    issuer.holds.send_replace(false);
    node.stop().await;
}

#[tokio::test]
async fn a_watch_that_waits_for_its_socket_ends_with_its_token_too() {
    let key_of = Key::rsa("a");
    let issuer = Issuer::start(&[&key_of]).await;
    let mut config = config("memory:");
    config.authn.method = Way::Oidc;
    config.authn.oidc.issuer.clone_from(&issuer.url);
    config.authn.oidc.audience = "meridian".into();
    config.nodes.tokens = Secrets::new(["key".to_owned()]);
    // Nothing else ends it in time.
    config.watch.queue_bytes = 256 * 1024 * 1024;
    config.watch.idle_timeout = Duration::from_secs(600);
    config.watch.connections = 1;
    let node = central(&config).await;
    let store = store(&node).await;
    let query = format!("store_id={store}");
    let mut claims = issuer.claims();
    claims["exp"] = json!(now() + 6);
    let mut stuck = connect_with_little_room(&node, &query).await;
    let auth = json!({"type": "auth", "token": key_of.token(&claims)});
    stuck.say(&auth.to_string()).await;
    assert_eq!(stuck.hear().await["type"], "welcome");
    // More than the system's own buffers take, and it reads nothing.
    let text = "x".repeat(200);
    for number in 0..250 {
        let keys = (0..100).map(|object| {
            let mut key = key("user:*", &format!("document:{text}-{number}-{object}"));
            key["condition"] = json!({"name": "office", "context": {"hour": 9}});
            key
        });
        write(&node, &store, &keys.collect::<Vec<_>>(), &[]).await;
    }
    // Its place is free once it has ended.
    let ended = async {
        let key = [("authorization", "Bearer key")];
        while let Err((status, body)) = connect(&node, &query, &key).await {
            assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{body}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn bad_input_is_named_and_harms_nobody_else() {
    let mut config = config("memory:");
    config.watch.connections = 3;
    config.http.cors_allowed_origins = vec!["https://*.example.com".into()];
    let node = central(&config).await;
    let store = store(&node).await;
    let query = format!("store_id={store}");
    let (mut good, _) = watch(&node, &query).await;
    for (query, told) in [
        (String::new(), "name a store"),
        (format!("{query}&after=1"), "after is '1'"),
        (format!("{query}&decisions=1"), "decisions is '1'"),
        (format!("{query}&type=a:b"), "type is 'a:b'"),
        (format!("{query}&user=anne"), "user is 'anne'"),
        (
            format!("{query}&object=document:1"),
            "'object' is no parameter",
        ),
    ] {
        let (status, body) = connect(&node, &query, &[]).await.err().unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(body["code"], "validation_error");
        assert!(body["message"].as_str().unwrap().contains(told), "{body}");
    }
    let foreign = connect(&node, &query, &[("origin", "https://evil.example")]).await;
    assert_eq!(foreign.err().unwrap().0, StatusCode::FORBIDDEN);
    let mut unknown = connect(&node, &format!("store_id={NOBODY}"), &[])
        .await
        .unwrap();
    assert_eq!(unknown.hear().await["code"], 404);
    assert_eq!(unknown.next().await, Err(4404));
    drop(unknown);

    let page = [("origin", "https://app.example.com")];
    let mut babbler = connect(&node, &query, &page).await.unwrap();
    babbler.hear().await;
    for _ in 0..10 {
        babbler.say(r#"{"type":"subscribe"}"#).await;
        let told = babbler.hear().await;
        assert_eq!(
            (&told["type"], &told["code"]),
            (&json!("error"), &json!(400))
        );
    }
    assert_eq!(babbler.next().await, Err(4400));
    drop(babbler);
    let (mut wordy, _) = watch(&node, &query).await;
    let long = json!({"type": "x".repeat(60_000)});
    wordy.say(&long.to_string()).await;
    let told = wordy.hear().await;
    assert_eq!(told["code"], 400);
    assert!(told["message"].as_str().unwrap().len() < 300, "{told}");
    drop(wordy);
    let (mut flood, _) = watch(&node, &query).await;
    for _ in 0..200 {
        flood.say(r#"{"type":"ping"}"#).await;
    }
    let (told, code) = flood.rest().await;
    assert_eq!(code, 4429);
    assert_eq!(told.first().unwrap()["type"], "pong");
    assert_eq!(told.last().unwrap()["code"], 429);
    drop(flood);
    let (mut ponging, _) = watch(&node, &query).await;
    for _ in 0..200 {
        ponging.send(Message::Pong(Default::default())).await;
    }
    let (told, code) = ponging.rest().await;
    assert_eq!((told.len(), code), (1, 4429), "pongs are messages too");
    drop(ponging);
    let (mut large, _) = watch(&node, &query).await;
    large.say(&"x".repeat(100_000)).await;
    assert_eq!(large.next().await, Err(1009));
    drop(large);

    // There is room for three, once those are gone.
    let mut others = Vec::new();
    let (status, body) = loop {
        match connect(&node, &query, &[]).await {
            Ok(watcher) => others.push(watcher),
            Err(refused) => break refused,
        }
    };
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("watch.connections"),
        "{body}"
    );
    assert!(others.len() <= 2);
    write(&node, &store, &[key("user:anne", "document:1")], &[]).await;
    assert_eq!(good.revision().await, 3, "nobody else has noticed");
    node.stop().await;
}

#[tokio::test]
async fn who_gives_no_sign_of_life_is_closed() {
    let mut config = config("memory:");
    config.watch.ping_interval = Duration::from_millis(50);
    config.watch.idle_timeout = Duration::from_millis(200);
    let node = central(&config).await;
    let store = store(&node).await;
    // A client that reads answers pings by itself, and stays.
    let (mut alive, _) = watch(&node, &format!("store_id={store}")).await;
    let (dead, _) = watch(&node, &format!("store_id={store}")).await;
    let silent = async {
        // It reads nothing for longer than it may be silent.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut dead = dead;
        dead.rest().await
    };
    let stays = async {
        let told = tokio::time::timeout(Duration::from_secs(1), alive.next()).await;
        assert!(told.is_err(), "{told:?}");
    };
    let ((_, code), ()) = tokio::join!(silent, stays);
    assert_eq!(code, 4408);
    node.stop().await;
}
