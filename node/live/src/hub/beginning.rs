//! What a subscription begins with: all that it missed, or the last record, or nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::lock;
use crate::cursor::Cursor;
use crate::frames::{Frame, position_of, with_position};
use crate::history::Kept;
use crate::outbox::Given;
use crate::room::{Room, Subscription};

/// What a subscription begins with.
pub(crate) struct Beginning<'a> {
    /// Go on from this position.
    pub(crate) position: Option<&'a str>,
    /// Begin with the last record that is known.
    pub(crate) last: bool,
}

/// What is kept, and whether a subscription wants it.
pub(super) type Judged = HashMap<*const Kept, (Arc<Kept>, bool)>;

/// Holds what a subscription may begin with against its filter, while others go on: it may be all that is kept of a store.
pub(super) fn judged(
    room: &Mutex<Room>,
    subscription: &Subscription,
    beginning: &Beginning<'_>,
) -> Judged {
    if subscription.filter.is_none() {
        return Judged::new();
    }
    let there = beginning.position.and_then(Cursor::decode);
    let found: Vec<Arc<Kept>> = {
        let room = lock(room);
        let history = &room.history;
        let missed = there.and_then(|there| history.after(&subscription.object, &there.next));
        let last = history.last(&subscription.object);
        missed.into_iter().flatten().chain(last).cloned().collect()
    };
    let judge = |kept: Arc<Kept>| {
        let wants = subscription.wants(&kept);
        (Arc::as_ptr(&kept), (kept, wants))
    };
    found.into_iter().map(judge).collect()
}

/// How a subscription begins.
pub(super) struct Begun {
    /// Whether all that it missed is there, where that was asked for.
    pub(super) recovered: Option<bool>,
    /// Where its client stands once it knows that it is open: in front of the records.
    pub(super) position: String,
    pub(super) records: Vec<Given>,
}

/// What a subscription begins with; `None` where that would not leave its client's queue room enough.
pub(super) fn begin_with(
    room: &Room,
    subscription: &Subscription,
    beginning: &Beginning<'_>,
    (here, judged): (Option<&Cursor>, &Judged),
) -> Option<Begun> {
    let passes = |kept: &&Arc<Kept>| {
        let judged = judged.get(&Arc::as_ptr(kept)).map(|(_, passes)| *passes);
        judged.unwrap_or_else(|| subscription.wants(kept))
    };
    // The client's others had it, or have a beginning of their own.
    let Subscription { id, object, .. } = subscription;
    let given = |record: &Frame| Given::alone(record, id, object);
    let fits = |records: &Vec<Given>| subscription.outbox.has_room(records);
    let last = |recovered| {
        let last = room.history.last(object).filter(passes);
        let last = last.filter(|_| beginning.last);
        // It is the first of what comes: who does not get it comes back to it.
        let there = here.map(|here| last.map_or_else(|| here.clone(), |it| here.before(it.place)));
        let records = last.map(|kept| match &there {
            Some(there) => given(&seen_from(there, &kept.frame)),
            None => given(&kept.frame),
        });
        let records = Some(records.into_iter().collect()).filter(fits)?;
        Some(Begun {
            recovered,
            position: there.map(|there| there.encode()).unwrap_or_default(),
            records,
        })
    };
    let Some(position) = beginning.position else {
        return last(None);
    };
    // What this node has not read yet may be of another topic of that name.
    let there =
        Cursor::decode(position).filter(|there| here.is_some_and(|here| here.covers(there)));
    let missed = there.and_then(|there| {
        let missed = room.history.after(object, &there.next)?;
        let missed = missed.into_iter().filter(passes);
        let missed = missed.map(|kept| given(&seen_from(&there, &kept.frame)));
        Some(missed.collect())
    });
    match missed.filter(fits) {
        Some(missed) => Some(Begun {
            recovered: Some(true),
            position: match here {
                Some(here) if missed.is_empty() => here.encode(),
                // It is not there yet: what it missed follows.
                _ => position.to_owned(),
            },
            records: missed,
        }),
        None => last(Some(false)),
    }
}

/// A record as one gets it who had everything before `there`. Another node read the partitions in another order, so that the
/// record's own position may be behind that in some.
fn seen_from(there: &Cursor, record: &Frame) -> Frame {
    match position_of(record).and_then(Cursor::decode) {
        Some(own) if !own.covers(there) => with_position(record, &own.with(there).encode()),
        _ => record.clone(),
    }
}
