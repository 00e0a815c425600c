//! Rows into the database: what begins, what was done, what is over, in this order, in one transaction.

use std::net::IpAddr;
use std::time::Instant;

use async_trait::async_trait;
use meridian_model::StoreId;
use serde::Serialize;
use sqlx::any::Any;
use sqlx::{AssertSqlSafe, Connection as _, Transaction};

use super::dialect::{Column, Kind};
use super::rows::parsed;
use super::sessions::{self, SessionRow};
use super::{SqlFlows, whole, within};
use crate::flow::{Completion, Flow, FlowId, Recorded, Step};
use crate::ports::{RepositoryError, Result, Row, Sink};

const FLOW: &[Column] = &[
    ("id", Kind::Id),
    ("started_at", Kind::Number),
    ("completed_at", Kind::Number),
    ("duration_micros", Kind::Number),
    ("kind", Kind::Number),
    ("status", Kind::Number),
    ("allowed", Kind::Number),
    ("store_id", Kind::Text),
    ("client_id", Kind::Text),
    ("grant_type", Kind::Text),
    ("user_id", Kind::Text),
    ("ip", Kind::Text),
    ("user_agent", Kind::Text),
    ("operation", Kind::Text),
    ("object", Kind::Text),
    ("relation", Kind::Text),
    ("subject", Kind::Text),
    ("revision", Kind::Text),
    ("model_id", Kind::Text),
    ("served_by", Kind::Text),
    ("explanation", Kind::Text),
    ("steps", Kind::Text),
    ("error_code", Kind::Text),
];
const STEP: &[Column] = &[
    ("flow_id", Kind::Id),
    ("occurred_at", Kind::Number),
    ("duration_micros", Kind::Number),
    ("status", Kind::Number),
    ("name", Kind::Text),
    ("error_code", Kind::Text),
    ("error_message", Kind::Text),
];
const REF: &[Column] = &[("flow_id", Kind::Id)];
const COMPLETION: &[Column] = &[
    ("id", Kind::Id),
    ("status", Kind::Number),
    ("completed_at", Kind::Number),
    ("duration_micros", Kind::Number),
    ("user_id", Kind::Text),
];

/// What an end sets of its flow.
const ENDED: &[(&str, &str)] = &[
    ("status", "r.status"),
    ("completed_at", "r.completed_at"),
    ("duration_micros", "r.duration_micros"),
    ("user_id", "COALESCE(r.user_id, flows.user_id)"),
];

/// A flow as JSON; what is not there is left out, for engines differ about null.
#[derive(Serialize)]
struct FlowRow<'a> {
    id: FlowId,
    started_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_micros: Option<u64>,
    kind: i64,
    status: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<u8>,
    store_id: StoreId,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(flatten)]
    asked: Option<AskedRow<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'a str>,
}

#[derive(Serialize)]
struct AskedRow<'a> {
    operation: &'a str,
    object: &'a str,
    relation: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_id: Option<&'a str>,
    served_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'a str>,
}

#[derive(Serialize)]
struct StepRow<'a> {
    flow_id: FlowId,
    occurred_at: i64,
    duration_micros: u64,
    status: i64,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<&'a str>,
}

#[derive(Serialize)]
struct CompletionRow<'a> {
    id: FlowId,
    status: i64,
    completed_at: i64,
    duration_micros: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
}

/// A flow that must be there.
#[derive(Serialize)]
struct RefRow {
    flow_id: FlowId,
}

impl<'a> FlowRow<'a> {
    fn of(flow: &'a Flow) -> Self {
        let asked = flow.asked.as_deref();
        Self {
            id: flow.id,
            started_at: flow.started_at.0,
            completed_at: flow.completed_at.map(|at| at.0),
            duration_micros: flow.duration_micros,
            kind: flow.kind.number(),
            status: flow.status.number(),
            allowed: asked.and_then(|asked| asked.allowed).map(u8::from),
            store_id: flow.store,
            client_id: flow.client_id.as_deref(),
            grant_type: flow.grant_type.as_deref(),
            user_id: flow.user_id.as_deref(),
            ip: flow.ip,
            user_agent: flow.user_agent.as_deref(),
            asked: asked.map(|asked| AskedRow {
                operation: &asked.operation,
                object: &asked.object,
                relation: &asked.relation,
                subject: &asked.subject,
                revision: asked.revision.as_deref(),
                model_id: asked.model.as_deref(),
                served_by: &asked.served_by,
                explanation: asked.explanation.as_deref(),
            }),
            steps: None,
            error_code: None,
        }
    }

    /// With its steps.
    fn whole(of: &'a Recorded) -> Result<Self> {
        Ok(Self {
            steps: whole::text(of).map_err(rejected)?,
            error_code: whole::error_code(of),
            ..Self::of(&of.flow)
        })
    }
}

impl<'a> StepRow<'a> {
    fn of(step: &'a Step) -> Self {
        Self {
            flow_id: step.flow,
            occurred_at: step.at.0,
            duration_micros: step.duration_micros,
            status: step.status.number(),
            name: &step.name,
            error_code: step.error_code.as_deref(),
            error_message: step.error_message.as_deref(),
        }
    }
}

impl<'a> CompletionRow<'a> {
    fn of(end: &'a Completion) -> Self {
        Self {
            id: end.flow,
            status: end.status.number(),
            completed_at: end.at.0,
            duration_micros: end.duration_micros,
            user_id: end.user_id.as_deref(),
        }
    }
}

/// The texts of what is written, by what is done with them.
struct Texts {
    flows: Option<String>,
    steps: Option<String>,
    completions: Option<String>,
    sessions: Option<String>,
    /// What steps and ends refer to that come without their flow.
    refs: Option<String>,
}

impl Texts {
    fn of(rows: &[Row]) -> Result<Self> {
        let (mut flows, mut steps, mut completions) = (Vec::new(), Vec::new(), Vec::new());
        let refs = rows.iter().filter_map(Row::needs);
        let refs: Vec<_> = refs.map(|flow_id| RefRow { flow_id }).collect();
        for row in rows {
            match row {
                Row::Start(flow) => flows.push(FlowRow::of(flow)),
                Row::Step(step) => steps.push(StepRow::of(step)),
                Row::Complete(end) => completions.push(CompletionRow::of(end)),
                Row::Whole(whole) => flows.push(FlowRow::whole(whole)?),
                Row::Session(_) => {}
            }
        }
        let sessions = sessions::merged(rows.iter().filter_map(|row| match row {
            Row::Session(session) => Some(&**session),
            _ => None,
        }));
        let sessions: Vec<_> = sessions.iter().map(SessionRow::of).collect();
        Ok(Self {
            flows: text(&flows)?,
            steps: text(&steps)?,
            completions: text(&completions)?,
            sessions: text(&sessions)?,
            refs: text(&refs)?,
        })
    }
}

fn text(rows: &[impl Serialize]) -> Result<Option<String>> {
    if rows.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_string(rows);
    text.map(Some).map_err(rejected)
}

fn rejected(source: serde_json::Error) -> RepositoryError {
    RepositoryError::Rejected(std::sync::Arc::new(source))
}

#[async_trait]
impl Sink for SqlFlows {
    async fn write(&self, rows: &[Row], deadline: Instant) -> Result<Vec<FlowId>> {
        let texts = Texts::of(rows)?;
        let dialect = self.dialect;
        let write = async {
            let mut connection = self.connection(&self.sink, deadline).await?;
            let mut tx = connection.begin_with(dialect.begin).await?;
            let mut missing = Vec::new();
            if let Some(flows) = texts.flows {
                let columns = names(FLOW, "");
                let (of, table) = (names(FLOW, "r."), dialect.table(FLOW));
                let or_keep = (dialect.or_keep)("flows", "id");
                let insert =
                    format!("INSERT INTO flows ({columns}) SELECT {of} FROM {table}{or_keep}");
                run(&mut tx, insert, flows).await?;
            }
            if let Some(refs) = texts.refs {
                missing = self.missing(&mut tx, refs).await?;
            }
            if let Some(steps) = texts.steps {
                let columns = names(STEP, "");
                let (of, table) = (names(STEP, "r."), dialect.table(STEP));
                let or_keep = (dialect.or_keep)("flow_steps", "flow_id, occurred_at");
                let insert = format!(
                    "INSERT INTO flow_steps ({columns}) SELECT {of} FROM {table} JOIN flows f ON f.id = r.flow_id{or_keep}"
                );
                run(&mut tx, insert, steps).await?;
            }
            if let Some(completions) = texts.completions {
                let update = dialect.update_flows(ENDED, COMPLETION, "flows.status IN (0, 3)");
                run(&mut tx, update, completions).await?;
            }
            if let Some(rows) = texts.sessions {
                run(&mut tx, sessions::upsert(dialect), rows).await?;
            }
            tx.commit().await?;
            Ok(missing)
        };
        within(deadline, write).await
    }
}

impl SqlFlows {
    /// The flows that rows of [`RefRow`] name and that are not there.
    async fn missing(
        &self,
        tx: &mut Transaction<'_, Any>,
        refs: String,
    ) -> sqlx::Result<Vec<FlowId>> {
        let (id, table) = ((self.dialect.id_text)("r.flow_id"), self.dialect.table(REF));
        let select = format!(
            "SELECT DISTINCT {id} AS flow_id FROM {table} LEFT JOIN flows f ON f.id = r.flow_id WHERE f.id IS NULL"
        );
        let rows = sqlx::query(AssertSqlSafe(select)).bind(refs);
        let rows = rows.fetch_all(&mut **tx).await?;
        rows.iter().map(|row| parsed(row, "flow_id")).collect()
    }
}

pub(super) fn names(columns: &[Column], before: &str) -> String {
    let names: Vec<_> = columns
        .iter()
        .map(|(name, _)| format!("{before}{name}"))
        .collect();
    names.join(", ")
}

async fn run(tx: &mut Transaction<'_, Any>, text: String, rows: String) -> sqlx::Result<()> {
    let query = sqlx::query(AssertSqlSafe(text)).bind(rows);
    query.execute(&mut **tx).await.map(drop)
}
