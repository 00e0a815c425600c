//! What every adapter does alike: compare-and-set of replicated changes, and pages.

use std::time::Instant;

use meridian_model::change::{Change, ChangeSet};
use meridian_model::ids::{Position, Revision};
use meridian_model::ports::{Applied, DatastoreError, Page, Result};
use meridian_model::watermark::{Admit, admit};

/// What is to be done with a change set where the store stands at `have` (`None`: unknown here). The epoch is looked at
/// first, so that nothing of a deposed writer is ever taken for a duplicate or a gap.
pub(crate) fn verdict(have: Option<Position>, change_set: &ChangeSet) -> Applied {
    let Some(have) = have else {
        let creates = change_set.revision == Revision::ZERO.next()
            && matches!(change_set.changes.first(), Some(Change::StoreCreated(_)));
        return if creates {
            Applied::Applied
        } else {
            Applied::Gap {
                have: Position::default(),
            }
        };
    };
    match admit(have, change_set.position()) {
        Admit::Apply => Applied::Applied,
        Admit::Skip => Applied::Skipped,
        Admit::Gap => Applied::Gap { have },
        Admit::Fenced => Applied::Fenced { have },
        Admit::NewEpoch => Applied::NewEpoch { have },
    }
}

/// Those of change sets that are not in yet where the store stands at `have`, if the first of them is next.
///
/// # Errors
/// What is to be said otherwise.
pub(crate) fn following(
    have: Option<Position>,
    change_sets: &[ChangeSet],
) -> std::result::Result<&[ChangeSet], Applied> {
    let mut sets = change_sets;
    while let Some((first, rest)) = sets.split_first() {
        match verdict(have, first) {
            Applied::Applied if follow_each_other(sets) => return Ok(sets),
            Applied::Applied => {
                let have = have.unwrap_or_default();
                return Err(Applied::Gap { have });
            }
            Applied::Skipped => sets = rest,
            other => return Err(other),
        }
    }
    Err(Applied::Skipped)
}

fn follow_each_other(sets: &[ChangeSet]) -> bool {
    sets.iter().zip(sets.iter().skip(1)).all(|(one, next)| {
        one.store == next.store && admit(one.position(), next.position()) == Admit::Apply
    })
}

/// A page of at most `limit` from rows of which one more than `limit` was asked for.
pub(crate) fn page<T, C>(mut rows: Vec<T>, limit: u32, cursor: impl Fn(&T) -> C) -> Page<T, C> {
    let limit = limit as usize;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map(cursor) } else { None };
    Page { items: rows, next }
}

/// Fails when the deadline has passed.
pub(crate) fn check_deadline(deadline: Instant) -> Result<()> {
    if Instant::now() >= deadline {
        Err(DatastoreError::DeadlineExceeded)
    } else {
        Ok(())
    }
}
