//! Settings that only starting finds wrong: they end the start of every role alike, and are named.

use meridian_server::config::Config;
use meridian_server::roles::{self, Node};

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
            told.starts_with("upstream is 'empty': name at least one"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_datastore_that_cannot_be_is_named_without_its_password() {
    let mut config = config(&[]);
    config.datastore.url = "mysql://meridian:hunter2@db/meridian".into();
    let [central, regional, _] = told(&config).await;
    for told in [central, regional] {
        assert!(
            told.starts_with("datastore.url: ") && told.contains("'mysql'"),
            "{told}"
        );
        assert!(!told.contains("hunter2"), "{told}");
    }
}
