//! How much of the code that decides is run by its crates' own tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::setup::{self, Coverage};
use crate::stage::{Stage, cargo};

/// The crates, each with the least share of its lines, in percent, that its own tests must run. The others are tested
/// by way of whole nodes, in other processes.
const CRATES: [(&str, u32); 3] = [("condition", 90), ("engine", 90), ("model", 90)];

/// Measures and prints each crate's share.
///
/// # Errors
/// When the tests fail or one of the crates is below its least share.
pub(crate) async fn measure(stage: &Stage) -> Result<()> {
    let Coverage {
        cargo_llvm_cov,
        llvm,
    } = setup::coverage(stage).await?;
    let workspace = cargo()?;
    let root = workspace.get_current_dir().context("no workspace")?;
    let report = env::current_exe()?.with_file_name("coverage.json");
    let mut run = Command::new(cargo_llvm_cov);
    run.arg("llvm-cov")
        .args(CRATES.map(|(name, _)| format!("--package=meridian-{name}")));
    run.args([
        "--no-cfg-coverage",
        "--json",
        "--summary-only",
        "--output-path",
    ])
    .arg(&report)
    .current_dir(root)
    .env("LLVM_COV", &llvm.cov)
    .env("LLVM_PROFDATA", &llvm.profdata);
    stage.run(&mut run).await?;
    let text = fs::read(&report).with_context(|| format!("reading {}", report.display()))?;
    let lines = lines(&serde_json::from_slice(&text)?, &root.join("node"))?;
    for (name, least) in CRATES {
        let Lines { all, run } = lines.get(name).copied().unwrap_or_default();
        let share = 100.0 * run as f64 / all.max(1) as f64;
        stage.line(&format!(
            "coverage of {name}: {share:.1} % of {all} lines (at least {least} %)"
        ));
        ensure!(
            share >= f64::from(least),
            "the tests of {name} run {share:.1} % of its lines, and should run {least} %"
        );
    }
    Ok(())
}

/// Lines that could run, and those that did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Lines {
    all: u64,
    run: u64,
}

/// By crate: the folder under `node`.
fn lines(report: &Value, node: &Path) -> Result<BTreeMap<String, Lines>> {
    let files = report
        .pointer("/data/0/files")
        .and_then(Value::as_array)
        .context("the report of coverage lists no files")?;
    let mut lines: BTreeMap<String, Lines> = BTreeMap::new();
    for file in files {
        let name = Path::new(
            file.get("filename")
                .and_then(Value::as_str)
                .unwrap_or_default(),
        );
        let Some(folder) = name
            .strip_prefix(node)
            .ok()
            .and_then(|name| name.iter().next())
        else {
            continue;
        };
        let of = lines
            .entry(folder.to_string_lossy().into_owned())
            .or_default();
        let number = |of| file.pointer(of).and_then(Value::as_u64).unwrap_or_default();
        of.all += number("/summary/lines/count");
        of.run += number("/summary/lines/covered");
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Lines, Path, lines};

    #[test]
    fn lines_are_summed_by_crate() {
        let file = |name, count, covered| json!({"filename": name, "summary": {"lines": {"count": count, "covered": covered}}});
        let report = json!({"data": [{"files": [
            file("/a/node/engine/src/x.rs", 10, 9),
            file("/a/node/engine/src/y.rs", 5, 5),
            file("/a/node/model/src/x.rs", 1, 0),
            file("/b/other.rs", 7, 7),
        ]}]});
        let lines = lines(&report, Path::new("/a/node")).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines["engine"], Lines { all: 15, run: 14 });
        assert_eq!(lines["model"], Lines { all: 1, run: 0 });
    }
}
