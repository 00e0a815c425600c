//! Ends what a dead process left behind.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rustix::process::Signal;

/// A line on stdin says that the group has ended in good order; the end of stdin says that whoever watched it is gone.
const SCRIPT: &str = r#"
read -r _ && exit 0
kill -s "$2" -- "-$1" 2>/dev/null
tries=0
while kill -s 0 -- "-$1" 2>/dev/null && [ "$tries" -lt 50 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
kill -s KILL -- "-$1" 2>/dev/null
eval "$3"
"#;

/// A line on stdin names the folder, a second one says that it is gone or may stay.
const FOLDER_SCRIPT: &str = r#"
read -r folder || exit 0
read -r _ && exit 0
rm -rf -- "$folder"
"#;

/// Watches over one process group, or one folder: should this process die without having dropped the guard, even by
/// SIGKILL, the group is ended, the folder removed.
///
/// It is a small shell in a process group of its own, so that Ctrl-C in a terminal does not reach it, which waits for
/// the end of a pipe that only this process holds open.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
}

impl Guard {
    /// Watches over process group `group`, to be ended with `end` and, 5 seconds later, with SIGKILL; then `sh` does what
    /// `tidy` says.
    pub(crate) fn over(group: u32, end: Signal, tidy: &str) -> Result<Self> {
        let (group, end) = (group.to_string(), end.as_raw().to_string());
        Self::shell(SCRIPT, &[&group, &end, tidy])
    }

    /// Watches over a folder once [`Self::folder`] has named it. It is to be there before the folder is: a process can be
    /// killed between any two steps.
    pub(crate) fn over_folder() -> Result<Self> {
        Self::shell(FOLDER_SCRIPT, &[])
    }

    /// Names the folder.
    pub(crate) fn folder(&mut self, folder: &Path) -> Result<()> {
        let line = format!("{}\n", folder.display());
        let stdin = self.shell.stdin.as_mut();
        let named = stdin.map_or(Ok(()), |stdin| stdin.write_all(line.as_bytes()));
        named.context("telling `sh` which folder to remove should the test die")
    }

    fn shell(script: &str, args: &[&str]) -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", script, "guard"])
            .args(args)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting `sh`, which tidies up should the test die")?;
        Ok(Self { shell })
    }
}

impl Drop for Guard {
    /// To be dropped after the group has ended, or the folder is gone.
    fn drop(&mut self) {
        if let Some(mut stdin) = self.shell.stdin.take() {
            // A shell that is gone already needs no word.
            let _ = stdin.write_all(b"ended\n");
        }
        let _ = self.shell.wait();
    }
}
