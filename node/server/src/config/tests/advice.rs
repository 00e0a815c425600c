//! What a node warns of when it starts.

use super::*;

const OPEN: &str = "authn.method is none: ";
const NODES: &str = "nodes.tokens is empty: ";
const CLEAR: &str = "without TLS, as tls is not set for it: ";

/// What is told besides that the node is open.
fn told(role: Role, text: &str) -> Vec<String> {
    let mut told = load(text).unwrap().advice(role);
    told.retain(|told| {
        ![OPEN, NODES, CLEAR]
            .iter()
            .any(|open| told.starts_with(open))
    });
    told
}

#[test]
fn open_ports_are_told_each_for_what_it_is() {
    let told = Config::default().advice(Role::Central);
    let [open, nodes, clear] = &*told else {
        panic!("{told:?}");
    };
    assert!(
        open.starts_with(OPEN) && nodes.starts_with(NODES),
        "{told:?}"
    );
    assert_eq!(
        clear,
        &format!("{CLEAR}listen.grpc, listen.http, listen.nodes")
    );
    let guarded = "authn: {method: preshared, preshared: {keys: [a]}}\nnodes: {tokens: [b]}\n\
                   tls: {grpc: {cert: c, key: k}, http: {cert: c, key: k}}";
    let guarded = load(guarded).unwrap();
    assert!(guarded.advice(Role::Edge).is_empty());
    let told = guarded.advice(Role::Regional);
    assert_eq!(told, [format!("{CLEAR}listen.nodes")]);
}

#[test]
fn a_token_that_goes_out_in_clear_is_told() {
    for (urls, is_told) in [
        ("http://regional:8082", true),
        ("'https://regional:8082', 'http://10.0.0.7:8082'", true),
        ("https://regional:8082", false),
        (
            "'http://localhost:8082', 'http://127.0.0.9:8082', 'http://[::1]:8082'",
            false,
        ),
    ] {
        let text = format!("upstream: [{urls}]\nnodes: {{tokens: [hunter2]}}");
        let told = told(Role::Edge, &text);
        assert_eq!(told.len(), usize::from(is_told), "{text}: {told:?}");
        let says = |told: &String| {
            told.starts_with("upstream is 'http://")
                && told.contains("https://")
                && !told.contains("hunter2")
        };
        assert!(told.iter().all(says), "{told:?}");
    }
    assert!(told(Role::Edge, "upstream: ['http://regional:8082']").is_empty());
}

#[test]
fn what_callers_were_to_show_by_a_method_not_in_use_is_told() {
    for (text, begins) in [
        (
            "authn: {preshared: {keys: [a]}}",
            "authn.preshared has no effect: authn.method is none",
        ),
        (
            "authn: {oidc: {issuer: 'https://i'}}",
            "authn.oidc has no effect: authn.method is none",
        ),
        (
            "authn: {method: preshared, preshared: {keys: [a]}, oidc: {audience: b}}",
            "authn.oidc has no effect: authn.method is preshared",
        ),
    ] {
        assert_eq!(told(Role::Edge, text), [begins], "{text}");
    }
}

#[test]
fn settings_of_other_roles_are_told() {
    let all = "upstream: ['https://c:8082']\nedge: {maxAnswers: 5}\ncheckCache: {maxAnswers: 5}\n\
               datastore: {url: 'postgres://me:hunter2@db/a', maxConnections: 5, minConnections: 1}\n\
               live: {retention: 1day}";
    let of_a_database = &[
        "datastore.url",
        "datastore.minConnections",
        "datastore.maxConnections",
        "checkCache.maxAnswers",
        "live.retention",
    ];
    for (role, elsewhere) in [
        (Role::Central, &["upstream", "edge.maxAnswers"][..]),
        (Role::Regional, &["edge.maxAnswers"]),
        (Role::Edge, of_a_database),
        (Role::Live, of_a_database),
    ] {
        let expected: Vec<_> = elsewhere
            .iter()
            .map(|path| format!("{path} has no effect: a node that is {role} has no use for it"))
            .collect();
        assert_eq!(told(role, all), expected);
    }
}

#[test]
fn unknown_experiments_are_told() {
    let text = "experimentals: [authzen, inline_expressions, other]";
    assert_eq!(
        told(Role::Central, text),
        ["experimentals: 'other' has no effect"]
    );
}

#[test]
fn a_live_channel_that_takes_anybodys_word_is_told() {
    let told = |config: &Config| config.advice(Role::Live).join("\n");
    let open = "whoever reaches listen.http is whom they say";
    let mut config = Config::default();
    assert!(told(&config).contains(open), "{}", told(&config));
    config.live.userinfo_url = Some("https://app.example.com/me".into());
    assert!(!told(&config).contains("whoever"), "{}", told(&config));
}
