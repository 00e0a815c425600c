//! Databases to test, and short ways to say what is in them.

use std::collections::VecDeque;
use std::env;
use std::io;
use std::panic;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use meridian_flow::memory::MemoryFlows;
use meridian_flow::ports::Stores;
use meridian_flow::sql::SqlFlows;
use meridian_flow::{
    Asked, Completion, Flow, FlowId, FlowKind, FlowStatus, Recorded, Repository, RepositoryError,
    Row, Sink, Step, StepStatus,
};
use meridian_model::{StoreId, Timestamp};
use meridian_store::{DatastoreSettings, PoolSettings, open};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection};
use tokio::sync::Semaphore;

/// A time that tests go from: 2025-11-24T16:00:00.000001Z.
pub(crate) const NOW: i64 = 1_764_000_000_000_001;

static COUNTER: AtomicU64 = AtomicU64::new(0);

pub(crate) fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// The number tells ids apart and orders them.
pub(crate) fn store(number: u32) -> StoreId {
    format!("01ARZ3NDEKTSV4RRFF{number:08}").parse().unwrap()
}

/// A flow that began so many seconds after [`NOW`].
pub(crate) fn flow(store: StoreId, seconds: i64) -> Flow {
    let at = Timestamp(NOW + seconds * 1_000_000);
    Flow {
        client_id: Some("shop".to_owned()),
        grant_type: Some("oidc".to_owned()),
        ip: Some("2001:db8::1".parse().unwrap()),
        user_agent: Some("curl/8 'ü'".to_owned()),
        ..Flow::begun(store, FlowKind::Authentication, at)
    }
}

pub(crate) fn step(flow: FlowId, offset: i64, name: &str) -> Step {
    Step {
        flow,
        at: Timestamp(NOW + offset),
        name: name.to_owned(),
        status: StepStatus::Success,
        duration_micros: 1500,
        error_code: None,
        error_message: None,
    }
}

pub(crate) fn failed(step: Step, code: &str) -> Step {
    Step {
        status: StepStatus::Failure,
        error_code: Some(code.to_owned()),
        error_message: Some("it did not work: \"why\"".to_owned()),
        ..step
    }
}

pub(crate) fn end(flow: FlowId, status: FlowStatus) -> Completion {
    Completion {
        flow,
        status,
        at: Timestamp(NOW + 5_000),
        duration_micros: 5_000,
        user_id: Some("anne".to_owned()),
    }
}

/// A decision with as many steps.
pub(crate) fn decision(store: StoreId, seconds: i64, steps: i64) -> Recorded {
    let begun = flow(store, seconds);
    let flow = Flow {
        kind: FlowKind::Decision,
        status: FlowStatus::Success,
        completed_at: Some(Timestamp(begun.started_at.0 + 40)),
        duration_micros: Some(40),
        asked: Some(Box::new(Asked {
            operation: "Check".to_owned(),
            object: "document:plan".to_owned(),
            relation: "viewer".to_owned(),
            subject: "user:anne".to_owned(),
            allowed: Some(true),
            revision: Some("1.42".to_owned()),
            model: Some("01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned()),
            served_by: "central/one".to_owned(),
            explanation: Some(r#"{"allowed":true}"#.to_owned()),
        })),
        ..begun
    };
    let steps = (0..steps)
        .map(|number| {
            step(
                flow.id,
                number,
                ["validate", "cache", "evaluate", "read"][number as usize % 4],
            )
        })
        .collect();
    Recorded { flow, steps }
}

pub(crate) async fn in_memory<F: Future<Output = ()>>(test: impl FnOnce(Arc<dyn Repository>) -> F) {
    test(Arc::new(MemoryFlows::new())).await;
}

pub(crate) async fn in_sqlite<F: Future<Output = ()>>(test: impl FnOnce(Arc<dyn Repository>) -> F) {
    let folder = tempfile::tempdir().unwrap();
    test(Arc::new(migrated_sqlite(folder.path()).await)).await;
}

pub(crate) async fn migrated_sqlite(folder: &Path) -> SqlFlows {
    let url = format!("sqlite://{}?mode=rwc", folder.join("test.db").display());
    migrated(&url).await
}

pub(crate) async fn in_postgres<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Arc<dyn Repository>) -> F + Send + 'static,
) {
    with_postgres(|flows, _| test(flows)).await;
}

/// A new database in PostgreSQL, which is dropped afterwards, also when the test fails.
pub(crate) async fn with_postgres<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Arc<dyn Repository>, String) -> F + Send + 'static,
) {
    let server = server("MERIDIAN_TEST_POSTGRES");
    let mut admin = PgConnection::connect(&server).await.unwrap();
    let name = database();
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    admin.execute(create).await.unwrap();
    let url = at_database(&server, &name);
    let tested = tokio::spawn(async move { test(Arc::new(migrated(&url).await), url).await }).await;
    let drop = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
    admin.execute(drop).await.unwrap();
    if let Err(failed) = tested {
        panic::resume_unwind(failed.into_panic());
    }
}

pub(crate) async fn in_mysql<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Arc<dyn Repository>) -> F + Send + 'static,
) {
    with_mysql(|flows, _| test(flows)).await;
}

/// A new database in MySQL or MariaDB, which is dropped afterwards, also when the test fails.
pub(crate) async fn with_mysql<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Arc<dyn Repository>, String) -> F + Send + 'static,
) {
    let server = server("MERIDIAN_TEST_MYSQL");
    let mut admin = MySqlConnection::connect(&server).await.unwrap();
    let name = database();
    let create = AssertSqlSafe(format!("CREATE DATABASE {name} CHARACTER SET latin1"));
    admin.execute(create).await.unwrap();
    let url = at_database(&server, &name);
    let tested = tokio::spawn(async move { test(Arc::new(migrated(&url).await), url).await }).await;
    let drop = AssertSqlSafe(format!("DROP DATABASE {name}"));
    admin.execute(drop).await.unwrap();
    if let Err(failed) = tested {
        panic::resume_unwind(failed.into_panic());
    }
}

async fn migrated(url: &str) -> SqlFlows {
    let pool = PoolSettings {
        min_connections: 0,
        max_connections: 1,
        ..PoolSettings::default()
    };
    let settings = DatastoreSettings {
        url: url.to_owned(),
        pool,
    };
    open(&settings).unwrap().migrate().await.unwrap();
    SqlFlows::connect_lazy(url).unwrap()
}

fn server(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("set {variable} or run `cargo xtask test`"))
}

fn database() -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    format!("meridian_flow_{process}_{}_{number}", nanos.as_nanos())
}

fn at_database(server: &str, name: &str) -> String {
    let (base, query) = match server.split_once('?') {
        Some((base, query)) => (base, format!("?{query}")),
        None => (server, String::new()),
    };
    let authority = base.find("://").unwrap() + 3;
    let end = base[authority..].find('/');
    let end = end.map_or(base.len(), |slash| authority + slash);
    format!("{}/{name}{query}", &base[..end])
}

/// The stores that were deleted.
pub(crate) struct Deleted(pub(crate) Vec<StoreId>);

impl Deleted {
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }
}

#[async_trait]
impl Stores for Deleted {
    async fn is_deleted(&self, store: StoreId, _: Instant) -> bool {
        self.0.contains(&store)
    }
}

/// A sink that is told what to do with each write, and writes to memory.
pub(crate) struct Told {
    pub(crate) flows: MemoryFlows,
    /// What becomes of the next writes; all later ones succeed.
    pub(crate) next: Mutex<VecDeque<RepositoryError>>,
    /// How many rows each write that succeeded had.
    pub(crate) writes: Mutex<Vec<usize>>,
    /// A write takes one; without limit unless a test makes it so.
    pub(crate) gate: Semaphore,
    /// A flow that is refused.
    pub(crate) refused: Mutex<Option<FlowId>>,
    /// Flows with which no write ever gets an answer.
    pub(crate) stuck: Mutex<Vec<FlowId>>,
    /// Rows with which a write gets an answer, at most.
    pub(crate) most: AtomicUsize,
    /// Writes that were tried.
    pub(crate) tried: AtomicUsize,
}

impl Told {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            flows: MemoryFlows::new(),
            next: Mutex::default(),
            writes: Mutex::default(),
            gate: Semaphore::new(1 << 20),
            refused: Mutex::default(),
            stuck: Mutex::default(),
            most: AtomicUsize::new(usize::MAX),
            tried: AtomicUsize::new(0),
        })
    }

    /// The same, where every write waits until the gate is opened.
    pub(crate) fn shut() -> Arc<Self> {
        let told = Self::new();
        told.gate.forget_permits(1 << 20);
        told
    }

    pub(crate) fn fail(&self, times: usize, error: &RepositoryError) {
        let errors = std::iter::repeat_n(error.clone(), times);
        self.next.lock().unwrap().extend(errors);
    }
}

pub(crate) fn away() -> RepositoryError {
    RepositoryError::Unavailable(Arc::new(io::Error::other("it is away")))
}

#[async_trait]
impl Sink for Told {
    async fn write(&self, rows: &[Row], deadline: Instant) -> Result<Vec<FlowId>, RepositoryError> {
        self.gate.acquire().await.unwrap().forget();
        self.tried.fetch_add(1, Ordering::SeqCst);
        if let Some(error) = self.next.lock().unwrap().pop_front() {
            return Err(error);
        }
        let refused = *self.refused.lock().unwrap();
        if refused.is_some() && rows.iter().any(|row| row.flow() == refused) {
            let why = io::Error::other("a row is bad");
            return Err(RepositoryError::Rejected(Arc::new(why)));
        }
        let is_stuck = |row: &Row| {
            let flow = row.flow();
            flow.is_some_and(|flow| self.stuck.lock().unwrap().contains(&flow))
        };
        if rows.len() > self.most.load(Ordering::SeqCst) || rows.iter().any(is_stuck) {
            return Err(RepositoryError::DeadlineExceeded);
        }
        self.writes.lock().unwrap().push(rows.len());
        // The clock of a test may stand still, this one does not.
        let _ = deadline;
        self.flows.write(rows, self::deadline()).await
    }
}

/// Each test on every kind of database.
macro_rules! everywhere {
    ($($test:ident)+) => {$(
        mod $test {
            use super::*;

            #[tokio::test]
            async fn memory() {
                in_memory(super::$test).await;
            }

            #[tokio::test]
            async fn sqlite() {
                in_sqlite(super::$test).await;
            }

            #[tokio::test]
            async fn postgres() {
                in_postgres(super::$test).await;
            }

            #[tokio::test]
            async fn mysql() {
                in_mysql(super::$test).await;
            }
        }
    )+};
}
pub(crate) use everywhere;
