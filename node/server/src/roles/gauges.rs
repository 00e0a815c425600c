//! How a node stands, measured every few seconds for `/metrics`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_model::ports::{Connections, Datastore, Sizes};
use meridian_model::{Position, StoreId};
use meridian_sync::upstream::Upstream as _;
use meridian_sync::views::Views;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use tokio_util::sync::CancellationToken;

use crate::answers::Answers;
use crate::api::grpc::Readiness;
use crate::peer::Peers;

/// How often it is measured.
const INTERVAL: Duration = Duration::from_secs(5);
/// How many times are left out of what takes work.
const RARELY: u32 = 2;
const TIMEOUT: Duration = Duration::from_secs(5);

const READY: &str = "meridian_ready";
const STORES: &str = "meridian_stores";
const TUPLES: &str = "meridian_tuples";
const OUTBOX: &str = "meridian_outbox_revisions";
const FRESHNESS: &str = "meridian_freshness_seconds";
const LAG: &str = "meridian_replication_lag_revisions";
const KEPT: &str = "meridian_kept_answers";
// As Go's database/sql has them, which OpenFGA's dashboards go by.
const MAX_OPEN: &str = "go_sql_max_open_connections";
const OPEN: &str = "go_sql_open_connections";
const IN_USE: &str = "go_sql_in_use_connections";
const IDLE: &str = "go_sql_idle_connections";
const WAITS: &str = "go_sql_wait_count_total";
const WAITED: &str = "go_sql_wait_duration_seconds_total";
// As the pool of OpenFGA's PostgreSQL has them.
const PGX_MAX: &str = "pgxpool_max_conns";
const PGX_TOTAL: &str = "pgxpool_total_conns";
const PGX_ACQUIRED: &str = "pgxpool_acquired_conns";
const PGX_IDLE: &str = "pgxpool_idle_conns";

/// What a node holds.
pub(super) enum Holding {
    Database(Arc<dyn Datastore>),
    Memory(Arc<Views>, Arc<Answers>),
}

/// What a node below central knows of the time.
pub(super) struct Below {
    /// How old its knowledge is; `None` while it has none.
    pub(super) age: Box<dyn Fn() -> Option<Duration> + Send + Sync>,
    /// When it began.
    pub(super) start: Instant,
    /// The nodes above.
    pub(super) upstream: Peers,
}

/// What is measured.
pub(super) struct Gauges {
    pub(super) readiness: Readiness,
    pub(super) holding: Holding,
    pub(super) below: Option<Below>,
}

impl Gauges {
    /// Measures until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        describe();
        let mut rests = 0;
        loop {
            let measured = async {
                self.often();
                rests = match rests {
                    0 if self.rarely().await.is_some() => RARELY,
                    0 => 0,
                    left => left - 1,
                };
                tokio::time::sleep(INTERVAL).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = measured => {}
            }
        }
    }

    fn often(&self) {
        gauge!(READY).set(f64::from(u8::from(self.readiness.is_ready())));
        if let Some(below) = &self.below {
            // Nothing known yet is as old as the process at least.
            let age = (below.age)().unwrap_or_else(|| below.start.elapsed());
            gauge!(FRESHNESS).set(age.as_secs_f64());
        }
        match &self.holding {
            Holding::Database(datastore) => {
                if let Some(connections) = datastore.connections() {
                    pool(&connections);
                }
            }
            Holding::Memory(_, answers) => gauge!(KEPT).set(answers.count() as f64),
        }
    }

    /// What asks the database or the node above; `None` when one is away, which is told of elsewhere.
    async fn rarely(&self) -> Option<()> {
        let deadline = Instant::now() + TIMEOUT;
        let above = match &self.below {
            Some(below) => Some(below.upstream.positions(deadline).await),
            None => None,
        };
        // After the node above was asked, so that what arrives meanwhile is no lag.
        let here = self.holding.positions(deadline).await?;
        gauge!(STORES).set(here.len() as f64);
        if let Some(Ok(above)) = &above {
            gauge!(LAG).set(lag(&above.stores, here) as f64);
        }
        self.holding.measure(deadline).await?;
        above.is_none_or(|above| above.is_ok()).then_some(())
    }
}

impl Holding {
    async fn positions(&self, deadline: Instant) -> Option<Vec<(StoreId, Position)>> {
        match self {
            Self::Database(datastore) => datastore.positions(deadline).await.ok(),
            Self::Memory(views, _) => Some(views.positions()),
        }
    }

    async fn measure(&self, deadline: Instant) -> Option<()> {
        let tuples = match self {
            Self::Database(datastore) => {
                let Sizes { tuples, outbox } = datastore.sizes(deadline).await.ok()?;
                gauge!(OUTBOX).set(outbox as f64);
                tuples
            }
            Self::Memory(views, _) => {
                let views = Arc::clone(views);
                // Counting walks over all sets.
                let counted = tokio::task::spawn_blocking(move || {
                    let stores = views.positions().into_iter();
                    let shown = stores.filter_map(|(store, _)| views.get(store));
                    shown.map(|shown| shown.view.tuple_count() as u64).sum()
                });
                counted.await.ok()?
            }
        };
        gauge!(TUPLES).set(tuples as f64);
        Some(())
    }
}

/// By how many revisions the store furthest behind is behind; one that is not here is behind by all of them.
fn lag(above: &[(StoreId, Position)], here: Vec<(StoreId, Position)>) -> u64 {
    let here: HashMap<StoreId, Position> = here.into_iter().collect();
    let behind = above.iter().map(|(store, there)| {
        let known = here.get(store).map_or(0, |known| known.revision.0);
        there.revision.0.saturating_sub(known)
    });
    behind.max().unwrap_or_default()
}

fn pool(connections: &Connections) {
    let Connections {
        max,
        open,
        in_use,
        waits,
        waited,
    } = *connections;
    let idle = open.saturating_sub(in_use);
    for (of_sql, of_pgx, connections) in [
        (MAX_OPEN, PGX_MAX, max),
        (OPEN, PGX_TOTAL, open),
        (IN_USE, PGX_ACQUIRED, in_use),
        (IDLE, PGX_IDLE, idle),
    ] {
        gauge!(of_sql).set(connections);
        gauge!(of_pgx).set(connections);
    }
    counter!(WAITS).absolute(waits);
    gauge!(WAITED).set(waited.as_secs_f64());
}

fn describe() {
    describe_gauge!(READY, "1 while the node is ready");
    describe_gauge!(STORES, "Stores the node holds, deleted ones included");
    describe_gauge!(TUPLES, "Tuples the node holds");
    describe_gauge!(OUTBOX, "Revisions committed here and not yet published");
    describe_gauge!(FRESHNESS, Unit::Seconds, "Age of what the node knows");
    describe_gauge!(
        LAG,
        "Revisions by which the store furthest behind is behind the node above"
    );
    describe_gauge!(KEPT, "Answers of nodes above that are kept");
    for (of_sql, of_pgx, what) in [
        (MAX_OPEN, PGX_MAX, "Connections to the database at most"),
        (OPEN, PGX_TOTAL, "Connections to the database"),
        (
            IN_USE,
            PGX_ACQUIRED,
            "Connections to the database that are in use",
        ),
        (IDLE, PGX_IDLE, "Connections to the database that are idle"),
    ] {
        describe_gauge!(of_sql, what);
        describe_gauge!(of_pgx, what);
    }
    describe_counter!(WAITS, "Waits for a connection to the database");
    describe_gauge!(
        WAITED,
        Unit::Seconds,
        "Time waited for connections to the database"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_that_of_the_store_furthest_behind() {
        let id = |last| format!("01ARZ3NDEKTSV4RRFFQ69G5FA{last}").parse().unwrap();
        let at = |last, revision| (id(last), Position::new(1, revision));
        let above = [at('A', 10), at('B', 7), at('C', 3)];
        assert_eq!(lag(&above, vec![at('A', 9), at('B', 3), at('C', 5)]), 4);
        assert_eq!(lag(&above, vec![at('A', 10), at('B', 7)]), 3);
        assert_eq!(lag(&above, above.to_vec()), 0);
    }
}
