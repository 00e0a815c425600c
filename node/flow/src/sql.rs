//! Flows in PostgreSQL, MySQL, MariaDB and SQLite: the SQL is the same, and what is not is in the dialect. The tables are
//! in `migrations/`, beside the datastore's, and are made with them.
//!
//! Rows are handed over as one JSON text, which each engine reads as a table: one statement of a constant text for however
//! many rows there are.

mod dialect;
mod error;
mod reaching;
mod read;
mod rows;
mod scan;
mod sessions;
mod settings;
mod statement;
mod whole;
mod write;

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::any::{Any, AnyConnectOptions, AnyPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Pool};
use tokio::sync::Mutex;
use tokio::time::timeout_at;

use crate::ports::{RepositoryError, Result};
use crate::warning::Warning;
use dialect::Dialect;
use error::classify;
pub use scan::Scanning;

/// Connections at most of those that write what was recorded. No question ever holds one of them.
const SINK: u32 = 2;
/// And of those that answer questions, and look after old flows.
const ASKING: u32 = 4;
/// The least that a statement may take: none means without end to some engines.
const SHORTEST: Duration = Duration::from_millis(1);
/// How long a connection that is not used is kept.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// Flows in an SQL database. Clones share its connections.
#[derive(Clone)]
pub struct SqlFlows {
    dialect: &'static Dialect,
    sink: Pool<Any>,
    asking: Pool<Any>,
    scanning: Scanning,
    /// Held by who finds out why there is no connection.
    reaching: Arc<Mutex<()>>,
    /// That there is what this version does not know.
    unknown: Arc<Warning>,
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
        let pool = |connections| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .idle_timeout(IDLE)
                .after_connect(move |connection, _| {
                    Box::pin(async move { connection.execute(dialect.on_connect).await.map(drop) })
                })
                .connect_lazy_with(options.clone())
        };
        Ok(Self {
            dialect,
            sink: pool(SINK),
            asking: pool(ASKING),
            scanning: Scanning::default(),
            reaching: Arc::default(),
            unknown: Arc::new(Warning::new()),
        })
    }

    /// The same, where a question goes as far as `scanning` says.
    #[must_use]
    pub fn scanning(mut self, scanning: Scanning) -> Self {
        self.scanning = scanning;
        self
    }

    /// What was read without what this version does not know: a newer one wrote it, as while nodes are being replaced. It is
    /// left out of what is told, for the rest is of use without it, and of that one is told once in a while.
    fn known<T>(&self, read: impl IntoIterator<Item = Option<T>>) -> Vec<T> {
        let known = read.into_iter().inspect(|one| {
            if one.is_none()
                && let Some(times) = self.unknown.reason()
            {
                tracing::warn!(
                    times,
                    "left out flows or steps of a kind or status that this version does not know"
                );
            }
        });
        known.flatten().collect()
    }

    /// A connection whose statements end by themselves at about the deadline: one that was only given up here would hold
    /// its connection until it is done.
    async fn connection(
        &self,
        pool: &Pool<Any>,
        deadline: Instant,
    ) -> sqlx::Result<PoolConnection<Any>> {
        let mut connection = reaching::connection(pool, &self.reaching).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = (self.dialect.limit)(left.max(SHORTEST));
        connection.execute(AssertSqlSafe(limit)).await?;
        Ok(connection)
    }
}

/// Bounds a call by its deadline.
async fn within<T>(deadline: Instant, call: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    timeout_at(deadline.into(), call)
        .await
        .map_err(|_| RepositoryError::DeadlineExceeded)?
        .map_err(classify)
}
