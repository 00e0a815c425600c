//! The programs as somebody at a terminal meets them: what they say and how they end.

use std::process::Stdio;
use std::time::Duration;

use meridian_server::config::Config;
use meridian_server::roles;
use sqlx::ConnectOptions as _;
use tokio::process::Command;

use crate::harness::NOBODY;

const PATIENCE: Duration = Duration::from_secs(60);

fn config(folder: &std::path::Path) -> Config {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = Config::default();
    (config.listen.grpc, config.listen.http, config.listen.nodes) = (any, any, any);
    config.name = "c".into();
    config.datastore.url = url(folder);
    config.kafka.bootstrap = "127.0.0.1:9".into();
    config.shutdown_timeout = Duration::from_millis(100);
    config
}

fn url(folder: &std::path::Path) -> String {
    format!("sqlite://{}?mode=rwc", folder.join("c.db").display())
}

/// How a program ends, and what it prints to either stream.
async fn run(program: &str, arguments: &[&str]) -> (Option<i32>, String) {
    run_with(program, arguments, &[]).await
}

/// As [`run`], with these variables and no others.
async fn run_with(
    program: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> (Option<i32>, String) {
    let run = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(told).unwrap())
}

async fn meridian(arguments: &[&str]) -> (Option<i32>, String) {
    run(env!("CARGO_BIN_EXE_meridian"), arguments).await
}

#[tokio::test]
async fn the_help_of_each_node_begins_with_what_it_is() {
    for (program, beginning) in [
        (env!("CARGO_BIN_EXE_meridian-central"), "A central node: "),
        (env!("CARGO_BIN_EXE_meridian-regional"), "A regional node: "),
        (env!("CARGO_BIN_EXE_meridian-edge"), "An edge node: "),
    ] {
        for help in ["--help", "-h"] {
            let (code, told) = run(program, &[help]).await;
            assert_eq!(code, Some(0), "{told}");
            assert!(told.starts_with(beginning), "{told}");
        }
    }
}

#[tokio::test]
async fn empty_variables_are_as_none() {
    let variables = [
        ("MERIDIAN_CONFIG", ""),
        ("MERIDIAN_DATASTORE_URL", ""),
        ("MERIDIAN_KAFKA_BOOTSTRAP", " "),
        ("MERIDIAN_LOG", ""),
        ("MERIDIAN_LOG_FORMAT", ""),
        ("MERIDIAN_NAME", ""),
        ("OPENFGA_METRICS_ENABLE_RPC_HISTOGRAMS", ""),
        // What the start ends by.
        ("MERIDIAN_LISTEN_GRPC", "nowhere"),
    ];
    let central = env!("CARGO_BIN_EXE_meridian-central");
    let (code, told) = run_with(central, &[], &variables).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("MERIDIAN_LISTEN_GRPC"), "{told}");
    let one = [("OPENFGA_METRICS_ENABLE_RPC_HISTOGRAMS", "1"), variables[7]];
    let (code, told) = run_with(central, &[], &one).await;
    assert_eq!(code, Some(1), "{told}");

    let meridian = env!("CARGO_BIN_EXE_meridian");
    let check = ["check", "--api", "127.0.0.1:9", "repo:1#reader@user:anne"];
    let none = [
        ("MERIDIAN_CA", ""),
        ("MERIDIAN_STORE", ""),
        ("MERIDIAN_TLS", ""),
        ("MERIDIAN_TOKEN", ""),
    ];
    let (code, told) = run_with(meridian, &check, &none).await;
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("required") && told.contains("--store"),
        "{told}"
    );
    let store = [none[0], ("MERIDIAN_STORE", NOBODY), none[2], none[3]];
    let (code, told) = run_with(meridian, &check, &store).await;
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("no node answers at 127.0.0.1:9"), "{told}");
}

#[tokio::test]
async fn a_mistyped_variable_ends_the_start() {
    let central = env!("CARGO_BIN_EXE_meridian-central");
    let mistyped = [("MERIDIAN_AUTHN_METHD", "preshared")];
    let (code, told) = run_with(central, &[], &mistyped).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("is MERIDIAN_AUTHN_METHOD meant?"), "{told}");
}

#[tokio::test]
async fn a_log_level_that_is_none_ends_the_start() {
    let program = env!("CARGO_BIN_EXE_meridian-central");
    let (code, told) = run(program, &["--config", "none.toml", "--log", "verbose"]).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("'verbose' is no level"), "{told}");
}

#[tokio::test]
async fn a_check_ends_with_its_answer_and_says_what_is_wrong_with_the_question() {
    let folder = tempfile::tempdir().unwrap();
    let node = roles::central(&config(folder.path())).await.unwrap();
    node.ready().await;
    let (grpc, http) = (node.grpc.to_string(), node.http.to_string());
    let model = folder.path().join("model.fga");
    std::fs::write(
        &model,
        "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define reader: [user]\n",
    )
    .unwrap();
    let (_, store) = meridian(&["create-store", "--api", &grpc, "shop"]).await;
    let at = ["--api", &grpc, "--store", store.trim()];
    let ask =
        async |command: &str, rest: &[&str]| meridian(&[&[command], &at[..], rest].concat()).await;
    assert_eq!(
        meridian(&["stores", "--api", &grpc]).await,
        (Some(0), format!("{}  shop\n", store.trim()))
    );
    assert_eq!(ask("model", &[model.to_str().unwrap()]).await.0, Some(0));
    assert_eq!(ask("write", &["doc:1#reader@user:anne"]).await.0, Some(0));

    let (code, told) = ask("check", &["doc:1#reader@user:anne"]).await;
    assert!(code == Some(0) && told.starts_with("allowed"), "{told}");
    let (code, told) = ask("check", &["doc:1#reader@user:bob"]).await;
    assert!(code == Some(1) && told.starts_with("denied"), "{told}");
    let (code, told) = ask("check", &["doc:1#owner@user:bob"]).await;
    assert!(code == Some(2) && told.starts_with("error: "), "{told}");

    let (code, told) = meridian(&["tiers", "--api", &grpc, "--store", "nonsense"]).await;
    assert_eq!(code, Some(2));
    assert!(told.contains("must be 26 characters"), "{told}");

    let question = ["--store", store.trim(), "doc:1#reader@user:anne"];
    let (code, told) = meridian(&[&["check", "--api", &http], &question[..]].concat()).await;
    assert_eq!(code, Some(2));
    let beginning = format!("error: {http} (--api) is no gRPC port");
    assert!(told.starts_with(&beginning), "{told}");
    node.stop().await;
}

#[tokio::test]
async fn of_two_nodes_of_one_name_one_relays_and_the_other_follows_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let first = roles::central(&config).await.unwrap();
    let before = holder_after(folder.path(), "").await;
    assert!(before.starts_with("central/c "), "{before}");
    let second = roles::central(&config).await.unwrap();
    first.stop().await;
    // Sooner than the lease ends by itself.
    let after = tokio::time::timeout(
        Duration::from_secs(10),
        holder_after(folder.path(), &before),
    );
    after.await.unwrap();
    second.stop().await;
}

/// Who holds the relay's lease once it is somebody else than `before`.
async fn holder_after(folder: &std::path::Path, before: &str) -> String {
    let options: sqlx::sqlite::SqliteConnectOptions = url(folder).parse().unwrap();
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(mut connection) = options.connect().await {
                let holder: Result<String, _> = sqlx::query_scalar("SELECT holder FROM leases")
                    .fetch_one(&mut connection)
                    .await;
                match holder {
                    Ok(holder) if holder != before => return holder,
                    _ => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap()
}
