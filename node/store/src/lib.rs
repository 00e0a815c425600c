//! The datastore port's adapters: memory, SQLite, PostgreSQL.

mod history;
pub mod memory;
