//! The live channel over real sockets, with an authority and tokens that a test holds in its hand.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod bad_input;
mod channel;
mod continuous;
mod durable;
mod harness;
mod interleaved;
mod leaving;
mod permissions;
mod recovery;
mod slow;
