//! The wire: JSON text frames, each an object with `type`.

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// The subprotocol, and the version of what is described here.
pub const PROTOCOL: &str = "meridian.live.v1";

/// A frame ready to be sent; its bytes are shared by all who get it.
pub(crate) type Frame = Utf8Bytes;

/// Longest name that a client may give a subscription, in bytes.
pub(crate) const MAX_ID: usize = 128;

/// What a client calls a subscription, as it is told back: not at all where that is too long.
pub(crate) fn echoed(id: &str) -> Option<&str> {
    (id.len() <= MAX_ID).then_some(id)
}

/// What a client says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Asked {
    Auth { token: String },
    Subscribe(Subscribe),
    Unsubscribe { id: String },
    Ping,
}

/// Another field is refused: a filter that is misspelt would let everything through.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subscribe {
    pub(crate) id: String,
    pub(crate) object: String,
    pub(crate) position: Option<String>,
    #[serde(default)]
    pub(crate) last: bool,
    #[serde(default)]
    pub(crate) conflate: bool,
    pub(crate) filter: Option<Filter>,
}

/// Why a message is none, and the name that it has for a subscription.
#[derive(Debug, PartialEq)]
pub(crate) struct Unread {
    pub(crate) id: Option<String>,
    pub(crate) why: String,
}

/// Longest description of a malformed message.
const MAX_WHY: usize = 200;

impl Asked {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Unread`].
    pub(crate) fn read(text: &str) -> Result<Self, Unread> {
        let unread = |id: Option<String>, why: &dyn std::fmt::Display| {
            let why: String = why.to_string().chars().take(MAX_WHY).collect();
            let why = format!("the message is none of {PROTOCOL}: {why}");
            Unread { id, why }
        };
        let fields: Value = serde_json::from_str(text).map_err(|why| unread(None, &why))?;
        if !fields.is_object() {
            return Err(unread(None, &"it is no JSON object"));
        }
        let id = fields.get("id").and_then(Value::as_str).map(str::to_owned);
        Self::deserialize(fields).map_err(|why| unread(id, &why))
    }
}

/// Fields that a record's data must have: of each one of these values.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Filter(Map<String, Value>);

/// Fields of one filter, values of all of them, and bytes of both: each record is held against the filters of all who may see
/// it.
const MAX_FIELDS: usize = 16;
const MAX_VALUES: usize = 64;
const MAX_FILTER: usize = 2048;

/// What a filter may be, for who sent another.
pub(crate) const FILTER: &str = "filter: name at most 16 fields, each with a plain value or a list of such, of at most 64 values and 2,048 bytes in all";

impl Filter {
    /// Whether it is small and plain enough.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = |value: &Value| !matches!(value, Value::Array(_) | Value::Object(_));
        let values = || self.0.values().flat_map(several);
        let text = |value: &Value| value.as_str().map_or(0, str::len);
        let bytes: usize = self
            .0
            .keys()
            .map(String::len)
            .chain(values().map(text))
            .sum();
        self.0.len() <= MAX_FIELDS
            && values().count() <= MAX_VALUES
            && bytes <= MAX_FILTER
            && values().all(plain)
    }

    pub(crate) fn lets_through(&self, data: &Map<String, Value>) -> bool {
        self.0.iter().all(|(field, wanted)| {
            let found = data.get(field).unwrap_or(&Value::Null);
            several(wanted).iter().any(|one| is_same(one, found))
        })
    }
}

/// The values that a filter names for a field.
fn several(wanted: &Value) -> &[Value] {
    match wanted {
        Value::Array(several) => several,
        one => std::slice::from_ref(one),
    }
}

/// Whether two values are the same to JSON, to which `9` and `9.0` are one number.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() != other.is_f64() => {
            one.as_f64() == other.as_f64()
        }
        _ => one == other,
    }
}

/// What a client is told.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Told<'a> {
    Welcome {
        session: &'a str,
        node: &'a str,
        user: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<String>,
        protocol: &'static str,
    },
    Subscribed {
        id: &'a str,
        object: &'a str,
        position: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        recovered: Option<bool>,
    },
    Record {
        object: &'a str,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        objects: &'a [String],
        position: &'a str,
        at: String,
        data: &'a RawValue,
    },
    Unsubscribed {
        id: &'a str,
        object: &'a str,
        reason: Reason,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        code: u16,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        denied: Option<Denied<'a>>,
    },
    Lagged {
        lost: u64,
    },
    Expiring {
        at: String,
    },
    Pong {
        /// All of the client's subscriptions before it has been told.
        #[serde(skip_serializing_if = "Option::is_none")]
        position: Option<&'a str>,
    },
}

/// What was denied.
#[derive(Debug, Serialize)]
pub(crate) struct Denied<'a> {
    pub(crate) user: &'a str,
    pub(crate) relation: &'a str,
    pub(crate) object: &'a str,
}

/// Why a subscription ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// The client wanted it.
    Asked,
    /// The user may no longer.
    Revoked,
    /// A refreshed token no longer allows it, or the authority does not take the token any more.
    Expired,
    /// What it rests on changed, and nobody can say what holds now.
    AuthorityUnreachable,
}

impl Reason {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::AuthorityUnreachable => "authority_unreachable",
        }
    }
}

impl Told<'_> {
    pub(crate) fn frame(&self) -> Frame {
        // Texts, numbers and checked JSON: nothing of it can fail.
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

/// The text before a record's position. Quotes within a text are escaped, so that nothing but the field itself reads like it.
const POSITION: &str = r#""position":""#;

/// The position that a record's frame tells.
pub(crate) fn position_of(record: &Frame) -> Option<&str> {
    let (_, rest) = record.as_str().split_once(POSITION)?;
    Some(rest.split_once('"')?.0)
}

/// A record's frame with another position.
pub(crate) fn with_position(record: &Frame, position: &str) -> Frame {
    let text = record.as_str();
    let Some((head, rest)) = text.split_once(POSITION) else {
        return record.clone();
    };
    let Some((_, tail)) = rest.split_once('"') else {
        return record.clone();
    };
    format!("{head}{POSITION}{position}\"{tail}").into()
}

/// How a record's frame begins.
const RECORD: &str = r#"{"type":"record","#;

/// A record's frame for one subscription alone.
pub(crate) fn for_subscription(record: &Frame, id: &str) -> Frame {
    match record.as_str().strip_prefix(RECORD) {
        Some(rest) => format!("{RECORD}\"id\":{},{rest}", json!(id)).into(),
        None => record.clone(),
    }
}

/// A time as clients read it: RFC 3339.
pub(crate) fn time(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .unwrap_or_default()
        .to_string()
}

/// How a socket is closed, and what its client does best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Closing {
    /// The client closed it, or is gone.
    Gone,
    /// The node stops: connect again, to another.
    Stopping,
    /// A message was too large: mend the client.
    TooLarge,
    /// Too many messages made no sense: mend the client.
    Malformed,
    /// No token that is good, or it has expired: get a new one.
    Unauthorized,
    /// The new token is of somebody else: connect again with it.
    OtherSubject,
    /// No token in time, or no sign of life: connect again.
    Late,
    /// Too many sockets of the user, or too many messages: wait, then connect again.
    Limit,
    /// The client was too slow: connect again, and go on from the last position.
    Slow,
    /// Nobody can say who the token is of: wait, then connect again.
    NotThere,
}

impl Closing {
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Gone => 1000,
            Self::Stopping => 1001,
            Self::TooLarge => 1009,
            Self::Malformed => 4400,
            Self::Unauthorized => 4401,
            Self::OtherSubject => 4403,
            Self::Late => 4408,
            Self::Limit => 4429,
            Self::NotThere => 4503,
            Self::Slow => 4508,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_say_is_read_and_unknown_fields_matter_in_subscriptions_alone() {
        let read = Asked::read;
        assert_eq!(read(r#"{"type":"ping","x":1}"#).unwrap(), Asked::Ping);
        let subscribe = read(r#"{"type":"subscribe","id":"a","object":"event:42"}"#).unwrap();
        let expected = Subscribe {
            id: "a".into(),
            object: "event:42".into(),
            position: None,
            last: false,
            conflate: false,
            filter: None,
        };
        assert_eq!(subscribe, Asked::Subscribe(expected));
        for (malformed, id, told) in [
            ("", None, "EOF"),
            ("[]", None, "it is no JSON object"),
            (r#"["ping"]"#, None, "it is no JSON object"),
            ("{", None, "EOF"),
            (r#"{"id":"a"}"#, Some("a"), "missing field `type`"),
            (r#"{"type":"publish"}"#, None, "publish"),
            (r#"{"type":"subscribe"}"#, None, "missing field `id`"),
            (r#"{"type":"auth","token":7}"#, None, "expected a string"),
            (
                r#"{"type":"subscribe","id":"a","object":"event:42","filters":{}}"#,
                Some("a"),
                "unknown field `filters`",
            ),
            (
                r#"{"type":"subscribe","id":"a","object":"event:42","filter":[1]}"#,
                Some("a"),
                "expected a map",
            ),
        ] {
            let unread = read(malformed).unwrap_err();
            assert_eq!(unread.id.as_deref(), id, "{malformed}");
            assert!(unread.why.contains(told), "{malformed}: {}", unread.why);
        }
    }

    #[test]
    fn a_records_position_is_found_whatever_the_record_is_called_and_says() {
        let data = serde_json::value::to_raw_value(&json!({"position": "data"})).unwrap();
        let record = Told::Record {
            object: r#"event:"position":"x""#,
            objects: &[],
            position: "here",
            at: time(0),
            data: &data,
        };
        let read = |frame: &Frame| serde_json::from_str::<Value>(frame.as_str()).unwrap();
        let frame = record.frame();
        assert_eq!(position_of(&frame), Some("here"));
        let mut expected = read(&frame);
        expected["position"] = json!("there");
        assert_eq!(read(&with_position(&frame, "there")), expected);
        expected["id"] = json!(r#"a"b"#);
        let frame = with_position(&for_subscription(&frame, r#"a"b"#), "there");
        assert_eq!(read(&frame), expected);
    }

    #[test]
    fn a_filter_wants_every_field_to_have_one_of_its_values() {
        let filter = |value: Value| serde_json::from_value::<Filter>(value).unwrap();
        let data = json!({"speed": 9, "kind": "car", "at": null});
        let data = data.as_object().unwrap();
        for (wanted, passes) in [
            (json!({}), true),
            (json!({"kind": "car"}), true),
            (json!({"kind": ["bike", "car"], "speed": 9}), true),
            (json!({"kind": "bike"}), false),
            (json!({"kind": "car", "speed": 8}), false),
            (json!({"kind": []}), false),
            (json!({"absent": null}), true),
            (json!({"absent": 1}), false),
        ] {
            assert_eq!(
                filter(wanted.clone()).lets_through(data),
                passes,
                "{wanted}"
            );
        }
        assert!(!filter(json!({"kind": {"eq": 1}})).is_plain());
        assert!(!filter(json!({"kind": [[1]]})).is_plain());
        assert!(filter(json!({"kind": [1, "a", null, true]})).is_plain());
    }

    #[test]
    fn a_filter_is_small() {
        let fields = |count: usize, value: Value| {
            let fields = (0..count).map(|number| (number.to_string(), value.clone()));
            Filter(fields.collect())
        };
        assert!(fields(16, json!([1, 2, 3, 4])).is_plain());
        assert!(!fields(17, json!(1)).is_plain(), "fields");
        assert!(!fields(13, json!([1, 2, 3, 4, 5])).is_plain(), "values");
        assert!(fields(1, json!("x".repeat(2047))).is_plain());
        assert!(!fields(1, json!("x".repeat(2048))).is_plain(), "bytes");
        assert!(!Filter(Map::from_iter([("x".repeat(2049), json!(1))])).is_plain());
    }

    #[test]
    fn numbers_are_the_same_however_they_are_written() {
        let passes = |wanted: &str, found: &str| {
            let filter: Filter = serde_json::from_str(&format!("{{\"n\": [{wanted}]}}")).unwrap();
            let data: Map<_, _> = serde_json::from_str(&format!("{{\"n\": {found}}}")).unwrap();
            filter.lets_through(&data)
        };
        for (wanted, found, same) in [
            ("9", "9.0", true),
            ("9.0", "9", true),
            ("0", "-0.0", true),
            ("1e2", "100", true),
            ("9", "9.5", false),
            ("9", "\"9\"", false),
            ("9007199254740993", "9007199254740992", false),
            ("-1", "18446744073709551615", false),
        ] {
            assert_eq!(passes(wanted, found), same, "{wanted} {found}");
        }
    }
}
