//! From a spec to the cluster, in named steps:
//!
//! - *dereference*: reads what the spec names and what there is. Nothing is decided.
//! - *validate*: what can be built, and what is wrong with the rest. Pure.
//! - *build*: all objects, in [`crate::build`]. Pure.
//! - *apply*: compares them with what is there ([`plan`]), and writes the difference.
//! - *model*: the store, its model and its tiers, through the nodes' API.
//! - *status*: what was found, written if it is not what the status already says.
//!
//! A reconcile that finds nothing to do writes nothing: not an object, not a status, not an event.

pub mod apply;
pub mod asked;
pub mod context;
pub mod creation;
pub mod edge;
pub mod endpoint;
pub mod error;
pub mod missing;
pub mod pods;
pub mod read;
pub mod rivals;
pub mod rollout;
pub mod same;
pub mod secrets;
pub mod status;
pub mod store;
pub mod workloads;

pub use apply::{Failures, Plan, Step, plan};
pub use context::{Caches, Children, Context};
pub use error::{Category, Error};
pub use missing::Missing;
pub use rivals::Rivals;
