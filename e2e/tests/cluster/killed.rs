//! A start that is killed half way.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use meridian_e2e::Process;
use meridian_e2e::cluster::Cluster;

use crate::until::until;

const KILLED: &str = "MERIDIAN_TEST_KILLED";
/// Each is there while this program of the cluster runs.
const LOGS: [&str; 3] = ["initdb.log", "kafka.log", "kubelet.log"];

/// Run by the next test, in a process that is then killed.
#[tokio::test]
#[ignore = "run by another test"]
async fn start() {
    if env::var_os(KILLED).is_some() {
        let _cluster = Cluster::start(&|_| {}).await.unwrap();
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
#[ignore = "needs root: run by `cargo xtask test`"]
async fn nothing_outlives_a_killed_start() {
    for log in LOGS {
        let logs = tempfile::tempdir().unwrap();
        let folders = tempfile::tempdir().unwrap();
        // The database's account is another.
        fs::set_permissions(&folders, Permissions::from_mode(0o755)).unwrap();
        let mut process = Process::new("start", env::current_exe().unwrap(), logs.path())
            .args(["--ignored", "--exact", "killed::start"])
            .env("TMPDIR", folders.path())
            .env(KILLED, "1");
        process.start().unwrap();
        let started = until(async || {
            let started = has(folders.path(), log);
            started.then_some(()).ok_or_else(|| process.log_tail(20))
        });
        started.await.unwrap();
        process.kill().await;
        until(async || left(folders.path())).await.unwrap();
    }
}

fn has(folders: &Path, log: &str) -> bool {
    let mut folders = fs::read_dir(folders).unwrap().flatten();
    folders.any(|folder| folder.path().join(log).exists())
}

/// That nothing is in the folder, nor any process with its name in the arguments.
fn left(folders: &Path) -> Result<(), String> {
    if let Some(folder) = fs::read_dir(folders).unwrap().next() {
        return Err(format!("{:?} is left", folder.unwrap().path()));
    }
    let name = folders.to_str().unwrap();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments);
        if arguments.contains(name) {
            return Err(format!("'{arguments}' still runs"));
        }
    }
    Ok(())
}
