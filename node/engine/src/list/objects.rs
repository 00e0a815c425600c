//! ListObjects: the objects of a type to which a user has a relation.
//!
//! From the user upwards: the sets it is a direct member of, the sets these are members of, and so on, along the ways
//! that can end at the asked relation ([`super::closure`]). So the work is in proportion to what the user is a member of,
//! never to the number of objects.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use meridian_condition::Context;
use meridian_model::Tuple;

use super::closure::{Closure, Step};
use super::{Findings, Progress, READS_A_ROUND, Receiver, stopped};
use crate::bound::Circumstances;
use crate::budget::{Budget, Meter};
use crate::check::Scratch;
use crate::evaluation::Evaluation;
use crate::facts::{Facts, ObjectId, SetKey, Subject};
use crate::missing::Missing;
use crate::overlay::{Asked, Overlay};
use crate::program::{Facet, Kind, Program};
use crate::question::User;
use crate::symbols::{RelationId, TypeId};

/// As upstream: what is far away is listed too.
const NO_LIMIT: u32 = u32::MAX;

/// A listing of the objects of a type to which a user has a relation.
pub struct ListObjects {
    asked: Asked,
    walk: Walk,
    findings: Findings<ObjectId>,
    /// Why the first condition without an answer has none.
    fault: Option<String>,
}

impl ListObjects {
    /// Begins one. `None` when a name of it is in no model and no tuple of these facts: then there is no object. The caller
    /// has validated everything against the model that `program` was compiled from.
    pub fn new<F: Facts>(
        facts: &F,
        program: &Program,
        (object_type, relation): (&str, &str),
        user: &User<'_>,
        contextual: &[Tuple],
        scratch: &mut Scratch,
    ) -> Option<Self> {
        scratch.start(facts, contextual);
        let symbols = facts.symbols();
        let target = (
            symbols.object_type(object_type)?,
            symbols.relation(relation)?,
        );
        let mut asked = scratch.overlay.ask(facts, user)?;
        // It may stand in what is not held, though nothing here names it.
        if asked.userset.is_none() {
            let wildcard = format!("{}:*", user.object_type());
            asked.wildcard = scratch.overlay.object(facts, &wildcard);
        }
        let of = asked.userset.map(SetKey::relation);
        scratch.stands.find(program, asked.object_type, of);
        Some(Self {
            asked,
            walk: Walk::new(program, target, &asked),
            findings: Findings::default(),
            fault: None,
        })
    }

    /// Says what the facts say. To be called again after [`Progress::Unknown`], with the same scratch memory, once the facts
    /// hold what was missed; `user` and `context` are the same as ever.
    #[expect(
        clippy::too_many_arguments,
        reason = "what is lent anew each round, since the facts grow in between"
    )]
    pub fn go<F: Facts>(
        &mut self,
        facts: &F,
        program: &Program,
        user: &User<'_>,
        context: &Context,
        budget: Budget<'_>,
        scratch: &mut Scratch,
        receiver: Receiver<'_>,
    ) -> Progress {
        scratch.resume();
        let mut meter = Meter::new(budget);
        let circumstances = Circumstances::new(context, budget.limits.condition_cost);
        let Self {
            asked,
            walk,
            findings,
            fault,
        } = self;
        let mut missed = Vec::new();
        walk.go(
            (facts, &scratch.overlay, program),
            &mut meter,
            &mut missed,
            &mut |object, proven| {
                if findings.add(object, proven) {
                    findings.enough |= !receiver(scratch.overlay.name(facts, object));
                }
                !findings.enough
            },
        );
        let (object_type, relation) = walk.target;
        if meter.stopped.is_none() {
            scratch.missed = missed;
            let scratch = std::cell::RefCell::new(&mut *scratch);
            findings.check(
                |object| {
                    let mut scratch = scratch.borrow_mut();
                    let around = &circumstances;
                    Evaluation::new(facts, program, *asked, &mut scratch, &mut meter, around, ())
                        .decide(object, object_type, relation, NO_LIMIT)
                },
                || scratch.borrow().missed.len() >= READS_A_ROUND,
                |object| receiver(scratch.borrow().overlay.name(facts, object)),
            );
        }
        *fault = fault.take().or(scratch.fault.take());
        scratch.fault.clone_from(fault);
        if let Some(by) = meter.stopped {
            return stopped(by);
        }
        if !findings.enough && !scratch.missed.is_empty() {
            scratch.name_missed(facts, user.text());
            return Progress::Unknown;
        }
        findings.end()
    }
}

/// The walk up.
struct Walk {
    closure: Closure,
    target: Kind,
    /// The sets reached, and whether it is proven that the user is in them.
    reached: HashMap<SetKey, bool, FixedState>,
    open: VecDeque<Open>,
    /// The userset that is asked about, a member of itself without any tuple.
    itself: Option<(SetKey, TypeId)>,
}

/// Sets to be looked up: those of a relation of a type in which a subject stands.
#[derive(Debug, Clone, Copy)]
struct Open {
    subject: Subject,
    object_type: TypeId,
    relation: RelationId,
    /// The relation in which the objects found are reached.
    becomes: RelationId,
    proves: bool,
}

/// Told of each object reached, and whether that is proven; `false` ends the walk.
type Reached<'a> = &'a mut dyn FnMut(ObjectId, bool) -> bool;

impl Walk {
    fn new(program: &Program, target: Kind, asked: &Asked) -> Self {
        let mut walk = Self {
            closure: Closure::new(program, target),
            target,
            reached: HashMap::default(),
            open: VecDeque::new(),
            itself: asked.userset.map(|set| (set, asked.object_type)),
        };
        let itself = match asked.userset {
            Some(set) => Some(Subject::Userset(set)),
            None if asked.is_wildcard => None,
            None => Some(Subject::Object(asked.object)),
        };
        let wildcard = asked.wildcard.map(Subject::Object);
        for (kind, proves) in walk.closure.assignable() {
            let (object_type, relation) = *kind;
            let Some(definition) = program.relation(object_type, relation) else {
                continue;
            };
            let admits_itself = definition.admits_any(match asked.userset {
                Some(set) => Facet::Userset(asked.object_type, set.relation()),
                None => Facet::Object(asked.object_type),
            });
            let admits_wildcard = definition.admits_any(Facet::Wildcard(asked.object_type));
            let subjects = itself
                .filter(|_| admits_itself)
                .into_iter()
                .chain(wildcard.filter(|_| admits_wildcard));
            walk.open.extend(subjects.map(|subject| Open {
                subject,
                object_type,
                relation,
                becomes: relation,
                proves: *proves,
            }));
        }
        walk
    }

    /// Goes as far as the facts go; what they do not say is added to `missed`, and stays open.
    fn go<F: Facts>(
        &mut self,
        (facts, overlay, program): (&F, &Overlay, &Program),
        meter: &mut Meter<'_>,
        missed: &mut Vec<Missing>,
        reached: Reached<'_>,
    ) {
        if let Some((set, object_type)) = self.itself.take()
            && self.closure.holds((object_type, set.relation()))
            && !self.reach(set, object_type, true, reached)
        {
            return;
        }
        let mut waiting = VecDeque::new();
        while let Some(open) = self.open.pop_front() {
            let Open {
                subject,
                object_type,
                relation,
                ..
            } = open;
            let Some(stored) = facts.objects_of(subject, object_type, relation) else {
                missed.push(Missing::Objects(subject, object_type, relation));
                waiting.push_back(open);
                if missed.len() >= READS_A_ROUND {
                    break;
                }
                continue;
            };
            let contextual = overlay
                .of_subject(subject)
                .filter(|given| {
                    given.set.relation() == relation
                        && overlay.type_of(facts, given.set.object()) == Some(object_type)
                })
                .map(|given| (given.set.object(), given.binding.is_some()));
            // A tuple with a condition proves nothing by itself, nor does one without where there must be one.
            let admits = program
                .relation(object_type, relation)
                .zip(overlay.facet(facts, subject));
            let admits = admits.is_some_and(|(definition, facet)| definition.admits(facet));
            let may_prove = open.proves && admits;
            for (object, is_bound) in contextual.chain(stored) {
                let set = SetKey::new(object, open.becomes);
                let is_masked = is_bound
                    || overlay
                        .find(SetKey::new(object, relation), subject)
                        .is_some_and(|given| given.binding.is_some());
                let proven = may_prove && !is_masked;
                if !meter.spend() || !self.reach(set, object_type, proven, reached) {
                    return;
                }
            }
        }
        self.open.append(&mut waiting);
    }

    /// Notes that the user may be in a set, or is, and what follows from it; `false` when it is enough.
    fn reach(
        &mut self,
        set: SetKey,
        object_type: TypeId,
        proven: bool,
        reached: Reached<'_>,
    ) -> bool {
        // The object stays the same along computed relations, so these are followed at once.
        let mut same = vec![(set, proven)];
        while let Some((set, proven)) = same.pop() {
            match self.reached.get_mut(&set) {
                Some(known) if *known || !proven => continue,
                Some(known) => *known = true,
                None => {
                    self.reached.insert(set, proven);
                }
            }
            let kind = (object_type, set.relation());
            if kind == self.target && !reached(set.object(), proven) {
                return false;
            }
            for way in self.closure.ways(kind) {
                let proves = proven && way.proves;
                let (subject, (object_type, relation), becomes) = match way.step {
                    Step::Same(relation) => {
                        same.push((SetKey::new(set.object(), relation), proves));
                        continue;
                    }
                    Step::Userset(of) => (Subject::Userset(set), of, of.1),
                    Step::Child(tupleset, relation) => {
                        (Subject::Object(set.object()), tupleset, relation)
                    }
                };
                self.open.push_back(Open {
                    subject,
                    object_type,
                    relation,
                    becomes,
                    proves,
                });
            }
        }
        true
    }
}
