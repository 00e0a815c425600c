//! Meridian on real parts: PostgreSQL, Kafka and one process a node; and the harness that brings them.
//!
//! Run `cargo build` and `cargo xtask setup` first. Random data is seeded; `MERIDIAN_TEST_SEED` repeats a run.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod bad_input;
mod browser;
mod client;
mod conformance;
mod control_plane;
mod dev;
mod differential;
mod flows;
mod http;
#[expect(dead_code, reason = "an issuer does more for the nodes' own tests")]
#[path = "../../../node/server/tests/it/authn/issuer.rs"]
mod issuer;
mod kafka;
mod kept;
mod latency;
mod live;
mod load;
mod oracle;
mod outages;
mod postgres;
mod process;
mod replicas;
mod side_by_side;
mod stores;
mod system;
mod three_nodes;
mod tls;
mod until;
mod watch;
mod world;
