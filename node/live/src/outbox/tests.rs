use super::*;

fn outbox() -> Outbox {
    let outbox = Outbox::new(8, 1000);
    for (sub, conflates) in [(1, false), (2, false), (3, true)] {
        outbox.reserve(sub, format!("event:{sub}").into(), conflates);
        assert!(outbox.open(sub, format!("open {sub}").into(), Vec::new()));
    }
    assert_eq!(all(&outbox), ["open 1", "open 2", "open 3"]);
    outbox
}

fn push(outbox: &Outbox, sub: Sub, object: &str, number: u64) -> Pushed {
    let (frame, object) = (format!("{object} {number}").into(), Arc::from(object));
    outbox.push(
        sub,
        &Addressed {
            frame: &frame,
            object: &object,
            number,
            may_repeat: true,
        },
    )
}

/// What the client gets now.
fn all(outbox: &Outbox) -> Vec<String> {
    let mut got = Vec::new();
    while let Next::Frame { frame, .. } = outbox.next() {
        got.push(frame.as_str().to_owned());
    }
    got
}

#[test]
fn a_paused_subscription_holds_its_records_and_nobody_elses() {
    let outbox = outbox();
    push(&outbox, 1, "a", 1);
    outbox.pause(1);
    push(&outbox, 2, "b", 2);
    push(&outbox, 1, "a", 3);
    assert_eq!(all(&outbox), ["b 2"]);
    outbox.resume(1);
    assert_eq!(all(&outbox), ["a 1", "a 3"]);
    push(&outbox, 1, "a", 4);
    outbox.pause(1);
    outbox.close(1, "closed".into());
    assert_eq!(all(&outbox), ["closed"]);
    assert_eq!(push(&outbox, 1, "a", 5), Pushed::Unwanted);
    assert!(outbox.has_room(4, 500), "what was dropped takes no room");
}

#[test]
fn a_record_of_several_subscriptions_comes_once_and_goes_by_any_that_is_open() {
    let outbox = outbox();
    assert_eq!(push(&outbox, 1, "a", 1), Pushed::Waits);
    assert_eq!(push(&outbox, 2, "a", 1), Pushed::Repeats);
    outbox.pause(1);
    assert_eq!(all(&outbox), ["a 1"]);
    assert_eq!(
        push(&outbox, 2, "a", 1),
        Pushed::Repeats,
        "it has gone already"
    );
    push(&outbox, 1, "a", 2);
    assert!(all(&outbox).is_empty());
    push(&outbox, 2, "a", 2);
    outbox.close(1, "closed".into());
    assert_eq!(all(&outbox), ["a 2", "closed"]);
}

#[test]
fn a_conflating_subscription_gets_the_latest_of_each_object() {
    let outbox = outbox();
    for (object, number) in [("a", 1), ("b", 2), ("a", 3), ("a", 4)] {
        push(&outbox, 3, object, number);
    }
    assert_eq!(all(&outbox), ["a 4", "b 2"]);
    push(&outbox, 3, "a", 5);
    assert_eq!(all(&outbox), ["a 5"]);
    push(&outbox, 3, "a", 6);
    outbox.close(3, "closed".into());
    assert_eq!(all(&outbox), ["closed"]);
}

#[test]
fn whoever_is_too_slow_is_told_how_much_was_lost() {
    let outbox = outbox();
    for number in 1..=8 {
        assert_eq!(push(&outbox, 1, "a", number), Pushed::Waits);
    }
    assert_eq!(push(&outbox, 1, "a", 9), Pushed::Overflowed);
    assert_eq!(outbox.next(), Next::End(End::Lagged(9)));
    outbox.end(End::Closing(Closing::Gone));
    assert_eq!(outbox.next(), Next::End(End::Lagged(9)), "the first counts");
    let outbox = self::outbox();
    push(&outbox, 1, &"x".repeat(600), 1);
    assert_eq!(push(&outbox, 1, &"x".repeat(600), 2), Pushed::Overflowed);
}

#[test]
fn what_has_no_place_any_longer_is_not_opened() {
    let outbox = outbox();
    outbox.reserve(4, "event:4".into(), false);
    outbox.close(4, "closed".into());
    assert!(!outbox.open(4, "open 4".into(), Vec::new()) && !outbox.knows(4));
    assert_eq!(all(&outbox), ["closed"]);
    outbox.end(End::Closing(Closing::Gone));
    outbox.reserve(5, "event:5".into(), false);
    outbox.tell("more".into());
    assert_eq!(outbox.next(), Next::End(End::Closing(Closing::Gone)));
}

/// The positions of the pongs and records that come now, by what they are.
fn positions(outbox: &Outbox) -> Vec<(String, Option<String>)> {
    let mut got = Vec::new();
    while let Next::Frame { frame, .. } = outbox.next() {
        let told: serde_json::Value = serde_json::from_str(frame.as_str()).unwrap();
        let what = told["object"].as_str().unwrap_or("pong").to_owned();
        got.push((what, told["position"].as_str().map(str::to_owned)));
    }
    got
}

fn told(what: &str, position: &str) -> (String, Option<String>) {
    let position = (!position.is_empty()).then(|| position.to_owned());
    (what.to_owned(), position)
}

fn push_record(outbox: &Outbox, sub: Sub, object: &str, number: u64) {
    let data = serde_json::value::to_raw_value(&number).unwrap();
    let record = Told::Record {
        object,
        objects: &[],
        position: &number.to_string(),
        at: String::new(),
        data: &data,
    };
    let (frame, object) = (record.frame(), Arc::from(object));
    outbox.push(
        sub,
        &Addressed {
            frame: &frame,
            object: &object,
            number,
            may_repeat: true,
        },
    );
}

#[test]
fn a_pong_that_passes_held_records_or_outlives_dropped_ones_has_no_position() {
    let outbox = outbox();
    let pong = |position: &str| outbox.pong(Some(position.to_owned()));
    push_record(&outbox, 1, "a", 1);
    pong("1");
    assert_eq!(positions(&outbox), [told("a", "1"), told("pong", "1")]);
    outbox.pause(1);
    pong("2");
    assert_eq!(positions(&outbox), [told("pong", "2")], "nothing is held");
    push_record(&outbox, 1, "a", 3);
    pong("3");
    assert_eq!(positions(&outbox), [told("pong", "")]);
    pong("4");
    outbox.resume(1);
    assert_eq!(positions(&outbox), [told("a", "3"), told("pong", "4")]);
    outbox.pause(1);
    pong("4");
    push_record(&outbox, 1, "a", 5);
    pong("5");
    outbox.close(1, r#"{"object":"closed"}"#.into());
    let expected = [told("pong", "4"), told("pong", ""), told("closed", "")];
    assert_eq!(positions(&outbox), expected);
}

#[test]
fn a_record_that_passes_held_ones_of_a_subscription_that_it_belongs_to_has_no_position() {
    let outbox = outbox();
    outbox.pause(1);
    push_record(&outbox, 1, "a", 1);
    push_record(&outbox, 2, "b", 2);
    push_record(&outbox, 1, "c", 3);
    push_record(&outbox, 2, "c", 3);
    assert_eq!(positions(&outbox), [told("b", "2"), told("c", "")]);
    outbox.resume(1);
    assert_eq!(positions(&outbox), [told("a", "1")]);
}

#[test]
fn a_later_record_in_an_earlier_ones_place_has_that_ones_position() {
    let outbox = outbox();
    for (object, number) in [("a", 1), ("b", 2), ("a", 3), ("a", 4)] {
        push_record(&outbox, 3, object, number);
    }
    assert_eq!(positions(&outbox), [told("a", "1"), told("b", "2")]);
    push_record(&outbox, 3, "a", 5);
    assert_eq!(positions(&outbox), [told("a", "5")]);
}

#[test]
fn last_words_are_neither_records_nor_pongs() {
    let outbox = outbox();
    push_record(&outbox, 1, "a", 1);
    outbox.pong(Some("1".to_owned()));
    outbox.tell("goodbye".into());
    assert_eq!(outbox.last_words(), [Frame::from("goodbye")]);
    assert_eq!(outbox.next(), Next::Nothing);
}
