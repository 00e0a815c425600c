//! `kafka.propertiesFile`: librdkafka's settings one a line, as a mounted Secret brings them.

use std::collections::BTreeMap;
use std::path::Path;

use super::ConfigError;

/// Reads `name=value` lines. Empty lines and those that begin with `#` are left out, spaces around name and value too. In a
/// value whose name ends in `.pem`, `\n` is a line break.
///
/// # Errors
/// [`ConfigError`] naming the file and the line, and never what is in it beside a setting's name.
pub(super) fn read(file: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let text = std::fs::read_to_string(file)
        .map_err(|why| ConfigError::Unreadable("kafka.propertiesFile", file.to_owned(), why))?;
    let mut properties = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let bad = |what: String| ConfigError::Property {
            file: file.to_owned(),
            line: number + 1,
            what,
        };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| bad("it has no '=': write name=value, like sasl.username=me".into()))?;
        let (name, value) = (name.trim_end(), value.trim_start());
        let well_formed = !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_'));
        if !well_formed {
            return Err(bad(
                "what stands before the '=' is no name of a setting: those are of small letters, digits, '.' and '_', like sasl.password".into(),
            ));
        }
        let value = if name.ends_with(".pem") {
            value.replace("\\n", "\n")
        } else {
            value.to_owned()
        };
        if properties.insert(name.to_owned(), value).is_some() {
            return Err(bad(format!("'{name}' is set a second time: remove one")));
        }
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<BTreeMap<String, String>, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kafka.properties");
        std::fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn lines_become_properties() {
        let properties = read_text(
            "# who we are\n\n sasl.username = me \r\nsasl.password=a=b\\nc\nssl.key.pem=one\\ntwo\n",
        );
        let expected = [
            ("sasl.username", "me"),
            ("sasl.password", "a=b\\nc"),
            ("ssl.key.pem", "one\ntwo"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(properties.unwrap(), BTreeMap::from(expected));
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        for (text, line, what) in [
            ("sasl.username=me\nhunter2\n", "line 2", "no '='"),
            ("Hunter2 x=1", "line 1", "no name of a setting"),
            ("=hunter2", "line 1", "no name of a setting"),
            (
                "a.b=1\n#\na.b=hunter2",
                "line 3",
                "'a.b' is set a second time",
            ),
        ] {
            let told = read_text(text).unwrap_err().to_string();
            assert!(told.contains(line) && told.contains(what), "{told}");
            assert!(!told.to_lowercase().contains("hunter2"), "{told}");
        }
        let missing = read(Path::new("/nowhere/kafka.properties")).unwrap_err();
        assert!(
            missing
                .to_string()
                .contains("kafka.propertiesFile /nowhere/kafka.properties")
        );
    }
}
