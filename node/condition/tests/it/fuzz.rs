//! No input panics, overflows the stack or runs long.

use std::collections::BTreeMap;

use crate::evaluate;
use meridian_condition::{Condition, Context, ParameterType};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Pieces that make CEL more often than characters do.
const PIECES: [&str; 60] = [
    "x",
    "y",
    "l",
    "m",
    "a",
    "1",
    "0",
    "-",
    "2u",
    "1.5",
    "'a'",
    "\"b\"",
    "b'c'",
    "true",
    "false",
    "null",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ".",
    ",",
    ":",
    "?",
    " && ",
    " || ",
    "!",
    " == ",
    " != ",
    " < ",
    " >= ",
    " in ",
    "+",
    "*",
    "/",
    "%",
    ".all(",
    ".exists(",
    ".map(",
    ".filter(",
    ".exists_one(",
    "has(",
    "size(",
    "dyn(",
    "type(",
    "int(",
    "string(",
    "timestamp(",
    "duration(",
    "ipaddress(",
    ".matches(",
    ".contains(",
    ".in_cidr(",
    ".getHours(",
    "`",
    "\\",
    "'''",
    "é",
];

fn expressions() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..40)
            .prop_map(|pieces| pieces.concat()),
        ".{0,80}",
    ]
}

fn parameters() -> BTreeMap<String, ParameterType> {
    let types = [
        ("x", "int"),
        ("y", "string"),
        ("l", "list<int>"),
        ("m", "map<any>"),
        ("a", "any"),
    ];
    types
        .into_iter()
        .map(|(name, declared)| (name.to_owned(), declared.parse().unwrap()))
        .collect()
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[-+]?[0-9]{0,30}\\.?[0-9]{0,400}([eEpP][-+]?[0-9]{1,20})?".prop_map(Value::from),
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{1,2}:[0-9]{2}:[0-9]{2}[.,]?[0-9]{0,12}(Z|[-+][0-9]{2}:[0-9]{2})".prop_map(Value::from),
        "[-+]?([0-9]{0,20}\\.?[0-9]{0,20}(h|m|s|ms|us|ns)?){0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_expression_panics(expression in expressions(), x in values(), a in values()) {
        let context = json!({"x": 1, "y": "b", "l": [1, 2], "m": {"a": x}, "a": a});
        let Value::Object(context) = context else { return Ok(()) };
        if let Ok(condition) = Condition::compile("c", &expression, parameters()) {
            let _any = evaluate(&condition, &[&context], 100);
        }
        let mut inline = Context::new();
        inline.insert("expression".to_owned(), expression.into());
        let _any = Condition::inline(&inline);
    }

    #[test]
    fn no_context_panics(value in values(), declared in proptest::sample::select(&[
        "any", "bool", "string", "int", "uint", "double", "duration", "timestamp", "ipaddress", "map<int>", "list<double>",
    ][..])) {
        let parameters = [("v".to_owned(), declared.parse().unwrap())];
        let condition = Condition::compile("c", "string(dyn(v)) == '' || true", parameters).unwrap();
        let context = Context::from_iter([("v".to_owned(), value)]);
        let checked = condition.check_context(&context);
        let evaluated = evaluate(&condition, &[&context], 1_000_000);
        prop_assert_eq!(checked.is_ok(), evaluated.is_ok());
    }

    #[test]
    fn no_pattern_panics(pattern in "[-a-c(){}\\[\\]|*+?.^$\\\\:<>0-9pPQEdswx&~é]{0,24}", text in ".{0,16}") {
        let parameters = [("t", "string"), ("p", "string")].map(|(n, t)| (n.to_owned(), t.parse().unwrap()));
        let condition = Condition::compile("c", "t.matches(p)", parameters).unwrap();
        let context = Context::from_iter([("t".to_owned(), text.into()), ("p".to_owned(), pattern.into())]);
        let _any = evaluate(&condition, &[&context], 1_000);
    }
}

/// Each way to nest, far beyond the limit and at it, on the stack of a server's worker.
#[test]
fn nesting_is_bounded() {
    let ways = [
        ("(", "true", ")"),
        ("!", "true", ""),
        ("-", "1", ""),
        ("[", "", "]"),
        ("{'a':", "1", "}"),
        ("", "1", "+1"),
        ("1+(", "1", ")"),
        ("1<(", "1", ")"),
        ("1*(1+", "1", ")"),
        ("", "a", ".a"),
        ("", "a", "[0]"),
        ("[0][", "0", "]"),
        ("true?", "true", ":true"),
        ("true?true:", "true", ""),
        ("dyn(", "1", ")"),
        ("'a'.contains(", "'a'", ")"),
        ("[1].all(x,", "true", ")"),
        ("[1].map(x,", "1", ")"),
        ("[1].filter(x,", "true", ")"),
        ("1-", "1", ""),
        ("true&&(", "true", ")"),
        ("(true?", "1", ":1)"),
        ("", "[1]", ".map(x,[x])"),
        ("", "[{}]", ".map(x,{x:x})"),
        ("a in (", "a", ")"),
        ("has(", "a.a", ")"),
        ("type(", "1", ")"),
    ];
    for (before, middle, after) in ways {
        for times in [20, 120, 124, 249, 250, 251, 5_000] {
            let nested = format!("{}{middle}{}", before.repeat(times), after.repeat(times));
            for expression in [format!("{nested} == {nested}"), nested] {
                let parameters = [("a".to_owned(), ParameterType::Any)];
                if let Ok(condition) = Condition::compile("c", &expression, parameters) {
                    let context = Context::from_iter([("a".to_owned(), json!({"a": 1}))]);
                    let _any = evaluate(&condition, &[&context], 1_000_000);
                }
            }
        }
    }
}
