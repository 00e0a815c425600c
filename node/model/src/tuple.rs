//! Objects, subjects and tuples, parsed.
//!
//! A text is split here once; an [`Object`] remembers where its colon is. Errors speak OpenFGA's words, since they reach
//! clients inside a [`crate::ApiError`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use meridian_condition::Context;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::Timestamp;

/// Longest text of a tuple's object in bytes (`^[^\s]{2,256}$`). The object that a user names may be longer.
pub const MAX_OBJECT_LEN: usize = 256;
/// Longest user text in bytes, whatever its parts.
pub const MAX_USER_LEN: usize = 512;
/// Longest relation name in bytes (`^[^:#@\s]{1,50}$`).
pub const MAX_RELATION_LEN: usize = 50;
/// Longest type name in bytes (`^[^:#@\s]{1,254}$`).
pub const MAX_TYPE_LEN: usize = 254;

/// Why a text is not an object, user or relation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTuple {
    /// Not `type:id`.
    #[error(
        "invalid 'object' field format: '{0}' must be 'type:id' without spaces, '#' or a second colon"
    )]
    Object(String),
    /// An object position that holds a wildcard.
    #[error("invalid 'object' field format: '{0}' cannot be a wildcard; name one object")]
    WildcardObject(String),
    /// An object of more bytes than [`MAX_OBJECT_LEN`].
    #[error(
        "invalid 'object' field format: it has {0} bytes, and at most {MAX_OBJECT_LEN} are allowed"
    )]
    LongObject(usize),
    /// A user of more bytes than [`MAX_USER_LEN`].
    #[error(
        "the 'user' field is malformed: it has {0} bytes, and at most {MAX_USER_LEN} are allowed"
    )]
    LongUser(usize),
    /// Neither `type:id`, `type:*` nor `type:id#relation`.
    #[error(
        "the 'user' field is malformed: '{0}' must be 'type:id', 'type:*' or 'type:id#relation'"
    )]
    User(String),
    /// Not a relation name.
    #[error(
        "the 'relation' field is malformed: '{0}' must be 1 to 50 characters without ':', '#', '@' or spaces"
    )]
    Relation(String),
}

/// A name that is free of the characters that separate the parts of a tuple.
pub fn is_name(text: &str, max_len: usize) -> bool {
    !text.is_empty()
        && text.len() <= max_len
        && !text
            .chars()
            .any(|c| matches!(c, ':' | '#' | '@') || c.is_whitespace() || c.is_control())
}

/// `type:id`, one concrete object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    text: Box<str>,
    colon: u16,
}

impl Object {
    /// The object `object_type:id`.
    ///
    /// # Errors
    /// [`InvalidTuple`] when the two do not make an object.
    pub fn new(object_type: &str, id: &str) -> Result<Self, InvalidTuple> {
        format!("{object_type}:{id}").parse()
    }

    /// The type's name, left of the colon.
    pub fn object_type(&self) -> &str {
        self.text.get(..usize::from(self.colon)).unwrap_or_default()
    }

    /// The id, right of the colon.
    pub fn id(&self) -> &str {
        self.text
            .get(usize::from(self.colon) + 1..)
            .unwrap_or_default()
    }

    /// The whole text, `type:id`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `None` for a text that is not `type:id`, and for a wildcard.
    fn of_text(text: &str) -> Option<Self> {
        let (object_type, id) = split_object(text)?;
        let colon = u16::try_from(object_type.len()).ok()?;
        (id != "*").then(|| Self {
            text: text.into(),
            colon,
        })
    }
}

/// Splits `type:id` without allocating; `None` unless it is a well-formed object or, with id `*`, a typed wildcard. It may
/// be as long as a user; what is to be a tuple's object is bounded by [`MAX_OBJECT_LEN`] besides.
pub fn split_object(text: &str) -> Option<(&str, &str)> {
    let (object_type, id) = text.split_once(':')?;
    let id_ok = !id.is_empty()
        && !id.bytes().any(|b| b == b':' || b == b'#')
        && !id.chars().any(|c| c.is_whitespace() || c.is_control());
    (text.len() <= MAX_USER_LEN && is_name(object_type, MAX_TYPE_LEN) && id_ok)
        .then_some((object_type, id))
}

impl FromStr for Object {
    type Err = InvalidTuple;

    fn from_str(text: &str) -> Result<Self, InvalidTuple> {
        if text.len() > MAX_OBJECT_LEN {
            return Err(InvalidTuple::LongObject(text.len()));
        }
        Self::of_text(text).ok_or_else(|| match split_object(text) {
            Some(_) => InvalidTuple::WildcardObject(text.to_owned()),
            None => InvalidTuple::Object(text.to_owned()),
        })
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a tuple grants a relation to (OpenFGA's `user` field).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One object, `user:anne`.
    Object(Object),
    /// Every object of a type, `user:*`.
    Wildcard(Box<str>),
    /// Everyone who has a relation to an object, `team:core#member`.
    Userset(Object, Box<str>),
}

impl Subject {
    /// The type of the subject's object.
    pub fn subject_type(&self) -> &str {
        match self {
            Self::Object(object) | Self::Userset(object, _) => object.object_type(),
            Self::Wildcard(object_type) => object_type,
        }
    }

    /// The id of the subject's object; `*` for a wildcard.
    pub fn id(&self) -> &str {
        match self {
            Self::Object(object) | Self::Userset(object, _) => object.id(),
            Self::Wildcard(_) => "*",
        }
    }

    /// The userset's relation; empty for objects and wildcards.
    pub fn relation(&self) -> &str {
        match self {
            Self::Object(_) | Self::Wildcard(_) => "",
            Self::Userset(_, relation) => relation,
        }
    }

    /// The subject of the three columns of the tuples table.
    ///
    /// # Errors
    /// [`InvalidTuple`] when they do not make a subject.
    pub fn from_parts(subject_type: &str, id: &str, relation: &str) -> Result<Self, InvalidTuple> {
        if relation.is_empty() {
            format!("{subject_type}:{id}").parse()
        } else {
            format!("{subject_type}:{id}#{relation}").parse()
        }
    }
}

impl FromStr for Subject {
    type Err = InvalidTuple;

    fn from_str(text: &str) -> Result<Self, InvalidTuple> {
        let malformed = || InvalidTuple::User(text.to_owned());
        if text.len() > MAX_USER_LEN {
            return Err(InvalidTuple::LongUser(text.len()));
        }
        if let Some((object, relation)) = text.split_once('#') {
            let object = Object::of_text(object).ok_or_else(malformed)?;
            return if is_name(relation, MAX_RELATION_LEN) {
                Ok(Self::Userset(object, relation.into()))
            } else {
                Err(malformed())
            };
        }
        match split_object(text) {
            Some((object_type, "*")) => Ok(Self::Wildcard(object_type.into())),
            _ => Object::of_text(text)
                .map(Self::Object)
                .ok_or_else(malformed),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => object.fmt(f),
            Self::Wildcard(object_type) => write!(f, "{object_type}:*"),
            Self::Userset(object, relation) => write!(f, "{object}#{relation}"),
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! serde_as_text {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(Object);
serde_as_text!(Subject);

/// What identifies a tuple within a store: `object#relation@subject`.
///
/// The order (object type, object id, relation, subject type, subject id, subject relation), by bytes, is the order of
/// the tuples table's primary key and of every page read from it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TupleKey {
    /// What the relation is to.
    pub object: Object,
    /// The relation's name.
    pub relation: Box<str>,
    /// Who has it. OpenFGA calls this field `user`.
    #[serde(rename = "user")]
    pub subject: Subject,
}

impl TupleKey {
    /// Parses the three fields of a tuple as they come over the wire.
    ///
    /// # Errors
    /// [`InvalidTuple`] naming the first malformed field: user, relation, object.
    pub fn parse(object: &str, relation: &str, user: &str) -> Result<Self, InvalidTuple> {
        let subject = user.parse()?;
        if !is_name(relation, MAX_RELATION_LEN) {
            return Err(InvalidTuple::Relation(relation.to_owned()));
        }
        Ok(Self {
            object: object.parse()?,
            relation: relation.into(),
            subject,
        })
    }

    /// The six columns of the tuples table, in the order of its key.
    pub fn columns(&self) -> [&str; 6] {
        [
            self.object.object_type(),
            self.object.id(),
            &self.relation,
            self.subject.subject_type(),
            self.subject.id(),
            self.subject.relation(),
        ]
    }
}

impl PartialOrd for TupleKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TupleKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.columns().cmp(&other.columns())
    }
}

impl fmt::Display for TupleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}@{}", self.object, self.relation, self.subject)
    }
}

impl fmt::Debug for TupleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The condition a tuple is bound to, with the part of its parameters that the tuple itself fixes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TupleCondition {
    /// The condition's name in the model.
    pub name: Box<str>,
    /// A JSON object as text; `{}` when the tuple fixes nothing. It can be long, and is shared by all who read the tuple.
    #[serde(with = "shared_text")]
    pub context: Arc<str>,
}

/// As serde takes a text.
mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Arc::from)
    }
}

impl TupleCondition {
    /// What the tuple fixes.
    ///
    /// # Errors
    /// When the context is no JSON object.
    pub fn parse(&self) -> Result<Context, serde_json::Error> {
        serde_json::from_str(&self.context)
    }
}

/// A stored tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuple {
    /// What identifies it.
    pub key: TupleKey,
    /// The condition it is bound to, if any.
    pub condition: Option<TupleCondition>,
    /// When central committed it.
    pub timestamp: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects() {
        let object: Object = "repo:acme/core".parse().unwrap();
        assert_eq!(
            (object.object_type(), object.id(), object.as_str()),
            ("repo", "acme/core", "repo:acme/core")
        );
        for bad in [
            "",
            "repo",
            "repo:",
            ":core",
            "repo:a:b",
            "repo:a#b",
            "repo:a b",
            "re po:a",
            "repo:\u{7}",
            "repo:*",
            &format!("repo:{}", "x".repeat(252)),
        ] {
            assert!(bad.parse::<Object>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn subjects_read_back_as_written() {
        for text in ["user:anne", "user:*", "team:core#member"] {
            let subject: Subject = text.parse().unwrap();
            assert_eq!(subject.to_string(), text);
            assert_eq!(
                Subject::from_parts(subject.subject_type(), subject.id(), subject.relation())
                    .unwrap(),
                subject
            );
        }
        for bad in [
            "",
            "anne",
            "user:",
            "team:*#member",
            "team:core#",
            "team:core#a#b",
            "team:core#a b",
        ] {
            assert!(bad.parse::<Subject>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_user_is_bounded_as_a_whole_and_its_object_not_as_a_tuples_object_is() {
        let anne = format!("user:{}", "x".repeat(MAX_USER_LEN - "user:".len()));
        let team = format!(
            "team:{}#member",
            "x".repeat(MAX_USER_LEN - "team:#member".len())
        );
        for user in [anne, team] {
            let key = TupleKey::parse("doc:1", "r", &user).unwrap();
            assert_eq!(key.subject.to_string(), user);
            let [.., subject_type, id, relation] = key.columns();
            assert_eq!(
                Subject::from_parts(subject_type, id, relation).unwrap(),
                key.subject
            );
            let error = TupleKey::parse("doc:1", "r", &format!("{user}x")).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the 'user' field is malformed: it has 513 bytes, and at most 512 are allowed"
            );
        }
        let object = format!("doc:{}", "x".repeat(MAX_OBJECT_LEN - "doc:".len()));
        assert!(TupleKey::parse(&object, "r", "user:anne").is_ok());
        let error = TupleKey::parse(&format!("{object}x"), "r", "user:anne").unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid 'object' field format: it has 257 bytes, and at most 256 are allowed"
        );
    }

    #[test]
    fn keys_order_by_column_not_by_text() {
        let key = |object: &str| TupleKey::parse(object, "r", "user:a").unwrap();
        // As text "a-b:1" < "a:1" ('-' < ':'); by columns "a" < "a-b".
        assert!(key("a:1") < key("a-b:1"));
    }
}
