//! What an evaluation remembers of the sets it has been at, and why that is sound.
//!
//! By the rules (OpenFGA's) a set that is met again on its own path is a cycle and false, so a set's value depends on the
//! path to it. Without memory a graph with many paths takes exponential time. What may be kept:
//!
//! - *True and false* are proofs that use no cycle; they hold on any path.
//! - *A cycle* came about by hitting sets on the path (its hits). It holds while those are on the path. When one of them
//!   is left and came out as a cycle too, the value still holds, resting on that one's own hits: the sets of such a knot
//!   all are cycles given that the others are, whichever of them is entered first. When one came out otherwise, the
//!   value is forgotten.
//! - *A set of possible values* (something was unknown) holds while all its hits are on the path. One of a set that was hit
//!   itself is forgotten: from elsewhere on its cycle more may be said of it.
//!
//! Nothing that met the depth limit is kept but proofs, and nothing is used where fewer steps are left than it took, so
//! the limit strikes exactly where it would without memory.
//!
//! The sets of a recursion are on no path but the first of them, and rest on none ([`crate::recursion`]).
//!
//! Where facts are read in rounds, what is certain and rests on no path outlasts its round: facts only grow. So do shortcuts
//! ([`crate::shortcuts`]).
//!
//! Hits are a bit set of path positions. A frame knows the one below it, so the topmost hit tells all the others.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::facts::SetKey;
use crate::shortcuts::Shortcuts;
use crate::value::Value;

/// Positions from here on share one bit; what rests on them is not kept.
const BEYOND: usize = 127;

/// A value, with what it rests on.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) value: Value,
    /// Positions on the path that were hit as cycles below here.
    hits: u128,
    /// The fewest steps that were left anywhere below here.
    pub(crate) fewest_left: u32,
}

impl Found {
    /// A value that rests on nothing but what was read, with so many steps left.
    pub(crate) fn plain(value: Value, left: u32) -> Self {
        Self {
            value,
            hits: 0,
            fewest_left: left,
        }
    }

    /// The depth limit, met by the length of the path itself.
    pub(crate) fn too_long() -> Self {
        Self::plain(Value::ERROR, 0)
    }

    /// This value, resting on what both branches rest on.
    pub(crate) fn with(self, value: Value, branch: Self) -> Self {
        Self {
            value,
            hits: self.hits | branch.hits,
            fewest_left: self.fewest_left.min(branch.fewest_left),
        }
    }

    fn is_proof(&self) -> bool {
        self.value == Value::TRUE || self.value == Value::FALSE
    }

    fn is_too_long_to_keep(&self) -> bool {
        self.hits >> BEYOND != 0
    }
}

/// The path to the set under evaluation, and values of sets evaluated before. Used again by later evaluations, so that
/// none of them allocates once it is warm.
#[derive(Default)]
pub(crate) struct Memory {
    path: Vec<Frame>,
    /// Every frame there was, by serial number.
    frames: Vec<Past>,
    kept: HashMap<SetKey, Kept, FixedState>,
    pub(crate) shortcuts: Shortcuts,
    /// Counts the rounds of one evaluation.
    round: u32,
}

#[derive(Clone, Copy)]
struct Frame {
    set: SetKey,
    serial: u32,
}

#[derive(Clone, Copy)]
struct Past {
    /// Serial number of the frame below.
    below: u32,
    end: End,
}

/// How a set on the path came out.
#[derive(Clone, Copy)]
enum End {
    /// It is still on the path.
    Open,
    /// As a cycle that rests on these hits below it, in so many steps.
    Cycle { hits: u128, height: u32 },
    /// As something else.
    Other,
}

#[derive(Clone, Copy)]
struct Kept {
    value: Value,
    hits: u128,
    /// The frame of the topmost hit.
    topmost: u32,
    /// The steps it took below its set.
    height: u32,
    round: u32,
}

impl Kept {
    /// Whether it holds in every round from its own on.
    fn lasts(&self) -> bool {
        self.hits == 0 && [Value::TRUE, Value::FALSE, Value::CYCLE].contains(&self.value)
    }
}

impl Memory {
    pub(crate) fn clear(&mut self) {
        self.next_round();
        self.kept.clear();
        self.shortcuts.clear();
        self.round = 0;
    }

    /// Forgets what more facts can make untrue.
    pub(crate) fn next_round(&mut self) {
        self.path.clear();
        self.frames.clear();
        self.round = self.round.saturating_add(1);
    }

    pub(crate) fn path_len(&self) -> usize {
        self.path.len()
    }

    /// The cycle that entering a set would close.
    pub(crate) fn cycle(&self, set: SetKey, left: u32) -> Option<Found> {
        let at = self.path.iter().position(|frame| frame.set == set)?;
        Some(Found {
            value: Value::CYCLE,
            hits: 1 << at.min(BEYOND),
            fewest_left: left,
        })
    }

    pub(crate) fn enter(&mut self, set: SetKey) {
        // More frames than that are beyond any budget of work.
        let serial = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        let below = self.path.last().map_or(0, |frame| frame.serial);
        self.frames.push(Past {
            below,
            end: End::Open,
        });
        self.path.push(Frame { set, serial });
    }

    /// Leaves the set entered last, of which `found` came out with `left` steps to go. `whole` unless the evaluation was
    /// ended early.
    pub(crate) fn leave(&mut self, mut found: Found, left: u32, whole: bool) -> Found {
        let Some(Frame { set, serial }) = self.path.pop() else {
            return found;
        };
        let place = self.path.len().min(BEYOND);
        // Met from within another set of its cycle, more may be said of it than here.
        let is_vague = found.hits & (1 << place) != 0 && !found.value.is_single();
        // A proof rests on no hit; and hits on this set itself end here.
        if found.is_proof() {
            found.hits = 0;
        } else if place < BEYOND {
            found.hits &= !(1 << place);
        }
        let holds = found.fewest_left > 0 && !found.is_too_long_to_keep() && !is_vague;
        let keep = whole && (found.is_proof() || holds);
        let (hits, height) = (found.hits, left.saturating_sub(found.fewest_left));
        if let Some(past) = self.frames.get_mut(serial as usize) {
            past.end = if keep && found.value == Value::CYCLE {
                End::Cycle { hits, height }
            } else {
                End::Other
            };
        }
        if keep {
            let topmost = topmost(hits)
                .and_then(|at| self.path.get(at))
                .map_or(0, |frame| frame.serial);
            let value = found.value;
            self.kept.insert(
                set,
                Kept {
                    value,
                    hits,
                    topmost,
                    height,
                    round: self.round,
                },
            );
        }
        found
    }

    /// Keeps the value of a set that rests on no path, found with `left` steps to go.
    pub(crate) fn keep(&mut self, set: SetKey, found: Found, left: u32) {
        if found.is_proof() || found.fewest_left > 0 {
            let kept = Kept {
                value: found.value,
                hits: 0,
                topmost: 0,
                height: left.saturating_sub(found.fewest_left),
                round: self.round,
            };
            self.kept.insert(set, kept);
        }
    }

    /// A set's kept value, if it holds here with `left` steps to go.
    pub(crate) fn recall(&mut self, set: SetKey, left: u32) -> Option<Found> {
        let mut kept = *self.kept.get(&set)?;
        let before = kept.hits;
        let is_current = kept.round == self.round || kept.lasts();
        if !is_current || !self.stands(&mut kept) {
            self.kept.remove(&set);
            return None;
        }
        if kept.hits != before {
            self.kept.insert(set, kept);
        }
        (left > kept.height).then(|| Found {
            value: kept.value,
            hits: kept.hits,
            fewest_left: left - kept.height,
        })
    }

    /// Whether a kept value holds on the path of now; moves its hits on from sets that came out as cycles.
    fn stands(&self, kept: &mut Kept) -> bool {
        while let Some(at) = topmost(kept.hits) {
            match self.frames.get(kept.topmost as usize).map(|past| past.end) {
                Some(End::Open) => return true,
                Some(End::Cycle { hits, height }) if kept.value == Value::CYCLE => {
                    // Entered anew, that set would be walked through: as far as it went, but never through more sets
                    // than were ever entered, since no path meets one twice.
                    let entered = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
                    kept.height = kept
                        .height
                        .saturating_add(height)
                        .min(entered.saturating_add(1));
                    let rest = (kept.hits & !(1 << at)) | hits;
                    if let Some(next) = topmost(rest) {
                        for _ in next..at {
                            kept.topmost = self
                                .frames
                                .get(kept.topmost as usize)
                                .map_or(0, |past| past.below);
                        }
                    }
                    kept.hits = rest;
                }
                _ => return false,
            }
        }
        true
    }
}

/// Position of the topmost hit.
fn topmost(hits: u128) -> Option<usize> {
    hits.checked_ilog2().map(|at| at as usize)
}
