//! A client that always has something waiting is heard, and what is due happens to it, as to any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meridian_live_channel::Settings;
use serde_json::{Value, json};

use crate::harness::{Client, Endpoint, PATIENCE};

/// Records of one object, as fast as they can be published, until it is dropped.
struct Flow {
    endpoint: Arc<Endpoint>,
    done: Arc<AtomicBool>,
}

impl Flow {
    async fn start(settings: Settings) -> Self {
        let endpoint = Arc::new(Endpoint::with(settings).await);
        let done = Arc::new(AtomicBool::new(false));
        let (publishing, ended) = (Arc::clone(&endpoint), Arc::clone(&done));
        std::thread::spawn(move || {
            let text = "x".repeat(32 * 1024);
            while !ended.load(Ordering::SeqCst) {
                publishing.publish("event:1", &[], json!(text));
            }
        });
        Self { endpoint, done }
    }

    /// A client that takes the latest of it, and will always find some waiting.
    async fn client(&self, token: &str) -> Client {
        let mut client = self.endpoint.client(token).await;
        let message =
            json!({"type": "subscribe", "id": "a", "object": "event:1", "conflate": true});
        client.say(message).await;
        assert_eq!(client.hear().await["type"], "subscribed");
        client
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
    }
}

/// What comes next that is no record.
async fn told(client: &mut Client) -> Result<Value, u16> {
    let telling = async {
        loop {
            let told = client.next().await?;
            if told["type"] != "record" {
                return Ok(told);
            }
        }
    };
    let told = tokio::time::timeout(PATIENCE, telling).await;
    told.expect("nothing but records comes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn its_token_expires() {
    let mut settings = Settings::default();
    settings.times.notice = Duration::from_millis(500);
    let flow = Flow::start(settings).await;
    let mut anne = flow.client("anne until 1 for event:1").await;
    assert_eq!(told(&mut anne).await.unwrap()["type"], "expiring");
    assert_eq!(told(&mut anne).await, Err(4401));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn its_token_is_renewed_and_what_it_asks_is_answered() {
    let flow = Flow::start(Settings::default()).await;
    let mut anne = flow.client("anne until 100 for event:1").await;
    anne.say(json!({"type": "auth", "token": "anne until 200 for event:1"}))
        .await;
    assert_eq!(told(&mut anne).await.unwrap()["type"], "welcome");
    anne.say(json!({"type": "ping"})).await;
    assert_eq!(told(&mut anne).await.unwrap()["type"], "pong");
    anne.say(json!({"type": "unsubscribe", "id": "a"})).await;
    assert_eq!(told(&mut anne).await.unwrap()["reason"], "asked");
    assert!(anne.drain().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_is_told_that_the_node_stops() {
    let flow = Flow::start(Settings::default()).await;
    let mut anne = flow.client("anne for event:1").await;
    flow.endpoint.stop.cancel();
    assert_eq!(told(&mut anne).await, Err(1001));
}

/// One that says something is not taken for silent, however long it has been kept busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_is_no_silent_one_when_the_flow_ends() {
    let mut settings = Settings::default();
    settings.times.idle = Duration::from_millis(600);
    settings.times.ping = Duration::from_secs(60);
    settings.limits.messages_per_second = 10_000;
    let flow = Flow::start(settings).await;
    let mut anne = flow.client("anne for event:1").await;
    let since = std::time::Instant::now();
    while since.elapsed() < Duration::from_millis(1500) {
        anne.say(json!({"type": "ping"})).await;
        assert_eq!(told(&mut anne).await.unwrap()["type"], "pong");
        for _ in 0..8 {
            assert_eq!(anne.hear().await["type"], "record");
        }
    }
}

/// While a record is on its way to a client that does not read yet, another comes: it does not wait for a third.
#[tokio::test]
async fn what_comes_while_the_socket_is_full_follows_at_once() {
    let mut settings = Settings::default();
    settings.limits.queue_bytes = 64 * 1024 * 1024;
    let endpoint = Endpoint::with(settings).await;
    let mut anne = endpoint.client("anne for event:1").await;
    anne.sees("event:1").await;
    let turns = async || {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    };
    endpoint.publish("event:1", &[], json!("x".repeat(15 * 1024 * 1024)));
    turns().await;
    endpoint.publish("event:1", &[], json!("next"));
    turns().await;
    assert_ne!(anne.data().await, json!("next"));
    let next = tokio::time::timeout(Duration::from_secs(10), anne.data()).await;
    assert_eq!(next.unwrap(), json!("next"));
}
