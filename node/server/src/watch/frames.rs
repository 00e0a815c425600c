//! The wire: JSON text frames, each an object with `type`. `docs/watch.md` describes them.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::ws::Utf8Bytes;
use meridian_flow::Recorded;
use meridian_flow::recorder::StoreSettings;
use meridian_model::change::{Change, ChangeSet, Tiers};
use meridian_model::{Epoch, ModelId, Position, Timestamp};
use meridian_proto::openfga::v1;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::asked::Filter;
use crate::api::convert::{timestamp_to_wire, tuple_key_to_wire};
use crate::api::http::flows::shown_flow;
use crate::flows::told;

/// The subprotocol, and the version of what is described here.
pub(super) const PROTOCOL: &str = "meridian.watch.v1";

/// What a watcher says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said {
    Auth { token: String },
    Ping,
}

/// What a watcher is told.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Told<'a> {
    Welcome {
        node: &'a str,
        store_id: &'a str,
        position: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        recording: Option<Recording>,
        protocol: &'static str,
    },
    Change(Box<Changed>),
    Position {
        position: String,
    },
    Reset {
        reason: Reason,
        position: String,
    },
    Decision {
        flow: Value,
        steps: Value,
    },
    Lost {
        lost: u64,
    },
    Lagged {
        behind: u64,
    },
    Error {
        code: u16,
        message: &'a str,
    },
    Pong,
}

/// How decisions are recorded, of which a watcher is told those that are.
#[derive(Debug, Serialize)]
pub(super) struct Recording {
    enabled: bool,
    sampling: f64,
}

impl Recording {
    pub(super) fn of(is_on: bool, settings: StoreSettings) -> Self {
        Self {
            enabled: is_on && settings.enabled,
            sampling: settings.sampling,
        }
    }
}

/// Why what followed a position is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    /// The change log does not reach so far back.
    Trimmed,
    /// History may have been rewritten.
    NewEpoch,
    /// The store has never been there.
    Unknown,
}

impl Reason {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::NewEpoch => "new_epoch",
            Self::Unknown => "unknown",
        }
    }
}

/// One revision.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    position: String,
    at: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    writes: Vec<v1::TupleKey>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deletes: Vec<v1::TupleKeyWithoutCondition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_model_id: Option<ModelId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<Store>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tiers: Option<Tiers>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Store {
    Created,
    Deleted,
}

impl Changed {
    /// What of a change set a watcher is told, its position one of `reign`; `None` where the filter lets nothing through.
    pub(super) fn of(set: &ChangeSet, reign: Epoch, filter: &Filter) -> Option<Self> {
        let mut changed = Self {
            position: Position::new(reign.0, set.revision.0).to_string(),
            at: timestamp_to_wire(set.committed_at).to_string(),
            writes: Vec::new(),
            deletes: Vec::new(),
            authorization_model_id: None,
            store: None,
            tiers: None,
        };
        let mut is_wanted = filter.lets_all_through();
        for change in &set.changes {
            let passes = match change {
                Change::TupleWritten(tuple) => filter.lets_tuple_through(&tuple.key),
                Change::TupleDeleted(key) => filter.lets_tuple_through(key),
                _ => true,
            };
            if passes {
                is_wanted = true;
                changed.add(change);
            }
        }
        is_wanted.then_some(changed)
    }

    fn add(&mut self, change: &Change) {
        match change {
            Change::TupleWritten(tuple) => {
                let key = tuple_key_to_wire(&tuple.key, tuple.condition.as_ref());
                self.writes.push(key);
            }
            Change::TupleDeleted(key) => self.deletes.push(v1::TupleKeyWithoutCondition {
                user: key.subject.to_string(),
                relation: key.relation.to_string(),
                object: key.object.to_string(),
            }),
            Change::ModelWritten(model) => self.authorization_model_id = Some(model.id),
            Change::StoreCreated(_) => self.store = Some(Store::Created),
            Change::StoreDeleted => self.store = Some(Store::Deleted),
            Change::TiersAssigned(tiers) => self.tiers = Some(tiers.clone()),
        }
    }

    /// Whether nothing follows.
    pub(super) fn is_last(&self) -> bool {
        self.store == Some(Store::Deleted)
    }
}

impl Told<'_> {
    pub(super) fn decision(recorded: &Recorded) -> Self {
        let flow = told::flow(recorded.flow.clone());
        let steps = told::steps(recorded.steps.clone());
        let (flow, steps) = shown_flow(&flow, &steps);
        Self::Decision { flow, steps }
    }

    pub(super) fn frame(&self) -> Utf8Bytes {
        // Texts and numbers: nothing of it can fail.
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

/// A time in RFC 3339.
pub(super) fn time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    timestamp_to_wire(Timestamp(micros)).to_string()
}
