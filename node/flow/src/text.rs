//! Texts of others: cut to a bound, and without what no terminal, log or database should be shown.

/// Bytes of a name, an object, a user, a node or what a client calls itself.
pub(crate) const NAME: usize = 512;
/// Bytes of a code, a relation, a revision, a model or the name of a call or step.
pub(crate) const CODE: usize = 128;
/// Bytes of a message.
pub(crate) const MESSAGE: usize = 1024;
/// Bytes of an explanation at most; a longer one is not kept, since a cut would leave no JSON.
pub const MAX_EXPLANATION_BYTES: usize = 16 * 1024;

/// Cuts a text to at most `most` bytes, at a character's end, and puts a space in place of each control character. It holds no
/// more memory than it has bytes then, for these are what is counted of it while it waits.
pub(crate) fn bound(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
    if text.chars().any(char::is_control) {
        *text = text.replace(char::is_control, " ");
    }
    text.shrink_to_fit();
}

/// The same, of a text that need not be there; what is empty is none.
pub(crate) fn bound_some(text: &mut Option<String>, most: usize) {
    if let Some(text) = text {
        bound(text, most);
    }
    *text = text.take().filter(|text| !text.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_and_controls_become_spaces() {
        let of = |text: &str, most| {
            let mut text = text.to_owned();
            bound(&mut text, most);
            text
        };
        assert_eq!(of("curl/8", 512), "curl/8");
        assert_eq!(of("über", 2), "ü");
        assert_eq!(of("über", 1), "");
        assert_eq!(of("a\0b\nc\u{85}d", 512), "a b c d");
        for held in ["x".repeat(600_000), "\n".repeat(600_000), {
            let mut short = String::with_capacity(600_000);
            short.push('x');
            short
        }] {
            let mut text = held;
            bound(&mut text, NAME);
            assert_eq!(text.capacity(), text.len());
        }
        let mut empty = Some(String::new());
        bound_some(&mut empty, 5);
        assert_eq!(empty, None);
    }
}
