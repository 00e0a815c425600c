//! Which differences are on purpose. Each is recognised by a rule, checked with OpenFGA itself where it can be, and
//! counted; its reason is a row of the table in `docs/compatibility.md`.

use std::collections::BTreeSet;

use meridian_model::authorization_model::{Empty, RelationReference, Userset};
use serde_json::{Value, json};

use super::answers::Outcome;
use super::ask::{Asked, Stores};
use super::conditions::INLINE;
use super::met::Met;
use super::world::{Call, Key, Question, Tuple, World};
use crate::side_by_side::Pair;

/// OpenFGA's listings fail by conditions on which no member of the list depends.
pub(crate) const BESIDE_THE_WAY: &str = "A condition without an answer beside a listing's way";
/// OpenFGA names fewer of the users that a wildcard in the same list covers.
pub(crate) const BESIDE_A_WILDCARD: &str = "Users listed beside their wildcard";

/// OpenFGA's search for entrypoints remembers one branch's way in the next, and so passes some by.
pub(crate) const MISSED_ENTRYPOINTS: &str =
    "Models with entrypoints that OpenFGA's search passes by";

/// OpenFGA's Check says of each that is in one list alone what ours says.
pub(crate) const CONTRADICTED: &str = "A list that OpenFGA's own Check contradicts";
/// OpenFGA lists plain objects and wildcards of a type though usersets of it were asked for.
pub(crate) const PLAIN_USERS: &str = "ListUsers of usersets";
/// An inline expression's error ends OpenFGA's reading of a set, before a tuple that would allow.
pub(crate) const INLINE_ERROR: &str = "An inline expression without an answer";

/// On some ways OpenFGA lets a contextual tuple hide a stored one, on others both count.
pub(crate) const SAME_KEY: &str = "A contextual tuple with the key of a stored one";

/// OpenFGA says false where another tuple of the user counts, though not where it is asked about.
pub(crate) const TWO_HOPS: &str = "A condition without an answer on a way of two hops";

/// Asked again, OpenFGA answers as ours does.
pub(crate) const EITHER_WAY: &str = "What OpenFGA itself answers now so, now otherwise";

/// OpenFGA ends a cycle as it meets it; ours decides by what else is known.
pub(crate) const CYCLE: &str = "A cycle below an intersection or an exclusion";

const INVALID: &str = "grpc 2000";
const IDS: [&str; 3] = ["1", "2", "3"];
/// So often a question is asked again that no rule explains.
const AGAIN: usize = 20;

/// How two answers compare.
#[derive(Debug)]
pub(crate) enum Verdict {
    Same,
    /// For the reason of a row of the table.
    OnPurpose(&'static str),
    Different,
}

/// Compares ours and theirs.
pub(crate) async fn verdict(
    pair: &Pair,
    stores: &Stores,
    world: &World,
    question: &Question,
    [ours, theirs]: &[Outcome; 2],
) -> Verdict {
    if ours == theirs {
        return Verdict::Same;
    }
    let judge = Judge {
        pair,
        stores,
        world,
        question,
    };
    let reason = match &question.call {
        Call::Check(key) => judge.check(key, ours, theirs).await,
        Call::BatchCheck(keys) => judge.batch(keys, ours, theirs).await,
        Call::ListObjects { .. } => judge.objects(ours, theirs).await,
        Call::ListUsers { .. } => judge.users(ours, theirs).await,
        _ => None,
    };
    let reason = match reason {
        None if judge.is_hidden(ours).await => Some(SAME_KEY),
        None if judge.is_either_way(ours).await => Some(EITHER_WAY),
        reason => reason,
    };
    reason.map_or(Verdict::Different, Verdict::OnPurpose)
}

struct Judge<'a> {
    pair: &'a Pair,
    stores: &'a Stores,
    world: &'a World,
    question: &'a Question,
}

impl Judge<'_> {
    async fn check(&self, key: &Key, ours: &Outcome, theirs: &Outcome) -> Option<&'static str> {
        let unanswered = self.unanswered().await;
        let is_one = |tuple: &Tuple| unanswered.contains(tuple);
        let met = Met::by(self.world, self.question, key, &unanswered);
        match (allowed(ours), allowed(theirs)) {
            (Some(_), Some(_)) => met.has_cycle_below_operator().then_some(CYCLE),
            (Some(ours), None) if is_invalid(theirs) => {
                // Without what this check cannot meet, OpenFGA says what ours says.
                let is_beside = |tuple: &Tuple| is_one(tuple) && !met.any(|other| other == tuple);
                if self.allowed_without(key, is_beside).await == Some(ours) {
                    return Some(BESIDE_THE_WAY);
                }
                let is_inline = |tuple: &Tuple| bound_by_inline(tuple) && is_one(tuple);
                let without = |tuple: &Tuple| is_beside(tuple) || is_inline(tuple);
                let by_inline =
                    met.any(is_inline) && self.allowed_without(key, without).await == Some(ours);
                by_inline.then_some(INLINE_ERROR)
            }
            (None, Some(false)) if is_invalid(ours) => {
                let hides = |tuple: &Tuple| is_one(tuple) && self.has_another(tuple, &key.user);
                if met.has_cycle_below_operator() {
                    return Some(CYCLE);
                }
                (met.any(hides) && self.allowed_without(key, is_one).await == Some(false))
                    .then_some(TWO_HOPS)
            }
            _ => None,
        }
    }

    /// Whether the user, or everybody of its type, stands in the relation of a tuple by another one.
    fn has_another(&self, tuple: &Tuple, user: &str) -> bool {
        let kind = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
        let everybody = format!("{}:*", kind(user));
        let all = self.world.tuples.iter().chain(&self.question.contextual);
        all.into_iter().any(|other| {
            other != tuple
                && other.relation == tuple.relation
                && kind(&other.object) == kind(&tuple.object)
                && (other.user == user || other.user == everybody)
        })
    }

    /// Each check of a batch by itself.
    async fn batch(&self, keys: &[Key], ours: &Outcome, theirs: &Outcome) -> Option<&'static str> {
        let (Outcome::Answered(ours), Outcome::Answered(theirs)) = (ours, theirs) else {
            return None;
        };
        let outcome = |body: &Value, place: usize| {
            let single = body["result"][place.to_string()].clone();
            match single.get("error") {
                Some(error) if error["input_error"] == json!("validation_error") => {
                    Outcome::Failed(INVALID.into())
                }
                Some(error) => Outcome::Failed(error.to_string()),
                None => Outcome::Answered(single),
            }
        };
        let mut reason = None;
        for (place, key) in keys.iter().enumerate() {
            let [ours, theirs] = [ours, theirs].map(|body| outcome(body, place));
            if ours != theirs {
                reason = Some(self.check(key, &ours, &theirs).await?);
            }
        }
        reason
    }

    async fn objects(&self, ours: &Outcome, theirs: &Outcome) -> Option<&'static str> {
        let Call::ListObjects {
            kind,
            relation,
            user,
            ..
        } = &self.question.call
        else {
            return None;
        };
        // Ours fails where its check of an object does; OpenFGA may list an object of which its own check has no answer.
        let (listed, mut reason) = match (ours, theirs) {
            (Outcome::Answered(listed), Outcome::Answered(_)) => (listed, CONTRADICTED),
            (Outcome::Answered(listed), failed) | (failed, Outcome::Answered(listed))
                if is_invalid(failed) =>
            {
                (listed, BESIDE_THE_WAY)
            }
            _ => return None,
        };
        let listed = listed.to_string();
        for id in IDS {
            let object = format!("{kind}:{id}");
            let is_listed = listed.contains(&format!("\"{object}\""));
            let allowed = self.allowed(&object, relation, user).await;
            // What a check cannot decide by itself, no list may hold.
            if allowed.unwrap_or(false) == is_listed {
                continue;
            }
            if allowed.is_none() && is_invalid(ours) {
                reason = CONTRADICTED;
                continue;
            }
            let key = Key {
                object,
                relation: relation.clone(),
                user: user.clone(),
            };
            let met = Met::by(self.world, self.question, &key, &self.unanswered().await);
            return met.has_cycle_below_operator().then_some(CYCLE);
        }
        let is_explained = is_invalid(ours)
            || reason != BESIDE_THE_WAY
            || self.fails_by_conditions_alone(ours).await;
        is_explained.then_some(reason)
    }

    async fn users(&self, ours: &Outcome, theirs: &Outcome) -> Option<&'static str> {
        let Call::ListUsers {
            object,
            relation,
            filter,
        } = &self.question.call
        else {
            return None;
        };
        let (kind, of) = filter.split_once('#').unwrap_or((filter, ""));
        let names = IDS.map(|id| match of {
            "" => format!("{kind}:{id}"),
            of => format!("{kind}:{id}#{of}"),
        });
        match (ours, theirs) {
            (Outcome::Answered(_), failed) if is_invalid(failed) => {
                let by_conditions = self.fails_by_conditions_alone(ours).await;
                by_conditions.then_some(BESIDE_THE_WAY)
            }
            (Outcome::Answered(ours), Outcome::Answered(theirs))
                if !of.is_empty() && users(ours).0 == usersets(theirs) =>
            {
                Some(PLAIN_USERS)
            }
            (Outcome::Answered(ours), Outcome::Answered(theirs)) => {
                let ((mut ours, everyone), (mut theirs, all)) = (users(ours), users(theirs));
                let wildcard = format!("{kind}:*");
                for (names, has_wildcard) in [(&mut ours, everyone), (&mut theirs, all)] {
                    names.extend(has_wildcard.then(|| wildcard.clone()));
                }
                let mut reason = BESIDE_A_WILDCARD;
                for name in ours.symmetric_difference(&theirs) {
                    let allowed = self.allowed(object, relation, name).await?;
                    if !(allowed && everyone && all) {
                        reason = CONTRADICTED;
                        if allowed != ours.contains(name) {
                            return None;
                        }
                    }
                }
                Some(reason)
            }
            (Outcome::Failed(code), Outcome::Answered(theirs)) if code == INVALID => {
                let (theirs, everyone) = users(theirs);
                for name in &names {
                    let allowed = self.allowed(object, relation, name).await;
                    let allowed = allowed.unwrap_or(false);
                    if allowed != theirs.contains(name) && !(allowed && everyone) {
                        return None;
                    }
                }
                Some(BESIDE_THE_WAY)
            }
            _ => None,
        }
    }

    /// What OpenFGA's Check says; none if it is an error, and would be one without inline expressions.
    async fn allowed(&self, object: &str, relation: &str, user: &str) -> Option<bool> {
        let key = Key {
            object: object.into(),
            relation: relation.into(),
            user: user.into(),
        };
        let question = self.about(&key);
        let [_, theirs] = self.stores.ask(self.pair, &question).await;
        match theirs {
            Outcome::Answered(body) => body["allowed"].as_bool(),
            Outcome::Failed(_) => self.allowed_without_inline(&key).await,
        }
    }

    /// [`Self::allowed_without`] the inline expressions that have no answer.
    async fn allowed_without_inline(&self, key: &Key) -> Option<bool> {
        let unanswered = self.unanswered().await;
        let is_one = |tuple: &Tuple| bound_by_inline(tuple) && unanswered.contains(tuple);
        self.allowed_without(key, is_one).await
    }

    /// The tuples whose conditions OpenFGA cannot answer, each asked about alone, in a relation of its tuples only.
    async fn unanswered(&self) -> Vec<Tuple> {
        let mut tuples: Vec<_> = self.world.tuples.clone();
        tuples.extend(self.question.contextual.clone());
        tuples.retain(has_condition);
        let mut world = self.world.clone();
        world.earlier = None;
        world.tuples.clear();
        for tuple in &tuples {
            let (kind, _) = tuple.object.split_once(':').unwrap();
            let types = &mut world.model.type_definitions;
            let definition = types.iter_mut().find(|of| of.name == kind);
            let Some(definition) = definition else {
                continue;
            };
            if let Some(of) = definition.relations.get_mut(&tuple.relation) {
                *of = Userset::This(Empty {});
            }
            // So that it has an entrypoint without what it was computed from.
            let metadata = definition.metadata.as_mut();
            let relation = metadata.and_then(|of| of.relations.get_mut(&tuple.relation));
            if let Some(of) = relation {
                of.directly_related_user_types.push(RelationReference {
                    type_name: "user".into(),
                    relation: None,
                    wildcard: None,
                    condition: String::new(),
                });
            }
        }
        let Asked::Ready(stores, _) = Stores::make(self.pair, &mut world).await else {
            return Vec::new();
        };
        let mut unanswered = Vec::new();
        for tuple in tuples {
            let question = Question {
                call: Call::Check(Key {
                    object: tuple.object.clone(),
                    relation: tuple.relation.clone(),
                    user: tuple.user.clone(),
                }),
                contextual: vec![tuple.clone()],
                context: self.question.context.clone(),
            };
            let [_, theirs] = stores.ask(self.pair, &question).await;
            if is_invalid(&theirs) {
                unanswered.push(tuple);
            }
        }
        unanswered
    }

    /// Whether OpenFGA answers as ours does, when the stored tuples are not there whose keys contextual ones have.
    async fn is_hidden(&self, ours: &Outcome) -> bool {
        let mut world = self.world.clone();
        let given = &self.question.contextual;
        let of = |tuple: &Tuple| [&tuple.object, &tuple.relation, &tuple.user].map(String::clone);
        let is_given = |tuple: &Tuple| given.iter().any(|given| of(given) == of(tuple));
        world.tuples.retain(|tuple| !is_given(tuple));
        world != *self.world && self.said_of(world, self.question).await.as_ref() == Some(ours)
    }

    /// Whether OpenFGA answers as ours does, asked anew: it draws by lot how it evaluates, and its branches race.
    async fn is_either_way(&self, ours: &Outcome) -> bool {
        for _ in 0..AGAIN {
            if self
                .said_of(self.world.clone(), self.question)
                .await
                .as_ref()
                == Some(ours)
            {
                return true;
            }
        }
        false
    }

    /// Whether OpenFGA answers as ours does, when the tuples are not there whose conditions have no answer.
    async fn fails_by_conditions_alone(&self, ours: &Outcome) -> bool {
        let unanswered = self.unanswered().await;
        let (mut world, mut question) = (self.world.clone(), self.question.clone());
        world.tuples.retain(|tuple| !unanswered.contains(tuple));
        let given = &mut question.contextual;
        given.retain(|tuple| !unanswered.contains(tuple));
        self.said_of(world, &question).await.as_ref() == Some(ours)
    }

    /// What OpenFGA's Check says of the world without some tuples; none if there are none, or it is an error.
    async fn allowed_without(&self, key: &Key, without: impl Fn(&Tuple) -> bool) -> Option<bool> {
        let (mut world, mut question) = (self.world.clone(), self.about(key));
        world.tuples.retain(|tuple| !without(tuple));
        question.contextual.retain(|tuple| !without(tuple));
        if world == *self.world && question.contextual == self.question.contextual {
            return None;
        }
        allowed(&self.said_of(world, &question).await?)
    }

    /// What OpenFGA says of another world.
    async fn said_of(&self, mut world: World, question: &Question) -> Option<Outcome> {
        let Asked::Ready(stores, _) = Stores::make(self.pair, &mut world).await else {
            return None;
        };
        let [_, theirs] = stores.ask(self.pair, question).await;
        Some(theirs)
    }

    fn about(&self, key: &Key) -> Question {
        Question {
            call: Call::Check(key.clone()),
            ..self.question.clone()
        }
    }
}

/// What a check came to, unless it failed.
fn allowed(outcome: &Outcome) -> Option<bool> {
    match outcome {
        Outcome::Answered(body) => body["allowed"].as_bool(),
        Outcome::Failed(_) => None,
    }
}

fn has_condition(tuple: &Tuple) -> bool {
    tuple.condition.is_some()
}

fn bound_by_inline(tuple: &Tuple) -> bool {
    let condition = tuple.condition.as_ref();
    condition.is_some_and(|bound| bound.name == INLINE)
}

fn is_invalid(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(code) if code == INVALID)
}

/// The usersets in a list of users.
fn usersets(body: &Value) -> BTreeSet<String> {
    let (mut names, _) = users(body);
    names.retain(|name| name.contains('#'));
    names
}

/// The names in a list of users, and whether there is a wildcard among them.
fn users(body: &Value) -> (BTreeSet<String>, bool) {
    let mut names = BTreeSet::new();
    let mut everyone = false;
    for user in body["users"].as_array().into_iter().flatten() {
        let text = |at: &str| user.pointer(at).and_then(Value::as_str).unwrap_or_default();
        if user.get("wildcard").is_some() {
            everyone = true;
        } else if user.get("object").is_some() {
            names.insert(format!("{}:{}", text("/object/type"), text("/object/id")));
        } else {
            let (kind, id) = (text("/userset/type"), text("/userset/id"));
            names.insert(format!("{kind}:{id}#{}", text("/userset/relation")));
        }
    }
    (names, everyone)
}
