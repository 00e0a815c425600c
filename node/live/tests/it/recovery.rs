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
    assert_eq!(
        told["position"], position,
        "what was missed follows: it stands where it stood"
    );
    let (missed, here) = client.ping().await;
    let missed: Vec<_> = missed.iter().map(|told| told["data"].clone()).collect();
    assert_eq!(missed, [10, 20, 30]);
    let (mut client, told) = back(&endpoint, &here.unwrap(), "event:1").await;
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

#[tokio::test]
async fn a_quiet_objects_client_goes_on_from_its_last_pong_in_a_busy_store() {
    let mut settings = Settings::default();
    settings.limits.history_bytes = 2_000;
    let endpoint = Endpoint::with(settings).await;
    let mut anne = endpoint.client("anne for event:*,organization:1").await;
    let first = anne.sees("event:1").await;
    let busy = || {
        for number in 0..100 {
            endpoint.publish("event:2", &[], json!(number));
        }
    };
    busy();
    let (told, position) = anne.ping().await;
    assert!(told.is_empty(), "{told:?}");
    let (_, told) = back(&endpoint, &position.unwrap(), "event:1").await;
    assert_eq!(told["recovered"], true);
    let (_, told) = back(&endpoint, &first, "event:1").await;
    assert_eq!(told["recovered"], false, "so much is not kept");
}

#[tokio::test]
async fn a_pong_says_nothing_of_where_a_client_stands_that_has_records_held_back() {
    let endpoint = Endpoint::start().await;
    endpoint.says.allow("user:anne", "can_watch", "event:1");
    let mut anne = endpoint.client("anne").await;
    anne.sees("event:1").await;
    endpoint.says.holds.send_replace(true);
    endpoint.touched(endpoint.says.step());
    let (_, before) = anne.ping().await;
    endpoint.publish("event:1", &[], json!(1));
    let (told, held) = anne.ping().await;
    assert_eq!((told, held), (vec![], None));
    let (mut other, told) = back(&endpoint, &before.unwrap(), "event:1").await;
    assert_eq!(
        (&told["recovered"], numbers(&mut other).await),
        (&json!(true), vec![1])
    );
    endpoint.says.holds.send_replace(false);
    assert_eq!(anne.data().await, json!(1));
    let (_, after) = anne.ping().await;
    let (mut other, told) = back(&endpoint, &after.unwrap(), "event:1").await;
    assert_eq!(
        (&told["recovered"], numbers(&mut other).await),
        (&json!(true), vec![])
    );
}

/// Coming from a node that is ahead, as both read the same topic.
#[tokio::test]
async fn a_node_that_has_read_less_waits_until_it_has_read_as_much() {
    let (ahead, behind) = (Endpoint::start().await, Endpoint::start().await);
    let mut anne = ahead.client("anne for event:*,organization:1").await;
    anne.sees("event:1").await;
    for number in 0..3 {
        ahead.publish("event:1", &[], json!(number));
    }
    assert_eq!(numbers(&mut anne).await, [0, 1, 2]);
    let (_, position) = anne.ping().await;
    behind.publish("event:1", &[], json!(0));
    let mut client = behind.client("anne for event:1").await;
    let message =
        json!({"type": "subscribe", "id": "a", "object": "event:1", "position": position});
    client.say(message).await;
    assert!(client.drain().await.is_empty(), "it waits");
    for number in 1..4 {
        behind.publish("event:1", &[], json!(number));
    }
    let told = client.hear().await;
    assert_eq!(
        (&told["type"], &told["recovered"]),
        (&json!("subscribed"), &json!(true))
    );
    assert_eq!(numbers(&mut client).await, [3]);
}

#[tokio::test]
async fn a_node_that_does_not_read_as_much_in_time_says_so() {
    let mut settings = Settings::default();
    settings.times.grace = Duration::from_millis(50);
    let (ahead, behind) = (Endpoint::start().await, Endpoint::with(settings).await);
    let mut anne = ahead.client("anne for event:*,organization:1").await;
    anne.sees("event:1").await;
    ahead.publish("event:1", &[], json!(0));
    let position = anne.hear().await["position"].as_str().unwrap().to_owned();
    let (mut client, told) = back(&behind, &position, "event:1").await;
    assert_eq!(told["recovered"], false);
    behind.publish("event:1", &[], json!(0));
    assert_eq!(numbers(&mut client).await, [0], "it goes on from there");
}

/// It is dropped where the subscription ends before it was sent; the client knows by then that it was open.
#[tokio::test]
async fn a_last_record_that_did_not_come_comes_the_next_time() {
    let endpoint = Endpoint::start().await;
    for number in 0..3 {
        endpoint.publish("event:1", &[], json!(number));
        endpoint.publish("event:2", &[], json!(number * 10));
    }
    let mut anne = endpoint.client("anne for event:*").await;
    let message = json!({"type": "subscribe", "id": "a", "object": "event:1", "last": true});
    anne.say(message).await;
    let told = anne.hear().await;
    let before = told["position"].as_str().unwrap();
    let last = anne.hear().await;
    let after = last["position"].as_str().unwrap();
    assert_eq!(last["data"], 2);
    let (mut client, told) = back(&endpoint, before, "event:1").await;
    assert_eq!(
        (&told["recovered"], numbers(&mut client).await),
        (&json!(true), vec![2])
    );
    let (mut client, told) = back(&endpoint, after, "event:1").await;
    assert_eq!(
        (&told["recovered"], numbers(&mut client).await),
        (&json!(true), vec![])
    );
    endpoint.publish("event:1", &[], json!(3));
    assert_eq!(numbers(&mut client).await, [3]);
}
