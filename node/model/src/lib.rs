//! What every room of a node speaks of: ids, tuples, authorization models, changes, and the ports.
//!
//! Nothing here does I/O, reads a clock or is asynchronous; time and randomness are arguments. The one async item is
//! the [`ports::Datastore`] trait, which lives beside the types it speaks of so that adapters depend on it and never
//! the other way round.
//!
//! Text is parsed once, at the edge of the program, into the types of [`tuple`] and [`ids`]; nobody re-splits
//! `"user:anne"` further in.

pub mod authorization_model;
pub mod change;
pub mod dsl;
pub mod error;
pub mod hash;
pub mod ids;
pub mod ports;
pub mod tuple;
pub mod typesystem;
pub mod validate;
pub mod watermark;

pub use authorization_model::AuthorizationModel;
pub use change::{Change, ChangeSet, Tier, Tiers};
pub use error::{ApiError, Code};
pub use ids::{Epoch, ModelId, Position, Revision, StoreId, Timestamp};
pub use tuple::{Object, Subject, Tuple, TupleCondition, TupleKey};
pub use typesystem::TypeSystem;
