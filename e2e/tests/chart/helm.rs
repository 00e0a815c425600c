//! `helm`, on the chart of this checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use meridian_e2e::tools::Program;

use crate::root;

pub(crate) const NAMESPACE: &str = "meridian-system";

/// The chart's folder.
pub(crate) fn chart() -> PathBuf {
    root().join("charts/meridian")
}

/// Runs helm as no cluster's user; returns what it printed, or what it said when it failed.
pub(crate) fn helm<'a>(args: impl IntoIterator<Item = &'a str>) -> Result<String, String> {
    run(args, Path::new("/dev/null"))
}

/// Runs helm as the user of a cluster.
pub(crate) fn run<'a>(
    args: impl IntoIterator<Item = &'a str>,
    kubeconfig: &Path,
) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(Program::Helm.find().unwrap())
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .env("HELM_CACHE_HOME", folder.path().join("cache"))
        .env("HELM_CONFIG_HOME", folder.path().join("config"))
        .env("HELM_DATA_HOME", folder.path().join("data"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{}{}", text(&output.stdout), text(&output.stderr)))
    }
}

/// The manifests of a release `meridian` with these values.
pub(crate) fn template(args: &[&str]) -> Result<String, String> {
    let chart = chart().display().to_string();
    // A helm that was not told when it was built believes in a far older Kubernetes.
    let version = ["--kube-version", "1.34.0"];
    let common = ["template", "meridian", &chart, "--namespace", NAMESPACE];
    let common = common.into_iter().chain(version);
    helm(common.chain(args.iter().copied()))
}
