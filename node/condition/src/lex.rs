//! Tokens of CEL, the longest that fit.

use crate::error::Fault;

/// A token; texts are as written, with their quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'s> {
    Int(&'s str),
    Uint(&'s str),
    Float(&'s str),
    Text(&'s str),
    Bytes(&'s str),
    Ident(&'s str),
    /// Between backquotes.
    Escaped(&'s str),
    /// An operator, a bracket or a keyword.
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!",
    "?", ":", "+", "*", "/", "%",
];
const KEYWORDS: [&str; 4] = ["in", "true", "false", "null"];

/// The tokens of an expression with their places in bytes; the last is [`Token::End`].
pub(crate) fn tokens(source: &str) -> Result<Vec<(usize, Token<'_>)>, Fault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        let rest = source.get(at..).unwrap_or_default();
        let Some(first) = rest.bytes().next() else {
            break;
        };
        if matches!(first, b' ' | b'\t' | b'\r' | b'\n' | b'\x0c') {
            at += 1;
            continue;
        }
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let Some((token, len)) = token(rest) else {
            let found: String = rest.chars().take(12).collect();
            return Err(Fault::new(
                at,
                format!("Syntax error: token recognition error at: '{found}'"),
            ));
        };
        tokens.push((at, token));
        at += len;
    }
    tokens.push((source.len(), Token::End));
    Ok(tokens)
}

fn token(rest: &str) -> Option<(Token<'_>, usize)> {
    let first = rest.bytes().next()?;
    if let Some((len, bytes)) = text_len(rest) {
        let text = rest.get(..len)?;
        return Some((
            if bytes {
                Token::Bytes(text)
            } else {
                Token::Text(text)
            },
            len,
        ));
    }
    if first.is_ascii_digit()
        || first == b'.' && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
    {
        return number(rest);
    }
    if first.is_ascii_alphabetic() || first == b'_' {
        let len = count(rest, |b| b.is_ascii_alphanumeric() || b == b'_');
        let text = rest.get(..len)?;
        let keyword = KEYWORDS.into_iter().find(|keyword| *keyword == text);
        return Some((keyword.map_or(Token::Ident(text), Token::Sign), len));
    }
    if let Some(escaped) = rest.strip_prefix('`') {
        let len = count(escaped, |b| {
            b.is_ascii_alphanumeric() || b"_.-/ ".contains(&b)
        });
        let name = escaped.get(..len).filter(|name| !name.is_empty())?;
        escaped.get(len..)?.strip_prefix('`')?;
        return Some((Token::Escaped(name), len + 2));
    }
    let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign))?;
    Some((Token::Sign(sign), sign.len()))
}

fn count(text: &str, wanted: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|b| wanted(*b)).count()
}

fn number(rest: &str) -> Option<(Token<'_>, usize)> {
    let digits = |from: usize| count(rest.get(from..).unwrap_or_default(), |b| b.is_ascii_digit());
    let byte = |at: usize| rest.as_bytes().get(at).copied().unwrap_or_default();
    let whole = |len: usize| match byte(len) {
        b'u' | b'U' => Some((Token::Uint(rest.get(..len)?), len + 1)),
        _ => Some((Token::Int(rest.get(..len)?), len)),
    };
    if let Some(hex) = rest.strip_prefix("0x") {
        let len = count(hex, |b| b.is_ascii_hexdigit());
        if len > 0 {
            return whole(len + 2);
        }
    }
    let mut len = digits(0);
    let integral = len;
    if byte(len) == b'.' && digits(len + 1) > 0 {
        len += 1 + digits(len + 1);
    }
    if matches!(byte(len), b'e' | b'E') {
        let signed = usize::from(matches!(byte(len + 1), b'+' | b'-'));
        let exponent = digits(len + 1 + signed);
        if exponent > 0 {
            len += 1 + signed + exponent;
        }
    }
    if len == integral {
        whole(len)
    } else {
        Some((Token::Float(rest.get(..len)?), len))
    }
}

/// The length of a text or bytes literal, and whether it is of bytes.
fn text_len(rest: &str) -> Option<(usize, bool)> {
    let bytes = rest.starts_with(['b', 'B']);
    let after = if bytes { rest.get(1..)? } else { rest };
    let raw = after.starts_with(['r', 'R']);
    let quoted = if raw { after.get(1..)? } else { after };
    let prefix = usize::from(bytes) + usize::from(raw);
    let quote = quoted
        .bytes()
        .next()
        .filter(|b| matches!(b, b'"' | b'\''))?;
    let triple = [quote; 3];
    let long = quoted
        .as_bytes()
        .starts_with(&triple)
        .then(|| body_len(quoted, 3, &triple, raw));
    let len = long
        .flatten()
        .or_else(|| body_len(quoted, 1, &[quote], raw))?;
    Some((prefix + len, bytes))
}

/// The length of a literal that ends with `end`, both ends included.
fn body_len(quoted: &str, start: usize, end: &[u8], raw: bool) -> Option<usize> {
    let bytes = quoted.as_bytes();
    let mut at = start;
    loop {
        let rest = bytes.get(at..)?;
        if rest.starts_with(end) {
            return Some(at + end.len());
        }
        match rest.first()? {
            b'\\' if !raw => at += escape_len(rest)?,
            b'\n' | b'\r' if end.len() == 1 => return None,
            _ => at += 1,
        }
    }
}

/// The length of a valid escape sequence.
fn escape_len(rest: &[u8]) -> Option<usize> {
    let hex = |count: usize| {
        let digits = rest.get(2..2 + count)?;
        digits
            .iter()
            .all(u8::is_ascii_hexdigit)
            .then_some(2 + count)
    };
    match rest.get(1)? {
        b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`' => {
            Some(2)
        }
        b'x' | b'X' => hex(2),
        b'u' => hex(4),
        b'U' => hex(8),
        b'0'..=b'3' => {
            let digits = rest.get(2..4)?;
            digits
                .iter()
                .all(|b| (b'0'..=b'7').contains(b))
                .then_some(4)
        }
        _ => None,
    }
}
