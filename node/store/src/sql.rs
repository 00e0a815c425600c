//! SQLite, PostgreSQL, MySQL and MariaDB through one adapter: the SQL is the same, and what is not is in the dialect.

mod assertions;
mod changelog;
mod dialect;
mod error;
mod lease;
mod pool;
mod read;
mod replace;
mod round;
mod rows;
mod snapshot;
mod statement;
mod statistics;
#[cfg(test)]
mod tests;
mod together;
mod tuples;
mod write;

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_model::AuthorizationModel;
use meridian_model::change::{ChangeSet, StoredModel, Tiers};
use meridian_model::ids::{Epoch, ModelId, Position, Revision, StoreId, Timestamp};
use meridian_model::ports::{
    Applied, ChangeCursor, Committed, Datastore, DatastoreError, OutboxRow, Page, Replacement,
    Result, Snapshot, StoreHead, StoreRecord, TupleChange, TupleFilter, WriteOptions,
};
use meridian_model::tuple::{Tuple, TupleKey};
use sqlx::any::AnyConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout_at;

use crate::history::page;
use crate::settings::{OpenError, PoolSettings};
pub(crate) use dialect::Dialect;
use error::{classify, classify_migration, corrupt};
use pool::{Pool, Transaction};
use statement::Statement;
use statistics::Statistics;
use together::Waiting;
use tuples::Wanted;

/// How long migrations may take: they may build indexes over all that is stored. Far longer than any does, since one that
/// is given up begins anew; its only use is that a connection is not waited on for ever that was lost without a word.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// A datastore in an SQL database. Clones share its connections.
#[derive(Clone)]
pub struct SqlDatastore {
    dialect: &'static Dialect,
    options: AnyConnectOptions,
    connect_timeout: Duration,
    readers: Pool,
    writers: Pool,
    statistics: Arc<Statistics>,
    waiting: Waiting,
}

impl SqlDatastore {
    /// A datastore at a `sqlite:`, `postgres:` or `mysql:` URL, within a Tokio runtime. Connections are made as they are needed.
    ///
    /// # Errors
    /// [`OpenError`] when URL or settings cannot be used.
    pub fn connect_lazy(
        url: &str,
        settings: &PoolSettings,
    ) -> std::result::Result<Self, OpenError> {
        let dialect = Dialect::of(url)?;
        if settings.max_connections == 0 {
            return Err(OpenError::NoConnections);
        }
        // What sqlx logs is the whole text of a statement; the pool logs slow ones by their beginning.
        let options = AnyConnectOptions::from_str(url)
            .map_err(|why| dialect::invalid(url, &why))?
            .disable_statement_logging();
        sqlx::any::install_default_drivers();
        let readers = Pool::connect_lazy(options.clone(), dialect, settings.clone());
        let writers = if dialect.single_writer {
            Pool::connect_lazy(
                options.clone(),
                dialect,
                PoolSettings {
                    min_connections: 1,
                    max_connections: 1,
                    ..settings.clone()
                },
            )
        } else {
            readers.clone()
        };
        Ok(Self {
            dialect,
            options,
            connect_timeout: settings.acquire_timeout,
            readers,
            writers,
            statistics: Arc::default(),
            waiting: Waiting::default(),
        })
    }

    async fn writing(&self, deadline: Instant) -> Result<Transaction> {
        self.writers
            .transaction(self.dialect.begin_write, deadline)
            .await
    }

    fn changed(&self, tuples: usize) {
        self.statistics
            .note(tuples, self.dialect.analyze, &self.readers);
    }

    /// A column of the one row about the datastore itself.
    async fn meta(&self, column: &'static str, deadline: Instant) -> Result<u64> {
        let select = Statement::new(format!("SELECT {column} FROM meta"));
        let row = self.readers.reading(deadline).await?.row(select).await?;
        rows::unsigned(
            &row.ok_or_else(|| corrupt("meta table", "it has no row"))?,
            column,
        )
    }

    async fn open_snapshot(
        &self,
        store: StoreId,
        bulk: Option<OwnedSemaphorePermit>,
        deadline: Instant,
    ) -> Result<Option<Box<dyn Snapshot>>> {
        let tx = self
            .readers
            .transaction(self.dialect.begin_snapshot, deadline)
            .await?;
        snapshot::open(tx, store, bulk).await
    }

    /// A transaction in which the store's next revision is numbered and its row locked.
    async fn revising(
        &self,
        store: StoreId,
        deadline: Instant,
    ) -> Result<(Transaction, ChangeSet)> {
        let mut tx = self.writing(deadline).await?;
        let revision = write::next_revisions(&mut tx, store, 1).await?;
        Ok((tx, revision))
    }
}

async fn commit(tx: Transaction, change_set: &ChangeSet) -> Result<Committed> {
    tx.commit().await?;
    Ok(committed(change_set))
}

fn committed(change_set: &ChangeSet) -> Committed {
    Committed {
        position: change_set.position(),
        at: change_set.committed_at,
    }
}

#[async_trait]
impl Datastore for SqlDatastore {
    async fn migrate(&self) -> Result<()> {
        // A connection of its own: the pool's give long statements up.
        let connect_until = Instant::now() + self.connect_timeout;
        let mut connection = pool::within(connect_until, self.options.connect()).await?;
        let until = Instant::now() + MIGRATION_TIMEOUT;
        if !self.dialect.lock_migrations.is_empty() {
            let lock = sqlx::query(self.dialect.lock_migrations).execute(&mut connection);
            pool::within(until, lock).await?;
        }
        // `Migrator::run` does the same, but is not general enough over lifetimes for an async trait.
        let run = timeout_at(
            until.into(),
            self.dialect
                .migrations
                .run_direct(None, &mut connection, false),
        )
        .await;
        run.map_err(|_| DatastoreError::DeadlineExceeded)?
            .map_err(classify_migration)?;
        connection.close().await.map_err(classify)
    }

    async fn epoch(&self, deadline: Instant) -> Result<Epoch> {
        self.meta("epoch", deadline).await.map(Epoch)
    }

    async fn now(&self, deadline: Instant) -> Result<Timestamp> {
        let select = Statement::new(format!("SELECT {} AS now", self.dialect.now));
        let row = self.readers.reading(deadline).await?.row(select).await?;
        rows::timestamp(
            &row.ok_or_else(|| corrupt("clock", "it gave no row"))?,
            "now",
        )
    }

    async fn create_store(
        &self,
        id: StoreId,
        name: &str,
        deadline: Instant,
    ) -> Result<StoreRecord> {
        let mut tx = self.writing(deadline).await?;
        let (created, info) = write::create_store(&mut tx, id, name).await?;
        let committed = commit(tx, &created).await?;
        Ok(StoreRecord {
            info,
            position: committed.position,
            deleted_at: None,
        })
    }

    async fn delete_store(&self, id: StoreId, deadline: Instant) -> Result<Option<Committed>> {
        let (mut tx, revision) = match self.revising(id, deadline).await {
            Err(DatastoreError::UnknownStore(_)) => return Ok(None),
            other => other?,
        };
        let deleted = write::delete_store(&mut tx, revision).await?;
        commit(tx, &deleted).await.map(Some)
    }

    async fn write_model(
        &self,
        store: StoreId,
        id: ModelId,
        model: &AuthorizationModel,
        deadline: Instant,
    ) -> Result<Committed> {
        let (mut tx, revision) = self.revising(store, deadline).await?;
        let written = write::write_model(
            &mut tx,
            revision,
            StoredModel {
                id,
                model: Arc::new(model.clone()),
            },
        )
        .await?;
        commit(tx, &written).await
    }

    async fn write_tuples(
        &self,
        store: StoreId,
        deletes: &[TupleKey],
        writes: &[Tuple],
        options: WriteOptions,
        deadline: Instant,
    ) -> Result<Option<Committed>> {
        let wanted = Wanted {
            deletes: deletes.to_vec(),
            writes: writes.to_vec(),
            options,
        };
        together::write_tuples(self, store, wanted, deadline).await
    }

    async fn assign_tiers(
        &self,
        store: StoreId,
        tiers: &Tiers,
        deadline: Instant,
    ) -> Result<Committed> {
        let (mut tx, revision) = self.revising(store, deadline).await?;
        let assigned = write::assign_tiers(&mut tx, revision, tiers).await?;
        commit(tx, &assigned).await
    }

    async fn write_assertions(
        &self,
        store: StoreId,
        model: ModelId,
        text: &str,
        deadline: Instant,
    ) -> Result<()> {
        let mut tx = self.writing(deadline).await?;
        assertions::write(&mut tx, store, model, text).await?;
        tx.commit().await
    }

    async fn apply(&self, change_sets: &[ChangeSet], deadline: Instant) -> Result<Applied> {
        let mut tx = self.writing(deadline).await?;
        let applied = write::apply(&mut tx, change_sets).await?;
        tx.commit().await?;
        self.changed(change_sets.iter().map(|set| set.changes.len()).sum());
        Ok(applied)
    }

    async fn replace(
        &self,
        head: &StoreHead,
        step: Duration,
    ) -> Result<Option<Box<dyn Replacement>>> {
        replace::begin(self, head, step).await
    }

    async fn generation(&self, deadline: Instant) -> Result<u64> {
        self.meta("generation", deadline).await
    }

    async fn store(&self, id: StoreId, deadline: Instant) -> Result<Option<StoreRecord>> {
        read::store(&mut self.readers.reading(deadline).await?, id).await
    }

    async fn stores(
        &self,
        name: Option<&str>,
        after: Option<StoreId>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page<StoreRecord, StoreId>> {
        let rows = read::stores(
            &mut self.readers.reading(deadline).await?,
            name,
            after,
            u64::from(limit) + 1,
        )
        .await?;
        Ok(page(rows, limit, |record| record.info.id))
    }

    async fn positions(&self, deadline: Instant) -> Result<Vec<(StoreId, Position)>> {
        read::positions(&mut self.readers.reading(deadline).await?).await
    }

    async fn positions_of(
        &self,
        stores: &[StoreId],
        deadline: Instant,
    ) -> Result<Vec<(StoreId, Position)>> {
        if stores.is_empty() {
            return Ok(Vec::new());
        }
        read::positions_of(&mut self.readers.reading(deadline).await?, stores).await
    }

    async fn model(
        &self,
        store: StoreId,
        id: ModelId,
        deadline: Instant,
    ) -> Result<Option<Arc<AuthorizationModel>>> {
        read::model_of(&mut self.readers.reading(deadline).await?, store, id).await
    }

    async fn latest_model(&self, store: StoreId, deadline: Instant) -> Result<Option<ModelId>> {
        read::latest_model(&mut self.readers.reading(deadline).await?, store).await
    }

    async fn read_assertions(
        &self,
        store: StoreId,
        model: ModelId,
        deadline: Instant,
    ) -> Result<Option<String>> {
        assertions::read(&mut self.readers.reading(deadline).await?, store, model).await
    }

    async fn models(
        &self,
        store: StoreId,
        before: Option<ModelId>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page<StoredModel, ModelId>> {
        let rows = read::models(
            &mut self.readers.reading(deadline).await?,
            store,
            before,
            Some(u64::from(limit) + 1),
        )
        .await?;
        Ok(page(rows, limit, |stored| stored.id))
    }

    async fn tuples(
        &self,
        store: StoreId,
        filter: &TupleFilter,
        after: Option<&TupleKey>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page<Tuple, TupleKey>> {
        let rows = read::tuples(
            &mut self.readers.reading(deadline).await?,
            store,
            filter,
            after,
            u64::from(limit) + 1,
        )
        .await?;
        Ok(page(rows, limit, |tuple| tuple.key.clone()))
    }

    async fn tuple_changes(
        &self,
        store: StoreId,
        object_type: Option<&str>,
        since: Option<Timestamp>,
        after: Option<ChangeCursor>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Vec<TupleChange>> {
        changelog::tuple_changes(
            &mut self.readers.reading(deadline).await?,
            store,
            object_type,
            since,
            after,
            limit,
        )
        .await
    }

    async fn oldest_change(
        &self,
        store: StoreId,
        deadline: Instant,
    ) -> Result<Option<(Revision, Timestamp)>> {
        changelog::oldest(&mut self.readers.reading(deadline).await?, store).await
    }

    async fn change_sets(
        &self,
        store: StoreId,
        after: Revision,
        limit: u32,
        deadline: Instant,
    ) -> Result<Vec<ChangeSet>> {
        changelog::change_sets(
            &mut self.readers.reading(deadline).await?,
            store,
            after,
            limit,
        )
        .await
    }

    async fn tiers(&self, store: StoreId, deadline: Instant) -> Result<Tiers> {
        read::tiers(&mut self.readers.reading(deadline).await?, store).await
    }

    async fn snapshot(
        &self,
        store: StoreId,
        deadline: Instant,
    ) -> Result<Option<Box<dyn Snapshot>>> {
        self.open_snapshot(store, None, deadline).await
    }

    async fn bulk_snapshot(
        &self,
        store: StoreId,
        deadline: Instant,
    ) -> Result<Option<Box<dyn Snapshot>>> {
        let bulk = self.readers.bulk(deadline).await?;
        self.open_snapshot(store, Some(bulk), deadline).await
    }

    async fn outbox(&self, limit: u32, deadline: Instant) -> Result<Vec<OutboxRow>> {
        changelog::outbox(&mut self.readers.reading(deadline).await?, limit).await
    }

    async fn outbox_delete(&self, sequences: &[u64], deadline: Instant) -> Result<()> {
        let mut db = self.writers.reading(deadline).await?;
        for chunk in sequences.chunks(1000) {
            let mut delete = Statement::new("DELETE FROM outbox WHERE sequence IN ");
            delete.tuple(chunk.iter().copied());
            db.execute(delete).await?;
        }
        Ok(())
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<bool> {
        let mut db = self.writers.reading(deadline).await?;
        lease::acquire(&mut db, name, holder, ttl).await
    }

    async fn trim_changes(&self, store: StoreId, upto: Revision, deadline: Instant) -> Result<()> {
        changelog::trim(&mut self.writers.reading(deadline).await?, store, upto).await
    }
}
