//! Settings from variables: Meridian's own, and those of OpenFGA's server.

use super::*;
use crate::config::openfga::{NO_EFFECT, OWN};

fn told(variables: &[(&str, &str)]) -> String {
    load_with("", variables).unwrap_err().to_string()
}

#[test]
fn the_environment_wins_over_the_file_and_meridians_own_over_openfgas() {
    let file = "limits: {tuplesPerWrite: 7, typesPerModel: 7, checksPerBatch: 7}";
    let config = load_with(
        file,
        &[
            ("OPENFGA_MAX_TUPLES_PER_WRITE", "8"),
            ("OPENFGA_MAX_TYPES_PER_AUTHORIZATION_MODEL", "8"),
            ("MERIDIAN_LIMITS_TUPLES_PER_WRITE", "9"),
            ("MERIDIAN_LIMITS_BODY_TIMEOUT", ""),
        ],
    )
    .unwrap();
    let limits = config.limits;
    assert_eq!(
        (
            limits.tuples_per_write,
            limits.types_per_model,
            limits.checks_per_batch
        ),
        (9, 8, 7)
    );
    assert_eq!(limits.body_timeout, Limits::default().body_timeout);
}

#[test]
fn every_variable_of_openfgas_server_is_understood_or_told() {
    let none = NO_EFFECT
        .iter()
        .flat_map(|(_, variables)| variables.iter().map(|(name, _)| *name));
    let settings = settings::SETTINGS
        .iter()
        .flat_map(|setting| setting.openfga.iter().copied());
    let mut here: Vec<_> = OWN.iter().copied().chain(none).chain(settings).collect();
    here.sort_unstable();
    let upstream: Vec<_> = include_str!("openfga_environment.txt").lines().collect();
    assert_eq!(here, upstream);
}

#[test]
fn what_has_no_effect_is_told_unless_it_asks_for_what_is_done_anyway() {
    let told = |variables: &[(&str, &str)]| environment(variables).without_effect();
    assert_eq!(
        told(&[
            ("OPENFGA_PLAYGROUND_ENABLED", "true"),
            ("OPENFGA_MAX_TUPLES_PER_WRITE", "5"),
            ("OPENFGA_HTTP_ENABLED", "false"),
        ]),
        [
            "OPENFGA_PLAYGROUND_ENABLED has no effect: there is no such part here",
            "OPENFGA_HTTP_ENABLED has no effect: gRPC and HTTP are always served, and limits.requestTimeout bounds both",
        ]
    );
    let caches = told(&[
        ("OPENFGA_CHECK_QUERY_CACHE_ENABLED", "true"),
        ("OPENFGA_CHECK_ITERATOR_CACHE_ENABLED", "true"),
        ("OPENFGA_CACHE_CONTROLLER_ENABLED", "false"),
    ]);
    let [cache] = &*caches else {
        panic!("{caches:?}");
    };
    assert!(
        cache.starts_with("OPENFGA_CHECK_ITERATOR_CACHE_ENABLED has no effect: "),
        "{cache}"
    );
    assert!(
        told(&[
            ("OPENFGA_PLAYGROUND_ENABLED", "false"),
            ("OPENFGA_HTTP_ENABLED", "true"),
            ("OPENFGA_PORT", "tcp://10.0.0.1:8080"),
            ("OPENFGA_SERVICE_HOST", "10.0.0.1"),
        ])
        .is_empty()
    );
    let unknown = told(&[
        ("OPENFGA_PROFILER_ADDR", ":3001"),
        ("OPENFGA_TRACE_RESOURCE_ATTRIBUTES", "a=b"),
    ]);
    assert_eq!(unknown.len(), 2, "{unknown:?}");
    assert!(
        unknown[0].starts_with("OPENFGA_PROFILER_ADDR has no effect: OpenFGA's server has no"),
        "{unknown:?}"
    );
}

#[test]
fn a_mistyped_variable_is_told_with_the_one_that_is_meant() {
    for (name, nearest) in [
        ("MERIDIAN_AUTHN_METHD", "MERIDIAN_AUTHN_METHOD"),
        ("MERIDIAN_NODE_TOKENS", "MERIDIAN_NODES_TOKENS"),
        ("MERIDIAN_LOGS", "MERIDIAN_LOG"),
        ("MERIDIAN_POSTGRES_URL", "MERIDIAN_DATASTORE_URL"),
    ] {
        let told = told(&[(name, "hunter2")]);
        assert!(
            told.starts_with(&format!("the environment's {name} is none of"))
                && told.contains(&format!("is {nearest} meant?")),
            "{told}"
        );
        assert!(!told.contains("hunter2"), "{told}");
        load_with("", &[(name, " ")]).unwrap();
    }
}

/// Kubernetes tells every container of all Services of its namespace so.
#[test]
fn services_whose_names_begin_with_meridian_are_left_alone() {
    for service in ["", "_CENTRAL", "_NODES", "_7", "_PORT", "_LIMITS_PORT_1"] {
        let name = format!("MERIDIAN{service}");
        let mut links = vec![
            (format!("{name}_SERVICE_HOST"), "fd00::1"),
            (format!("{name}_SERVICE_PORT"), "8081"),
            (format!("{name}_SERVICE_PORT_GRPC"), "8081"),
            (format!("{name}_SERVICE_PORT_HTTP_API"), "8080"),
            (format!("{name}_PORT"), "tcp://[fd00::1]:8081"),
        ];
        for protocol in ["TCP", "UDP", "SCTP"] {
            let of = format!("{name}_PORT_8081_{protocol}");
            links.extend([
                (format!("{of}_PROTO"), "tcp"),
                (format!("{of}_PORT"), "8081"),
                (format!("{of}_ADDR"), "10.0.0.1"),
                (of, "tcp://10.0.0.1:8081"),
            ]);
        }
        for (name, value) in links {
            assert!(load_with("", &[(&name, value)]).is_ok(), "{name}");
        }
    }
}

/// Whoever runs a node beside them may have them set.
#[test]
fn variables_of_the_projects_other_programs_are_left_alone() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut names = std::collections::BTreeSet::new();
    for folder in ["operator/src", "charts", "xtask/src", "e2e"] {
        collect_variables(&root.join(folder), &mut names);
    }
    assert!(names.contains("MERIDIAN_NODE_IMAGE"), "{names:?}");
    for name in names {
        if let Err(why) = load_with("", &[(&name, "x")]) {
            let why = why.to_string();
            assert!(!why.contains("is none of"), "{why}");
        }
    }
}

/// The names that stand in the files below a folder.
fn collect_variables(folder: &std::path::Path, names: &mut std::collections::BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_variables(&path, names);
            continue;
        }
        let text = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&text);
        let is_of_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let words = text.split(|c| !is_of_name(c));
        let ours = words.filter(|word| word.starts_with("MERIDIAN_") && !word.ends_with('_'));
        names.extend(ours.map(str::to_owned));
    }
}

#[test]
fn openfgas_request_without_a_timeout_has_the_longest() {
    for none in ["0", "0s", "0h0m0s"] {
        let config = load_with("", &[("OPENFGA_REQUEST_TIMEOUT", none)]).unwrap();
        assert_eq!(config.limits.request_timeout, Duration::from_secs(60 * 60));
    }
}

#[test]
fn openfgas_query_cache_is_that_of_checks() {
    let cache = |variables: &[(&str, &str)]| {
        let config = load_with("", variables).unwrap();
        (
            config.check_cache.max_answers,
            config.check_cache.answer_max_age,
        )
    };
    let (most, age) = cache(&[]);
    assert_eq!(
        cache(&[("OPENFGA_CHECK_QUERY_CACHE_ENABLED", "true")]),
        (most, age)
    );
    let bounded = [
        ("OPENFGA_CHECK_QUERY_CACHE_ENABLED", "true"),
        ("OPENFGA_CHECK_CACHE_LIMIT", "25"),
        ("OPENFGA_CHECK_QUERY_CACHE_TTL", "30s"),
    ];
    assert_eq!(cache(&bounded), (25, Duration::from_secs(30)));
    let off = ("OPENFGA_CHECK_QUERY_CACHE_ENABLED", "false");
    assert_eq!(cache(&[off, bounded[1]]), (0, age));
    assert_eq!(
        cache(&[off, ("MERIDIAN_CHECK_CACHE_MAX_ANSWERS", "7")]),
        (7, age)
    );
}

#[test]
fn a_variable_that_cannot_be_read_is_named_and_its_value_is_not_shown() {
    for (name, value, what) in [
        ("OPENFGA_MAX_TUPLES_PER_WRITE", "many", "whole number"),
        ("OPENFGA_MAX_TUPLES_PER_WRITE", "0", "use 1 to 1000000"),
        ("OPENFGA_MAXTUPLESPERWRITE", "-1", "whole number"),
        ("OPENFGA_LIST_OBJECTS_DEADLINE", "3", "with its unit"),
        ("OPENFGA_REQUEST_TIMEOUT", "2h", "use 1ms to 1h"),
        (
            "OPENFGA_MAX_CONDITION_EVALUATION_COST",
            "99",
            "use 100 to 1000000",
        ),
        ("OPENFGA_GRPC_ADDR", "nowhere", "IP:port"),
        ("OPENFGA_GRPC_TLS_ENABLED", "perhaps", "use true or false"),
        ("OPENFGA_AUTHN_METHOD", "basic", "none, preshared or oidc"),
        ("OPENFGA_DATASTORE_ENGINE", "redis", "memory, postgres"),
        (
            "OPENFGA_CHANGELOG_HORIZON_OFFSET",
            "1m",
            "number of minutes",
        ),
        (
            "OPENFGA_AUTHN_PRESHARED_KEYS",
            "hunter2 hunter2",
            "visible ASCII",
        ),
        ("MERIDIAN_EDGE_MAX_STALENESS", "soon", "with its unit"),
        ("MERIDIAN_KAFKA_PARTITIONS", "70000", "whole number"),
    ] {
        let told = told(&[(name, value)]);
        let named = told.contains(name) || told.contains("authn.preshared.keys");
        assert!(named && told.contains(what), "{name}={value}: {told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    let postgres = ("OPENFGA_DATASTORE_ENGINE", "postgres");
    for (variables, named) in [
        (&[postgres][..], ["OPENFGA_DATASTORE_URI", "postgres://"]),
        (
            &[("OPENFGA_DATASTORE_URI", "hunter2")],
            [
                "OPENFGA_DATASTORE_ENGINE",
                "that OPENFGA_DATASTORE_URI is of",
            ],
        ),
        (
            &[("OPENFGA_DATASTORE_SECONDARY_URI", "hunter2")],
            [
                "OPENFGA_DATASTORE_ENGINE",
                "that OPENFGA_DATASTORE_SECONDARY_URI is of",
            ],
        ),
        (
            &[
                postgres,
                (
                    "OPENFGA_DATASTORE_URI",
                    "postgres://me:hunter2@db/a?sslmode=nope",
                ),
            ],
            ["OPENFGA_DATASTORE_URI", "nope"],
        ),
    ] {
        let told = told(variables);
        assert!(named.iter().all(|part| told.contains(part)), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
        assert!(told.matches("nope").count() < 2, "{told}");
    }
    let error = environment(&[("OPENFGA_LOG_LEVEL", "loud")]).logs();
    assert!(error.unwrap_err().to_string().contains("OPENFGA_LOG_LEVEL"));
}

#[test]
fn a_deployment_of_openfgas_server_is_taken_over() {
    let config = load_with(
        "",
        &[
            ("OPENFGA_DATASTORE_ENGINE", "postgres"),
            (
                "OPENFGA_DATASTORE_URI",
                "postgres://db.example:5432/fga?sslmode=require",
            ),
            ("OPENFGA_DATASTORE_USERNAME", "me"),
            ("OPENFGA_DATASTORE_PASSWORD", "p@ss/word"),
            ("OPENFGA_DATASTORE_MAX_OPEN_CONNS", "150"),
            ("OPENFGA_GRPC_ADDR", ":9081"),
            ("OPENFGA_HTTP_ADDR", "localhost:9080"),
            ("OPENFGA_METRICS_ENABLED", "true"),
            ("OPENFGA_HTTP_TLS_ENABLED", "true"),
            ("OPENFGA_HTTP_TLS_CERT", "/tls/cert.pem"),
            ("OPENFGA_HTTP_TLS_KEY", "/tls/key.pem"),
            ("OPENFGA_GRPC_TLS_CERT", "/tls/unused.pem"),
            ("OPENFGA_AUTHN_METHOD", "preshared"),
            ("OPENFGA_AUTHN_PRESHARED_KEYS", "one, two"),
            (
                "OPENFGA_EXPERIMENTALS",
                "enable-check-optimizations,inline_expressions",
            ),
            ("OPENFGA_CHANGELOG_HORIZON_OFFSET", "2"),
            ("OPENFGA_LIST_OBJECTS_DEADLINE", "1m30s"),
            ("OPENFGA_LISTUSERSDEADLINE", "0"),
            (
                "OPENFGA_HTTP_CORS_ALLOWED_ORIGINS",
                "https://a.example,https://b.example",
            ),
            // Kubernetes brings such for a Service of that name.
            ("OPENFGA_PORT", "tcp://10.0.0.1:8080"),
        ],
    )
    .unwrap();
    assert_eq!(
        config.datastore.url,
        "postgres://me:p%40ss%2Fword@db.example:5432/fga?sslmode=require"
    );
    assert_eq!(config.datastore.max_connections, 150);
    assert_eq!(config.listen.grpc.to_string(), "0.0.0.0:9081");
    assert_eq!(config.listen.http.to_string(), "127.0.0.1:9080");
    assert_eq!(config.listen.metrics.unwrap().to_string(), "0.0.0.0:2112");
    assert!(config.tls.http.both().is_some());
    assert_eq!(config.tls.grpc, transport::Files::default());
    let keys: Vec<_> = config.authn.preshared.keys.iter().collect();
    assert_eq!(keys, ["one", "two"]);
    assert!(config.limits.inline_expressions);
    assert_eq!(config.limits.changelog_horizon, Duration::from_secs(120));
    assert_eq!(config.limits.list_objects_deadline, Duration::from_secs(90));
    assert_eq!(config.limits.list_users_deadline, Duration::ZERO);
    assert_eq!(
        config.http.cors_allowed_origins,
        ["https://a.example", "https://b.example"]
    );
    assert!(!format!("{config:?}").contains("two"));
}

#[test]
fn every_engine_has_a_url() {
    for (engine, uri, url) in [
        ("memory", "", "memory:"),
        (
            "postgres",
            "postgres://own:secret@h/db",
            "postgres://own:secret@h/db",
        ),
        (
            "mysql",
            "root:p@ss@tcp(db:3306)/fga?parseTime=true",
            "mysql://root:p%40ss@db:3306/fga",
        ),
        (
            "sqlite",
            "file:/var/lib/fga.db?_pragma=busy_timeout(100)",
            "sqlite:///var/lib/fga.db?mode=rwc",
        ),
    ] {
        let variables = [
            ("OPENFGA_DATASTORE_ENGINE", engine),
            ("OPENFGA_DATASTORE_URI", uri),
        ];
        assert_eq!(load_with("", &variables).unwrap().datastore.url, url);
    }
}

#[test]
fn a_port_that_speaks_tls_has_both_files() {
    let told = told(&[
        ("OPENFGA_GRPC_TLS_ENABLED", "true"),
        ("OPENFGA_GRPC_TLS_CERT", "/tls/cert.pem"),
    ]);
    assert!(told.contains("OPENFGA_GRPC_TLS_KEY"), "{told}");
    let told = load("tls: {nodes: {key: k.pem}}").unwrap_err().to_string();
    assert!(told.starts_with("tls.nodes.cert is ''"), "{told}");
}

/// CVE-2026-55689 (OpenFGA): where no audience was set, tokens of any were taken.
#[test]
fn a_way_to_authenticate_has_what_it_needs() {
    for (file, setting) in [
        ("authn: {method: preshared}", "authn.preshared.keys"),
        (
            "authn: {method: preshared, preshared: {keys: ['']}}",
            "authn.preshared.keys",
        ),
        ("authn: {method: oidc}", "authn.oidc.issuer"),
        (
            "authn: {method: oidc, oidc: {issuer: here}}",
            "authn.oidc.issuer",
        ),
        (
            "authn: {method: oidc, oidc: {issuer: 'https://i.example'}}",
            "authn.oidc.audience",
        ),
        ("nodes: {tokens: ['a b']}", "nodes.tokens"),
    ] {
        let told = load(file).unwrap_err().to_string();
        assert!(told.starts_with(setting), "{file}: {told}");
    }
}

#[test]
fn secrets_may_stand_in_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "one\n\n two \n").unwrap();
    let text = format!(
        "authn: {{method: preshared, preshared: {{keys: [zero], keysFile: {0}}}}}\nnodes: {{tokensFile: {0}}}",
        file.display()
    );
    let config = load(&text).unwrap();
    let keys: Vec<_> = config.authn.preshared.keys.iter().collect();
    assert_eq!(keys, ["zero", "one", "two"]);
    let tokens: Vec<_> = config.nodes.tokens.iter().collect();
    assert_eq!(tokens, ["one", "two"]);
    let told = load("nodes: {tokensFile: /nowhere/tokens}").unwrap_err();
    assert!(
        told.to_string()
            .contains("nodes.tokensFile /nowhere/tokens")
    );
}
