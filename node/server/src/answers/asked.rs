//! What a check's answer depends on, as a key.

use meridian_model::Position;
use meridian_proto::openfga::v1;
use prost::Message;

/// Everything of a request that its answer depends on: store, model, question, contextual tuples, context.
///
/// It is the request itself in one canonical form, encoded, and compared whole: two requests are equal here only if they
/// decode to the same. Leaving a part out, joining parts by a separator or comparing a hash alone has let one caller's answer
/// reach another elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asked(Box<[u8]>);

impl Asked {
    /// The key of a request under `model`, which is the empty text for the latest one there is. Which consistency it asks for
    /// and whether it wants a trace is left out: neither changes what is answered.
    pub fn new(request: &v1::CheckRequest, model: &str) -> Self {
        let mut tuples = request
            .contextual_tuples
            .as_ref()
            .map(|given| given.tuple_keys.clone())
            .unwrap_or_default();
        // In which order they are given does not matter, except among those of one key, whose order is kept.
        tuples.sort_by(|one, other| key_of(one).cmp(&key_of(other)));
        let canonical = v1::CheckRequest {
            store_id: request.store_id.clone(),
            authorization_model_id: model.to_owned(),
            tuple_key: request.tuple_key.clone(),
            contextual_tuples: (!tuples.is_empty())
                .then_some(v1::ContextualTupleKeys { tuple_keys: tuples }),
            context: request.context.clone(),
            trace: false,
            consistency: 0,
        };
        Self(canonical.encode_to_vec().into())
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

fn key_of(tuple: &v1::TupleKey) -> (&str, &str, &str) {
    (&tuple.object, &tuple.relation, &tuple.user)
}

/// What checks have in common that may share one evaluation: the request, and the least position that is asked for.
pub type Shared = (Asked, Option<Position>);

#[cfg(test)]
mod tests {
    use meridian_proto::google::value::Kind;
    use meridian_proto::google::{Struct, Value};

    use super::*;

    fn tuple(user: &str, condition: &str) -> v1::TupleKey {
        v1::TupleKey {
            user: user.into(),
            relation: "reader".into(),
            object: "doc:1".into(),
            condition: (!condition.is_empty()).then(|| v1::RelationshipCondition {
                name: condition.into(),
                context: None,
            }),
        }
    }

    fn context(name: &str, number: f64) -> Struct {
        let value = Value {
            kind: Some(Kind::NumberValue(number)),
        };
        Struct {
            fields: [(name.to_owned(), value)].into(),
        }
    }

    fn request(user: &str, tuples: Vec<v1::TupleKey>, given: Option<Struct>) -> v1::CheckRequest {
        v1::CheckRequest {
            store_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
            tuple_key: Some(v1::CheckRequestTupleKey {
                user: user.into(),
                relation: "reader".into(),
                object: "doc:1".into(),
            }),
            contextual_tuples: Some(v1::ContextualTupleKeys { tuple_keys: tuples }),
            context: given,
            ..Default::default()
        }
    }

    /// CVE-2026-33729 (OpenFGA): a key without the conditions' context let one caller's answer reach another.
    /// GHSA-4vrg-r928-h5vv (SpiceDB): a key without the hints that an answer was computed by.
    #[test]
    fn whatever_an_answer_depends_on_tells_keys_apart() {
        let plain = request("user:anne", Vec::new(), None);
        let others = [
            (request("user:bob", Vec::new(), None), "m"),
            (
                request("user:anne", vec![tuple("user:anne", "")], None),
                "m",
            ),
            (
                request("user:anne", vec![tuple("user:anne", "c")], None),
                "m",
            ),
            (request("user:anne", vec![tuple("user:bob", "")], None), "m"),
            (
                request("user:anne", Vec::new(), Some(Struct::default())),
                "m",
            ),
            (
                request("user:anne", Vec::new(), Some(context("x", 1.0))),
                "m",
            ),
            (
                request("user:anne", Vec::new(), Some(context("x", 2.0))),
                "m",
            ),
            (
                request("user:anne", Vec::new(), Some(context("y", 1.0))),
                "m",
            ),
            (plain.clone(), "n"),
            (plain.clone(), ""),
            (
                v1::CheckRequest {
                    store_id: "01ARZ3NDEKTSV4RRFFQ69G5FAW".into(),
                    ..plain.clone()
                },
                "m",
            ),
        ];
        let mut keys: std::collections::HashSet<_> = [Asked::new(&plain, "m")].into();
        for (other, model) in &others {
            assert!(keys.insert(Asked::new(other, model)), "{other:?} {model}");
        }
    }

    /// Texts that run into each other when they are joined: where one ends is part of the key.
    #[test]
    fn where_one_text_ends_and_the_next_begins_is_told() {
        let asked = |object: &str, relation: &str, user: &str| {
            let mut request = request(user, Vec::new(), None);
            request.tuple_key = Some(v1::CheckRequestTupleKey {
                user: user.into(),
                relation: relation.into(),
                object: object.into(),
            });
            Asked::new(&request, "m")
        };
        assert_ne!(
            asked("doc:1#a", "b", "user:c"),
            asked("doc:1", "a#b", "user:c")
        );
        assert_ne!(
            asked("doc:1", "a@user:b", "user:c"),
            asked("doc:1", "a", "user:b@user:c")
        );
    }

    #[test]
    fn what_an_answer_does_not_depend_on_is_no_part_of_its_key() {
        let (one, other) = (tuple("user:anne", ""), tuple("user:bob", "c"));
        let key = |tuples| Asked::new(&request("user:anne", tuples, None), "m");
        assert_eq!(
            key(vec![one.clone(), other.clone()]),
            key(vec![other, one.clone()])
        );
        // Among those of one key it may.
        let conditioned = tuple("user:anne", "c");
        assert_ne!(
            key(vec![one.clone(), conditioned.clone()]),
            key(vec![conditioned, one])
        );
        let plain = request("user:anne", Vec::new(), None);
        let traced = v1::CheckRequest {
            trace: true,
            contextual_tuples: None,
            consistency: v1::ConsistencyPreference::MinimizeLatency.into(),
            ..plain.clone()
        };
        assert_eq!(Asked::new(&plain, "m"), Asked::new(&traced, "m"));
    }
}
