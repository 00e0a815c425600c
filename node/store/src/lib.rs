//! The datastore port's adapters: memory, SQLite, PostgreSQL. One suite of tests holds them all to the port.

mod history;
pub mod memory;
mod settings;
pub mod sql;

pub use settings::{DatastoreSettings, OpenError, PoolSettings, open};
