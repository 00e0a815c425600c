//! The rules of a request's fields: patterns, sizes and required parts, checked before a call is looked at.
//!
//! Upstream generates these from its protobuf (protoc-gen-validate), and clients and conformance suites know the words.
//! They differ from every other error in one way: on gRPC the status is plain INVALID_ARGUMENT (3), while the JSON body
//! names a code by field. Checks are byte scans, since a Check passes here on its way to an answer of microseconds.

use meridian_model::tuple::{MAX_OBJECT_LEN, MAX_RELATION_LEN, MAX_TYPE_LEN, MAX_USER_LEN};
use meridian_model::{ApiError, Code, Position, StoreId};
use meridian_proto::google::value::Kind;
use meridian_proto::google::{Struct, Value};
use meridian_proto::openfga::v1;

use crate::limits::{Limits, MAX_CONTEXT_DEPTH, MAX_PAGE_SIZE, MAX_TOKEN_LEN};

mod assertions;
mod authzen;
mod lists;
mod model;
mod requests;

/// The fields of a request that break a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidFields {
    /// The JSON body's `code`: of the first field that broke a rule.
    pub code: &'static str,
    /// One sentence a field, joined by `; `.
    pub message: String,
}

/// A request whose fields have rules.
pub trait Fields {
    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidFields`] naming each field that breaks a rule.
    fn check_fields(&self, limits: &Limits) -> Result<(), InvalidFields>;

    /// What is wrong with a request of which each field keeps its rules.
    ///
    /// # Errors
    /// `validation_error`, with its number on gRPC.
    fn check_whole(&self, _: &Limits) -> Result<(), ApiError> {
        Ok(())
    }

    /// The store the request is about, as text; empty for calls that name none.
    fn store_id(&self) -> &str;
}

const ID: &str = "^[ABCDEFGHJKMNPQRSTVWXYZ0-9]{26}$";
const TOKEN: &str = "^$|^[A-Za-z0-9-_]+={0,2}$";
const STORE_NAME: &str = r"^[a-zA-Z0-9\s\.\-\/^_&@]{3,64}$";
const NAME: &str = r"^[^:#@\s]{1,50}$";
const TYPE: &str = r"^[^:#@\s]{1,254}$";
const TYPE_FILTER: &str = r"^[^:#\s]{1,254}$";
const OBJECT: &str = r"^[^\s]{2,256}$";
const CHECK_USER: &str = r"^[^\s]{2,512}$";
const READ_USER: &str = r"^[^\s]{1,511}:[^\s]{1,511}$";

/// Collects what is wrong with one request message. Nothing is allocated while all is well.
struct Report {
    message: &'static str,
    found: Option<InvalidFields>,
}

impl Report {
    fn of(message: &'static str) -> Self {
        Self {
            message,
            found: None,
        }
    }

    /// The same report, going on into another message of the request.
    fn within(&mut self, message: &'static str) -> &mut Self {
        self.message = message;
        self
    }

    fn add(&mut self, code: &'static str, field: &str, reason: &str) {
        let sentence = format!("invalid {}.{field}: {reason}", self.message);
        match &mut self.found {
            None => {
                self.found = Some(InvalidFields {
                    code,
                    message: sentence,
                })
            }
            Some(found) => {
                found.message.push_str("; ");
                found.message.push_str(&sentence);
            }
        }
    }

    fn pattern(&mut self, field: &str, holds: bool, pattern: &str) {
        if !holds {
            let code = match field {
                "Type" => "type_invalid_pattern",
                _ if field.starts_with("Relations[") => "relations_invalid_pattern",
                _ => Code::ValidationError.name(),
            };
            self.add(
                code,
                field,
                &format!(
                    "value does not match regex pattern \"{}\"",
                    pattern.replace('\\', "\\\\")
                ),
            );
        }
    }

    fn store_id(&mut self, id: &str) {
        self.pattern("StoreId", is_id(id), ID);
    }

    fn optional_id(&mut self, field: &str, id: &str) {
        self.pattern(field, id.is_empty() || is_id(id), ID);
    }

    fn page_size(&mut self, size: Option<i32>) {
        if size.is_some_and(|size| !(1..=MAX_PAGE_SIZE).contains(&size)) {
            self.add(
                Code::PageSizeInvalid.name(),
                "PageSize",
                &format!("value must be inside range [1, {MAX_PAGE_SIZE}]"),
            );
        }
    }

    /// Of ReadChanges, whose most is a limit of the server.
    fn changes_page_size(&mut self, size: Option<i32>, most: u32) {
        let Some(size) = size else { return };
        if size < 1 {
            self.add(
                Code::ValidationError.name(),
                "PageSize",
                "value must be greater than or equal to 1",
            );
        } else if size.unsigned_abs() > most {
            self.add(
                Code::PageSizeInvalid.name(),
                "PageSize",
                &format!("value must be inside range [1, {most}]"),
            );
        }
    }

    fn token(&mut self, token: &str) {
        if token.len() > MAX_TOKEN_LEN {
            self.add(
                Code::ValidationError.name(),
                "ContinuationToken",
                &format!("value length must be at most {MAX_TOKEN_LEN} bytes"),
            );
        } else {
            self.pattern("ContinuationToken", is_token(token), TOKEN);
        }
    }

    fn consistency(&mut self, value: i32) {
        if v1::ConsistencyPreference::try_from(value).is_err() {
            self.add(
                Code::ValidationError.name(),
                "Consistency",
                "value must be one of the defined enum values",
            );
        }
    }

    fn at_most(&mut self, field: &str, count: usize, max: usize) {
        if count > max {
            let code = match field {
                "Assertions" => "assertions_too_many_items",
                _ => Code::ValidationError.name(),
            };
            self.add(
                code,
                field,
                &format!("value must contain no more than {max} item(s)"),
            );
        }
    }

    fn at_most_pairs(&mut self, field: &str, count: usize, max: usize) {
        if count > max {
            self.add(
                Code::ValidationError.name(),
                field,
                &format!("value must contain no more than {max} pair(s)"),
            );
        }
    }

    fn at_most_bytes(&mut self, field: &str, text: &str, max: usize) {
        if text.len() > max {
            let code = match field {
                "Object" => "object_too_long",
                "Relation" => "relation_too_long",
                _ => Code::ValidationError.name(),
            };
            self.add(
                code,
                field,
                &format!("value length must be at most {max} bytes"),
            );
        }
    }

    fn required<T>(&mut self, field: &str, part: Option<&T>) {
        if part.is_none() {
            let code = match field {
                "Base" => "difference_base_missing_value",
                "Subtract" => "subtract_base_missing_value",
                _ => Code::ValidationError.name(),
            };
            self.add(code, field, requests::REQUIRED);
        }
    }

    fn context(&mut self, context: Option<&Struct>) {
        self.nesting("Context", context);
    }

    fn nesting(&mut self, field: &str, value: Option<&Struct>) {
        if value.is_some_and(|value| is_deeper(value, MAX_CONTEXT_DEPTH)) {
            self.add(
                Code::ValidationError.name(),
                field,
                &format!("value must not be nested more than {MAX_CONTEXT_DEPTH} levels deep"),
            );
        }
    }

    fn done(self) -> Result<(), InvalidFields> {
        self.found.map_or(Ok(()), Err)
    }
}

/// Whether an object has more than `levels`. What could be decoded is not deep enough to run off the stack.
fn is_deeper(object: &Struct, levels: usize) -> bool {
    let mut inner = object.fields.values();
    levels == 0 || inner.any(|value| is_value_deeper(value, levels - 1))
}

fn is_value_deeper(value: &Value, levels: usize) -> bool {
    match &value.kind {
        Some(Kind::StructValue(object)) => is_deeper(object, levels),
        Some(Kind::ListValue(list)) => {
            let mut inner = list.values.iter();
            levels == 0 || inner.any(|value| is_value_deeper(value, levels - 1))
        }
        _ => false,
    }
}

fn is_id(text: &str) -> bool {
    text.parse::<StoreId>().is_ok()
}

fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let plain = body
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    plain && text.len() - body.len() <= 2 && (text.is_empty() || !body.is_empty())
}

fn is_store_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b" \t\n\x0c\r.-/^_&@".contains(&b);
    (3..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// Whether `text` has `min` to `max` characters, none of them white space (`\s` of RE2) nor one of `refused`.
fn is_plain(text: &str, min: usize, max: usize, refused: &[u8]) -> bool {
    let length = if text.is_ascii() {
        text.len()
    } else {
        text.chars().count()
    };
    let allowed =
        |b: u8| !matches!(b, b' ' | b'\t' | b'\n' | 0x0c | b'\r') && !refused.contains(&b);
    (min..=max).contains(&length) && text.bytes().all(allowed)
}

fn is_name(text: &str) -> bool {
    is_plain(text, 1, MAX_RELATION_LEN, b":#@")
}

fn is_type(text: &str) -> bool {
    is_plain(text, 1, MAX_TYPE_LEN, b":#@")
}

fn is_object(text: &str) -> bool {
    is_plain(text, 2, MAX_OBJECT_LEN, b"")
}

fn is_check_user(text: &str) -> bool {
    is_plain(text, 2, MAX_USER_LEN, b"")
}

/// Reads `meridian-min-revision`.
///
/// # Errors
/// [`InvalidFields`] naming the header and its value.
pub fn min_position(header: &[u8]) -> Result<Position, InvalidFields> {
    let text = std::str::from_utf8(header).unwrap_or("(not text)");
    text.parse().map_err(|why| InvalidFields {
        code: Code::ValidationError.name(),
        message: format!("invalid header meridian-min-revision: '{text}' {why}"),
    })
}
