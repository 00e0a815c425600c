//! A listing under way, over a datastore or a view.

use meridian_condition::Context as Values;
use meridian_engine::{
    Budget, Facts, ListObjects, ListUsers, Program, Progress, Scratch, User, UserFilter,
};
use meridian_model::ApiError;
use meridian_model::ports::Read;

use super::question::{Begun, What};
use crate::commands::check::{too_complex, unclear};

/// A listing between two runs, all its own so that it can change threads.
pub(crate) struct Listing {
    what: What,
    context: Values,
    scratch: Scratch,
    machine: Option<Machine>,
    /// At most so many are said; 0 for all.
    most: usize,
    /// Found and not handed on yet, and how many were handed on.
    found: Vec<String>,
    handed: usize,
    more: bool,
}

enum Machine {
    Objects(Box<ListObjects>),
    Users(Box<ListUsers>),
}

/// What a listing came to.
pub(crate) struct Found {
    /// What was found and not handed on before.
    pub(crate) names: Vec<String>,
    /// Whether there may be more.
    pub(crate) truncated: bool,
}

impl Listing {
    /// Begins what is asked, over facts that know the names in the question; at most `most` are found, 0 for all there are.
    pub(crate) fn new(begun: Begun, facts: &impl Facts, program: &Program, most: usize) -> Self {
        let Begun {
            what,
            contextual,
            context,
        } = begun;
        let mut scratch = Scratch::default();
        let machine = match &what {
            What::Objects {
                object_type,
                relation,
                user,
            } => User::parse(user).ok().and_then(|user| {
                let of = (object_type.as_str(), relation.as_str());
                ListObjects::new(facts, program, of, &user, &contextual, &mut scratch)
                    .map(|listing| Machine::Objects(Box::new(listing)))
            }),
            What::Users {
                object,
                relation,
                filter: (object_type, of),
            } => {
                let filter = UserFilter {
                    object_type,
                    relation: of.as_deref(),
                };
                let asked = object.split_once(':').map_or("", |(of, _)| of);
                let of = (object.as_str(), asked, relation.as_str());
                ListUsers::new(facts, program, of, filter, &contextual, &mut scratch)
                    .map(|listing| Machine::Users(Box::new(listing)))
            }
        };
        Self {
            what,
            context,
            scratch,
            machine,
            most,
            found: Vec::new(),
            handed: 0,
            more: false,
        }
    }

    /// Goes as far as the facts and the budget go.
    pub(crate) fn go(
        &mut self,
        facts: &impl Facts,
        program: &Program,
        budget: Budget<'_>,
    ) -> Progress {
        let Self {
            what,
            context,
            scratch,
            machine,
            most,
            found,
            handed,
            more,
        } = self;
        let mut receiver = |name: &str| {
            *more = *most > 0 && *handed + found.len() >= *most;
            if !*more {
                found.push(name.to_owned());
            }
            !*more
        };
        match (machine, &*what) {
            (Some(Machine::Objects(listing)), What::Objects { user, .. }) => {
                let Ok(user) = User::parse(user) else {
                    return Progress::Done;
                };
                listing.go(
                    facts,
                    program,
                    &user,
                    context,
                    budget,
                    scratch,
                    &mut receiver,
                )
            }
            (Some(Machine::Users(listing)), _) => {
                listing.go(facts, program, context, budget, scratch, &mut receiver)
            }
            // Nothing has a name that only the question has.
            _ => Progress::Done,
        }
    }

    /// Takes what was found since the last time.
    pub(crate) fn hand_on(&mut self) -> Vec<String> {
        self.handed += self.found.len();
        std::mem::take(&mut self.found)
    }

    /// What the last run missed.
    pub(crate) fn missed(&self) -> &[Read] {
        self.scratch.missed()
    }

    /// What it came to, ended now; `None` where the facts do not say the rest.
    pub(crate) fn end(&mut self, progress: Progress) -> Option<Result<Found, ApiError>> {
        let truncated = match progress {
            Progress::Unknown => return None,
            Progress::TooDeep => return Some(Err(too_complex())),
            Progress::Unclear => return Some(Err(unclear(&self.scratch))),
            Progress::Done => self.more,
            Progress::Enough | Progress::OutOfWork | Progress::Interrupted => true,
        };
        Some(Ok(self.cut_short(truncated)))
    }

    /// What was found until now, `truncated` where there may be more.
    pub(crate) fn cut_short(&mut self, truncated: bool) -> Found {
        Found {
            names: std::mem::take(&mut self.found),
            truncated,
        }
    }
}
