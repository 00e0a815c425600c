//! What Go's `test2json` says of a run, counted and grouped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// How many lines of an error tell what it is: `Not equal:`, `expected: …`, `actual: …`.
const LINES_OF_ERROR: usize = 3;
/// Letters in the identifiers that a server gives.
const ULID: usize = 26;

/// How the tests of one run have ended. One that has subtests is counted like any other.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many passed.
    pub passed: usize,
    /// How many were skipped.
    pub skipped: usize,
    /// How many failed, by themselves or by a subtest.
    pub failed: usize,
    /// Those that failed by themselves, in the order in which they ended.
    pub failures: Vec<Failure>,
    /// How many unary calls were answered, by the call's name and the node that did.
    pub served: BTreeMap<(String, String), usize>,
    /// What was printed by no test, such as a panic.
    pub unowned: String,
}

/// A test that failed by itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its name, with those of the tests that it is part of.
    pub test: String,
    /// Where, as `check.go:171`, and the first line of what was wrong. Without the server's identifiers, so that failures
    /// of one cause read alike.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    action: String,
    test: Option<String>,
    #[serde(default)]
    output: String,
}

impl Report {
    /// Reads what `test2json` has printed; lines that are not JSON are somebody else's.
    ///
    /// # Errors
    ///
    /// When a line is not an event, or there is none.
    pub fn read(printed: &str) -> Result<Self> {
        let mut report = Self::default();
        let mut outputs: HashMap<String, String> = HashMap::new();
        let mut failed = Vec::new();
        let (events, rest): (Vec<_>, Vec<_>) = printed
            .lines()
            .partition(|line| line.trim_start().starts_with('{'));
        ensure!(!events.is_empty(), "no test was run: {}", rest.join("\n"));
        for line in events {
            let event: Event =
                serde_json::from_str(line).with_context(|| format!("reading the event {line}"))?;
            match (event.action.as_str(), event.test) {
                ("pass", Some(_)) => report.passed += 1,
                ("skip", Some(_)) => report.skipped += 1,
                ("fail", Some(test)) => failed.push(test),
                ("output", Some(test)) => {
                    outputs.entry(test).or_default().push_str(&event.output);
                }
                ("output", None) => report.unowned.push_str(&event.output),
                _ => {}
            }
        }
        report.served = report.unowned.lines().filter_map(served).collect();
        report.failed = failed.len();
        let parents: HashSet<&str> = failed.iter().flat_map(|test| parents(test)).collect();
        for test in &failed {
            let output = outputs.get(test).map_or("", String::as_str);
            let error = error(output);
            if error.is_some() || !parents.contains(test.as_str()) {
                report.failures.push(Failure {
                    test: test.clone(),
                    reason: without_ids(&error.unwrap_or_else(|| first_line(output))),
                });
            }
        }
        Ok(report)
    }
}

impl fmt::Display for Report {
    /// The counts, then each reason with the tests that failed for it, the most frequent first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
            ..
        } = self;
        writeln!(f, "{passed} passed, {failed} failed, {skipped} skipped")?;
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for Failure { test, reason } in &self.failures {
            groups.entry(reason).or_default().push(test);
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, tests)| std::cmp::Reverse(tests.len()));
        for (reason, tests) in groups {
            writeln!(f, "{} × {reason}", tests.len())?;
            for test in tests {
                writeln!(f, "    {test}")?;
            }
        }
        if self.failed > 0 {
            f.write_str(&self.unowned)?;
        }
        Ok(())
    }
}

/// Of a line like `served Check edge/test 17`: the call, the node, and how often it answered.
fn served(line: &str) -> Option<((String, String), usize)> {
    let mut words = line.strip_prefix("served ")?.split(' ');
    let mut word = || words.next();
    let of = (word()?.to_owned(), word()?.to_owned());
    Some((of, word()?.parse().ok()?))
}

/// The tests that a test is part of, by name.
fn parents(test: &str) -> impl Iterator<Item = &str> {
    test.match_indices('/').filter_map(|(at, _)| test.get(..at))
}

/// The error of a failed assertion, and where it stands.
fn error(output: &str) -> Option<String> {
    let mut lines = output.lines().map(str::trim);
    let trace = lines.find_map(|line| line.strip_prefix("Error Trace:"))?;
    let place = trace.rsplit('/').next().unwrap_or_default().trim();
    let mut said = lines
        .skip_while(|line| !line.starts_with("Error:"))
        .map(|line| line.strip_prefix("Error:").unwrap_or(line).trim())
        .take_while(|line| !line.starts_with("Test:") && !line.starts_with("Messages:"))
        .filter(|line| !line.is_empty());
    let first = said.next()?.to_owned();
    let lines = if first.ends_with(':') {
        LINES_OF_ERROR
    } else {
        1
    };
    let rest = said.take(lines - 1);
    let all: Vec<&str> = std::iter::once(first.as_str()).chain(rest).collect();
    Some(format!("{place}: {}", all.join(" ")))
}

/// The first line that a test itself has printed.
fn first_line(output: &str) -> String {
    output
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("===") && !line.starts_with("---"))
        .unwrap_or("no reason given")
        .to_owned()
}

fn without_ids(text: &str) -> String {
    let is_id = |word: &str| {
        word.len() == ULID
            && word
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
    };
    text.split_inclusive(|char: char| !char.is_ascii_alphanumeric())
        .map(|part| {
            let word = part.trim_end_matches(|char: char| !char.is_ascii_alphanumeric());
            match part.strip_prefix(word) {
                Some(end) if is_id(word) => format!("<id>{end}"),
                _ => part.to_owned(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
