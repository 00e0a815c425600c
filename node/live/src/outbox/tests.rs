use super::*;

/// Two subscriptions, and a third that conflates.
fn outbox() -> Outbox {
    let outbox = Outbox::new(8, 1000);
    for (sub, conflates) in [(1, false), (2, false), (3, true)] {
        outbox.reserve(sub, "id".into(), wanted(sub), conflates);
        assert!(outbox.open(sub, format!("open {sub}").into(), Vec::new()));
    }
    assert_eq!(all(&outbox), ["open 1", "open 2", "open 3"]);
    outbox
}

/// What a subscription is to.
fn wanted(sub: Sub) -> Arc<str> {
    format!("wanted:{sub}").into()
}

/// A record for one subscription, like "a 1".
fn push(outbox: &Outbox, sub: Sub, object: &str, number: u64) -> Pushed {
    let pushed = offer(outbox, &[sub], object, number);
    outbox.release(number);
    pushed[0]
}

/// A record for several subscriptions, which others may want besides.
fn offer(outbox: &Outbox, subs: &[Sub], object: &str, number: u64) -> Vec<Pushed> {
    let frame = format!("{object} {number}").into();
    offer_frame(outbox, (subs, subs), object, number, &frame)
}

/// A record for some subscriptions; it names what others are to, too.
fn offer_frame(
    outbox: &Outbox,
    (subs, named): (&[Sub], &[Sub]),
    object: &str,
    number: u64,
    frame: &Frame,
) -> Vec<Pushed> {
    let object = Arc::from(object);
    let names = std::iter::once(Arc::clone(&object));
    let names = names.chain(named.iter().map(|sub| wanted(*sub))).collect();
    let record = Addressed {
        frame,
        names: &names,
        object: &object,
        number,
    };
    let pushed = subs.iter().map(|sub| outbox.push(*sub, &record));
    pushed.collect()
}

/// A record for a subscription that missed it.
fn missed(frame: &str, sub: Sub) -> Given {
    Given {
        frame: frame.into(),
        names: [Arc::from("a"), wanted(sub)].into(),
    }
}

fn given(frame: &str) -> Given {
    missed(frame, 1)
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
    let half = vec![given(&"x".repeat(125)); 4];
    assert!(outbox.has_room(&half), "what was dropped takes no room");
}

#[test]
fn a_record_of_several_subscriptions_comes_once_and_goes_by_any_that_is_open() {
    let outbox = outbox();
    let pushed = offer(&outbox, &[1, 2], "a", 1);
    assert_eq!(pushed, [Pushed::Waits, Pushed::Repeats]);
    assert!(all(&outbox).is_empty(), "others may want it");
    outbox.release(1);
    outbox.pause(1);
    assert_eq!(all(&outbox), ["a 1"]);
    push(&outbox, 1, "a", 2);
    assert!(all(&outbox).is_empty());
    offer(&outbox, &[1, 2], "a", 3);
    outbox.release(3);
    outbox.close(1, "closed".into());
    assert_eq!(all(&outbox), ["closed", "a 3"]);
}

#[test]
fn no_record_goes_past_an_earlier_one_that_is_held_of_a_subscription_of_its_own() {
    let outbox = outbox();
    outbox.pause(1);
    push(&outbox, 1, "a", 1);
    push(&outbox, 2, "b", 2);
    offer(&outbox, &[1, 2], "a", 3);
    outbox.release(3);
    push(&outbox, 2, "b", 4);
    assert_eq!(
        all(&outbox),
        ["b 2"],
        "it waits for its own, and what comes behind it too"
    );
    outbox.resume(1);
    assert_eq!(all(&outbox), ["a 1", "a 3", "b 4"]);
}

#[test]
fn no_record_goes_past_a_held_one_of_a_subscription_that_the_client_counts_it_for() {
    let outbox = outbox();
    outbox.pause(1);
    push(&outbox, 1, "a", 1);
    // A filter kept it from the first, or it is replayed to the second.
    offer_frame(&outbox, (&[2], &[1, 2]), "a", 2, &"a 2".into());
    outbox.release(2);
    assert!(all(&outbox).is_empty());
    outbox.resume(1);
    assert_eq!(all(&outbox), ["a 1", "a 2"]);
}

/// Else the client would go on from the held one's position, and get the other again.
#[test]
fn no_record_goes_past_a_held_one_that_the_client_counts_for_the_same_subscription() {
    let outbox = outbox();
    outbox.pause(1);
    // A filter keeps it from the second, to whose object it belongs.
    offer_frame(&outbox, (&[1], &[1, 2]), "a", 1, &"a 1".into());
    offer(&outbox, &[2], "b", 2);
    offer(&outbox, &[3], "c", 3);
    outbox.release(3);
    assert_eq!(all(&outbox), ["c 3"]);
    outbox.resume(1);
    assert_eq!(all(&outbox), ["a 1", "b 2"]);
}

#[test]
fn what_ends_is_told_before_anything_goes_past_what_was_held_of_it() {
    let outbox = outbox();
    outbox.pause(1);
    push(&outbox, 1, "a", 1);
    offer(&outbox, &[2, 1], "a", 2);
    outbox.release(2);
    outbox.close(1, "closed".into());
    assert_eq!(all(&outbox), ["closed", "a 2"]);
    let outbox = self::outbox();
    outbox.pause(1);
    outbox.pause(3);
    // Held of another subscription too, so that it stays.
    offer(&outbox, &[1, 3], "a", 1);
    offer(&outbox, &[1, 2], "a", 2);
    outbox.release(2);
    outbox.close(1, "closed".into());
    assert_eq!(all(&outbox), ["closed", "a 2"]);
    outbox.resume(3);
    assert_eq!(all(&outbox), ["a 1"]);
}

#[test]
fn a_subscription_is_told_of_after_what_is_held_that_the_client_would_count_for_it() {
    let outbox = outbox();
    outbox.pause(1);
    offer_frame(&outbox, (&[1], &[1, 4]), "a", 1, &"a 1".into());
    outbox.release(1);
    for sub in [4, 5] {
        outbox.reserve(sub, "id".into(), wanted(sub), false);
        let records = vec![missed(&format!("missed {sub}"), sub)];
        assert!(outbox.open(sub, format!("open {sub}").into(), records));
    }
    assert_eq!(all(&outbox), ["open 5", "missed 5"]);
    outbox.resume(1);
    assert_eq!(all(&outbox), ["a 1", "open 4", "missed 4"]);
    // Where it ends before, that alone is told.
    outbox.pause(1);
    offer_frame(&outbox, (&[1], &[1, 6]), "a", 2, &"a 2".into());
    outbox.release(2);
    outbox.reserve(6, "id".into(), wanted(6), false);
    outbox.open(6, "open 6".into(), Vec::new());
    outbox.close(6, "closed".into());
    assert_eq!(all(&outbox), ["closed"]);
}

#[test]
fn what_a_plain_subscription_gets_too_comes_once_and_after_what_waited() {
    let outbox = outbox();
    push(&outbox, 3, "a", 1);
    push(&outbox, 3, "b", 2);
    let pushed = offer(&outbox, &[1, 3], "a", 3);
    assert_eq!(pushed, [Pushed::Waits, Pushed::Repeats]);
    outbox.release(3);
    assert_eq!(
        push(&outbox, 3, "a", 4),
        Pushed::Waits,
        "not in an earlier one's place"
    );
    assert_eq!(push(&outbox, 3, "a", 5), Pushed::Merged);
    assert_eq!(all(&outbox), ["a 1", "b 2", "a 3", "a 5"]);
    outbox.close(3, "closed".into());
    assert!(outbox.has_room(&[given(&"x".repeat(499))]));
    assert_eq!(all(&outbox), ["closed"]);
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
    push(&outbox, 1, &"x".repeat(400), 1);
    push(&outbox, 1, &"x".repeat(400), 2);
    assert_eq!(push(&outbox, 1, &"x".repeat(400), 3), Pushed::Overflowed);
}

#[test]
fn a_record_counts_as_half_of_the_queue_at_most() {
    let outbox = outbox();
    let large = "x".repeat(5000);
    for number in [1, 2] {
        assert_eq!(push(&outbox, 1, &large, number), Pushed::Waits);
    }
    assert!(!outbox.has_room(&[given(&large)]) && outbox.has_room(&[]));
    assert_eq!(all(&outbox).len(), 2);
    assert!(outbox.has_room(&[given(&large)]));
    for number in [3, 4] {
        push(&outbox, 1, &large, number);
    }
    assert_eq!(push(&outbox, 1, "a", 5), Pushed::Overflowed);
}

#[test]
fn what_has_no_place_any_longer_is_not_opened() {
    let outbox = outbox();
    outbox.reserve(4, "id".into(), wanted(4), false);
    outbox.close(4, "closed".into());
    assert!(!outbox.open(4, "open 4".into(), Vec::new()) && !outbox.knows(4));
    assert_eq!(all(&outbox), ["closed"]);
}

#[test]
fn where_everything_has_ended_nothing_begins_and_nobody_is_forgotten() {
    let outbox = outbox();
    outbox.end(End::Closing(Closing::Gone));
    outbox.reserve(5, "id".into(), wanted(5), false);
    assert!(!outbox.open(5, "open 5".into(), Vec::new()));
    assert!(!outbox.open(1, "open 1".into(), Vec::new()));
    assert!(outbox.knows(1), "its session has it leave");
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
    offer_frame(outbox, (&[sub], &[sub]), object, number, &record.frame());
    outbox.release(number);
}

#[test]
fn a_pong_that_passes_held_records_has_no_position() {
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
    // Who is told that it has ended first takes what follows for that of the others.
    let expected = [told("pong", "4"), told("closed", ""), told("pong", "5")];
    assert_eq!(positions(&outbox), expected);
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

#[test]
fn answers_that_wait_are_counted_and_weighed() {
    let outbox = outbox();
    for _ in 0..ANSWERS {
        assert!(!outbox.is_full_of_answers());
        outbox.tell("answer".into());
    }
    assert!(outbox.is_full_of_answers());
    outbox.next();
    assert!(!outbox.is_full_of_answers());
    all(&outbox);
    let half = || Frame::from("x".repeat(ANSWER_BYTES / 2));
    outbox.tell(half());
    outbox.pong(Some(half().to_string()));
    assert!(outbox.is_full_of_answers());
    all(&outbox);
    outbox.reserve(4, "id".into(), wanted(4), false);
    outbox.open(4, half(), Vec::new());
    outbox.tell(half());
    assert!(outbox.is_full_of_answers());
    outbox.close(4, "closed".into());
    assert!(!outbox.is_full_of_answers(), "that it is open is not told");
    outbox.last_words();
    outbox.tell(half());
    assert!(!outbox.is_full_of_answers());
}
