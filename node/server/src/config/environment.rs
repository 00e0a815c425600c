//! What a process is told by its environment.

use std::collections::BTreeMap;

use super::settings::SETTINGS;
use super::{Config, ConfigError};

/// What Meridian's own variables begin with.
const PREFIX: &str = "MERIDIAN_";
/// Those of them that are no setting's: of logging and the file, and of the command line's commands.
const OTHERS: &[&str] = &[
    "MERIDIAN_API",
    "MERIDIAN_CA",
    "MERIDIAN_CONFIG",
    "MERIDIAN_LOG",
    "MERIDIAN_LOG_FORMAT",
    "MERIDIAN_STORE",
    "MERIDIAN_TLS",
    "MERIDIAN_TOKEN",
];
/// Of Meridian's operator, which an image or a shell may share with nodes. Those it has of nodes too are above and settings.
const OF_OPERATOR: &[&str] = &[
    "MERIDIAN_HEALTH_LISTEN",
    "MERIDIAN_LEASE",
    "MERIDIAN_METRICS_LISTEN",
    "MERIDIAN_NODE_IMAGE",
];
/// What the variables of Meridian's tests begin with, which run nodes with what they are run with themselves.
const OF_TESTS: &str = "MERIDIAN_TEST_";

/// Variables by name, those that are empty left out: of Meridian and of OpenFGA's server.
#[derive(Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// This process's. What is no UTF-8 stays, with marks in its place, for it to be refused by name.
    pub fn of_process() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    /// The value of a variable that is set.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Those whose names begin so, but for what Kubernetes puts into every container.
    pub(super) fn beginning(&self, prefix: &str) -> impl Iterator<Item = &str> {
        let of = self
            .0
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix));
        of.filter(|(name, value)| !is_service_link(name, value))
            .map(|(name, _)| name.as_str())
    }

    /// Checks that each of Meridian's own variables is one: a setting that is not made for want of a letter would be missed
    /// late.
    ///
    /// # Errors
    /// [`ConfigError::UnknownVariable`].
    pub(super) fn check_names(&self) -> Result<(), ConfigError> {
        let settings = || SETTINGS.iter().map(|setting| setting.variable());
        let is_known = |name: &str| {
            OTHERS.contains(&name)
                || OF_OPERATOR.contains(&name)
                || name.starts_with(OF_TESTS)
                || settings().any(|known| known == name)
        };
        let Some(unknown) = self.beginning(PREFIX).find(|name| !is_known(name)) else {
            return Ok(());
        };
        let known = settings().chain(OTHERS.iter().map(|name| (*name).to_owned()));
        let nearest = known.min_by_key(|known| strsim::damerau_levenshtein(known, unknown));
        Err(ConfigError::UnknownVariable {
            name: unknown.to_owned(),
            nearest: nearest.unwrap_or_default(),
        })
    }

    /// Sets what Meridian's own variables say.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        SETTINGS.iter().try_for_each(|setting| {
            let name = setting.variable();
            self.get(&name)
                .map_or(Ok(()), |text| setting.set(config, &name, text))
        })
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Self {
        let ours =
            |name: &str| name.starts_with(PREFIX) || name.starts_with(super::openfga::PREFIX);
        let variables = variables.into_iter();
        Self(
            variables
                .filter(|(name, value)| ours(name) && !value.trim().is_empty())
                .collect(),
        )
    }
}

/// Whether it is a variable by which Kubernetes, or Docker's links, tell where a Service is: `SHOP_SERVICE_HOST`,
/// `SHOP_SERVICE_PORT` with or without a port's name behind it, `SHOP_PORT` with a URL, `SHOP_PORT_8081_TCP` with or without
/// `_PROTO`, `_PORT` or `_ADDR` behind it.
fn is_service_link(name: &str, value: &str) -> bool {
    let parts: Vec<_> = name.split('_').collect();
    let is_port = |parts: &[&str]| match parts {
        ["PORT", port, "TCP" | "UDP" | "SCTP"] => port.parse::<u16>().is_ok(),
        _ => false,
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
        || parts.windows(3).any(is_port)
}

/// The command, and those inside, for which variables that are empty count as not set.
#[must_use]
pub fn without_empty(command: clap::Command) -> clap::Command {
    let is_empty = |variable: &std::ffi::OsStr| {
        let value = std::env::var_os(variable);
        value.is_some_and(|value| value.to_str().is_some_and(|text| text.trim().is_empty()))
    };
    command
        .mut_args(|option| match option.get_env() {
            Some(variable) if is_empty(variable) => option.env(clap::builder::Resettable::Reset),
            _ => option,
        })
        .mut_subcommands(without_empty)
}
