//! What a user reads when a condition or a context is wrong.

use crate::evaluate;
use meridian_condition::{Condition, Context, Outcome, ParameterType};
use serde_json::{Value, json};

fn context(value: Value) -> Context {
    value.as_object().unwrap().clone()
}

fn parameters(types: &[(&str, &str)]) -> Vec<(String, ParameterType)> {
    types
        .iter()
        .map(|(name, declared)| ((*name).to_owned(), declared.parse().unwrap()))
        .collect()
}

#[test]
fn compiling_names_condition_place_and_what_was_found() {
    let failing = |expression: &str, types: &[(&str, &str)]| {
        Condition::compile("c", expression, parameters(types))
            .unwrap_err()
            .to_string()
    };
    let prefix = "failed to compile expression on condition 'c' - ";
    for (expression, types, wanted) in [
        (
            "invalid",
            &[][..],
            "ERROR: c:1:1: undeclared reference to 'invalid' (in container '')",
        ),
        (
            "ipaddress(true).in_cidr('::/0')",
            &[],
            "ERROR: c:1:10: found no matching overload for 'ipaddress' applied to '(bool)'",
        ),
        (
            "x +\n x.size()",
            &[("x", "int")],
            "ERROR: c:2:8: found no matching overload for 'size' applied to 'int.()'",
        ),
        (
            "x ==",
            &[("x", "int")],
            "ERROR: c:1:5: Syntax error: unexpected input '<EOF>'",
        ),
        (
            "'é' == §",
            &[],
            "ERROR: c:1:8: Syntax error: token recognition error at: '§'",
        ),
        (
            "x",
            &[("x", "string")],
            "expected a bool condition expression output, but got 'string'",
        ),
        (
            "x",
            &[("x", "any")],
            "expected a bool condition expression output, but got 'any'",
        ),
        (
            "int('a') == 1",
            &[],
            "ERROR: c:1:4: type conversion error: ToInt of 'a'",
        ),
        (
            "Foo{} == 1",
            &[],
            "ERROR: c:1:1: message literals are not supported, found 'Foo{'",
        ),
        (
            "'a'.matches('a**')",
            &[],
            "ERROR: c:1:12: error parsing regexp: invalid nested repetition operator in 'a**'",
        ),
        (
            "'a'.matches('(')",
            &[],
            "ERROR: c:1:12: error parsing regexp: unclosed group in '('",
        ),
        ("for", &[], "ERROR: c:1:1: reserved identifier: for"),
    ] {
        assert_eq!(
            failing(expression, types),
            format!("{prefix}{wanted}"),
            "{expression}"
        );
    }
}

#[test]
fn contexts_name_parameter_value_and_remedy() {
    let condition = Condition::compile(
        "c",
        "x > 1 && d > duration('1s')",
        parameters(&[("x", "int"), ("d", "duration")]),
    );
    let condition = condition.unwrap();
    let failing = |value: Value| {
        condition
            .check_context(&context(value))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        failing(json!({"x": "1.5"})),
        "parameter type error on condition 'c' - failed to convert context parameter 'x': expected a whole number, but \
         found \"1.5\""
    );
    assert_eq!(
        failing(json!({"d": 5})),
        "parameter type error on condition 'c' - failed to convert context parameter 'd': expected a duration like \
         '1h30m', but found 5"
    );
    assert_eq!(
        failing(json!({"z": 1})),
        "found invalid context parameter: z; condition 'c' declares no such parameter, so leave it out"
    );
    assert!(condition.check_context(&context(json!({"x": 1}))).is_ok());
    assert!(condition.check_context(&Context::new()).is_ok());
    let none = Condition::compile("n", "true", []).unwrap();
    assert_eq!(
        none.check_context(&context(json!({"x": 1})))
            .unwrap_err()
            .to_string(),
        "parameter type error on condition 'n' - no parameters defined for the condition; leave the context empty"
    );
}

#[test]
fn what_is_missing_and_which_context_counts() {
    let condition = Condition::compile(
        "c",
        "x == 1 || y",
        parameters(&[("x", "int"), ("y", "bool")]),
    )
    .unwrap();
    let (request, tuple) = (context(json!({"x": 2, "z": 1})), context(json!({"x": 1})));
    let outcome = evaluate(&condition, &[&request, &tuple], 100).unwrap();
    assert_eq!(outcome, missing(&["y"], 0));
    let request = context(json!({"x": 2, "y": false}));
    let met = |contexts: &[&Context]| evaluate(&condition, contexts, 100).unwrap();
    assert_eq!(
        met(&[&request, &tuple]),
        Outcome::Decided { met: true, cost: 2 }
    );
    assert_eq!(
        met(&[&tuple, &request]),
        Outcome::Decided {
            met: false,
            cost: 3
        }
    );
    assert_eq!(
        evaluate(&condition, &[&Context::new()], 100).unwrap(),
        missing(&["x", "y"], 0)
    );
}

fn missing(parameters: &[&str], more: usize) -> Outcome {
    let parameters = parameters.iter().map(|name| (*name).to_owned()).collect();
    Outcome::Missing { parameters, more }
}

#[test]
fn of_many_parameters_without_a_value_the_first_are_named_and_all_are_work() {
    let names: Vec<_> = (10..33).map(|n| format!("p{n}")).collect();
    let declared: Vec<_> = names.iter().map(|name| (&**name, "string")).collect();
    let condition = Condition::compile("c", "p10 == 'a'", parameters(&declared)).unwrap();
    let (asked, fixed) = (Context::new(), Context::new());
    let evaluated = condition.evaluate(&condition.cast(&asked), &fixed, 100);
    let first: Vec<_> = names.iter().take(20).map(|name| &**name).collect();
    assert_eq!(evaluated.outcome, Ok(missing(&first, 3)));
    assert_eq!(evaluated.work, 23);
}

#[test]
fn a_limit_stops_what_costs_more() {
    let condition =
        Condition::compile("c", "l.all(x, x >= 0)", parameters(&[("l", "list<int>")])).unwrap();
    let long = context(json!({"l": vec![1; 100]}));
    let error = evaluate(&condition, &[&long], 100).unwrap_err();
    assert_eq!(
        error.to_string(),
        "'c' - failed to evaluate condition expression: operation cancelled: actual cost limit exceeded (100); simplify \
         the expression or shorten the values"
    );
    let cost = 501 + 1;
    assert_eq!(
        evaluate(&condition, &[&long], cost).unwrap(),
        Outcome::Decided { met: true, cost }
    );
}

#[test]
fn types_that_grow_are_refused() {
    let expression = format!("[{{}}]{} == []", ".map(x, {x: x})".repeat(30));
    let error = Condition::compile("c", &expression, [])
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("the expression's types are too complex; simplify it"),
        "{error}"
    );
}

#[test]
fn threads_share_a_condition() {
    fn shared(_: impl Send + Sync) {}
    shared(Condition::compile("c", "true", []).unwrap());
}

#[test]
fn sums_of_lists_take_no_room() {
    let doubled = ".map(x, x + x)".repeat(30);
    let expression = format!("[l]{doubled}[0].size() > 0");
    let condition =
        Condition::compile("c", &expression, parameters(&[("l", "list<int>")])).unwrap();
    let context = context(json!({"l": vec![1; 1_000]}));
    assert!(matches!(
        evaluate(&condition, &[&context], 10_000),
        Ok(Outcome::Decided { met: true, .. })
    ));
}

#[test]
fn an_inline_expression_brings_its_parameters() {
    let inline = |value: Value| Condition::inline(&context(value));
    let condition =
        inline(json!({"expression": "channel == 'X' && n > 1", "parameters": {"n": "int"}}))
            .unwrap();
    let declared: Vec<String> = condition
        .parameters()
        .map(|(name, declared)| format!("{name}: {declared}"))
        .collect();
    assert_eq!(
        (condition.name(), declared),
        (
            "$expression",
            vec!["channel: string".to_owned(), "n: int".to_owned()]
        )
    );
    let request = context(json!({"channel": "X", "n": "2", "other": 1}));
    assert_eq!(
        evaluate(&condition, &[&request], 100).unwrap(),
        Outcome::Decided { met: true, cost: 4 }
    );
    for (value, wanted) in [
        (
            json!({}),
            "$expression: context field 'expression' must be a non-empty string",
        ),
        (
            json!({"expression": "true", "parameters": 1}),
            "$expression: context field 'parameters' must be a map from parameter names to type names",
        ),
        (
            json!({"expression": "x", "parameters": {"x": "list"}}),
            "$expression: invalid parameter type for parameter 'x': parameter type 'list' requires a generic element type, e.g. 'list<any>'",
        ),
    ] {
        assert_eq!(inline(value).unwrap_err().to_string(), wanted);
    }
}

/// OpenFGA reads 64 bits of a number in a text, and refuses what a double then does not hold.
#[test]
fn a_double_in_a_text_is_exact() {
    let condition = Condition::compile("c", "x > 1.0", parameters(&[("x", "double")])).unwrap();
    let is_taken = |text: &str| {
        condition
            .check_context(&context(json!({ "x": text })))
            .is_ok()
    };
    for exact in ["0.5", "-1.75", "18446744073709551616", "9007199254740992"] {
        assert!(is_taken(exact), "{exact}");
    }
    for other in [
        "0.1",
        "18446744073709551615",
        "-18446744073709551615",
        "36893488147419103230",
        "184467440737095516150e-1",
    ] {
        assert!(!is_taken(other), "{other}");
    }
}
