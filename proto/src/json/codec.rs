//! Field types whose JSON is not that of their Rust type.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::Names;
use crate::google::value::Kind;
use crate::google::{ListValue, Struct, Timestamp, Value, struct_to_json};

/// An enum field: its name, or its number where it has none.
pub(crate) struct Enum<E> {
    pub(crate) value: i32,
    names: PhantomData<E>,
}

impl<E> From<i32> for Enum<E> {
    fn from(value: i32) -> Self {
        Self {
            value,
            names: PhantomData,
        }
    }
}

impl<E: Names> Serialize for Enum<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match E::try_from(self.value) {
            Ok(known) => serializer.serialize_str(known.name()),
            Err(_) => serializer.serialize_i32(self.value),
        }
    }
}

impl<'de, E: Names> Deserialize<'de> for Enum<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A name from a later version of the API must not fail the request: as upstream, it is unset.
        let by_name = |name: &str| Some(E::by_name(name).map_or(0, Into::into));
        deserializer
            .deserialize_any(Integer("the name or number of an enum value", by_name))
            .map(Self::from)
    }
}

/// A `google.protobuf.Int32Value`.
pub(crate) struct Wrapped {
    pub(crate) value: Option<i32>,
}

impl From<Option<i32>> for Wrapped {
    fn from(value: Option<i32>) -> Self {
        Self { value }
    }
}

impl Serialize for Wrapped {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Wrapped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserializer
            .deserialize_any(Integer("a 32-bit integer", |text: &str| text.parse().ok()))?;
        Ok(Self { value: Some(value) })
    }
}

/// A `uint32`, or an `optional` one.
pub(crate) struct Unsigned<T> {
    pub(crate) value: T,
}

impl<T> From<T> for Unsigned<T> {
    fn from(value: T) -> Self {
        Self { value }
    }
}

impl<T: Serialize> Serialize for Unsigned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de, T: From<u32>> Deserialize<'de> for Unsigned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let by_text = |text: &str| text.parse::<u32>().ok();
        let value = deserializer.deserialize_any(Integer("an unsigned 32-bit integer", by_text))?;
        Ok(Self {
            value: value.into(),
        })
    }
}

/// Reads an integer of 32 bits: what is expected, and what a text stands for.
struct Integer<F>(&'static str, F);

impl<N: TryFrom<i64>, F: Fn(&str) -> Option<N>> Visitor<'_> for Integer<F> {
    type Value = N;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<N, E> {
        (self.1)(value).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<N, E> {
        N::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<N, E> {
        let small = i64::try_from(value).ok().map(N::try_from);
        match small {
            Some(Ok(number)) => Ok(number),
            _ => Err(E::invalid_value(de::Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<N, E> {
        // The cast is exact for whole numbers of 32 bits, and what is larger stays larger.
        match N::try_from(value as i64) {
            Ok(number) if value.fract() == 0.0 => Ok(number),
            _ => Err(E::invalid_value(de::Unexpected::Float(value), &self)),
        }
    }
}

/// A `google.protobuf.Timestamp`, in RFC 3339 with as many groups of three decimals as it needs.
pub(crate) struct Time {
    pub(crate) value: Option<Timestamp>,
}

impl From<Option<Timestamp>> for Time {
    fn from(value: Option<Timestamp>) -> Self {
        Self { value }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_unit(),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = text.parse().map_err(|_| {
            de::Error::invalid_value(
                de::Unexpected::Str(&text),
                &"a time like \"2026-01-31T12:00:00Z\"",
            )
        })?;
        Ok(Self { value: Some(time) })
    }
}

/// A `google.protobuf.Struct`.
pub(crate) struct Object {
    pub(crate) value: Option<Struct>,
}

impl From<Option<Struct>> for Object {
    fn from(value: Option<Struct>) -> Self {
        Self { value }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value
            .as_ref()
            .map(struct_to_json)
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = fields(Unique::deserialize(deserializer)?.value);
        Ok(Self {
            value: Some(Struct { fields }),
        })
    }
}

/// A map, whose keys differ.
pub(crate) struct Unique<V> {
    pub(crate) value: BTreeMap<String, V>,
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserializer.deserialize_map(UniqueKeys(PhantomData))?;
        Ok(Self { value })
    }
}

struct UniqueKeys<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueKeys<V> {
    type Value = BTreeMap<String, V>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            match entries.entry(key) {
                Entry::Occupied(entry) => {
                    return Err(de::Error::custom(format_args!(
                        "key \"{}\" given twice",
                        entry.key()
                    )));
                }
                Entry::Vacant(entry) => {
                    let value = map.next_value();
                    let value = value.map_err(|error| {
                        de::Error::custom(format_args!("{}: {error}", entry.key()))
                    })?;
                    entry.insert(value);
                }
            }
        }
        Ok(entries)
    }
}

/// A `google.protobuf.Value`.
struct Dynamic(Value);

impl<'de> Deserialize<'de> for Dynamic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kind = deserializer.deserialize_any(DynamicKind)?;
        Ok(Self(Value { kind: Some(kind) }))
    }
}

struct DynamicKind;

impl<'de> Visitor<'de> for DynamicKind {
    type Value = Kind;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::NullValue(0))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::BoolValue(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::NumberValue(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::StringValue(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::StringValue(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut values = Vec::new();
        while let Some(Dynamic(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Kind::ListValue(ListValue { values }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Kind, A::Error> {
        let fields = fields(UniqueKeys(PhantomData).visit_map(map)?);
        Ok(Kind::StructValue(Struct { fields }))
    }
}

fn fields(object: BTreeMap<String, Dynamic>) -> BTreeMap<String, Value> {
    object
        .into_iter()
        .map(|(name, Dynamic(value))| (name, value))
        .collect()
}
