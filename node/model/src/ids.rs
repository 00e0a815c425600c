//! Identifiers and numbers that name a store, a model and a place in a store's history.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Length of a store or model id in bytes.
const ID_LEN: usize = 26;

/// Why a text is not a store or model id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 26 characters of Crockford base 32 (upper case, without I, L, O and U), like 01ARZ3NDEKTSV4RRFFQ69G5FAV"
)]
pub struct InvalidId;

/// The 26 characters of an id. OpenFGA accepts any text that matches `^[ABCDEFGHJKMNPQRSTVWXYZ0-9]{26}$`, which
/// includes some that overflow a ULID's 128 bits, so the text itself is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct IdText([u8; ID_LEN]);

impl IdText {
    fn parse(text: &str) -> Result<Self, InvalidId> {
        let bytes: [u8; ID_LEN] = text.as_bytes().try_into().map_err(|_| InvalidId)?;
        let valid = |b: &u8| {
            b.is_ascii_digit()
                || (b.is_ascii_uppercase() && !matches!(b, b'I' | b'L' | b'O' | b'U'))
        };
        if bytes.iter().all(valid) {
            Ok(Self(bytes))
        } else {
            Err(InvalidId)
        }
    }

    fn as_str(&self) -> &str {
        // Parsing admits ASCII only, so this never falls back.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(IdText);

        impl $name {
            /// The id's 26 characters.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                IdText::parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id! {
    /// Names a store. A ULID in text form, as in OpenFGA.
    StoreId
}
id! {
    /// Names one authorization model of a store. A ULID in text form; later models sort higher.
    ModelId
}

/// A store's change number: +1 for each committed write of tuples, model or tiers, and for its creation and deletion;
/// no gaps, in commit order. A store's first revision is 1; 0 means "nothing yet".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

impl Revision {
    /// Before the store exists.
    pub const ZERO: Self = Self(0);

    /// The revision that follows this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of the writer's reign. It grows when history may have been rewritten (a restore, a failover); a node that
/// has seen an epoch takes nothing of an older one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in a store's history. Its text form `epoch.revision` is the token that clients see in
/// `meridian-revision` and send in `meridian-min-revision`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// The writer's reign.
    pub epoch: Epoch,
    /// The change number within the store.
    pub revision: Revision,
}

impl Position {
    /// A position from its two numbers.
    pub fn new(epoch: u64, revision: u64) -> Self {
        Self {
            epoch: Epoch(epoch),
            revision: Revision(revision),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.revision)
    }
}

/// Why a text is not a [`Position`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be two whole numbers joined by a dot, as returned in meridian-revision, like 1.42")]
pub struct InvalidPosition;

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (epoch, revision) = text.split_once('.').ok_or(InvalidPosition)?;
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            if plain {
                digits.parse::<u64>().map_err(|_| InvalidPosition)
            } else {
                Err(InvalidPosition)
            }
        };
        Ok(Self::new(number(epoch)?, number(revision)?))
    }
}

/// Microseconds since the Unix epoch, UTC. Read from the writer's database, never from a node's own clock, wherever
/// nodes compare it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The microseconds from `earlier` to `self`; 0 when `earlier` is later.
    pub fn micros_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_its_text_and_refuses_other_alphabets() {
        let id: StoreId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        assert_eq!(id.to_string(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        for bad in [
            "",
            "01ARZ3NDEKTSV4RRFFQ69G5FA",
            "01ARZ3NDEKTSV4RRFFQ69G5FAI",
            "01arz3ndektsv4rrffq69g5fav",
            "01ARZ3NDEKTSV4RRFFQ69G5FAVV",
        ] {
            assert_eq!(bad.parse::<StoreId>(), Err(InvalidId), "{bad:?}");
        }
    }

    #[test]
    fn a_position_reads_back_as_written() {
        assert_eq!("3.42".parse(), Ok(Position::new(3, 42)));
        assert_eq!(Position::new(3, 42).to_string(), "3.42");
        for bad in [
            "",
            "3",
            "3.",
            ".42",
            "+3.42",
            "3.4.2",
            "3.-1",
            "99999999999999999999.1",
        ] {
            assert_eq!(bad.parse::<Position>(), Err(InvalidPosition), "{bad:?}");
        }
    }
}
