//! The operator's tests: what it builds, what it does with an API server made up for the test, and with a real one.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

mod api_server;
mod connections;
mod crds;
mod fields;
mod fixtures;
mod golden;
mod leadership;
mod namespaces;
mod operator;
mod reconcile;
mod rivals;
mod rollout;
mod rules;
mod secrets;
mod secured;
mod triggers;
mod troubles;
mod world;
