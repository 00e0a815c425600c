//! Questions about many flows, answered window by window, latest first: no statement looks at more flows than a window has,
//! however rare what is asked for is, and nobody waits longer than for the windows that there was time for.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use meridian_model::StoreId;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::SqlFlows;
use super::rows::{flow, parsed, text, unsigned};
use super::statement::Window;
use crate::flow::{Flow, FlowId, FlowKind, FlowStatus};
use crate::ports::{
    Activity, Counted, DAY, DayActivity, FlowCount, FlowFilter, FlowPage, FlowStats, MOST_COUNTED,
    Result, most_frequent,
};

/// How far one question goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanning {
    /// Flows of the store that one statement looks at.
    pub window: u32,
    /// How long there are further windows after the first, and no longer than half of the time until the call's deadline.
    pub longest: Duration,
}

impl Default for Scanning {
    fn default() -> Self {
        Self {
            window: 10_000,
            longest: Duration::from_secs(4),
        }
    }
}

/// A way through a store's flows, from the latest on.
struct Scan<'a> {
    flows: &'a SqlFlows,
    store: StoreId,
    /// What is left.
    left: Window,
    is_begun: bool,
    is_done: bool,
    until: Instant,
    deadline: Instant,
}

impl Scan<'_> {
    /// The next window; `None` where nothing is left, or no time.
    async fn next(&mut self) -> Result<Option<Window>> {
        if self.is_done || (self.is_begun && Instant::now() >= self.until) {
            return Ok(None);
        }
        self.is_begun = true;
        let lowest = self.lowest().await?;
        let window = Window {
            from: lowest.or(self.left.from),
            before: self.left.before,
        };
        match lowest {
            Some(_) => self.left.before = lowest,
            None => self.is_done = true,
        }
        Ok(Some(window))
    }

    /// The earliest flow of a whole window; `None` where less than one is left.
    async fn lowest(&self) -> Result<Option<FlowId>> {
        let id = (self.flows.dialect.id_text)("f.id");
        let mut select = self
            .flows
            .statement(format!("SELECT {id} AS id FROM flows f"));
        select.wanted(self.store, &self.left, &FlowFilter::default());
        select.push(" ORDER BY f.id DESC LIMIT 1 OFFSET ");
        select.number(i64::from(self.flows.scanning.window.max(1)) - 1);
        let read = |row: &AnyRow| parsed(row, "id");
        let mut found = self.flows.rows(select, self.deadline, read).await?;
        Ok(found.pop())
    }

    /// What was not looked at is before this flow; `None` where there is nothing.
    fn left(&self) -> Option<FlowId> {
        self.left.before.filter(|_| !self.is_done)
    }
}

/// The flows of one kind and status.
#[derive(Default)]
struct Sum {
    flows: u64,
    /// Microseconds. Whatever durations say, their sum has room.
    took: f64,
    longest: u64,
}

impl SqlFlows {
    fn scan(
        &self,
        store: StoreId,
        filter: &FlowFilter,
        before: Option<FlowId>,
        deadline: Instant,
    ) -> Scan<'_> {
        let now = Instant::now();
        let half = deadline.saturating_duration_since(now) / 2;
        Scan {
            flows: self,
            store,
            left: Window::of(filter, before),
            is_begun: false,
            is_done: false,
            until: now + half.min(self.scanning.longest),
            deadline,
        }
    }

    pub(super) async fn page(
        &self,
        store: StoreId,
        filter: &FlowFilter,
        before: Option<FlowId>,
        limit: u32,
        deadline: Instant,
    ) -> Result<FlowPage> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // One more tells whether there is another page.
        let most = limit.saturating_add(1);
        if filter.is_of_time_alone() {
            // Every flow is wanted: the statement's own limit bounds it.
            let window = Window::of(filter, before);
            let found = self.found(store, &window, filter, most, deadline);
            return Ok(self.page_of(found.await?, limit, None));
        }
        let mut scan = self.scan(store, filter, before, deadline);
        let mut found = Vec::new();
        while found.len() < most
            && let Some(window) = scan.next().await?
        {
            let more = most - found.len();
            found.extend(self.found(store, &window, filter, more, deadline).await?);
        }
        Ok(self.page_of(found, limit, scan.left()))
    }

    /// Of what was found, which is more than the page holds if there is more of it; else what comes next is before `left`.
    fn page_of(
        &self,
        mut found: Vec<(FlowId, Option<Flow>)>,
        limit: usize,
        left: Option<FlowId>,
    ) -> FlowPage {
        let has_more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().map(|(id, _)| *id);
        FlowPage {
            next: if has_more { last } else { left },
            flows: self.known(found.into_iter().map(|(_, flow)| flow)),
        }
    }

    async fn found(
        &self,
        store: StoreId,
        window: &Window,
        filter: &FlowFilter,
        most: usize,
        deadline: Instant,
    ) -> Result<Vec<(FlowId, Option<Flow>)>> {
        let mut select = self.flows();
        select.wanted(store, window, filter);
        select.push(" ORDER BY f.id DESC LIMIT ");
        select.number(i64::try_from(most).unwrap_or(i64::MAX));
        self.rows(select, deadline, flow).await
    }

    pub(super) async fn count(
        &self,
        store: StoreId,
        filter: &FlowFilter,
        deadline: Instant,
    ) -> Result<Counted> {
        let mut scan = self.scan(store, filter, None, deadline);
        let mut flows = 0;
        while flows <= MOST_COUNTED
            && let Some(window) = scan.next().await?
        {
            let mut select = self.statement("SELECT COUNT(*) AS flows FROM flows f");
            select.wanted(store, &window, filter);
            let read = |row: &AnyRow| unsigned(row, "flows");
            flows += self.rows(select, deadline, read).await?.iter().sum::<u64>();
        }
        Ok(Counted {
            flows: flows.min(MOST_COUNTED),
            more: flows > MOST_COUNTED || scan.left().is_some(),
        })
    }

    pub(super) async fn stats(
        &self,
        store: StoreId,
        filter: &FlowFilter,
        deadline: Instant,
    ) -> Result<FlowStats> {
        let mut scan = self.scan(store, filter, None, deadline);
        let mut sums: BTreeMap<(i64, i64), Sum> = BTreeMap::new();
        let mut errors: HashMap<String, u64> = HashMap::new();
        while let Some(window) = scan.next().await? {
            for (group, part) in self.sums(store, &window, deadline).await? {
                let sum = sums.entry(group).or_default();
                sum.flows += part.flows;
                sum.took += part.took;
                sum.longest = sum.longest.max(part.longest);
            }
            for (code, steps) in self.errors(store, &window, deadline).await? {
                *errors.entry(code).or_default() += steps;
            }
        }
        let counts = sums.into_iter().map(|((kind, status), sum)| {
            Some(FlowCount {
                kind: FlowKind::of_number(kind)?,
                status: FlowStatus::of_number(status)?,
                flows: sum.flows,
                average_micros: sum.took / sum.flows.max(1) as f64,
                longest_micros: sum.longest,
            })
        });
        Ok(FlowStats {
            since: scan.left().map(FlowId::began),
            counts: self.known(counts),
            errors: most_frequent(errors),
        })
    }

    async fn sums(
        &self,
        store: StoreId,
        window: &Window,
        deadline: Instant,
    ) -> Result<Vec<((i64, i64), Sum)>> {
        let (number, real) = (self.dialect.number, self.dialect.real);
        let mut select = self.statement(format!(
            "SELECT f.kind, f.status, COUNT(*) AS flows, COALESCE(SUM(CAST(f.duration_micros AS {real})), 0.0) AS took, \
             CAST(COALESCE(MAX(f.duration_micros), 0) AS {number}) AS longest FROM flows f"
        ));
        select.wanted(store, window, &FlowFilter::default());
        select.push(" GROUP BY f.kind, f.status");
        let read = |row: &AnyRow| {
            let sum = Sum {
                flows: unsigned(row, "flows")?,
                took: row.try_get("took")?,
                longest: unsigned(row, "longest")?,
            };
            Ok(((row.try_get("kind")?, row.try_get("status")?), sum))
        };
        self.rows(select, deadline, read).await
    }

    async fn errors(
        &self,
        store: StoreId,
        window: &Window,
        deadline: Instant,
    ) -> Result<Vec<(String, u64)>> {
        let mut select = self.statement(
            "SELECT s.error_code, COUNT(*) AS steps FROM flows f JOIN flow_steps s ON s.flow_id = f.id",
        );
        select.wanted(store, window, &FlowFilter::default());
        // Said of the steps too, for no engine concludes it: a plan that begins with failed steps reads those of the window.
        select.within("s.flow_id", window);
        select.push(" AND s.error_code IS NOT NULL GROUP BY s.error_code");
        let read = |row: &AnyRow| Ok((text(row, "error_code")?, unsigned(row, "steps")?));
        let mut errors = self.rows(select, deadline, read).await?;
        let mut select = self.statement("SELECT f.error_code, COUNT(*) AS steps FROM flows f");
        select.wanted(store, window, &FlowFilter::default());
        select.push(" AND f.error_code IS NOT NULL GROUP BY f.error_code");
        errors.extend(self.rows(select, deadline, read).await?);
        Ok(errors)
    }

    pub(super) async fn activity(
        &self,
        store: StoreId,
        filter: &FlowFilter,
        deadline: Instant,
    ) -> Result<Activity> {
        let mut scan = self.scan(store, filter, None, deadline);
        let mut days: BTreeMap<(i64, i64), u64> = BTreeMap::new();
        while let Some(window) = scan.next().await? {
            let day = format!("f.started_at {} {DAY}", self.dialect.divide);
            let mut select = self.statement(format!(
                "SELECT {day} AS day, f.status, COUNT(*) AS flows FROM flows f"
            ));
            select.wanted(store, &window, &FlowFilter::default());
            select.push(&format!(" GROUP BY {day}, f.status"));
            let read = |row: &AnyRow| {
                let group = (row.try_get("day")?, row.try_get("status")?);
                Ok((group, unsigned(row, "flows")?))
            };
            for (group, flows) in self.rows(select, deadline, read).await? {
                *days.entry(group).or_default() += flows;
            }
        }
        let days = days.into_iter().map(|((day, status), flows)| {
            let status = FlowStatus::of_number(status)?;
            Some(DayActivity { day, status, flows })
        });
        Ok(Activity {
            since: scan.left().map(FlowId::began),
            days: self.known(days),
        })
    }
}
