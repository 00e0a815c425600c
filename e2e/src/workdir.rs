//! The folder of one server.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::guard::Guard;
use crate::process::Account;

/// A temporary folder that goes with its owner, also when that is killed, but stays when a test fails, for its logs.
#[derive(Debug)]
pub struct Workdir {
    dir: Option<TempDir>,
    path: PathBuf,
    // Dropped last.
    guard: Option<Guard>,
}

impl Workdir {
    /// Makes a folder named after `name`.
    ///
    /// # Errors
    ///
    /// When the system's temporary folder cannot be written to.
    pub fn new(name: &str) -> Result<Self> {
        Self::owned(name, None)
    }

    /// Makes a folder named after `name`, owned by `account` if one is given.
    pub(crate) fn owned(name: &str, account: Option<Account>) -> Result<Self> {
        let prefix = format!("meridian-{name}-");
        let mut guard = Guard::over_folder()?;
        let dir = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir()
            .with_context(|| format!("making a temporary folder {prefix}*"))?;
        let path = dir.path().to_owned();
        guard.folder(&path)?;
        if let Some(account) = account {
            chown(&path, Some(account.user), Some(account.group))
                .with_context(|| format!("giving {} to user {}", path.display(), account.user))?;
        }
        Ok(Self {
            dir: Some(dir),
            path,
            guard: Some(guard),
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the folder stay.
    pub(crate) fn leave(&mut self) {
        self.dir.take().map(TempDir::keep);
        self.guard = None;
    }

    /// Writes a file into it; returns the file's path.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.take()
            && std::thread::panicking()
        {
            eprintln!("data and logs are kept in {}", dir.keep().display());
        }
    }
}
