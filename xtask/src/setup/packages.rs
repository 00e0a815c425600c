//! What comes from the system's packages.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use meridian_e2e::tools::{self, MARIADB_OLDEST, POSTGRES_OLDEST};

use super::{go, llvm};
use crate::stage::Stage;

/// The oldest Java that Kafka runs on.
const JAVA_OLDEST: u32 = 17;
/// The oldest Node.js that what the browser client is made with runs on.
const NODE_JS_OLDEST: u32 = 18;

/// Something that a command of ours cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Java,
    Maven,
    Postgres,
    MariaDb,
    MariaDbClient,
    Go,
    Containerd,
    Runc,
    CniPlugins,
    Iptables,
    Iproute,
    Llvm,
    NodeJs,
    Npm,
    Chromium,
}

impl Need {
    /// What Kafka, PostgreSQL and MariaDB take.
    pub(super) const SERVERS: [Self; 5] = [
        Self::Java,
        Self::Maven,
        Self::Postgres,
        Self::MariaDb,
        Self::MariaDbClient,
    ];
    /// What a node of a cluster takes, besides the programs that are built.
    pub(super) const NODE: [Self; 5] = [
        Self::Containerd,
        Self::Runc,
        Self::CniPlugins,
        Self::Iptables,
        Self::Iproute,
    ];
    /// What the browser client is made with, and tried in.
    pub(super) const CLIENT: [Self; 3] = [Self::NodeJs, Self::Npm, Self::Chromium];

    fn description(self) -> String {
        match self {
            Self::Java => format!("Java {JAVA_OLDEST} or newer (or set JAVA_HOME)"),
            Self::Maven => {
                "Maven 3, which fetches Kafka (or set MERIDIAN_TEST_KAFKA_LIBS to a folder of its jars)"
                    .to_owned()
            }
            Self::Postgres => {
                format!(
                    "PostgreSQL {POSTGRES_OLDEST} or newer (or set MERIDIAN_TEST_POSTGRES_BIN to the folder of `initdb`)"
                )
            }
            Self::MariaDb => {
                let (major, minor) = MARIADB_OLDEST;
                format!(
                    "MariaDB {major}.{minor} or newer (or set MERIDIAN_TEST_MARIADB_BIN to the folder of `mariadbd` and `mariadb-install-db`)"
                )
            }
            Self::MariaDbClient => {
                "MariaDB's client: `mariadb` and `my_print_defaults`, on the path".to_owned()
            }
            Self::Go => go::advice(),
            Self::Containerd => "containerd with `ctr`, on the path".to_owned(),
            Self::Runc => "runc, on the path".to_owned(),
            Self::CniPlugins => {
                format!("the CNI plugins, in {}", tools::CNI_FOLDERS.join(" or "))
            }
            Self::Iptables => "iptables, on the path".to_owned(),
            Self::Iproute => "iproute2's `ip`, on the path".to_owned(),
            Self::Llvm => llvm::advice(),
            Self::NodeJs => format!("Node.js {NODE_JS_OLDEST} or newer, on the path"),
            Self::Npm => "npm, on the path".to_owned(),
            Self::Chromium => {
                "Chromium, on the path (or set MERIDIAN_TEST_CHROMIUM to a program of its kind)"
                    .to_owned()
            }
        }
    }

    /// Debian's packages for it, the best first; a release has not all of them.
    fn packages(self) -> Vec<String> {
        let names: &[&str] = match self {
            Self::Java => &["openjdk-21-jre-headless", "openjdk-17-jre-headless"],
            Self::Maven => &["maven"],
            Self::Postgres => &["postgresql"],
            // The server without what starts it with the system, and what its installer cannot do without.
            Self::MariaDb => &["mariadb-server-core"],
            Self::MariaDbClient => &["mariadb-client-core"],
            Self::Go => &["golang-go"],
            Self::Containerd => &["containerd"],
            Self::Runc => &["runc"],
            Self::CniPlugins => &["containernetworking-plugins"],
            Self::Iptables => &["iptables"],
            Self::Iproute => &["iproute2"],
            Self::Llvm => return llvm::packages(),
            Self::NodeJs => &["nodejs"],
            Self::Npm => &["npm"],
            Self::Chromium => &["chromium"],
        };
        names.iter().copied().map(str::to_owned).collect()
    }

    fn is_missing(self) -> bool {
        match self {
            Self::Java => java_version().is_none_or(|version| version < JAVA_OLDEST),
            Self::Maven => tools::kafka_libs().is_err() && tools::on_path("mvn").is_none(),
            Self::Postgres => tools::postgres_bin().is_err(),
            Self::MariaDb => tools::mariadb().is_err(),
            Self::MariaDbClient => lacks("mariadb") || lacks("my_print_defaults"),
            Self::Go => lacks("go") && tools::go().is_err(),
            Self::Containerd => lacks("containerd") || lacks("ctr"),
            Self::Runc => lacks("runc"),
            Self::CniPlugins => tools::cni_plugins().is_err(),
            Self::Iptables => lacks("iptables"),
            Self::Iproute => lacks("ip"),
            Self::Llvm => llvm::find().is_err(),
            Self::NodeJs => node_js_version().is_none_or(|version| version < NODE_JS_OLDEST),
            Self::Npm => lacks("npm"),
            Self::Chromium => tools::chromium().is_err(),
        }
    }
}

/// Installs what is missing, as root on Debian; elsewhere says what to install.
pub(super) async fn install_missing(stage: &Stage, needs: &[Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let all = listed(&missing);
    ensure!(
        tools::on_path("apt-get").is_some() && super::is_root()?,
        "missing: {all}. Install these, then run this again; as root on Debian it installs them itself"
    );
    stage.line(&format!("installing {all}"));
    stage.run(apt_get().arg("update")).await?;
    let mut packages = Vec::new();
    for need in missing {
        packages.push(available(need)?);
    }
    stage
        .run(
            apt_get()
                .args(["install", "--yes", "--no-install-recommends"])
                .args(&packages),
        )
        .await?;
    let still = self::missing(needs);
    ensure!(
        still.is_empty(),
        "after installing {}, there is still no {}",
        packages.join(" "),
        listed(&still)
    );
    Ok(())
}

fn missing(needs: &[Need]) -> Vec<Need> {
    let needs = needs.iter().copied();
    needs.filter(|need| need.is_missing()).collect()
}

fn listed(needs: &[Need]) -> String {
    let descriptions: Vec<_> = needs.iter().map(|need| need.description()).collect();
    descriptions.join("; ")
}

fn lacks(program: &str) -> bool {
    tools::on_path(program).is_none()
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args([
        "-o",
        "DPkg::Lock::Timeout=300",
        "--quiet",
    ]);
    command
}

fn available(need: Need) -> Result<String> {
    let packages = need.packages();
    for package in &packages {
        let output = Command::new("apt-cache")
            .args(["policy", package])
            .env("LC_ALL", "C")
            .output()
            .context("starting `apt-cache`")?;
        if has_candidate(&String::from_utf8_lossy(&output.stdout)) {
            return Ok(package.clone());
        }
    }
    anyhow::bail!(
        "apt has none of {}: install {}",
        packages.join(", "),
        need.description()
    )
}

/// Whether `apt-cache policy` knows a version to install. A package that others only name has `Candidate: (none)`, one
/// that nobody names has no such line.
fn has_candidate(policy: &str) -> bool {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate:"))
        .any(|version| version.trim() != "(none)")
}

fn node_js_version() -> Option<u32> {
    let output = Command::new(tools::on_path("node")?)
        .arg("--version")
        .output()
        .ok()?;
    parse_node_js_version(&String::from_utf8(output.stdout).ok()?)
}

/// From a line such as `v18.20.4`.
fn parse_node_js_version(text: &str) -> Option<u32> {
    text.strip_prefix('v')?.split('.').next()?.parse().ok()
}

fn java_version() -> Option<u32> {
    let output = Command::new(tools::java().ok()?)
        .arg("-version")
        .output()
        .ok()?;
    parse_java_version(&String::from_utf8(output.stderr).ok()?)
}

/// From a line such as `openjdk version "17.0.15" 2025-04-15`; before Java 9 it was `"1.8.0"`.
fn parse_java_version(text: &str) -> Option<u32> {
    let version = text.split('"').nth(1)?;
    version.split(['.', '-', '+']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{has_candidate, parse_java_version, parse_node_js_version};

    #[test]
    fn java_versions_of_all_shapes_are_read() {
        assert_eq!(
            parse_java_version("openjdk version \"17.0.15\" 2025-04-15\n"),
            Some(17)
        );
        assert_eq!(
            parse_java_version("Picked up JAVA_OPTS\nopenjdk version \"21-ea\"\n"),
            Some(21)
        );
        assert_eq!(parse_java_version("java version \"1.8.0_402\"\n"), Some(1));
        assert_eq!(parse_java_version("no such program"), None);
    }

    #[test]
    fn the_version_of_node_js_is_read() {
        assert_eq!(parse_node_js_version("v18.20.4\n"), Some(18));
        assert_eq!(parse_node_js_version("no such program"), None);
    }

    #[test]
    fn a_package_that_is_only_named_cannot_be_installed() {
        assert!(has_candidate(
            "postgresql:\n  Installed: (none)\n  Candidate: 15+248\n"
        ));
        assert!(!has_candidate(
            "openjdk-21-jre-headless:\n  Installed: (none)\n  Candidate: (none)\n"
        ));
        assert!(!has_candidate(""));
    }
}
