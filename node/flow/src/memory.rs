//! Flows in this process's memory, for nodes whose datastore is there too.

mod sessions;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use meridian_model::{StoreId, Timestamp};

use crate::flow::{Completion, Flow, FlowId, FlowStatus, Step};
use crate::ports::{
    Activity, Counted, DAY, DayActivity, FlowCount, FlowFilter, FlowPage, FlowRepository,
    FlowStats, FlowStepRepository, MOST_COUNTED, RepositoryError, Result, Row, Sink, most_frequent,
};
use crate::recorder::{Overrides, OverridesChange};
use crate::session::Session;
use sessions::Sessions;

/// Bytes of flows, steps and sessions that are kept; then the oldest go.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// Flows, steps and sessions, the latest of them as far as there is room.
#[derive(Debug)]
pub struct MemoryFlows {
    state: Mutex<State>,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    /// About what flows, steps and sessions take.
    bytes: usize,
    flows: BTreeMap<FlowId, Flow>,
    steps: BTreeMap<(FlowId, Timestamp), Step>,
    sessions: Sessions,
    /// How many flows and sessions each store has, of those that have any.
    stores: BTreeMap<StoreId, usize>,
    overrides: BTreeMap<StoreId, Overrides>,
}

impl MemoryFlows {
    /// Nothing yet, with room for 64 MiB.
    #[must_use]
    pub fn new() -> Self {
        Self::with_room(MOST_BYTES)
    }

    /// Nothing yet, with room for so many bytes.
    #[must_use]
    pub fn with_room(most_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            most_bytes,
        }
    }

    fn state(&self, deadline: Instant) -> Result<MutexGuard<'_, State>> {
        if Instant::now() >= deadline {
            return Err(RepositoryError::DeadlineExceeded);
        }
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for MemoryFlows {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn add_flow(&mut self, flow: &Flow) {
        if let Entry::Vacant(place) = self.flows.entry(flow.id) {
            place.insert(flow.clone());
            self.added(flow.store, flow.bytes());
        }
    }

    fn add_step(&mut self, step: &Step) {
        if !self.flows.contains_key(&step.flow) {
            return;
        }
        if let Entry::Vacant(place) = self.steps.entry((step.flow, step.at)) {
            self.bytes += step.bytes();
            place.insert(step.clone());
        }
    }

    fn remove(&mut self, id: FlowId) {
        let Some(flow) = self.flows.remove(&id) else {
            return;
        };
        let steps: Vec<_> = self.steps_of(id).map(|step| (id, step.at)).collect();
        let steps = steps.iter().filter_map(|key| self.steps.remove(key));
        let steps: usize = steps.map(|step| step.bytes()).sum();
        self.removed(flow.store, flow.bytes() + steps);
    }

    /// That there is one more flow or session of a store, of so many bytes.
    fn added(&mut self, store: StoreId, bytes: usize) {
        self.bytes += bytes;
        *self.stores.entry(store).or_default() += 1;
    }

    /// And one less.
    fn removed(&mut self, store: StoreId, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(left) = self.stores.get_mut(&store) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.stores.remove(&store);
            }
        }
    }

    /// Has the oldest go that there is no room for.
    fn make_room(&mut self, most_bytes: usize) {
        while self.bytes > most_bytes {
            let flow = self.flows.keys().next().copied();
            match (flow, self.sessions.oldest().cloned()) {
                (Some(flow), Some((at, _))) if flow.began() <= at => self.remove(flow),
                (_, Some((_, session))) => self.remove_session(&session),
                (Some(flow), None) => self.remove(flow),
                (None, None) => return,
            }
        }
    }

    fn complete(&mut self, end: &Completion) {
        let Some(flow) = self.flows.get_mut(&end.flow) else {
            return;
        };
        if matches!(flow.status, FlowStatus::Pending | FlowStatus::Expired) {
            let before = flow.bytes();
            flow.status = end.status;
            flow.completed_at = Some(end.at);
            flow.duration_micros = Some(end.duration_micros);
            flow.user_id = end.user_id.clone().or(flow.user_id.take());
            self.bytes = (self.bytes + flow.bytes()).saturating_sub(before);
        }
    }

    fn add_session(&mut self, session: &Session) {
        let mut session = session.clone();
        session.flow = session.flow.filter(|flow| self.flows.contains_key(flow));
        let store = session.store;
        if let Some(bytes) = self.sessions.add(session) {
            self.added(store, bytes);
        }
    }

    fn remove_session(&mut self, id: &str) {
        if let Some((store, bytes)) = self.sessions.remove(id) {
            self.removed(store, bytes);
        }
    }

    fn steps_of(&self, flow: FlowId) -> impl Iterator<Item = &Step> {
        let (first, last) = (Timestamp(i64::MIN), Timestamp(i64::MAX));
        let range = self.steps.range((flow, first)..=(flow, last));
        range.map(|(_, step)| step)
    }

    fn is_wanted(&self, flow: &Flow, filter: &FlowFilter) -> bool {
        let is = |wanted: &Option<String>, has: Option<&String>| {
            wanted.is_none() || wanted.as_ref() == has
        };
        let subject = flow.asked.as_deref().map(|asked| &asked.subject);
        let has_step = |step: &Step| {
            is(&filter.step, Some(&step.name)) && is(&filter.error_code, step.error_code.as_ref())
        };
        filter.from.is_none_or(|from| flow.started_at >= from)
            && filter.to.is_none_or(|to| flow.started_at < to)
            && is(&filter.client_id, flow.client_id.as_ref())
            && (is(&filter.user, flow.user_id.as_ref()) || is(&filter.user, subject))
            && filter.status.is_none_or(|status| flow.status == status)
            && filter.kind.is_none_or(|kind| flow.kind == kind)
            && ((filter.step.is_none() && filter.error_code.is_none())
                || self.steps_of(flow.id).any(has_step))
    }

    fn wanted<'a>(
        &'a self,
        store: StoreId,
        filter: &'a FlowFilter,
    ) -> impl DoubleEndedIterator<Item = &'a Flow> {
        let flows = self.flows.values();
        flows.filter(move |flow| flow.store == store && self.is_wanted(flow, filter))
    }
}

#[async_trait]
impl Sink for MemoryFlows {
    async fn write(&self, rows: &[Row], deadline: Instant) -> Result<Vec<FlowId>> {
        let mut state = self.state(deadline)?;
        let mut missing = Vec::new();
        for row in rows {
            if let Some(flow) = row.needs()
                && !state.flows.contains_key(&flow)
            {
                missing.push(flow);
                continue;
            }
            match row {
                Row::Start(flow) => state.add_flow(flow),
                Row::Step(step) => state.add_step(step),
                Row::Complete(end) => state.complete(end),
                Row::Whole(whole) => {
                    state.add_flow(&whole.flow);
                    whole.steps.iter().for_each(|step| state.add_step(step));
                }
                Row::Session(_) => {}
            }
        }
        // Behind the flows that they may refer to, wherever those are among the rows.
        for row in rows {
            if let Row::Session(session) = row {
                state.add_session(session);
            }
        }
        state.make_room(self.most_bytes);
        Ok(missing)
    }
}

#[async_trait]
impl FlowRepository for MemoryFlows {
    async fn get_flows(
        &self,
        store: StoreId,
        filter: &FlowFilter,
        before: Option<FlowId>,
        limit: u32,
        deadline: Instant,
    ) -> Result<FlowPage> {
        let state = self.state(deadline)?;
        let flows = state.wanted(store, filter).rev();
        let flows = flows.filter(|flow| before.is_none_or(|before| flow.id < before));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let found = flows.take(limit.saturating_add(1)).cloned().collect();
        Ok(FlowPage::of(found, limit))
    }

    async fn get_flow_by_id(
        &self,
        store: StoreId,
        id: FlowId,
        deadline: Instant,
    ) -> Result<Option<Flow>> {
        let state = self.state(deadline)?;
        let flow = state.flows.get(&id);
        Ok(flow.filter(|flow| flow.store == store).cloned())
    }

    async fn count_flows(
        &self,
        store: StoreId,
        filter: &FlowFilter,
        deadline: Instant,
    ) -> Result<Counted> {
        let state = self.state(deadline)?;
        let flows = count(state.wanted(store, filter));
        Ok(Counted {
            flows: flows.min(MOST_COUNTED),
            more: flows > MOST_COUNTED,
        })
    }

    async fn has_older(
        &self,
        store: StoreId,
        older_than: Timestamp,
        deadline: Instant,
    ) -> Result<bool> {
        let state = self.state(deadline)?;
        let mut old = state.flows.range(..FlowId::first_at(older_than));
        Ok(old.any(|(_, flow)| flow.store == store))
    }

    async fn purge_old_flows(
        &self,
        store: StoreId,
        older_than: Timestamp,
        limit: u32,
        deadline: Instant,
    ) -> Result<u64> {
        let mut state = self.state(deadline)?;
        let old = state.flows.range(..FlowId::first_at(older_than));
        let old = old.map(|(_, flow)| flow).filter(|flow| flow.store == store);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let old: Vec<_> = old.take(limit).map(|flow| flow.id).collect();
        old.iter().for_each(|id| state.remove(*id));
        Ok(count(&old))
    }

    async fn get_stats(
        &self,
        store: StoreId,
        from: Timestamp,
        to: Timestamp,
        deadline: Instant,
    ) -> Result<FlowStats> {
        let state = self.state(deadline)?;
        let filter = FlowFilter::between(from, to);
        let mut counts: Vec<FlowCount> = Vec::new();
        let mut errors: HashMap<&str, u64> = HashMap::new();
        for flow in state.wanted(store, &filter) {
            let of =
                |count: &&mut FlowCount| (count.kind, count.status) == (flow.kind, flow.status);
            let micros = flow.duration_micros.unwrap_or(0);
            match counts.iter_mut().find(of) {
                Some(count) => {
                    let before = count.average_micros * count.flows as f64;
                    count.flows += 1;
                    count.average_micros = (before + micros as f64) / count.flows as f64;
                    count.longest_micros = count.longest_micros.max(micros);
                }
                None => counts.push(FlowCount {
                    kind: flow.kind,
                    status: flow.status,
                    flows: 1,
                    average_micros: micros as f64,
                    longest_micros: micros,
                }),
            }
            for step in state.steps_of(flow.id) {
                if let Some(code) = &step.error_code {
                    *errors.entry(code).or_default() += 1;
                }
            }
        }
        counts.sort_by_key(|count| (count.kind.number(), count.status.number()));
        Ok(FlowStats {
            since: None,
            counts,
            errors: most_frequent(errors),
        })
    }

    async fn get_daily_activity(
        &self,
        store: StoreId,
        from: Timestamp,
        to: Timestamp,
        deadline: Instant,
    ) -> Result<Activity> {
        let state = self.state(deadline)?;
        let filter = FlowFilter::between(from, to);
        let mut days: BTreeMap<(i64, i64), u64> = BTreeMap::new();
        for flow in state.wanted(store, &filter) {
            let day = flow.started_at.0.div_euclid(DAY);
            *days.entry((day, flow.status.number())).or_default() += 1;
        }
        let days = days.into_iter().filter_map(|((day, status), flows)| {
            let status = FlowStatus::of_number(status)?;
            Some(DayActivity { day, status, flows })
        });
        Ok(Activity {
            since: None,
            days: days.collect(),
        })
    }

    async fn expire_flows(
        &self,
        older_than: Timestamp,
        limit: u32,
        deadline: Instant,
    ) -> Result<u64> {
        let mut state = self.state(deadline)?;
        let old = state.flows.values_mut();
        let old =
            old.filter(|flow| flow.status == FlowStatus::Pending && flow.started_at < older_than);
        let old = old.take(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(count(old.map(|flow| flow.status = FlowStatus::Expired)))
    }

    async fn next_store(
        &self,
        after: Option<StoreId>,
        deadline: Instant,
    ) -> Result<Option<StoreId>> {
        let state = self.state(deadline)?;
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut stores = state.stores.range((behind, Bound::Unbounded));
        Ok(stores.next().map(|(store, _)| *store))
    }

    async fn get_overrides(&self, deadline: Instant) -> Result<Vec<(StoreId, Overrides)>> {
        let state = self.state(deadline)?;
        let all = state.overrides.iter();
        Ok(all.map(|(store, set)| (*store, *set)).collect())
    }

    async fn get_overrides_of(&self, store: StoreId, deadline: Instant) -> Result<Overrides> {
        let state = self.state(deadline)?;
        Ok(state.overrides.get(&store).copied().unwrap_or_default())
    }

    async fn change_overrides(
        &self,
        store: StoreId,
        change: &OverridesChange,
        deadline: Instant,
    ) -> Result<()> {
        let mut state = self.state(deadline)?;
        let set = state.overrides.entry(store).or_default();
        *set = Overrides {
            enabled: change.enabled.of(set.enabled),
            sampling: change.sampling.of(set.sampling),
            retention: change.retention.of(set.retention),
        };
        Ok(())
    }

    async fn delete_overrides(&self, store: StoreId, deadline: Instant) -> Result<()> {
        self.state(deadline)?.overrides.remove(&store);
        Ok(())
    }
}

#[async_trait]
impl FlowStepRepository for MemoryFlows {
    async fn get_steps_for_flow(&self, flow: FlowId, deadline: Instant) -> Result<Vec<Step>> {
        let state = self.state(deadline)?;
        Ok(state.steps_of(flow).cloned().collect())
    }
}

fn count<T>(of: impl IntoIterator<Item = T>) -> u64 {
    u64::try_from(of.into_iter().count()).unwrap_or(u64::MAX)
}
