//! The engine against a plain reference.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

mod arbitrary;
mod depth;
mod evaluation;
mod explanation;
mod hostile;
mod listing;
mod reference;
mod stands;
mod view;
