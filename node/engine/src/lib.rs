//! What a node holds of a store, and what that proves.
//!
//! [`View`] is the part of a store a node holds in memory, immutable and published whole. [`check()`] evaluates one
//! question over it (or over any other [`Facts`]) and knows what it does not know: a question that the held part does
//! not decide comes back [`Outcome::Unknown`] with the reads that were missed, never as a guess.
//!
//! Nothing here does I/O, reads a clock or is asynchronous; whoever calls passes a [`Budget`] that ends an evaluation.

pub mod bound;
mod budget;
pub mod check;
mod evaluation;
pub mod explain;
pub mod facts;
mod file;
mod holders;
pub mod list;
mod loops;
mod memory;
mod missing;
mod names;
mod overlay;
pub mod program;
pub mod question;
mod recursion;
pub mod rounds;
mod sets;
mod shortcuts;
mod stands;
mod sums;
pub mod symbols;
mod trace;
mod value;
pub mod view;

pub use bound::Binding;
pub use budget::{Budget, Limits};
pub use check::{Given, Outcome, Scratch, check, check_again};
pub use explain::{Explanation, explain};
pub use facts::Facts;
pub use list::{ListObjects, ListUsers, Progress, UserFilter};
pub use program::Program;
pub use question::{Question, User};
pub use rounds::RoundFacts;
pub use view::{UnreadableFile, View};
