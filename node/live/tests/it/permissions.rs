use std::sync::atomic::Ordering;
use std::time::Duration;

use meridian_live_channel::Settings;
use serde_json::json;

use crate::harness::{Client, Endpoint};

async fn watching(settings: Settings) -> (Endpoint, Client, Client) {
    let endpoint = Endpoint::with(settings).await;
    let mut clients = Vec::new();
    for user in ["anne", "bob"] {
        endpoint
            .says
            .allow(&format!("user:{user}"), "can_watch", "event:1");
        let mut client = endpoint.client(user).await;
        client.sees("event:1").await;
        clients.push(client);
    }
    let (bob, anne) = (clients.pop().unwrap(), clients.pop().unwrap());
    (endpoint, anne, bob)
}

#[tokio::test]
async fn what_a_revocation_touches_is_held_until_it_was_checked_again() {
    let (endpoint, mut anne, mut bob) = watching(Settings::default()).await;
    endpoint.says.holds.send_replace(true);
    let calls = endpoint.says.asked.load(Ordering::SeqCst);
    let position = endpoint.says.revoke("user:anne", "can_watch", "event:1");
    endpoint.touched(position);
    endpoint.publish("event:1", &[], json!("after"));
    assert!(anne.drain().await.is_empty() && bob.drain().await.is_empty());
    endpoint.says.holds.send_replace(false);
    let told = anne.hear().await;
    let expected =
        json!({"type": "unsubscribed", "id": "event:1", "object": "event:1", "reason": "revoked"});
    assert_eq!(told, expected);
    assert_eq!(
        bob.data().await,
        json!("after"),
        "he still may, and has missed nothing"
    );
    assert_eq!(
        endpoint.says.asked.load(Ordering::SeqCst),
        calls + 1,
        "one call for both"
    );
    endpoint.publish("event:1", &[], json!("later"));
    assert_eq!(bob.data().await, json!("later"));
    assert!(anne.drain().await.is_empty());
    assert_eq!(anne.subscribe("again", "event:1").await["code"], 403);
}

#[tokio::test]
async fn what_several_sockets_ask_is_asked_once() {
    let (endpoint, anne, bob) = watching(Settings::default()).await;
    let mut again = endpoint.client("anne").await;
    again.sees("event:1").await;
    let mut clients = [anne, again, bob];
    let questions = || endpoint.says.shown.lock().unwrap().len();
    let before = questions();
    endpoint.touched(endpoint.says.step());
    endpoint.publish("event:1", &[], json!(1));
    for client in &mut clients {
        assert_eq!(client.data().await, json!(1));
    }
    assert_eq!(questions(), before + 2, "one of anne, and one of bob");
    // The answer is for all who asked.
    endpoint.touched(endpoint.says.revoke("user:anne", "can_watch", "event:1"));
    for client in &mut clients[..2] {
        assert_eq!(client.hear().await["reason"], "revoked");
    }
    assert!(clients[2].drain().await.is_empty());
}

#[tokio::test]
async fn while_nobody_can_say_what_was_touched_ends_and_the_rest_stays() {
    let mut settings = Settings::default();
    settings.times.grace = Duration::from_millis(300);
    settings.times.review = Duration::from_secs(1);
    let (endpoint, mut anne, mut bob) = watching(settings).await;
    endpoint.says.is_away.store(true, Ordering::SeqCst);
    // Long enough for a review that comes to nothing.
    let calls = endpoint.says.asked.load(Ordering::SeqCst);
    while endpoint.says.asked.load(Ordering::SeqCst) == calls {
        tokio::task::yield_now().await;
    }
    endpoint.publish("event:1", &[], json!(1));
    assert_eq!((anne.data().await, bob.data().await), (json!(1), json!(1)));
    endpoint.touched(endpoint.says.step());
    endpoint.publish("event:1", &[], json!(2));
    for client in [&mut anne, &mut bob] {
        let told = client.hear().await;
        assert_eq!(told["reason"], "authority_unreachable", "{told}");
    }
}

#[tokio::test]
async fn what_no_change_shows_is_found_by_checking_from_time_to_time() {
    let mut settings = Settings::default();
    settings.times.review = Duration::from_secs(1);
    let (endpoint, mut anne, mut bob) = watching(settings).await;
    endpoint.says.revoke("user:anne", "can_watch", "event:1");
    assert_eq!(anne.hear().await["reason"], "revoked");
    endpoint.publish("event:1", &[], json!(1));
    assert_eq!(bob.data().await, json!(1));
}

#[tokio::test]
async fn a_change_between_check_and_subscription_is_not_missed() {
    let endpoint = Endpoint::start().await;
    endpoint.says.allow("user:anne", "can_watch", "event:1");
    let mut anne = endpoint.client("anne").await;
    endpoint.says.holds.send_replace(true);
    anne.say(json!({"type": "subscribe", "id": "a", "object": "event:1"}))
        .await;
    while endpoint.says.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // It was allowed, and she has not heard of it yet.
    let position = endpoint.says.revoke("user:anne", "can_watch", "event:1");
    endpoint.touched(position);
    endpoint.says.holds.send_replace(false);
    assert_eq!(anne.hear().await["code"], 403);
    endpoint.publish("event:1", &[], json!(1));
    assert!(anne.drain().await.is_empty());
}

#[tokio::test]
async fn a_decision_older_than_what_the_node_has_passed_opens_nothing() {
    let (endpoint, mut anne, mut bob) = watching(Settings::default()).await;
    endpoint.says.lag();
    let position = endpoint.says.revoke("user:anne", "can_watch", "event:1");
    endpoint.touched(position);
    assert_eq!(anne.hear().await["reason"], "revoked");
    assert_eq!(anne.subscribe("again", "event:1").await["code"], 403);
    // One that answers as of before, whatever it is asked for.
    endpoint.says.is_stuck.store(true, Ordering::SeqCst);
    assert_eq!(anne.subscribe("again", "event:1").await["code"], 503);
    endpoint.publish("event:1", &[], json!(1));
    assert_eq!(bob.data().await, json!(1));
    assert!(anne.drain().await.is_empty());
}

#[tokio::test]
async fn a_decision_older_than_what_the_node_has_passed_ends_nothing() {
    let mut settings = Settings::default();
    settings.times.review = Duration::from_secs(1);
    let endpoint = Endpoint::with(settings).await;
    endpoint.says.lag();
    endpoint.says.allow("user:bob", "can_watch", "event:1");
    endpoint.says.step();
    let mut bob = endpoint.client("bob").await;
    bob.sees("event:1").await;
    let calls = endpoint.says.asked.load(Ordering::SeqCst);
    while endpoint.says.asked.load(Ordering::SeqCst) < calls + 2 {
        tokio::task::yield_now().await;
    }
    endpoint.publish("event:1", &[], json!(1));
    assert_eq!(bob.data().await, json!(1));
}

/// Many questions, and an authority that does not answer any of them.
#[tokio::test]
async fn grace_is_no_longer_for_many_than_for_one() {
    let mut settings = Settings::default();
    settings.times.grace = Duration::from_secs(1);
    settings.limits.messages_per_second = 1_000_000;
    let endpoint = Endpoint::with(settings).await;
    let mut clients = Vec::new();
    for user in 0..5 {
        let mut client = endpoint.client(&user.to_string()).await;
        for number in 0..100 {
            let object = format!("event:{number}");
            let user = format!("user:{user}");
            endpoint.says.allow(&user, "can_watch", &object);
            client.sees(&object).await;
        }
        clients.push(client);
    }
    endpoint.says.holds.send_replace(true);
    let since = std::time::Instant::now();
    endpoint.touched(endpoint.says.step());
    for client in &mut clients {
        for _ in 0..100 {
            assert_eq!(client.hear().await["reason"], "authority_unreachable");
        }
    }
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
}
