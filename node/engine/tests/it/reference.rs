//! A plain evaluator, written only to be compared with: no memory, no early end, no numbers. It returns every value that
//! a question can have, given that sets of uncovered types can be anything.

use std::collections::BTreeSet;

use meridian_model::typesystem::{Facet, Relation, Rewrite};
use meridian_model::{Object, Subject, TupleKey, TypeSystem};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    True,
    False,
    /// False because a set was met again on its own path.
    Cycle,
    /// The depth limit.
    Error,
}

use Value::{Cycle, Error, False, True};

pub(crate) type Values = BTreeSet<Value>;

pub(crate) struct Reference<'a> {
    pub(crate) types: &'a TypeSystem,
    pub(crate) tuples: &'a BTreeSet<TupleKey>,
    pub(crate) contextual: &'a [TupleKey],
    pub(crate) covered: &'a dyn Fn(&str) -> bool,
    /// Steps left before the evaluation is given up as too large for a test.
    pub(crate) work: std::cell::Cell<u32>,
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
        if depth == 0 {
            return Some(one(Error));
        }
        if path.iter().any(|(o, r)| o == object && r == relation) {
            return Some(one(Cycle));
        }
        if matches!(user, Subject::Userset(o, r) if o == object && **r == *relation) {
            return Some(one(True));
        }
        let Some(definition) = self.types.relation(object.object_type(), relation) else {
            return Some(one(False));
        };
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
                for key in self.members(object, relation, known) {
                    if !admits(definition, &key.subject) {
                        continue;
                    }
                    let found = match (&key.subject, user) {
                        (subject, user) if subject == user => one(True),
                        (Subject::Wildcard(object_type), user)
                            if **object_type == *user.subject_type() =>
                        {
                            one(True)
                        }
                        (Subject::Userset(of, relation), _) => {
                            self.set(of, relation, user, path, depth - 1)?
                        }
                        _ => one(False),
                    };
                    values = union(&values, &found);
                }
                let asked = definition.restrictions.iter().any(|restriction| {
                    matches!(restriction.facet, Facet::Userset(_))
                        || (*restriction.type_name == *user.subject_type()
                            && faces(&restriction.facet, user))
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
                for key in self.members(object, tupleset, known) {
                    let Subject::Object(parent) = &key.subject else {
                        continue;
                    };
                    if admits(definition, &key.subject)
                        && self
                            .types
                            .relation(parent.object_type(), computed)
                            .is_some()
                    {
                        values =
                            union(&values, &self.set(parent, computed, user, path, depth - 1)?);
                    }
                }
                Some(if known {
                    values
                } else {
                    union(&values, &anything())
                })
            }
        }
    }

    fn members(&self, object: &Object, relation: &str, known: bool) -> Vec<&TupleKey> {
        let stored = self.tuples.iter().filter(|_| known);
        stored
            .chain(self.contextual)
            .filter(|key| key.object == *object && *key.relation == *relation)
            .collect()
    }
}

fn admits(definition: &Relation, subject: &Subject) -> bool {
    definition.restrictions.iter().any(|restriction| {
        *restriction.type_name == *subject.subject_type()
            && match (&restriction.facet, subject) {
                (Facet::Object, Subject::Object(_)) | (Facet::Wildcard, Subject::Wildcard(_)) => {
                    true
                }
                (Facet::Userset(of), Subject::Userset(_, relation)) => of == relation,
                _ => false,
            }
    })
}

/// Whether a tuple admitted by this facet could name the user or its type's wildcard.
fn faces(facet: &Facet, user: &Subject) -> bool {
    matches!(
        (facet, user),
        (Facet::Wildcard, _) | (Facet::Object, Subject::Object(_))
    )
}
