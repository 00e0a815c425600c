//! An explanation by names, as large as is asked for.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use super::recorder::{Branch, By, Records};
use super::{Because, Explanation, NamedTuple, Step, Verdict};
use crate::facts::{Facts, SetKey, SetRef};
use crate::overlay::Overlay;
use crate::sets::Subject;
use crate::trace::Plain;
use crate::value::Value;

/// Operators within one another that an explanation shows at most: readers of JSON have limits.
const MAX_NESTED: usize = 32;

/// Names what was recorded, from the asked set on.
pub(super) struct Naming<'a, F> {
    facts: &'a F,
    overlay: &'a Overlay,
    records: Records,
    /// How many parts there is room for.
    left: usize,
    truncated: bool,
    met: HashSet<SetKey, FixedState>,
    /// Sets to be named: those that hold, then the others.
    holding: VecDeque<SetKey>,
    failing: VecDeque<SetKey>,
}

impl<'a, F: Facts> Naming<'a, F> {
    pub(super) fn new(facts: &'a F, overlay: &'a Overlay, records: Records, size: usize) -> Self {
        Self {
            facts,
            overlay,
            records,
            left: size,
            truncated: false,
            met: HashSet::default(),
            holding: VecDeque::new(),
            failing: VecDeque::new(),
        }
    }

    pub(super) fn knows(&self, set: SetKey) -> bool {
        self.records.contains_key(&set)
    }

    /// Explains the asked set.
    pub(super) fn explain(mut self, asked: SetKey, allowed: bool) -> Explanation {
        let mut steps = Vec::new();
        self.lead_on(asked);
        while let Some(set) = self.next() {
            if self.left == 0 {
                self.truncated = true;
                break;
            }
            // Each set is met once, so its record is needed no more.
            if let Some(record) = self.records.get_mut(&set) {
                let branch = std::mem::replace(&mut record.branch, Branch::Undecided);
                let verdict = verdict(record.value);
                steps.push(Step {
                    set: self.set(set),
                    verdict,
                    because: self.because(&branch, 0),
                });
            }
        }
        Explanation {
            allowed,
            steps,
            truncated: self.truncated,
        }
    }

    fn next(&mut self) -> Option<SetKey> {
        let holding = self.holding.pop_front();
        holding.or_else(|| self.failing.pop_front())
    }

    /// Has a set named after those before it.
    fn lead_on(&mut self, set: SetKey) {
        let Some(record) = self.records.get(&set) else {
            self.truncated = true;
            return;
        };
        if self.met.insert(set) {
            if record.value == Value::TRUE {
                self.holding.push_back(set);
            } else {
                self.failing.push_back(set);
            }
        }
    }

    fn because(&mut self, branch: &Branch, nested: usize) -> Because {
        if self.left == 0 || nested > MAX_NESTED {
            self.truncated = true;
            return Because::LeftOut;
        }
        self.left -= 1;
        match branch {
            Branch::Plain(Plain::Itself) => Because::Itself,
            Branch::Plain(Plain::Undefined) => Because::Undefined,
            Branch::Plain(Plain::Impossible) => Because::ImpossibleUser,
            Branch::Tuple(of, subject) => self.own_tuple(*of, *subject),
            Branch::Unmet(of, subject) => Because::ConditionNotMet {
                tuple: self.tuple(*of, *subject),
            },
            Branch::Lead { by, to, value } => self.lead(*by, *to, *value),
            Branch::NoTuple(of) => Because::NoTuple { of: self.set(*of) },
            Branch::Any(of) => Because::AnyOf {
                branches: self.branches(of, nested),
            },
            Branch::All(of) => Because::AllOf {
                branches: self.branches(of, nested),
            },
            Branch::But(base, subtract) => {
                let mut named = |of: &Option<Box<Branch>>| {
                    let of = of.as_ref()?;
                    Some(Box::new(self.because(of, nested + 1)))
                };
                Because::ButNot {
                    base: named(base),
                    subtract: named(subtract),
                }
            }
            Branch::Undecided => Because::NoAnswer,
        }
    }

    fn branches(&mut self, of: &[Branch], nested: usize) -> Vec<Because> {
        let mut named = Vec::new();
        for branch in of {
            if self.left == 0 {
                self.truncated = true;
                break;
            }
            named.push(self.because(branch, nested + 1));
        }
        named
    }

    fn lead(&mut self, by: By, to: SetKey, value: Option<Value>) -> Because {
        // What was a cycle on one path may have been proven on another.
        let record = self.records.get(&to);
        let proven = record.filter(|record| record.is_proof() || value.is_none());
        let value = proven.map(|record| record.value).or(value);
        let verdict = verdict(value.unwrap_or(Value::UNKNOWN));
        if verdict != Verdict::NoAnswer {
            self.lead_on(to);
        }
        let leads_to = self.set(to);
        match by {
            By::Computed => Because::Computed { leads_to, verdict },
            By::Userset(of) => Because::Userset {
                tuple: self.tuple(of, Subject::Userset(to)),
                leads_to,
                verdict,
            },
            By::Parent(of) => Because::Parent {
                tuple: self.tuple(of, Subject::Object(to.object())),
                leads_to,
                verdict,
            },
        }
    }

    fn own_tuple(&self, of: SetKey, subject: Subject) -> Because {
        let tuple = self.tuple(of, subject);
        match subject {
            Subject::Object(id) if self.overlay.is_wildcard(self.facts, id) => {
                Because::Wildcard { tuple }
            }
            _ => Because::Tuple { tuple },
        }
    }

    fn tuple(&self, of: SetKey, subject: Subject) -> NamedTuple {
        let given = self.overlay.find(of, subject);
        let condition = match given {
            Some(given) => given
                .binding
                .as_ref()
                .map(|of| of.stored().name.to_string()),
            None => self.condition(of, subject),
        };
        NamedTuple {
            object: self.overlay.name(self.facts, of.object()).to_owned(),
            relation: self.relation(of).to_owned(),
            user: match subject {
                Subject::Object(id) => self.overlay.name(self.facts, id).to_owned(),
                Subject::Userset(set) => self.set(set),
            },
            condition,
            contextual: given.is_some(),
        }
    }

    /// The name of the condition on a stored tuple.
    fn condition(&self, of: SetKey, subject: Subject) -> Option<String> {
        let object_type = self.overlay.type_of(self.facts, of.object())?;
        let binding = |set: SetRef<'_>| {
            let binding = set.binding(subject)?;
            Some(binding.stored().name.to_string())
        };
        // Over a datastore one or the other was read.
        let direct = self.facts.direct(object_type, of).and_then(binding);
        direct.or_else(|| self.facts.parents(object_type, of).and_then(binding))
    }

    fn set(&self, set: SetKey) -> String {
        let object = self.overlay.name(self.facts, set.object());
        format!("{object}#{}", self.relation(set))
    }

    fn relation(&self, set: SetKey) -> &str {
        self.facts.symbols().relation_name(set.relation())
    }
}

fn verdict(value: Value) -> Verdict {
    match value {
        Value::TRUE => Verdict::Holds,
        Value::FALSE => Verdict::Fails,
        value if value.decided().is_some() => Verdict::Cycle,
        _ => Verdict::NoAnswer,
    }
}
