mod advice;
mod environment;
mod operator;
mod table;

use super::*;

fn load(text: &str) -> Result<Config, ConfigError> {
    load_with(text, &[])
}

/// As [`load`], with these variables.
fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.yaml");
    std::fs::write(&file, text).unwrap();
    Source {
        config: Some(file),
        name: None,
        datastore_url: None,
        datastore_read_replica_url: None,
        kafka_bootstrap: None,
    }
    .load(&environment(variables))
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

#[test]
fn a_file_sets_what_it_names_and_leaves_the_rest() {
    let config = load(
        "name: edge-7\nregion: eu-1\nupstream: ['http://regional:8082']\n\
         edge: {maxStaleness: 30s, directory: /var/lib/meridian}\n\
         kafka: {bootstrap: 'kafka:9092', properties: {security.protocol: ssl}}\n",
    )
    .unwrap();
    assert_eq!(
        (config.name.as_str(), config.region.as_str()),
        ("edge-7", "eu-1")
    );
    assert_eq!(config.edge.max_staleness, Duration::from_secs(30));
    assert_eq!(config.edge.max_answers, Edge::default().max_answers);
    assert_eq!(config.kafka.properties["security.protocol"], "ssl");
    assert_eq!(config.listen.grpc.port(), 8081);
    assert_eq!(config.datastore.max_connections, 100);
}

#[test]
fn authzen_is_served_where_it_is_named() {
    let default = load("region: eu-1").unwrap().authzen();
    assert!(!default.enabled && default.base_url.is_none());
    let text =
        "experimentals: [other, authzen]\nauthzen: {baseUrl: 'https://pdp.example.com/az/'}\n";
    let authzen = load(text).unwrap().authzen();
    assert!(authzen.enabled);
    assert_eq!(authzen.base_url, "https://pdp.example.com/az".parse().ok());
    let wrong = load("authzen: {baseUrl: pdp.example.com}").unwrap_err();
    let told = wrong.to_string();
    assert!(
        told.contains("'pdp.example.com' is no base URL: write one absolute"),
        "{told}"
    );
}

#[test]
fn a_node_is_named_after_its_host_unless_told() {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_else(|_| Config::default().name);
    assert_eq!(load("region: eu-1").unwrap().name, host.trim());
}

#[test]
fn what_makes_no_sense_is_named_with_its_value_and_the_remedy() {
    for (text, setting, value, remedy) in [
        ("name: ''", "name", "", "1 to 128 visible"),
        ("name: 'edge 7'", "name", "edge 7", "without spaces"),
        (
            "product: pay.ments",
            "product",
            "pay.ments",
            "1 to 60 letters",
        ),
        ("region: ''", "region", "", "1 to 60 letters"),
        (
            "upstream: [regional]",
            "upstream",
            "regional",
            "http://host:port",
        ),
        (
            "upstream: ['regional:8082']",
            "upstream",
            "regional:8082",
            "http://host:port",
        ),
        (
            "upstream: ['grpc://regional:8082']",
            "upstream",
            "grpc://regional:8082",
            "http://",
        ),
        (
            "upstream: ['http://regional']",
            "upstream",
            "http://regional",
            "http://host:port",
        ),
        (
            "upstream: ['http://r:8082/x']",
            "upstream",
            "http://r:8082/x",
            "http://host:port",
        ),
        (
            "upstream: ['http://r:8082', '']",
            "upstream",
            "",
            "http://host:port",
        ),
        (
            "datastore: {maxConnections: 0}",
            "datastore.maxConnections",
            "0",
            "1 to 10000",
        ),
        (
            "datastore: {maxConnections: 5, minConnections: 9}",
            "datastore.minConnections",
            "9",
            "datastore.maxConnections",
        ),
        (
            "datastore: {url: 'postgres://db/app', readReplicaUrl: 'mysql://me:secret@copy/app'}",
            "datastore.readReplicaUrl",
            "mysql://copy/app",
            "a PostgreSQL (postgres://) or MySQL (mysql://) server",
        ),
        (
            "datastore: {url: 'memory:', readReplicaUrl: 'memory:'}",
            "datastore.readReplicaUrl",
            "memory:",
            "a PostgreSQL (postgres://) or MySQL (mysql://) server",
        ),
        (
            "datastore: {acquireTimeout: 0s}",
            "datastore.acquireTimeout",
            "0s",
            "1ms to 1h",
        ),
        (
            "datastore: {acquireTimeout: 9000000years}",
            "datastore.acquireTimeout",
            "",
            "1ms to 1h",
        ),
        (
            "datastore: {idleTimeout: 0s}",
            "datastore.idleTimeout",
            "0s",
            "1s to",
        ),
        (
            "datastore: {maxLifetime: 1ms}",
            "datastore.maxLifetime",
            "1ms",
            "1s to",
        ),
        (
            "datastore: {changelogRetention: 0s}",
            "datastore.changelogRetention",
            "0s",
            "leave it out",
        ),
        (
            "live: {authorityUrl: 'https://app.example.com/{object}'}",
            "live.store",
            "",
            "name the store",
        ),
        (
            "live: {store: 01ARZ3NDEKTSV4RRFFQ69G5FAV, authorityUrl: 'https://app.example.com/may'}",
            "live.authorityUrl",
            "https://app.example.com/may",
            "write a URL with {object}",
        ),
        (
            "live: {store: 01ARZ3NDEKTSV4RRFFQ69G5FAV, authorityUrl: 'https://app.example.com/{id}/{objct}'}",
            "live.authorityUrl",
            "https://app.example.com/{id}/{objct}",
            "write a URL with {object}",
        ),
        (
            "live: {userinfoUrl: 'https://app.example.com/{id}'}",
            "live.userinfoUrl",
            "https://app.example.com/{id}",
            "write a URL",
        ),
        (
            "live: {allowedOrigins: [map.example.com]}",
            "live.allowedOrigins",
            "map.example.com",
            "with its scheme",
        ),
        (
            "live: {userType: us er}",
            "live.userType",
            "us er",
            "name a type",
        ),
        (
            "live: {relation: 'can:watch'}",
            "live.relation",
            "can:watch",
            "name a relation",
        ),
        (
            "live: {historyBytes: 2000, historyTotalBytes: 1000}",
            "live.historyTotalBytes",
            "1000",
            "at least live.historyBytes",
        ),
        ("kafka: {bootstrap: ''}", "kafka.bootstrap", "", "host:port"),
        (
            "kafka: {bootstrap: kafka}",
            "kafka.bootstrap",
            "kafka",
            "host:port",
        ),
        (
            "kafka: {bootstrap: 'http://kafka:9092'}",
            "kafka.bootstrap",
            "http://kafka:9092",
            "host:port",
        ),
        (
            "kafka: {bootstrap: 'kafka:9092,'}",
            "kafka.bootstrap",
            "kafka:9092,",
            "host:port",
        ),
        (
            "kafka: {bootstrap: 'kafka:99999'}",
            "kafka.bootstrap",
            "kafka:99999",
            "host:port",
        ),
        (
            "kafka: {topicPrefix: a.b}",
            "kafka.topicPrefix",
            "a.b",
            "1 to 60 letters",
        ),
        ("kafka: {partitions: 0}", "kafka.partitions", "0", "1 to"),
        (
            "kafka: {replicationFactor: 0}",
            "kafka.replicationFactor",
            "0",
            "1 to",
        ),
        (
            "edge: {directory: ''}",
            "edge.directory",
            "",
            "leave it out",
        ),
        (
            "edge: {snapshotInterval: 0s}",
            "edge.snapshotInterval",
            "0s",
            "100ms to",
        ),
        (
            "edge: {maxStaleness: 0s}",
            "edge.maxStaleness",
            "0s",
            "2s to",
        ),
        (
            "edge: {maxStaleness: 500ms}",
            "edge.maxStaleness",
            "500ms",
            "2s to",
        ),
        (
            "edge: {answerMaxAge: 0s}",
            "edge.answerMaxAge",
            "0s",
            "1ms to",
        ),
        (
            "edge: {answerMaxAge: 2000years}",
            "edge.answerMaxAge",
            "",
            "1ms to",
        ),
        (
            "checkCache: {answerMaxAge: 0s}",
            "checkCache.answerMaxAge",
            "0s",
            "1ms to",
        ),
        (
            "checkCache: {window: 2m}",
            "checkCache.window",
            "2m",
            "0s to 1m",
        ),
        ("edge: {maxAnswers: 0}", "edge.maxAnswers", "0", "1 or more"),
        (
            "edge: {revisionWait: 5m}",
            "edge.revisionWait",
            "5m",
            "0s to 1m",
        ),
        (
            "http: {trustedProxies: [10.0.0.0/8, proxy.example]}",
            "http.trustedProxies",
            "proxy.example",
            "name addresses",
        ),
        (
            "recorder: {explain: 1.5}",
            "recorder.explain",
            "1.5",
            "from 0",
        ),
        ("drainDelay: 2h", "drainDelay", "2h", "0s to 1h"),
        ("shutdownTimeout: 0s", "shutdownTimeout", "0s", "1ms to 1h"),
    ] {
        let told = load(text).unwrap_err().to_string();
        let beginning = format!("{setting} is '{value}");
        assert!(
            told.starts_with(&beginning) && told.contains(remedy),
            "{text}: {told}"
        );
    }
}

#[test]
fn what_makes_sense_is_taken() {
    for text in [
        "upstream: ['http://regional:8082', 'http://10.0.0.7:8082/', 'http://[::1]:8082']",
        "kafka: {bootstrap: 'a.example.com:9092, [::1]:9093'}",
        "edge: {revisionWait: 0s, maxStaleness: 2s}",
        "checkCache: {maxAnswers: 0, window: 5ms}",
        "http: {trustedProxies: [192.0.2.7, 10.0.0.0/8, '2001:db8::/32']}",
        "recorder: {explain: 0.05}",
        "datastore: {minConnections: 0, maxConnections: 1, changelogRetention: 7days}",
        "datastore: {url: 'mysql://db/app', readReplicaUrl: 'mariadb://copy/app'}",
    ] {
        assert!(load(text).is_ok(), "{text}: {:?}", load(text));
    }
}

#[test]
fn a_key_or_value_that_cannot_be_read_is_named_with_its_line() {
    let told = |text: &str| load(text).unwrap_err().to_string();
    for (text, what) in [
        ("name: a\nedge: {maxStalenes: 30s}", "maxStalenes"),
        (
            "name: a\nlisten: {grpc: nowhere}",
            "write IP:port, like 0.0.0.0:8081",
        ),
        (
            "name: a\nlisten: {metrics: 9090}",
            "write IP:port, like 0.0.0.0:8081",
        ),
        ("name: a\nname: b", "'name' is there twice"),
        ("name: a\nkafka: {partitions: -1}", "-1"),
        (
            "name: a\nlimits: {requestTimeout: 5}",
            "limits.requestTimeout: use a time with its unit, like 500ms",
        ),
        (
            "name: a\nlimits: {tuplesPerWrite: \"abc\"}",
            "limits.tuplesPerWrite: use a whole number",
        ),
        (
            "name: a\nexperimentals: authzen",
            "experimentals: write a list, like [one, two]",
        ),
        (
            "name: a\nauthn: {preshared: {keys: one}}",
            "authn.preshared.keys: write a list",
        ),
    ] {
        let told = told(text);
        assert!(
            told.contains(what) && told.contains("line 2"),
            "{text}: {told}"
        );
    }
}

#[test]
fn a_role_has_what_it_needs_and_each_listener_an_address_of_its_own() {
    let told = |refused: Result<(), ConfigError>| refused.unwrap_err().to_string();
    let config = load("upstream: []").unwrap();
    assert!(told(config.check_has_upstream()).contains("upstream is '[]': name at least one"));

    let config = load("listen: {http: '127.0.0.1:8082', metrics: '[::]:8081'}").unwrap();
    assert!(told(config.check_listen(true)).starts_with("listen.nodes is '0.0.0.0:8082'"));
    assert!(told(config.check_listen(false)).starts_with("listen.metrics is '[::]:8081'"));
    let free = "listen: {grpc: '127.0.0.1:0', http: '127.0.0.1:0', nodes: '127.0.0.1:0'}";
    load(free).unwrap().check_listen(true).unwrap();
    Config::default().check_listen(true).unwrap();
}

/// Whoever may not call the API must not find it open beside.
#[test]
fn who_asks_callers_for_something_asks_nodes_too() {
    let of = |nodes: &str, listen: &str| {
        let text = format!(
            "authn: {{method: preshared, preshared: {{keys: [hunter2]}}}}\nnodes: {nodes}\nlisten: {{nodes: '{listen}'}}"
        );
        load(&text).unwrap().check_guarded()
    };
    for open in ["0.0.0.0:8082", "[::]:8082", "10.0.0.7:8082"] {
        let told = of("{}", open).unwrap_err().to_string();
        for part in [
            "nodes.tokens is '[]'",
            "nodes.tokensFile",
            "authn.method is preshared",
            open,
            "127.0.0.1:8082",
        ] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
        of("{tokens: [one]}", open).unwrap();
    }
    for own in ["127.0.0.1:8082", "[::1]:8082", "[::ffff:127.0.0.1]:8082"] {
        of("{}", own).unwrap();
    }
    Config::default().check_guarded().unwrap();
}

/// The page's indented blocks that begin with this comment.
fn example(name: &str) -> String {
    let page = include_str!("../../../../docs/operations.md");
    let beginning = format!("    # {name}\n");
    let (_, rest) = page.split_once(&beginning).expect(name);
    rest.lines()
        .take_while(|line| line.starts_with("    "))
        .map(|line| format!("{}\n", &line[4..]))
        .collect()
}

#[test]
fn the_examples_of_the_documentation_are_what_a_node_takes() {
    let [central, regional, edge] = ["central.yaml", "regional.yaml", "edge.yaml"]
        .map(|name| load(&example(name)).unwrap_or_else(|error| panic!("{name}: {error}")));
    for (config, nodes) in [(&central, true), (&regional, true), (&edge, false)] {
        config.check_listen(nodes).unwrap();
        assert_eq!(config.product, "shop");
        assert_eq!(config.kafka.properties["security.protocol"], "ssl");
    }
    assert_eq!(central.kafka.replication_factor, 3);
    for config in [&regional, &edge] {
        config.check_has_upstream().unwrap();
        assert_eq!(config.region, "eu-west");
    }
    assert!(central.datastore.url.starts_with("postgres://"));
    assert!(edge.edge.directory.is_some());
}
