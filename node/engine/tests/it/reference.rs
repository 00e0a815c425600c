//! A plain evaluator, written only to be compared with: no memory, no early end, no numbers. It returns every value that
//! a question can have, given that sets of uncovered types can be anything.

use std::collections::{BTreeMap, BTreeSet};

use meridian_condition::Context;
use meridian_model::typesystem::{Facet, Relation, Rewrite};
use meridian_model::{Object, Subject, Tuple, TupleCondition, TupleKey, TypeSystem};

use crate::arbitrary::tuple;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    True,
    False,
    /// False because a set was met again on its own path.
    Cycle,
    /// The depth limit, or a condition without an answer.
    Error,
}

use Value::{Cycle, Error, False, True};

pub(crate) type Values = BTreeSet<Value>;

pub(crate) struct Reference<'a> {
    pub(crate) types: &'a TypeSystem,
    pub(crate) tuples: &'a BTreeMap<TupleKey, Option<TupleCondition>>,
    pub(crate) contextual: &'a [Tuple],
    pub(crate) context: &'a Context,
    pub(crate) covered: &'a dyn Fn(&str) -> bool,
    pub(crate) recursions: Recursions,
    /// Steps left before the evaluation is given up as too large for a test.
    pub(crate) work: std::cell::Cell<u32>,
}

/// A relation of a type.
type Kind = (String, String);

/// The relations that lead back to themselves by unions alone, each with the first of those that lead to one another.
pub(crate) struct Recursions(BTreeMap<Kind, Kind>);

impl Recursions {
    pub(crate) fn of(types: &TypeSystem) -> Self {
        let mut leads: BTreeMap<Kind, Vec<(Kind, bool)>> = BTreeMap::new();
        for (name, definition) in types.types() {
            for (relation, of) in &definition.relations {
                let kind = (name.to_string(), relation.to_string());
                leads_of(
                    types,
                    &kind.0,
                    of,
                    &of.rewrite,
                    true,
                    leads.entry(kind.clone()).or_default(),
                );
            }
        }
        let reached = |from: &Kind| {
            let (mut seen, mut left) = (BTreeSet::new(), vec![from.clone()]);
            while let Some(kind) = left.pop() {
                for (to, _) in leads.get(&kind).into_iter().flatten() {
                    if seen.insert(to.clone()) {
                        left.push(to.clone());
                    }
                }
            }
            seen
        };
        let reached: BTreeMap<_, _> = leads
            .keys()
            .map(|kind| (kind.clone(), reached(kind)))
            .collect();
        let mut recursions = BTreeMap::new();
        for kind in leads.keys() {
            let leads_back =
                |other: &&Kind| reached[kind].contains(*other) && reached[*other].contains(kind);
            let group: BTreeSet<_> = leads.keys().filter(leads_back).collect();
            let is_plain = group.iter().all(|member| {
                let mut within = leads[*member].iter().filter(|(to, _)| group.contains(to));
                within.all(|(_, is_plain)| *is_plain)
            });
            if let Some(first) = group.first().filter(|_| is_plain) {
                recursions.insert(kind.clone(), (*first).clone());
            }
        }
        Self(recursions)
    }

    /// What a step takes from the depth limit.
    fn step(&self, from: (&str, &str), to: (&str, &str)) -> u32 {
        let of = |kind: (&str, &str)| self.0.get(&(kind.0.to_owned(), kind.1.to_owned()));
        u32::from(of(from).is_none() || of(from) != of(to))
    }
}

/// Where a rewrite leads, and whether by unions alone.
fn leads_of(
    types: &TypeSystem,
    name: &str,
    relation: &Relation,
    rewrite: &Rewrite,
    is_plain: bool,
    leads: &mut Vec<(Kind, bool)>,
) {
    let mut lead = |name: &str, relation: &str| {
        if types.relation(name, relation).is_some() {
            leads.push(((name.to_owned(), relation.to_owned()), is_plain));
        }
    };
    match rewrite {
        Rewrite::This => {
            for restriction in &relation.restrictions {
                if let Facet::Userset(of) = &restriction.facet {
                    lead(&restriction.type_name, of);
                }
            }
        }
        Rewrite::Computed(computed) => lead(name, computed),
        Rewrite::FromParent { tupleset, computed } => {
            for restriction in &types.relation(name, tupleset).unwrap().restrictions {
                lead(&restriction.type_name, computed);
            }
        }
        Rewrite::Union(of) => {
            for child in of {
                leads_of(types, name, relation, child, is_plain, leads);
            }
        }
        Rewrite::Intersection(of) => {
            for child in of {
                leads_of(types, name, relation, child, false, leads);
            }
        }
        Rewrite::Exclusion(of) => {
            leads_of(types, name, relation, &of.0, false, leads);
            leads_of(types, name, relation, &of.1, false, leads);
        }
    }
}

fn one(value: Value) -> Values {
    [value].into()
}

fn anything() -> Values {
    [True, False, Cycle, Error].into()
}

/// Of two values, the one that stands first wins.
fn combine(order: [Value; 4], a: &Values, b: &Values) -> Values {
    let rank = |value: &Value| order.iter().position(|other| other == value);
    a.iter()
        .flat_map(|x| {
            b.iter()
                .map(move |y| if rank(x) <= rank(y) { *x } else { *y })
        })
        .collect()
}

fn union(a: &Values, b: &Values) -> Values {
    combine([True, Error, Cycle, False], a, b)
}

fn intersection(a: &Values, b: &Values) -> Values {
    combine([False, Cycle, Error, True], a, b)
}

fn inverse(values: &Values) -> Values {
    values
        .iter()
        .map(|value| match value {
            True => False,
            False => True,
            other => *other,
        })
        .collect()
}

impl Reference<'_> {
    /// Every possible value; `None` when the question is too large for a test.
    pub(crate) fn check(
        &self,
        object: &str,
        relation: &str,
        user: &str,
        depth: u32,
    ) -> Option<Values> {
        self.set(
            &object.parse().unwrap(),
            relation,
            &user.parse().unwrap(),
            &mut Vec::new(),
            depth,
        )
    }

    fn set(
        &self,
        object: &Object,
        relation: &str,
        user: &Subject,
        path: &mut Vec<(Object, String)>,
        depth: u32,
    ) -> Option<Values> {
        self.work.set(self.work.get().checked_sub(1)?);
        if path.iter().any(|(o, r)| o == object && r == relation) {
            return Some(one(Cycle));
        }
        if matches!(user, Subject::Userset(o, r) if o == object && **r == *relation) {
            return Some(one(True));
        }
        let Some(definition) = self.types.relation(object.object_type(), relation) else {
            return Some(one(False));
        };
        if !self.can_stand((object.object_type(), relation), user, &mut BTreeSet::new()) {
            return Some(one(False));
        }
        if depth == 0 {
            return Some(one(Error));
        }
        path.push((object.clone(), relation.to_owned()));
        let values = self.rewrite(
            &definition.rewrite,
            definition,
            object,
            relation,
            user,
            path,
            depth,
        );
        path.pop();
        values
    }

    #[expect(clippy::too_many_arguments, reason = "a plain recursion, written out")]
    fn rewrite(
        &self,
        rewrite: &Rewrite,
        definition: &Relation,
        object: &Object,
        relation: &str,
        user: &Subject,
        path: &mut Vec<(Object, String)>,
        depth: u32,
    ) -> Option<Values> {
        let kind = (object.object_type(), relation);
        let mut child =
            |child| self.rewrite(child, definition, object, relation, user, path, depth);
        match rewrite {
            Rewrite::Union(of) => of
                .iter()
                .try_fold(one(False), |all, next| Some(union(&all, &child(next)?))),
            Rewrite::Intersection(of) => of.iter().try_fold(one(True), |all, next| {
                Some(intersection(&all, &child(next)?))
            }),
            Rewrite::Exclusion(of) => Some(intersection(&child(&of.0)?, &inverse(&child(&of.1)?))),
            Rewrite::Computed(computed) => self.set(object, computed, user, path, depth),
            Rewrite::This => {
                let mut values = one(False);
                let known = (self.covered)(object.object_type());
                let mut usersets = Vec::new();
                for tuple in self.members(object, relation, known) {
                    let found = match (&tuple.key.subject, user) {
                        (subject @ Subject::Userset(of, relation), user) => {
                            let holds = self.holds(definition, &tuple);
                            if holds == Some(true) {
                                let step = self.recursions.step(kind, (of.object_type(), relation));
                                let found = self.set(of, relation, user, path, depth - step)?;
                                values = union(&values, &found);
                            }
                            usersets.push(holds);
                            if subject == user { holds } else { Some(false) }
                        }
                        (subject, user) if subject == user => self.holds(definition, &tuple),
                        (Subject::Wildcard(object_type), user)
                            if **object_type == *user.subject_type()
                                && !matches!(user, Subject::Userset(..)) =>
                        {
                            self.holds(definition, &tuple)
                        }
                        _ => Some(false),
                    };
                    let found = found.map_or(Error, |met| if met { True } else { False });
                    values = union(&values, &one(found));
                }
                values = union(&values, &unclear(&usersets, known));
                let asked =
                    definition
                        .restrictions
                        .iter()
                        .any(|restriction| match &restriction.facet {
                            Facet::Userset(of) => {
                                let below = (&*restriction.type_name, &**of);
                                restriction.condition.is_some()
                                    || self.can_stand(below, user, &mut BTreeSet::new())
                            }
                            facet => {
                                *restriction.type_name == *user.subject_type() && faces(facet, user)
                            }
                        });
                Some(if known || !asked {
                    values
                } else {
                    union(&values, &anything())
                })
            }
            Rewrite::FromParent { tupleset, computed } => {
                let mut values = one(False);
                let known = (self.covered)(object.object_type());
                let definition = self.types.relation(object.object_type(), tupleset)?;
                let mut parents = Vec::new();
                for tuple in self.members(object, tupleset, known) {
                    let Subject::Object(parent) = &tuple.key.subject else {
                        continue;
                    };
                    let holds = self.holds(definition, &tuple);
                    parents.push(holds);
                    if holds == Some(true)
                        && self
                            .types
                            .relation(parent.object_type(), computed)
                            .is_some()
                    {
                        let step = self.recursions.step(kind, (parent.object_type(), computed));
                        let found = self.set(parent, computed, user, path, depth - step)?;
                        values = union(&values, &found);
                    }
                }
                values = union(&values, &unclear(&parents, known));
                let asked = definition.restrictions.iter().any(|restriction| {
                    let below = (&*restriction.type_name, &**computed);
                    restriction.condition.is_some()
                        || self.can_stand(below, user, &mut BTreeSet::new())
                });
                Some(if known || !asked {
                    values
                } else {
                    union(&values, &anything())
                })
            }
        }
    }

    /// Whether the model lets such a user stand in a relation, by any way through it.
    fn can_stand<'a>(
        &'a self,
        (object_type, relation): (&'a str, &'a str),
        user: &Subject,
        seen: &mut BTreeSet<(&'a str, &'a str)>,
    ) -> bool {
        if matches!(user, Subject::Userset(of, asked) if of.object_type() == object_type && **asked == *relation)
        {
            return true;
        }
        let Some(definition) = self.types.relation(object_type, relation) else {
            return false;
        };
        if !seen.insert((object_type, relation)) {
            return false;
        }
        let mut leaves = Vec::new();
        definition
            .rewrite
            .for_each_leaf(&mut |leaf| leaves.push(leaf));
        leaves.into_iter().any(|leaf| match leaf {
            Rewrite::Computed(computed) => self.can_stand((object_type, computed), user, seen),
            Rewrite::FromParent { tupleset, computed } => {
                let parents = self.types.relation(object_type, tupleset).unwrap();
                let mut parents = parents.restrictions.iter();
                parents.any(|parent| self.can_stand((&parent.type_name, computed), user, seen))
            }
            _ => definition.restrictions.iter().any(|restriction| {
                let of = &*restriction.type_name;
                match &restriction.facet {
                    Facet::Userset(relation) => self.can_stand((of, relation), user, seen),
                    _ => !matches!(user, Subject::Userset(..)) && of == user.subject_type(),
                }
            }),
        })
    }

    /// A contextual tuple hides a stored one of the same key.
    fn members(&self, object: &Object, relation: &str, known: bool) -> Vec<Tuple> {
        let is_hidden = |key: &TupleKey| self.contextual.iter().any(|given| given.key == *key);
        let stored = self.tuples.iter();
        let stored = stored.filter(|(key, _)| known && !is_hidden(key));
        stored
            .map(tuple)
            .chain(self.contextual.iter().cloned())
            .filter(|tuple| tuple.key.object == *object && *tuple.key.relation == *relation)
            .collect()
    }

    /// Whether a tuple counts; `None` where its condition has no answer.
    fn holds(&self, definition: &Relation, tuple: &Tuple) -> Option<bool> {
        let name = tuple.condition.as_ref().map(|condition| &condition.name);
        let admits = definition.restrictions.iter().any(|restriction| {
            restriction.admits(&tuple.key.subject) && restriction.condition.as_ref() == name
        });
        let Some(condition) = tuple.condition.as_ref().filter(|_| admits) else {
            return Some(admits);
        };
        let fixed = condition.parse().unwrap();
        let x = fixed.get("x").or_else(|| self.context.get("x"))?;
        Some(x.as_u64() == Some(1))
    }
}

/// The error of tuples whose conditions have no answer, where none counts. Among what is not known one may count.
fn unclear(tuples: &[Option<bool>], known: bool) -> Values {
    one(
        if known && tuples.contains(&None) && !tuples.contains(&Some(true)) {
            Error
        } else {
            False
        },
    )
}

/// Whether a tuple admitted by this facet could name the user or its type's wildcard.
fn faces(facet: &Facet, user: &Subject) -> bool {
    matches!(
        (facet, user),
        (Facet::Wildcard, Subject::Object(_) | Subject::Wildcard(_))
            | (Facet::Object, Subject::Object(_))
    )
}
