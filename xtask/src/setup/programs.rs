//! The programs of a Kubernetes cluster, built from their Go modules.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use meridian_e2e::tools::Program;

use super::{go, once};
use crate::stage::Stage;

/// A Go module of our own, which says exactly what a program is built from.
struct Module {
    /// `go.mod`, `go.sum` and what else it has.
    files: &'static [(&'static str, &'static str)],
    package: String,
}

macro_rules! files {
    ($module:literal $(, $file:literal)*) => {
        &[
            ("go.mod", include_str!(concat!("../../go/", $module, "/go.mod"))),
            ("go.sum", include_str!(concat!("../../go/", $module, "/go.sum"))),
            $(($file, include_str!(concat!("../../go/", $module, "/", $file))),)*
        ]
    };
}

fn module(program: Program) -> Module {
    let (files, package): (&[_], _) = match program {
        Program::Etcd => (files!("etcd"), "go.etcd.io/etcd/server/v3".to_owned()),
        Program::Coredns => (files!("coredns", "main.go"), ".".to_owned()),
        Program::Helm => (files!("helm"), "helm.sh/helm/v3/cmd/helm".to_owned()),
        Program::Kubeconform => (
            files!("kubeconform"),
            "github.com/yannh/kubeconform/cmd/kubeconform".to_owned(),
        ),
        _ => (
            files!("kubernetes"),
            format!("k8s.io/kubernetes/cmd/{}", program.name()),
        ),
    };
    Module { files, package }
}

/// Builds those of `programs` that are nowhere to be found, one after the other.
pub(super) async fn build_missing(stage: &Stage, programs: &[Program]) -> Result<()> {
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| program.find().is_err())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    stage.line(&format!(
        "building {} programs from their Go modules: all of them take a quarter of an hour on two cores, once",
        missing.len()
    ));
    let go = go::find_or_fetch(stage).await?;
    for program in missing {
        once(stage, program.name(), program.version(), async |dir| {
            build(stage, &go, *program, dir).await
        })
        .await?;
    }
    Ok(())
}

async fn build(stage: &Stage, go: &Path, program: Program, dir: &Path) -> Result<()> {
    let (name, version) = (program.name(), program.version());
    stage.line(&format!("building {name} {version}"));
    let module = module(program);
    let source = dir.join("source");
    fs::create_dir(&source).with_context(|| format!("making {}", source.display()))?;
    for (file, text) in module.files {
        let path = source.join(file);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    // Builds of our own run beside it, and need the processors more.
    let mut build = Command::new("nice");
    build.args(["-n", "19"]).arg(go).current_dir(&source);
    build
        .args([
            "build",
            "-p=2",
            "-mod=readonly",
            "-trimpath",
            "-buildvcs=false",
        ])
        .args(["-ldflags", &linker_flags(version)])
        .arg("-o")
        .arg(dir.join(name))
        .arg(module.package);
    build
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "")
        .env("GOWORK", "off");
    stage.run(&mut build).await
}

/// No debugging symbols; and the version, which Kubernetes' programs are told when they are built and others ignore.
fn linker_flags(version: &str) -> String {
    const VERSION: &str = "k8s.io/component-base/version";
    let mut numbers = version.split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    format!(
        "-s -w -X {VERSION}.gitVersion=v{version} -X {VERSION}.gitMajor={major} -X {VERSION}.gitMinor={minor}"
    )
}

#[cfg(test)]
mod tests {
    use super::{Program, module};

    #[test]
    fn every_module_is_of_the_version_that_is_looked_for() {
        for program in Program::ALL {
            let module = module(program);
            let (_, go_mod) = module.files[0];
            let name = program.name();
            let repository = match program {
                Program::Etcd => "go.etcd.io/etcd/server/v3",
                Program::Coredns => "github.com/coredns/coredns",
                Program::Helm => "helm.sh/helm/v3",
                Program::Kubeconform => "github.com/yannh/kubeconform",
                _ => "k8s.io/kubernetes",
            };
            let line = format!("{repository} v{}", program.version());
            assert!(go_mod.contains(&line), "{name}: no {line}");
            let go = "\ngo 1.";
            assert!(go_mod.contains(go), "{name} says no version of Go");
        }
    }
}
