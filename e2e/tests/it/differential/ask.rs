//! Worlds on both servers.

use std::collections::BTreeMap;

use meridian_model::AuthorizationModel;
use serde_json::{Value, json, to_value};

use super::answers::Outcome;
use super::verdict::MISSED_ENTRYPOINTS;
use super::world::{Call, Question, Tuple, World};
use crate::side_by_side::{Answer, Pair};

const REFUSED: &str = "model: refused by both";

/// A world's store on each server: ours, theirs.
pub(crate) struct Stores {
    ids: [String; 2],
    /// The latest.
    models: [String; 2],
}

/// What came of writing a world.
pub(crate) enum Asked {
    /// It is there, without the tuples that both refused; and what was counted.
    Ready(Stores, BTreeMap<String, usize>),
    /// Its model is not there on both, and that is right: what was counted.
    Refused(String),
    /// One of them refuses the model, or a tuple.
    Different(Question, [Outcome; 2]),
}

impl Stores {
    /// Makes the stores; tuples that both refuse are taken out of `world`.
    pub(crate) async fn make(pair: &Pair, world: &mut World) -> Asked {
        let made = both(pair, "CreateStore", |_| json!({"name": "differential"})).await;
        let mut stores = Self {
            ids: made.map(|answer| text(&answer, "id")),
            models: Default::default(),
        };
        let first = world.earlier.as_ref().unwrap_or(&world.model);
        let (taken, why) = stores.write_model(pair, first).await;
        match taken {
            [true, true] => {}
            [false, false] => return Asked::Refused(REFUSED.to_owned()),
            taken => return refused_by_one(taken, &why),
        }
        let mut counts = BTreeMap::new();
        let mut accepted = Vec::new();
        for tuple in &world.tuples {
            let [ours, theirs] = stores.write(pair, tuple).await;
            let kind = format!(
                "tuple: {}",
                if theirs == "grpc 0" {
                    "written"
                } else {
                    "refused by both"
                }
            );
            if ours != theirs {
                let question = Question::of(Call::Write(tuple.clone()));
                return Asked::Different(question, [ours, theirs].map(Outcome::Failed));
            }
            *counts.entry(kind).or_default() += 1;
            if theirs == "grpc 0" {
                accepted.push(tuple.clone());
            }
        }
        world.tuples = accepted;
        if world.earlier.is_some() {
            let (taken, why) = stores.write_model(pair, &world.model).await;
            match taken {
                [true, true] => {}
                [false, false] => return Asked::Refused(REFUSED.to_owned()),
                taken => return refused_by_one(taken, &why),
            }
        }
        Asked::Ready(stores, counts)
    }

    /// Whether each took the model, and why theirs did not.
    async fn write_model(
        &mut self,
        pair: &Pair,
        model: &AuthorizationModel,
    ) -> ([bool; 2], String) {
        let model = to_value(model).unwrap();
        let answers = both(pair, "WriteAuthorizationModel", |side| {
            let mut request = model.clone();
            request["store_id"] = json!(self.ids[side]);
            request
        });
        let answers = answers.await;
        let why = answers[1].message().unwrap_or_default().to_owned();
        self.models = answers.each_ref().map(|answer| {
            let id = answer.body.get("authorization_model_id");
            id.and_then(Value::as_str).unwrap_or_default().to_owned()
        });
        (answers.map(|answer| answer.status == "grpc 0"), why)
    }

    async fn write(&self, pair: &Pair, tuple: &Tuple) -> [String; 2] {
        let answers = both(
            pair,
            "Write",
            |side| json!({"store_id": self.ids[side], "writes": {"tuple_keys": [tuple.json()]}}),
        );
        answers.await.map(|answer| answer.status)
    }

    /// What both say.
    pub(crate) async fn ask(&self, pair: &Pair, question: &Question) -> [Outcome; 2] {
        let method = question.call.method();
        let answers = both(pair, method, |side| {
            question.request(&self.ids[side], &self.models[side])
        });
        answers.await.map(Outcome::new)
    }
}

/// Of the model.
fn refused_by_one(taken: [bool; 2], why: &str) -> Asked {
    if taken == [true, false]
        && ["no entrypoints", "potential loop"]
            .iter()
            .any(|words| why.contains(words))
    {
        return Asked::Refused(format!("on purpose: {MISSED_ENTRYPOINTS}"));
    }
    let said = taken.map(|taken| Outcome::Failed(format!("model taken: {taken} {why}")));
    Asked::Different(Question::of(Call::WriteModel), said)
}

async fn both(pair: &Pair, method: &str, request: impl Fn(usize) -> Value) -> [Answer; 2] {
    let none = BTreeMap::new();
    let [ours, theirs] =
        [0, 1].map(|side| pair.servers[side].grpc.call(method, request(side), &none));
    let (ours, theirs) = tokio::join!(ours, theirs);
    [ours, theirs]
}

fn text(answer: &Answer, field: &str) -> String {
    let value = answer.body.get(field).and_then(Value::as_str);
    value
        .unwrap_or_else(|| panic!("no {field}: {answer:?}"))
        .to_owned()
}
