//! The API as clients meet it: both transports of a central node over the memory datastore, on loopback sockets.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod advisories;
mod assertions;
mod authn;
mod authzen;
mod bad_input;
mod batches;
#[path = "../../src/telemetry/captured.rs"]
mod captured;
mod check;
mod command_line;
mod cors;
mod database_away;
mod dev;
mod edge;
mod edge_authzen;
mod edge_lists;
mod flows;
mod flows_above;
mod harness;
mod health;
mod life;
mod limits;
mod lists;
mod live;
mod observed;
mod process;
mod proxies;
mod starting;
mod status;
mod streamed_batch;
mod tls;
mod unreachable;
mod watch;
mod wire;
