//! Nothing is delivered after the node has passed a revocation, however things fall together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use meridian_live_channel::Settings;
use serde_json::json;

use crate::harness::Endpoint;

/// Records, changes that touch nothing of importance, and a revocation, all at once, again and again; the revoked client gets
/// no record that was sent after the node had passed it, and the others miss none.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_comes_after_the_node_has_passed_a_revocation() {
    for round in 0..30_u64 {
        let mut settings = Settings::default();
        settings.limits.queue_records = 100_000;
        settings.limits.queue_bytes = 64 * 1024 * 1024;
        let endpoint = Arc::new(Endpoint::with(settings).await);
        let (mut revoked, mut stays) =
            (endpoint.client("anne").await, endpoint.client("bob").await);
        for (user, client) in [("user:anne", &mut revoked), ("user:bob", &mut stays)] {
            endpoint.says.allow(user, "can_watch", "event:1");
            client.sees("event:1").await;
        }
        let (done, passed) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicI64::new(i64::MAX)),
        );
        let writing = tokio::task::spawn_blocking({
            let (endpoint, done) = (Arc::clone(&endpoint), Arc::clone(&done));
            move || {
                let mut number = 0;
                while !done.load(Ordering::SeqCst) {
                    number = endpoint.publish("event:1", &[], json!(number));
                    number += 1;
                    if number % 16 == 0 {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
                number
            }
        });
        for change in 0..5 {
            if change == round % 5 {
                let position = endpoint.says.revoke("user:anne", "can_watch", "event:1");
                endpoint.touched(position);
                // The node shows the position from here on: what is sent now is too late.
                let now = endpoint.publish("event:1", &[], json!("mark"));
                passed.store(now, Ordering::SeqCst);
            } else {
                endpoint.touched(endpoint.says.step());
            }
            tokio::time::sleep(Duration::from_micros(300 * (round % 4))).await;
        }
        // Until she has been told.
        let (mut last, mut marked) = (-1, false);
        loop {
            let told = revoked.hear().await;
            match told["type"].as_str().unwrap() {
                "record" if told["data"] == "mark" => marked = true,
                "record" => last = last.max(told["data"].as_i64().unwrap()),
                _ => {
                    assert_eq!(told["reason"], "revoked", "{told}");
                    break;
                }
            }
        }
        done.store(true, Ordering::SeqCst);
        writing.await.unwrap();
        assert!(
            !marked && last <= passed.load(Ordering::SeqCst),
            "{last}, {passed:?}"
        );
        assert!(revoked.drain().await.is_empty());
        // Every offset, each once and in order: the positions tell.
        let end = endpoint.publish("event:1", &[], json!("end"));
        let mut count = 0;
        loop {
            let told = stays.hear().await;
            assert_eq!(told["type"], "record", "{told}");
            count += 1;
            if told["data"] == "end" {
                break;
            }
        }
        assert_eq!(count, end + 1);
    }
}
