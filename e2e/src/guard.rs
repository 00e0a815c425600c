//! Ends what a dead process left behind.

use std::io::Write;
use std::os::unix::process::CommandExt;
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

/// Watches over one process group: should this process die without having dropped the guard, even by SIGKILL, the
/// group is ended.
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
        let shell = Command::new("sh")
            .args([
                "-c",
                SCRIPT,
                "guard",
                &group.to_string(),
                &end.as_raw().to_string(),
                tidy,
            ])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting `sh`, which ends test processes should the test die")?;
        Ok(Self { shell })
    }
}

impl Drop for Guard {
    /// To be dropped after the group has ended.
    fn drop(&mut self) {
        if let Some(mut stdin) = self.shell.stdin.take() {
            // A shell that is gone already needs no word.
            let _ = stdin.write_all(b"ended\n");
        }
        let _ = self.shell.wait();
    }
}
