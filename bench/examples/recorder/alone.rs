//! The recorder by itself, on PostgreSQL.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, stream};
use meridian_e2e::{Postgres, sql};
use meridian_flow::sql::SqlFlows;
use meridian_flow::{
    Asked, Flow, FlowId, FlowKind, FlowRecorder, FlowStatus, Recorded, RecorderSettings, StartFlow,
    Step, StepStatus,
};
use meridian_model::{StoreId, Timestamp};
use meridian_store::{DatastoreSettings, PoolSettings};

/// Flows of each kind.
const FLOWS: usize = 100_000;
/// Logins at the same time.
const AT_ONCE: usize = 512;
const WITHIN: Duration = Duration::from_secs(300);
const STORE: &str = "01J00000000000000000RECRDR";

/// Logins of five events each, then decisions of four steps.
pub(crate) async fn run(server: &Postgres) -> anyhow::Result<()> {
    let store: StoreId = STORE.parse()?;
    for (name, kind) in [("logins", Kind::Logins), ("decisions", Kind::Decisions)] {
        let url = server.database(name).await?;
        migrate(&url).await?;
        let sink = Arc::new(SqlFlows::connect_lazy(&url)?);
        let settings = RecorderSettings {
            capacity: FLOWS * 5,
            max_bytes: usize::MAX / 2,
            start_timeout: WITHIN,
            ..RecorderSettings::default()
        };
        let recorder = FlowRecorder::new(sink, settings);
        let start = Instant::now();
        let events = match kind {
            Kind::Logins => logins(&recorder, store).await?,
            Kind::Decisions => decisions(&recorder, store)?,
        };
        recorder.shutdown(WITHIN).await;
        let took = start.elapsed().as_secs_f64();
        let (flows, steps, bytes) = kept(&url).await?;
        ensure!(flows == FLOWS, "of {FLOWS} {name} {flows} were kept");
        println!(
            "{name}: {:.0} events/s kept in PostgreSQL (aim 20,000), which are {:.0} flows/s: {flows} with {steps} steps in \
             {took:.1} s; {:.1} MB for 10,000 flows (the requirements estimate 7 to 9)",
            events as f64 / took,
            flows as f64 / took,
            bytes as f64 / 1e6 / (FLOWS as f64 / 1e4),
        );
    }
    println!();
    Ok(())
}

async fn migrate(url: &str) -> anyhow::Result<()> {
    let pool = PoolSettings {
        min_connections: 0,
        max_connections: 1,
        ..PoolSettings::default()
    };
    let url = url.to_owned();
    let datastore = meridian_store::open(&DatastoreSettings { url, pool })?;
    datastore.migrate().await?;
    Ok(())
}

#[derive(Clone, Copy)]
enum Kind {
    Logins,
    Decisions,
}

/// Each waits for its id, does three steps, and ends: how many events.
async fn logins(recorder: &FlowRecorder, store: StoreId) -> anyhow::Result<usize> {
    let login = |number: usize| async move {
        let start = StartFlow {
            client_id: Some("web".into()),
            grant_type: Some("oidc".into()),
            ip: Some([192, 0, 2, 7].into()),
            user_agent: Some("Mozilla/5.0 (X11; Linux x86_64)".into()),
        };
        let flow = recorder.start_flow(store, start).await?;
        for step in ["authorize", "credential_validation", "finalize"] {
            let took = Duration::from_micros(900);
            recorder.record_step(flow, step, StepStatus::Success, took, None);
        }
        let (took, user) = (Duration::from_millis(3), format!("user:{number}"));
        recorder.complete_flow(flow, FlowStatus::Success, took, Some(&user));
        anyhow::Ok(())
    };
    let mut logins = stream::iter(0..FLOWS).map(login).buffer_unordered(AT_ONCE);
    while let Some(done) = logins.next().await {
        done?;
    }
    Ok(FLOWS * 5)
}

/// Decisions as a node records them: one event each, which is a flow and its steps.
fn decisions(recorder: &FlowRecorder, store: StoreId) -> anyhow::Result<usize> {
    const STEPS: [&str; 4] = ["validate", "cache", "read", "evaluate"];
    let begin = 1_764_000_000_000_000;
    for number in 0..FLOWS {
        let at = begin + i64::try_from(number * 10)?;
        let id = FlowId::new(Timestamp(at));
        let asked = Asked {
            operation: "Check".into(),
            object: format!("document:{number}"),
            relation: "viewer".into(),
            subject: format!("user:{number}"),
            allowed: Some(number % 2 == 0),
            revision: Some("1.1234".into()),
            model: Some("01J000000000000000000M0DE1".into()),
            served_by: "central/eu-1".into(),
            explanation: None,
        };
        let flow = Flow {
            id,
            status: FlowStatus::Success,
            completed_at: Some(Timestamp(at + 9)),
            duration_micros: Some(900),
            ip: Some([192, 0, 2, 7].into()),
            user_agent: Some("grpc-rust/0.14".into()),
            asked: Some(Box::new(asked)),
            ..Flow::begun(store, FlowKind::Decision, Timestamp(at))
        };
        let step = |(place, name): (usize, &&str)| {
            let place = i64::try_from(place).unwrap_or_default();
            Step {
                flow: id,
                at: Timestamp(at + place),
                name: (*name).to_owned(),
                status: StepStatus::Success,
                duration_micros: 200,
                error_code: None,
                error_message: None,
            }
        };
        let steps = STEPS.iter().enumerate().map(step).collect();
        recorder.record_flow(Recorded { flow, steps });
    }
    Ok(FLOWS)
}

/// Flows, steps, and bytes on disk with their indexes.
async fn kept(url: &str) -> anyhow::Result<(usize, usize, u64)> {
    let told = sql(
        url,
        "SELECT (SELECT count(*) FROM flows), (SELECT count(*) FROM flow_steps) \
         + (SELECT coalesce(sum(json_array_length(CAST(steps AS json))), 0) FROM flows), \
         pg_total_relation_size('flows') + pg_total_relation_size('flow_steps')",
    )
    .await?;
    let mut numbers = told.split('|');
    let mut next = || numbers.next().context("too few numbers");
    Ok((next()?.parse()?, next()?.parse()?, next()?.parse()?))
}
