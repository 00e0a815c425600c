//! The harness for tests on real parts.
//!
//! [`Postgres`], [`MariaDb`] and [`Kafka`] are whole servers of a test's own, [`Process`] is any other program, such as a node.
//! Each is awaited on a condition with a deadline, can be stopped in good order or hard and started again on the same
//! data and port, and never outlives the test: dropping it ends it, and so does the death of the test's process.

pub mod cluster;
pub mod conformance;
mod group;
mod guard;
pub mod images;
mod kafka;
mod mariadb;
mod openfga;
mod place;
mod ports;
mod postgres;
mod probe;
mod process;
pub mod tools;
mod workdir;

pub use group::Group;
pub use kafka::Kafka;
pub use mariadb::MariaDb;
pub use openfga::OpenFga;
pub use ports::free_port;
pub use postgres::{Postgres, sql};
pub use probe::Probe;
pub use process::{Process, Signal};
pub use workdir::Workdir;
