//! Whatever OpenFGA found of a condition, ours finds too, at the same cost.
//!
//! `corpus.jsonl` holds one case a line; the README beside it says how it was made. `MERIDIAN_TEST_CONDITION_CORPUS` names
//! another file of such lines, to compare with more.

use std::collections::BTreeMap;

use crate::evaluate;
use meridian_condition::{CompileError, Condition, Context, EvalError, Outcome};
use serde_json::Value;

fn found(case: &Value) -> (String, Option<u64>) {
    let object = |name: &str| {
        case.get(name)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let compiled = if case.get("inline").is_some() {
        Condition::inline(&object("inline"))
    } else {
        let parameters: BTreeMap<_, _> = object("parameters")
            .iter()
            .map(|(name, declared)| (name.clone(), declared.as_str().unwrap().parse().unwrap()))
            .collect();
        Condition::compile("c", case["expression"].as_str().unwrap(), parameters)
    };
    let name = |name: &str| (name.to_owned(), None);
    match compiled.map(|condition| evaluate(&condition, &[&object("context") as &Context], 100)) {
        Err(
            CompileError::Expression { .. }
            | CompileError::NotBool { .. }
            | CompileError::InlineField { .. }
            | CompileError::InlineParameter { .. },
        ) => name("compile"),
        Ok(Ok(Outcome::Decided { met, cost })) => (met.to_string(), Some(cost)),
        Ok(Ok(Outcome::Missing { .. })) => name("missing"),
        Ok(Err(EvalError::Context(_))) => name("context"),
        Ok(Err(EvalError::Failed { .. })) => name("error"),
        Ok(Err(EvalError::TooCostly { .. })) => name("cost"),
    }
}

#[test]
fn finds_what_openfga_finds() {
    let path = std::env::var("MERIDIAN_TEST_CONDITION_CORPUS").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/corpus.jsonl").to_owned()
    });
    let cases = std::fs::read_to_string(path).unwrap();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut differing = Vec::new();
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let wanted = (
            case["result"].as_str().unwrap().to_owned(),
            case.get("cost").and_then(Value::as_u64),
        );
        let found = found(&case);
        if found != wanted {
            differing.push(format!("found {found:?} for {line}"));
        }
        *counts.entry(wanted.0).or_default() += 1;
    }
    println!("{counts:?}");
    assert!(
        counts.values().sum::<usize>() >= 1_000,
        "a corpus of {counts:?}"
    );
    assert!(
        differing.is_empty(),
        "{} differ:\n{}",
        differing.len(),
        differing.join("\n")
    );
}
