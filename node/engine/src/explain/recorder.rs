//! What an evaluation told, with what decides nothing left out.
//!
//! What is true or false is a proof, and a cycle rests on the path to it: a proof is kept, whatever is found later on another path,
//! and what has no answer replaces neither. Of several proofs the last one is kept, as the evaluation itself does
//! ([`crate::memory`]): it looks for another one only where the depth limit leaves fewer steps than the known one takes. So none
//! rests on itself, and all of them together keep to the limit.

use std::cell::RefCell;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::facts::SetKey;
use crate::program::Node;
use crate::sets::Subject;
use crate::symbols::RelationId;
use crate::trace::{Plain, Trace};
use crate::value::Value;

/// Takes down what an evaluation tells.
#[derive(Default)]
pub(super) struct Recorder(RefCell<State>);

pub(super) type Records = HashMap<SetKey, Record, FixedState>;

/// What was found out about a set.
pub(super) struct Record {
    pub(super) value: Value,
    pub(super) branch: Branch,
}

/// What decides a set or a part of a rewrite.
#[derive(Debug)]
pub(super) enum Branch {
    Plain(Plain),
    /// The user or its wildcard stands in the set.
    Tuple(SetKey, Subject),
    /// A tuple of the set is there, but not its condition.
    Unmet(SetKey, Subject),
    Lead {
        by: By,
        to: SetKey,
        /// `None` for one of the same recursion.
        value: Option<Value>,
    },
    NoTuple(SetKey),
    /// All of them fail.
    Any(Vec<Self>),
    /// All, or one that fails.
    All(Vec<Self>),
    /// `base but not subtract`.
    But(Option<Box<Self>>, Option<Box<Self>>),
    /// It has no answer, which does not matter; or it was never told.
    Undecided,
}

/// By what one set leads to another.
#[derive(Debug, Clone, Copy)]
pub(super) enum By {
    Computed,
    /// A tuple of this set names the other.
    Userset(SetKey),
    /// A tuple of this set names the parent.
    Parent(SetKey),
}

#[derive(Default)]
struct State {
    /// Under evaluation, the innermost last.
    sets: Vec<SetKey>,
    parts: Vec<Part>,
    records: Records,
    /// Of sets of recursions that are looked at: what they have of their own, and where they lead.
    pending: HashMap<SetKey, Branch, FixedState>,
    /// Through a recursion to where the user is.
    way: Vec<SetKey>,
    /// Where the last one on it leads, if not to itself.
    end_of_way: Option<SetKey>,
}

/// A part of a rewrite under evaluation.
struct Part {
    kind: Kind,
    branches: Vec<(Branch, Value)>,
}

#[derive(Clone, Copy)]
enum Kind {
    Own,
    Computed,
    Parents(RelationId),
    Union,
    Intersection,
    Exclusion,
    /// A set with its rewrite.
    Set,
}

impl Recorder {
    pub(super) fn records(self) -> Records {
        self.0.into_inner().records
    }

    fn with<T>(&self, run: impl FnOnce(&mut State) -> T) -> T {
        run(&mut self.0.borrow_mut())
    }
}

impl Trace for &Recorder {
    fn enter(&self, set: SetKey) {
        self.with(|state| {
            state.sets.push(set);
            state.begin(Kind::Set);
        });
    }

    fn leave(&self, value: Value) {
        self.with(|state| {
            let part = state.parts.pop();
            let Some(set) = state.sets.pop() else { return };
            let found = part.and_then(|mut part| part.branches.pop());
            let branch = found.map_or(Branch::Undecided, |(branch, _)| branch);
            if value != Value::TRUE && branch.is_pending() {
                state.pending.insert(set, branch);
            } else {
                state.keep(set, Record { value, branch });
            }
        });
    }

    fn plain(&self, set: SetKey, what: Plain) {
        let record = Record {
            value: Value::of(what == Plain::Itself),
            branch: Branch::Plain(what),
        };
        self.with(|state| state.keep(set, record));
    }

    fn begin(&self, node: &Node) {
        let kind = match node {
            Node::This => Kind::Own,
            Node::Computed(_) => Kind::Computed,
            Node::FromParent { tupleset, .. } => Kind::Parents(*tupleset),
            Node::Union(_) => Kind::Union,
            Node::Intersection(_) => Kind::Intersection,
            Node::Exclusion(_) => Kind::Exclusion,
        };
        self.with(|state| state.begin(kind));
    }

    fn end(&self, value: Value) {
        self.with(|state| {
            let of = state.of();
            if let Some(part) = state.parts.pop() {
                state.push(part.decided(value, of), value);
            }
        });
    }

    fn impossible(&self) {
        self.with(|state| state.push(Branch::Plain(Plain::Impossible), Value::FALSE));
    }

    fn tuple(&self, subject: Subject, value: Value) {
        if value == Value::TRUE {
            self.with(|state| {
                if let Some(of) = state.of() {
                    state.push(Branch::Tuple(of, subject), value);
                }
            });
        }
    }

    fn unmet(&self, subject: Subject) {
        self.with(|state| {
            if let Some(of) = state.of() {
                state.push(Branch::Unmet(of, subject), Value::FALSE);
            }
        });
    }

    fn lead(&self, to: SetKey, value: Option<Value>) {
        self.with(|state| {
            let (Some(of), Some(part)) = (state.of(), state.parts.last()) else {
                return;
            };
            let by = match part.kind {
                Kind::Own => By::Userset(of),
                Kind::Parents(_) => By::Parent(of),
                _ => By::Computed,
            };
            let branch = Branch::Lead { by, to, value };
            state.push(branch, value.unwrap_or(Value::FALSE));
        });
    }

    fn settle(&self, set: SetKey, value: Value) {
        self.with(|state| {
            if let Some(branch) = state.pending.remove(&set) {
                state.keep(set, Record { value, branch });
            }
        });
    }

    fn met(&self, to: SetKey, value: Value) {
        if value == Value::TRUE {
            self.with(|state| state.end_of_way = Some(to));
        }
    }

    fn on_way(&self, set: SetKey) {
        self.with(|state| state.way.push(set));
    }

    fn arrived(&self) {
        self.with(State::arrived);
    }
}

impl State {
    fn begin(&mut self, kind: Kind) {
        self.parts.push(Part {
            kind,
            branches: Vec::new(),
        });
    }

    fn push(&mut self, branch: Branch, value: Value) {
        if let Some(part) = self.parts.last_mut() {
            part.branches.push((branch, value));
        }
    }

    /// The set whose tuples are looked at.
    fn of(&self) -> Option<SetKey> {
        let set = *self.sets.last()?;
        Some(match self.parts.last()?.kind {
            Kind::Parents(tupleset) => SetKey::new(set.object(), tupleset),
            _ => set,
        })
    }

    fn keep(&mut self, set: SetKey, record: Record) {
        let known = self.records.get(&set);
        if !known.is_some_and(|known| known.outlasts(&record)) {
            self.records.insert(set, record);
        }
    }

    /// Each set on the way holds by the next one, and the last one by itself or by where it leads.
    fn arrived(&mut self) {
        let end = self.end_of_way.take();
        let way = std::mem::take(&mut self.way);
        let next = way.iter().skip(1).copied().chain(end);
        for (set, next) in way.iter().zip(next) {
            let branch = self.pending.remove(set);
            let lead = branch.and_then(|branch| branch.lead_to(next));
            let value = Value::TRUE;
            if let Some(by) = lead {
                let branch = Branch::Lead {
                    by,
                    to: next,
                    value: Some(value),
                };
                self.keep(*set, Record { value, branch });
            }
        }
    }
}

impl Record {
    /// Whether it is known to hold, or to fail by no cycle.
    pub(super) fn is_proof(&self) -> bool {
        self.value == Value::TRUE || self.value == Value::FALSE
    }

    fn outlasts(&self, later: &Self) -> bool {
        let decided = |record: &Self| record.value.decided().is_some();
        (self.is_proof() && !later.is_proof()) || (decided(self) && !decided(later))
    }
}

impl Part {
    /// What is left of a part that came to `value`. Its tuples, if it has any, are those `of` a set.
    fn decided(self, value: Value, of: Option<SetKey>) -> Branch {
        match self.kind {
            Kind::Intersection => self.all(value),
            Kind::Exclusion => self.but(value),
            Kind::Own | Kind::Parents(_) if self.branches.is_empty() => {
                of.map_or(Branch::Undecided, Branch::NoTuple)
            }
            _ => self.any(value),
        }
    }

    /// The one that holds, or all of them.
    fn any(self, value: Value) -> Branch {
        if value == Value::TRUE {
            return one(self.branches, |of| of == Value::TRUE);
        }
        let mut all = Vec::with_capacity(self.branches.len());
        for (branch, _) in self.branches {
            match branch {
                Branch::Any(of) => all.extend(of),
                branch => all.push(branch),
            }
        }
        match all.pop() {
            Some(only) if all.is_empty() => only,
            last => {
                all.extend(last);
                Branch::Any(all)
            }
        }
    }

    fn all(self, value: Value) -> Branch {
        if value == Value::TRUE || value == Value::CYCLE {
            return Branch::All(self.branches.into_iter().map(|(of, _)| of).collect());
        }
        if value.decided().is_none() {
            return Branch::Undecided;
        }
        let has_plain = self.branches.iter().any(|(_, of)| *of == Value::FALSE);
        let decides = |of: Value| match has_plain {
            true => of == Value::FALSE,
            false => of.decided() == Some(false),
        };
        Branch::All(vec![one(self.branches, decides)])
    }

    fn but(self, value: Value) -> Branch {
        let mut branches = self.branches.into_iter();
        let (base, subtract) = (branches.next(), branches.next());
        let boxed = |of: Option<(Branch, Value)>| of.map(|(branch, _)| Box::new(branch));
        if value == Value::TRUE || value == Value::CYCLE {
            return Branch::But(boxed(base), boxed(subtract));
        }
        if value.decided().is_none() {
            return Branch::Undecided;
        }
        let base_is = base.as_ref().map_or(Value::UNKNOWN, |(_, of)| *of);
        let subtract_is = subtract.as_ref().map_or(Value::UNKNOWN, |(_, of)| *of);
        let by_base = base_is == Value::FALSE
            || (subtract_is != Value::TRUE && base_is.decided() == Some(false));
        if by_base {
            Branch::But(boxed(base), None)
        } else {
            Branch::But(None, boxed(subtract))
        }
    }
}

/// The first branch of such a value.
fn one(branches: Vec<(Branch, Value)>, is_it: impl Fn(Value) -> bool) -> Branch {
    let found = branches.into_iter().find(|(_, value)| is_it(*value));
    found.map_or(Branch::Undecided, |(branch, _)| branch)
}

impl Branch {
    /// Whether it leads on within a recursion. Nothing but unions stands above where it does.
    fn is_pending(&self) -> bool {
        match self {
            Self::Lead { value, .. } => value.is_none(),
            Self::Any(of) => of.iter().any(Self::is_pending),
            _ => false,
        }
    }

    /// By what it leads to a set of its recursion.
    fn lead_to(&self, set: SetKey) -> Option<By> {
        match self {
            Self::Lead { by, to, .. } if *to == set => Some(*by),
            Self::Any(of) => of.iter().find_map(|of| of.lead_to(set)),
            _ => None,
        }
    }
}
