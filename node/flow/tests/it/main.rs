//! The recorder over every kind of database, and what it does when there is none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml allows them in tests, and does not see that all of this binary is one"
)]

mod conformance;
mod keeping;
mod kept;
mod newer;
mod outages;
mod recorder;
mod refused;
mod scanning;
mod sessions;
mod support;
mod writer;
