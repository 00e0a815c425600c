//! `meridian dev` on a folder that is kept.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const PATIENCE: Duration = Duration::from_secs(90);

fn dev(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.arg("dev").arg("--data").arg(folder);
    command.env_clear().kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

type Screen = Lines<BufReader<ChildStdout>>;

/// The sample store's id, once the tour is over, and the screen, which must stay open.
async fn toured(dev: &mut Child) -> (String, Screen) {
    let mut lines = BufReader::new(dev.stdout.take().unwrap()).lines();
    let mut store = None;
    let tour = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(rest) = line.strip_prefix("Store  ") {
                store = rest.split_whitespace().next().map(str::to_owned);
            }
            if line.starts_with("Running.") {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, tour).await.unwrap();
    (store.unwrap(), lines)
}

#[tokio::test]
async fn a_kept_folder_has_one_sample_store_and_one_user_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = dev(folder.path()).spawn().unwrap();
    let (store, _screen) = toured(&mut first).await;

    let second = dev(folder.path()).output().await.unwrap();
    let told = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success());
    let expected = format!(
        "error: {} is in use by another `meridian dev`, process {}: stop that one, or name another folder\n",
        folder.path().display(),
        first.id().unwrap()
    );
    assert_eq!(told, expected);

    let id = rustix::process::Pid::from_raw(first.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let ended = tokio::time::timeout(PATIENCE, first.wait_with_output()).await;
    let ended = ended.unwrap().unwrap();
    let logged = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{logged}");
    assert!(!logged.contains(" INFO "), "{logged}");

    let mut third = dev(folder.path()).arg("--once").spawn().unwrap();
    let (again, _screen) = toured(&mut third).await;
    assert_eq!(again, store);
    let ended = tokio::time::timeout(PATIENCE, third.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}
