//! What a process is told by its environment.

use std::collections::BTreeMap;

use super::settings::SETTINGS;
use super::{Config, ConfigError};

/// Variables by name, those that are empty left out: of Meridian and of OpenFGA's server.
#[derive(Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// This process's.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        std::env::vars_os().filter_map(text).collect()
    }

    /// The value of a variable that is set.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
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
            |name: &str| name.starts_with("MERIDIAN_") || name.starts_with(super::openfga::PREFIX);
        let variables = variables.into_iter();
        Self(
            variables
                .filter(|(name, value)| ours(name) && !value.trim().is_empty())
                .collect(),
        )
    }
}
