//! A store's model and tuples, and what can be asked about them.

use std::fmt;

use meridian_model::AuthorizationModel;
use serde_json::{Map, Value, json};

/// A store as both servers hold it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct World {
    /// The model that the tuples were written under, where it is another than the one that questions are asked of: it
    /// allows more, so that some stored tuples do not count.
    pub(crate) earlier: Option<AuthorizationModel>,
    pub(crate) model: AuthorizationModel,
    pub(crate) tuples: Vec<Tuple>,
}

/// A tuple, stored or contextual; perhaps one that no model allows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tuple {
    pub(crate) object: String,
    pub(crate) relation: String,
    pub(crate) user: String,
    pub(crate) condition: Option<Bound>,
}

/// A condition's name, and the context that a tuple gives to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) name: String,
    pub(crate) context: Map<String, Value>,
}

/// A question about a world.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Question {
    pub(crate) call: Call,
    pub(crate) contextual: Vec<Tuple>,
    pub(crate) context: Map<String, Value>,
}

/// Who is asked about, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Check(Key),
    /// Each with a correlation id that is its place.
    BatchCheck(Vec<Key>),
    Expand {
        object: String,
        relation: String,
    },
    ListObjects {
        kind: String,
        relation: String,
        user: String,
        streamed: bool,
    },
    ListUsers {
        object: String,
        relation: String,
        /// A type, or `type#relation`.
        filter: String,
    },
    Read,
    ReadChanges,
    ReadModels,
    /// Of the world's model; what is asked and expected.
    WriteAssertions(Vec<(Key, bool)>),
    ReadAssertions,
    /// Of the world's model.
    WriteModel,
    Write(Tuple),
}

/// What a check is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) object: String,
    pub(crate) relation: String,
    pub(crate) user: String,
}

impl Tuple {
    pub(crate) fn json(&self) -> Value {
        let mut json = json!({"object": self.object, "relation": self.relation, "user": self.user});
        if let Some(Bound { name, context }) = &self.condition {
            json["condition"] = json!({"name": name, "context": context});
        }
        json
    }
}

impl Key {
    fn json(&self) -> Value {
        json!({"object": self.object, "relation": self.relation, "user": self.user})
    }
}

impl Call {
    /// The method's name.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Check(_) => "Check",
            Self::BatchCheck(_) => "BatchCheck",
            Self::Expand { .. } => "Expand",
            Self::ListObjects {
                streamed: false, ..
            } => "ListObjects",
            Self::ListObjects { streamed: true, .. } => "StreamedListObjects",
            Self::ListUsers { .. } => "ListUsers",
            Self::Read => "Read",
            Self::ReadChanges => "ReadChanges",
            Self::ReadModels => "ReadAuthorizationModels",
            Self::WriteAssertions(_) => "WriteAssertions",
            Self::ReadAssertions => "ReadAssertions",
            Self::WriteModel => "WriteAuthorizationModel",
            Self::Write(_) => "Write",
        }
    }

    /// The relation asked of, as type and relation.
    pub(crate) fn target(&self) -> Vec<(&str, &str)> {
        let of = |object: &'_ str| object.split(':').next().unwrap_or_default().len();
        match self {
            Self::Check(key) => vec![(&key.object[..of(&key.object)], &key.relation)],
            Self::BatchCheck(keys) => keys
                .iter()
                .map(|key| (&key.object[..of(&key.object)], key.relation.as_str()))
                .collect(),
            Self::Expand { object, relation }
            | Self::ListUsers {
                object, relation, ..
            } => {
                vec![(&object[..of(object)], relation)]
            }
            Self::ListObjects { kind, relation, .. } => vec![(kind, relation)],
            _ => Vec::new(),
        }
    }
}

impl Question {
    /// One that brings nothing along.
    pub(crate) fn of(call: Call) -> Self {
        Self {
            call,
            contextual: Vec::new(),
            context: Map::new(),
        }
    }

    /// The request about a store and its latest model, in OpenFGA's JSON.
    pub(crate) fn request(&self, store: &str, model: &str) -> Value {
        let contextual: Vec<_> = self.contextual.iter().map(Tuple::json).collect();
        let grouped = json!({"tuple_keys": contextual});
        let context = &self.context;
        match &self.call {
            Call::Check(key) => json!({
                "store_id": store, "tuple_key": key.json(), "contextual_tuples": grouped, "context": context,
            }),
            Call::BatchCheck(keys) => {
                let checks = keys.iter().enumerate().map(|(place, key)| {
                    json!({
                        "tuple_key": key.json(), "contextual_tuples": grouped, "context": context,
                        "correlation_id": place.to_string(),
                    })
                });
                json!({"store_id": store, "checks": checks.collect::<Vec<_>>()})
            }
            Call::Expand { object, relation } => json!({
                "store_id": store, "tuple_key": {"object": object, "relation": relation},
                "contextual_tuples": grouped,
            }),
            Call::ListObjects {
                kind,
                relation,
                user,
                ..
            } => json!({
                "store_id": store, "type": kind, "relation": relation, "user": user,
                "contextual_tuples": grouped, "context": context,
            }),
            Call::ListUsers {
                object,
                relation,
                filter,
            } => {
                let (kind, id) = object.split_once(':').unwrap_or((object, ""));
                let (filter_kind, filter_relation) = filter.split_once('#').unwrap_or((filter, ""));
                json!({
                    "store_id": store, "object": {"type": kind, "id": id}, "relation": relation,
                    "user_filters": [{"type": filter_kind, "relation": filter_relation}],
                    "contextual_tuples": contextual, "context": context,
                })
            }
            Call::WriteAssertions(expected) => {
                let assertion = |(key, expectation): &(Key, bool)| {
                    json!({
                        "tuple_key": key.json(), "expectation": expectation,
                        "contextual_tuples": contextual, "context": context,
                    })
                };
                let assertions: Vec<_> = expected.iter().map(assertion).collect();
                json!({"store_id": store, "authorization_model_id": model, "assertions": assertions})
            }
            Call::ReadAssertions => json!({"store_id": store, "authorization_model_id": model}),
            Call::ReadModels => json!({"store_id": store}),
            Call::Read | Call::ReadChanges | Call::WriteModel | Call::Write(_) => {
                json!({"store_id": store, "page_size": 100})
            }
        }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}@{}", self.object, self.relation, self.user)?;
        match &self.condition {
            Some(Bound { name, context }) => {
                write!(f, " with {name} {}", Value::Object(context.clone()))
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(earlier) = &self.earlier {
            writeln!(f, "tuples were written under")?;
            writeln!(f, "{}", meridian_model::dsl::print(earlier))?;
            writeln!(f, "and the question is asked of")?;
        }
        writeln!(f, "{}", meridian_model::dsl::print(&self.model))?;
        for tuple in &self.tuples {
            writeln!(f, "tuple      {tuple}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tuple in &self.contextual {
            writeln!(f, "contextual {tuple}")?;
        }
        writeln!(f, "context    {}", Value::Object(self.context.clone()))?;
        write!(f, "question   {:?}", self.call)
    }
}
