//! ListUsers: the users of a type, or the usersets of a relation, that have a relation to an object.
//!
//! From the object downwards, through usersets, parents and computed relations, to whoever stands in the sets met. All
//! branches are walked, those of intersections and exclusions too: where one of them holds by a wildcard, the users of
//! another are candidates.

use std::ptr;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use meridian_condition::Context;
use meridian_model::Tuple;

use super::closure::Closure;
use super::{Findings, Progress, READS_A_ROUND, Receiver, stopped};
use crate::bound::{Binding, Circumstances};
use crate::budget::{Budget, Meter};
use crate::check::Scratch;
use crate::evaluation::Evaluation;
use crate::facts::{Facts, SetKey, Subject};
use crate::missing::Missing;
use crate::overlay::{Asked, Overlay};
use crate::program::{Facet, Kind, Node, Program, Relation};
use crate::stands::Stands;
use crate::symbols::{RelationId, TypeId};

/// Which users a listing is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserFilter<'a> {
    /// Their type.
    pub object_type: &'a str,
    /// The relation of usersets; `None` for objects and the typed wildcard.
    pub relation: Option<&'a str>,
}

/// Users of a type, or usersets of its relation.
type Filter = (TypeId, Option<RelationId>);

/// A listing of the users that have a relation to an object.
pub struct ListUsers {
    set: SetKey,
    object_type: TypeId,
    filter: Filter,
    walk: Walk,
    findings: Findings<Subject>,
}

impl ListUsers {
    /// Begins one. `None` when a name of it is in no model of these facts: then there is no user. The caller has validated
    /// everything against the model that `program` was compiled from.
    pub fn new<F: Facts>(
        facts: &F,
        program: &Program,
        (object, object_type, relation): (&str, &str, &str),
        filter: UserFilter<'_>,
        contextual: &[Tuple],
        scratch: &mut Scratch,
    ) -> Option<Self> {
        scratch.start(facts, contextual);
        let symbols = facts.symbols();
        let object_type = symbols.object_type(object_type)?;
        let relation = symbols.relation(relation)?;
        let of = match filter.relation {
            Some(relation) => Some(symbols.relation(relation)?),
            None => None,
        };
        let filter = (symbols.object_type(filter.object_type)?, of);
        let set = SetKey::new(scratch.overlay.object(facts, object)?, relation);
        scratch.stands.find(program, filter.0, filter.1);
        Some(Self {
            set,
            object_type,
            filter,
            walk: Walk::from(program, (set, object_type), filter),
            findings: Findings::default(),
        })
    }

    /// Says what the facts say. To be called again after [`Progress::Unknown`], with the same scratch memory, once the facts
    /// hold what was missed.
    pub fn go<F: Facts>(
        &mut self,
        facts: &F,
        program: &Program,
        context: &Context,
        budget: Budget<'_>,
        scratch: &mut Scratch,
        receiver: Receiver<'_>,
    ) -> Progress {
        scratch.resume();
        let mut meter = Meter::new(budget);
        let circumstances = Circumstances::new(context, budget.limits.condition_cost);
        let Self {
            set,
            object_type,
            filter,
            walk,
            findings,
        } = self;
        let mut missed = Vec::new();
        walk.go(
            &Around {
                facts,
                program,
                overlay: &scratch.overlay,
                stands: &scratch.stands,
            },
            *filter,
            &circumstances,
            &mut meter,
            &mut missed,
            &mut |subject, proven| {
                if findings.add(subject, proven) {
                    findings.enough |= !say(subject, facts, &scratch.overlay, receiver);
                }
                !findings.enough
            },
        );
        // Until everything that can matter is here no candidate is looked at: each would miss it once more.
        if meter.stopped.is_none() && missed.is_empty() {
            let scratch = std::cell::RefCell::new(&mut *scratch);
            findings.check(
                |subject| {
                    let mut scratch = scratch.borrow_mut();
                    scratch.memory.clear();
                    let asked = asked(subject, filter.0, facts, &scratch.overlay);
                    let around = &circumstances;
                    Evaluation::new(facts, program, asked, &mut scratch, &mut meter, around, ())
                        .decide(
                            set.object(),
                            *object_type,
                            set.relation(),
                            budget.limits.depth,
                        )
                },
                || scratch.borrow().missed.len() >= READS_A_ROUND,
                |subject| say(subject, facts, &scratch.borrow().overlay, receiver),
            );
        }
        if let Some(by) = meter.stopped {
            return stopped(by);
        }
        // A check may meet a condition without an answer that does not matter; the walk's always do.
        if findings.unclear && walk.fault.is_none() {
            walk.fault = scratch.fault.take();
        }
        if walk.fault.is_some() {
            scratch.fault.clone_from(&walk.fault);
            return Progress::Unclear;
        }
        // What one user's check missed is read for all of them.
        missed.extend(scratch.missed.drain(..).map(|missing| match missing {
            Missing::Direct(set) | Missing::Parents(set) => Missing::Members(set),
            other => other,
        }));
        scratch.missed = missed;
        if !findings.enough && !scratch.missed.is_empty() {
            scratch.name_missed(facts, "");
            return Progress::Unknown;
        }
        findings.end()
    }
}

/// A found user as the subject of a check.
fn asked(subject: Subject, object_type: TypeId, facts: &impl Facts, overlay: &Overlay) -> Asked {
    let (object, userset) = match subject {
        Subject::Object(object) => (object, None),
        Subject::Userset(set) => (set.object(), Some(set)),
    };
    let wildcard = userset
        .is_none()
        .then(|| overlay.wildcard(facts, facts.symbols().type_name(object_type)))
        .flatten();
    Asked {
        object_type,
        object,
        userset,
        is_wildcard: userset.is_none() && overlay.is_wildcard(facts, object),
        wildcard,
    }
}

fn say(subject: Subject, facts: &impl Facts, overlay: &Overlay, receiver: Receiver<'_>) -> bool {
    match subject {
        Subject::Object(object) => receiver(overlay.name(facts, object)),
        Subject::Userset(set) => receiver(&format!(
            "{}#{}",
            overlay.name(facts, set.object()),
            facts.symbols().relation_name(set.relation())
        )),
    }
}

/// The walk down.
struct Walk {
    /// Why the first condition without an answer has none.
    fault: Option<String>,
    /// The sets reached, and whether it is proven that all who are in them are in the asked one.
    reached: HashMap<SetKey, bool, FixedState>,
    open: Vec<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    set: SetKey,
    object_type: TypeId,
    proven: bool,
    /// Steps taken so far, of those that the depth limit counts.
    steps: u32,
}

/// What a walk goes over.
struct Around<'a, F> {
    facts: &'a F,
    program: &'a Program,
    overlay: &'a Overlay,
    stands: &'a Stands,
}

/// Whether a relation can have such users, by one branch of each intersection and the base of each exclusion. Where these
/// have none, upstream looks no further, for conditions neither.
fn can_have(program: &Program, kind: Kind, (of, relation): Filter) -> bool {
    let closure = Closure::new(program, kind);
    let is_member = relation.is_some_and(|relation| closure.holds((of, relation)));
    is_member
        || closure.assignable().iter().any(|((object_type, own), _)| {
            let definition = program.relation(*object_type, *own);
            definition.is_some_and(|definition| {
                definition.admits_any(Facet::Wildcard(of))
                    || (relation.is_none() && definition.admits_any(Facet::Object(of)))
            })
        })
}

/// Told of each user met, and whether it is proven that it has the asked relation; `false` ends the walk.
type Met<'a> = &'a mut dyn FnMut(Subject, bool) -> bool;

impl Walk {
    fn from(program: &Program, (set, object_type): (SetKey, TypeId), filter: Filter) -> Self {
        let mut walk = Self {
            fault: None,
            reached: HashMap::default(),
            open: Vec::new(),
        };
        if can_have(program, (object_type, set.relation()), filter) {
            walk.add(set, object_type, true, 0);
        }
        walk
    }

    /// As upstream, what no user of the kind can stand in is walked too where a condition can be met on the way: one without
    /// an answer fails the listing.
    fn reach(
        &mut self,
        (program, stands): (&Program, &Stands),
        set: SetKey,
        object_type: TypeId,
        proven: bool,
        steps: u32,
    ) {
        let definition = program.relation(object_type, set.relation());
        if definition.is_some_and(|of| stands.can(of.place) || of.place.meets_conditions()) {
            self.add(set, object_type, proven, steps);
        }
    }

    fn add(&mut self, set: SetKey, object_type: TypeId, proven: bool, steps: u32) {
        match self.reached.get_mut(&set) {
            Some(known) if *known || !proven => return,
            Some(known) => *known = true,
            None => {
                self.reached.insert(set, proven);
            }
        }
        self.open.push(Open {
            set,
            object_type,
            proven,
            steps,
        });
    }

    /// Goes as far as the facts go; what they do not say is added to `missed`, and stays open.
    fn go<'b, F: Facts>(
        &mut self,
        around: &Around<'_, F>,
        filter: Filter,
        circumstances: &Circumstances<'b>,
        meter: &mut Meter<'b>,
        missed: &mut Vec<Missing>,
        met: Met<'_>,
    ) {
        let (program, depth) = (around.program, meter.limits().depth);
        let mut waiting = Vec::new();
        while let Some(mut open) = self.open.pop() {
            open.proven &= open.steps <= depth;
            let Some(definition) = program.relation(open.object_type, open.set.relation()) else {
                continue;
            };
            let before = missed.len();
            let is_asked_for = filter == (open.object_type, Some(open.set.relation()));
            if is_asked_for && !met(Subject::Userset(open.set), open.proven) {
                return;
            }
            let mut visit = Visit {
                around,
                filter,
                open,
                meter,
                missed,
                met,
                circumstances,
                walk: self,
            };
            if !visit.node(&definition.rewrite, definition, open.proven) {
                return;
            }
            if missed.len() > before {
                waiting.push(open);
                if missed.len() >= READS_A_ROUND {
                    break;
                }
            }
        }
        self.open.append(&mut waiting);
    }
}

/// A set on the walk.
struct Visit<'a, 'b, 'c, F> {
    around: &'a Around<'a, F>,
    filter: Filter,
    open: Open,
    meter: &'a mut Meter<'b>,
    missed: &'a mut Vec<Missing>,
    met: &'a mut (dyn FnMut(Subject, bool) -> bool + 'c),
    circumstances: &'a Circumstances<'b>,
    walk: &'a mut Walk,
}

impl<F: Facts> Visit<'_, '_, '_, F> {
    /// Follows a rewrite; `false` when the walk is to end.
    fn node(&mut self, node: &Node, definition: &Relation, proven: bool) -> bool {
        match node {
            Node::This => self.own(definition, proven),
            Node::Computed(computed) => {
                let same = SetKey::new(self.open.set.object(), *computed);
                self.reach(same, self.open.object_type, proven, 0);
                true
            }
            Node::FromParent {
                tupleset,
                computed,
                place,
            } => {
                let is_of_interest = self.around.stands.can(*place) || place.meets_conditions();
                !is_of_interest || self.parents(definition, *tupleset, *computed, proven)
            }
            Node::Union(children) => children
                .iter()
                .all(|child| self.node(child, definition, proven)),
            Node::Intersection(children) => children
                .iter()
                .all(|child| self.node(child, definition, false)),
            Node::Exclusion(of) => {
                self.node(&of.0, definition, false) && self.node(&of.1, definition, false)
            }
        }
    }

    /// What is reached from here by so many more steps.
    fn reach(&mut self, set: SetKey, object_type: TypeId, proven: bool, steps: u32) {
        let Around {
            program, stands, ..
        } = *self.around;
        let steps = self.open.steps.saturating_add(steps);
        self.walk
            .reach((program, stands), set, object_type, proven, steps);
    }

    fn own(&mut self, definition: &Relation, proven: bool) -> bool {
        let Open {
            set, object_type, ..
        } = self.open;
        let (around, overlay) = (self.around, self.around.overlay);
        let Some(stored) = around.facts.members(object_type, set) else {
            self.missed.push(Missing::Members(set));
            return true;
        };
        let contextual = overlay.get(set).iter();
        let contextual = contextual.map(|given| (given.subject, given.binding.as_ref()));
        let plain = stored.usersets.iter().map(Subject::Userset);
        let plain = plain.chain(stored.objects.iter().map(Subject::Object));
        let plain = plain.map(|subject| (subject, None));
        let bound = stored.bindings();
        let bound = bound.map(|(subject, binding)| (subject, Some(&**binding)));
        for (subject, binding) in contextual.chain(plain).chain(bound) {
            if !self.meter.spend() {
                return false;
            }
            let Some(facet) = self.admitted(definition, set, subject, binding) else {
                continue;
            };
            match (subject, facet) {
                (Subject::Object(_), Facet::Object(of) | Facet::Wildcard(of))
                    if self.filter == (of, None) && !(self.met)(subject, proven) =>
                {
                    return false;
                }
                (Subject::Userset(of), Facet::Userset(at, relation)) => {
                    let step = around.program.step(definition, (at, relation));
                    self.reach(of, at, proven, step);
                }
                _ => {}
            }
        }
        true
    }

    /// The restriction by which a tuple counts; a contextual tuple hides a stored one of the same key. As upstream, a
    /// condition without an answer fails the whole listing.
    fn admitted(
        &mut self,
        definition: &Relation,
        set: SetKey,
        subject: Subject,
        binding: Option<&Binding>,
    ) -> Option<Facet> {
        let Around { facts, overlay, .. } = *self.around;
        let facet = overlay.facet(facts, subject)?;
        let is_hidden = overlay.find(set, subject).is_some_and(|given| {
            given.binding.as_ref().map(ptr::from_ref) != binding.map(ptr::from_ref)
        });
        if is_hidden {
            return None;
        }
        let Some(binding) = binding else {
            return definition.admits(facet).then_some(facet);
        };
        let declared = definition.admits_bound(facet, &binding.stored().name)?;
        let (met, work) = binding.is_met(declared, self.circumstances);
        self.meter.charge(work);
        match met {
            Ok(met) => met.then_some(facet),
            Err(why) => {
                let describe = || why.on(binding, &overlay.describe(facts, set, subject));
                self.walk.fault.get_or_insert_with(describe);
                None
            }
        }
    }

    fn parents(
        &mut self,
        from: &Relation,
        tupleset: RelationId,
        computed: RelationId,
        proven: bool,
    ) -> bool {
        let (around, object_type) = (self.around, self.open.object_type);
        let (program, overlay) = (around.program, around.overlay);
        let Some(definition) = program.relation(object_type, tupleset) else {
            return true;
        };
        let key = SetKey::new(self.open.set.object(), tupleset);
        let Some(stored) = around.facts.parents(object_type, key) else {
            self.missed.push(Missing::Parents(key));
            return true;
        };
        let contextual = overlay.get(key).iter();
        let contextual = contextual.map(|given| (given.subject, given.binding.as_ref()));
        let plain = stored.objects.iter().map(|id| (Subject::Object(id), None));
        let bound = stored.bindings();
        let bound = bound.map(|(subject, binding)| (subject, Some(&**binding)));
        for (subject, binding) in contextual.chain(plain).chain(bound) {
            if !self.meter.spend() {
                return false;
            }
            if let Subject::Object(parent) = subject
                && let Some(Facet::Object(at)) = self.admitted(definition, key, subject, binding)
                && program.relation(at, computed).is_some()
            {
                let of = SetKey::new(parent, computed);
                let step = program.step(from, (at, computed));
                self.reach(of, at, proven, step);
            }
        }
        true
    }
}
