//! When to reconcile what: the watches, and who is affected by a change of what they see.

mod run;
mod triggers;
mod watches;

pub use run::{Parts, Scope, run};
