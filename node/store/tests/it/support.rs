//! Datastores to test, and short ways to say what is in them. Shared with the crate's unit tests.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each of the two test binaries uses a part"
)]

use std::env;
use std::future::Future;
use std::panic;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use meridian_model::ports::Datastore;
use meridian_model::{AuthorizationModel, ModelId, StoreId, Timestamp, Tuple, TupleKey};
use meridian_store::memory::MemoryDatastore;
use meridian_store::sql::SqlDatastore;
use meridian_store::{PoolSettings, open};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection};
use tokio::task::JoinError;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A number no other test has, in this run or another.
pub fn unique() -> String {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    format!(
        "{}_{nanos}_{}",
        process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    )
}

/// Far enough to be no concern.
pub fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

pub fn pool() -> PoolSettings {
    PoolSettings {
        min_connections: 0,
        max_connections: 8,
        ..PoolSettings::default()
    }
}

/// A store id; the number tells ids apart and orders them.
pub fn store_id(number: u32) -> StoreId {
    format!("01ARZ3NDEKTSV4RRFF{number:08}").parse().unwrap()
}

/// A model id; the number tells ids apart and orders them.
pub fn model_id(number: u32) -> ModelId {
    format!("01ARZ3NDEKTSV4RRFF{number:08}").parse().unwrap()
}

pub fn model(schema_version: &str) -> AuthorizationModel {
    AuthorizationModel {
        schema_version: schema_version.to_owned(),
        ..AuthorizationModel::default()
    }
}

/// `repo:core#admin@user:anne`
pub fn key(text: &str) -> TupleKey {
    let (set, user) = text.split_once('@').unwrap();
    let (object, relation) = set.split_once('#').unwrap();
    TupleKey::parse(object, relation, user).unwrap()
}

pub fn tuple(text: &str) -> Tuple {
    Tuple {
        key: key(text),
        condition: None,
        timestamp: Timestamp(0),
    }
}

pub fn tuples(texts: &[&str]) -> Vec<Tuple> {
    texts.iter().map(|text| tuple(text)).collect()
}

pub fn keys(tuples: &[Tuple]) -> Vec<String> {
    tuples.iter().map(|tuple| tuple.key.to_string()).collect()
}

pub async fn in_memory<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Arc<dyn Datastore>) -> F,
) {
    test(Arc::new(MemoryDatastore::new())).await;
}

pub async fn in_sqlite<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Arc<dyn Datastore>) -> F,
) {
    with_sqlite(|db, _| test(Arc::new(db))).await;
}

pub async fn in_postgres<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Arc<dyn Datastore>) -> F,
) {
    with_postgres(|db, _| test(Arc::new(db))).await;
}

pub async fn in_mysql<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Arc<dyn Datastore>) -> F,
) {
    with_mysql(|db, _| test(Arc::new(db))).await;
}

/// A new database file, which is gone afterwards.
pub async fn with_sqlite<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(SqlDatastore, String) -> F,
) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!(
        "sqlite://{}?mode=rwc",
        folder.path().join("test.db").display()
    );
    let db = SqlDatastore::connect_lazy(&url, &pool()).unwrap();
    db.migrate().await.unwrap();
    test(db, url).await;
}

/// A new database in PostgreSQL, which is dropped afterwards, also when the test fails.
pub async fn with_postgres<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(SqlDatastore, String) -> F,
) {
    let server = server("MERIDIAN_TEST_POSTGRES");
    let mut admin = PgConnection::connect(&server).await.unwrap();
    let name = database();
    admin
        .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .await
        .unwrap();
    let tested = tested(at_database(&server, &name), test).await;
    admin
        .execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)")))
        .await
        .unwrap();
    resume(tested);
}

/// A new database in MySQL or MariaDB, which is dropped afterwards, also when the test fails.
pub async fn with_mysql<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(SqlDatastore, String) -> F,
) {
    let server = server("MERIDIAN_TEST_MYSQL");
    let mut admin = MySqlConnection::connect(&server).await.unwrap();
    let name = database();
    // Whatever the server's own collation: ours does not depend on it.
    let create = format!("CREATE DATABASE {name} CHARACTER SET latin1");
    admin.execute(AssertSqlSafe(create)).await.unwrap();
    let tested = tested(at_database(&server, &name), test).await;
    admin
        .execute(AssertSqlSafe(format!("DROP DATABASE {name}")))
        .await
        .unwrap();
    resume(tested);
}

fn server(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("set {variable} or run `cargo xtask test`"))
}

fn database() -> String {
    format!("meridian_test_{}", unique())
}

/// Whether a test in a new database passed; a task of its own, for the database to be dropped in any case.
async fn tested<F: Future<Output = ()> + Send + 'static>(
    url: String,
    test: impl FnOnce(SqlDatastore, String) -> F,
) -> Result<(), JoinError> {
    let db = SqlDatastore::connect_lazy(&url, &pool()).unwrap();
    match db.migrate().await {
        Ok(()) => tokio::spawn(test(db, url)).await,
        Err(error) => tokio::spawn(async move { panic!("{error:?}") }).await,
    }
}

fn resume(tested: Result<(), JoinError>) {
    if let Err(failed) = tested {
        panic::resume_unwind(failed.into_panic());
    }
}

fn at_database(server: &str, name: &str) -> String {
    let (base, query) = server
        .split_once('?')
        .map_or((server, String::new()), |(base, query)| {
            (base, format!("?{query}"))
        });
    let authority_end = base.find("://").unwrap() + 3;
    let end = base[authority_end..]
        .find('/')
        .map_or(base.len(), |slash| authority_end + slash);
    format!("{}/{name}{query}", &base[..end])
}

/// A datastore by its settings, as the server opens it.
pub fn opened(url: &str) -> Arc<dyn Datastore> {
    open(&meridian_store::DatastoreSettings {
        url: url.to_owned(),
        pool: pool(),
    })
    .unwrap()
}
