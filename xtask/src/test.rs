//! `cargo xtask test`: every check and every test.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::Result;
use meridian_e2e::{Kafka, MariaDb, Postgres};

use crate::stage::{Done, Stage, cargo, stage};
use crate::{client, coverage, images, report, setup};

/// The servers that all tests share.
struct Servers {
    postgres: Postgres,
    mariadb: MariaDb,
    kafka: Kafka,
}

/// Runs all stages; one that fails keeps only those from running that cannot do without it.
///
/// What compiles runs one after the other, for cargo's lock and the processors would let nothing else be gained; what
/// fetches runs beside it.
pub(crate) async fn command() -> Result<ExitCode> {
    let start = Instant::now();
    setup::require_compilers()?;
    let is_cold = setup::is_missing_tools()? || !images::is_built()?;
    let ((tests, mut stages), (deny, _)) = tokio::join!(
        async {
            let ((mut stages, built), (prepared, servers)) = tokio::join!(compile(), prepare());
            let cluster_ready = prepared.iter().all(Done::passed);
            stages.extend(prepared);
            // One after the other: each has servers with deadlines, and clusters and compilers take all there is.
            let cluster = cluster(built, cluster_ready).await;
            let (client, packed) = stage("client", client::test).await;
            let browser = browser(built, cluster_ready, packed.is_some()).await;
            let test = tests(built, servers).await;
            let (coverage, _) = stage("coverage", coverage::measure).await;
            ([cluster, client, browser, coverage, test], stages)
        },
        stage("deny", deny)
    );
    stages.push(deny);
    stages.extend(tests);
    let whole = start.elapsed();
    let code = report::print(&stages, whole);
    report::print_limit(whole, is_cold);
    report::print_test_results(&stages);
    Ok(code)
}

/// Format, lints and build; the last says whether there is something to test.
async fn compile() -> (Vec<Done>, bool) {
    let fmt = ["fmt", "--all", "--check", "--", "-l"];
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    let build = ["test", "--workspace", "--no-run"];
    let (fmt, _) = stage("fmt", async |stage: &Stage| {
        stage.run(cargo()?.args(fmt)).await
    })
    .await;
    let (clippy, _) = stage("clippy", async |stage: &Stage| {
        stage.run(cargo()?.args(clippy)).await
    })
    .await;
    let (build, _) = stage("build", async |stage: &Stage| {
        stage.run(cargo()?.args(build)).await
    })
    .await;
    let built = build.passed();
    (vec![fmt, clippy, build], built)
}

/// Sets up everything, and starts Kafka, PostgreSQL and MariaDB.
async fn prepare() -> (Vec<Done>, Option<Servers>) {
    let (tools, ready) = stage("tools", setup::servers).await;
    // Both may install packages.
    let servers = async {
        match ready {
            Some(()) => stage("servers", start).await,
            None => (Done::skipped("servers", "tools failed"), None),
        }
    };
    let ((servers, started), (programs, _)) =
        tokio::join!(servers, stage("programs", setup::programs));
    (vec![tools, servers, programs], started)
}

async fn start(stage: &Stage) -> Result<Servers> {
    let (postgres, mariadb, kafka) =
        tokio::try_join!(Postgres::start(), MariaDb::start(), Kafka::start())?;
    stage.line(&format!("PostgreSQL {}", postgres.url()));
    stage.line(&format!("MariaDB    {}", mariadb.url()));
    stage.line(&format!("Kafka      {}", kafka.bootstrap()));
    Ok(Servers {
        postgres,
        mariadb,
        kafka,
    })
}

async fn tests(built: bool, servers: Option<Servers>) -> Done {
    if !built {
        return Done::skipped("test", "build failed");
    }
    let Some(mut servers) = servers else {
        return Done::skipped("test", "servers failed");
    };
    let (done, _) = stage("test", async |stage: &Stage| {
        let mut test = cargo()?;
        // What tests print are figures that somebody asked for.
        test.args([
            "test",
            "--workspace",
            "--no-fail-fast",
            "--",
            "--show-output",
        ]);
        test.env("MERIDIAN_TEST_POSTGRES", servers.postgres.url());
        test.env("MERIDIAN_TEST_MYSQL", servers.mariadb.url());
        test.env("MERIDIAN_TEST_KAFKA", servers.kafka.bootstrap());
        stage.run(&mut test).await
    })
    .await;
    tokio::join!(
        servers.postgres.kill(),
        servers.mariadb.kill(),
        servers.kafka.kill()
    );
    done
}

/// The tests on Kubernetes, which wait more than they work.
async fn cluster(built: bool, prepared: bool) -> Done {
    if !built {
        return Done::skipped("cluster", "build failed");
    }
    if !prepared {
        return Done::skipped("cluster", "tools, servers or programs failed");
    }
    let (done, _) = stage("cluster", async |stage: &Stage| {
        setup::node(stage).await?;
        let images = images::make(stage).await?;
        let mut test = cargo()?;
        // All at a time, for they share a cluster that ends with the last of them.
        test.args(["test", "--workspace", "--test", "cluster", "--"])
            .args(["--ignored", "--test-threads=8", "--show-output"])
            .env("MERIDIAN_TEST_IMAGES", images);
        stage.run(&mut test).await
    })
    .await;
    done
}

/// Pages in a browser, on whole systems.
async fn browser(built: bool, prepared: bool, packed: bool) -> Done {
    if !built {
        return Done::skipped("browser", "build failed");
    }
    if !prepared || !packed {
        return Done::skipped("browser", "tools, servers, programs or client failed");
    }
    let (done, _) = stage("browser", async |stage: &Stage| {
        let mut test = cargo()?;
        test.args(["test", "--workspace", "--test", "it", "browser::"])
            .args(["--", "--ignored", "--show-output"]);
        stage.run(&mut test).await
    })
    .await;
    done
}

async fn deny(stage: &Stage) -> Result<()> {
    let program = setup::cargo_deny(stage).await?;
    let workspace = cargo()?;
    let mut deny = Command::new(program);
    if let Some(root) = workspace.get_current_dir() {
        deny.current_dir(root);
    }
    stage
        .run(deny.args([
            "--workspace",
            "check",
            "--hide-inclusion-graph",
            "licenses",
            "bans",
            "sources",
        ]))
        .await
}
