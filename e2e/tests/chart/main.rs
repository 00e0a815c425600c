//! The Helm chart and the examples: what they render, what they refuse, and that a real API server takes them.
//!
//! Run `cargo xtask setup` first. `UPDATE=1` writes the expected manifests and the chart's copy of the CRDs.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod examples;
mod helm;
mod install;
mod render;
mod values;

use std::path::{Path, PathBuf};

/// The checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn is_update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// The YAML files of a folder, by name.
fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    files
}
