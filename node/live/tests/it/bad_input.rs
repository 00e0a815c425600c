use std::time::Duration;

use futures::SinkExt as _;
use meridian_live_channel::Settings;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::harness::{Endpoint, STORE};

#[tokio::test]
async fn what_makes_no_sense_is_told_and_then_ended() {
    let endpoint = Endpoint::start().await;
    let mut other = endpoint.client("other for event:1").await;
    other.sees("event:1").await;
    let mut anne = endpoint.client("anne for event:1").await;
    for (message, code) in [
        (
            json!({"type": "subscribe", "id": "", "object": "event:1"}),
            400,
        ),
        (
            json!({"type": "subscribe", "id": "x".repeat(200), "object": "event:1"}),
            400,
        ),
        (
            json!({"type": "subscribe", "id": "a", "object": "event"}),
            400,
        ),
        (
            json!({"type": "subscribe", "id": "a", "object": "event:a b"}),
            400,
        ),
        (
            json!({"type": "subscribe", "id": "a", "object": "event:1#viewer"}),
            400,
        ),
        (json!({"type": "subscribe", "id": "a", "object": ":*"}), 400),
        (
            json!({"type": "subscribe", "id": "a", "object": format!("event:{}", "x".repeat(300))}),
            400,
        ),
        (
            json!({"type": "subscribe", "id": "a", "object": "event:1", "filter": {"a": {"b": 1}}}),
            400,
        ),
        (
            json!({"type": "subscribe", "id": "a", "object": "event:1", "filter": {"a": vec![1; 65]}}),
            400,
        ),
        (json!({"type": "unsubscribe", "id": "a"}), 404),
    ] {
        anne.say(message.clone()).await;
        assert_eq!(anne.hear().await["code"], code, "{message}");
    }
    anne.sees("event:1").await;
    assert_eq!(anne.subscribe("event:1", "event:2").await["code"], 409);
    assert_eq!(anne.subscribe("b", "event:1").await["code"], 409);
    for number in 0..10 {
        let text = ["{", "[]", r#"{"type":"publish"}"#, "", r#"{"type":7}"#][number % 5];
        anne.say_text(text).await;
        assert_eq!(anne.hear().await["code"], 400, "{text}");
    }
    assert_eq!(anne.closed().await, 4400);
    endpoint.publish("event:1", &[], json!(1));
    assert_eq!(other.data().await, json!(1), "others go on");
}

#[tokio::test]
async fn who_shows_no_good_token_is_closed() {
    let endpoint = Endpoint::start().await;
    for (first, code) in [
        (r#"{"type":"auth","token":"bad"}"#, 4401),
        (r#"{"type":"auth","token":"later"}"#, 4503),
        (r#"{"type":"subscribe","id":"a","object":"event:1"}"#, 4401),
        ("nonsense", 4400),
    ] {
        let mut client = endpoint.stranger().await;
        client.say_text(first).await;
        assert_eq!(client.closed().await, code, "{first}");
    }
    let mut client = endpoint.stranger().await;
    client
        .socket
        .send(Message::binary(vec![0, 159, 1]))
        .await
        .unwrap();
    assert_eq!(client.closed().await, 4400);
}

/// The client is in time; who issued its token is not.
#[tokio::test]
async fn who_shows_a_token_that_nobody_vouches_for_in_time_is_to_come_again() {
    let mut settings = Settings::default();
    settings.times.hello = Duration::from_millis(200);
    let endpoint = Endpoint::with(settings).await;
    endpoint.tokens.holds.send_replace(true);
    let mut first = endpoint.stranger().await;
    first.say(json!({"type": "auth", "token": "anne"})).await;
    assert_eq!(first.closed().await, 4503);
    let mut by_header = endpoint.request(&format!("?store_id={STORE}"));
    let bearer = HeaderValue::from_static("Bearer anne");
    by_header.headers_mut().insert("authorization", bearer);
    let mut by_header = endpoint.connect(by_header).await.unwrap();
    assert_eq!(by_header.closed().await, 4503);
    endpoint.tokens.holds.send_replace(false);
    endpoint.client("anne").await;
}

#[tokio::test]
async fn floods_and_large_messages_end() {
    let mut settings = Settings::default();
    settings.limits.messages_per_second = 20;
    settings.limits.subscriptions = 3;
    let endpoint = Endpoint::with(settings).await;
    let mut anne = endpoint.client("anne for event:*").await;
    for object in ["event:1", "event:2", "event:3"] {
        anne.sees(object).await;
    }
    let refused = anne.subscribe("x", "event:4").await;
    assert_eq!(refused["code"], 429, "{refused}");
    for _ in 0..100 {
        // The node may have closed by then.
        if anne
            .socket
            .send(Message::text(r#"{"type":"ping"}"#))
            .await
            .is_err()
        {
            break;
        }
    }
    assert_eq!(anne.closed().await, 4429);
    let mut bob = endpoint.client("bob").await;
    bob.say_text(&"x".repeat(70_000)).await;
    assert_eq!(bob.closed().await, 1009);
    endpoint.client("eve").await;
}

/// Whatever one client sends, another's records come as ever.
#[tokio::test]
async fn a_client_that_sends_nonsense_and_floods_is_nobody_elses_trouble() {
    let mut settings = Settings::default();
    settings.limits.messages_per_second = 10_000;
    settings.limits.subscriptions = 100;
    let endpoint = Endpoint::with(settings).await;
    let mut other = endpoint.client("other for event:1").await;
    other.sees("event:1").await;
    let mut number = 0;
    let mut goes_on = async |what: &str| {
        number += 1;
        endpoint.publish("event:1", &[], json!(number));
        assert_eq!(other.data().await, json!(number), "{what}");
    };

    let mut binary = endpoint.client("anne").await;
    for _ in 0..10 {
        let frame = Message::binary(vec![0, 159, 146, 150]);
        binary.socket.send(frame).await.unwrap();
        assert_eq!(binary.hear().await["code"], 400);
    }
    assert_eq!(binary.closed().await, 4400);
    goes_on("binary frames").await;

    let mut large = endpoint.client("anne").await;
    large
        .socket
        .send(Message::binary(vec![b' '; 70_000]))
        .await
        .unwrap();
    assert_eq!(large.closed().await, 1009);
    goes_on("a large frame").await;

    // None of these may be seen: each is asked about.
    let mut flood = endpoint.client("anne").await;
    for number in 0..2_000 {
        let message = json!({"type": "subscribe", "id": number.to_string(), "object": format!("event:{number}")});
        flood.say(message).await;
        if number % 100 == 0 {
            goes_on("a flood of subscriptions").await;
        }
    }
    let answers = flood.drain().await;
    let codes: std::collections::BTreeSet<_> =
        answers.iter().map(|told| told["code"].as_u64()).collect();
    assert!(
        answers.len() <= 2_000 && codes.is_subset(&[Some(403), Some(429)].into()),
        "{codes:?}"
    );
    assert!(codes.contains(&Some(403)), "{codes:?}");
    goes_on("the end of the flood").await;
}

#[tokio::test]
async fn a_store_must_be_named_and_be_one() {
    let endpoint = Endpoint::plain(Settings::default()).await;
    endpoint.read();
    for query in [
        "",
        "?store_id=",
        "?store_id=x",
        "?store=01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ] {
        let refused = endpoint.connect(endpoint.request(query)).await;
        assert_eq!(refused.err(), Some(400), "{query}");
    }
    let other = "?store_id=01ARZ3NDEKTSV4RRFFQ69G5FAW";
    let mut client = endpoint.connect(endpoint.request(other)).await.unwrap();
    client.say(json!({"type": "auth", "token": "anne"})).await;
    client.hear().await;
    assert_eq!(client.subscribe("a", "event:1").await["code"], 404);
    assert!(
        endpoint
            .connect(endpoint.request(&format!("?a=b&store_id={STORE}")))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn what_is_told_back_is_never_as_long_as_what_was_said() {
    let endpoint = Endpoint::start().await;
    let mut anne = endpoint.client("anne").await;
    let long = "x".repeat(60_000);
    for (message, code) in [
        (
            json!({"type": "subscribe", "id": long, "object": "event:1"}),
            400,
        ),
        (json!({"type": "subscribe", "id": "a", "object": long}), 400),
        (json!({"type": "unsubscribe", "id": long}), 404),
        (json!({"type": long}), 400),
        (json!({"type": "auth", "token": [long]}), 400),
    ] {
        anne.say(message).await;
        let told = anne.hear().await;
        assert_eq!(told["code"], code);
        assert!(told.to_string().len() < 1_000, "{told}");
    }
}
