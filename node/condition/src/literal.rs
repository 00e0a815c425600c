//! What literals stand for.

use std::sync::Arc;

use crate::error::Fault;
use crate::lex::Token;
use crate::number::parse_double;
use crate::parse::Parser;
use crate::value::{Text, Value};

impl Parser<'_> {
    /// The literal that is next; a minus before a number is part of it.
    pub(crate) fn literal(&mut self) -> Result<Value<'static>, Fault> {
        let at = self.at();
        let sign = if self.eat("-") { "-" } else { "" };
        let invalid = |what: &str| Fault::new(at, format!("invalid {what} literal"));
        let value = match self.peek() {
            Token::Int(digits) => {
                Value::Int(whole(sign, digits, i64::from_str_radix).ok_or_else(|| invalid("int"))?)
            }
            Token::Float(digits) => {
                let double = parse_double(&format!("{sign}{digits}"));
                Value::Double(double.ok_or_else(|| invalid("double"))?)
            }
            _ if !sign.is_empty() => return Err(self.unexpected()),
            Token::Uint(digits) => {
                Value::Uint(whole("", digits, u64::from_str_radix).ok_or_else(|| invalid("uint"))?)
            }
            Token::Text(literal) => {
                let bytes = unquote(literal, false).map_err(|error| Fault::new(at, error))?;
                Value::Text(Text::Shared(String::from_utf8_lossy(&bytes).into()))
            }
            Token::Bytes(literal) => Value::Bytes(Arc::from(
                unquote(literal, true).map_err(|error| Fault::new(at, error))?,
            )),
            Token::Sign("true") => Value::Bool(true),
            Token::Sign("false") => Value::Bool(false),
            Token::Sign("null") => Value::Null,
            _ => return Err(self.unexpected()),
        };
        self.next += 1;
        Ok(value)
    }
}

fn whole<T>(
    sign: &str,
    digits: &str,
    parse: fn(&str, u32) -> Result<T, std::num::ParseIntError>,
) -> Option<T> {
    match digits.strip_prefix("0x") {
        Some(hex) => parse(&format!("{sign}{hex}"), 16).ok(),
        None => parse(&format!("{sign}{digits}"), 10).ok(),
    }
}

/// What a text or bytes literal stands for, as bytes.
fn unquote(literal: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    let literal = literal.replace("\r\n", "\n").replace('\r', "\n");
    let literal = if bytes {
        literal.get(1..).unwrap_or_default()
    } else {
        &literal
    };
    let raw = literal.starts_with(['r', 'R']);
    let quoted = literal.trim_start_matches(['r', 'R']);
    let long = quoted.len() >= 6 && (quoted.starts_with("\"\"\"") || quoted.starts_with("'''"));
    let quote = if long { 3 } else { 1 };
    let body = quoted
        .get(quote..quoted.len().saturating_sub(quote))
        .unwrap_or_default();
    if raw {
        return Ok(body.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((before, after)) = rest.split_once('\\') {
        out.extend_from_slice(before.as_bytes());
        rest = unescape(after, bytes, &mut out)?;
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Writes what the escape sequence after a backslash stands for, and answers what follows it.
fn unescape<'s>(after: &'s str, bytes: bool, out: &mut Vec<u8>) -> Result<&'s str, &'static str> {
    let invalid = "unable to unescape string";
    let kind = after.bytes().next().ok_or(invalid)?;
    let simple = match kind {
        b'a' => Some(7),
        b'b' => Some(8),
        b'f' => Some(12),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'v' => Some(11),
        b'"' | b'\'' | b'\\' | b'?' | b'`' => Some(kind),
        _ => None,
    };
    if let Some(byte) = simple {
        out.push(byte);
        return after.get(1..).ok_or(invalid);
    }
    let (digits, radix, end) = match kind {
        b'x' | b'X' => (after.get(1..3), 16, 3),
        b'u' | b'U' if bytes => return Err(invalid),
        b'u' => (after.get(1..5), 16, 5),
        b'U' => (after.get(1..9), 16, 9),
        _ => (after.get(..3), 8, 3),
    };
    let code = u32::from_str_radix(digits.ok_or(invalid)?, radix).map_err(|_| invalid)?;
    if bytes {
        out.push(u8::try_from(code).map_err(|_| invalid)?);
    } else {
        let c = char::from_u32(code).ok_or("invalid unicode code point")?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    after.get(end..).ok_or(invalid)
}
