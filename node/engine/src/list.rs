//! Listings: the objects a user has a relation to, and the users that have a relation to an object.
//!
//! Both walk from what is given along the tuples, never over all there are. What a walk reaches by unions alone is proven
//! by the walk; what it reaches otherwise is a candidate, and is checked like any question. So a listing says exactly which
//! objects checks of each would allow, and which users, but for those whom only a wildcard lets in.
//!
//! The depth limit is a check's and ListUsers', as upstream: it does not bound ListObjects, nor the checks of its candidates.
//!
//! A listing is a machine without I/O, as an evaluation is: over a view it is done at once or not at all, over a datastore it
//! goes on in rounds, over [`crate::RoundFacts`] that have grown.

use std::hash::Hash;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::check::Outcome;

mod closure;
mod objects;
mod users;

pub use objects::ListObjects;
pub use users::{ListUsers, UserFilter};

/// So much is asked for in one round; the rest in the next ones.
const READS_A_ROUND: usize = 1000;

/// Where a listing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Everything was said.
    Done,
    /// The receiver had enough.
    Enough,
    /// The facts do not say the rest; [`crate::Scratch::missed`] says what was missing.
    Unknown,
    /// Everything was said but what met the depth limit (OpenFGA's 2002).
    TooDeep,
    /// Everything was said but what rests on a condition without an answer (OpenFGA's 2000); [`crate::Scratch::fault`] says why.
    Unclear,
    /// The work budget was used up first.
    OutOfWork,
    /// The caller's interrupt ended it.
    Interrupted,
}

/// Whom a listing tells its findings, each once and in no particular order; `false` says that it is enough.
pub type Receiver<'a> = &'a mut dyn FnMut(&str) -> bool;

/// What a listing has found so far, by number.
struct Findings<T> {
    /// Each finding, and whether it was said.
    found: HashMap<T, bool, FixedState>,
    /// Not proven and not checked yet.
    candidates: Vec<T>,
    too_deep: bool,
    unclear: bool,
    enough: bool,
}

impl<T> Default for Findings<T> {
    fn default() -> Self {
        Self {
            found: HashMap::default(),
            candidates: Vec::new(),
            too_deep: false,
            unclear: false,
            enough: false,
        }
    }
}

impl<T: Copy + Eq + Hash> Findings<T> {
    /// Notes a finding; whether it is to be said.
    fn add(&mut self, finding: T, proven: bool) -> bool {
        match self.found.get_mut(&finding) {
            Some(said) => proven && !std::mem::replace(said, true),
            None => {
                self.found.insert(finding, proven);
                if !proven {
                    self.candidates.push(finding);
                }
                proven
            }
        }
    }

    /// Checks the candidates of now; what is allowed is given to `say`, what is unknown stays a candidate. Whether every one
    /// was looked at.
    fn check(
        &mut self,
        mut check: impl FnMut(T) -> Outcome,
        mut is_enough: impl FnMut() -> bool,
        mut say: impl FnMut(T) -> bool,
    ) -> bool {
        let mut unknown = Vec::new();
        let mut whole = true;
        while let Some(candidate) = self.candidates.pop() {
            if self.found.get(&candidate).copied().unwrap_or_default() {
                continue;
            }
            if self.enough || is_enough() {
                unknown.push(candidate);
                whole = false;
                break;
            }
            match check(candidate) {
                Outcome::Allowed => {
                    self.found.insert(candidate, true);
                    self.enough |= !say(candidate);
                }
                Outcome::Denied => {}
                Outcome::TooDeep => self.too_deep = true,
                Outcome::Unclear => self.unclear = true,
                Outcome::Unknown => unknown.push(candidate),
                Outcome::OutOfWork | Outcome::Interrupted => {
                    unknown.push(candidate);
                    whole = false;
                    break;
                }
            }
        }
        self.candidates.append(&mut unknown);
        whole
    }

    /// Where a listing stands that was not ended from outside and misses nothing.
    fn end(&self) -> Progress {
        if self.enough {
            Progress::Enough
        } else if self.unclear {
            Progress::Unclear
        } else if self.too_deep {
            Progress::TooDeep
        } else {
            Progress::Done
        }
    }
}

/// Where a listing stands that the budget ended.
fn stopped(by: Outcome) -> Progress {
    match by {
        Outcome::Interrupted => Progress::Interrupted,
        _ => Progress::OutOfWork,
    }
}
