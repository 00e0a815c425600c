//! Connections, and the deadline that bounds all that is done with one.

mod measured;
mod watch;

use std::future::Future;
use std::io;
use std::ops::{ControlFlow, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use meridian_model::ports::{Connections, DatastoreError, Result};
use sqlx::any::{Any, AnyConnectOptions, AnyPoolOptions, AnyRow};
use sqlx::pool::{MaybePoolConnection, PoolConnection};
use sqlx::{AnyConnection, AssertSqlSafe, Executor, SqlSafeStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use super::dialect::Dialect;
use super::error::{classify, is_full};
use super::statement::Statement;
use crate::history::check_deadline;
use crate::settings::PoolSettings;
use watch::Watch;

/// A pool that tells "all connections are taken" from "none can be made".
///
/// sqlx reports both as a timeout, since it retries a refused connection until then. So a permit stands for each
/// connection: whoever waits for a permit waits for other callers, whoever has one and waits on waits for the database.
#[derive(Clone)]
pub(crate) struct Pool {
    dialect: &'static Dialect,
    connections: sqlx::Pool<Any>,
    permits: Arc<Semaphore>,
    /// Beside a permit of the above: what reads a whole store has one of these too.
    bulk: Arc<Semaphore>,
    /// Whether a wait that was long enough to tell found no database, and none has been found since.
    is_away: Arc<AtomicBool>,
    waits: Arc<Waits>,
    settings: PoolSettings,
}

/// How often somebody had to wait for a connection, and how long in all, in microseconds.
#[derive(Default)]
struct Waits {
    count: AtomicU64,
    micros: AtomicU64,
}

/// Of this many connections one may be held by what reads a whole store.
const BULK_SHARE: u32 = 4;

/// Who waited in vain for less than this, because the request's time ended, has learned nothing about the database.
const TELLING_WAIT: Duration = Duration::from_secs(1);

/// A connection on its own.
pub(crate) type Reading = Session<PoolConnection<Any>>;
/// A connection in a transaction, which is rolled back unless committed.
pub(crate) type Transaction = Session<sqlx::Transaction<'static, Any>>;

/// A connection with the deadline of the call it serves.
pub(crate) struct Session<C> {
    // Before the permit, so that it is dropped first.
    connection: C,
    dialect: &'static Dialect,
    deadline: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn connect_lazy(
        options: AnyConnectOptions,
        dialect: &'static Dialect,
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
        let permits = |count: u32| Arc::new(Semaphore::new(count as usize));
        Self {
            dialect,
            connections,
            permits: permits(settings.max_connections),
            bulk: permits((settings.max_connections / BULK_SHARE).max(1)),
            is_away: Arc::default(),
            waits: Arc::default(),
            settings,
        }
    }

    /// How its connections stand.
    pub(crate) fn status(&self) -> Connections {
        let max = self.settings.max_connections;
        let free = u32::try_from(self.permits.available_permits()).unwrap_or(max);
        Connections {
            max,
            open: self.connections.size(),
            in_use: max.saturating_sub(free),
            waits: self.waits.count.load(Ordering::Relaxed),
            waited: Duration::from_micros(self.waits.micros.load(Ordering::Relaxed)),
        }
    }

    /// Says where the database should have been, and nothing secret; or only that `deadline` was too soon to tell.
    fn unreachable(&self, since: Instant, deadline: Instant) -> DatastoreError {
        let is_telling = Instant::now() < deadline || since.elapsed() >= TELLING_WAIT;
        if !self.is_away.fetch_or(is_telling, Ordering::Relaxed) && !is_telling {
            return DatastoreError::DeadlineExceeded;
        }
        let options = self.connections.connect_options();
        let url = &options.database_url;
        let (host, port) = (url.host_str().unwrap_or_default(), url.port());
        let place = match port {
            Some(port) => format!("{host}:{port}"),
            None if host.is_empty() => url.path().to_owned(),
            None => host.to_owned(),
        };
        let message = format!(
            "no connection to {place} could be made within {:?}",
            since.elapsed()
        );
        DatastoreError::Unavailable(Arc::new(io::Error::new(io::ErrorKind::TimedOut, message)))
    }

    /// A connection for single statements.
    pub(crate) async fn reading(&self, deadline: Instant) -> Result<Reading> {
        check_deadline(deadline)?;
        let started = Instant::now();
        let until = deadline.min(started + self.settings.acquire_timeout);
        let permit = self
            .permit(&self.permits, self.settings.max_connections, deadline)
            .await?;
        let connection = match timeout_at(until.into(), self.connections.acquire()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => {
                return Err(self.unreachable(started, deadline));
            }
            Ok(Err(error)) if is_full(&error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the database has no connection left"
                );
                return Err(DatastoreError::Exhausted {
                    max: self.settings.max_connections,
                    waited: started.elapsed(),
                });
            }
            Ok(Err(error)) => return Err(classify(error)),
        };
        self.is_away.store(false, Ordering::Relaxed);
        Ok(Session {
            connection,
            dialect: self.dialect,
            deadline,
            _permit: permit,
        })
    }

    /// A place among those who read a whole store; to be had before their connection, and to be kept as long.
    ///
    /// # Errors
    /// As for a connection.
    pub(crate) async fn bulk(&self, deadline: Instant) -> Result<OwnedSemaphorePermit> {
        check_deadline(deadline)?;
        let share = (self.settings.max_connections / BULK_SHARE).max(1);
        self.permit(&self.bulk, share, deadline).await
    }

    async fn permit(
        &self,
        of: &Arc<Semaphore>,
        max: u32,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(of).try_acquire_owned() {
            return Ok(permit);
        }
        let started = Instant::now();
        let until = deadline.min(started + self.settings.acquire_timeout);
        let permit = timeout_at(until.into(), Arc::clone(of).acquire_owned()).await;
        self.waits.add(started.elapsed());
        match permit {
            Ok(permit) => permit.map_err(|closed| DatastoreError::Unavailable(Arc::new(closed))),
            Err(_) if until == deadline => Err(DatastoreError::DeadlineExceeded),
            Err(_) => Err(DatastoreError::Exhausted {
                max,
                waited: started.elapsed(),
            }),
        }
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
            dialect: self.dialect,
            deadline,
            _permit,
        })
    }
}

impl Waits {
    fn add(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
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

impl<C> Session<C> {
    /// How the database says things.
    pub(crate) fn dialect(&self) -> &'static Dialect {
        self.dialect
    }

    /// Another deadline for what is done from now on.
    pub(crate) fn extend(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }
}

impl<C: DerefMut<Target = AnyConnection>> Session<C> {
    /// All rows.
    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<AnyRow>> {
        let (deadline, _watch) = (self.deadline, Watch::new(&statement));
        within(
            deadline,
            statement
                .into_query(self.dialect)
                .fetch_all(&mut *self.connection),
        )
        .await
    }

    /// One row after the other, until `take` says that it is enough. What it does not want is never held here.
    pub(crate) async fn each(
        &mut self,
        statement: Statement,
        mut take: impl FnMut(AnyRow) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let (deadline, _watch) = (self.deadline, Watch::of_many(&statement));
        let mut rows = statement
            .into_query(self.dialect)
            .fetch(&mut *self.connection);
        while let Some(row) = within(deadline, rows.try_next()).await? {
            if take(row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The first row, if any.
    pub(crate) async fn row(&mut self, statement: Statement) -> Result<Option<AnyRow>> {
        let (deadline, _watch) = (self.deadline, Watch::new(&statement));
        within(
            deadline,
            statement
                .into_query(self.dialect)
                .fetch_optional(&mut *self.connection),
        )
        .await
    }

    /// How many rows were affected.
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<u64> {
        let (deadline, _watch) = (self.deadline, Watch::new(&statement));
        let done = within(
            deadline,
            statement
                .into_query(self.dialect)
                .execute(&mut *self.connection),
        )
        .await;
        Ok(done?.rows_affected())
    }
}

impl Transaction {
    /// Commits. When the deadline passes first, the commit may have happened all the same.
    pub(crate) async fn commit(self) -> Result<()> {
        within(self.deadline, self.connection.commit()).await
    }
}
