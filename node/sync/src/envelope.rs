//! Change sets, heartbeats and store heads between their inner types and the wire.
//!
//! What arrives was written by another build, or by something that is no node at all. Decoding therefore checks
//! everything, names the field that is wrong, and never panics; a record that cannot be read is skipped by its reader and
//! shows as a gap, which upstream repairs.

use std::collections::BTreeSet;
use std::sync::Arc;

use meridian_model::change::{Change, ChangeSet, StoreInfo, StoredModel, Tiers};
use meridian_model::ids::{Epoch, Position, Revision, StoreId, Timestamp};
use meridian_model::ports::StoreHead;
use meridian_model::tuple::{Tuple, TupleCondition, TupleKey};
use meridian_proto::meridian::v1 as wire;
use prost::Message;

#[cfg(test)]
mod tests;

/// How much of a bad value an error repeats, in characters.
const SHOWN: usize = 80;

/// One record of a topic.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A revision of a store.
    ChangeSet(ChangeSet),
    /// The writer's clock.
    Heartbeat(Heartbeat),
    /// In place of a change set that is larger than the topic takes: that it exists.
    Announced {
        /// The store.
        store: StoreId,
        /// The change set's position.
        position: Position,
    },
}

/// The writer's database time, read before the outbox scan whose rows were all sent before this heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// The writer's reign.
    pub epoch: Epoch,
    /// Its database time.
    pub clock: Timestamp,
    /// Another number than before when the sender's copy changed without records.
    pub generation: u64,
}

/// Why bytes from outside are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not a protobuf message of this kind.
    #[error("not a meridian.v1 message")]
    Malformed(#[source] prost::DecodeError),
    /// A field that must be there is not.
    #[error("field '{0}' is missing; was it written by a newer version?")]
    Missing(&'static str),
    /// A field holds what it cannot hold.
    #[error("field '{field}' holds '{value}': {reason}")]
    Invalid {
        /// Path of the field within its message.
        field: &'static str,
        /// The start of its value.
        value: String,
        /// What it should be.
        reason: String,
    },
}

impl DecodeError {
    fn invalid(field: &'static str, value: &str, reason: impl std::fmt::Display) -> Self {
        Self::Invalid {
            field,
            value: value.chars().take(SHOWN).collect(),
            reason: reason.to_string(),
        }
    }
}

/// A result of decoding.
pub type Result<T> = std::result::Result<T, DecodeError>;

impl Record {
    /// The bytes of a topic's record.
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self {
            Self::ChangeSet(set) => wire::record::Kind::ChangeSet(change_set_to_wire(set)),
            Self::Heartbeat(beat) => wire::record::Kind::Heartbeat(wire::Heartbeat {
                epoch: beat.epoch.0,
                clock_micros: beat.clock.0,
                generation: beat.generation,
            }),
            Self::Announced { store, position } => {
                wire::record::Kind::Announcement(wire::Announcement {
                    store_id: store.to_string(),
                    epoch: position.epoch.0,
                    revision: position.revision.0,
                })
            }
        };
        wire::Record { kind: Some(kind) }.encode_to_vec()
    }

    /// Reads a topic's record.
    ///
    /// # Errors
    /// [`DecodeError`], naming the first field that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let record = wire::Record::decode(bytes).map_err(DecodeError::Malformed)?;
        match record.kind.ok_or(DecodeError::Missing("kind"))? {
            wire::record::Kind::ChangeSet(set) => change_set_from_wire(set).map(Self::ChangeSet),
            wire::record::Kind::Heartbeat(beat) => Ok(Self::Heartbeat(Heartbeat {
                epoch: Epoch(beat.epoch),
                clock: Timestamp(beat.clock_micros),
                generation: beat.generation,
            })),
            wire::record::Kind::Announcement(announced) => Ok(Self::Announced {
                store: store_id("announcement.store_id", &announced.store_id)?,
                position: Position::new(announced.epoch, announced.revision),
            }),
        }
    }
}

/// A change set's wire form.
pub fn change_set_to_wire(set: &ChangeSet) -> wire::ChangeSet {
    wire::ChangeSet {
        store_id: set.store.to_string(),
        epoch: set.epoch.0,
        revision: set.revision.0,
        committed_at_micros: set.committed_at.0,
        changes: set.changes.iter().map(change_to_wire).collect(),
        touched: set.touched.clone(),
    }
}

/// A change set from its wire form.
///
/// # Errors
/// [`DecodeError`], naming the first field that is wrong.
pub fn change_set_from_wire(set: wire::ChangeSet) -> Result<ChangeSet> {
    if set.revision == 0 {
        return Err(DecodeError::invalid(
            "revision",
            "0",
            "revisions start at 1",
        ));
    }
    Ok(ChangeSet {
        store: store_id("store_id", &set.store_id)?,
        epoch: Epoch(set.epoch),
        revision: Revision(set.revision),
        committed_at: Timestamp(set.committed_at_micros),
        changes: set
            .changes
            .into_iter()
            .map(change_from_wire)
            .collect::<Result<_>>()?,
        touched: set.touched,
    })
}

fn change_to_wire(change: &Change) -> wire::Change {
    use wire::change::Kind;
    let kind = match change {
        Change::TupleWritten(tuple) => Kind::TupleWritten(tuple_to_wire(tuple)),
        Change::TupleDeleted(key) => Kind::TupleDeleted(key_to_wire(key)),
        Change::ModelWritten(model) => Kind::ModelWritten(model_to_wire(model)),
        Change::StoreCreated(info) => Kind::StoreCreated(info_to_wire(info)),
        Change::StoreDeleted => Kind::StoreDeleted(wire::StoreDeleted {}),
        Change::TiersAssigned(tiers) => Kind::TiersAssigned(tiers_to_wire(tiers)),
    };
    wire::Change { kind: Some(kind) }
}

fn change_from_wire(change: wire::Change) -> Result<Change> {
    use wire::change::Kind;
    Ok(
        match change.kind.ok_or(DecodeError::Missing("changes.kind"))? {
            Kind::TupleWritten(tuple) => Change::TupleWritten(tuple_from_wire(tuple)?),
            Kind::TupleDeleted(tuple) => Change::TupleDeleted(key_from_wire(&tuple)?),
            Kind::ModelWritten(model) => Change::ModelWritten(model_from_wire(&model)?),
            Kind::StoreCreated(info) => Change::StoreCreated(info_from_wire(info)?),
            Kind::StoreDeleted(_) => Change::StoreDeleted,
            Kind::TiersAssigned(tiers) => Change::TiersAssigned(tiers_from_wire(tiers)),
        },
    )
}

/// A tuple's wire form.
pub fn tuple_to_wire(tuple: &Tuple) -> wire::Tuple {
    let mut wire = key_to_wire(&tuple.key);
    if let Some(condition) = &tuple.condition {
        wire.condition = condition.name.to_string();
        wire.condition_context = condition.context.to_string();
    }
    wire.timestamp_micros = tuple.timestamp.0;
    wire
}

/// A tuple from its wire form.
///
/// # Errors
/// [`DecodeError`], naming the first field that is wrong.
pub fn tuple_from_wire(tuple: wire::Tuple) -> Result<Tuple> {
    let key = key_from_wire(&tuple)?;
    let condition = (!tuple.condition.is_empty()).then(|| {
        let context = if tuple.condition_context.is_empty() {
            "{}".into()
        } else {
            tuple.condition_context.into()
        };
        TupleCondition {
            name: tuple.condition.into(),
            context,
        }
    });
    Ok(Tuple {
        key,
        condition,
        timestamp: Timestamp(tuple.timestamp_micros),
    })
}

fn key_to_wire(key: &TupleKey) -> wire::Tuple {
    wire::Tuple {
        object: key.object.to_string(),
        relation: key.relation.to_string(),
        user: key.subject.to_string(),
        ..wire::Tuple::default()
    }
}

fn key_from_wire(tuple: &wire::Tuple) -> Result<TupleKey> {
    TupleKey::parse(&tuple.object, &tuple.relation, &tuple.user).map_err(|reason| {
        let text = format!("{}#{}@{}", tuple.object, tuple.relation, tuple.user);
        DecodeError::invalid("tuple", &text, reason)
    })
}

/// A model's wire form.
pub fn model_to_wire(model: &StoredModel) -> wire::StoredModel {
    // A model is strings, lists and maps with string keys, of which serde_json refuses none.
    let model_json = serde_json::to_string(&*model.model).unwrap_or_default();
    wire::StoredModel {
        id: model.id.to_string(),
        model_json,
    }
}

/// A model from its wire form.
///
/// # Errors
/// [`DecodeError`], naming the first field that is wrong.
pub fn model_from_wire(model: &wire::StoredModel) -> Result<StoredModel> {
    let id = model
        .id
        .parse()
        .map_err(|reason| DecodeError::invalid("model.id", &model.id, reason))?;
    let content = serde_json::from_str(&model.model_json)
        .map_err(|reason| DecodeError::invalid("model.model_json", &model.model_json, reason))?;
    Ok(StoredModel {
        id,
        model: Arc::new(content),
    })
}

fn info_to_wire(info: &StoreInfo) -> wire::StoreInfo {
    wire::StoreInfo {
        id: info.id.to_string(),
        name: info.name.clone(),
        created_at_micros: info.created_at.0,
    }
}

fn info_from_wire(info: wire::StoreInfo) -> Result<StoreInfo> {
    let id = store_id("store.id", &info.id)?;
    Ok(StoreInfo {
        id,
        name: info.name,
        created_at: Timestamp(info.created_at_micros),
    })
}

/// The tiers' wire form.
pub fn tiers_to_wire(tiers: &Tiers) -> wire::Tiers {
    wire::Tiers {
        critical: tiers.critical.iter().cloned().collect(),
        cold: tiers.cold.iter().cloned().collect(),
    }
}

/// The tiers from their wire form. Type names are taken as they are: one that no model has matches nothing.
pub fn tiers_from_wire(tiers: wire::Tiers) -> Tiers {
    let set = |names: Vec<String>| names.into_iter().collect::<BTreeSet<_>>();
    Tiers {
        critical: set(tiers.critical),
        cold: set(tiers.cold),
    }
}

/// A position's wire form.
pub fn position_to_wire(position: Position) -> wire::Position {
    wire::Position {
        epoch: position.epoch.0,
        revision: position.revision.0,
    }
}

/// A position from its wire form.
pub fn position_from_wire(position: wire::Position) -> Position {
    Position::new(position.epoch, position.revision)
}

/// A store head's wire form, without the models.
pub fn head_to_wire(head: &StoreHead) -> wire::StoreHead {
    wire::StoreHead {
        info: Some(info_to_wire(&head.info)),
        epoch: head.position.epoch.0,
        revision: head.position.revision.0,
        tiers: Some(tiers_to_wire(&head.tiers)),
        deleted_at_micros: head.deleted_at.map_or(0, |at| at.0),
    }
}

/// A store head from its wire form, with the models that came behind it.
///
/// # Errors
/// [`DecodeError`], naming the first field that is wrong.
pub fn head_from_wire(head: wire::StoreHead, models: Vec<StoredModel>) -> Result<StoreHead> {
    if head.revision == 0 {
        return Err(DecodeError::invalid(
            "head.revision",
            "0",
            "revisions start at 1",
        ));
    }
    Ok(StoreHead {
        info: info_from_wire(head.info.ok_or(DecodeError::Missing("head.info"))?)?,
        position: Position::new(head.epoch, head.revision),
        models,
        tiers: head.tiers.map(tiers_from_wire).unwrap_or_default(),
        deleted_at: (head.deleted_at_micros != 0).then_some(Timestamp(head.deleted_at_micros)),
    })
}

fn store_id(field: &'static str, text: &str) -> Result<StoreId> {
    text.parse()
        .map_err(|reason| DecodeError::invalid(field, text, reason))
}
