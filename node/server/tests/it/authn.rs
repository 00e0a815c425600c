//! Who may call: shared keys and tokens of an issuer, on both ports; the answers are those of OpenFGA's server.

pub(crate) mod issuer;
mod keys;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use meridian_proto::meridian::v1 as node;
use meridian_proto::openfga::v1;
use meridian_server::config::Config;
use meridian_server::config::authn::{Authn, Method as Way, Nodes, Secrets};
use meridian_server::roles::{self, Node};
use prost::Message;
use serde_json::{Value, json};

use crate::captured::Log;
use crate::harness::{NOBODY, RawReply, alone, raw_rpc, send};
use issuer::{Issuer, Key, hmac, now, unsigned};

const PATIENCE: Duration = Duration::from_secs(30);
const MISSING: (u16, &str, &str) = (1010, "bearer_token_missing", "missing bearer token");
const UNKNOWN: (u16, &str, &str) = (1500, "unauthenticated", "unauthenticated");
const INVALID: (u16, &str, &str) = (1004, "invalid_claims", "invalid claims");

async fn central(authn: Authn) -> Node {
    central_among(authn, &[]).await
}

/// One whose nodes share these tokens.
async fn central_among(authn: Authn, tokens: &[&str]) -> Node {
    roles::central(&among(authn, tokens)).await.unwrap()
}

fn among(authn: Authn, tokens: &[&str]) -> Config {
    Config {
        authn,
        nodes: Nodes {
            tokens: Secrets::new(tokens.iter().map(|token| (*token).to_owned())),
            ..Nodes::default()
        },
        ..alone()
    }
}

fn preshared(keys: &[&str]) -> Authn {
    let mut authn = Authn {
        method: Way::Preshared,
        ..Authn::default()
    };
    authn.preshared.keys = Secrets::new(keys.iter().map(|key| (*key).to_owned()));
    authn
}

fn oidc(issuer: &Issuer) -> Authn {
    let mut authn = Authn {
        method: Way::Oidc,
        ..Authn::default()
    };
    authn.oidc.issuer.clone_from(&issuer.url);
    authn.oidc.audience = "meridian".into();
    authn
}

async fn ready(authn: Authn) -> Node {
    let node = central(authn).await;
    tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
    node
}

/// ListStores on gRPC, with this header.
async fn list(node: &Node, header: Option<&str>) -> RawReply {
    let headers = header.map(|value| ("authorization", value));
    let path = "openfga.v1.OpenFGAService/ListStores";
    let request = v1::ListStoresRequest::default().encode_to_vec();
    raw_rpc(node.grpc, path, &request, headers.as_slice()).await
}

/// What both ports make of the header: nothing where the caller is let in.
async fn refusal(node: &Node, header: Option<&str>) -> Option<(u16, String)> {
    let grpc = list(node, header).await;
    assert!(grpc.headers.contains_key("x-request-id"));
    assert!(grpc.headers.contains_key("meridian-served-by"));
    let headers = header.map(|value| ("authorization", value));
    let path = "/stores";
    let http = send(
        node.http,
        Method::GET,
        path,
        headers.as_slice(),
        Bytes::new(),
    )
    .await;
    if grpc.status == 0 {
        assert_eq!(http.status, StatusCode::OK, "{}", http.body);
        return None;
    }
    let (code, message) = [MISSING, UNKNOWN, INVALID]
        .into_iter()
        .find_map(|(number, code, message)| (number == grpc.status).then_some((code, message)))
        .unwrap_or_else(|| panic!("{grpc:?}"));
    assert_eq!(grpc.message.replace("%20", " "), message);
    http.assert_error(401, code, message);
    Some((grpc.status, message.to_owned()))
}

#[track_caller]
fn assert_refused(refusal: Option<(u16, String)>, (number, _, message): (u16, &str, &str)) {
    assert_eq!(refusal, Some((number, message.to_owned())));
}

#[tokio::test]
async fn one_of_several_shared_keys_lets_in() {
    let node = ready(preshared(&["one", "another-key"])).await;
    for header in ["Bearer one", "bearer another-key", "BEARER one"] {
        assert_eq!(refusal(&node, Some(header)).await, None, "{header}");
    }
    for header in ["Bearer on", "Bearer onee", "Bearer  one", "Bearer One"] {
        assert_refused(refusal(&node, Some(header)).await, UNKNOWN);
    }
    for header in ["Bearer", "Basic one", "one", "Bearer,one"] {
        assert_refused(refusal(&node, Some(header)).await, MISSING);
    }
    assert_refused(refusal(&node, None).await, MISSING);
}

#[tokio::test]
async fn a_token_of_the_nodes_lets_in_too() {
    let issuer = Issuer::start(&[&Key::rsa("rsa")]).await;
    for (authn, refused) in [(preshared(&["key"]), UNKNOWN), (oidc(&issuer), INVALID)] {
        let node = central_among(authn, &["one", "other"]).await;
        tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
        for header in ["Bearer one", "Bearer other"] {
            assert_eq!(refusal(&node, Some(header)).await, None, "{header}");
        }
        assert_refused(refusal(&node, Some("Bearer another")).await, refused);
        assert_refused(refusal(&node, None).await, MISSING);
    }
}

#[tokio::test]
async fn everything_but_health_needs_the_key() {
    let mut config = among(preshared(&["key"]), &[]);
    config.live.enabled = true;
    config.live.store = Some(NOBODY.into());
    let node = roles::central(&config).await.unwrap();
    tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
    let ask = async |path: &str, headers: &[(&str, &str)]| {
        raw_rpc(node.grpc, path, &[], headers).await.status
    };
    let key = [("authorization", "Bearer key")];
    for path in [
        "openfga.v1.OpenFGAService/Write",
        "openfga.v1.OpenFGAService/StreamedListObjects",
        "meridian.v1.CheckService/StreamedBatchCheck",
        "meridian.v1.AdminService/GetStatus",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        assert_eq!(ask(path, &[]).await, 1010, "{path}");
        assert_ne!(ask(path, &key).await, 1010, "{path}");
    }
    assert_eq!(ask("grpc.health.v1.Health/Check", &[]).await, 0);

    let http = async |method: Method, path: &str| {
        let reply = send(node.http, method, path, &[], Bytes::from_static(b"{}")).await;
        (reply.status.as_u16(), reply.body)
    };
    let missing = json!({"code": "bearer_token_missing", "message": "missing bearer token"});
    for (method, path) in [
        (Method::POST, "/stores".to_owned()),
        (Method::PATCH, format!("/stores/{NOBODY}")),
        (Method::POST, format!("/stores/{NOBODY}/check")),
        (Method::POST, format!("/stores/{NOBODY}/live/publish")),
    ] {
        assert_eq!(http(method, &path).await, (401, missing.clone()), "{path}");
    }
    let error = json!({"error": {"code": 16, "message": "missing bearer token", "details": []}});
    for streamed in ["streamed-list-objects", "streamed-batch-check"] {
        let path = format!("/stores/{NOBODY}/{streamed}");
        let answer = http(Method::POST, &path).await;
        assert_eq!(answer, (401, error.clone()), "{path}");
    }
    assert_eq!(http(Method::GET, "/healthz").await.0, 200);
    assert_eq!(http(Method::GET, "/livez").await.0, 200);
    let nowhere = json!({"code": "undefined_endpoint", "message": "Not Found"});
    assert_eq!(http(Method::GET, "/nowhere").await, (404, nowhere));
}

#[tokio::test]
async fn the_admin_service_answers_whoever_has_the_key() {
    let node = ready(preshared(&["key"])).await;
    let request = node::GetStatusRequest::default().encode_to_vec();
    let path = "meridian.v1.AdminService/GetStatus";
    let key = [("authorization", "Bearer key")];
    let reply = raw_rpc(node.grpc, path, &request, &key).await;
    assert_eq!(reply.status, 0, "{}", reply.message);
}

#[tokio::test]
async fn tokens_of_the_issuer_let_in_and_no_others() {
    let (rsa, p256) = (Key::rsa("rsa"), Key::p256("p256"));
    let issuer = Issuer::start(&[&rsa, &p256]).await;
    let mut authn = oidc(&issuer);
    authn.oidc.issuer_aliases = vec!["https://alias.example".into()];
    let node = ready(authn).await;
    let bearer = |token: String| format!("Bearer {token}");
    let good = [
        rsa.token(&issuer.claims()),
        p256.token(&issuer.claims()),
        rsa.token(&issuer.claims_with("aud", json!("meridian"))),
        rsa.token(&issuer.claims_with("iss", json!("https://alias.example"))),
        rsa.token(&issuer.claims_with("sub", Value::Null)),
        rsa.token(&issuer.claims_with("iat", Value::Null)),
        rsa.token(&issuer.claims_with("nbf", Value::Null)),
    ];
    for token in good {
        let header = bearer(token.clone());
        assert_eq!(refusal(&node, Some(&header)).await, None, "{token}");
    }
    let changed = [
        ("aud", json!("other")),
        ("aud", json!(["meridian", 7])),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("exp", json!(now() - 1)),
        ("exp", json!("tomorrow")),
        ("exp", json!(0)),
        ("exp", Value::Null),
        ("nbf", json!(now() + 60)),
        ("iat", json!(now() + 60)),
        ("iat", json!("today")),
        ("iss", json!("https://somebody.else")),
        ("iss", json!(format!("{}/", issuer.url))),
        ("iss", json!([issuer.url])),
        ("iss", Value::Null),
        ("sub", json!(7)),
    ];
    for (claim, value) in changed {
        for key in [&rsa, &p256] {
            let token = key.token(&issuer.claims_with(claim, value.clone()));
            let refused = refusal(&node, Some(&bearer(token))).await;
            assert_eq!(
                refused,
                Some((1004, "invalid claims".to_owned())),
                "{claim}: {value}"
            );
        }
    }
    assert_refused(refusal(&node, None).await, MISSING);
}

#[tokio::test]
async fn a_token_that_is_not_signed_with_its_key_is_refused() {
    let (rsa, p256, stranger) = (Key::rsa("rsa"), Key::p256("p256"), Key::rsa("rsa"));
    let issuer = Issuer::start(&[&rsa, &p256]).await;
    let node = ready(oidc(&issuer)).await;
    let claims = issuer.claims();
    let header = |algorithm: &str| json!({"alg": algorithm, "kid": "rsa", "typ": "JWT"});
    let public = rsa.private.public_key_to_pem().unwrap();
    let good = rsa.token(&claims);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = signed.split_once('.').unwrap();
    let other = rsa.token(&issuer.claims_with("sub", json!("bob")));
    let others_claims = other.split('.').nth(1).unwrap();
    for token in [
        stranger.token(&claims),
        format!("{}.", unsigned(&header("none"), &claims)),
        format!("{}.", unsigned(&header("None"), &claims)),
        format!("{}.", unsigned(&header("RS256"), &claims)),
        format!("{}.{signature}", unsigned(&header("none"), &claims)),
        hmac(&header("HS256"), &claims, &public),
        hmac(&header("RS256"), &claims, &public),
        // The key's, but of another kind than the token says.
        rsa.token_with(&header("ES256"), &claims),
        rsa.token_with(&header("RS512"), &claims),
        p256.token_with(&header("ES256"), &claims),
        p256.token_with(&json!({"alg": "RS256", "kid": "p256"}), &claims),
        rsa.token_with(&json!({"alg": "RS256"}), &claims),
        rsa.token_with(&json!({"alg": "RS256", "kid": 7}), &claims),
        rsa.token_with(
            &json!({"alg": "RS256", "kid": "rsa", "crit": ["exp"]}),
            &claims,
        ),
        format!("{head}.{others_claims}.{signature}"),
        signed.to_owned(),
        format!("{good}.more"),
        format!("{good}AAAA"),
        "no.token.atall".to_owned(),
        "token".to_owned(),
    ] {
        let refused = refusal(&node, Some(&format!("Bearer {token}"))).await;
        assert_eq!(
            refused,
            Some((1004, "invalid claims".to_owned())),
            "{token}"
        );
    }
    assert_eq!(refusal(&node, Some(&format!("Bearer {good}"))).await, None);
}

/// A refused caller asks why: whoever runs the node finds the line by the answer's id, and nothing secret in it.
#[tokio::test]
async fn why_a_caller_was_refused_is_logged_under_the_answers_id() {
    let key = Key::p256("key");
    let issuer = Issuer::start(&[&key]).await;
    let mut authn = oidc(&issuer);
    authn.oidc.subjects = vec!["anne".into()];
    let node = ready(authn).await;
    let log = Log::default();
    let _logging = log.start(tracing::Level::DEBUG);
    for (claim, value, reason) in [
        ("exp", json!(now() - 1), "has expired"),
        ("nbf", json!(now() + 60), "is yet to come"),
        ("aud", json!("other"), "oidc.audience"),
        ("iss", json!("https://other"), "oidc.issuer"),
        ("sub", json!("bob"), "oidc.subjects"),
    ] {
        let token = key.token(&issuer.claims_with(claim, value));
        let header = format!("Bearer {token}");
        let grpc = list(&node, Some(&header)).await.headers;
        let headers = [("authorization", header.as_str())];
        let http = send(node.http, Method::GET, "/stores", &headers, Bytes::new()).await;
        for (headers, path) in [
            (grpc, "OpenFGAService/ListStores"),
            (http.headers, "/stores"),
        ] {
            let id = headers["x-request-id"].to_str().unwrap();
            let lines = log.lines();
            let line = lines.iter().find(|line| line.contains(id)).unwrap();
            for part in ["caller_refused", "invalid_claims", reason, path] {
                assert!(line.contains(part), "{part} is not in {line}");
            }
            let parts = token.split('.');
            assert!(parts.into_iter().all(|part| !line.contains(part)), "{line}");
        }
    }
}

#[tokio::test]
async fn only_subjects_that_are_named_are_let_in() {
    let key = Key::p256("key");
    let issuer = Issuer::start(&[&key]).await;
    let mut authn = oidc(&issuer);
    authn.oidc.subjects = vec!["anne".into(), "bob".into()];
    let node = ready(authn).await;
    for (subject, refused) in [
        (json!("anne"), None),
        (json!("bob"), None),
        (json!("charlie"), Some(INVALID)),
        (json!(""), Some(INVALID)),
        (Value::Null, Some(INVALID)),
    ] {
        let token = key.token(&issuer.claims_with("sub", subject));
        let was = refusal(&node, Some(&format!("Bearer {token}"))).await;
        let refused = refused.map(|(number, _, message)| (number, message.to_owned()));
        assert_eq!(was, refused);
    }
}
