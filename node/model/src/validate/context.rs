//! Which texts a context may hold.

use std::fmt::Write as _;

use meridian_condition::Context;
use serde_json::Value as Json;

/// Checks the context of a question, or of a tuple's condition: no key and no text in it, however deep, has a control
/// character.
///
/// # Errors
/// The first key or text that has one.
pub fn context(context: &Context) -> Result<(), String> {
    for (key, value) in context {
        if has_control(key) {
            return Err(refusal("key", key));
        }
        plain(value)?;
    }
    Ok(())
}

fn plain(value: &Json) -> Result<(), String> {
    match value {
        Json::String(text) if has_control(text) => Err(refusal("value", text)),
        Json::Array(values) => values.iter().try_for_each(plain),
        Json::Object(inner) => context(inner),
        _ => Ok(()),
    }
}

pub(super) fn has_control(text: &str) -> bool {
    text.contains(char::is_control)
}

fn refusal(what: &str, text: &str) -> String {
    let text = quoted(text);
    format!("context {what} {text} contains forbidden characters")
}

/// A text in quotes, escaped as Go's `%q` does, in whose words this is refused upstream.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            c if is_printable(c) => quoted.push(c),
            c => {
                let number = u32::from(c);
                let _infallible = match number {
                    0..0x80 => write!(quoted, "\\x{number:02x}"),
                    0x80..0x1_0000 => write!(quoted, "\\u{number:04x}"),
                    _ => write!(quoted, "\\U{number:08x}"),
                };
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a character shows. The standard library knows, and lets marks stand that combine with what is before them.
fn is_printable(c: char) -> bool {
    c == '\'' || format!("a{c}").escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(value: &Json) -> String {
        context(value.as_object().unwrap()).unwrap_err()
    }

    #[test]
    fn a_control_character_is_found_wherever_it_stands() {
        for (value, what) in [
            (json!({"a": "x\ny"}), r#"value "x\ny""#),
            (json!({"a": ["x", ["\u{85}"]]}), r#"value "\u0085""#),
            (json!({"a": {"b": {"c\t": 1}}}), r#"key "c\t""#),
            (json!({"\u{7f}": null}), r#"key "\x7f""#),
        ] {
            let expected = format!("context {what} contains forbidden characters");
            assert_eq!(refused(&value), expected);
        }
        let plain = json!({"a b": ["é \u{301}", 1, true, null, {"c": "\u{a0}\u{200b}"}]});
        assert_eq!(context(plain.as_object().unwrap()), Ok(()));
    }

    #[test]
    fn texts_are_quoted_as_in_go() {
        let text = "\"\\'é\u{301}\u{a0}\u{200b}\u{1f600}\u{e0001}\x07\x08\x0c\r\x0b\0";
        let expected = r#""\"\\'é"#.to_owned()
            + "\u{301}"
            + r"\u00a0\u200b"
            + "\u{1f600}"
            + r#"\U000e0001\a\b\f\r\v\x00""#;
        assert_eq!(quoted(text), expected);
    }
}
