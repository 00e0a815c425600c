use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use meridian_e2e::{Probe, Process, Signal, free_port};

const SOON: Duration = Duration::from_secs(20);
const OUTLIVED_DIR: &str = "MERIDIAN_TEST_OUTLIVED_DIR";

fn shell(name: &str, dir: &Path, script: &str) -> Process {
    Process::new(name, "/bin/sh", dir).args(["-c", script])
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, wait)
        .await
        .unwrap_or_else(|_| panic!("{what} not in {SOON:?}"));
}

fn alive(pid: &str) -> bool {
    // A process that nobody has reaped yet is dead all the same.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn an_early_end_is_reported_with_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = shell("early", dir.path(), "echo cannot open the door >&2; exit 3");
    process.start().unwrap();
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()));
    let error = process
        .ready(&Probe::Tcp(nowhere), SOON)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("early ended (exit status: 3) before it was ready"),
        "{error}"
    );
    assert!(error.contains("cannot open the door"), "{error}");
}

#[tokio::test]
async fn a_passed_deadline_says_what_was_awaited() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = shell("deaf", dir.path(), "exec sleep 1000");
    process.start().unwrap();
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()));
    let probe = Probe::Http(nowhere, "/healthz".to_owned());
    let error = process
        .ready(&probe, Duration::from_millis(50))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("deaf is not ready after 50ms") && error.contains("/healthz"),
        "{error}"
    );
}

#[tokio::test]
async fn stop_lets_a_process_finish_and_kill_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap 'echo tidied; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let mut process = shell("tidy", dir.path(), script);
    let printed = |times: usize| move |log: &str| log.matches("up").count() == times;

    process.start().unwrap();
    let log = process.log();
    until("first start", || {
        printed(1)(&fs::read_to_string(&log).unwrap())
    })
    .await;
    process.kill().await;
    assert!(!process.log_tail(10).contains("tidied"));

    process.start().unwrap();
    until("second start", || {
        printed(2)(&fs::read_to_string(&log).unwrap())
    })
    .await;
    process.stop().await.unwrap();
    assert!(process.log_tail(10).contains("tidied"));
    assert!(process.id().is_none());
}

#[tokio::test]
async fn a_frozen_process_can_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = shell("frozen", dir.path(), "while :; do sleep 0.05; done");
    process.start().unwrap();
    let stat = format!("/proc/{}/stat", process.id().unwrap());
    process.signal(Signal::STOP).unwrap();
    until("freezing", || {
        fs::read_to_string(&stat).unwrap().contains(") T ")
    })
    .await;
    process.signal(Signal::CONT).unwrap();
    until("going on", || {
        !fs::read_to_string(&stat).unwrap().contains(") T ")
    })
    .await;
}

#[tokio::test]
async fn dropping_ends_the_whole_group() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = shell("parent", dir.path(), "sleep 1000 & echo child $!; wait");
    process.start().unwrap();
    let log = process.log();
    until("start", || fs::read_to_string(&log).unwrap().contains('\n')).await;
    let child = fs::read_to_string(&log)
        .unwrap()
        .trim()
        .replace("child ", "");
    assert!(alive(&child));
    drop(process);
    until("end of the child", || !alive(&child)).await;
}

/// Run by the next test, in a process that is then killed.
#[tokio::test]
async fn outlived() {
    let Some(dir) = env::var_os(OUTLIVED_DIR) else {
        return;
    };
    let mut process = shell("orphan", Path::new(&dir), "echo $$; exec sleep 1000");
    process.start().unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_outlives_a_killed_test() {
    let dir = tempfile::tempdir().unwrap();
    let mut test = Process::new("test", env::current_exe().unwrap(), dir.path())
        .args(["--exact", "process::outlived"])
        .env(OUTLIVED_DIR, dir.path());
    test.start().unwrap();
    let log = dir.path().join("orphan.log");
    until("start", || {
        fs::read_to_string(&log).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    let orphan = fs::read_to_string(&log).unwrap().trim().to_owned();
    assert!(alive(&orphan));
    test.kill().await;
    until("end of the orphan", || !alive(&orphan)).await;
}
