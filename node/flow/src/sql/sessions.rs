//! Connections of the live channel: one table, written with the flows.

use std::time::Instant;

use async_trait::async_trait;
use meridian_model::{StoreId, Timestamp};
use serde::Serialize;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::SqlFlows;
use super::dialect::{Column, Dialect, Kind};
use super::rows::{parsed, some_text, text};
use super::write::names;
use crate::flow::FlowId;
use crate::ports::{Result, SessionRepository};
use crate::session::Session;

const SESSION: &[Column] = &[
    ("id", Kind::Text),
    ("store_id", Kind::Text),
    ("flow_id", Kind::Id),
    ("node", Kind::Text),
    ("user_id", Kind::Text),
    ("connected_at", Kind::Number),
    ("ended_at", Kind::Number),
    ("close_code", Kind::Number),
];
/// What a session gains.
const LATER: &[&str] = &["flow_id", "ended_at", "close_code"];

/// Sessions in the order in which they began.
const BY_AGE: (&str, &str) = ("live_sessions", "connected_at");

/// A session as JSON; what is not there is left out, for engines differ about null.
#[derive(Serialize)]
pub(super) struct SessionRow<'a> {
    id: &'a str,
    store_id: StoreId,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_id: Option<FlowId>,
    node: &'a str,
    user_id: &'a str,
    connected_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_code: Option<u16>,
}

impl<'a> SessionRow<'a> {
    pub(super) fn of(session: &'a Session) -> Self {
        Self {
            id: &session.id,
            store_id: session.store,
            flow_id: session.flow,
            node: &session.node,
            user_id: &session.user,
            connected_at: session.connected_at.0,
            ended_at: session.ended_at.map(|at| at.0),
            close_code: session.close_code,
        }
    }
}

/// Each session once, with all that several records of it know: one statement changes no row twice.
pub(super) fn merged<'a>(sessions: impl Iterator<Item = &'a Session>) -> Vec<Session> {
    let mut merged: Vec<Session> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for session in sessions {
        let place = *places.entry(&session.id).or_insert(merged.len());
        match merged.get_mut(place) {
            Some(known) => known.merge(session),
            None => merged.push(session.clone()),
        }
    }
    merged
}

/// Writes rows of [`SessionRow`]. A flow that is not there is no reference.
pub(super) fn upsert(dialect: &Dialect) -> String {
    let columns = names(SESSION, "");
    let of = names(SESSION, "r.").replace("r.flow_id", "f.id");
    let table = dialect.table(SESSION);
    let or_fill = (dialect.or_fill)("live_sessions", "id", LATER);
    format!(
        "INSERT INTO live_sessions ({columns}) SELECT {of} FROM {table} LEFT JOIN flows f ON f.id = r.flow_id{or_fill}"
    )
}

#[async_trait]
impl SessionRepository for SqlFlows {
    async fn get_session_of_flow(
        &self,
        store: StoreId,
        flow: FlowId,
        deadline: Instant,
    ) -> Result<Option<Session>> {
        let flow_id = (self.dialect.id_text)("flow_id");
        let mut select = self.statement(format!(
            "SELECT id, store_id, {flow_id} AS flow_id, node, user_id, connected_at, ended_at, close_code \
             FROM live_sessions WHERE flow_id = "
        ));
        select.id(flow);
        select.push(" AND store_id = ").text(store.as_str());
        select.push(" ORDER BY connected_at DESC LIMIT 1");
        Ok(self.rows(select, deadline, session).await?.pop())
    }

    async fn purge_old_sessions(
        &self,
        store: StoreId,
        older_than: Timestamp,
        limit: u32,
        deadline: Instant,
    ) -> Result<u64> {
        let mut delete = self.statement("DELETE FROM live_sessions");
        delete.some_rows(BY_AGE, limit, |old| {
            old.push("store_id = ").text(store.as_str());
            // None ends before it began: this condition is for the index.
            old.push(" AND connected_at < ").number(older_than.0);
            old.push(" AND COALESCE(ended_at, connected_at) < ");
            old.number(older_than.0);
        });
        self.change(delete, deadline).await
    }
}

fn session(row: &AnyRow) -> sqlx::Result<Session> {
    let flow = some_text(row, "flow_id")?;
    let ended: Option<i64> = row.try_get("ended_at")?;
    let code: Option<i64> = row.try_get("close_code")?;
    Ok(Session {
        id: text(row, "id")?,
        store: parsed(row, "store_id")?,
        flow: flow.and_then(|flow| flow.parse().ok()),
        node: text(row, "node")?,
        user: text(row, "user_id")?,
        connected_at: Timestamp(row.try_get("connected_at")?),
        ended_at: ended.map(Timestamp),
        close_code: code.and_then(|code| u16::try_from(code).ok()),
    })
}
