//! `/watch` of a real central node, by real sockets: what watchers are told, and what becomes of those who cannot be.

mod admission;
mod callers;
mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use meridian_model::{Revision, StoreId};
use meridian_server::roles;
use serde_json::{Value, json};

use crate::harness::NOBODY;
use harness::{
    PATIENCE, call, central, config, connect, file, key, store, watch, watch_with_little_room,
    write,
};

#[tokio::test]
async fn what_happens_to_a_store_is_told_from_its_beginning_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let node = central(&config(&file(&folder))).await;
    let store = store(&node).await;
    let (anne, beth) = (key("user:anne", "document:1"), key("user:beth", "folder:1"));
    let mut all = key("user:*", "document:2");
    all["condition"] = json!({"name": "office", "context": {"hour": 9}});
    write(&node, &store, &[anne.clone(), all.clone()], &[]).await;
    let (mut watcher, welcome) = watch(&node, &format!("store_id={store}&after=start")).await;
    assert_eq!(
        (&welcome["node"], &welcome["store_id"], &welcome["protocol"]),
        (
            &json!("central/one"),
            &json!(store),
            &json!("meridian.watch.v1")
        )
    );
    assert_eq!(harness::revision(&welcome), 0);
    let created = watcher.hear().await;
    assert_eq!(
        (
            &created["type"],
            &created["store"],
            harness::revision(&created)
        ),
        (&json!("change"), &json!("created"), 1)
    );
    assert!(created["at"].as_str().unwrap().ends_with('Z'), "{created}");
    let model = watcher.hear().await;
    let path = format!("/stores/{store}/authorization-models");
    let latest = call(&node, Method::GET, &path, &Value::Null).await;
    assert_eq!(
        model["authorization_model_id"],
        latest["authorization_models"][0]["id"]
    );
    let written = watcher.hear().await;
    let mut plain = anne.clone();
    plain["condition"] = Value::Null;
    assert_eq!(written["writes"], json!([plain, all]), "{written}");
    // From here on as it happens.
    write(
        &node,
        &store,
        std::slice::from_ref(&beth),
        std::slice::from_ref(&anne),
    )
    .await;
    let changed = watcher.hear().await;
    assert_eq!(changed["deletes"], json!([anne]), "{changed}");
    assert_eq!(changed["writes"][0]["object"], "folder:1", "{changed}");
    assert_eq!(harness::revision(&changed), 4);
    call(
        &node,
        Method::DELETE,
        &format!("/stores/{store}"),
        &Value::Null,
    )
    .await;
    let deleted = watcher.hear().await;
    assert_eq!(deleted["store"], "deleted", "{deleted}");
    assert_eq!(watcher.next().await, Err(4404), "nothing follows");
    node.stop().await;
}

/// Writes one tuple after the other until it is told to stop; how many.
async fn write_on(node: &roles::Node, store: &str, who: &str, stop: &AtomicBool) -> u64 {
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = key(&format!("user:{who}{written}"), "document:1");
        write(node, store, &[key], &[]).await;
        written += 1;
    }
    written
}

#[tokio::test]
async fn nothing_is_lost_nor_doubled_however_often_a_watcher_comes_back_while_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&file(&folder));
    // So few that who comes back has to read the change log.
    config.watch.queue_changes = 16;
    let node = central(&config).await;
    let store = store(&node).await;
    let stop = Arc::new(AtomicBool::new(false));
    let watching = async {
        let (mut last, mut lagged) = ("start".to_owned(), 0);
        let mut seen = Vec::new();
        for round in 0..20 {
            let (mut watcher, _) = watch(&node, &format!("store_id={store}&after={last}")).await;
            for _ in 0..(round % 7 + 3) {
                match watcher.next().await {
                    Ok(told) if told["type"] == "change" => {
                        seen.push(harness::revision(&told));
                        last = told["position"].as_str().unwrap().to_owned();
                    }
                    Ok(told) => {
                        assert_eq!(told["type"], "lagged", "{told}");
                        lagged += 1;
                    }
                    Err(_) => break,
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        (last, seen, lagged)
    };
    let ((last, mut seen, _), a, b) = tokio::join!(
        watching,
        write_on(&node, &store, "a", &stop),
        write_on(&node, &store, "b", &stop)
    );
    let total = 2 + a + b;
    let (mut watcher, _) = watch(&node, &format!("store_id={store}&after={last}")).await;
    while seen.last().is_none_or(|last| *last < total) {
        seen.push(watcher.revision().await);
    }
    assert_eq!(seen, (1..=total).collect::<Vec<_>>());
    node.stop().await;
}

#[tokio::test]
async fn many_watchers_of_one_store_are_told_the_same_by_one_reader() {
    let node = central(&config("memory:")).await;
    let store = store(&node).await;
    let mut watchers = Vec::new();
    for _ in 0..20 {
        watchers.push(watch(&node, &format!("store_id={store}")).await.0);
    }
    // More than the live channel would read at once.
    for number in 0..300 {
        let key = key(&format!("user:u{number}"), "document:1");
        write(&node, &store, &[key], &[]).await;
    }
    for watcher in &mut watchers {
        for revision in 3..=302 {
            assert_eq!(watcher.revision().await, revision);
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn filters_leave_out_the_rest_and_the_position_goes_on_all_the_same() {
    let mut config = config("memory:");
    config.watch.ping_interval = Duration::from_millis(50);
    let node = central(&config).await;
    let store = store(&node).await;
    let query = format!("store_id={store}&type=folder&user=user:beth");
    let (mut watcher, _) = watch(&node, &query).await;
    let others = [key("user:beth", "document:1"), key("user:anne", "folder:1")];
    write(&node, &store, &others, &[]).await;
    let passed = watcher.hear().await;
    assert_eq!(
        (&passed["type"], harness::revision(&passed)),
        (&json!("position"), 3)
    );
    let wanted = key("user:beth", "folder:1");
    let mixed = [wanted.clone(), key("user:carl", "folder:1")];
    write(&node, &store, &mixed, &[]).await;
    let told = watcher.hear().await;
    assert_eq!(told["writes"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!(told["writes"][0]["user"], "user:beth");
    // It comes back by a position that was only passed.
    let after = passed["position"].as_str().unwrap();
    let (mut again, _) = watch(&node, &format!("{query}&after={after}")).await;
    assert_eq!(again.revision().await, 4);
    node.stop().await;
}

#[tokio::test]
async fn history_that_is_gone_is_said_and_never_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let node = central(&config(&file(&folder))).await;
    let store = store(&node).await;
    for number in 3..=10 {
        write(
            &node,
            &store,
            &[key(&format!("user:u{number}"), "document:1")],
            &[],
        )
        .await;
    }
    let (_, welcome) = watch(&node, &format!("store_id={store}")).await;
    let here = welcome["position"].as_str().unwrap();
    let (epoch, _) = here.split_once('.').unwrap();
    let epoch: u64 = epoch.parse().unwrap();
    // Somebody trims the change log, as time does.
    let settings = meridian_store::DatastoreSettings {
        url: file(&folder),
        pool: meridian_store::PoolSettings::default(),
    };
    let other = meridian_store::open(&settings).unwrap();
    let id: StoreId = store.parse().unwrap();
    let deadline = Instant::now() + PATIENCE;
    // What Kafka does not have yet is not trimmed; here is none.
    let rows = other.outbox(1000, deadline).await.unwrap();
    let published: Vec<_> = rows.iter().map(|row| row.sequence).collect();
    other.outbox_delete(&published, deadline).await.unwrap();
    other.trim_changes(id, Revision(5), deadline).await.unwrap();
    for (after, reason) in [
        (format!("{epoch}.4"), "trimmed"),
        ("start".to_owned(), "trimmed"),
        (format!("{epoch}.11"), "unknown"),
        (format!("{}.3", epoch + 1), "unknown"),
    ] {
        let (mut watcher, _) = watch(&node, &format!("store_id={store}&after={after}")).await;
        let reset = watcher.hear().await;
        let expected = json!({"type": "reset", "reason": reason, "position": here});
        assert_eq!(reset, expected, "{after}");
    }
    if let Some(before) = epoch.checked_sub(1) {
        let query = format!("store_id={store}&after={before}.9");
        let (mut watcher, _) = watch(&node, &query).await;
        let reset = watcher.hear().await;
        assert_eq!(reset["reason"], "new_epoch", "{reset}");
        // It goes on from there.
        write(&node, &store, &[key("user:new", "document:1")], &[]).await;
        assert_eq!(watcher.revision().await, 11);
    }
    let (mut watcher, _) = watch(&node, &format!("store_id={store}&after={epoch}.5")).await;
    assert_eq!(watcher.revision().await, 6, "what is kept is enough");
    node.stop().await;
}

#[tokio::test]
async fn who_is_too_slow_is_told_and_closed_and_neither_writes_nor_others_wait() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&file(&folder));
    config.watch.queue_changes = 40;
    let node = central(&config).await;
    let store = store(&node).await;
    let query = format!("store_id={store}");
    let mut slow = watch_with_little_room(&node, &query).await;
    let (mut quick, welcome) = watch(&node, &query).await;
    // More than the system's own buffers take: revisions of about 30 KB.
    let (total, text) = (250_u64, "x".repeat(200));
    let writing = async {
        for number in 0..total {
            let keys = (0..100).map(|object| {
                let mut key = key("user:*", &format!("document:{text}-{number}-{object}"));
                key["condition"] = json!({"name": "office", "context": {"hour": 9}});
                key
            });
            write(&node, &store, &keys.collect::<Vec<_>>(), &[]).await;
        }
    };
    let reading = async {
        for revision in 3..3 + total {
            assert_eq!(quick.revision().await, revision);
        }
    };
    tokio::join!(writing, reading);
    let (told, code) = slow.rest().await;
    let mut last = harness::revision(&welcome);
    let mut behind = None;
    for frame in &told {
        if frame["type"] == "lagged" {
            behind = frame["behind"].as_u64();
        } else {
            assert_eq!(harness::revision(frame), last + 1, "in order until it ends");
            last += 1;
        }
    }
    assert_eq!(code, 4508, "{}", told.len());
    assert!(behind.is_some_and(|behind| behind >= 40), "{behind:?}");
    // It comes back and misses nothing.
    let (epoch, _) = welcome["position"]
        .as_str()
        .unwrap()
        .split_once('.')
        .unwrap();
    let (mut again, _) = watch(&node, &format!("{query}&after={epoch}.{last}")).await;
    for revision in last + 1..3 + total {
        assert_eq!(again.revision().await, revision);
    }
    node.stop().await;
}

#[tokio::test]
async fn decisions_of_this_node_are_told_as_they_are_recorded() {
    let mut config = config("memory:");
    config.recorder.enabled = true;
    let node = central(&config).await;
    let store = store(&node).await;
    write(&node, &store, &[key("user:anne", "document:1")], &[]).await;
    let (mut changes_only, welcome) = watch(&node, &format!("store_id={store}")).await;
    assert_eq!(welcome["recording"], Value::Null);
    let query = format!("store_id={store}&decisions=true");
    let (mut all, welcome) = watch(&node, &query).await;
    assert_eq!(
        welcome["recording"],
        json!({"enabled": true, "sampling": 1.0})
    );
    let (mut of_beth, _) = watch(&node, &format!("{query}&user=user:beth&type=document")).await;
    for (user, object) in [
        ("anne", "document:1"),
        ("anne", "folder:1"),
        ("beth", "document:1"),
    ] {
        let check = json!({"tuple_key": key(&format!("user:{user}"), object)});
        call(
            &node,
            Method::POST,
            &format!("/stores/{store}/check"),
            &check,
        )
        .await;
    }
    let mut told = Vec::new();
    for _ in 0..3 {
        let decision = all.hear().await;
        assert_eq!(decision["type"], "decision", "{decision}");
        told.push(decision);
    }
    let asked = |told: &Value| {
        let decision = &told["flow"]["decision"];
        (
            decision["user"].clone(),
            decision["object"].clone(),
            decision["allowed"].clone(),
        )
    };
    assert_eq!(
        asked(&told[0]),
        (json!("user:anne"), json!("document:1"), json!(true))
    );
    assert_eq!(
        asked(&told[1]),
        (json!("user:anne"), json!("folder:1"), json!(false))
    );
    assert_eq!(told[0]["flow"]["status"], "success");
    let steps = told[0]["steps"].as_array().unwrap();
    assert!(
        steps.iter().any(|step| step["name"] == "evaluate"),
        "{steps:?}"
    );
    // As the API shows it, once it is stored.
    let path = format!(
        "/stores/{store}/flows/{}",
        told[0]["flow"]["id"].as_str().unwrap()
    );
    let kept = async {
        loop {
            let reply =
                crate::harness::send(node.http, Method::GET, &path, &[], Default::default()).await;
            if reply.status == StatusCode::OK {
                return reply.body;
            }
            tokio::task::yield_now().await;
        }
    };
    let kept = tokio::time::timeout(PATIENCE, kept).await.unwrap();
    assert_eq!(
        (&kept["flow"], &kept["steps"]),
        (&told[0]["flow"], &told[0]["steps"])
    );
    assert_eq!(asked(&of_beth.hear().await).0, "user:beth");
    // Who did not ask for decisions has had none: the next thing is a change.
    write(&node, &store, &[key("user:beth", "document:1")], &[]).await;
    assert_eq!(changes_only.revision().await, 4);
    // The switch works at any time.
    let recorder = format!("/stores/{store}/flow-recorder");
    call(
        &node,
        Method::PATCH,
        &recorder,
        &json!({"process_enabled": false}),
    )
    .await;
    let (_, welcome) = watch(&node, &query).await;
    assert_eq!(welcome["recording"]["enabled"], false);
    node.stop().await;
}

/// Nobody waits for a slow watcher, and it is told how many decisions it missed: with those it had they are all.
#[tokio::test]
async fn who_is_too_slow_for_decisions_is_told_how_many_were_lost() {
    const MADE: u64 = 2000;
    let mut config = config("memory:");
    config.recorder.enabled = true;
    config.watch.queue_decisions = 8;
    let node = central(&config).await;
    let store = store(&node).await;
    let query = format!("store_id={store}&decisions=true");
    let mut slow = watch_with_little_room(&node, &query).await;
    let path = format!("/stores/{store}/check");
    let object = format!("document:{}", "long".repeat(50));
    for _ in 0..MADE {
        let check = json!({"tuple_key": key("user:anne", &object)});
        call(&node, Method::POST, &path, &check).await;
    }
    let (mut had, mut lost) = (0, 0);
    while had + lost < MADE {
        let told = slow.hear().await;
        match told["type"].as_str() {
            Some("decision") => had += 1,
            Some("lost") => lost += told["lost"].as_u64().unwrap(),
            _ => panic!("{told}"),
        }
    }
    assert_eq!(had + lost, MADE);
    assert!(had > 0 && lost > 0, "{had} had, {lost} lost");
    node.stop().await;
}

#[tokio::test]
async fn an_edge_says_where_there_is_a_change_log() {
    let mut config = config("memory:");
    config.upstream = vec!["http://127.0.0.1:9".into()];
    config.region = "eu-1".into();
    config.product = "shop".into();
    let edge = roles::edge(&config).await.unwrap();
    let refused = connect(&edge, &format!("store_id={NOBODY}"), &[]).await;
    let (status, body) = refused.err().unwrap();
    assert_eq!(
        (status, &body["code"]),
        (StatusCode::MISDIRECTED_REQUEST, &json!("watch_elsewhere"))
    );
    let told = body["message"].as_str().unwrap();
    assert!(
        told.contains("regional node of region 'eu-1'") && told.contains("product 'shop'"),
        "{told}"
    );
    edge.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_sends_its_watchers_elsewhere() {
    let node = central(&config("memory:")).await;
    let store = store(&node).await;
    let (mut watcher, _) = watch(&node, &format!("store_id={store}")).await;
    let (told, ()) = tokio::join!(watcher.rest(), node.stop());
    assert_eq!(told, (Vec::new(), 1001));
}

#[tokio::test]
async fn nobody_is_watched_for_where_it_is_off() {
    let mut config = config("memory:");
    config.watch.enabled = false;
    let node = central(&config).await;
    let refused = connect(&node, &format!("store_id={NOBODY}"), &[]).await;
    assert_eq!(refused.err().unwrap().0, StatusCode::NOT_FOUND);
    node.stop().await;
}
