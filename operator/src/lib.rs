//! Kubernetes: the kinds `AuthzStore` and `EdgeRegion`, and the operator that makes what they say so.
//!
//! [`api`] has the kinds, [`build`] makes objects of them without any I/O, [`reconcile`] compares those with what is
//! there and writes the difference, and [`controller`] calls it when something changed. Nodes are spoken to through
//! [`nodes::Nodes`].

pub mod api;
pub mod build;
pub mod controller;
pub mod events;
pub mod lease;
pub mod metrics;
pub mod nodes;
pub mod operator;
pub mod reconcile;
pub mod requeue;

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}
