//! The datastore port's adapters: memory, SQLite, PostgreSQL, MySQL and MariaDB. One suite of tests holds them all to the port.

mod history;
pub mod memory;
mod settings;
pub mod sql;
mod watched;

pub use settings::{DatastoreSettings, OpenError, PoolSettings, check_url, open};
pub use watched::{Watcher, watched};

#[cfg(test)]
extern crate self as meridian_store;
#[cfg(test)]
#[path = "../tests/it/support.rs"]
mod support;
