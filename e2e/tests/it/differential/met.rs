//! What a check meets on its way: a plain walk over all that could be looked at. A condition without an answer ends a way;
//! what the others say is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use meridian_model::AuthorizationModel;
use meridian_model::authorization_model::{RelationReference, Userset};

use super::constructs::{reached, restrictions};
use super::world::{Key, Question, Tuple, World};

/// A set: object and relation.
type Set = (String, String);

/// What a check meets.
#[derive(Default)]
pub(crate) struct Met {
    /// The tuples that can matter: of the user, of its type's wildcard, of usersets and of parents.
    tuples: Vec<Tuple>,
    /// By set, whether an intersection or an exclusion stands above it on some way there.
    sets: BTreeMap<Set, bool>,
    next: BTreeMap<Set, BTreeSet<Set>>,
}

impl Met {
    /// What the check of `key` meets, which belongs to `question`. Of the `unanswered` tuples the conditions have no answer.
    pub(crate) fn by(world: &World, question: &Question, key: &Key, unanswered: &[Tuple]) -> Self {
        let mut walk = Walk {
            model: &world.model,
            tuples: world.tuples.iter().chain(&question.contextual).collect(),
            user: &key.user,
            unanswered,
            met: Self::default(),
        };
        let start = (key.object.clone(), key.relation.clone());
        walk.set(start, false);
        walk.met
    }

    /// Whether one of the tuples that can matter is among these.
    pub(crate) fn any(&self, of: impl Fn(&Tuple) -> bool) -> bool {
        self.tuples.iter().any(of)
    }

    /// Whether a cycle is met below an intersection or an exclusion.
    pub(crate) fn has_cycle_below_operator(&self) -> bool {
        let below = self.sets.iter().filter(|(_, below)| **below);
        below.into_iter().any(|(set, _)| self.leads_back(set))
    }

    fn leads_back(&self, set: &Set) -> bool {
        let mut seen = BTreeSet::new();
        let mut left = vec![set];
        while let Some(at) = left.pop() {
            for next in self.next.get(at).into_iter().flatten() {
                if next == set {
                    return true;
                }
                if seen.insert(next) {
                    left.push(next);
                }
            }
        }
        false
    }
}

struct Walk<'a> {
    model: &'a AuthorizationModel,
    tuples: Vec<&'a Tuple>,
    user: &'a str,
    unanswered: &'a [Tuple],
    met: Met,
}

impl<'a> Walk<'a> {
    fn set(&mut self, set: Set, below: bool) {
        if self
            .met
            .sets
            .get(&set)
            .is_some_and(|known| *known || !below)
        {
            return;
        }
        self.met.sets.insert(set.clone(), below);
        let kind = kind_of(&set.0);
        if !can_stand(self.model, kind, &set.1, self.user) {
            return;
        }
        let definition = self
            .model
            .type_definitions
            .iter()
            .find(|of| of.name == kind);
        let rewrite = definition.and_then(|of| of.relations.get(&set.1));
        if let Some(rewrite) = rewrite {
            self.rewrite(&set, rewrite, below);
        }
    }

    fn rewrite(&mut self, set: &Set, rewrite: &'a Userset, below: bool) {
        match rewrite {
            Userset::This(_) => {
                for tuple in self.counted(&set.0, &set.1) {
                    let userset = tuple.user.split_once('#');
                    let wildcard = format!("{}:*", kind_of(self.user));
                    let is_users = tuple.user == self.user
                        || (tuple.user == wildcard && !self.user.contains('#'));
                    if is_users || userset.is_some() {
                        self.met.tuples.push(tuple.clone());
                    }
                    if let Some((object, relation)) = userset
                        && !self.unanswered.contains(tuple)
                    {
                        self.step(set, (object.into(), relation.into()), below);
                    }
                }
            }
            Userset::ComputedUserset(of) => {
                let same = (set.0.clone(), of.relation.clone());
                self.step(set, same, below);
            }
            Userset::TupleToUserset(of) => {
                for tuple in self.counted(&set.0, &of.tupleset.relation) {
                    self.met.tuples.push(tuple.clone());
                    let parent = (tuple.user.clone(), of.computed_userset.relation.clone());
                    if !self.unanswered.contains(tuple) {
                        self.step(set, parent, below);
                    }
                }
            }
            Userset::Union(of) => {
                for child in &of.child {
                    self.rewrite(set, child, below);
                }
            }
            Userset::Intersection(of) => {
                for child in &of.child {
                    self.rewrite(set, child, true);
                }
            }
            Userset::Difference(of) => {
                self.rewrite(set, &of.base, true);
                self.rewrite(set, &of.subtract, true);
            }
        }
    }

    fn step(&mut self, from: &Set, to: Set, below: bool) {
        let next = self.met.next.entry(from.clone()).or_default();
        next.insert(to.clone());
        self.set(to, below);
    }

    /// The tuples of a set that the model allows.
    fn counted(&self, object: &str, relation: &str) -> Vec<&'a Tuple> {
        let definition = self
            .model
            .type_definitions
            .iter()
            .find(|of| of.name == kind_of(object));
        let allowed = definition.map_or(&[][..], |of| restrictions(of, relation));
        let is_one = |tuple: &&&Tuple| {
            tuple.object == object
                && tuple.relation == relation
                && allowed.iter().any(|restriction| admits(restriction, tuple))
        };
        self.tuples.iter().filter(is_one).copied().collect()
    }
}

fn admits(restriction: &RelationReference, tuple: &Tuple) -> bool {
    let (object, relation) = match tuple.user.split_once('#') {
        Some((object, relation)) => (object, Some(relation)),
        None => (&*tuple.user, None),
    };
    let condition = tuple.condition.as_ref().map_or("", |bound| &bound.name);
    restriction.type_name == kind_of(object)
        && restriction.relation.as_deref() == relation
        && restriction.wildcard.is_some() == object.ends_with(":*")
        && restriction.condition == condition
}

/// Whether the model lets such a user stand in a relation.
fn can_stand(model: &AuthorizationModel, kind: &str, relation: &str, user: &str) -> bool {
    let (relations, facets) = reached(model, kind, relation);
    match user.split_once('#') {
        Some((object, of)) => relations.contains(&(kind_of(object).to_owned(), of.to_owned())),
        None => {
            let kind = kind_of(user);
            facets.contains(kind) || facets.contains(&format!("{kind}:*"))
        }
    }
}

fn kind_of(object: &str) -> &str {
    object.split(':').next().unwrap_or_default()
}
