use std::time::Duration;

use meridian_live_channel::Settings;
use serde_json::json;

use crate::harness::{Endpoint, PATIENCE};

#[tokio::test]
async fn who_is_too_slow_is_told_and_closed_and_nobody_else_waits() {
    let mut settings = Settings::default();
    settings.limits.queue_bytes = 256 * 1024;
    let endpoint = Endpoint::with(settings).await;
    let mut slow = endpoint.client("slow for event:1").await;
    let mut quick = endpoint.client("quick for event:1").await;
    let mut latest = endpoint.client("latest for event:1").await;
    slow.sees("event:1").await;
    quick.sees("event:1").await;
    latest
        .say(json!({"type": "subscribe", "id": "a", "object": "event:1", "conflate": true}))
        .await;
    latest.hear().await;
    // More than the system's own buffers take, at a pace that a reader keeps up with.
    let (total, text) = (3000, "x".repeat(8192));
    let reading = async {
        for number in 0..total {
            assert_eq!(quick.data().await["n"], number);
        }
    };
    let (half, written) = tokio::sync::oneshot::channel();
    let writing = async {
        let mut half = Some(half);
        for number in 0..total {
            if number == total / 2
                && let Some(half) = half.take()
            {
                half.send(()).unwrap();
            }
            endpoint.publish("event:1", &[], json!({"n": number, "text": text}));
            if number % 8 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    // It reads at last: what was on its way, then how much it lost.
    let late = async {
        written.await.unwrap();
        let (mut got, mut lost) = (0, None);
        loop {
            match slow.next().await {
                Ok(told) if told["type"] == "lagged" => lost = told["lost"].as_u64(),
                Ok(_) => got += 1,
                Err(code) => return (got, lost, code),
            }
        }
    };
    let ((), (), (got, lost, code)) = tokio::join!(reading, writing, late);
    assert!(got < total / 2, "{got}");
    assert!(lost.is_some_and(|lost| lost > 0), "{lost:?}");
    assert_eq!(code, 4508);
    // One that wants only the latest was never too slow.
    let mut last = -1;
    while last < total - 1 {
        let number = latest.data().await["n"].as_i64().unwrap();
        assert!(number > last);
        last = number;
    }
}

/// It is never too slow for its queue, and never silent.
#[tokio::test]
async fn who_takes_nothing_is_closed_though_it_speaks() {
    let mut settings = Settings::default();
    settings.times.ping = Duration::from_millis(200);
    settings.times.idle = Duration::from_millis(600);
    let endpoint = Endpoint::with(settings).await;
    let mut deaf = endpoint.client("deaf for event:1").await;
    deaf.say(json!({"type": "subscribe", "id": "a", "object": "event:1", "conflate": true}))
        .await;
    assert_eq!(deaf.hear().await["type"], "subscribed");
    // More than the system's buffers take, one record in the place of the other, until it has no subscription any longer.
    let text = json!("x".repeat(1024 * 1024));
    let closed = async {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        while !endpoint.hub.stores().is_empty() {
            tick.tick().await;
            endpoint.publish("event:1", &[], text.clone());
            deaf.say(json!({"type": "ping"})).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    assert_eq!(deaf.closed().await, 4408);
}

#[tokio::test]
async fn one_record_is_never_too_large_by_itself() {
    let mut settings = Settings::default();
    settings.limits.queue_bytes = 4096;
    let endpoint = Endpoint::with(settings).await;
    let mut anne = endpoint.client("anne for event:1").await;
    let position = anne.sees("event:1").await;
    let large = json!("x".repeat(100_000));
    endpoint.publish("event:1", &[], large.clone());
    assert_eq!(anne.data().await, large);
    let mut back = endpoint.client("anne for event:1").await;
    let message =
        json!({"type": "subscribe", "id": "a", "object": "event:1", "position": position});
    back.say(message).await;
    assert_eq!(back.hear().await["recovered"], true);
    assert_eq!(back.data().await, large);
}

/// What is given to one who begins with the last record is as bounded as the rest.
#[tokio::test]
async fn last_records_wait_until_there_is_room_for_them() {
    const MANY: usize = 100;
    let mut settings = Settings::default();
    settings.limits.history_bytes = 256 * 1024 * 1024;
    settings.limits.messages_per_second = 1_000;
    settings.times.grace = Duration::from_secs(2);
    let endpoint = Endpoint::with(settings).await;
    let large = json!("x".repeat(300_000));
    for number in 0..MANY {
        endpoint.publish(&format!("event:{number}"), &[], large.clone());
    }
    let mut outcomes = Vec::new();
    for reads in [true, false] {
        let mut client = endpoint.client("anne for event:*").await;
        for number in 0..MANY {
            let object = format!("event:{number}");
            let message =
                json!({"type": "subscribe", "id": object, "object": object, "last": true});
            client.say(message).await;
        }
        if !reads {
            // Longer than they wait for room.
            let pause = Duration::from_millis(1_500);
            let slept = tokio::time::timeout(pause, std::future::pending::<()>()).await;
            assert!(slept.is_err());
        }
        let (mut records, mut refused) = (0, 0);
        while records + refused < MANY {
            let told = client.hear().await;
            match told["type"].as_str() {
                Some("record") => records += 1,
                Some("error") => {
                    assert_eq!(told["code"], 429, "{told}");
                    refused += 1;
                }
                _ => assert_eq!(told["type"], "subscribed"),
            }
        }
        outcomes.push((records, refused));
    }
    assert_eq!(outcomes[0], (MANY, 0), "who reads gets all");
    // What the system takes for itself is less than half of it.
    assert!(outcomes[1].1 > MANY / 2, "{outcomes:?}");
}
