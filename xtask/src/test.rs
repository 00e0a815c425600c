//! `cargo xtask test`: every check and every test.

use std::process::{Command, ExitCode};

use anyhow::Result;
use meridian_e2e::{Kafka, Postgres};

use crate::stage::{Done, Stage, cargo, stage};
use crate::{report, setup};

/// The servers that all tests share.
struct Servers {
    postgres: Postgres,
    kafka: Kafka,
}

/// Runs all stages; one that fails keeps only those from running that cannot do without it.
///
/// What compiles runs one after the other, for cargo's lock and the processors would let nothing else be gained; what
/// fetches and waits runs beside it.
pub(crate) async fn command() -> Result<ExitCode> {
    setup::require_compilers()?;
    let (tests, deny) = tokio::join!(
        async {
            let ((mut stages, built), (tools, servers)) = tokio::join!(compile(), prepare());
            stages.extend(tools);
            (tests(built, servers).await, stages)
        },
        stage("deny", deny)
    );
    let ((tests, mut stages), (deny, _)) = (tests, deny);
    stages.push(deny);
    stages.push(tests);
    let code = report::print(&stages);
    if let Some(tests) = stages.last() {
        report::print_test_results(tests);
    }
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

/// Sets up Kafka and PostgreSQL, and starts them.
async fn prepare() -> (Vec<Done>, Option<Servers>) {
    let (tools, ready) = stage("tools", setup::servers).await;
    if ready.is_none() {
        return (vec![tools, Done::skipped("servers", "tools failed")], None);
    }
    let (servers, started) = stage("servers", start).await;
    (vec![tools, servers], started)
}

async fn start(stage: &Stage) -> Result<Servers> {
    let (postgres, kafka) = tokio::try_join!(Postgres::start(), Kafka::start())?;
    stage.line(&format!("PostgreSQL {}", postgres.url()));
    stage.line(&format!("Kafka      {}", kafka.bootstrap()));
    Ok(Servers { postgres, kafka })
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
        test.env("MERIDIAN_TEST_KAFKA", servers.kafka.bootstrap());
        stage.run(&mut test).await
    })
    .await;
    tokio::join!(servers.postgres.kill(), servers.kafka.kill());
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
