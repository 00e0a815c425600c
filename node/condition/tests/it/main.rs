//! Conditions as a node uses them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod corpus;
mod errors;
mod fuzz;
