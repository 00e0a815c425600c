//! How often what waits is looked at.

use super::*;

const MANY: u64 = 2_000;

/// Of two subscriptions, the first of which is held.
fn queue() -> Queue {
    let mut queue = Queue::new(1_000);
    for sub in [1, 2] {
        let standing = Standing {
            id: "id".into(),
            object: object(sub),
            is_open: sub != 1,
            conflates: false,
        };
        queue.standing.insert(sub, standing);
    }
    queue
}

fn object(sub: Sub) -> Arc<str> {
    format!("event:{sub}").into()
}

fn given(sub: Sub) -> Given {
    Given {
        frame: "record".into(),
        names: [object(sub)].into(),
    }
}

/// Whether what is taken is a record.
fn takes_record(queue: &mut Queue, released: u64) -> bool {
    matches!(queue.take(released), Some(Taken::Record(_)))
}

#[test]
fn what_is_held_is_not_looked_at_with_each_further_record() {
    let mut queue = queue();
    for number in 1..=MANY {
        queue.put(given(1), 1, number);
        assert!(queue.take(number).is_none());
        // Pongs and another subscription's go past.
        queue.tell(What::Pong(None));
        assert!(matches!(queue.take(number), Some(Taken::Pong(None))));
        queue.put(given(2), 2, number);
        assert!(takes_record(&mut queue, number));
    }
    let most = usize::try_from(4 * MANY).unwrap();
    assert!(queue.looks <= most, "{} looks", queue.looks);
    assert_eq!(queue.records, usize::try_from(MANY).unwrap());
}

#[test]
fn each_that_is_let_go_is_looked_at_once() {
    let mut queue = queue();
    queue.standing.get_mut(&2).unwrap().is_open = false;
    for number in 1..=MANY {
        queue.put(given(1), 1, number);
        queue.put(given(2), 2, number);
        assert!(queue.take(number).is_none());
    }
    for (sub, most) in [(2, 2 * MANY), (1, MANY)] {
        queue.looks = 0;
        queue.resume(sub);
        for _ in 0..MANY {
            assert!(takes_record(&mut queue, MANY));
        }
        assert!(queue.take(MANY).is_none());
        let most = usize::try_from(most + 1).unwrap();
        assert!(queue.looks <= most, "{} looks", queue.looks);
    }
    assert_eq!((queue.len(), queue.records, queue.bytes), (0, 0, 0));
}
