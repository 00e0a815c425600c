//! The programs themselves: settings from a mounted file, migration, and the way out.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::open_fga_service_client::OpenFgaServiceClient;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tonic::transport::Endpoint;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{check_request, github_model, terminate};

const PATIENCE: Duration = Duration::from_secs(60);

fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A central node in a process of its own, with its settings in a file; what it keeps is in `folder`.
struct Central {
    process: Child,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Central {
    async fn start(folder: &Path, drain_delay: &str) -> Self {
        let (grpc, http, nodes) = (free(), free(), free());
        let properties = folder.join("kafka.properties");
        std::fs::write(&properties, "# nobody is there\nsocket.timeout.ms=1000\n").unwrap();
        let settings = json!({
            "name": "c",
            "listen": {"grpc": grpc, "http": http, "nodes": nodes},
            "datastore": {"url": "memory:"},
            "kafka": {"bootstrap": free().to_string(), "propertiesFile": properties},
            "drainDelay": drain_delay,
            "shutdownTimeout": "10s",
        });
        let file = folder.join("node.yaml");
        std::fs::write(&file, settings.to_string()).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_meridian-central"))
            .arg("--config")
            .arg(&file)
            .env_clear()
            .current_dir("/")
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let node = Self {
            process,
            grpc,
            http,
        };
        node.until(ServingStatus::Serving).await;
        node
    }

    /// Waits for what health checks say.
    async fn until(&self, wanted: ServingStatus) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while self.health().await != Some(wanted) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await.unwrap();
    }

    /// Asked over a connection of its own, as a kubelet does.
    async fn health(&self) -> Option<ServingStatus> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        let mut client = HealthClient::new(endpoint.connect().await.ok()?);
        let asked = client.check(HealthCheckRequest::default()).await.ok()?;
        Some(asked.into_inner().status())
    }

    fn terminate(&self) {
        terminate(&self.process);
    }

    async fn store(&self) -> String {
        let mut api = OpenFgaServiceClient::connect(format!("http://{}", self.grpc))
            .await
            .unwrap();
        let created = api.create_store(v1::CreateStoreRequest {
            name: "shop".into(),
        });
        let store = created.await.unwrap().into_inner().id;
        let mut model: v1::WriteAuthorizationModelRequest =
            serde_json::from_value(github_model()).unwrap();
        model.store_id.clone_from(&store);
        api.write_authorization_model(model).await.unwrap();
        store
    }
}

#[tokio::test]
async fn nothing_fails_across_a_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Central::start(folder.path(), "2s").await;
    let store = node.store().await;

    // A request whose body is sent in halves, the second long after the node was told to stop.
    let body = json!({"tuple_key": {"user": "user:anne", "relation": "owner", "object": "repo:1"}});
    let body = body.to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let mut slow = TcpStream::connect(node.http).await.unwrap();
    let head = format!(
        "POST /stores/{store}/check HTTP/1.1\r\nhost: node\r\ncontent-length: {}\r\n\r\n{first}",
        body.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();

    // Clients that ask all the time, over connections they keep, until a balancer would have taken the node out.
    let (left, _) = tokio::sync::watch::channel(false);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut api = OpenFgaServiceClient::connect(format!("http://{}", node.grpc))
            .await
            .unwrap();
        let (store, left) = (store.clone(), left.subscribe());
        clients.spawn(async move {
            let mut asked = 0_u32;
            while !*left.borrow() {
                let check = check_request(&store, ("user:anne", "owner", "repo:1"));
                api.check(check).await.unwrap();
                asked += 1;
            }
            asked
        });
    }

    node.terminate();
    // It says so first, and still takes connections and answers.
    node.until(ServingStatus::NotServing).await;
    assert!(live(node.http).await.starts_with("HTTP/1.1 200"));
    left.send_replace(true);
    while let Some(asked) = clients.join_next().await {
        assert!(asked.unwrap() > 0);
    }

    // No new connections: the delay is over. What was begun is finished all the same.
    let closed = tokio::time::timeout(PATIENCE, async {
        while TcpStream::connect(node.http).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    closed.await.unwrap();
    slow.write_all(second.as_bytes()).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"allowed\":false"),
        "{answer}"
    );
    let ended = tokio::time::timeout(PATIENCE, node.process.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}

/// `/livez`, with its status line.
async fn live(address: SocketAddr) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let ask = b"GET /livez HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
    connection.write_all(ask).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn migrate(url: &str, wait: &str) -> Output {
    let migrate = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["migrate", "--wait", wait])
        .env_clear()
        .env("MERIDIAN_DATASTORE_URL", url)
        .stdin(Stdio::null())
        .output();
    tokio::time::timeout(PATIENCE, migrate)
        .await
        .unwrap()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn migrations_may_run_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.db");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    let all = futures::future::join_all((0..4).map(|_| migrate(&url, "30s"))).await;
    for one in all {
        assert!(one.status.success(), "{}", text(&one.stderr));
        let told = text(&one.stdout);
        assert_eq!(
            told,
            format!("sqlite://{} is of this version's schema\n", file.display())
        );
    }
}

#[tokio::test]
async fn a_migration_that_cannot_be_says_where_and_what_to_do() {
    let database = free();
    let url = format!("postgres://me:hunter2@{database}/app?sslmode=disable");
    let failed = migrate(&url, "1s").await;
    let told = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1));
    for part in [
        &format!("postgres://{database}/app"),
        "refused",
        "check that the database runs",
        "MERIDIAN_DATASTORE_URL",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");

    let failed = migrate("mongodb://me:hunter2@db/app", "1s").await;
    let told = text(&failed.stderr);
    assert!(
        told.contains("unknown scheme 'mongodb'") && !told.contains("hunter2"),
        "{told}"
    );
}

#[tokio::test]
async fn a_newer_schema_is_called_so() {
    use sqlx::ConnectOptions;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.db");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    assert!(migrate(&url, "30s").await.status.success());
    let options: sqlx::sqlite::SqliteConnectOptions = url.parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations SELECT 9999, 'later', installed_on, success, checksum, execution_time FROM _sqlx_migrations LIMIT 1",
    )
    .execute(&mut connection)
    .await
    .unwrap();

    let refused = migrate(&url, "30s").await;
    let told = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        told.contains("newer than this program")
            && told.contains("9999")
            && told.contains("node.db"),
        "{told}"
    );
}

#[tokio::test]
async fn tiers_are_assigned_only_as_said_and_then_shown() {
    let folder = tempfile::tempdir().unwrap();
    let node = Central::start(folder.path(), "0s").await;
    let store = node.store().await;
    let tiers = async |which: &[&str]| {
        let assign = Command::new(env!("CARGO_BIN_EXE_meridian"))
            .args(["tiers", "--api", &node.grpc.to_string(), "--store", &store])
            .args(which)
            .env_clear()
            .stdin(Stdio::null())
            .output();
        tokio::time::timeout(PATIENCE, assign)
            .await
            .unwrap()
            .unwrap()
    };
    let shown = tiers(&["--critical", "user,team", "--cold", "repo"]).await;
    assert_eq!(
        text(&shown.stdout),
        "critical  user\ncritical  team\ncold      repo\n",
        "{}",
        text(&shown.stderr)
    );
    let again = tiers(&[]).await;
    assert_eq!(text(&again.stdout), text(&shown.stdout));
    let refused = tiers(&["--all-warm", "--cold", "repo"]).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("--all-warm"));
    let shown = tiers(&["--all-warm"]).await;
    assert_eq!(
        text(&shown.stdout),
        "warm      user\nwarm      team\nwarm      repo\n"
    );
}
