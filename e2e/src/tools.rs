//! Where the programs are that tests need; `cargo xtask setup` brings them.

mod go;
mod program;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

pub use go::{GO_FETCHED, GO_OLDEST, go, go_release, go_toolchain};
pub use program::Program;

/// The version of Apache Kafka that tests run on.
pub const KAFKA_VERSION: &str = "4.1.1";
/// The oldest major version of PostgreSQL that tests run on.
pub const POSTGRES_OLDEST: u32 = 15;

/// The version of OpenFGA that ours is held against; the module `e2e/conformance` requires it.
pub const OPENFGA_VERSION: &str = "1.22.1";
/// The oldest version of MariaDB that nodes run on, as major and minor number.
pub const MARIADB_OLDEST: (u32, u32) = (10, 6);

/// Where Debian, and everyone else, keeps the CNI plugins.
pub const CNI_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];
/// Where Debian keeps each version's programs, in `<version>/bin`.
const DEBIAN_POSTGRES: &str = "/usr/lib/postgresql";

/// The user's cache folder for Meridian: `$XDG_CACHE_HOME/meridian` or `~/.cache/meridian`.
///
/// # Errors
///
/// When neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = set("XDG_CACHE_HOME") {
        return Ok(dir.join("meridian"));
    }
    let home = set("HOME").context(
        "neither XDG_CACHE_HOME nor HOME is set: set one, for downloaded tools go there",
    )?;
    Ok(home.join(".cache/meridian"))
}

/// The cache folder of one tool in one version. It is complete if it exists.
///
/// # Errors
///
/// As [`cache_dir`].
pub fn tool_dir(tool: &str, version: &str) -> Result<PathBuf> {
    Ok(cache_dir()?.join("tools").join(format!("{tool}-{version}")))
}

/// The folder of Kafka's jars: `MERIDIAN_TEST_KAFKA_LIBS`, or what `cargo xtask setup` has brought.
///
/// # Errors
///
/// When it is not there.
pub fn kafka_libs() -> Result<PathBuf> {
    if let Some(dir) = set("MERIDIAN_TEST_KAFKA_LIBS") {
        ensure!(
            dir.is_dir(),
            "MERIDIAN_TEST_KAFKA_LIBS={} is not a folder: set it to a folder of jars",
            dir.display()
        );
        return Ok(dir);
    }
    let dir = tool_dir("kafka", KAFKA_VERSION)?.join("libs");
    ensure!(
        dir.is_dir(),
        "no Kafka {KAFKA_VERSION} in {}: run `cargo xtask setup`",
        dir.display()
    );
    Ok(dir)
}

/// OpenFGA's server.
///
/// # Errors
///
/// When it is not there.
pub fn openfga() -> Result<PathBuf> {
    let program = tool_dir("openfga", OPENFGA_VERSION)?.join("openfga");
    ensure!(
        program.is_file(),
        "no OpenFGA {OPENFGA_VERSION} in {}: run `cargo xtask setup`",
        program.display()
    );
    Ok(program)
}

/// The `java` program: in `JAVA_HOME`, or on the path.
///
/// # Errors
///
/// When it is not there.
pub fn java() -> Result<PathBuf> {
    let at_home = set("JAVA_HOME")
        .map(|home| home.join("bin/java"))
        .filter(|java| java.is_file());
    at_home
        .or_else(|| on_path("java"))
        .context("no `java` in JAVA_HOME or on the path: run `cargo xtask setup`")
}

/// The folder of PostgreSQL's `initdb` and `postgres`: `MERIDIAN_TEST_POSTGRES_BIN`, or one on the path, or Debian's newest.
///
/// # Errors
///
/// When there is none, or the one asked for is too old.
pub fn postgres_bin() -> Result<PathBuf> {
    if let Some(dir) = set("MERIDIAN_TEST_POSTGRES_BIN") {
        let version = postgres_version(&dir).with_context(|| {
            format!(
                "MERIDIAN_TEST_POSTGRES_BIN={} has no `initdb` and `postgres` that runs",
                dir.display()
            )
        })?;
        ensure!(
            version >= POSTGRES_OLDEST,
            "MERIDIAN_TEST_POSTGRES_BIN={} is PostgreSQL {version}: set it to {POSTGRES_OLDEST} or newer",
            dir.display()
        );
        return Ok(dir);
    }
    let newest = postgres_folders()
        .into_iter()
        .filter_map(|dir| Some((postgres_version(&dir).ok()?, dir)))
        .filter(|(version, _)| *version >= POSTGRES_OLDEST)
        .max_by_key(|(version, _)| *version);
    match newest {
        Some((_, dir)) => Ok(dir),
        None => bail!(
            "no PostgreSQL {POSTGRES_OLDEST} or newer on the path or in {DEBIAN_POSTGRES}: run `cargo xtask setup`"
        ),
    }
}

/// MariaDB's `mariadbd` and `mariadb-install-db`: in `MERIDIAN_TEST_MARIADB_BIN`, or on the path, or where Debian keeps the first.
///
/// # Errors
///
/// When one is not there, or the server is too old.
pub fn mariadb() -> Result<(PathBuf, PathBuf)> {
    let chosen = set("MERIDIAN_TEST_MARIADB_BIN");
    let find = |program: &str| match &chosen {
        Some(dir) => Some(dir.join(program)).filter(|file| file.is_file()),
        None => on_path(program)
            .or_else(|| Some(Path::new("/usr/sbin").join(program)).filter(|file| file.is_file())),
    };
    let place = || match &chosen {
        Some(dir) => format!("in MERIDIAN_TEST_MARIADB_BIN={}", dir.display()),
        None => "on the path or in /usr/sbin: run `cargo xtask setup`".to_owned(),
    };
    let found =
        |program: &str| find(program).with_context(|| format!("no `{program}` {}", place()));
    let (server, install) = (found("mariadbd")?, found("mariadb-install-db")?);
    let version = mariadb_version(&server)?;
    let (major, minor) = MARIADB_OLDEST;
    ensure!(
        version >= MARIADB_OLDEST,
        "{} is MariaDB {}.{}: {major}.{minor} or newer is needed",
        server.display(),
        version.0,
        version.1
    );
    Ok((server, install))
}

/// The folder of the CNI plugins: one of [`CNI_FOLDERS`].
///
/// # Errors
///
/// When they are in none.
pub fn cni_plugins() -> Result<PathBuf> {
    let mut folders = CNI_FOLDERS.iter().map(PathBuf::from);
    folders
        .find(|folder| folder.join("bridge").is_file())
        .with_context(|| {
            format!(
                "no CNI plugins in {}: run `cargo xtask cluster up`",
                CNI_FOLDERS.join(" or ")
            )
        })
}

/// A browser of Chromium's kind: `MERIDIAN_TEST_CHROMIUM`, or Chromium or Chrome on the path.
///
/// # Errors
///
/// When it is not there.
pub fn chromium() -> Result<PathBuf> {
    if let Some(program) = set("MERIDIAN_TEST_CHROMIUM") {
        ensure!(
            program.is_file(),
            "MERIDIAN_TEST_CHROMIUM={} is not a file: set it to a browser's program",
            program.display()
        );
        return Ok(program);
    }
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find_map(on_path)
        .context("no `chromium` on the path: run `cargo xtask setup`")
}

/// The first file of that name in the folders of `PATH`.
#[must_use]
pub fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn set(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn postgres_folders() -> Vec<PathBuf> {
    let on_path = on_path("initdb").and_then(|initdb| initdb.parent().map(Path::to_owned));
    let debian = fs::read_dir(DEBIAN_POSTGRES)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    on_path.into_iter().chain(debian).collect()
}

/// The major version of the PostgreSQL in a folder, as `postgres --version` says: `postgres (PostgreSQL) 15.13 (...)`.
fn postgres_version(dir: &Path) -> Result<u32> {
    ensure!(
        dir.join("initdb").is_file(),
        "no `initdb` in {}",
        dir.display()
    );
    let output = Command::new(dir.join("postgres"))
        .arg("--version")
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let version = text
        .split_whitespace()
        .nth(2)
        .and_then(|version| version.split(['.', 'b', 'r']).next());
    version
        .unwrap_or_default()
        .parse()
        .with_context(|| format!("reading a version from {text:?}"))
}

/// The version of a MariaDB, as `mariadbd --version` says: `mariadbd  Ver 10.11.14-MariaDB-0+deb12u2 for ...`.
fn mariadb_version(server: &Path) -> Result<(u32, u32)> {
    let output = Command::new(server)
        .args(["--no-defaults", "--version"])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text
        .split_whitespace()
        .skip_while(|word| *word != "Ver")
        .nth(1)
        .unwrap_or_default()
        .split('.')
        .map_while(|number| number.parse().ok());
    numbers
        .next()
        .zip(numbers.next())
        .with_context(|| format!("reading a version from {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::OPENFGA_VERSION;

    #[test]
    fn the_go_module_requires_the_version_of_openfga_that_is_looked_for() {
        let go_mod = include_str!("../conformance/go.mod");
        let line = format!("github.com/openfga/openfga v{OPENFGA_VERSION}\n");
        assert!(go_mod.contains(&line), "no {line}");
    }
}
