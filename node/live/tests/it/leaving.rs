//! Leaving while a subscription is still on its way leaves nothing behind, and nothing is delivered of it.

use std::time::Duration;

use futures::SinkExt as _;
use meridian_live_channel::Settings;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Client, Endpoint, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_unsubscribes_while_it_opens_leaves_nothing_behind() {
    let mut settings = Settings::default();
    settings.limits.messages_per_second = 1_000_000;
    let endpoint = Endpoint::with(settings).await;
    let one = async || {
        let mut anne = endpoint.client("anne for event:*").await;
        for number in 0..1000 {
            let id = number.to_string();
            anne.say(json!({"type": "subscribe", "id": id, "object": "event:1"}))
                .await;
            anne.say(json!({"type": "unsubscribe", "id": id})).await;
        }
        let told = anne.drain().await;
        let ended = told.iter().filter(|told| told["reason"] == "asked");
        assert_eq!(ended.count(), 1000);
        anne
    };
    let mut clients = tokio::join!(one(), one(), one(), one());
    let empty = async {
        while !endpoint.hub.stores().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let emptied = tokio::time::timeout(PATIENCE, empty).await;
    assert!(emptied.is_ok(), "subscriptions are left that nobody has");
    endpoint.publish("event:1", &[], json!(1));
    assert!(clients.0.drain().await.is_empty());
}

/// What ends a client, here a topic made anew, comes while it subscribes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_subscribes_while_everything_ends_leaves_nothing_behind() {
    let mut settings = Settings::default();
    settings.limits.messages_per_second = 1_000_000;
    let endpoint = Endpoint::with(settings).await;
    for round in 0..100 {
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut anne = endpoint.client("anne for event:*").await;
            anne.sees("event:0").await;
            clients.push(anne);
        }
        let ending = async {
            tokio::task::yield_now().await;
            endpoint.hub.reading("cluster", &round.to_string(), &[0]);
        };
        let subscribing = clients.iter_mut().map(async |anne: &mut Client| {
            for number in 1..30 {
                let object = format!("event:{number}");
                let message = json!({"type": "subscribe", "id": object, "object": object});
                // It may be closed by now.
                if anne
                    .socket
                    .send(Message::text(message.to_string()))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        tokio::join!(ending, futures::future::join_all(subscribing));
        for anne in &mut clients {
            assert!([4508, 1006].contains(&anne.closed().await));
        }
    }
    let empty = async {
        while !endpoint.hub.stores().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let emptied = tokio::time::timeout(PATIENCE, empty).await;
    assert!(emptied.is_ok(), "subscriptions are left that nobody has");
}

#[tokio::test]
async fn a_newer_token_ends_what_the_older_allowed_and_is_still_on_its_way() {
    let endpoint = Endpoint::unread(Settings::default()).await;
    let mut anne = endpoint.client("anne for event:1,event:2").await;
    for object in ["event:1", "event:2"] {
        anne.say(json!({"type": "subscribe", "id": object, "object": object}))
            .await;
    }
    assert!(anne.drain().await.is_empty(), "they wait for the topic");
    anne.say(json!({"type": "auth", "token": "anne for event:2"}))
        .await;
    let told = anne.drain().await;
    let ended = json!({
        "type": "unsubscribed", "id": "event:1", "object": "event:1", "reason": "expired",
    });
    assert!(told.contains(&ended), "{told:?}");
    endpoint.read();
    assert_eq!(anne.hear().await["id"], "event:2");
    for object in ["event:1", "event:2"] {
        endpoint.publish(object, &[], json!(object));
    }
    let told = tokio::time::timeout(Duration::from_secs(10), anne.data()).await;
    assert_eq!(told.unwrap(), json!("event:2"));
    assert!(anne.drain().await.is_empty());
}

#[tokio::test]
async fn what_is_on_its_way_is_asked_about_with_the_newer_token() {
    let mut settings = Settings {
        shows_token: true,
        ..Settings::default()
    };
    settings.times.review = Duration::from_secs(1);
    let endpoint = Endpoint::with(settings).await;
    endpoint.says.allow("user:anne", "can_watch", "event:1");
    let mut anne = endpoint.client("anne").await;
    endpoint.says.holds.send_replace(true);
    anne.say(json!({"type": "subscribe", "id": "a", "object": "event:1"}))
        .await;
    let shown = || endpoint.says.shown.lock().unwrap().clone();
    while shown().is_empty() {
        tokio::task::yield_now().await;
    }
    let newer = "anne until 1000";
    anne.say(json!({"type": "auth", "token": newer})).await;
    assert_eq!(anne.hear().await["type"], "welcome");
    endpoint.says.holds.send_replace(false);
    assert_eq!(anne.hear().await["type"], "subscribed");
    while shown().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(shown(), [Some("anne".into()), Some(newer.into())]);
}
