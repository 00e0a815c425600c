//! What is said when all stages are over.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

use crate::stage::{Done, Outcome, say};

/// How many lines of a failed stage are shown again.
const TAIL_LINES: usize = 60;

/// The stages that are test programs.
const TESTS: [&str; 3] = ["cluster", "browser", "test"];

/// What running all tests may take, on two cores, where tools and most of the build are there.
const WARM_LIMIT: Duration = Duration::from_secs(30 * 60);
/// The same where tools or the whole build are made first.
const COLD_LIMIT: Duration = Duration::from_secs(75 * 60);

/// Prints each failure with the end of its output, then a table of all stages, which ran for `whole` in all, in part
/// side by side.
pub(crate) fn print(stages: &[Done], whole: Duration) -> ExitCode {
    for stage in stages {
        if let Outcome::Failed(error) = &stage.outcome {
            say(&format!("\n---- {} failed: {error}", stage.name));
            excerpt(&stage.lines).into_iter().for_each(say);
        }
    }
    say("\nstage     result    seconds  share");
    for stage in stages {
        let (result, reason) = match &stage.outcome {
            Outcome::Passed => ("passed", ""),
            Outcome::Failed(_) => ("FAILED", ""),
            Outcome::Skipped(reason) => ("skipped", reason.as_str()),
        };
        let row = format!(
            "{:<9} {result:<9} {:>7.1}  {:>4.0}%  {reason}",
            stage.name,
            stage.took.as_secs_f64(),
            share(stage.took, whole)
        );
        say(row.trim_end());
    }
    if stages.iter().all(Done::passed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints what all tests took and may take; too long is no failure, for machines differ.
pub(crate) fn print_limit(whole: Duration, is_cold: bool) {
    limit_lines(whole, is_cold)
        .iter()
        .for_each(|line| say(line));
}

fn limit_lines(whole: Duration, is_cold: bool) -> Vec<String> {
    let (limit, kind) = if is_cold {
        (COLD_LIMIT, "cold")
    } else {
        (WARM_LIMIT, "warm")
    };
    let (seconds, limit_minutes) = (whole.as_secs(), limit.as_secs() / 60);
    let mut lines = vec![format!(
        "whole {} min {} s (limit {limit_minutes}, {kind})",
        seconds / 60,
        seconds % 60
    )];
    if whole > limit {
        lines.push(format!(
            "warning: longer than the {limit_minutes} minutes that a {kind} run may take"
        ));
    }
    lines
}

/// In percent; stages that ran side by side have more than 100 together.
fn share(took: Duration, whole: Duration) -> f64 {
    if whole.is_zero() {
        return 0.0;
    }
    100.0 * took.as_secs_f64() / whole.as_secs_f64()
}

/// Prints cargo's closing line for each test program that has tests, below its name, and their sum last.
pub(crate) fn print_test_results(stages: &[Done]) {
    say("");
    let tests = stages.iter().filter(|stage| TESTS.contains(&stage.name));
    let mut lines = Vec::new();
    for stage in tests {
        if let Outcome::Skipped(reason) = &stage.outcome {
            say(&format!("no test of {} has run: {reason}", stage.name));
        }
        lines.extend_from_slice(&stage.lines);
    }
    results(&lines).iter().for_each(|line| say(line));
    let (passed, failed) = sum(&lines);
    say(&format!("{passed} passed, {failed} failed"));
}

/// Each closing line below its program's name; those of programs without tests are left out.
fn results(lines: &[String]) -> Vec<String> {
    let mut package = String::new();
    let mut names = VecDeque::new();
    let mut shown = Vec::new();
    for line in lines {
        // Names come by another pipe than results, so a name may overtake the result before it.
        if let Some((what, file)) = running(line) {
            if what.starts_with("unittests") {
                if !what.starts_with("unittests src/bin/") {
                    package.clone_from(&file);
                }
                names.push_back(file);
            } else {
                names.push_back(format!("{package}, {what}"));
            }
        } else if is_result(line) {
            let name = names.pop_front().unwrap_or_default();
            if !line.contains(" 0 passed; 0 failed;") {
                shown.extend([name, line.clone()]);
            }
        }
    }
    shown
}

/// What cargo says it runs, and the name of the program's file without its hash; nothing of the benchmark, whose short
/// run is no test program: cargo itself says when it fails.
fn running(line: &str) -> Option<(&str, String)> {
    let (what, rest) = line
        .trim_start()
        .strip_prefix("Running ")?
        .split_once(" (")?;
    let file = rest.trim_end_matches(')').rsplit('/').next()?;
    let name = file.rsplit_once('-').map_or(file, |(name, _)| name);
    (!what.starts_with("unittests examples/")).then(|| (what, name.to_owned()))
}

/// The lists of failures, if these are tests; else the end of the output.
fn excerpt(lines: &[String]) -> Vec<&str> {
    let mut failures = Vec::new();
    let mut inside = false;
    for line in lines {
        inside = (inside || line == "failures:") && !is_result(line);
        if inside {
            failures.push(line.as_str());
        }
    }
    if failures.is_empty() {
        failures.extend(
            lines
                .iter()
                .skip(lines.len().saturating_sub(TAIL_LINES))
                .map(String::as_str),
        );
    }
    failures
}

fn is_result(line: &str) -> bool {
    line.starts_with("test result: ")
}

/// Tests passed and failed. A program that ended without a closing line, such as by a signal, counts as one failed.
fn sum(lines: &[String]) -> (u64, u64) {
    let programs = lines.iter().filter(|line| running(line).is_some()).count();
    let results: Vec<_> = lines.iter().filter(|line| is_result(line)).collect();
    let crashed = programs.saturating_sub(results.len()) as u64;
    let count = |what: &str| {
        results
            .iter()
            .filter_map(|line| number_before(line, what))
            .sum::<u64>()
    };
    (count("passed;"), count("failed;") + crashed)
}

fn number_before(line: &str, what: &str) -> Option<u64> {
    let words: Vec<_> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == what)?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{excerpt, limit_lines, results, sum};

    const OUTPUT: &str = "\
     Running unittests src/lib.rs (target/debug/deps/one-1)
running 2 tests
test a ... ok
test b ... FAILED

failures:

---- b stdout ----
left is not right

failures:
    b

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/it/main.rs (target/debug/deps/it-2)
running 3 tests
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s

     Running tests/it/main.rs (target/debug/deps/it-3)
error: test failed: signal: 11, SIGSEGV";

    fn lines() -> Vec<String> {
        OUTPUT.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_crashed_program_counts_as_a_failure() {
        assert_eq!(sum(&lines()), (4, 2));
    }

    #[test]
    fn results_have_names_and_empty_ones_are_left_out() {
        let lines = [
            "     Running unittests src/lib.rs (target/debug/deps/meridian_a-1f)",
            "test result: ok. 2 passed; 0 failed; 0 ignored",
            "     Running unittests src/bin/a.rs (target/debug/deps/a-2f)",
            // Overtaken by the next name.
            "     Running tests/it/main.rs (target/debug/deps/it-3f)",
            "test result: ok. 0 passed; 0 failed; 0 ignored",
            "test result: ok. 3 passed; 0 failed; 0 ignored",
        ]
        .map(str::to_owned);
        assert_eq!(
            results(&lines),
            [
                "meridian_a",
                "test result: ok. 2 passed; 0 failed; 0 ignored",
                "meridian_a, tests/it/main.rs",
                "test result: ok. 3 passed; 0 failed; 0 ignored",
            ]
        );
    }

    #[test]
    fn the_failures_are_picked_from_all_programs() {
        let lines = lines();
        let excerpt = excerpt(&lines);
        assert!(excerpt.contains(&"left is not right"));
        assert!(!excerpt.contains(&"running 3 tests"));
    }

    #[test]
    fn without_failed_tests_the_end_is_shown() {
        let lines: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(excerpt(&lines).first(), Some(&"40"));
    }

    #[test]
    fn too_long_is_a_warning() {
        let lines = |seconds, is_cold| limit_lines(Duration::from_secs(seconds), is_cold);
        assert_eq!(lines(843, false), ["whole 14 min 3 s (limit 30, warm)"]);
        assert_eq!(lines(1801, true), ["whole 30 min 1 s (limit 75, cold)"]);
        assert_eq!(
            lines(1801, false),
            [
                "whole 30 min 1 s (limit 30, warm)",
                "warning: longer than the 30 minutes that a warm run may take"
            ]
        );
    }
}
