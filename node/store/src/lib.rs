//! The datastore port's adapters: memory, SQLite, PostgreSQL, MySQL and MariaDB. One suite of tests holds them all to the port.

mod history;
pub mod memory;
mod settings;
pub mod sql;

pub use settings::{DatastoreSettings, OpenError, PoolSettings, open};

#[cfg(test)]
extern crate self as meridian_store;
#[cfg(test)]
#[path = "../tests/it/support.rs"]
mod support;
