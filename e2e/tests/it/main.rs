//! The harness itself: what it starts is there, survives restarts with its data, and ends with the test.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod kafka;
mod postgres;
mod process;
