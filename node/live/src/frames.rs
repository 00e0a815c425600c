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

#[derive(Debug, Clone, PartialEq, Deserialize)]
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

/// Fields that a record's data must have: of each one of these values.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Filter(Map<String, Value>);

/// Fields of one filter, and values of one field.
const MAX_FILTER: usize = 64;

impl Filter {
    /// Whether it is small and plain enough.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = |value: &Value| !matches!(value, Value::Array(_) | Value::Object(_));
        self.0.len() <= MAX_FILTER
            && self.0.values().all(|value| match value {
                Value::Array(values) => values.len() <= MAX_FILTER && values.iter().all(plain),
                value => plain(value),
            })
    }

    pub(crate) fn lets_through(&self, data: &Map<String, Value>) -> bool {
        self.0.iter().all(|(field, wanted)| {
            let found = data.get(field).unwrap_or(&Value::Null);
            match wanted {
                Value::Array(several) => several.contains(found),
                one => one == found,
            }
        })
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
    /// A refreshed token no longer allows it.
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
    /// The store is not there, or nobody can say who the token is of: wait, then connect again.
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
    fn what_clients_say_is_read_and_unknown_fields_do_not_matter() {
        let read = |text: &str| serde_json::from_str::<Asked>(text);
        assert_eq!(read(r#"{"type":"ping","x":1}"#).unwrap(), Asked::Ping);
        let subscribe =
            read(r#"{"type":"subscribe","id":"a","object":"event:42","y":{}}"#).unwrap();
        let expected = Subscribe {
            id: "a".into(),
            object: "event:42".into(),
            position: None,
            last: false,
            conflate: false,
            filter: None,
        };
        assert_eq!(subscribe, Asked::Subscribe(expected));
        let unknown = read(r#"{"type":"publish"}"#).unwrap_err().to_string();
        assert!(unknown.contains("publish"), "{unknown}");
        for malformed in [
            "",
            "[]",
            "{",
            r#"{"type":"subscribe"}"#,
            r#"{"type":"auth","token":7}"#,
        ] {
            assert!(read(malformed).is_err(), "{malformed}");
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
}
