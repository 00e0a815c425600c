//! How nodes start. Settings that only starting finds wrong end the start of every role alike, and are named; what takes
//! long is no reason not to live.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use meridian_server::config::Config;
use meridian_server::config::authn::{Method, Secrets};
use meridian_server::roles::{self, Node};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn config(properties: &[(&str, &str)]) -> Config {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = Config::default();
    (config.listen.grpc, config.listen.http, config.listen.nodes) = (any, any, any);
    config.datastore.url = "memory:".into();
    config.upstream = vec!["http://127.0.0.1:9".into()];
    config.kafka.bootstrap = "127.0.0.1:9".into();
    config.kafka.properties = properties
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    config
}

/// What each role says to the settings.
async fn told(config: &Config) -> [String; 3] {
    let said = |started: anyhow::Result<Node>| match started {
        Ok(node) => format!("{} started", node.name),
        Err(error) => format!("{error:#}"),
    };
    [
        said(roles::central(config).await),
        said(roles::regional(config).await),
        said(roles::edge(config).await),
    ]
}

#[tokio::test]
async fn a_property_that_kafkas_client_refuses_is_named_by_every_role() {
    for (name, value) in [
        ("securty.protocol", "ssl"),
        ("security.protocol", "nonsense"),
        ("sasl.pasword", "hunter2"),
        ("fetch.wait.max.ms", "soon"),
        ("session.timeout.ms", "-1"),
    ] {
        for told in told(&config(&[(name, value)])).await {
            assert!(
                told.starts_with(&format!("kafka.properties: '{name}' is refused: ")),
                "{told}"
            );
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
    let no_file = [
        ("security.protocol", "ssl"),
        ("ssl.ca.location", "/nowhere/ca.pem"),
    ];
    for told in told(&config(&no_file)).await {
        assert!(
            told.starts_with("kafka.properties: ") && told.contains("ssl.ca.location"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn an_address_in_use_is_named_once_with_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&[]);
    config.listen.http = taken.local_addr().unwrap();
    for told in told(&config).await {
        assert!(
            told.starts_with("listen.http: cannot listen on 127.0.0.1:"),
            "{told}"
        );
        assert_eq!(told.matches("cannot listen").count(), 1, "{told}");
        assert_eq!(told.matches("in use").count(), 1, "{told}");
    }
}

#[tokio::test]
async fn a_node_below_without_a_node_above_does_not_start() {
    let mut config = config(&[]);
    config.upstream.clear();
    let [_, regional, edge] = told(&config).await;
    for told in [regional, edge] {
        assert!(
            told.starts_with("upstream is '[]': name at least one"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_guarded_node_does_not_start_beside_an_open_port() {
    let mut config = config(&[]);
    config.authn.method = Method::Preshared;
    config.authn.preshared.keys = Secrets::new(["key".to_owned()]);
    config.listen.nodes = "0.0.0.0:0".parse().unwrap();
    let [central, regional, edge] = told(&config).await;
    for told in [central, regional] {
        assert!(
            told.starts_with("nodes.tokens is '[]': name at least one token"),
            "{told}"
        );
    }
    assert!(edge.ends_with("started"), "{edge}");
}

/// Nobody makes it: the node would wait for it for ever.
#[tokio::test]
async fn a_file_of_sqlites_that_is_not_there_is_named_with_the_remedy() {
    let mut config = config(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.db");
    config.datastore.url = format!("sqlite://{}", file.display());
    let [central, regional, _] = told(&config).await;
    for told in [central, regional] {
        let expected = format!(
            "datastore.url: there is no SQLite file '{}': put ?mode=rwc",
            file.display()
        );
        assert!(told.starts_with(&expected), "{told}");
    }
}

#[tokio::test]
async fn a_datastore_that_cannot_be_is_named_without_its_password() {
    let mut config = config(&[]);
    config.datastore.url = "mssql://meridian:hunter2@db/meridian".into();
    let [central, regional, _] = told(&config).await;
    for told in [central, regional] {
        assert!(
            told.starts_with("datastore.url: ") && told.contains("'mssql'"),
            "{told}"
        );
        assert!(!told.contains("hunter2"), "{told}");
    }
}

/// librdkafka waits for brokers as long as a call to it may take, which is 10 s: nobody who stops a node is to wait for that.
#[test]
fn a_node_ends_soon_though_kafka_is_away() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = config(&[]);
    let nodes = runtime.block_on(async {
        let nodes = [
            roles::central(&config).await.unwrap(),
            roles::regional(&config).await.unwrap(),
            roles::edge(&config).await.unwrap(),
        ];
        // By then its relay has asked for the topic.
        nodes[0].ready().await;
        nodes
    });
    let began = Instant::now();
    runtime.block_on(async {
        for node in nodes {
            node.stop().await;
        }
    });
    drop(runtime);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(7), "{took:?}");
}

/// What is answered over HTTP, its head and its body.
async fn get(at: SocketAddr, path: &str) -> String {
    let asked = async {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), asked);
    waited.await.unwrap()
}

#[tokio::test]
async fn an_edge_lives_and_is_not_ready_while_it_reads_its_files() {
    let folder = tempfile::tempdir().unwrap();
    // Who reads a pipe waits until somebody writes.
    let file = folder.path().join("01ARZ3NDEKTSV4RRFFQ69G5FAV.view");
    let made = std::process::Command::new("mkfifo").arg(&file).status();
    assert!(made.unwrap().success());
    let mut config = config(&[]);
    config.edge.directory = Some(folder.path().into());
    let edge = roles::edge(&config).await.unwrap();
    let (alive, ready) = (
        get(edge.http, "/livez").await,
        get(edge.http, "/healthz").await,
    );
    assert!(alive.starts_with("HTTP/1.1 200"), "{alive}");
    assert!(ready.contains("NOT_SERVING"), "{ready}");

    let pipe = file.clone();
    let written = tokio::task::spawn_blocking(move || std::fs::write(pipe, "no view"));
    written.await.unwrap().unwrap();
    let aside = file.with_extension("unreadable");
    let read = tokio::time::timeout(Duration::from_secs(20), async {
        while !aside.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    read.await.unwrap();
    edge.stop().await;
}
