//! A database that goes away for a while and comes back, and a purge beside a writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meridian_flow::ports::FlowFilter;
use meridian_flow::recorder::{Change, OverridesChange};
use meridian_flow::retention::{self, Sweeper};
use meridian_flow::sql::SqlFlows;
use meridian_flow::{
    FlowRecorder, FlowStatus, NotStored, RecorderSettings, Repository, RepositoryError, Row,
    StartFlow, StepStatus,
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::{
    Deleted, Told, deadline, decision, flow, migrated_sqlite, step, store, with_mysql,
    with_postgres,
};

/// A way to a database that can be cut.
struct Line {
    address: std::net::SocketAddr,
    is_cut: Arc<AtomicBool>,
    cut: Arc<tokio::sync::Notify>,
}

impl Line {
    async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_cut, cut) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(tokio::sync::Notify::new()),
        );
        let (state, ends) = (is_cut.clone(), cut.clone());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                if state.load(Ordering::SeqCst) {
                    continue;
                }
                let (target, ends) = (target.clone(), ends.clone());
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = ends.notified() => {}
                    }
                });
            }
        });
        Self {
            address,
            is_cut,
            cut,
        }
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.cut.notify_waiters();
    }

    fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

/// The same URL by another way.
fn by(url: &str, line: &Line) -> (String, String) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let at = if user.is_empty() { "" } else { "@" };
    let host = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:5432")
    };
    (
        format!("{scheme}://{user}{at}{}/{path}", line.address),
        host,
    )
}

#[tokio::test]
async fn an_outage_loses_nothing_that_there_was_room_for() {
    with_postgres(|flows, url| async move {
        let host = by(&url, &Line::to(String::new()).await).1;
        let line = Line::to(host).await;
        let way = SqlFlows::connect_lazy(&by(&url, &line).0).unwrap();
        let settings = RecorderSettings {
            flush_interval: Duration::from_millis(5),
            start_timeout: Duration::from_millis(300),
            ..RecorderSettings::default()
        };
        let recorder = FlowRecorder::new(Arc::new(way), settings);
        let first = recorder
            .start_flow(store(1), StartFlow::default())
            .await
            .unwrap();

        line.cut();
        let started = Instant::now();
        let none = recorder.start_flow(store(1), StartFlow::default()).await;
        assert_eq!(none, Err(NotStored::Late));
        assert!(started.elapsed() < Duration::from_secs(5));
        for number in 0..200 {
            let name = format!("{number:03}");
            recorder.record_step(first, &name, StepStatus::Success, Duration::ZERO, None);
            recorder.record_flow(decision(store(2), number, 3));
        }
        recorder.complete_flow(first, FlowStatus::Success, Duration::from_secs(1), None);

        line.mend();
        recorder.shutdown(Duration::from_secs(30)).await;
        let steps = flows.get_steps_for_flow(first, deadline()).await.unwrap();
        let names: Vec<_> = steps.into_iter().map(|step| step.name).collect();
        let expected: Vec<_> = (0..200).map(|number| format!("{number:03}")).collect();
        assert_eq!(names, expected);
        let all = FlowFilter::default();
        assert_eq!(
            flows
                .count_flows(store(2), &all, deadline())
                .await
                .unwrap()
                .flows,
            200
        );
        // The one that was not told of is not there.
        assert_eq!(
            flows
                .count_flows(store(1), &all, deadline())
                .await
                .unwrap()
                .flows,
            1
        );
        let flow = flows
            .get_flow_by_id(store(1), first, deadline())
            .await
            .unwrap();
        assert_eq!(flow.unwrap().status, FlowStatus::Success);
    })
    .await;
}

/// Has PostgreSQL keep how many flows each statement deleted.
const COUNT_GONE: &str = "
    CREATE TABLE gone (id BIGSERIAL, flows BIGINT);
    CREATE FUNCTION count_gone() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO gone (flows) SELECT COUNT(*) FROM old; RETURN NULL; END';
    CREATE TRIGGER gone AFTER DELETE ON flows REFERENCING OLD TABLE AS old
        FOR EACH STATEMENT EXECUTE FUNCTION count_gone()";

#[tokio::test]
async fn a_purge_goes_on_beside_a_writer() {
    with_postgres(|flows, url| async move {
        let old: Vec<_> = (0..3_000)
            .map(|number| decision(store(1), number - 500_000_000, 1))
            .map(|whole| Row::Whole(Box::new(whole)))
            .collect();
        flows.write(&old, deadline()).await.unwrap();
        let mut admin = PgConnection::connect(&url).await.unwrap();
        admin.execute(COUNT_GONE).await.unwrap();
        let writer = Arc::new(SqlFlows::connect_lazy(&url).unwrap());
        let recorder = FlowRecorder::new(writer, RecorderSettings::default());
        let (mut sweeper, none) = (Sweeper::default(), Deleted::none());
        let sweep = sweeper.sweep(&*flows, &none, &recorder, deadline());
        let write = async {
            let mut slowest = Duration::ZERO;
            for _ in 0..50 {
                let started = Instant::now();
                recorder
                    .start_flow(store(1), StartFlow::default())
                    .await
                    .unwrap();
                slowest = slowest.max(started.elapsed());
            }
            slowest
        };
        let (swept, slowest) = tokio::join!(sweep, write);
        assert_eq!(swept.unwrap().purged, 3_000);
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
        let every = FlowFilter::default();
        let left = flows.count_flows(store(1), &every, deadline());
        assert_eq!(left.await.unwrap().flows, 50);
        // Few with each statement, and no more than twice as many as with the one before.
        let gone: Vec<(i64,)> = sqlx::query_as("SELECT flows FROM gone ORDER BY id")
            .fetch_all(&mut admin)
            .await
            .unwrap();
        let gone: Vec<_> = gone.into_iter().map(|(flows,)| flows).collect();
        assert_eq!((gone[0], gone.iter().sum()), (500, 3_000), "{gone:?}");
        let is_bounded = |two: &[i64]| two[1] <= 2 * two[0];
        assert!(gone.windows(2).all(is_bounded), "{gone:?}");
    })
    .await;
}

#[tokio::test]
async fn a_session_outlives_its_flow_and_has_none_that_is_not_there() {
    with_postgres(|flows, url| async move {
        let recorder = FlowRecorder::new(
            Arc::new(SqlFlows::connect_lazy(&url).unwrap()),
            RecorderSettings::default(),
        );
        let id = recorder
            .start_flow(store(1), StartFlow::default())
            .await
            .unwrap();
        let mut admin = PgConnection::connect(&url).await.unwrap();
        let insert = |session: &str, flow: String| {
            AssertSqlSafe(format!(
                "INSERT INTO live_sessions (id, store_id, flow_id, node, user_id, connected_at) \
                 VALUES ('{session}', '{}', '{flow}', 'edge/one', 'user:anne', 0)",
                store(1)
            ))
        };
        let nobody = "019470a1-8f6e-7c3a-9d58-1f2b3c4d5e6f".to_owned();
        assert!(admin.execute(insert("a", nobody)).await.is_err());
        admin.execute(insert("b", id.to_string())).await.unwrap();
        let later = meridian_model::Timestamp(i64::MAX / 2);
        let purged = flows.purge_old_flows(store(1), later, 10, deadline());
        assert_eq!(purged.await.unwrap(), 1);
        let left: (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM live_sessions WHERE flow_id IS NULL")
                .fetch_one(&mut admin)
                .await
                .unwrap();
        assert_eq!(left.0, 1);
    })
    .await;
}

/// That flows are written while questions hang for a lock that somebody else holds, as many as there are connections for them
/// and more that wait for one; and that those who asked leave no statement behind. `waiting` counts who waits for a lock.
async fn assert_it_writes_beside_questions(flows: &Arc<dyn Repository>, url: &str, waiting: &str) {
    let mut other = AnyConnection::connect(url).await.unwrap();
    let mut waits_for_lock = async || {
        let count = sqlx::query_as(AssertSqlSafe(waiting)).fetch_one(&mut other);
        let (count,): (i64,) = count.await.unwrap();
        count
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut asked = JoinSet::new();
    for _ in 0..8 {
        let flows = Arc::clone(flows);
        asked.spawn(async move { flows.get_overrides(deadline).await });
    }
    while waits_for_lock().await < 4 {
        assert!(Instant::now() < deadline, "fewer questions than four hang");
    }
    let whole = Row::Whole(Box::new(decision(store(1), 0, 2)));
    flows.write(&[whole], deadline).await.unwrap();
    assert!(asked.try_join_next().is_none(), "a question does not hang");

    for answer in asked.join_all().await {
        assert!(
            matches!(answer, Err(RepositoryError::DeadlineExceeded)),
            "{answer:?}"
        );
    }
    let until = Instant::now() + Duration::from_secs(5);
    while waits_for_lock().await > 0 {
        assert!(Instant::now() < until, "some still wait for the lock");
    }
}

#[tokio::test]
async fn questions_that_hang_hold_up_no_writer_in_postgres() {
    with_postgres(|flows, url| async move {
        let mut admin = PgConnection::connect(&url).await.unwrap();
        admin
            .execute("BEGIN; LOCK TABLE flow_settings IN ACCESS EXCLUSIVE MODE")
            .await
            .unwrap();
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        assert_it_writes_beside_questions(&flows, &url, waiting).await;
    })
    .await;
}

#[tokio::test]
async fn questions_that_hang_hold_up_no_writer_in_mysql() {
    with_mysql(|flows, url| async move {
        let mut admin = MySqlConnection::connect(&url).await.unwrap();
        admin
            .execute("LOCK TABLES flow_settings WRITE")
            .await
            .unwrap();
        let waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND state LIKE 'Waiting for table%'";
        assert_it_writes_beside_questions(&flows, &url, waiting).await;
    })
    .await;
}

#[tokio::test]
async fn two_who_purge_take_different_flows_and_say_what_is_left() {
    with_postgres(|flows, url| async move {
        let old: Vec<_> = (0..20)
            .map(|number| Row::Whole(Box::new(decision(store(1), number, 1))))
            .collect();
        flows.write(&old, deadline()).await.unwrap();
        // Another purge has deleted the first ones and not committed yet.
        let mut other = PgConnection::connect(&url).await.unwrap();
        other
            .execute(
                "BEGIN; DELETE FROM flows WHERE id IN (SELECT id FROM flows ORDER BY id LIMIT 15)",
            )
            .await
            .unwrap();
        let later = meridian_model::Timestamp(i64::MAX);
        let deadline_soon = Instant::now() + Duration::from_secs(5);
        let purged = flows.purge_old_flows(store(1), later, 15, deadline_soon);
        assert_eq!(purged.await.unwrap(), 5);
        let purge = retention::purge(&*flows, store(1), later, Instant::now());
        let purged = purge.await.unwrap();
        assert_eq!((purged.flows, purged.more), (0, true));
        other.execute("ROLLBACK").await.unwrap();
        let purge = retention::purge(&*flows, store(1), later, deadline());
        let purged = purge.await.unwrap();
        assert_eq!((purged.flows, purged.more), (15, false));
    })
    .await;
}

#[tokio::test]
async fn nothing_goes_while_what_is_set_of_stores_cannot_be_read() {
    with_postgres(|flows, url| async move {
        let old = Row::Whole(Box::new(decision(store(1), -1_000_000_000, 1)));
        flows.write(&[old], deadline()).await.unwrap();
        let forever = OverridesChange {
            retention: Change::Set(Duration::from_secs(100 * 365 * 86_400)),
            ..OverridesChange::default()
        };
        let set = flows.change_overrides(store(1), &forever, deadline());
        set.await.unwrap();
        let mut admin = PgConnection::connect(&url).await.unwrap();
        let away = "ALTER TABLE flow_settings RENAME TO away";
        admin.execute(away).await.unwrap();
        let recorder = FlowRecorder::new(Told::new(), RecorderSettings::default());
        let (mut sweeper, none) = (Sweeper::default(), Deleted::none());
        let swept = sweeper.sweep(&*flows, &none, &recorder, deadline()).await;
        assert!(
            matches!(swept, Err(RepositoryError::Unavailable(_))),
            "{swept:?}"
        );
        admin
            .execute("ALTER TABLE away RENAME TO flow_settings")
            .await
            .unwrap();
        for purged in [0, 1] {
            let swept = sweeper.sweep(&*flows, &none, &recorder, deadline());
            assert_eq!(swept.await.unwrap().purged, purged);
            let unset = OverridesChange {
                retention: Change::Unset,
                ..OverridesChange::default()
            };
            let set = flows.change_overrides(store(1), &unset, deadline());
            set.await.unwrap();
        }
    })
    .await;
}

/// A row with a text that no column of MySQL has room for and no text of PostgreSQL may hold.
fn bad() -> Row {
    let mut whole = decision(store(1), 0, 0);
    whole.flow.client_id = Some(format!("{}\0", "x".repeat(600)));
    Row::Whole(Box::new(whole))
}

/// What is refused can never be written; without its tables a database may be mended.
async fn assert_told_apart(flows: &Arc<dyn Repository>, drop_tables: impl Future<Output = ()>) {
    let refused = flows.write(&[bad()], deadline()).await;
    assert!(
        matches!(refused, Err(RepositoryError::Rejected(_))),
        "{refused:?}"
    );
    drop_tables.await;
    let begun = flow(store(1), 0);
    let step = Row::Step(Box::new(step(begun.id, 1, "connect")));
    let good = [Row::Start(Box::new(begun)), step];
    let away = flows.write(&good, deadline()).await;
    assert!(
        matches!(away, Err(RepositoryError::Unavailable(_))),
        "{away:?}"
    );
}

#[tokio::test]
async fn what_postgres_refuses_is_told_from_what_it_cannot_do_now() {
    with_postgres(|flows, url| async move {
        assert_told_apart(&flows, async {
            let mut admin = PgConnection::connect(&url).await.unwrap();
            admin.execute("DROP TABLE flow_steps").await.unwrap();
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn what_mysql_refuses_is_told_from_what_it_cannot_do_now() {
    with_mysql(|flows, url| async move {
        assert_told_apart(&flows, async {
            let mut admin = MySqlConnection::connect(&url).await.unwrap();
            admin.execute("DROP TABLE flow_steps").await.unwrap();
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn what_sqlite_refuses_is_told_from_what_it_cannot_do_now() {
    let folder = tempfile::tempdir().unwrap();
    let flows: Arc<dyn Repository> = Arc::new(migrated_sqlite(folder.path()).await);
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let mut admin = sqlx::SqliteConnection::connect(&url).await.unwrap();
    // It has no text that is too long: a rule of its own stands for one.
    admin
        .execute("CREATE TRIGGER long BEFORE INSERT ON flows WHEN length(NEW.client_id) > 512 BEGIN SELECT RAISE(ABORT, 'too long'); END")
        .await
        .unwrap();
    assert_told_apart(&flows, async {
        admin.execute("DROP TABLE flow_steps").await.unwrap();
    })
    .await;
    // Somebody else writes for longer than there is time.
    admin.execute("BEGIN IMMEDIATE").await.unwrap();
    let soon = Instant::now() + Duration::from_millis(300);
    let late = flows.change_overrides(store(1), &off(), soon).await;
    assert!(
        matches!(
            late,
            Err(RepositoryError::DeadlineExceeded | RepositoryError::Unavailable(_))
        ),
        "{late:?}"
    );
}

fn off() -> OverridesChange {
    OverridesChange {
        enabled: Change::Set(false),
        ..OverridesChange::default()
    }
}
