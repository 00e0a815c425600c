//! The JSON of `openfga.v1` and `authzen.v1`, as OpenFGA's HTTP gateway reads and writes it.
//!
//! Written: every field under its `json_name`; unset messages as `null`, empty lists as `[]`; of a oneof the set member
//! only; an `optional` field only when it is set; enum values by name; timestamps in RFC 3339; structs and wrappers as plain JSON.
//!
//! Read: a field under its `json_name` or its name in the `.proto` file; `null` is unset; enum values by name or number;
//! 32-bit integers also as strings. Skipped: unknown fields and unknown names of enum values. Refused: a field or a key
//! given twice, two members of one oneof, null in a list or map of messages.
//!
//! serde's derive does not fit: it takes an array for a message, and of a flattened oneof it swallows errors. So the
//! generator emits one table a message, and the macro `message!` makes both directions of it.

use serde::de::{self, Deserialize, MapAccess};

mod codec;

pub(crate) use codec::{Enum, Object, Time, Unique, Unsigned, Wrapped};

/// Implements both directions for one message from its table, a line a field:
/// `proto_name ["json name", "other name read"] => rust_field [how]`, where `how` is empty, `as Codec` where the Rust
/// type has another JSON form, `in path::Variant` for a member of the oneof `rust_field`, `optional` where an unset field is left out, one of these and a codec, or `map`.
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
    (@write [map] $map:ident, $at:ident.$field:ident, $name:literal) => {
        $crate::json::message!(@write [] $map, $at.$field, $name)
    };
    (@write [as $codec:ty] $map:ident, $at:ident.$field:ident, $name:literal) => {
        serde::ser::SerializeMap::serialize_entry(&mut $map, $name, &<$codec>::from($at.$field.clone()))?
    };
    (@write [optional] $map:ident, $at:ident.$field:ident, $name:literal) => {
        if let Some(value) = &$at.$field {
            serde::ser::SerializeMap::serialize_entry(&mut $map, $name, value)?
        }
    };
    (@write [optional as $codec:ty] $map:ident, $at:ident.$field:ident, $name:literal) => {
        if $at.$field.is_some() {
            $crate::json::message!(@write [as $codec] $map, $at.$field, $name)
        }
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
        $at.$field = $crate::json::next(&mut $map, $name)?.unwrap_or_default()
    };
    (@read [map] $map:ident, $at:ident.$field:ident, $name:literal) => {
        $crate::json::message!(@read [as $crate::json::Unique<_>] $map, $at.$field, $name)
    };
    (@read [as $codec:ty] $map:ident, $at:ident.$field:ident, $name:literal) => {
        $at.$field = $crate::json::next(&mut $map, $name)?.map(|codec: $codec| codec.value).unwrap_or_default()
    };
    (@read [optional $(as $codec:ty)?] $map:ident, $at:ident.$field:ident, $name:literal) => {
        $crate::json::message!(@read [$(as $codec)?] $map, $at.$field, $name)
    };
    (@read [in $variant:path] $map:ident, $at:ident.$field:ident, $name:literal) => {
        $crate::json::message!(@member $crate::json::next(&mut $map, $name)?.map($variant), $at.$field, $name)
    };
    (@read [in $variant:path as $codec:ty] $map:ident, $at:ident.$field:ident, $name:literal) => {
        $crate::json::message!(
            @member $crate::json::next(&mut $map, $name)?.map(|codec: $codec| $variant(codec.value)), $at.$field, $name
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

/// The value of the field `name`; an error names the field, inside those of the fields it is nested in.
pub(crate) fn next<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    map: &mut A,
    name: &str,
) -> Result<Option<T>, A::Error> {
    map.next_value()
        .map_err(|error| de::Error::custom(format_args!("{name}: {error}")))
}

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
