use serde_json::Value;
use ulid::Ulid;

use super::super::*;
use super::*;
use crate::outbox::Next;
use crate::record::Place;

fn hub(limits: Limits) -> Hub {
    let hub = Hub::new(limits);
    hub.reading("cluster", "topic", &[0]);
    hub
}

fn store() -> StoreId {
    Ulid::generate().to_string().parse().unwrap()
}

/// Something happens in a store; returns the position after it.
fn happens(hub: &Hub, store: StoreId, offset: i64) -> String {
    hub.publish(Record {
        store,
        object: "event:1".to_owned(),
        objects: Vec::new(),
        data: serde_json::value::to_raw_value(&"x".repeat(1000)).unwrap(),
        at: 0,
        place: Place {
            partition: 0,
            offset,
        },
    });
    hub.seen().cursor.encode()
}

/// Whether all is known that came after a position; the subscription ends at once.
fn recovers(hub: &Hub, store: StoreId, position: &str) -> bool {
    let (sub, outbox) = (hub.number(), Arc::new(hub.outbox()));
    outbox.reserve(sub, "a".into(), "event:1".into(), false);
    let subscription = Subscription {
        id: "a".into(),
        object: "event:1".into(),
        outbox: Arc::clone(&outbox),
        filter: None,
        question: None,
        showing: Arc::default(),
    };
    let decided = Decided {
        allowed: true,
        position: Position::default(),
        rests: Rests::Elsewhere,
        model: None,
        served_by: "test".into(),
    };
    let beginning = Beginning {
        position: Some(position),
        last: false,
    };
    let ticket = hub.begin(store);
    let place = (store, ticket, sub);
    hub.open(place, subscription, decided, &beginning).unwrap();
    hub.finish(store, ticket);
    assert!(hub.leave(store, sub, None));
    let Next::Frame { frame, .. } = outbox.next() else {
        panic!("nothing was told");
    };
    let told: Value = serde_json::from_str(frame.as_str()).unwrap();
    told["recovered"].as_bool().unwrap()
}

#[test]
fn nothing_is_left_of_stores_in_which_nothing_happened() {
    let hub = hub(Limits::default());
    let nobody = store();
    assert!(!hub.leave(nobody, 7, None));
    hub.touched(nobody, Position::new(1, 1), Touched::All);
    hub.forget(nobody);
    let here = hub.seen().cursor.encode();
    assert!(recovers(&hub, nobody, &here));
    assert!(hub.rooms.is_empty());
}

#[test]
fn what_is_kept_of_all_stores_is_bounded() {
    let hub = hub(Limits {
        history_total_bytes: 20_000,
        ..Limits::default()
    });
    let stores: Vec<_> = (0..100).map(|_| store()).collect();
    let before = hub.seen().cursor.encode();
    for (store, offset) in stores.iter().zip(0..) {
        happens(&hub, *store, offset);
        assert!(hub.kept.load(Ordering::Relaxed) <= 20_000);
    }
    assert!(hub.rooms.len() <= 20, "{}", hub.rooms.len());
    let last = *stores.last().unwrap();
    assert!(hub.there(last).is_some(), "the latest is kept");
    for store in &stores[..50] {
        assert!(!recovers(&hub, *store, &before), "it is forgotten");
    }
    hub.reading("cluster", "another", &[0]);
    assert_eq!(hub.kept.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_old_is_forgotten_and_so_is_what_a_deleted_store_said() {
    let hub = hub(Limits::default());
    let (old, deleted, quiet) = (store(), store(), store());
    let start = hub.seen().cursor.encode();
    happens(&hub, old, 0);
    let between = happens(&hub, deleted, 1);
    assert!(recovers(&hub, old, &start) && recovers(&hub, deleted, &start));
    hub.forget(deleted);
    assert!(hub.there(deleted).is_none() && !recovers(&hub, deleted, &start));
    hub.expire(Instant::now());
    assert!(hub.rooms.is_empty());
    assert_eq!(hub.kept.load(Ordering::Relaxed), 0);
    assert!(!recovers(&hub, old, &start) && !recovers(&hub, quiet, &start));
    assert!(recovers(&hub, old, &between) && recovers(&hub, quiet, &between));
}

#[test]
fn a_room_that_somebody_has_in_hand_is_not_waited_for() {
    let hub = Arc::new(hub(Limits::default()));
    let busy = store();
    let room = hub.room(busy);
    let in_hand = lock(&room);
    let (done, freed) = std::sync::mpsc::channel();
    let freeing = Arc::clone(&hub);
    std::thread::spawn(move || {
        freeing.free(busy);
        done.send(()).unwrap();
    });
    freed
        .recv_timeout(Duration::from_secs(10))
        .expect("it waits");
    drop(in_hand);
    assert!(hub.there(busy).is_some());
}
