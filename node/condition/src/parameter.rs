//! The types of a condition's parameters, and how a context's JSON becomes values of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::error::short;
use crate::ip::Ip;
use crate::number;
use crate::time::{Timestamp, parse_duration};
use crate::types::Type;
use crate::value::{List, Map, Text, Value};

/// How deep element types nest: far more than any protocol lets through, and bounded.
const MAX_NESTING: usize = 16;

/// The type of a parameter, as OpenFGA names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterType {
    /// Any JSON value.
    Any,
    /// `true` or `false`.
    Bool,
    /// A text.
    String,
    /// A whole number of 64 bits, as a JSON number or a text.
    Int,
    /// A whole number from 0, as a JSON number or a text.
    Uint,
    /// A number, as a JSON number or a text that a double holds exactly.
    Double,
    /// A duration in Go's notation, `1h30m`.
    Duration,
    /// A timestamp by RFC 3339.
    Timestamp,
    /// A map from texts to values of one type.
    Map(Box<ParameterType>),
    /// A list of values of one type.
    List(Box<ParameterType>),
    /// An IPv4 or IPv6 address.
    IpAddress,
}

/// What is not a parameter type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidParameterType {
    /// No type has this name.
    #[error(
        "unknown parameter type '{0}'; use any, bool, string, int, uint, double, duration, timestamp, ipaddress, \
         map<T> or list<T>"
    )]
    Unknown(String),
    /// `map` or `list` alone.
    #[error("parameter type '{0}' requires a generic element type, e.g. '{0}<any>'")]
    MissingElement(String),
    /// An element type where none belongs, or an unclosed one.
    #[error("malformed parameter type '{0}'; only map<T> and list<T> take an element type")]
    Malformed(String),
}

impl FromStr for ParameterType {
    type Err = InvalidParameterType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.matches('<').count() > MAX_NESTING {
            return Err(InvalidParameterType::Malformed(text.to_owned()));
        }
        if let Some((outer, inner)) = text.split_once('<') {
            let malformed = || InvalidParameterType::Malformed(text.to_owned());
            let element = Box::new(inner.strip_suffix('>').ok_or_else(malformed)?.parse()?);
            return match outer {
                "map" => Ok(Self::Map(element)),
                "list" => Ok(Self::List(element)),
                _ => Err(malformed()),
            };
        }
        Ok(match text {
            "any" => Self::Any,
            "bool" => Self::Bool,
            "string" => Self::String,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "double" => Self::Double,
            "duration" => Self::Duration,
            "timestamp" => Self::Timestamp,
            "ipaddress" => Self::IpAddress,
            "map" | "list" => return Err(InvalidParameterType::MissingElement(text.to_owned())),
            _ => return Err(InvalidParameterType::Unknown(text.to_owned())),
        })
    }
}

impl fmt::Display for ParameterType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Duration => "duration",
            Self::Timestamp => "timestamp",
            Self::IpAddress => "ipaddress",
            Self::Map(element) => return write!(f, "map<{element}>"),
            Self::List(element) => return write!(f, "list<{element}>"),
        })
    }
}

impl ParameterType {
    pub(crate) fn to_cel(&self) -> Type {
        match self {
            Self::Any => Type::Any,
            Self::Bool => Type::Bool,
            Self::String => Type::String,
            Self::Int => Type::Int,
            Self::Uint => Type::Uint,
            Self::Double => Type::Double,
            Self::Duration => Type::Duration,
            Self::Timestamp => Type::Timestamp,
            Self::IpAddress => Type::Ip,
            Self::Map(element) => Type::map(Type::String, element.to_cel()),
            Self::List(element) => Type::list(element.to_cel()),
        }
    }

    /// Casts one JSON value.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub(crate) fn cast<'a>(&self, json: &'a Json) -> Result<Value<'a>, String> {
        match self {
            Self::Any => Ok(any(json)),
            Self::Map(element) => {
                let Json::Object(entries) = json else {
                    return Err(expected("a map", json));
                };
                let cast = |(key, value): (&'a String, &'a Json)| match element.cast(value) {
                    Ok(value) => Ok((Value::Text(Text::Borrowed(key)), value)),
                    Err(error) => Err(format!(
                        "found an invalid value for key '{}': {error}",
                        short(key)
                    )),
                };
                let entries = entries.iter().map(cast).collect::<Result<Vec<_>, _>>()?;
                Ok(Value::Map(Arc::new(Map::new(entries))))
            }
            Self::List(element) => {
                let Json::Array(items) = json else {
                    return Err(expected("a list", json));
                };
                let cast = |(at, item): (usize, &'a Json)| match element.cast(item) {
                    Ok(value) => Ok(value),
                    Err(error) => Err(format!("found an invalid list item at index {at}: {error}")),
                };
                let items = items
                    .iter()
                    .enumerate()
                    .map(cast)
                    .collect::<Result<_, _>>()?;
                Ok(Value::List(List::new(items)))
            }
            _ => self
                .scalar(json)
                .ok_or_else(|| expected(self.wanted(), json)),
        }
    }

    fn scalar<'a>(&self, json: &'a Json) -> Option<Value<'a>> {
        match (self, json) {
            (Self::Bool, Json::Bool(bool)) => Some(Value::Bool(*bool)),
            (Self::Int, Json::Number(n)) => number::int(n.as_f64()?).map(Value::Int),
            (Self::Int, Json::String(text)) => number::int_of_text(text).map(Value::Int),
            (Self::Uint, Json::Number(n)) => uint(number::int(n.as_f64()?)?),
            (Self::Uint, Json::String(text)) => uint(number::int_of_text(text)?),
            (Self::Double, Json::Number(n)) => n.as_f64().map(Value::Double),
            (_, Json::String(text)) => match self {
                Self::String => Some(Value::Text(Text::Borrowed(text))),
                Self::Double => number::double_of_text(text).map(Value::Double),
                Self::Duration => parse_duration(text).map(Value::Duration),
                Self::Timestamp => Timestamp::parse(text).map(Value::Timestamp),
                Self::IpAddress => Ip::parse(text).map(Value::Ip),
                _ => None,
            },
            _ => None,
        }
    }

    fn wanted(&self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::Uint => "a whole number from 0",
            Self::Double => "a number, or a text of one that a double holds exactly",
            Self::Duration => "a duration like '1h30m'",
            Self::Timestamp => "an RFC 3339 timestamp like '2024-01-31T12:00:00Z'",
            Self::IpAddress => "a well-formed IP address",
            Self::String => "a string",
            Self::Any | Self::Map(_) | Self::List(_) => "another type",
        }
    }
}

fn uint(int: i64) -> Option<Value<'static>> {
    u64::try_from(int).ok().map(Value::Uint)
}

fn expected(wanted: &str, json: &Json) -> String {
    format!("expected {wanted}, but found {}", short(&json.to_string()))
}

/// JSON as CEL sees it where nothing is declared of it.
fn any(json: &Json) -> Value<'_> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(*bool),
        Json::Number(n) => Value::Double(n.as_f64().unwrap_or_default()),
        Json::String(text) => Value::Text(Text::Borrowed(text)),
        Json::Array(items) => Value::List(List::new(items.iter().map(any).collect())),
        Json::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| (Value::Text(Text::Borrowed(key)), any(value)));
            Value::Map(Arc::new(Map::new(entries)))
        }
    }
}
