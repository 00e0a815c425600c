//! The programs of a Kubernetes cluster, each built from its Go module.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{on_path, set, tool_dir};

const KUBERNETES: &str = "1.34.4";

/// A program of a cluster, or one that works on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Kubernetes' datastore.
    Etcd,
    /// Kubernetes' API.
    KubeApiserver,
    /// What keeps Deployments, Jobs, garbage collection and the like.
    KubeControllerManager,
    /// What gives pods their nodes.
    KubeScheduler,
    /// What runs a node's pods.
    Kubelet,
    /// What makes a node route Services.
    KubeProxy,
    /// Kubernetes' command line.
    Kubectl,
    /// A cluster's DNS server.
    Coredns,
    /// What installs charts.
    Helm,
    /// What checks manifests against schemas.
    Kubeconform,
}

impl Program {
    /// All of them, those first that most has to wait for.
    pub const ALL: [Self; 10] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::Kubectl,
        Self::Kubelet,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::KubeProxy,
        Self::Coredns,
        Self::Helm,
        Self::Kubeconform,
    ];

    /// The file's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::Kubectl => "kubectl",
            Self::Coredns => "coredns",
            Self::Helm => "helm",
            Self::Kubeconform => "kubeconform",
        }
    }

    /// The version that `cargo xtask setup` builds.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::Etcd => "3.6.5",
            Self::Coredns => "1.14.7",
            Self::Helm => "3.19.5",
            Self::Kubeconform => "0.7.0",
            _ => KUBERNETES,
        }
    }

    /// Where it is: in `$KUBEBUILDER_ASSETS`, on the path if of the same minor version, or where `cargo xtask setup` has
    /// put it.
    ///
    /// # Errors
    ///
    /// When it is nowhere.
    pub fn find(self) -> Result<PathBuf> {
        let asset = set("KUBEBUILDER_ASSETS").map(|dir| dir.join(self.name()));
        if let Some(asset) = asset.filter(|asset| asset.is_file()) {
            return Ok(asset);
        }
        let fits = |path: &PathBuf| minor(&self.version_of(path)) == minor(self.version());
        if let Some(path) = on_path(self.name()).filter(fits) {
            return Ok(path);
        }
        let built = tool_dir(self.name(), self.version())?.join(self.name());
        built.is_file().then_some(built).with_context(|| {
            format!(
                "no {} {} in KUBEBUILDER_ASSETS, on the path or in the cache: run `cargo xtask setup`",
                self.name(),
                self.version()
            )
        })
    }

    /// What a program says of its version; empty if it says nothing.
    fn version_of(self, path: &Path) -> String {
        let args: &[&str] = match self {
            Self::Kubectl => &["version", "--client"],
            Self::Helm => &["version", "--short"],
            Self::Coredns => &["-version"],
            Self::Kubeconform => &["-v"],
            _ => &["--version"],
        };
        let output = Command::new(path).args(args).output();
        output.map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }
}

/// The first `major.minor` in a text such as `Kubernetes v1.34.4` or `etcd Version: 3.6.5`.
fn minor(text: &str) -> Option<(u32, u32)> {
    text.split(|char: char| !char.is_ascii_digit() && char != '.')
        .find_map(|word| {
            let mut numbers = word.split('.').map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        })
}

#[cfg(test)]
mod tests {
    use super::minor;

    #[test]
    fn the_minor_version_is_found_in_what_programs_say() {
        assert_eq!(minor("Kubernetes v1.34.4\n"), Some((1, 34)));
        assert_eq!(
            minor("etcd Version: 3.6.5\nGit SHA: 1a2b3c\n"),
            Some((3, 6))
        );
        assert_eq!(minor("v3.19.5+g1234567\n"), Some((3, 19)));
        assert_eq!(
            minor("CoreDNS-1.14.7\nlinux/amd64, go1.26.8, \n"),
            Some((1, 14))
        );
        assert_eq!(minor("Client Version: v1.32.4-dispatcher\n"), Some((1, 32)));
        assert_eq!(minor("command not found"), None);
    }
}
