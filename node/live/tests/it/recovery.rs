use std::sync::atomic::Ordering;
use std::time::Duration;

use meridian_live_channel::Settings;
use serde_json::{Value, json};

use crate::harness::{Client, Endpoint};

async fn back(endpoint: &Endpoint, position: &str, object: &str) -> (Client, Value) {
    let mut client = endpoint.client("anne for event:*,organization:1").await;
    client
        .say(json!({
            "type": "subscribe", "id": "a", "object": object, "position": position, "last": true,
        }))
        .await;
    let told = client.hear().await;
    assert_eq!(told["type"], "subscribed", "{told}");
    (client, told)
}

async fn numbers(client: &mut Client) -> Vec<i64> {
    let told = client.drain().await;
    told.iter()
        .map(|told| told["data"].as_i64().unwrap())
        .collect()
}

#[tokio::test]
async fn whoever_comes_back_gets_all_that_was_missed_or_the_word_that_it_is_not_all() {
    let mut settings = Settings::default();
    settings.limits.history_records = 3;
    let endpoint = Endpoint::with(settings).await;
    let mut anne = endpoint.client("anne for event:*,organization:1").await;
    let start = anne.sees("event:1").await;
    endpoint.publish("event:1", &["organization:1"], json!(0));
    let position = anne.hear().await["position"].as_str().unwrap().to_owned();
    drop(anne);
    for number in 1..=3 {
        endpoint.publish("event:1", &[], json!(number));
        endpoint.publish("event:2", &["organization:1"], json!(number * 10));
    }
    let (mut client, told) = back(&endpoint, &position, "event:1").await;
    assert_eq!(told["recovered"], true);
    assert_eq!(numbers(&mut client).await, [1, 2, 3]);
    endpoint.publish("event:1", &[], json!(4));
    assert_eq!(numbers(&mut client).await, [4]);
    // A position goes for all that a client may see: it says how far everything was read.
    let (mut client, told) = back(&endpoint, &position, "organization:1").await;
    assert_eq!(told["recovered"], true);
    assert_eq!(numbers(&mut client).await, [10, 20, 30]);
    let (mut client, told) = back(&endpoint, told["position"].as_str().unwrap(), "event:1").await;
    assert_eq!(
        (&told["recovered"], numbers(&mut client).await),
        (&json!(true), vec![])
    );

    // Four since, of which three are kept: the last is told, as for anybody new.
    let (mut client, told) = back(&endpoint, &start, "event:1").await;
    assert_eq!(
        (&told["recovered"], numbers(&mut client).await),
        (&json!(false), vec![4])
    );
    for other in ["", "x", "AQ", "AAAAAAAAAAAAAAAA"] {
        let (_, told) = back(&endpoint, other, "event:1").await;
        assert_eq!(told["recovered"], false, "{other}");
    }
    // A topic that was made anew, whatever its offsets.
    let (mut waits, _) = back(&endpoint, "", "event:9").await;
    endpoint.hub.reading("cluster", "another", &[100]);
    assert_eq!(
        waits.next().await.unwrap(),
        json!({"type": "lagged", "lost": 0})
    );
    assert_eq!(waits.closed().await, 4508);
    let (mut client, told) = back(&endpoint, &position, "event:1").await;
    assert_eq!(
        (&told["recovered"], numbers(&mut client).await),
        (&json!(false), vec![])
    );
}

#[tokio::test]
async fn the_last_record_is_told_to_who_asks_for_it() {
    let endpoint = Endpoint::start().await;
    for number in 0..5 {
        endpoint.publish("event:1", &[], json!(number));
    }
    let mut anne = endpoint.client("anne for event:1").await;
    anne.say(json!({"type": "subscribe", "id": "a", "object": "event:1", "last": true}))
        .await;
    assert_eq!(anne.hear().await["type"], "subscribed");
    assert_eq!(anne.data().await, json!(4));
    assert!(anne.drain().await.is_empty());
}

#[tokio::test]
async fn nobody_is_subscribed_before_the_topic_is_read() {
    let mut settings = Settings::default();
    settings.times.grace = Duration::from_millis(50);
    let endpoint = Endpoint::unread(settings).await;
    endpoint.says.allow("user:anne", "can_watch", "event:1");
    let mut anne = endpoint.client("anne").await;
    let told = anne.subscribe("a", "event:1").await;
    assert_eq!(
        (&told["type"], &told["code"]),
        (&json!("error"), &json!(503))
    );
    assert_eq!(endpoint.says.asked.load(Ordering::SeqCst), 0);
    endpoint.read();
    anne.sees("event:1").await;
    endpoint.publish("event:1", &[], json!(1));
    assert_eq!(anne.data().await, json!(1));
}
