//! What is asked of the database, and what is done to many flows at once.

use std::str::FromStr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_model::{StoreId, Timestamp};
use sqlx::any::{Any, AnyArguments, AnyRow, AnyTypeInfoKind};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, Row as _, ValueRef as _};

use super::dialect::Dialect;
use super::{SqlFlows, within};
use crate::flow::{Asked, Flow, FlowId, FlowKind, FlowStatus, Step, StepStatus};
use crate::ports::{
    DAY, DayActivity, ERRORS, FlowCount, FlowFilter, FlowRepository, FlowStats, FlowStepRepository,
    Result,
};
use crate::recorder::{Overrides, micros};

/// Behind a flow's id.
const FLOW: &str = "f.started_at, f.completed_at, f.duration_micros, f.kind, f.status, f.allowed, f.store_id, f.client_id, \
                    f.grant_type, f.user_id, f.ip, f.user_agent, f.operation, f.object, f.relation, f.subject, f.revision, \
                    f.model_id, f.served_by, f.explanation FROM flows f";

/// Flows in the order of their ids.
const BY_ID: (&str, &str) = ("flows", "id");

/// A statement under construction. Text is only ever pushed from constants; everything else is bound.
pub(super) struct Statement {
    dialect: &'static Dialect,
    text: String,
    pub(super) values: Vec<Value>,
}

pub(super) enum Value {
    Text(String),
    Number(i64),
    Real(f64),
}

impl Statement {
    pub(super) fn new(dialect: &'static Dialect, text: impl Into<String>) -> Self {
        Self {
            dialect,
            text: text.into(),
            values: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    fn bind(&mut self, value: Value) -> &mut Self {
        self.values.push(value);
        if self.dialect.is_numbered {
            self.text.push_str(&format!("${}", self.values.len()));
        } else {
            self.text.push('?');
        }
        self
    }

    pub(super) fn text(&mut self, value: impl Into<String>) -> &mut Self {
        self.bind(Value::Text(value.into()))
    }

    pub(super) fn number(&mut self, value: i64) -> &mut Self {
        self.bind(Value::Number(value))
    }

    pub(super) fn id(&mut self, id: FlowId) -> &mut Self {
        let dialect = self.dialect;
        self.push(dialect.id_before)
            .text(id.to_string())
            .push(dialect.id_after)
    }

    /// A number, or null.
    fn some(&mut self, value: Option<Value>) -> &mut Self {
        match value {
            Some(value) => self.bind(value),
            None => self.push("NULL"),
        }
    }

    /// The flows of a store that a filter wants.
    fn wanted(&mut self, store: StoreId, filter: &FlowFilter) -> &mut Self {
        self.push(" WHERE f.store_id = ").text(store.as_str());
        if let Some(from) = filter.from {
            self.push(" AND f.id >= ").id(FlowId::first_at(from));
        }
        if let Some(to) = filter.to {
            self.push(" AND f.id < ").id(FlowId::first_at(to));
        }
        if let Some(client) = &filter.client_id {
            self.push(" AND f.client_id = ").text(client);
        }
        if let Some(user) = &filter.user {
            self.push(" AND (f.user_id = ").text(user);
            self.push(" OR f.subject = ").text(user).push(")");
        }
        if let Some(status) = filter.status {
            self.push(" AND f.status = ").number(status.number());
        }
        if let Some(kind) = filter.kind {
            self.push(" AND f.kind = ").number(kind.number());
        }
        if filter.step.is_some() || filter.error_code.is_some() {
            self.push(" AND EXISTS (SELECT 1 FROM flow_steps s WHERE s.flow_id = f.id");
            if let Some(step) = &filter.step {
                self.push(" AND s.name = ").text(step);
            }
            if let Some(code) = &filter.error_code {
                self.push(" AND s.error_code = ").text(code);
            }
            self.push(")");
        }
        self
    }

    fn query(self) -> Query<'static, Any, AnyArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text));
        self.values
            .into_iter()
            .fold(query, |query, value| match value {
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
                Value::Real(real) => query.bind(real),
            })
    }
}

impl SqlFlows {
    pub(super) fn statement(&self, text: impl Into<String>) -> Statement {
        Statement::new(self.dialect, text)
    }

    fn flows(&self) -> Statement {
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
    ) -> Result<Vec<Flow>> {
        let mut select = self.flows();
        select.wanted(store, filter);
        if let Some(before) = before {
            select.push(" AND f.id < ").id(before);
        }
        select.push(" ORDER BY f.id DESC LIMIT ");
        select.number(i64::from(limit));
        self.rows(select, deadline, flow).await
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
        Ok(self.rows(select, deadline, flow).await?.pop())
    }

    async fn count_flows(
        &self,
        store: StoreId,
        filter: &FlowFilter,
        deadline: Instant,
    ) -> Result<u64> {
        let mut select = self.statement("SELECT COUNT(*) AS flows FROM flows f");
        select.wanted(store, filter);
        let read = |row: &AnyRow| unsigned(row, "flows");
        let counted = self.rows(select, deadline, read).await?;
        Ok(counted.first().copied().unwrap_or(0))
    }

    async fn purge_old_flows(
        &self,
        store: StoreId,
        older_than: Timestamp,
        limit: u32,
        deadline: Instant,
    ) -> Result<u64> {
        let condition = condition(self.dialect, "store_id = ", "id < ");
        let delete = "DELETE FROM flows";
        let delete = self.dialect.some_rows(delete, BY_ID, &condition, limit);
        let mut delete = self.statement(delete);
        delete.values = vec![
            Value::Text(store.to_string()),
            Value::Text(FlowId::first_at(older_than).to_string()),
        ];
        self.change(delete, deadline).await
    }

    async fn get_stats(
        &self,
        store: StoreId,
        from: Timestamp,
        to: Timestamp,
        deadline: Instant,
    ) -> Result<FlowStats> {
        let filter = FlowFilter::between(from, to);
        let number = self.dialect.number;
        let mut counts = self.statement(format!(
            "SELECT f.kind, f.status, COUNT(*) AS flows, CAST(COALESCE(SUM(f.duration_micros), 0) AS {number}) AS took, \
             CAST(COALESCE(MAX(f.duration_micros), 0) AS {number}) AS longest FROM flows f"
        ));
        counts.wanted(store, &filter);
        counts.push(" GROUP BY f.kind, f.status ORDER BY f.kind, f.status");
        let mut errors = self.statement(
            "SELECT s.error_code, COUNT(*) AS steps FROM flows f JOIN flow_steps s ON s.flow_id = f.id",
        );
        errors.wanted(store, &filter);
        errors.push(" AND s.error_code IS NOT NULL GROUP BY s.error_code ORDER BY steps DESC, s.error_code LIMIT ");
        errors.number(i64::from(ERRORS));
        let counts = self.rows(counts, deadline, count).await?;
        let read = |row: &AnyRow| Ok((text(row, "error_code")?, unsigned(row, "steps")?));
        let errors = self.rows(errors, deadline, read).await?;
        Ok(FlowStats { counts, errors })
    }

    async fn get_daily_activity(
        &self,
        store: StoreId,
        from: Timestamp,
        to: Timestamp,
        deadline: Instant,
    ) -> Result<Vec<DayActivity>> {
        let day = format!("f.started_at {} {DAY}", self.dialect.divide);
        let mut select = self.statement(format!(
            "SELECT {day} AS day, f.status, COUNT(*) AS flows FROM flows f"
        ));
        select.wanted(store, &FlowFilter::between(from, to));
        select.push(&format!(" GROUP BY {day}, f.status ORDER BY day, f.status"));
        let read = |row: &AnyRow| {
            Ok(DayActivity {
                day: row.try_get("day")?,
                status: known(row, "status", FlowStatus::of_number)?,
                flows: unsigned(row, "flows")?,
            })
        };
        self.rows(select, deadline, read).await
    }

    async fn expire_flows(
        &self,
        older_than: Timestamp,
        limit: u32,
        deadline: Instant,
    ) -> Result<u64> {
        let condition = condition(self.dialect, "status = ", "id < ");
        let change = format!("UPDATE flows SET status = {}", FlowStatus::Expired.number());
        let update = self.dialect.some_rows(&change, BY_ID, &condition, limit);
        let mut update = self.statement(update);
        update.values = vec![
            Value::Number(FlowStatus::Pending.number()),
            Value::Text(FlowId::first_at(older_than).to_string()),
        ];
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
        let select = "SELECT store_id, enabled, sampling, retention_micros FROM flow_settings";
        let read = |row: &AnyRow| {
            let enabled: Option<i64> = row.try_get("enabled")?;
            let retention: Option<i64> = row.try_get("retention_micros")?;
            let retention = retention.and_then(|micros| u64::try_from(micros).ok());
            let overrides = Overrides {
                enabled: enabled.map(|enabled| enabled != 0),
                sampling: row.try_get("sampling")?,
                retention: retention.map(Duration::from_micros),
            };
            Ok((parsed(row, "store_id")?, overrides))
        };
        self.rows(self.statement(select), deadline, read).await
    }

    async fn put_overrides(
        &self,
        store: StoreId,
        overrides: &Overrides,
        deadline: Instant,
    ) -> Result<()> {
        let mut delete = self.statement("DELETE FROM flow_settings WHERE store_id = ");
        delete.text(store.as_str());
        let mut insert = self.statement(
            "INSERT INTO flow_settings (store_id, enabled, sampling, retention_micros) VALUES (",
        );
        let number = |number: u64| Value::Number(i64::try_from(number).unwrap_or(i64::MAX));
        insert
            .text(store.as_str())
            .push(", ")
            .some(overrides.enabled.map(|enabled| number(u64::from(enabled))))
            .push(", ")
            .some(overrides.sampling.map(Value::Real))
            .push(", ")
            .some(overrides.retention.map(|keep| number(micros(keep))))
            .push(")");
        within(deadline, async {
            let mut connection = self.connection(&self.asking, deadline).await?;
            let mut tx = connection.begin_with(self.dialect.begin).await?;
            delete.query().execute(&mut *tx).await?;
            insert.query().execute(&mut *tx).await?;
            tx.commit().await
        })
        .await
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
        select.id(flow).push(" ORDER BY occurred_at");
        self.rows(select, deadline, step).await
    }
}

/// Two conditions on flows, each before its value; the second is an id.
fn condition(dialect: &Dialect, first: &str, second: &str) -> String {
    let (one, two) = if dialect.is_numbered {
        ("$1", "$2")
    } else {
        ("?", "?")
    };
    let (before, after) = (dialect.id_before, dialect.id_after);
    format!("{first}{one} AND {second}{before}{two}{after}")
}

fn flow(row: &AnyRow) -> sqlx::Result<Flow> {
    let allowed: Option<i64> = row.try_get("allowed")?;
    let asked = match some_text(row, "operation")? {
        None => None,
        Some(operation) => Some(Box::new(Asked {
            operation,
            object: text(row, "object")?,
            relation: text(row, "relation")?,
            subject: text(row, "subject")?,
            allowed: allowed.map(|allowed| allowed != 0),
            revision: some_text(row, "revision")?,
            model: some_text(row, "model_id")?,
            served_by: text(row, "served_by")?,
            explanation: some_text(row, "explanation")?,
        })),
    };
    let completed: Option<i64> = row.try_get("completed_at")?;
    let duration: Option<i64> = row.try_get("duration_micros")?;
    Ok(Flow {
        id: parsed(row, "id")?,
        store: parsed(row, "store_id")?,
        kind: known(row, "kind", FlowKind::of_number)?,
        status: known(row, "status", FlowStatus::of_number)?,
        started_at: Timestamp(row.try_get("started_at")?),
        completed_at: completed.map(Timestamp),
        duration_micros: duration.and_then(|micros| u64::try_from(micros).ok()),
        client_id: some_text(row, "client_id")?,
        grant_type: some_text(row, "grant_type")?,
        user_id: some_text(row, "user_id")?,
        ip: some_text(row, "ip")?.and_then(|ip| ip.parse().ok()),
        user_agent: some_text(row, "user_agent")?,
        asked,
    })
}

fn step(row: &AnyRow) -> sqlx::Result<Step> {
    Ok(Step {
        flow: parsed(row, "flow_id")?,
        at: Timestamp(row.try_get("occurred_at")?),
        name: text(row, "name")?,
        status: known(row, "status", StepStatus::of_number)?,
        duration_micros: unsigned(row, "duration_micros")?,
        error_code: some_text(row, "error_code")?,
        error_message: some_text(row, "error_message")?,
    })
}

fn count(row: &AnyRow) -> sqlx::Result<FlowCount> {
    let (flows, took) = (unsigned(row, "flows")?, unsigned(row, "took")?);
    Ok(FlowCount {
        kind: known(row, "kind", FlowKind::of_number)?,
        status: known(row, "status", FlowStatus::of_number)?,
        flows,
        average_micros: took as f64 / flows.max(1) as f64,
        longest_micros: unsigned(row, "longest")?,
    })
}

/// A text, or the bytes of one, as which MySQL keeps it.
pub(super) fn some_text(row: &AnyRow, column: &str) -> sqlx::Result<Option<String>> {
    let value = row.try_get_raw(column)?;
    if value.type_info().kind() != AnyTypeInfoKind::Blob {
        return row.try_get(column);
    }
    let bytes: Option<Vec<u8>> = row.try_get(column)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

pub(super) fn text(row: &AnyRow, column: &str) -> sqlx::Result<String> {
    Ok(some_text(row, column)?.unwrap_or_default())
}

fn unsigned(row: &AnyRow, column: &str) -> sqlx::Result<u64> {
    let number: i64 = row.try_get(column)?;
    Ok(u64::try_from(number).unwrap_or(0))
}

pub(super) fn parsed<T>(row: &AnyRow, column: &str) -> sqlx::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text(row, column)?
        .parse()
        .map_err(|source| broken(column, source))
}

fn known<T>(row: &AnyRow, column: &str, of: fn(i64) -> Option<T>) -> sqlx::Result<T> {
    let number = row.try_get(column)?;
    of(number).ok_or_else(|| broken(column, std::io::Error::other("no such number")))
}

fn broken(column: &str, source: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(source),
    }
}
