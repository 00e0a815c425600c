//! What is asked of the database, and what is done to many flows at once.

use std::time::Instant;

use async_trait::async_trait;
use meridian_model::{StoreId, Timestamp};
use sqlx::Connection as _;
use sqlx::any::AnyRow;

use super::rows::{flow, parsed, step, whole_steps};
use super::statement::Statement;
use super::{SqlFlows, within};
use crate::flow::{Flow, FlowId, FlowStatus, Step};
use crate::ports::{
    Activity, Counted, FlowFilter, FlowPage, FlowRepository, FlowStats, FlowStepRepository, Result,
};
use crate::recorder::{Overrides, OverridesChange};

/// Behind a flow's id.
const FLOW: &str = "f.started_at, f.completed_at, f.duration_micros, f.kind, f.status, f.allowed, f.store_id, f.client_id, \
                    f.grant_type, f.user_id, f.ip, f.user_agent, f.operation, f.object, f.relation, f.subject, f.revision, \
                    f.model_id, f.served_by, f.explanation FROM flows f";

/// Flows in the order of their ids.
const BY_ID: (&str, &str) = ("flows", "id");

impl SqlFlows {
    pub(super) fn statement(&self, text: impl Into<String>) -> Statement {
        Statement::new(self.dialect, text)
    }

    pub(super) fn flows(&self) -> Statement {
        let id = (self.dialect.id_text)("f.id");
        self.statement(format!("SELECT {id} AS id, {FLOW}"))
    }

    pub(super) async fn rows<T>(
        &self,
        statement: Statement,
        deadline: Instant,
        read: fn(&AnyRow) -> sqlx::Result<T>,
    ) -> Result<Vec<T>> {
        within(deadline, async {
            let mut connection = self.connection(&self.asking, deadline).await?;
            let rows = statement.query().fetch_all(&mut *connection).await?;
            rows.iter().map(read).collect()
        })
        .await
    }

    pub(super) async fn change(&self, statement: Statement, deadline: Instant) -> Result<u64> {
        within(deadline, async {
            let mut connection = self.connection(&self.asking, deadline).await?;
            let mut tx = connection.begin_with(self.dialect.begin).await?;
            let done = statement.query().execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(done.rows_affected())
        })
        .await
    }
}

#[async_trait]
impl FlowRepository for SqlFlows {
    async fn get_flows(
        &self,
        store: StoreId,
        filter: &FlowFilter,
        before: Option<FlowId>,
        limit: u32,
        deadline: Instant,
    ) -> Result<FlowPage> {
        self.page(store, filter, before, limit, deadline).await
    }

    async fn get_flow_by_id(
        &self,
        store: StoreId,
        id: FlowId,
        deadline: Instant,
    ) -> Result<Option<Flow>> {
        let mut select = self.flows();
        select.push(" WHERE f.id = ").id(id);
        select.push(" AND f.store_id = ").text(store.as_str());
        let found = self.rows(select, deadline, flow).await?;
        Ok(self.known(found.into_iter().map(|(_, flow)| flow)).pop())
    }

    async fn count_flows(
        &self,
        store: StoreId,
        filter: &FlowFilter,
        deadline: Instant,
    ) -> Result<Counted> {
        self.count(store, filter, deadline).await
    }

    async fn purge_old_flows(
        &self,
        store: StoreId,
        older_than: Timestamp,
        limit: u32,
        deadline: Instant,
    ) -> Result<u64> {
        let mut delete = self.statement("DELETE FROM flows");
        delete.some_rows(BY_ID, limit, |old| {
            old.push("store_id = ").text(store.as_str());
            old.push(" AND id < ").id(FlowId::first_at(older_than));
        });
        self.change(delete, deadline).await
    }

    async fn has_older(
        &self,
        store: StoreId,
        older_than: Timestamp,
        deadline: Instant,
    ) -> Result<bool> {
        let mut select = self.statement("SELECT f.store_id FROM flows f WHERE f.store_id = ");
        select.text(store.as_str());
        select.push(" AND f.id < ").id(FlowId::first_at(older_than));
        select.push(" LIMIT 1");
        let read = |row: &AnyRow| parsed::<StoreId>(row, "store_id");
        Ok(!self.rows(select, deadline, read).await?.is_empty())
    }

    async fn get_stats(
        &self,
        store: StoreId,
        from: Timestamp,
        to: Timestamp,
        deadline: Instant,
    ) -> Result<FlowStats> {
        self.stats(store, &FlowFilter::between(from, to), deadline)
            .await
    }

    async fn get_daily_activity(
        &self,
        store: StoreId,
        from: Timestamp,
        to: Timestamp,
        deadline: Instant,
    ) -> Result<Activity> {
        self.activity(store, &FlowFilter::between(from, to), deadline)
            .await
    }

    async fn expire_flows(
        &self,
        older_than: Timestamp,
        limit: u32,
        deadline: Instant,
    ) -> Result<u64> {
        let mut update = self.statement("UPDATE flows SET status = ");
        update.number(FlowStatus::Expired.number());
        update.some_rows(BY_ID, limit, |old| {
            old.push("status = ").number(FlowStatus::Pending.number());
            old.push(" AND id < ").id(FlowId::first_at(older_than));
        });
        self.change(update, deadline).await
    }

    async fn next_store(
        &self,
        after: Option<StoreId>,
        deadline: Instant,
    ) -> Result<Option<StoreId>> {
        let after = after.map_or(String::new(), |after| after.to_string());
        let mut select = self.statement(
            "SELECT store_id FROM (SELECT MIN(store_id) AS store_id FROM flows WHERE store_id > ",
        );
        select.text(after.clone());
        select.push(" UNION SELECT MIN(store_id) FROM live_sessions WHERE store_id > ");
        select.text(after);
        select.push(") s WHERE store_id IS NOT NULL ORDER BY store_id LIMIT 1");
        let read = |row: &AnyRow| parsed(row, "store_id");
        Ok(self.rows(select, deadline, read).await?.pop())
    }

    async fn get_overrides(&self, deadline: Instant) -> Result<Vec<(StoreId, Overrides)>> {
        self.overrides(None, deadline).await
    }

    async fn get_overrides_of(&self, store: StoreId, deadline: Instant) -> Result<Overrides> {
        let found = self.overrides(Some(store), deadline).await?;
        Ok(found.first().map(|(_, set)| *set).unwrap_or_default())
    }

    async fn change_overrides(
        &self,
        store: StoreId,
        change: &OverridesChange,
        deadline: Instant,
    ) -> Result<()> {
        self.set(store, change, deadline).await
    }

    async fn delete_overrides(&self, store: StoreId, deadline: Instant) -> Result<()> {
        self.unset(store, deadline).await
    }
}

#[async_trait]
impl FlowStepRepository for SqlFlows {
    async fn get_steps_for_flow(&self, flow: FlowId, deadline: Instant) -> Result<Vec<Step>> {
        let id = (self.dialect.id_text)("flow_id");
        let mut select = self.statement(format!(
            "SELECT {id} AS flow_id, occurred_at, duration_micros, status, name, error_code, error_message \
             FROM flow_steps WHERE flow_id = "
        ));
        select.id(flow);
        let mut steps = self.rows(select, deadline, step).await?;
        let id = (self.dialect.id_text)("f.id");
        let mut select = self.statement(format!(
            "SELECT {id} AS id, f.started_at, f.steps FROM flows f WHERE f.id = "
        ));
        select.id(flow).push(" AND f.steps IS NOT NULL");
        steps.extend(
            self.rows(select, deadline, whole_steps)
                .await?
                .into_iter()
                .flatten(),
        );
        let mut steps = self.known(steps);
        steps.sort_by_key(|step| step.at);
        Ok(steps)
    }
}
