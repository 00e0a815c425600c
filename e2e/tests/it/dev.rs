//! `meridian dev`, as a newcomer runs it.

use std::fs;
use std::time::Duration;

use meridian_e2e::{Process, Signal, Workdir};

use crate::system::binary;
use crate::until::until;

const COMES_UP: Duration = Duration::from_secs(90);
const ENDS: Duration = Duration::from_secs(20);

#[tokio::test]
async fn dev_shows_an_edges_answer_and_ends_without_a_trace() {
    let dir = Workdir::new("dev").unwrap();
    let temporary = dir.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut dev = Process::new("dev", binary("meridian"), dir.path())
        .args(["dev"])
        .env("TMPDIR", &temporary);
    dev.start().unwrap();
    let screen = until("the tour's end", COMES_UP, async || {
        assert!(dev.is_running().unwrap(), "{}", dev.log_tail(40));
        let screen = fs::read_to_string(dev.log()).unwrap();
        if screen.contains("Running. Ctrl-C stops everything.") {
            Ok(screen)
        } else {
            Err(screen)
        }
    })
    .await;
    shows(
        &screen,
        "repo:acme/api#admin@user:diane",
        "allowed  by edge/dev",
    );
    shows(
        &screen,
        "repo:acme/api#reader@user:mallory",
        "denied   by edge/dev",
    );
    shows(
        &screen,
        "issue:acme/api/17#can_close@user:anne",
        "allowed  by regional/dev",
    );
    shows(
        &screen,
        "issue:acme/api/17#can_close@user:anne",
        "allowed  by edge/dev",
    );
    shows(&screen, "at the edge", "denied");
    assert!(fs::read_dir(&temporary).unwrap().next().is_some());

    let group = dev.id().unwrap();
    dev.signal(Signal::INT).unwrap();
    until("the end of `meridian dev`", ENDS, async || {
        match dev.is_running() {
            Ok(false) => Ok(()),
            _ => Err(dev.log_tail(20)),
        }
    })
    .await;
    assert_eq!(in_group(group), 0, "processes are left");
    assert!(
        fs::read_dir(&temporary).unwrap().next().is_none(),
        "files are left"
    );
    dev.finish(ENDS).await.unwrap();
}

fn shows(screen: &str, question: &str, answer: &str) {
    let found = screen
        .lines()
        .any(|line| line.contains(question) && line.contains(answer));
    assert!(found, "no {question} ... {answer} in\n{screen}");
}

/// How many processes there are in a group.
fn in_group(group: u32) -> usize {
    let stats = fs::read_dir("/proc").unwrap().flatten();
    let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter(|stat| {
            // After the name, which may hold anything: state, parent, group.
            let after = stat
                .rsplit_once(')')
                .map(|(_, after)| after)
                .unwrap_or_default();
            after.split_whitespace().nth(2) == Some(&group.to_string())
        })
        .count()
}
