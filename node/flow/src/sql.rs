//! Flows in PostgreSQL, MySQL, MariaDB and SQLite: the SQL is the same, and what is not is in the dialect. The tables are
//! in `migrations/`, beside the datastore's, and are made with them.
//!
//! Rows are handed over as one JSON text, which each engine reads as a table: one statement of a constant text for however
//! many rows there are.

mod dialect;
mod error;
mod read;
mod sessions;
mod write;

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::any::{Any, AnyConnectOptions, AnyPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, SqlSafeStr, Transaction};
use tokio::time::timeout_at;

use crate::ports::{RepositoryError, Result};
use dialect::Dialect;
use error::classify;

/// Connections at most: one writes, the others answer questions.
const CONNECTIONS: u32 = 4;
/// How long a connection that is not used is kept.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// Flows in an SQL database. Clones share its connections.
#[derive(Clone)]
pub struct SqlFlows {
    dialect: &'static Dialect,
    pool: sqlx::Pool<Any>,
}

/// Why a URL is of no use.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUrl {
    /// No adapter answers to it.
    #[error(
        "unknown scheme '{0}'; use sqlite:///path/file.db, postgres://user:password@host/database or mysql://user:password@host/database"
    )]
    Scheme(String),
    /// The rest of it cannot be read. What the driver says is left out: it may show a password.
    #[error("it cannot be read as a {0} URL")]
    Rest(String),
}

impl SqlFlows {
    /// Flows at a `sqlite:`, `postgres:` or `mysql:` URL, within a Tokio runtime. Connections are made as they are needed.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn connect_lazy(url: &str) -> std::result::Result<Self, InvalidUrl> {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        let dialect = Dialect::of(scheme).ok_or_else(|| InvalidUrl::Scheme(scheme.to_owned()))?;
        sqlx::any::install_default_drivers();
        let options = AnyConnectOptions::from_str(url)
            .map_err(|_| InvalidUrl::Rest(scheme.to_owned()))?
            .disable_statement_logging();
        let on_connect: Arc<str> = dialect.on_connect.into();
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .idle_timeout(IDLE)
            .after_connect(move |connection, _| {
                let on_connect = AssertSqlSafe(Arc::clone(&on_connect)).into_sql_str();
                Box::pin(async move { connection.execute(on_connect).await.map(drop) })
            })
            .connect_lazy_with(options);
        Ok(Self { dialect, pool })
    }

    async fn writing(&self) -> sqlx::Result<Transaction<'static, Any>> {
        self.pool.begin_with(self.dialect.begin).await
    }
}

/// Bounds a call by its deadline.
async fn within<T>(deadline: Instant, call: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    timeout_at(deadline.into(), call)
        .await
        .map_err(|_| RepositoryError::DeadlineExceeded)?
        .map_err(classify)
}
