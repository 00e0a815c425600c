use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meridian_live_channel::Settings;
use serde_json::json;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::harness::{Endpoint, STORE};

#[tokio::test]
async fn a_record_reaches_all_who_may_see_it_and_nobody_is_asked_for_it() {
    let endpoint = Endpoint::start().await;
    endpoint.says.allow("user:anne", "can_watch", "event:42");
    endpoint.says.allow("user:bob", "can_watch", "event:42");
    let (mut anne, mut bob) = (endpoint.client("anne").await, endpoint.client("bob").await);
    anne.sees("event:42").await;
    bob.sees("event:42").await;
    let asked = endpoint.says.asked.load(Ordering::SeqCst);
    assert_eq!(asked, 2, "one check a subscription");
    endpoint.publish("event:7", &[], json!({"at": 0}));
    for number in 0..100 {
        endpoint.publish("event:42", &[], json!({"at": number}));
    }
    for client in [&mut anne, &mut bob] {
        for number in 0..100 {
            assert_eq!(client.data().await, json!({"at": number}));
        }
    }
    assert_eq!(endpoint.says.asked.load(Ordering::SeqCst), asked);
    let told = {
        endpoint.publish("event:42", &["organization:1"], json!([1, {"b": 2}]));
        anne.hear().await
    };
    let position = told["position"].as_str().unwrap();
    let expected = json!({
        "type": "record", "object": "event:42", "objects": ["organization:1"], "position": position,
        "at": "2023-11-14T22:13:20.123Z", "data": [1, {"b": 2}],
    });
    assert_eq!(told, expected);

    anne.say(json!({"type": "unsubscribe", "id": "event:42"}))
        .await;
    let told = anne.hear().await;
    let expected =
        json!({"type": "unsubscribed", "id": "event:42", "object": "event:42", "reason": "asked"});
    assert_eq!(told, expected);
    endpoint.publish("event:42", &[], json!(1));
    assert!(anne.drain().await.is_empty());
}

#[tokio::test]
async fn who_may_not_is_told_what_was_denied_and_others_go_on() {
    let endpoint = Endpoint::start().await;
    endpoint.says.allow("user:anne", "can_watch", "event:1");
    let mut anne = endpoint.client("anne").await;
    anne.sees("event:1").await;
    let denied = anne.subscribe("b", "event:2").await;
    let expected = json!({
        "type": "error", "id": "b", "code": 403,
        "message": "user:anne has no relation 'can_watch' to event:2",
        "denied": {"user": "user:anne", "relation": "can_watch", "object": "event:2"},
    });
    assert_eq!(denied, expected);
    endpoint.says.is_away.store(true, Ordering::SeqCst);
    let away = anne.subscribe("c", "event:3").await;
    assert_eq!((&away["code"], &away["id"]), (&json!(503), &json!("c")));
    endpoint.publish("event:1", &[], json!("goes on"));
    assert_eq!(anne.data().await, json!("goes on"));
    // What was refused leaves nothing behind.
    endpoint.says.is_away.store(false, Ordering::SeqCst);
    endpoint.says.allow("user:anne", "can_watch", "event:2");
    assert_eq!(anne.subscribe("b", "event:2").await["type"], "subscribed");
}

#[tokio::test]
async fn a_token_comes_by_header_by_subprotocol_or_first() {
    let endpoint = Endpoint::start().await;
    let query = format!("?store_id={STORE}");
    let mut by_header = endpoint.request(&query);
    by_header
        .headers_mut()
        .insert("authorization", HeaderValue::from_static("Bearer anne"));
    let mut by_protocol = endpoint.request(&query);
    let offered = HeaderValue::from_static("meridian.live.v1, bearer.anne");
    by_protocol
        .headers_mut()
        .insert("sec-websocket-protocol", offered);
    for request in [by_header, by_protocol] {
        let welcome = endpoint.connect(request).await.unwrap().hear().await;
        assert_eq!(welcome["user"], "user:anne", "{welcome}");
        assert_eq!(welcome["protocol"], "meridian.live.v1");
    }
    endpoint.client("anne").await;
}

#[tokio::test]
async fn a_token_ends_and_is_refreshed_on_the_open_socket() {
    let mut settings = Settings::default();
    settings.times.notice = Duration::from_millis(900);
    let endpoint = Endpoint::with(settings).await;
    endpoint.says.allow("user:anne", "can_watch", "event:1");
    let mut anne = endpoint.client("anne until 1").await;
    anne.sees("event:1").await;
    assert_eq!(anne.hear().await["type"], "expiring");
    anne.say(json!({"type": "auth", "token": "anne until 2"}))
        .await;
    assert_eq!(anne.hear().await["type"], "welcome");
    assert_eq!(anne.hear().await["type"], "expiring");
    endpoint.publish("event:1", &[], json!(1));
    assert_eq!(anne.data().await, json!(1));
    assert_eq!(anne.closed().await, 4401);

    let mut bob = endpoint.client("bob").await;
    bob.say(json!({"type": "auth", "token": "eve"})).await;
    assert_eq!(bob.hear().await["code"], 403);
    assert_eq!(bob.closed().await, 4403);
    let mut eve = endpoint.client("eve").await;
    eve.say(json!({"type": "auth", "token": "later"})).await;
    assert_eq!(
        eve.hear().await["code"],
        503,
        "she may go on until hers expires"
    );
    eve.say(json!({"type": "auth", "token": "bad"})).await;
    assert_eq!(eve.hear().await["message"], "it has expired");
    assert_eq!(eve.closed().await, 4401);
}

#[tokio::test]
async fn a_token_may_allow_objects_by_itself() {
    let endpoint = Endpoint::start().await;
    let mut anne = endpoint.client("anne for event:1,stage:*").await;
    for object in ["event:1", "stage:*", "stage:7"] {
        anne.sees(object).await;
    }
    assert_eq!(
        endpoint.says.asked.load(Ordering::SeqCst),
        0,
        "nobody is asked"
    );
    assert_eq!(anne.subscribe("x", "event:2").await["code"], 403);
    assert_eq!(anne.subscribe("x", "event:*").await["code"], 403);
    endpoint.publish("stage:7", &[], json!(7));
    assert_eq!(anne.data().await, json!(7));
    assert!(
        anne.drain().await.is_empty(),
        "once, though two subscriptions match"
    );
    anne.say(json!({"type": "auth", "token": "anne for event:1"}))
        .await;
    let told: Vec<_> = [anne.hear().await, anne.hear().await, anne.hear().await].into();
    let mut ended: Vec<_> = told
        .iter()
        .filter(|told| told["reason"] == "expired")
        .map(|told| told["object"].as_str().unwrap())
        .collect();
    ended.sort_unstable();
    assert_eq!(ended, ["stage:*", "stage:7"], "{told:?}");
}

#[tokio::test]
async fn all_of_a_type_an_organization_and_a_filter() {
    let mut settings = Settings::default();
    let all = ("system:live".to_owned(), "can_watch_all".to_owned());
    settings.rules.whole_types.insert("event".into(), all);
    settings
        .rules
        .relations
        .insert("organization".into(), "member".into());
    let endpoint = Endpoint::with(settings).await;
    endpoint
        .says
        .allow("user:anne", "can_watch_all", "system:live");
    endpoint.says.allow("user:bob", "member", "organization:1");
    let (mut anne, mut bob) = (endpoint.client("anne").await, endpoint.client("bob").await);
    anne.sees("event:*").await;
    let denied = bob.subscribe("x", "event:*").await;
    assert_eq!(denied["denied"]["object"], "system:live");
    bob.say(json!({
        "type": "subscribe", "id": "a", "object": "organization:1", "filter": {"kind": ["start", "finish"]},
    })).await;
    assert_eq!(bob.hear().await["type"], "subscribed");
    endpoint.publish(
        "event:1",
        &["organization:1"],
        json!({"kind": "start", "n": 1}),
    );
    endpoint.publish(
        "event:1",
        &["organization:1"],
        json!({"kind": "split", "n": 2}),
    );
    endpoint.publish(
        "event:2",
        &["organization:2"],
        json!({"kind": "start", "n": 3}),
    );
    endpoint.publish(
        "event:3",
        &["organization:1"],
        json!({"kind": "finish", "n": 4}),
    );
    endpoint.publish("event:3", &["organization:1"], json!("no fields"));
    let numbers = |told: Vec<serde_json::Value>| -> Vec<_> {
        told.iter()
            .map(|told| told["data"]["n"].as_i64().unwrap_or_default())
            .collect()
    };
    assert_eq!(numbers(anne.drain().await), [1, 2, 3, 4, 0]);
    assert_eq!(numbers(bob.drain().await), [1, 4]);
}

#[tokio::test]
async fn silence_is_asked_about_and_then_ended() {
    let mut settings = Settings::default();
    settings.times.hello = Duration::from_millis(300);
    settings.times.ping = Duration::from_millis(100);
    settings.times.idle = Duration::from_millis(400);
    let endpoint = Endpoint::with(settings).await;
    assert_eq!(
        endpoint.stranger().await.closed().await,
        4408,
        "no token in time"
    );
    let mut anne = endpoint.client("anne").await;
    // The library answers pings whenever it reads.
    let alive = tokio::time::timeout(Duration::from_millis(1200), anne.next()).await;
    assert!(alive.is_err(), "{alive:?}");
    let mut mute = endpoint.client("bob").await;
    tokio::time::timeout(Duration::from_millis(900), std::future::pending::<()>())
        .await
        .unwrap_err();
    assert_eq!(mute.closed().await, 4408);
}

#[tokio::test]
async fn a_node_that_stops_says_so_and_lets_nobody_in() {
    let endpoint = Endpoint::start().await;
    let mut anne = endpoint.client("anne").await;
    endpoint.stop.cancel();
    assert_eq!(anne.closed().await, 1001);
    let refused = endpoint
        .connect(endpoint.request(&format!("?store_id={STORE}")))
        .await;
    assert_eq!(refused.err(), Some(503));
}

#[tokio::test]
async fn pages_of_other_origins_and_crowds_stay_out() {
    let mut settings = Settings {
        origins: Arc::new(|origin| origin == b"https://app.example"),
        addresses: Arc::new(|_, headers| headers["x-client"].to_str().unwrap().parse().unwrap()),
        ..Settings::default()
    };
    settings.limits.connections_per_address = 2;
    let endpoint = Endpoint::with(settings).await;
    let request = |origin: &'static str, address: &'static str| {
        let mut request = endpoint.request(&format!("?store_id={STORE}"));
        request
            .headers_mut()
            .insert("origin", HeaderValue::from_static(origin));
        request
            .headers_mut()
            .insert("x-client", HeaderValue::from_static(address));
        request
    };
    let app = "https://app.example";
    assert_eq!(
        endpoint
            .connect(request("https://evil.example", "::1"))
            .await
            .err(),
        Some(403)
    );
    let first = endpoint.connect(request(app, "10.0.0.1")).await.unwrap();
    let _second = endpoint.connect(request(app, "10.0.0.1")).await.unwrap();
    assert_eq!(
        endpoint.connect(request(app, "10.0.0.1")).await.err(),
        Some(429)
    );
    endpoint.connect(request(app, "10.0.0.2")).await.unwrap();
    drop(first);
    let mut tries = 0;
    while endpoint.connect(request(app, "10.0.0.1")).await.is_err() {
        tries += 1;
        assert!(tries < 1000, "who has gone is not counted");
        tokio::task::yield_now().await;
    }

    let mut settings = Settings::default();
    settings.limits.connections = 2;
    let endpoint = Endpoint::with(settings).await;
    let _first = endpoint.client("anne").await;
    let second = endpoint.client("bob").await;
    let request = || endpoint.request(&format!("?store_id={STORE}"));
    assert_eq!(endpoint.connect(request()).await.err(), Some(429));
    drop(second);
    let mut tries = 0;
    while endpoint.connect(request()).await.is_err() {
        tries += 1;
        assert!(tries < 1000, "who has gone is not counted");
        tokio::task::yield_now().await;
    }

    let mut settings = Settings::default();
    settings.limits.connections_per_user = 1;
    let endpoint = Endpoint::with(settings).await;
    let _anne = endpoint.client("anne").await;
    let mut again = endpoint.stranger().await;
    again.say(json!({"type": "auth", "token": "anne"})).await;
    assert_eq!(again.closed().await, 4429);
    endpoint.client("bob").await;
}

#[tokio::test]
async fn what_a_token_allows_by_itself_it_allows_in_the_nodes_own_store_only() {
    let other = "01ARZ3NDEKTSV4RRFFQ69G5FAW".parse().unwrap();
    for store in [None, Some(other)] {
        let settings = Settings {
            store,
            ..Settings::default()
        };
        let endpoint = Endpoint::plain(settings).await;
        endpoint.read();
        let mut anne = endpoint.client("anne for event:*").await;
        for object in ["event:1", "event:*"] {
            assert_eq!(anne.subscribe("a", object).await["code"], 403, "{object}");
        }
        endpoint.says.allow("user:anne", "can_watch", "event:1");
        anne.sees("event:1").await;
        assert!(
            endpoint.says.asked.load(Ordering::SeqCst) > 0,
            "it was checked"
        );
    }
}

#[tokio::test]
async fn an_authority_outside_decides_of_the_nodes_own_store_only() {
    let other = "01ARZ3NDEKTSV4RRFFQ69G5FAW".parse().unwrap();
    for (store, refused) in [(Some(other), Some(403)), (None, None)] {
        let settings = Settings {
            store,
            shows_token: true,
            ..Settings::default()
        };
        let endpoint = Endpoint::with(settings).await;
        let request = endpoint.request(&format!("?store_id={STORE}"));
        assert_eq!(endpoint.connect(request).await.err(), refused);
    }
}

#[tokio::test]
async fn a_token_that_does_not_say_when_it_ends_is_asked_about_again() {
    let endpoint = Endpoint::start().await;
    *endpoint.tokens.every.lock().unwrap() = Some(Duration::from_millis(50));
    let mut bob = endpoint.client("bob until 1000 for event:1").await;
    bob.sees("event:1").await;
    let mut anne = endpoint.client("anne for event:1").await;
    anne.sees("event:1").await;
    endpoint.tokens.is_away.store(true, Ordering::SeqCst);
    let asked = || endpoint.tokens.asked.load(Ordering::SeqCst);
    let before = asked();
    while asked() < before + 2 {
        tokio::task::yield_now().await;
    }
    endpoint.publish("event:1", &[], json!(1));
    assert_eq!(
        anne.data().await,
        json!(1),
        "while nobody can say, she goes on"
    );
    *endpoint.tokens.bad.lock().unwrap() = Some("anne for event:1");
    endpoint.tokens.is_away.store(false, Ordering::SeqCst);
    assert_eq!(anne.hear().await["message"], "it was taken back");
    assert_eq!(anne.closed().await, 4401);
    assert_eq!(bob.data().await, json!(1));
    assert!(bob.drain().await.is_empty());
}

#[tokio::test]
async fn while_a_newer_token_is_verified_records_go_on_and_what_rests_on_it_waits() {
    let mut settings = Settings::default();
    settings.times.ping = Duration::from_millis(20);
    settings.times.idle = Duration::from_millis(200);
    let endpoint = Endpoint::with(settings).await;
    let mut anne = endpoint.client("anne for event:1").await;
    anne.sees("event:1").await;
    endpoint.tokens.holds.send_replace(true);
    let asked = || endpoint.tokens.asked.load(Ordering::SeqCst);
    let before = asked();
    anne.say(json!({"type": "auth", "token": "anne for event:1,event:2"}))
        .await;
    anne.say(json!({"type": "subscribe", "id": "b", "object": "event:2"}))
        .await;
    while asked() == before {
        tokio::task::yield_now().await;
    }
    endpoint.publish("event:1", &[], json!(1));
    assert_eq!(anne.data().await, json!(1));
    // Longer than a client may be silent: it is not heard.
    let waits = tokio::time::timeout(Duration::from_millis(500), anne.next()).await;
    assert!(waits.is_err(), "{waits:?}");
    endpoint.tokens.holds.send_replace(false);
    assert_eq!(anne.hear().await["type"], "welcome");
    assert_eq!(anne.hear().await["type"], "subscribed");
    endpoint.publish("event:2", &[], json!(2));
    assert_eq!(anne.data().await, json!(2));
}
