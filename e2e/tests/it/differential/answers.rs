//! What both answered, as far as OpenFGA guarantees it.

use serde_json::Value;

use crate::side_by_side::Answer;

/// An answer that can be compared: lists as sets, errors as their codes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Answered(Value),
    Failed(String),
}

impl Outcome {
    pub(crate) fn new(answer: Answer) -> Self {
        if answer.status != "grpc 0" {
            return Self::Failed(answer.status);
        }
        let mut body = answer.body;
        tidy(&mut body);
        Self::Answered(body)
    }

    /// A few words for a count.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Failed(code) => code.clone(),
            Self::Answered(body) => match body.get("allowed") {
                Some(allowed) => format!("allowed {allowed}"),
                None => "a list or a tree".to_owned(),
            },
        }
    }
}

/// Sorts every list, and takes times, tokens, models' ids and an error's words out.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(values) => {
            values.iter_mut().for_each(tidy);
            values.sort_by_key(Value::to_string);
        }
        Value::Object(object) => {
            for name in [
                "timestamp",
                "continuation_token",
                "message",
                "authorization_model_id",
            ] {
                object.remove(name);
            }
            if object.contains_key("schema_version") {
                object.remove("id");
            }
            object.values_mut().for_each(tidy);
        }
        _ => {}
    }
}
