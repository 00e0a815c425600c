//! Connections, and the deadline that bounds all that is done with one.

use std::future::Future;
use std::io;
use std::ops::DerefMut;
use std::sync::Arc;
use std::time::Instant;

use meridian_model::ports::{DatastoreError, Result};
use sqlx::any::{Any, AnyConnectOptions, AnyPoolOptions, AnyRow};
use sqlx::pool::{MaybePoolConnection, PoolConnection};
use sqlx::{AnyConnection, AssertSqlSafe, Executor, SqlSafeStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use super::dialect::Dialect;
use super::error::classify;
use super::statement::Statement;
use crate::history::check_deadline;
use crate::settings::PoolSettings;

/// A pool that tells "all connections are taken" from "none can be made".
///
/// sqlx reports both as a timeout, since it retries a refused connection until then. So a permit stands for each
/// connection: whoever waits for a permit waits for other callers, whoever has one and waits on waits for the database.
#[derive(Clone)]
pub(crate) struct Pool {
    connections: sqlx::Pool<Any>,
    permits: Arc<Semaphore>,
    settings: PoolSettings,
}

/// A connection on its own.
pub(crate) type Reading = Session<PoolConnection<Any>>;
/// A connection in a transaction, which is rolled back unless committed.
pub(crate) type Transaction = Session<sqlx::Transaction<'static, Any>>;

/// A connection with the deadline of the call it serves.
pub(crate) struct Session<C> {
    // Before the permit, so that it is dropped first.
    connection: C,
    deadline: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn connect_lazy(
        options: AnyConnectOptions,
        dialect: &Dialect,
        settings: PoolSettings,
    ) -> Self {
        let on_connect: Arc<str> = (dialect.on_connect)(&settings).into();
        let connections = AnyPoolOptions::new()
            .min_connections(settings.min_connections.min(settings.max_connections))
            .max_connections(settings.max_connections)
            .acquire_timeout(settings.acquire_timeout)
            .idle_timeout(settings.idle_timeout)
            .max_lifetime(settings.max_lifetime)
            .after_connect(move |connection, _| {
                let on_connect = AssertSqlSafe(Arc::clone(&on_connect)).into_sql_str();
                Box::pin(async move { connection.execute(on_connect).await.map(drop) })
            })
            .connect_lazy_with(options);
        let permits = Arc::new(Semaphore::new(settings.max_connections as usize));
        Self {
            connections,
            permits,
            settings,
        }
    }

    /// A connection for single statements.
    pub(crate) async fn reading(&self, deadline: Instant) -> Result<Reading> {
        check_deadline(deadline)?;
        let started = Instant::now();
        let until = deadline.min(started + self.settings.acquire_timeout);
        let permit = match timeout_at(until.into(), Arc::clone(&self.permits).acquire_owned()).await
        {
            Ok(permit) => permit.map_err(|closed| DatastoreError::Unavailable(Box::new(closed)))?,
            Err(_) if until == deadline => return Err(DatastoreError::DeadlineExceeded),
            Err(_) => {
                return Err(DatastoreError::Exhausted {
                    max: self.settings.max_connections,
                    waited: started.elapsed(),
                });
            }
        };
        let connection = match timeout_at(until.into(), self.connections.acquire()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => {
                return Err(unreachable_database(started));
            }
            Ok(Err(error)) => return Err(classify(error)),
        };
        Ok(Session {
            connection,
            deadline,
            _permit: permit,
        })
    }

    /// A connection in a transaction that `begin` begins.
    pub(crate) async fn transaction(
        &self,
        begin: &'static str,
        deadline: Instant,
    ) -> Result<Transaction> {
        let Session {
            connection,
            _permit,
            ..
        } = self.reading(deadline).await?;
        let begun = sqlx::Transaction::begin(
            MaybePoolConnection::PoolConnection(connection),
            Some(begin.into_sql_str()),
        );
        let connection = within(deadline, begun).await?;
        Ok(Session {
            connection,
            deadline,
            _permit,
        })
    }
}

fn unreachable_database(since: Instant) -> DatastoreError {
    let message = format!("no connection could be made within {:?}", since.elapsed());
    DatastoreError::Unavailable(Box::new(io::Error::new(io::ErrorKind::TimedOut, message)))
}

/// Bounds a call to the database by a deadline.
pub(crate) async fn within<T>(
    deadline: Instant,
    call: impl Future<Output = sqlx::Result<T>>,
) -> Result<T> {
    timeout_at(deadline.into(), call)
        .await
        .map_err(|_| DatastoreError::DeadlineExceeded)?
        .map_err(classify)
}

impl<C: DerefMut<Target = AnyConnection>> Session<C> {
    /// All rows.
    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<AnyRow>> {
        within(
            self.deadline,
            statement.into_query().fetch_all(&mut *self.connection),
        )
        .await
    }

    /// The first row, if any.
    pub(crate) async fn row(&mut self, statement: Statement) -> Result<Option<AnyRow>> {
        within(
            self.deadline,
            statement.into_query().fetch_optional(&mut *self.connection),
        )
        .await
    }

    /// How many rows were affected.
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<u64> {
        Ok(within(
            self.deadline,
            statement.into_query().execute(&mut *self.connection),
        )
        .await?
        .rows_affected())
    }
}

impl Transaction {
    /// Commits. When the deadline passes first, the commit may have happened all the same.
    pub(crate) async fn commit(self) -> Result<()> {
        within(self.deadline, self.connection.commit()).await
    }
}
