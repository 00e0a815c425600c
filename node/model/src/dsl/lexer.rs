//! From text to tokens, one at a time, since a condition's body is not made of tokens.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword or name.
    Word,
    /// One of `:#@,()[]{}<>*`.
    Mark(char),
    /// The end of a line.
    Newline,
    /// The end of the text.
    End,
}

/// A token and where it begins, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) at: usize,
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn next(&mut self) -> Token<'a> {
        self.skip_blanks();
        let (at, rest) = (self.at, self.rest());
        let Some(first) = rest.chars().next() else {
            return Token {
                kind: Kind::End,
                text: "",
                at,
            };
        };
        let (kind, len) = match first {
            '\n' => (Kind::Newline, 1),
            _ if is_mark(first) => (Kind::Mark(first), first.len_utf8()),
            _ => (
                Kind::Word,
                rest.find(|c: char| c.is_whitespace() || is_mark(c))
                    .unwrap_or(rest.len()),
            ),
        };
        self.at += len;
        Token {
            kind,
            text: rest.get(..len).unwrap_or_default(),
            at,
        }
    }

    /// Skips blanks, and a comment: a `#` with a blank before it, or at the start of a line, up to the end of the line.
    fn skip_blanks(&mut self) {
        let rest = self.rest();
        let blanks = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_whitespace() && c != '\n')
                .len();
        self.at += blanks;
        if self.rest().starts_with('#') && starts_comment(self.text, self.at) {
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    /// A condition's body, from behind the `{` at `open` to the `}` that closes it, without comments. `None` when
    /// nothing closes it. Braces within strings and CEL comments do not count.
    pub(super) fn body(&mut self, open: usize) -> Option<String> {
        self.at = open + 1;
        let mut body = String::new();
        let mut braces = 1_usize;
        loop {
            let rest = self.rest();
            let first = rest.chars().next()?;
            let len = match first {
                '#' if starts_comment(self.text, self.at) => {
                    body.truncate(body.trim_end_matches([' ', '\t']).len());
                    self.at += rest.find('\n')?;
                    continue;
                }
                '/' if rest.starts_with("//") => rest.find('\n')?,
                '"' | '\'' => string_len(
                    rest,
                    self.text
                        .get(..self.at)
                        .is_some_and(|before| before.ends_with(['r', 'R'])),
                )?,
                '{' => {
                    braces += 1;
                    1
                }
                '}' => {
                    braces -= 1;
                    1
                }
                _ => first.len_utf8(),
            };
            self.at += len;
            if braces == 0 {
                return Some(body.trim().to_owned());
            }
            body.push_str(rest.get(..len)?);
        }
    }
}

fn is_mark(c: char) -> bool {
    matches!(
        c,
        ':' | '#' | '@' | ',' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '*'
    )
}

fn starts_comment(text: &str, at: usize) -> bool {
    text.get(..at)
        .is_some_and(|before| before.is_empty() || before.ends_with(char::is_whitespace))
}

/// The length in bytes of the string literal that the text begins with, quotes included. `None` when it does not end.
fn string_len(text: &str, raw: bool) -> Option<usize> {
    let quote = [r#"""""#, "'''", "\"", "'"]
        .into_iter()
        .find(|quote| text.starts_with(quote))?;
    let mut at = quote.len();
    loop {
        let rest = text.get(at..)?;
        if rest.starts_with(quote) {
            return Some(at + quote.len());
        }
        let mut chars = rest.chars();
        let first = chars.next()?;
        at += first.len_utf8();
        if first == '\\' && !raw {
            at += chars.next()?.len_utf8();
        }
    }
}
