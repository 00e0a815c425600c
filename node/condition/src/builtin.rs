//! What functions and operators do with values.

use std::cmp::Ordering;
use std::sync::Arc;

use regex::Regex;

use crate::error::short;
use crate::function::Function;
use crate::ip::Ip;
use crate::number::{format_double, parse_double};
use crate::pattern;
use crate::time::{Timestamp, duration_part, duration_seconds, parse_duration};
use crate::value::{
    Equality, List, Map, Text, Value, compare, double_to_int, double_to_uint, equal, same_key,
};

type Applied<'a> = Result<Value<'a>, String>;

/// Applies a function to its one or two arguments; `pattern` is that of `matches`, if it is known already.
///
/// # Errors
/// What failed: an overflow, types without an overload, a malformed text.
pub(crate) fn apply<'a>(
    function: Function,
    a: Value<'a>,
    b: Option<Value<'a>>,
    pattern: Option<&Regex>,
) -> Applied<'a> {
    match b {
        None => unary(function, a),
        Some(b) => binary(function, a, b, pattern),
    }
}

fn no_overload(function: Function, a: &Value<'_>, b: Option<&Value<'_>>) -> String {
    let b = b
        .map(|b| format!(", {}", b.type_name()))
        .unwrap_or_default();
    format!("no such overload: {function:?}({}{b})", a.type_name())
}

fn unary(function: Function, a: Value<'_>) -> Applied<'_> {
    use Function as F;
    Ok(match (function, &a) {
        (F::Not, Value::Bool(a)) => Value::Bool(!a),
        (F::Negate, Value::Double(a)) => Value::Double(-a),
        (F::Negate, Value::Int(a)) => Value::Int(a.checked_neg().ok_or(INT_OVERFLOW)?),
        (F::Negate, Value::Duration(a)) => Value::Duration(a.checked_neg().ok_or(INT_OVERFLOW)?),
        (F::Size, Value::Text(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_)) => {
            Value::Int(i64::try_from(a.size()).unwrap_or(i64::MAX))
        }
        (F::Type, a) => Value::Type(a.type_name()),
        (F::Dyn, _)
        | (F::ToBool, Value::Bool(_))
        | (F::ToBytes, Value::Bytes(_))
        | (F::ToDouble, Value::Double(_))
        | (F::ToDuration, Value::Duration(_))
        | (F::ToInt, Value::Int(_))
        | (F::ToText, Value::Text(_))
        | (F::ToTimestamp, Value::Timestamp(_))
        | (F::ToUint, Value::Uint(_)) => a,
        (_, Value::Text(text)) => from_text(function, text.as_str()).ok_or_else(|| {
            format!(
                "type conversion error: {function:?} of '{}'",
                short(text.as_str())
            )
        })?,
        (F::ToText, _) => to_text(&a).ok_or_else(|| no_overload(function, &a, None))?,
        (F::ToDouble, Value::Int(a)) => Value::Double(*a as f64),
        (F::ToDouble, Value::Uint(a)) => Value::Double(*a as f64),
        (F::ToInt, Value::Double(a)) => int_of(*a).ok_or(INT_OVERFLOW)?,
        (F::ToInt, Value::Duration(a)) => Value::Int(*a),
        (F::ToInt, Value::Timestamp(a)) => Value::Int(a.seconds()),
        (F::ToInt, Value::Uint(a)) => Value::Int(i64::try_from(*a).map_err(|_| INT_OVERFLOW)?),
        (F::ToTimestamp, Value::Int(a)) => {
            Value::Timestamp(Timestamp::from_seconds(*a).ok_or(TIMESTAMP_OVERFLOW)?)
        }
        (F::ToUint, Value::Double(a)) => uint_of(*a).ok_or(UINT_OVERFLOW)?,
        (F::ToUint, Value::Int(a)) => Value::Uint(u64::try_from(*a).map_err(|_| UINT_OVERFLOW)?),
        (F::Part(part), Value::Timestamp(a)) => Value::Int(a.part(part, None)?),
        (F::Part(part), Value::Duration(nanos)) => {
            Value::Int(duration_part(*nanos, part).ok_or_else(|| no_overload(function, &a, None))?)
        }
        _ => return Err(no_overload(function, &a, None)),
    })
}

const INT_OVERFLOW: &str = "integer overflow";
const UINT_OVERFLOW: &str = "unsigned integer overflow";
const TIMESTAMP_OVERFLOW: &str = "timestamp overflow";

fn from_text(function: Function, text: &str) -> Option<Value<'static>> {
    Some(match function {
        Function::ToBool => Value::Bool(match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return None,
        }),
        Function::ToBytes => Value::Bytes(Arc::from(text.as_bytes())),
        Function::ToDouble => Value::Double(parse_double(text)?),
        Function::ToDuration => Value::Duration(parse_duration(text)?),
        Function::ToInt => Value::Int(text.parse().ok()?),
        Function::ToTimestamp => Value::Timestamp(Timestamp::parse_strict(text)?),
        Function::ToUint => Value::Uint(text.parse().ok().filter(|_| !text.starts_with('+'))?),
        Function::ToIp => Value::Ip(Ip::parse(text)?),
        _ => return None,
    })
}

fn to_text(a: &Value<'_>) -> Option<Value<'static>> {
    let text = match a {
        Value::Bool(a) => a.to_string(),
        Value::Bytes(a) => std::str::from_utf8(a).ok()?.to_owned(),
        Value::Double(a) => format_double(*a),
        Value::Duration(nanos) => format!("{}s", duration_seconds(*nanos)),
        Value::Int(a) => a.to_string(),
        Value::Timestamp(a) => a.to_string(),
        Value::Uint(a) => a.to_string(),
        _ => return None,
    };
    Some(Value::Text(Text::Shared(text.into())))
}

/// A double truncated to an int, if an int holds it.
pub(crate) fn int_of(d: f64) -> Option<Value<'static>> {
    double_to_int(d).map(Value::Int)
}

/// A double truncated to a uint, if a uint holds it.
pub(crate) fn uint_of(d: f64) -> Option<Value<'static>> {
    double_to_uint(d).map(Value::Uint)
}

/// Whether two values are equal, across number types.
pub(crate) fn is_equal(a: &Value<'_>, b: &Value<'_>) -> bool {
    equal(a, b) == Equality::Equal
}

fn binary<'a>(
    function: Function,
    a: Value<'a>,
    b: Value<'a>,
    pattern: Option<&Regex>,
) -> Applied<'a> {
    use Function as F;
    let bool = |found: bool| Ok(Value::Bool(found));
    match function {
        F::Equals => match equal(&a, &b) {
            Equality::Undefined => Err(no_overload(function, &a, Some(&b))),
            found => bool(found == Equality::Equal),
        },
        F::NotEquals => bool(!is_equal(&a, &b)),
        F::Less | F::LessEquals | F::Greater | F::GreaterEquals => order(function, &a, &b),
        F::Add | F::Subtract | F::Multiply | F::Divide | F::Modulo => arithmetic(function, a, b),
        F::In => match &b {
            Value::List(list) => bool(list.iter().any(|item| is_equal(&a, &item))),
            Value::Map(map) => bool(map.get(&a).is_some()),
            _ => Err(no_overload(function, &a, Some(&b))),
        },
        F::Contains | F::StartsWith | F::EndsWith | F::Matches => match (&a, &b) {
            (Value::Text(a), Value::Text(b)) => texts(function, a.as_str(), b.as_str(), pattern),
            _ => Err(no_overload(function, &a, Some(&b))),
        },
        F::Part(part) => match (&a, &b) {
            (Value::Timestamp(a), Value::Text(zone)) => {
                a.part(part, Some(zone.as_str())).map(Value::Int)
            }
            _ => Err(no_overload(function, &a, Some(&b))),
        },
        F::InCidr => match (&a, &b) {
            (Value::Ip(ip), Value::Text(cidr)) => match ip.in_cidr(cidr.as_str()) {
                Some(contained) => bool(contained),
                None => Err(format!(
                    "'{}' is a malformed CIDR string",
                    short(cidr.as_str())
                )),
            },
            _ => Err(no_overload(function, &a, Some(&b))),
        },
        _ => Err(no_overload(function, &a, Some(&b))),
    }
}

fn texts<'a>(function: Function, a: &str, b: &str, compiled: Option<&Regex>) -> Applied<'a> {
    Ok(Value::Bool(match (function, compiled) {
        (Function::Contains, _) => a.contains(b),
        (Function::StartsWith, _) => a.starts_with(b),
        (Function::EndsWith, _) => a.ends_with(b),
        (_, Some(compiled)) => compiled.is_match(a),
        (_, None) => pattern::compile(b, pattern::MAX_COMPUTED)?.is_match(a),
    }))
}

/// NaN is in no order; other values without one have no overload.
fn order<'a>(function: Function, a: &Value<'a>, b: &Value<'a>) -> Applied<'a> {
    let orderable = !matches!(
        a,
        Value::Null | Value::Ip(_) | Value::Type(_) | Value::List(_) | Value::Map(_)
    );
    let nan = [a, b]
        .iter()
        .any(|v| matches!(v, Value::Double(d) if d.is_nan()));
    if nan && orderable {
        return Ok(Value::Bool(false));
    }
    let order = compare(a, b).ok_or_else(|| no_overload(function, a, Some(b)))?;
    Ok(Value::Bool(match function {
        Function::Less => order == Ordering::Less,
        Function::LessEquals => order != Ordering::Greater,
        Function::Greater => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }))
}

fn arithmetic<'a>(function: Function, a: Value<'a>, b: Value<'a>) -> Applied<'a> {
    use Function as F;
    match (&a, &b) {
        (Value::Int(a), Value::Int(b)) => ints(function, *a, *b).map(Value::Int),
        (Value::Uint(a), Value::Uint(b)) => uints(function, *a, *b).map(Value::Uint),
        (Value::Double(a), Value::Double(b)) if function != F::Modulo => {
            Ok(Value::Double(match function {
                F::Add => a + b,
                F::Subtract => a - b,
                F::Multiply => a * b,
                _ => a / b,
            }))
        }
        (Value::Text(a), Value::Text(b)) if function == F::Add => Ok(Value::Text(Text::Shared(
            [a.as_str(), b.as_str()].concat().into(),
        ))),
        (Value::Bytes(a), Value::Bytes(b)) if function == F::Add => {
            Ok(Value::Bytes(Arc::from([&**a, &**b].concat())))
        }
        (Value::List(_), Value::List(_)) if function == F::Add => match (a, b) {
            (Value::List(a), Value::List(b)) => Ok(Value::List(a.add(b))),
            (a, b) => Err(no_overload(function, &a, Some(&b))),
        },
        _ if matches!(function, F::Add | F::Subtract) => times(function, &a, &b),
        _ => Err(no_overload(function, &a, Some(&b))),
    }
}

fn ints(function: Function, a: i64, b: i64) -> Result<i64, String> {
    let found = match function {
        Function::Add => a.checked_add(b),
        Function::Subtract => a.checked_sub(b),
        Function::Multiply => a.checked_mul(b),
        Function::Divide if b == 0 => return Err("division by zero".to_owned()),
        Function::Divide => a.checked_div(b),
        _ if b == 0 => return Err("modulus by zero".to_owned()),
        _ => a.checked_rem(b),
    };
    found.ok_or_else(|| INT_OVERFLOW.to_owned())
}

fn uints(function: Function, a: u64, b: u64) -> Result<u64, String> {
    let found = match function {
        Function::Add => a.checked_add(b),
        Function::Subtract => a.checked_sub(b),
        Function::Multiply => a.checked_mul(b),
        Function::Divide => {
            return a
                .checked_div(b)
                .ok_or_else(|| "division by zero".to_owned());
        }
        _ => return a.checked_rem(b).ok_or_else(|| "modulus by zero".to_owned()),
    };
    found.ok_or_else(|| UINT_OVERFLOW.to_owned())
}

/// Sums and differences of timestamps and durations.
fn times<'a>(function: Function, a: &Value<'a>, b: &Value<'a>) -> Applied<'a> {
    let add = function == Function::Add;
    let found = match (a, b) {
        (Value::Duration(a), Value::Duration(b)) if add => a.checked_add(*b).map(Value::Duration),
        (Value::Duration(a), Value::Duration(b)) => a.checked_sub(*b).map(Value::Duration),
        (Value::Timestamp(t), Value::Duration(d)) | (Value::Duration(d), Value::Timestamp(t))
            if add =>
        {
            t.add(*d).map(Value::Timestamp)
        }
        (Value::Timestamp(t), Value::Duration(d)) => {
            d.checked_neg().and_then(|d| t.add(d)).map(Value::Timestamp)
        }
        (Value::Timestamp(a), Value::Timestamp(b)) if !add => a.since(*b).map(Value::Duration),
        _ => return Err(no_overload(function, a, Some(b))),
    };
    found.ok_or_else(|| TIMESTAMP_OVERFLOW.to_owned())
}

/// A map of evaluated entries.
pub(crate) fn map<'a>(entries: Vec<(Value<'a>, Value<'a>)>) -> Applied<'a> {
    if entries
        .iter()
        .any(|(key, _)| matches!(key, Value::Bytes(_)))
    {
        return Err("bytes are no key of a map".to_owned());
    }
    Ok(Value::Map(Arc::new(Map::new(entries))))
}

/// Whether a value is among the keys of a set of scalars.
pub(crate) fn in_set<'a>(set: &Map<'static>, value: &Value<'a>) -> Applied<'a> {
    match value {
        Value::Bytes(_) => Err("bytes are in no list of scalars".to_owned()),
        Value::Text(_) => Ok(Value::Bool(set.get(value).is_some())),
        value => Ok(Value::Bool(set.keys().any(|key| same_key(&key, value)))),
    }
}

/// What a key selects of a value.
///
/// # Errors
/// The value has no such key or index, or none at all.
pub(crate) fn select<'a>(value: &Value<'a>, key: &Value<'_>) -> Applied<'a> {
    match value {
        Value::Map(map) => map.get(key).cloned().ok_or_else(|| no_key(key)),
        Value::List(list) => {
            element(list, key)?.ok_or_else(|| format!("index out of bounds: {}", shown(key)))
        }
        _ => Err(no_key(key)),
    }
}

fn no_key(key: &Value<'_>) -> String {
    format!("no such key: {}", shown(key))
}

fn shown(key: &Value<'_>) -> String {
    match key {
        Value::Text(text) => short(text.as_str()),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => d.to_string(),
        key => key.type_name().to_owned(),
    }
}

/// Whether a field is there.
///
/// # Errors
/// A list has no fields.
pub(crate) fn has<'a>(value: &Value<'_>, key: &Value<'_>) -> Applied<'a> {
    Ok(Value::Bool(match value {
        Value::Map(map) => map.get(key).is_some(),
        Value::List(list) => element(list, key)?.is_some(),
        _ => false,
    }))
}

fn element<'a>(list: &List<'a>, key: &Value<'_>) -> Result<Option<Value<'a>>, String> {
    let index = match key {
        Value::Int(i) => Some(*i),
        Value::Uint(u) => i64::try_from(*u).ok(),
        Value::Double(d) => double_to_int(*d).filter(|i| is_equal(&Value::Int(*i), key)),
        _ => None,
    };
    let index =
        index.ok_or_else(|| format!("unsupported index of type '{}' in list", key.type_name()))?;
    Ok(usize::try_from(index)
        .ok()
        .and_then(|index| list.get(index)))
}
