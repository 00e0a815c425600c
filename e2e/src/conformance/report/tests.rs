use super::{Failure, Report};

/// As `test2json` prints them; tests that run side by side are mixed.
const EVENTS: &str = r#"
go: some line that is no event
{"Action":"start"}
{"Action":"run","Test":"TestCheck"}
{"Action":"run","Test":"TestCheck/this"}
{"Action":"run","Test":"TestCheck/this/stage_0"}
{"Action":"run","Test":"TestCheck/that"}
{"Action":"output","Test":"TestCheck/this/stage_0","Output":"=== RUN   TestCheck/this/stage_0\n"}
{"Action":"output","Test":"TestCheck/this/stage_0","Output":"    check.go:171: \n"}
{"Action":"output","Test":"TestCheck/that","Output":"    check.go:99: no check assertions defined\n"}
{"Action":"output","Test":"TestCheck/this/stage_0","Output":"        \tError Trace:\tgithub.com/openfga/openfga@v1.22.1/tests/check/check.go:171\n"}
{"Action":"output","Test":"TestCheck/this/stage_0","Output":"        \tError:      \tReceived unexpected error:\n"}
{"Action":"output","Test":"TestCheck/this/stage_0","Output":"        \t            \trpc error: code = Code(2020) desc = no model in '01M7Z768RB1V0EJY6CXD905RP5'\n"}
{"Action":"output","Test":"TestCheck/this/stage_0","Output":"        \tTest:       \tTestCheck/this/stage_0\n"}
{"Action":"output","Test":"TestCheck/this/stage_0","Output":"        \tMessages:   \tCheck request\n"}
{"Action":"fail","Test":"TestCheck/this/stage_0"}
{"Action":"fail","Test":"TestCheck/this"}
{"Action":"skip","Test":"TestCheck/that"}
{"Action":"fail","Test":"TestCheck"}
{"Action":"pass","Test":"TestListUsers"}
{"Action":"output","Output":"FAIL\n"}
{"Action":"output","Output":"served Check edge/test 17\n"}
{"Action":"fail"}
"#;

#[test]
fn a_failure_is_told_of_the_test_that_failed_by_itself() {
    let report = Report::read(EVENTS).unwrap();
    let reason = "check.go:171: Received unexpected error: rpc error: code = Code(2020) desc = no model in '<id>'";
    let failure = Failure {
        test: "TestCheck/this/stage_0".to_owned(),
        reason: reason.to_owned(),
    };
    assert_eq!(report.failures, [failure]);
    assert_eq!((report.passed, report.failed, report.skipped), (1, 3, 1));
    let served = (("Check".to_owned(), "edge/test".to_owned()), 17);
    assert_eq!(report.served, [served].into());
    let shown = report.to_string();
    assert!(
        shown.starts_with("1 passed, 3 failed, 1 skipped\n"),
        "{shown}"
    );
    assert!(
        shown.contains(&format!("1 × {reason}\n    TestCheck/this/stage_0\n")),
        "{shown}"
    );
}

#[test]
fn a_parent_that_fails_by_itself_too_is_told_of() {
    let own = r#"{"Action":"output","Test":"TestCheck","Output":"  Error Trace: check.go:7\n  Error: Should be true\n  Test: TestCheck\n"}"#;
    let report = Report::read(&format!("{own}\n{EVENTS}")).unwrap();
    let names: Vec<_> = report
        .failures
        .iter()
        .map(|failure| &failure.test)
        .collect();
    assert_eq!(names, ["TestCheck/this/stage_0", "TestCheck"]);
    assert_eq!(report.failures[1].reason, "check.go:7: Should be true");
}

#[test]
fn the_most_frequent_reason_comes_first() {
    let fail = |test: &str, why: &str| {
        format!(
            r#"{{"Action":"output","Test":"{test}","Output":"    {why}\n"}}
{{"Action":"fail","Test":"{test}"}}
"#
        )
    };
    let events = [fail("A", "rare"), fail("B", "usual"), fail("C", "usual")].concat();
    let shown = Report::read(&events).unwrap().to_string();
    assert_eq!(
        shown,
        "0 passed, 3 failed, 0 skipped\n2 × usual\n    B\n    C\n1 × rare\n    A\n"
    );
}

#[test]
fn a_run_without_tests_is_an_error_that_says_what_was_printed() {
    let error = Report::read("fork/exec: no such file\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no test was run: fork/exec: no such file"
    );
}
