//! The control groups of a cluster's pods.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

const ROOT: &str = "/sys/fs/cgroup";
const TICK: Duration = Duration::from_millis(20);
/// How long the last processes of a pod may take to be gone once they have been killed.
const DEADLINE: Duration = Duration::from_secs(10);

/// Makes an empty group in every hierarchy, for a kubelet makes none at the top.
pub(super) fn make(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        // Lets the newer kind's groups have these; the older has no such file, and needs none.
        let _ = fs::write(
            hierarchy.join("cgroup.subtree_control"),
            "+cpu +cpuset +memory +pids",
        );
        let group = hierarchy.join(name);
        fs::create_dir(&group).with_context(|| format!("making {}", group.display()))?;
    }
    Ok(())
}

/// Removes a cluster's groups, which can be done once none of its processes is left.
pub(super) async fn remove(name: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        match try_remove(name) {
            Err(error) if start.elapsed() > DEADLINE => return Err(error),
            Err(_) => sleep(TICK).await,
            Ok(()) => return Ok(()),
        }
    }
}

/// As [`remove`], but blocks.
pub(super) fn remove_blocking(name: &str) {
    let start = std::time::Instant::now();
    while try_remove(name).is_err() && start.elapsed() < DEADLINE {
        std::thread::sleep(TICK);
    }
}

/// As [`remove`], by `sh`.
pub(super) fn remove_script(name: &str) -> String {
    format!(
        r#"tries=0
while [ "$tries" -lt 100 ] && [ -n "$(find {ROOT} -depth -type d \( -path '*/{name}' -o -path '*/{name}/*' \) 2>/dev/null)" ]; do
    find {ROOT} -depth -type d \( -path '*/{name}' -o -path '*/{name}/*' \) -exec rmdir {{}} \; 2>/dev/null
    tries=$((tries + 1))
    sleep 0.1
done
"#
    )
}

fn try_remove(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        if group.exists() {
            remove_tree(&group).with_context(|| format!("removing {}", group.display()))?;
        }
    }
    Ok(())
}

/// The roots of all hierarchies: the older kind of control groups has several, the newer one.
fn hierarchies() -> Vec<PathBuf> {
    let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
    let one = PathBuf::from(ROOT);
    let newer = one.join("cgroup.procs").exists();
    if newer {
        return vec![one];
    }
    let mut all: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    all.retain(|hierarchy| hierarchy.join("cgroup.procs").exists());
    all
}

/// A group is removed as an empty folder is, though it shows files.
fn remove_tree(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}
