//! The adapters at the port: one suite for all, and what only databases have.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml allows them in tests, and does not see that all of this binary is one"
)]

mod conformance;
mod databases;
mod mysql;
mod support;
