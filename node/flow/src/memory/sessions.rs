//! Connections of the live channel in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use async_trait::async_trait;
use meridian_model::{StoreId, Timestamp};

use super::{MemoryFlows, count};
use crate::flow::FlowId;
use crate::ports::{Result, SessionRepository};
use crate::session::Session;

/// Sessions by id, and in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: BTreeMap<String, Session>,
    by_age: BTreeSet<(Timestamp, String)>,
}

impl Sessions {
    /// About how many bytes one takes.
    fn bytes(session: &Session) -> usize {
        session.bytes() + size_of::<(Timestamp, String)>() + session.id.len()
    }

    /// Adds a session, or what is new of one; how many bytes it takes where there was none.
    pub(super) fn add(&mut self, session: Session) -> Option<usize> {
        if let Some(known) = self.by_id.get_mut(&session.id) {
            known.merge(&session);
            return None;
        }
        let bytes = Self::bytes(&session);
        let key = (session.connected_at, session.id.clone());
        self.by_age.insert(key);
        self.by_id.insert(session.id.clone(), session);
        Some(bytes)
    }

    /// The store of the one that is gone, and how many bytes that leaves to others.
    pub(super) fn remove(&mut self, id: &str) -> Option<(StoreId, usize)> {
        let session = self.by_id.remove(id)?;
        let bytes = Self::bytes(&session);
        self.by_age.remove(&(session.connected_at, session.id));
        Some((session.store, bytes))
    }

    /// When the one began that began first, and its id.
    pub(super) fn oldest(&self) -> Option<&(Timestamp, String)> {
        self.by_age.first()
    }

    /// Those that began before a time, oldest first.
    fn begun_before(&self, time: Timestamp) -> impl Iterator<Item = &Session> {
        let old = self.by_age.range(..(time, String::new()));
        old.filter_map(|(_, id)| self.by_id.get(id))
    }

    fn values(&self) -> impl Iterator<Item = &Session> {
        self.by_id.values()
    }
}

#[async_trait]
impl SessionRepository for MemoryFlows {
    async fn get_session_of_flow(
        &self,
        store: StoreId,
        flow: FlowId,
        deadline: Instant,
    ) -> Result<Option<Session>> {
        let state = self.state(deadline)?;
        // A session keeps the id of a flow that has gone: it is looked at nowhere else.
        if !state.flows.contains_key(&flow) {
            return Ok(None);
        }
        let of_flow = |session: &&Session| session.store == store && session.flow == Some(flow);
        let sessions = state.sessions.values().filter(of_flow);
        Ok(sessions.max_by_key(|session| session.connected_at).cloned())
    }

    async fn purge_old_sessions(
        &self,
        store: StoreId,
        older_than: Timestamp,
        limit: u32,
        deadline: Instant,
    ) -> Result<u64> {
        let mut state = self.state(deadline)?;
        let is_old = |session: &&Session| session.store == store && session.last_at() < older_than;
        let old = state.sessions.begun_before(older_than).filter(is_old);
        let old = old.take(usize::try_from(limit).unwrap_or(usize::MAX));
        let old: Vec<_> = old.map(|session| session.id.clone()).collect();
        old.iter().for_each(|id| state.remove_session(id));
        Ok(count(&old))
    }
}
