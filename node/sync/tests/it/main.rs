//! Integration tests of `meridian-sync`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

mod driver;
mod epoch;
mod kafka;
mod simulator;
