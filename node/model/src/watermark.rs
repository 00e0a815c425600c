//! What a node at one position does with a change set at another. The one rule behind "applying a change twice, late or
//! after a restart changes nothing".

use crate::ids::{Position, Revision};

/// What is to be done with an incoming change set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// It is the next one.
    Apply,
    /// It is in already.
    Skip,
    /// Revisions before it are missing.
    Gap,
    /// It is of an older reign: another history.
    Fenced,
    /// It is of a newer reign: what is here may be of a history that was given up, and must be taken over anew.
    NewEpoch,
}

/// Compares a node's watermark of a store with an incoming change set. `have` with [`Revision::ZERO`] stands for a store
/// that the node does not know: it starts with revision 1, of any reign not older than `have`'s.
pub fn admit(have: Position, incoming: Position) -> Admit {
    if incoming.epoch < have.epoch {
        Admit::Fenced
    } else if incoming.epoch > have.epoch && have.revision != Revision::ZERO {
        Admit::NewEpoch
    } else if incoming.revision <= have.revision {
        Admit::Skip
    } else if incoming.revision == have.revision.next() {
        Admit::Apply
    } else {
        Admit::Gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_revision_of_the_same_reign_and_no_other() {
        let cases = [
            ((2, 5), (2, 6), Admit::Apply),
            ((2, 5), (2, 5), Admit::Skip),
            ((2, 5), (2, 1), Admit::Skip),
            ((2, 5), (2, 7), Admit::Gap),
            ((2, 5), (1, 6), Admit::Fenced),
            ((2, 5), (1, 900), Admit::Fenced),
            ((2, 5), (3, 6), Admit::NewEpoch),
            ((2, 5), (3, 2), Admit::NewEpoch),
            ((0, 0), (4, 1), Admit::Apply),
            ((0, 0), (4, 2), Admit::Gap),
            ((5, 0), (4, 1), Admit::Fenced),
            ((2, u64::MAX), (2, u64::MAX), Admit::Skip),
        ];
        for ((e, r), (ie, ir), expected) in cases {
            assert_eq!(
                admit(Position::new(e, r), Position::new(ie, ir)),
                expected,
                "{e}.{r} <- {ie}.{ir}"
            );
        }
    }
}
