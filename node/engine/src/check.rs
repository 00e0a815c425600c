//! The evaluator: one question over part of a store.
//!
//! It walks the model from the asked relation down, as OpenFGA's resolver does: a set that is already on the path is a
//! cycle and false; each step through a userset or a parent takes one from the depth limit of 25; computed relations
//! take none. What is outside the facts' coverage has every value ([`crate::value`]), and the read is noted.
//!
//! Within one evaluation values are kept and used again ([`crate::memory`]), or graphs with many paths would take
//! exponential time.
//!
//! **What ends it.** A budget of work, counted in sets visited and members walked, and the caller's interrupt, polled
//! along the way: a hostile model costs its own caller a bounded time and nobody else any.

use meridian_model::ports::Read;
use meridian_model::tuple::TupleKey;

use crate::facts::{Facts, ObjectId, SetKey, SetRef};
use crate::memory::{Found, Memory};
use crate::overlay::{Asked, Overlay};
use crate::program::{Node, Program, Relation};
use crate::question::Question;
use crate::sets::Subject;
use crate::symbols::{RelationId, TypeId};
use crate::value::Value;

/// How many units of work pass between two polls of the interrupt.
const POLL_EVERY: u64 = 1024;
/// Sets on one path at most, computed relations included: keeps hostile models off the end of the stack.
const MAX_PATH: usize = 512;
/// Rewrites under evaluation at a time, those within one relation included, for the same reason.
const MAX_NESTED: u32 = 1_500;

/// What an evaluation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The subject has the relation.
    Allowed,
    /// It has not.
    Denied,
    /// The facts do not decide it; [`Scratch::missed`] says what was missing.
    Unknown,
    /// The depth limit was met (OpenFGA's 2002).
    TooDeep,
    /// The work budget was used up first.
    OutOfWork,
    /// The caller's interrupt ended it.
    Interrupted,
}

/// Bounds of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Steps through usersets and parents, the asked relation included.
    pub depth: u32,
    /// Sets visited and members walked.
    pub work: u64,
}

impl Default for Limits {
    /// OpenFGA's depth limit of 25, and work for about a second.
    fn default() -> Self {
        Self {
            depth: 25,
            work: 20_000_000,
        }
    }
}

/// What ends an evaluation: its limits, and an interrupt that is polled along the way (a deadline, a caller gone).
#[derive(Clone, Copy)]
pub struct Budget<'a> {
    /// The bounds.
    pub limits: Limits,
    /// Says when to give up.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Budget<'static> {
    /// Bounds alone.
    pub fn of(limits: Limits) -> Self {
        Self {
            limits,
            interrupted: &|| false,
        }
    }
}

/// Memory that evaluations use again, so that none of them allocates once it is warm.
#[derive(Default)]
pub struct Scratch {
    overlay: Overlay,
    memory: Memory,
    missed: Vec<(SetKey, Missing)>,
    reads: Vec<Read>,
}

impl Scratch {
    /// After [`Outcome::Unknown`]: what was read outside coverage, each once.
    pub fn missed(&self) -> &[Read] {
        &self.reads
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Missing {
    Direct,
    Parents,
}

/// Evaluates one question. `contextual` tuples are laid over the facts; the caller has validated them and the question
/// against the model that `program` was compiled from.
pub fn check<F: Facts>(
    facts: &F,
    program: &Program,
    question: &Question<'_>,
    contextual: &[TupleKey],
    budget: Budget<'_>,
    scratch: &mut Scratch,
) -> Outcome {
    scratch.overlay.clear();
    scratch.memory.clear();
    scratch.missed.clear();
    scratch.reads.clear();
    let overlay = &mut scratch.overlay;
    if !contextual.is_empty() {
        overlay.add(facts, contextual);
    }
    let symbols = facts.symbols();
    let (Some(object_type), Some(relation)) = (
        symbols.object_type(question.object_type()),
        symbols.relation(question.relation()),
    ) else {
        return Outcome::Denied;
    };
    let (Some(asked), Some(object)) = (
        overlay.ask(facts, question),
        overlay.object(facts, question.object()),
    ) else {
        return Outcome::Denied;
    };
    let mut evaluation = Evaluation {
        facts,
        program,
        asked,
        budget,
        scratch,
        work: 0,
        nested: 0,
        stopped: None,
    };
    let found = evaluation.set(object, object_type, relation, budget.limits.depth);
    let stopped = evaluation.stopped;
    match (found.value.decided(), stopped) {
        // Branches were left out, so the value says nothing: below an exclusion even a yes turns into a no.
        (_, Some(stopped)) => stopped,
        (Some(true), None) => Outcome::Allowed,
        (Some(false), None) => Outcome::Denied,
        (None, None) if found.value == Value::ERROR => Outcome::TooDeep,
        (None, None) => {
            scratch.name_missed(facts);
            Outcome::Unknown
        }
    }
}

impl Scratch {
    fn name_missed(&mut self, facts: &impl Facts) {
        self.missed.sort_unstable();
        self.missed.dedup();
        for (set, missing) in &self.missed {
            let Ok(object) = self.overlay.name(facts, set.object()).parse() else {
                continue;
            };
            let relation = facts.symbols().relation_name(set.relation()).into();
            self.reads.push(match missing {
                Missing::Direct => Read::Direct { object, relation },
                Missing::Parents => Read::Parents { object, relation },
            });
        }
    }
}

struct Evaluation<'a, F> {
    facts: &'a F,
    program: &'a Program,
    asked: Asked,
    budget: Budget<'a>,
    scratch: &'a mut Scratch,
    work: u64,
    nested: u32,
    stopped: Option<Outcome>,
}

impl<F: Facts> Evaluation<'_, F> {
    /// The value of a set for the asked subject, with `left` steps to go.
    fn set(
        &mut self,
        object: ObjectId,
        object_type: TypeId,
        relation: RelationId,
        left: u32,
    ) -> Found {
        let key = SetKey::new(object, relation);
        let plain = |value| Found::plain(value, left);
        if left == 0 {
            return plain(Value::ERROR);
        }
        if let Some(cycle) = self.scratch.memory.cycle(key, left) {
            return cycle;
        }
        if self.asked.userset == Some(key) {
            return plain(Value::TRUE);
        }
        let Some(definition) = self.program.relation(object_type, relation) else {
            return plain(Value::FALSE);
        };
        if !self.spend() {
            return plain(Value::UNKNOWN);
        }
        if definition.leaf {
            let stored = self.facts.direct(object_type, key);
            return plain(self.direct(definition, key, stored));
        }
        if let Some(found) = self.scratch.memory.recall(key, left) {
            return found;
        }
        if self.scratch.memory.path_len() >= MAX_PATH {
            return Found::too_long();
        }
        self.scratch.memory.enter(key);
        let found = self.rewrite(&definition.rewrite, definition, object_type, key, left);
        self.scratch
            .memory
            .leave(found, left, self.stopped.is_none())
    }

    fn rewrite(
        &mut self,
        node: &Node,
        definition: &Relation,
        object_type: TypeId,
        key: SetKey,
        left: u32,
    ) -> Found {
        if self.nested >= MAX_NESTED {
            return Found::too_long();
        }
        self.nested += 1;
        let found = self.rewrite_node(node, definition, object_type, key, left);
        self.nested -= 1;
        found
    }

    fn rewrite_node(
        &mut self,
        node: &Node,
        definition: &Relation,
        object_type: TypeId,
        key: SetKey,
        left: u32,
    ) -> Found {
        match node {
            Node::This => self.this(definition, object_type, key, left),
            Node::Computed(relation) => self.set(key.object(), object_type, *relation, left),
            Node::FromParent { tupleset, computed } => {
                self.at_parents(object_type, key.object(), *tupleset, *computed, left)
            }
            Node::Union(children) => {
                let mut all = Sum::union(left);
                for child in children {
                    let found = self.rewrite(child, definition, object_type, key, left);
                    if all.add(found) || self.stopped.is_some() {
                        break;
                    }
                }
                all.found
            }
            Node::Intersection(children) => {
                let mut all = Sum::intersection(left);
                for child in children {
                    let found = self.rewrite(child, definition, object_type, key, left);
                    if all.add(found) || self.stopped.is_some() {
                        break;
                    }
                }
                all.found
            }
            Node::Exclusion(of) => {
                let mut both = Sum::intersection(left);
                if !both.add(self.rewrite(&of.0, definition, object_type, key, left)) {
                    let mut subtract = self.rewrite(&of.1, definition, object_type, key, left);
                    subtract.value = subtract.value.invert();
                    both.add(subtract);
                }
                both.found
            }
        }
    }

    /// The relation's own tuples: the subject itself, its type's wildcard, and whoever is in the usersets.
    fn this(
        &mut self,
        definition: &Relation,
        object_type: TypeId,
        key: SetKey,
        left: u32,
    ) -> Found {
        let mut any = Sum::union(left);
        let stored = self.facts.direct(object_type, key);
        let value = self.direct(definition, key, stored);
        if any.add(Found::plain(value, left)) || !definition.has_usersets() {
            return any.found;
        }
        for index in 0..self.scratch.overlay.get(key).len() {
            let Some((_, Subject::Userset(of))) = self.scratch.overlay.get(key).get(index).copied()
            else {
                continue;
            };
            if self.userset(&mut any, definition, of, left) {
                return any.found;
            }
        }
        for of in stored.into_iter().flat_map(|set| set.usersets.iter()) {
            if self.userset(&mut any, definition, of, left) {
                return any.found;
            }
        }
        any.found
    }

    /// Adds what a userset gives; whether that settles it.
    fn userset(&mut self, any: &mut Sum, definition: &Relation, of: SetKey, left: u32) -> bool {
        if !self.spend() {
            any.add(Found::plain(Value::UNKNOWN, left));
            return true;
        }
        let Some(object_type) = self.scratch.overlay.type_of(self.facts, of.object()) else {
            return false;
        };
        if !definition.admits_userset(object_type, of.relation()) {
            return false;
        }
        any.add(self.set(of.object(), object_type, of.relation(), left - 1))
            || self.stopped.is_some()
    }

    /// Whether the subject stands in the relation's own tuples, itself or by its type's wildcard. `stored` are the facts'.
    fn direct(&mut self, definition: &Relation, key: SetKey, stored: Option<SetRef<'_>>) -> Value {
        let Asked {
            object_type: asked_type,
            object,
            userset,
            is_wildcard,
            wildcard,
        } = self.asked;
        let admits_wildcard = definition.admits_wildcard(asked_type);
        let admits_self = match userset {
            Some(set) => definition.admits_userset(asked_type, set.relation()),
            None => !is_wildcard && definition.admits_object(asked_type),
        };
        let overlay = &self.scratch.overlay;
        let contextual = !overlay.is_empty()
            && overlay.get(key).iter().any(|(_, subject)| match *subject {
                Subject::Userset(set) => admits_self && userset == Some(set),
                Subject::Object(id) if overlay.is_wildcard(self.facts, id) => {
                    admits_wildcard && overlay.is_wildcard_of(self.facts, id, asked_type)
                }
                Subject::Object(id) => admits_self && userset.is_none() && id == object,
            });
        if contextual {
            return Value::TRUE;
        }
        if !admits_self && !admits_wildcard && !definition.has_usersets() {
            return Value::FALSE;
        }
        let Some(set) = stored else {
            self.scratch.missed.push((key, Missing::Direct));
            return Value::UNKNOWN;
        };
        let itself = admits_self
            && userset.map_or_else(
                || set.objects.contains(object),
                |asked| set.usersets.contains(asked),
            );
        Value::of(
            itself || (admits_wildcard && wildcard.is_some_and(|id| set.objects.contains(id))),
        )
    }

    /// `computed from tupleset`: the relation at every parent.
    fn at_parents(
        &mut self,
        object_type: TypeId,
        object: ObjectId,
        tupleset: RelationId,
        computed: RelationId,
        left: u32,
    ) -> Found {
        let mut any = Sum::union(left);
        let Some(definition) = self.program.relation(object_type, tupleset) else {
            return any.found;
        };
        let key = SetKey::new(object, tupleset);
        for index in 0..self.scratch.overlay.get(key).len() {
            let Some((_, Subject::Object(parent))) =
                self.scratch.overlay.get(key).get(index).copied()
            else {
                continue;
            };
            if self.parent(&mut any, definition, parent, computed, left) {
                return any.found;
            }
        }
        let Some(set) = self.facts.parents(object_type, key) else {
            self.scratch.missed.push((key, Missing::Parents));
            any.add(Found::plain(Value::UNKNOWN, left));
            return any.found;
        };
        for parent in set.objects.iter() {
            if self.parent(&mut any, definition, parent, computed, left) {
                break;
            }
        }
        any.found
    }

    /// Adds what a parent gives; whether that settles it.
    fn parent(
        &mut self,
        any: &mut Sum,
        definition: &Relation,
        parent: ObjectId,
        computed: RelationId,
        left: u32,
    ) -> bool {
        if !self.spend() {
            any.add(Found::plain(Value::UNKNOWN, left));
            return true;
        }
        let overlay = &self.scratch.overlay;
        let Some(object_type) = overlay.type_of(self.facts, parent) else {
            return false;
        };
        if !definition.admits_object(object_type)
            || overlay.is_wildcard(self.facts, parent)
            || self.program.relation(object_type, computed).is_none()
        {
            return false;
        }
        any.add(self.set(parent, object_type, computed, left - 1)) || self.stopped.is_some()
    }

    /// Takes from the budget; `false` when nothing is left or the caller has given up.
    fn spend(&mut self) -> bool {
        self.work += 1;
        if self.stopped.is_none() {
            if self.work > self.budget.limits.work {
                self.stopped = Some(Outcome::OutOfWork);
            } else if self.work.is_multiple_of(POLL_EVERY) && (self.budget.interrupted)() {
                self.stopped = Some(Outcome::Interrupted);
            }
        }
        self.stopped.is_none()
    }
}

/// A union or intersection under way.
struct Sum {
    found: Found,
    union: bool,
}

impl Sum {
    fn union(left: u32) -> Self {
        Self {
            found: Found::plain(Value::FALSE, left),
            union: true,
        }
    }

    fn intersection(left: u32) -> Self {
        Self {
            found: Found::plain(Value::TRUE, left),
            union: false,
        }
    }

    /// Adds a branch; whether no other branch can change the value any more.
    fn add(&mut self, branch: Found) -> bool {
        let value = if self.union {
            self.found.value.or(branch.value)
        } else {
            self.found.value.and(branch.value)
        };
        self.found = self.found.with(value, branch);
        value
            == if self.union {
                Value::TRUE
            } else {
                Value::FALSE
            }
    }
}
