//! The JSON of `openfga.v1`, as OpenFGA's HTTP gateway reads and writes it.
//!
//! Written: every field under its `json_name`; unset messages as `null`, empty lists as `[]`; of a oneof the set member
//! only; enum values by name; timestamps in RFC 3339; structs and wrappers as plain JSON.
//!
//! Read: a field under its `json_name` or its name in the `.proto` file; unknown fields are skipped; `null` is unset;
//! enum values by name or number; 32-bit numbers also as strings. Refused: a field given twice, two members of one oneof.
//!
//! serde's derive does not fit: it reads an array as a message, and of a flattened oneof it swallows errors. So the
//! generator emits one table a message, and [`message!`] makes both directions of it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::google::{Struct, Timestamp, struct_from_json, struct_to_json};

/// Implements both directions for one message from its table, a line a field:
/// `proto_name ["json name", "other name read"] => rust_field [how]`, where `how` is empty, `as Codec` where the Rust
/// type has another JSON form, `in path::Variant` for a member of the oneof `rust_field`, or both.
macro_rules! message {
    ($message:ty { $($id:ident [$name:literal $(, $alias:literal)?] => $field:ident $how:tt;)* }) => {
        impl serde::Serialize for $message {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                #[allow(unused_mut, reason = "a message may have no fields")]
                let mut map = serializer.serialize_map(None)?;
                $($crate::json::message!(@write $how map, self.$field, $name);)*
                serde::ser::SerializeMap::end(map)
            }
        }

        impl<'de> serde::Deserialize<'de> for $message {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Default)]
                struct Seen { $($id: bool,)* }
                struct Fields;

                impl<'de> serde::de::Visitor<'de> for Fields {
                    type Value = $message;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        formatter.write_str("an object")
                    }

                    #[allow(unused_mut, unused_variables, reason = "a message may have no fields")]
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$message, A::Error> {
                        let mut message = <$message>::default();
                        let mut seen = Seen::default();
                        while let Some(name) = map.next_key::<String>()? {
                            match name.as_str() {
                                $($name $(| $alias)? => {
                                    if std::mem::replace(&mut seen.$id, true) {
                                        return Err(serde::de::Error::duplicate_field($name));
                                    }
                                    $crate::json::message!(@read $how map, message.$field, $name);
                                })*
                                _ => { map.next_value::<serde::de::IgnoredAny>()?; }
                            }
                        }
                        Ok(message)
                    }
                }

                deserializer.deserialize_map(Fields)
            }
        }
    };

    (@write [] $map:ident, $at:ident.$field:ident, $name:literal) => {
        serde::ser::SerializeMap::serialize_entry(&mut $map, $name, &$at.$field)?
    };
    (@write [as $codec:ty] $map:ident, $at:ident.$field:ident, $name:literal) => {
        serde::ser::SerializeMap::serialize_entry(&mut $map, $name, &<$codec>::from($at.$field.clone()))?
    };
    (@write [in $variant:path] $map:ident, $at:ident.$field:ident, $name:literal) => {
        if let Some($variant(member)) = &$at.$field {
            serde::ser::SerializeMap::serialize_entry(&mut $map, $name, member)?
        }
    };
    (@write [in $variant:path as $codec:ty] $map:ident, $at:ident.$field:ident, $name:literal) => {
        if let Some($variant(member)) = &$at.$field {
            serde::ser::SerializeMap::serialize_entry(&mut $map, $name, &<$codec>::from(*member))?
        }
    };

    (@read [] $map:ident, $at:ident.$field:ident, $name:literal) => {
        $at.$field = $map.next_value::<Option<_>>()?.unwrap_or_default()
    };
    (@read [as $codec:ty] $map:ident, $at:ident.$field:ident, $name:literal) => {
        $at.$field = $map.next_value::<Option<$codec>>()?.map(|codec| codec.value).unwrap_or_default()
    };
    (@read [in $variant:path] $map:ident, $at:ident.$field:ident, $name:literal) => {
        $crate::json::message!(@member $map.next_value::<Option<_>>()?.map($variant), $at.$field, $name)
    };
    (@read [in $variant:path as $codec:ty] $map:ident, $at:ident.$field:ident, $name:literal) => {
        $crate::json::message!(
            @member $map.next_value::<Option<$codec>>()?.map(|codec| $variant(codec.value)), $at.$field, $name
        )
    };
    (@member $member:expr, $at:ident.$field:ident, $name:literal) => {
        if let Some(member) = $member
            && $at.$field.replace(member).is_some()
        {
            return Err(serde::de::Error::custom(concat!(
                "\"", $name, "\" excludes another field of the same object: give one of them"
            )));
        }
    };
}
pub(crate) use message;

/// What an enum of the wire is called in JSON.
pub(crate) trait Names: Sized + Copy + TryFrom<i32> + Into<i32> {
    fn name(self) -> &'static str;
    fn by_name(name: &str) -> Option<Self>;
}

/// Implements [`Names`] for enums that prost generated.
macro_rules! enumeration {
    ($enumeration:ty) => {
        impl $crate::json::Names for $enumeration {
            fn name(self) -> &'static str {
                self.as_str_name()
            }

            fn by_name(name: &str) -> Option<Self> {
                Self::from_str_name(name)
            }
        }
    };
}
pub(crate) use enumeration;

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
        let by_name = |name: &str| E::by_name(name).map(Into::into);
        deserializer
            .deserialize_any(Int32("the name or number of an enum value", by_name))
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
            .deserialize_any(Int32("a 32-bit integer", |text: &str| text.parse().ok()))?;
        Ok(Self { value: Some(value) })
    }
}

/// Reads a 32-bit integer: what is expected, and what a text stands for.
struct Int32<F>(&'static str, F);

impl<F: Fn(&str) -> Option<i32>> Visitor<'_> for Int32<F> {
    type Value = i32;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<i32, E> {
        (self.1)(value).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<i32, E> {
        i32::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<i32, E> {
        i32::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<i32, E> {
        if value.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&value) {
            return Ok(value as i32);
        }
        Err(E::invalid_value(de::Unexpected::Float(value), &self))
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
        let object = serde_json::Map::deserialize(deserializer)?;
        Ok(Self {
            value: Some(struct_from_json(object)),
        })
    }
}
