//! The configuration file.

use std::borrow::Cow;
use std::path::Path;

use serde_json::Value;

use super::settings::SETTINGS;
use super::{Config, ConfigError};

/// Reads the settings in a file.
///
/// # Errors
/// [`ConfigError::Unreadable`] and [`ConfigError::Invalid`], which says where in the file and, of a setting, what it may be.
pub(super) fn read(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|why| ConfigError::Unreadable("the configuration file", path.to_owned(), why))?;
    serde_saphyr::from_str(&text).map_err(|why| {
        let told = why.render_with_formatter(&Words);
        let told = match explained(&text) {
            Some(remedy) => format!("{remedy}; {told}"),
            None => told,
        };
        ConfigError::Invalid(path.to_owned(), told)
    })
}

/// Of the first setting that cannot be read, what it must look like: in the words that its variable would be refused with.
fn explained(text: &str) -> Option<String> {
    let tree: Value = serde_saphyr::from_str(text).ok()?;
    SETTINGS.iter().find_map(|setting| {
        let place = format!("/{}", setting.path.replace('.', "/"));
        let remedy = match tree.pointer(&place)? {
            Value::Array(_) => return None,
            scalar if setting.is_list() => match scalar {
                Value::Null => return None,
                _ => "write a list, like [one, two]",
            },
            Value::String(text) => setting.misread(text)?,
            Value::Number(number) => setting.misread(&number.to_string())?,
            _ => return None,
        };
        Some(format!("{}: {remedy}", setting.path))
    })
}

/// The parser's words, but where they are about the parser.
struct Words;

impl serde_saphyr::MessageFormatter for Words {
    fn format_message<'a>(&self, error: &'a serde_saphyr::Error) -> Cow<'a, str> {
        match error {
            serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("'{key}' is there twice: leave one out").into()
            }
            other => serde_saphyr::DefaultMessageFormatter.format_message(other),
        }
    }
}
