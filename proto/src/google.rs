//! The well-known types that messages hold, and their JSON.

pub use prost_types::{ListValue, Struct, Timestamp, Value, value};

use serde_json::{Map, Number, Value as Json};
use value::Kind;

/// Whole numbers below it are exact in a double, 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A struct as a JSON object. Whole numbers lose their fraction (`1.0` is `1`); what JSON has no word for (infinity, not
/// a number) becomes null.
pub fn struct_to_json(object: &Struct) -> Map<String, Json> {
    object
        .fields
        .iter()
        .map(|(name, value)| (name.clone(), value_to_json(value)))
        .collect()
}

/// A JSON object as a struct. Numbers become doubles.
pub fn struct_from_json(object: Map<String, Json>) -> Struct {
    Struct {
        fields: object
            .into_iter()
            .map(|(name, value)| (name, value_from_json(value)))
            .collect(),
    }
}

/// As [`struct_to_json`], of one value. A value without a kind is null.
pub fn value_to_json(value: &Value) -> Json {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(*value),
        Some(Kind::NumberValue(value)) => number_to_json(*value),
        Some(Kind::StringValue(value)) => Json::String(value.clone()),
        Some(Kind::ListValue(list)) => Json::Array(list.values.iter().map(value_to_json).collect()),
        Some(Kind::StructValue(object)) => Json::Object(struct_to_json(object)),
    }
}

/// As [`struct_from_json`], of one value.
pub fn value_from_json(value: Json) -> Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Json::String(value) => Kind::StringValue(value),
        Json::Array(values) => Kind::ListValue(ListValue {
            values: values.into_iter().map(value_from_json).collect(),
        }),
        Json::Object(object) => Kind::StructValue(struct_from_json(object)),
    };
    Value { kind: Some(kind) }
}

fn number_to_json(value: f64) -> Json {
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Json::from(value as i64);
    }
    Number::from_f64(value).map_or(Json::Null, Json::Number)
}
