//! Which datastore, and how its connections are kept.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use meridian_model::ports::Datastore;

use crate::memory::MemoryDatastore;
use crate::sql::{Dialect, SqlDatastore};

/// How a datastore is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct DatastoreSettings {
    /// `memory:`, `sqlite:///path/file.db?mode=rwc`, `postgres://user:password@host:port/database` or
    /// `mysql://user:password@host:port/database` (MySQL and MariaDB).
    pub url: String,
    /// How connections are kept; without effect in memory.
    pub pool: PoolSettings,
}

impl fmt::Debug for DatastoreSettings {
    /// Leaves out everything of the URL but its scheme: the rest may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatastoreSettings")
            .field("scheme", &scheme(&self.url))
            .field("pool", &self.pool)
            .finish()
    }
}

/// A pool of database connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// Connections kept open even when idle.
    pub min_connections: u32,
    /// Connections at most; at least 1.
    pub max_connections: u32,
    /// Longest wait for a connection. A request's deadline may end it sooner.
    pub acquire_timeout: Duration,
    /// How long a connection beyond the minimum may be idle before it is closed.
    pub idle_timeout: Duration,
    /// How long a connection lives.
    pub max_lifetime: Duration,
    /// When the database itself gives a statement up, should its caller have gone away; SQLite never does.
    pub statement_timeout: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            min_connections: 10,
            max_connections: 100,
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10 * 60),
            max_lifetime: Duration::from_secs(30 * 60),
            statement_timeout: Duration::from_secs(60),
        }
    }
}

/// Why a datastore cannot be opened. No message holds a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No adapter answers to the URL's scheme.
    #[error(
        "unknown scheme '{0}'; use memory:, sqlite:///path/file.db?mode=rwc, postgres://user:password@host/database or mysql://user:password@host/database"
    )]
    UnknownScheme(String),
    /// A database that every connection would have for itself.
    #[error(
        "an in-memory SQLite database cannot be shared by a pool; use memory: or a file, like sqlite:///path/file.db?mode=rwc"
    )]
    PrivateDatabase,
    /// A file that nobody makes.
    #[error(
        "there is no SQLite file '{0}': put ?mode=rwc behind the URL to have it made, or name one that is there"
    )]
    NoFile(String),
    /// The scheme is known and the rest is not.
    #[error("it cannot be read as a {scheme} URL: {why}")]
    InvalidUrl {
        /// The scheme.
        scheme: String,
        /// What the driver says.
        why: String,
    },
    /// No connection is allowed.
    #[error("datastore pool: max_connections is 0; it must be at least 1")]
    NoConnections,
}

/// Opens the datastore that the URL's scheme names. Nothing is connected yet: an unreachable database shows in the first
/// call, and goes away once it is reachable.
///
/// # Errors
/// [`OpenError`] when the settings cannot be used.
pub fn open(settings: &DatastoreSettings) -> Result<Arc<dyn Datastore>, OpenError> {
    match scheme(&settings.url) {
        "memory" => Ok(Arc::new(MemoryDatastore::new())),
        _ => Ok(Arc::new(SqlDatastore::connect_lazy(
            &settings.url,
            &settings.pool,
        )?)),
    }
}

/// Says what is wrong with a datastore's URL, without opening it.
///
/// # Errors
/// As [`open`].
pub fn check_url(url: &str) -> Result<(), OpenError> {
    match scheme(url) {
        "memory" => Ok(()),
        _ => Dialect::of(url).map(drop),
    }
}

/// What stands before the URL's first colon; empty without one.
pub(crate) fn scheme(url: &str) -> &str {
    url.split_once(':').map_or("", |(scheme, _)| scheme)
}
