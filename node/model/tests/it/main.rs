//! The rules of models and tuples, and the language, as those who write them see them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod language;
mod rules;
mod tuples;

use meridian_model::{AuthorizationModel, dsl};

/// A case of a data file: `## name`, a line of expectation, a body.
struct Case {
    name: &'static str,
    expected: &'static str,
    body: &'static str,
}

fn cases(file: &'static str) -> Vec<Case> {
    let cases: Vec<Case> = file
        .split("\n## ")
        .skip(1)
        .map(|case| {
            let (name, rest) = case.split_once('\n').expect("a name");
            let (expected, body) = rest.split_once('\n').expect("an expectation");
            Case {
                name,
                expected,
                body,
            }
        })
        .collect();
    assert!(!cases.is_empty());
    cases
}

fn model(text: &str) -> AuthorizationModel {
    if text.starts_with('{') {
        serde_json::from_str(text).expect("JSON")
    } else {
        dsl::parse(text).unwrap_or_else(|errors| {
            panic!(
                "{}",
                errors
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n")
            )
        })
    }
}
