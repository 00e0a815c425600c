//! Who has a place: those who may watch, whatever others do.

use std::time::Duration;

use http::StatusCode;
use meridian_server::config::authn::{Method as Way, Secrets};
use serde_json::json;

use super::harness::{central, config, connect, store};

#[tokio::test]
async fn who_shows_nothing_takes_no_place_from_those_who_may_watch() {
    let mut config = config("memory:");
    config.authn.method = Way::Preshared;
    config.authn.preshared.keys = Secrets::new(["key".to_owned()]);
    config.watch.connections = 2;
    // They stay.
    config.watch.hello_timeout = Duration::from_secs(600);
    config.http.trusted_proxies = vec!["127.0.0.1".into()];
    let node = central(&config).await;
    let query = format!("store_id={}", store(&node).await);
    let crowd = [("x-forwarded-for", "198.51.100.7")];
    let mut silent = Vec::new();
    let (status, body) = loop {
        match connect(&node, &query, &crowd).await {
            Ok(watcher) => silent.push(watcher),
            Err(refused) => break refused,
        }
    };
    assert_eq!((silent.len(), status), (10, StatusCode::TOO_MANY_REQUESTS));
    let told = body["message"].as_str().unwrap();
    assert!(told.contains("from this address"), "{body}");
    let bad = [crowd[0], ("authorization", "Bearer no")];
    let refused = connect(&node, &query, &bad).await.err().unwrap();
    assert_eq!(refused.0, StatusCode::TOO_MANY_REQUESTS);

    // One of the same address, whose token comes with the request; and one of another, who shows it then.
    let good = [crowd[0], ("authorization", "Bearer key")];
    let auth = json!({"type": "auth", "token": "key"}).to_string();
    let mut first = connect(&node, &query, &good).await.unwrap();
    assert_eq!(first.hear().await["type"], "welcome");
    let mut second = connect(&node, &query, &[]).await.unwrap();
    second.say(&auth).await;
    assert_eq!(second.hear().await["type"], "welcome");

    // Both seats are taken.
    let (status, body) = connect(&node, &query, &good).await.err().unwrap();
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    let told = body["message"].as_str().unwrap();
    assert!(told.contains("watch.connections"), "{body}");
    let mut third = silent.pop().unwrap();
    third.say(&auth).await;
    let told = third.hear().await;
    assert_eq!(told["code"], 429, "{told}");
    assert_eq!(third.next().await, Err(4429));

    // Who goes leaves its seat to another.
    drop(first);
    let mut next = loop {
        if let Ok(next) = connect(&node, &query, &good).await {
            break next;
        }
    };
    assert_eq!(next.hear().await["type"], "welcome");
    node.stop().await;
}
