//! Who may call: tokens of an issuer, and TLS on both ports.

use std::net::SocketAddr;
use std::time::Duration;

use meridian_e2e::Workdir;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::talk::tuple;
use super::tuples::MODEL;
use super::{Pair, Talk, call, http, row};
use crate::issuer::{Issuer, Key, hmac, now, unsigned};

/// More than any connection may take.
const DEADLINE: Duration = Duration::from_secs(20);
const ALIAS: &str = "https://alias.example";

async fn issuer(keys: &[&Key]) -> Issuer {
    let issuer = Issuer::start(keys).await;
    issuer.published.lock().unwrap().is_plain = true;
    issuer
}

/// Both let in by tokens of `issuer`; `more` are further settings.
async fn pair(issuer: &Issuer, more: &[(&str, &str)]) -> Pair {
    let mut settings = vec![
        ("OPENFGA_AUTHN_METHOD", "oidc"),
        ("OPENFGA_AUTHN_OIDC_ISSUER", issuer.url.as_str()),
        ("OPENFGA_AUTHN_OIDC_AUDIENCE", "meridian"),
    ];
    settings.extend(more);
    Pair::start(&settings).await
}

/// Asks with a token, or with whatever else stands in the header.
async fn show(talk: &mut Talk<'_>, about: &'static str, header: &str) {
    let case = call("ListStores", json!({})).about(about);
    talk.ask(case.header("authorization", header)).await;
}

#[tokio::test]
async fn side_by_side_tokens_of_an_issuer() {
    let (rsa, p256, stranger) = (Key::rsa("rsa"), Key::p256("p256"), Key::rsa("rsa"));
    let issuer = issuer(&[&rsa, &p256]).await;
    let pair = pair(&issuer, &[("OPENFGA_AUTHN_OIDC_ISSUER_ALIASES", ALIAS)]).await;
    let mut talk = Talk::new(&pair);
    talk.ask(call("ListStores", json!({})).about("no token"))
        .await;
    for (about, header) in [
        ("no scheme", "token"),
        ("another scheme", "Basic token"),
        ("no token behind the scheme", "Bearer"),
        ("an empty token", "Bearer "),
        ("no JWT", "Bearer token"),
        ("three parts that are none", "Bearer no.token.atall"),
    ] {
        show(&mut talk, about, header).await;
    }
    let claims = |about, name, value| (about, issuer.claims_with(name, value));
    for (about, claims) in [
        ("good", issuer.claims()),
        claims("one audience", "aud", json!("meridian")),
        claims("another audience", "aud", json!("other")),
        claims("no audience of several", "aud", json!(["other", "others"])),
        claims("an empty list of audiences", "aud", json!([])),
        claims("an audience that is no text", "aud", json!(["meridian", 7])),
        claims("no audience", "aud", Value::Null),
        claims("expired", "exp", json!(now() - 1)),
        claims("expired long ago", "exp", json!(0)),
        claims("an expiry that is no time", "exp", json!("tomorrow")),
        claims("no expiry", "exp", Value::Null),
        claims("not valid yet", "nbf", json!(now() + 60)),
        claims("no beginning", "nbf", Value::Null),
        claims("issued in the future", "iat", json!(now() + 60)),
        claims("issued at no time", "iat", json!("today")),
        claims("no time of issue", "iat", Value::Null),
        claims("another issuer", "iss", json!("https://somebody.else")),
        claims(
            "the issuer with a slash",
            "iss",
            json!(format!("{}/", issuer.url)),
        ),
        claims("an alias", "iss", json!(ALIAS)),
        claims("an alias with a slash", "iss", json!(format!("{ALIAS}/"))),
        claims("several issuers", "iss", json!([issuer.url])),
        claims("no issuer", "iss", Value::Null),
        claims("no subject", "sub", Value::Null),
        claims("a subject that is no text", "sub", json!(7)),
        claims("no client", "azp", Value::Null),
    ] {
        let token = rsa.token(&claims);
        show(&mut talk, about, &format!("Bearer {token}")).await;
    }
    let claims = issuer.claims();
    let header = |algorithm: &str, key: &str| json!({"alg": algorithm, "kid": key, "typ": "JWT"});
    let public = rsa.private.public_key_to_pem().unwrap();
    let good = rsa.token(&claims);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for (about, token) in [
        ("another key", stranger.token(&claims)),
        (
            "none",
            format!("{}.", unsigned(&header("none", "rsa"), &claims)),
        ),
        (
            "None",
            format!("{}.", unsigned(&header("None", "rsa"), &claims)),
        ),
        (
            "no signature",
            format!("{}.", unsigned(&header("RS256", "rsa"), &claims)),
        ),
        ("two parts", signed.to_owned()),
        ("four parts", format!("{good}.more")),
        (
            "none with a signature",
            format!("{}.{signature}", unsigned(&header("none", "rsa"), &claims)),
        ),
        (
            "HS256 by the public key",
            hmac(&header("HS256", "rsa"), &claims, &public),
        ),
        (
            "RS256 by HMAC",
            hmac(&header("RS256", "rsa"), &claims, &public),
        ),
        ("RS512", rsa.token_with(&header("RS512", "rsa"), &claims)),
        (
            "an unknown key",
            rsa.token_with(&header("RS256", "who"), &claims),
        ),
        (
            "no key's name",
            rsa.token_with(&json!({"alg": "RS256"}), &claims),
        ),
        (
            "a key's name that is none",
            rsa.token_with(&json!({"alg": "RS256", "kid": 7}), &claims),
        ),
        (
            "a key of another kind",
            p256.token_with(&header("RS256", "p256"), &claims),
        ),
    ] {
        show(&mut talk, about, &format!("Bearer {token}")).await;
    }
    let es256 = p256.token(&claims);
    let critical = json!({"alg": "RS256", "kid": "rsa", "crit": ["exp"]});
    let critical = rsa.token_with(&critical, &claims);
    for (reason, ours, token) in [
        ("Tokens of an OIDC issuer", &["grpc 0", "200"][..], es256),
        (
            "A token with `crit` in its header",
            &["grpc 1004", "401 invalid_claims"],
            critical,
        ),
    ] {
        let bearer = format!("Bearer {token}");
        let case = call("ListStores", json!({})).header("authorization", &bearer);
        talk.ask(case.other(reason, ours)).await;
    }
    for line in ["GET /healthz", "GET /stores", "GET /nothing"] {
        talk.ask(http(line)).await;
    }
    talk.end();
}

#[tokio::test]
async fn side_by_side_subjects_of_tokens() {
    let key = Key::rsa("key");
    let issuer = issuer(&[&key]).await;
    let pair = pair(&issuer, &[("OPENFGA_AUTHN_OIDC_SUBJECTS", "anne,bob")]).await;
    let mut talk = Talk::new(&pair);
    for (about, subject) in [
        ("one of them", json!("anne")),
        ("the other", json!("bob")),
        ("somebody else", json!("charlie")),
        ("nobody", json!("")),
        ("none", Value::Null),
    ] {
        let token = key.token(&issuer.claims_with("sub", subject));
        show(&mut talk, about, &format!("Bearer {token}")).await;
    }
    talk.end();
}

#[tokio::test]
async fn side_by_side_tls() {
    let dir = Workdir::new("certificate").unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let file = |name: &str, text: &str| dir.write(name, text).unwrap().display().to_string();
    let (cert_file, key_file) = (file("tls.crt", &cert), file("tls.key", &key));
    let mut settings = Vec::new();
    for port in ["GRPC", "HTTP"] {
        settings.push((format!("OPENFGA_{port}_TLS_ENABLED"), "true"));
        settings.push((format!("OPENFGA_{port}_TLS_CERT"), cert_file.as_str()));
        settings.push((format!("OPENFGA_{port}_TLS_KEY"), key_file.as_str()));
    }
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let pair = Pair::over_tls(&settings, &cert).await;
    let mut talk = Talk::with_model(&pair, MODEL).await;
    talk.write(&["document:1#owner@user:anne"]).await;
    let key = tuple("document:1#viewer@user:anne");
    for case in [
        call("Check", json!({"tuple_key": key})),
        call(
            "Check",
            json!({"tuple_key": tuple("nothing:1#viewer@user:anne")}),
        ),
        call(
            "StreamedListObjects",
            json!({"type": "document", "relation": "viewer", "user": "user:anne"}),
        ),
        http("GET /healthz"),
        http("GET /nothing"),
    ] {
        talk.ask(case).await;
    }
    talk.end();
    speak_plainly(&pair).await;
}

/// Neither answers who speaks no TLS, but for OpenFGA's HTTP, which says so.
async fn speak_plainly(pair: &Pair) {
    row("Plain text to a TLS port");
    for server in &pair.servers {
        let h2 = said(server.grpc.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert!(
            !h2.starts_with(b"HTTP") && !is_http2(&h2),
            "{}: {h2:?}",
            server.name
        );
        let http = said(
            server.http.address,
            b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n",
        )
        .await;
        let told = http.starts_with(b"HTTP/1.0 400 ");
        assert_eq!(told, server.name == "OpenFGA", "{}: {http:?}", server.name);
        assert!(
            told || !http.starts_with(b"HTTP"),
            "{}: {http:?}",
            server.name
        );
    }
}

/// Whether it begins with HTTP/2's settings.
fn is_http2(bytes: &[u8]) -> bool {
    bytes.get(3) == Some(&4)
}

/// What comes back until the connection ends.
async fn said(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // Who closes without having read all of it resets the connection.
        let _closed = stream.read_to_end(&mut answer).await;
        answer
    };
    timeout(DEADLINE, exchange).await.unwrap()
}
