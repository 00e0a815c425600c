//! What happens to a store, as it is committed, published and applied.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::authorization_model::AuthorizationModel;
use crate::ids::{Epoch, ModelId, Position, Revision, StoreId, Timestamp};
use crate::tuple::{Subject, Tuple, TupleKey};

/// Everything one revision of a store changed: whole, or thinned out for an edge.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeSet {
    /// The store.
    pub store: StoreId,
    /// The reign of the writer that committed it.
    pub epoch: Epoch,
    /// Its number.
    pub revision: Revision,
    /// The writer's database time at commit.
    pub committed_at: Timestamp,
    /// The changes, in order. On an edge topic, only those of carried types.
    pub changes: Vec<Change>,
    /// On an edge topic, what the left-out changes touched: [`crate::hash::set_hash`] of each set and
    /// [`crate::hash::type_hash`] of each type. Empty on the full topic.
    pub touched: Vec<u64>,
}

impl ChangeSet {
    /// Where in the store's history it stands.
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            revision: self.revision,
        }
    }

    /// How much memory it takes, in bytes, roughly and rather too much: what queues of change sets are bounded by.
    pub fn weight(&self) -> usize {
        let changes: usize = self.changes.iter().map(Change::weight).sum();
        size_of::<Self>() + changes + size_of_val(self.touched.as_slice())
    }
}

/// What a model is taken to weigh: none may be larger than 256 KiB as a message.
const MODEL_WEIGHT: usize = 1024 * 1024;

impl Change {
    fn weight(&self) -> usize {
        let key = |key: &TupleKey| {
            let subject = match &key.subject {
                Subject::Object(object) => object.as_str().len(),
                Subject::Wildcard(object_type) => object_type.len(),
                Subject::Userset(object, relation) => object.as_str().len() + relation.len(),
            };
            key.object.as_str().len() + key.relation.len() + subject
        };
        let inner = match self {
            Self::TupleWritten(tuple) => {
                let condition = tuple.condition.as_ref();
                key(&tuple.key) + condition.map_or(0, |it| it.name.len() + it.context.len())
            }
            Self::TupleDeleted(deleted) => key(deleted),
            Self::ModelWritten(_) => MODEL_WEIGHT,
            Self::StoreCreated(info) => info.name.len(),
            Self::StoreDeleted => 0,
            Self::TiersAssigned(tiers) => {
                let names = tiers.critical.iter().chain(&tiers.cold);
                names.map(|name| name.len() + size_of::<String>()).sum()
            }
        };
        size_of::<Self>() + inner
    }
}

/// One change of a store.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A tuple was written.
    TupleWritten(Tuple),
    /// A tuple was deleted.
    TupleDeleted(TupleKey),
    /// A model was added and is now the latest.
    ModelWritten(StoredModel),
    /// The store was created; always revision 1.
    StoreCreated(StoreInfo),
    /// The store was deleted; nothing follows.
    StoreDeleted,
    /// The tiers of the store's types were assigned anew, all of them.
    TiersAssigned(Tiers),
}

/// A store's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// Its id.
    pub id: StoreId,
    /// Its display name; not unique.
    pub name: String,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A model as written, with its id.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredModel {
    /// Its id.
    pub id: ModelId,
    /// Its content.
    pub model: Arc<AuthorizationModel>,
}

/// How far the data of an object type travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Every tuple at every edge, always fresh.
    Critical,
    /// Answers only, kept at an edge until something they rest on is touched. The default.
    Warm,
    /// Never at an edge, not even an answer.
    Cold,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Critical => "critical",
            Self::Warm => "warm",
            Self::Cold => "cold",
        })
    }
}

/// The tier of each object type of a store. Types not named are Warm. A revision of its own whenever it changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tiers {
    /// Types whose every tuple is at every edge.
    pub critical: BTreeSet<String>,
    /// Types of which nothing is at an edge.
    pub cold: BTreeSet<String>,
}

impl Tiers {
    /// The tier of a type.
    pub fn of(&self, object_type: &str) -> Tier {
        if self.critical.contains(object_type) {
            Tier::Critical
        } else if self.cold.contains(object_type) {
            Tier::Cold
        } else {
            Tier::Warm
        }
    }
}
