//! Values while an expression is evaluated, how they compare, and what they measure.
//!
//! Texts borrow from the context and from the condition, so a simple condition copies nothing.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::ip::Ip;
use crate::time::Timestamp;

/// A text, borrowed or shared.
#[derive(Debug, Clone)]
pub(crate) enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

/// A value of CEL.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    Ip(Ip),
    /// A type, by its name at run time.
    Type(&'static str),
    List(List<'a>),
    Map(Arc<Map<'a>>),
}

/// A list. Sums of lists stay views: adding costs one unit whatever the lengths.
#[derive(Debug, Clone)]
pub(crate) enum List<'a> {
    Items(Arc<Vec<Value<'a>>>),
    Sum(Arc<(List<'a>, List<'a>)>, usize),
}

impl<'a> List<'a> {
    pub(crate) fn new(items: Vec<Value<'a>>) -> Self {
        List::Items(Arc::new(items))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            List::Items(items) => items.len(),
            List::Sum(_, len) => *len,
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Items(items) => items.get(index).cloned(),
            List::Sum(parts, _) => {
                let (left, right) = &**parts;
                match index.checked_sub(left.len()) {
                    None => left.get(index),
                    Some(rest) => right.get(rest),
                }
            }
        }
    }

    pub(crate) fn add(self, other: List<'a>) -> Self {
        if self.len() == 0 {
            return other;
        }
        if other.len() == 0 {
            return self;
        }
        let len = self.len().saturating_add(other.len());
        List::Sum(Arc::new((self, other)), len)
    }

    /// Appends in place where nobody else holds the items: how `map` and `filter` gather.
    pub(crate) fn gather(self, other: List<'a>) -> Self {
        match (self, other) {
            (List::Items(mut items), List::Items(more)) => {
                Arc::make_mut(&mut items).extend(more.iter().cloned());
                List::Items(items)
            }
            (left, right) => left.add(right),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Value<'a>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// A map. Texts as keys are sorted; other keys, which only an expression can make, are searched in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map<'a> {
    texts: Vec<(Text<'a>, Value<'a>)>,
    others: Vec<(Value<'a>, Value<'a>)>,
}

impl<'a> Map<'a> {
    /// The last entry of a key counts.
    pub(crate) fn new(entries: impl IntoIterator<Item = (Value<'a>, Value<'a>)>) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            match key {
                Value::Text(key) => map.texts.push((key, value)),
                key => match map.others.iter_mut().find(|(k, _)| same_key(k, &key)) {
                    Some(entry) => entry.1 = value,
                    None => map.others.push((key, value)),
                },
            }
        }
        map.texts
            .sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        map.texts.dedup_by(|later, earlier| {
            let same = later.0.as_str() == earlier.0.as_str();
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        map
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len() + self.others.len()
    }

    /// The value of a key; numbers of different types find each other where they are equal.
    pub(crate) fn get(&self, key: &Value<'_>) -> Option<&Value<'a>> {
        match key {
            Value::Text(text) => self.get_text(text.as_str()),
            Value::Int(i) => self
                .exact(key)
                .or_else(|| self.exact(&Value::Uint(u64::try_from(*i).ok()?))),
            Value::Uint(u) => self
                .exact(key)
                .or_else(|| self.exact(&Value::Int(i64::try_from(*u).ok()?))),
            Value::Double(d) => self
                .exact(key)
                .or_else(|| {
                    self.exact(&Value::Int(
                        double_to_int(*d).filter(|i| same(*i as f64, *d))?,
                    ))
                })
                .or_else(|| {
                    self.exact(&Value::Uint(
                        double_to_uint(*d).filter(|u| same(*u as f64, *d))?,
                    ))
                }),
            _ => self.exact(key),
        }
    }

    fn get_text(&self, key: &str) -> Option<&Value<'a>> {
        let at = self
            .texts
            .binary_search_by(|(k, _)| k.as_str().cmp(key))
            .ok()?;
        self.texts.get(at).map(|(_, value)| value)
    }

    fn exact(&self, key: &Value<'_>) -> Option<&Value<'a>> {
        self.others
            .iter()
            .find(|(k, _)| same_key(k, key))
            .map(|(_, value)| value)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Value<'a>> {
        let texts = self.texts.iter().map(|(key, _)| Value::Text(key.clone()));
        texts.chain(self.others.iter().map(|(key, _)| key.clone()))
    }
}

#[expect(
    clippy::float_cmp,
    reason = "equality of CEL's doubles is that of IEEE"
)]
fn same(a: f64, b: f64) -> bool {
    a == b
}

/// Whether two values are one key of a map literal: as Go compares interface values, by type and value.
pub(crate) fn same_key(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) | (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Uint(a), Value::Uint(b)) => a == b,
        (Value::Double(a), Value::Double(b)) => same(*a, *b),
        (Value::Text(a), Value::Text(b)) => a.as_str() == b.as_str(),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.is_same(b),
        (Value::Ip(a), Value::Ip(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        _ => false,
    }
}

/// What [`equal`] found. An IP address compared with anything else has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Equality {
    Equal,
    Different,
    Undefined,
}

impl From<bool> for Equality {
    fn from(equal: bool) -> Self {
        if equal { Self::Equal } else { Self::Different }
    }
}

/// Whether two values are equal, across number types.
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>) -> Equality {
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => matches!((a, b), (Value::Null, Value::Null)).into(),
        (Value::Bool(a), Value::Bool(b)) => (a == b).into(),
        (Value::Text(a), Value::Text(b)) => (a.as_str() == b.as_str()).into(),
        (Value::Bytes(a), Value::Bytes(b)) => (a == b).into(),
        (Value::Duration(a), Value::Duration(b)) => (a == b).into(),
        (Value::Timestamp(a), Value::Timestamp(b)) => (a.instant() == b.instant()).into(),
        (Value::Type(a), Value::Type(b)) => (a == b).into(),
        (Value::Ip(a), Value::Ip(b)) => (a == b).into(),
        (Value::Ip(_), _) => Equality::Undefined,
        (Value::List(a), Value::List(b)) => equal_lists(a, b),
        (Value::Map(a), Value::Map(b)) => equal_maps(a, b),
        _ => (compare_numbers(a, b) == Some(Ordering::Equal)).into(),
    }
}

/// A pair without an answer does not make two lists different, but leaves a sum of lists without an answer.
fn equal_lists(a: &List<'_>, b: &List<'_>) -> Equality {
    if a.len() != b.len() {
        return Equality::Different;
    }
    let mut undefined = false;
    for (a, b) in a.iter().zip(b.iter()) {
        match equal(&a, &b) {
            Equality::Different => return Equality::Different,
            Equality::Undefined => undefined = true,
            Equality::Equal => {}
        }
    }
    if undefined && matches!(a, List::Sum(..)) {
        Equality::Undefined
    } else {
        Equality::Equal
    }
}

fn equal_maps(a: &Map<'_>, b: &Map<'_>) -> Equality {
    let equal = a.len() == b.len()
        && a.keys().all(|key| match (a.get(&key), b.get(&key)) {
            (Some(a), Some(b)) => equal(a, b) != Equality::Different,
            _ => false,
        });
    equal.into()
}

/// The order of two values of types that have one; `None` where they have none, and for NaN.
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => Some(a.as_str().cmp(b.as_str())),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.instant().cmp(&b.instant())),
        _ => compare_numbers(a, b),
    }
}

fn compare_numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Double(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Double(a), Value::Uint(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Int(_) | Value::Uint(_), Value::Double(_)) => {
            compare_numbers(b, a).map(Ordering::reverse)
        }
        _ => None,
    }
}

/// Truncates; `None` where an int does not hold it.
pub(crate) fn double_to_int(d: f64) -> Option<i64> {
    (d > i64::MIN as f64 && d < i64::MAX as f64).then_some(d as i64)
}

/// Truncates; `None` where a uint does not hold it.
pub(crate) fn double_to_uint(d: f64) -> Option<u64> {
    (d >= 0.0 && d < u64::MAX as f64).then_some(d as u64)
}

impl Value<'_> {
    /// The name of its type at run time.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::Text(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Ip(_) => "IPAddress",
            Value::Type(_) => "type",
            Value::List(_) => "list",
            Value::Map(_) => "map",
        }
    }

    /// What the cost meter counts it as: characters, bytes, elements or entries; 1 for all else.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Value::Text(text) => text.as_str().chars().count() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            _ => 1,
        }
    }
}
