//! Conditions of every parameter type, and values for them: mostly fitting, sometimes not.

use std::collections::BTreeMap;

use meridian_model::authorization_model::{Condition, ConditionParameter};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::{Map, Value, json};

/// The condition that a tuple brings along itself.
pub(crate) const INLINE: &str = "$expression";

/// A name, an expression, and its parameters with their types: `list<string>`.
type Row = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// Parameters of one name are of one type, so that a question's context fits most of them.
const CONDITIONS: [Row; 14] = [
    ("is_one", "x == 1", &[("x", "int")]),
    ("at_least", "x >= y", &[("x", "int"), ("y", "int")]),
    ("fraction", "1 / x == 1", &[("x", "int")]),
    ("named", "s.startsWith('a') || s == ''", &[("s", "string")]),
    ("flag", "b", &[("b", "bool")]),
    ("either", "b || x == 1", &[("b", "bool"), ("x", "int")]),
    ("small", "u < 5u", &[("u", "uint")]),
    ("warm", "d > 0.5", &[("d", "double")]),
    ("short", "t < duration('1h')", &[("t", "duration")]),
    (
        "before",
        "at < timestamp('2030-01-01T00:00:00Z')",
        &[("at", "timestamp")],
    ),
    ("inside", "ip.in_cidr('10.0.0.0/8')", &[("ip", "ipaddress")]),
    ("mapped", "m['k'] == 'a'", &[("m", "map<string>")]),
    (
        "listed",
        "s in l && l.size() > 0",
        &[("l", "list<string>"), ("s", "string")],
    ),
    ("anything", "a == 1", &[("a", "any")]),
];

/// Some of them, by name.
pub(crate) fn some(random: &mut StdRng) -> BTreeMap<String, Condition> {
    let count = random.random_range(1..4);
    let rows = CONDITIONS.choose_multiple(random, count);
    rows.map(|row| (row.0.to_owned(), condition(*row)))
        .collect()
}

fn condition((name, expression, parameters): Row) -> Condition {
    Condition {
        name: name.into(),
        expression: expression.into(),
        parameters: parameters
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), parameter(kind)))
            .collect(),
        metadata: None,
    }
}

fn parameter(kind: &str) -> ConditionParameter {
    let (outer, inner) = match kind.split_once('<') {
        Some((outer, inner)) => (outer, Some(inner.trim_end_matches('>'))),
        None => (kind, None),
    };
    ConditionParameter {
        type_name: format!("TYPE_NAME_{}", outer.to_uppercase()),
        generic_types: inner.map(parameter).into_iter().collect(),
    }
}

/// What a tuple gives to the condition `name`: all, a part, or nothing of it.
pub(crate) fn tuple_context(name: &str, random: &mut StdRng) -> Map<String, Value> {
    if name == INLINE {
        let row = CONDITIONS.choose(random).unwrap();
        let parameters = row
            .2
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), json!(kind)));
        let parameters: Map<_, _> = parameters.collect();
        let context = json!({"expression": row.1, "parameters": parameters});
        return context.as_object().cloned().unwrap();
    }
    let row = CONDITIONS.iter().find(|row| row.0 == name);
    let parameters = row.map(|row| row.2).unwrap_or_default();
    let mut context = Map::new();
    for (name, kind) in parameters {
        if random.random_bool(0.5) {
            context.insert((*name).to_owned(), value(kind, random));
        }
    }
    context
}

/// What a question brings along: values for parameters of many conditions.
pub(crate) fn request_context(random: &mut StdRng) -> Map<String, Value> {
    if random.random_bool(0.3) {
        return Map::new();
    }
    let all = CONDITIONS.iter().flat_map(|row| row.2);
    let mut context = Map::new();
    for (name, kind) in all {
        if random.random_bool(0.6) {
            context.insert((*name).to_owned(), value(kind, random));
        }
    }
    context
}

fn value(kind: &str, random: &mut StdRng) -> Value {
    if random.random_bool(0.06) {
        return [
            json!(null),
            json!(true),
            json!("odd"),
            json!(1.5),
            json!({}),
            json!([1]),
        ]
        .choose(random)
        .cloned()
        .unwrap();
    }
    let values = match kind {
        "int" => [json!(1), json!(0), json!(2), json!("1"), json!(-1)],
        "uint" => [json!(1), json!(9), json!("3"), json!(0), json!(-1)],
        "double" => [json!(0.25), json!(1), json!("0.75"), json!(2.5), json!(0)],
        "string" => [json!("a"), json!("abc"), json!("b"), json!(""), json!("c")],
        "bool" => [
            json!(true),
            json!(false),
            json!(true),
            json!(false),
            json!("true"),
        ],
        "duration" => [
            json!("1s"),
            json!("2h"),
            json!("1h30m"),
            json!("90m"),
            json!("1.5h"),
        ],
        "timestamp" => [
            json!("2024-02-29T12:00:00Z"),
            json!("2031-01-01T00:00:00Z"),
            json!("2029-12-31T23:59:59+02:00"),
            json!("2020-01-01T00:00:00.5Z"),
            json!("2024-01-01"),
        ],
        "ipaddress" => [
            json!("10.1.2.3"),
            json!("192.168.0.1"),
            json!("::1"),
            json!("::ffff:10.0.0.1"),
            json!("10.0.0.256"),
        ],
        "map<string>" => [
            json!({"k": "a"}),
            json!({"k": "b"}),
            json!({}),
            json!({"j": "a"}),
            json!({"k": "a", "j": "b"}),
        ],
        "list<string>" => [
            json!(["a"]),
            json!([]),
            json!(["b", "abc"]),
            json!(["", "c"]),
            json!(["a", "a"]),
        ],
        _ => [
            json!(1),
            json!("1"),
            json!(true),
            json!([1]),
            json!({"a": 1}),
        ],
    };
    values.choose(random).cloned().unwrap()
}
