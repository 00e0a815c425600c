//! An OIDC issuer of the tests' own: keys that are made anew each time, discovery, and tokens of any kind.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::server::TlsStream;

/// A running issuer.
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) published: Arc<Mutex<Published>>,
    /// Whether those who ask for its keys have to wait.
    pub(crate) holds: watch::Sender<bool>,
}

/// Connections on which hands were shaken.
struct OverTls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for OverTls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// What it answers.
pub(crate) struct Published {
    pub(crate) is_up: bool,
    /// Whether it publishes keys alone that everybody understands.
    pub(crate) is_plain: bool,
    pub(crate) keys: Vec<Value>,
    /// How often the keys were asked for.
    pub(crate) asked: usize,
    /// How often it was asked where they are.
    pub(crate) discovered: usize,
    /// Where it says that its keys are.
    pub(crate) jwks_uri: String,
    url: String,
}

/// A key, and the id that tokens know it by.
pub(crate) struct Key {
    pub(crate) id: &'static str,
    algorithm: &'static str,
    pub(crate) private: PKey<Private>,
}

impl Issuer {
    pub(crate) async fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self::start_at(listener, url, keys)
    }

    /// One that speaks TLS, and the certificate (PEM) that it shows.
    pub(crate) async fn start_over_tls(keys: &[&Key]) -> (Self, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned()];
        let own = rcgen::CertificateParams::new(names).unwrap();
        let own = own.self_signed(&key).unwrap();
        let private = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], private)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let acceptor = Arc::new(config).into();
        let listener = OverTls { listener, acceptor };
        (Self::start_at(listener, url, keys), own.pem())
    }

    fn start_at<L>(listener: L, url: String, keys: &[&Key]) -> Self
    where
        L: Listener,
        L::Addr: std::fmt::Debug,
    {
        let published = Arc::new(Mutex::new(Published {
            is_up: true,
            is_plain: false,
            keys: keys.iter().map(|key| key.public()).collect(),
            asked: 0,
            discovered: 0,
            jwks_uri: format!("{url}/keys"),
            url: url.clone(),
        }));
        let discovery = async |State(state): State<Arc<Mutex<Published>>>| {
            let mut state = state.lock().unwrap();
            state.discovered += 1;
            let document = json!({"issuer": state.url, "jwks_uri": state.jwks_uri});
            answer(&state, document)
        };
        let holds = watch::Sender::new(false);
        let held = holds.subscribe();
        let keys = async move |State(state): State<Arc<Mutex<Published>>>| {
            state.lock().unwrap().asked += 1;
            held.clone().wait_for(|held| !held).await.unwrap();
            let state = state.lock().unwrap();
            let mut keys = Vec::new();
            if !state.is_plain {
                // What is not understood must not be in the way.
                keys.extend([json!({"kty": "OKP", "kid": "ed"}), json!(7)]);
            }
            keys.extend(state.keys.clone());
            answer(&state, json!({"keys": keys}))
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .with_state(Arc::clone(&published));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            published,
            holds,
        }
    }

    pub(crate) fn is_up(&self, is_up: bool) {
        self.published.lock().unwrap().is_up = is_up;
    }

    pub(crate) fn publish(&self, keys: &[&Key]) {
        self.published.lock().unwrap().keys = keys.iter().map(|key| key.public()).collect();
    }

    pub(crate) fn asked(&self) -> usize {
        self.published.lock().unwrap().asked
    }

    /// The claims of a token that is good.
    pub(crate) fn claims(&self) -> Value {
        json!({
            "iss": self.url, "aud": ["other", "meridian"], "sub": "anne", "azp": "shop",
            "iat": now() - 10, "nbf": now() - 10, "exp": now() + 600,
        })
    }

    /// The same, with a claim changed; taken out where it is null.
    pub(crate) fn claims_with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        claims
    }
}

fn answer(state: &Published, document: Value) -> (StatusCode, Json<Value>) {
    if state.is_up {
        (StatusCode::OK, Json(document))
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, Json(Value::Null))
    }
}

impl Key {
    pub(crate) fn rsa(id: &'static str) -> Self {
        let private = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        Self {
            id,
            algorithm: "RS256",
            private,
        }
    }

    pub(crate) fn p256(id: &'static str) -> Self {
        let key = EcKey::generate(&p256()).unwrap();
        Self {
            id,
            algorithm: "ES256",
            private: PKey::from_ec_key(key).unwrap(),
        }
    }

    pub(crate) fn public(&self) -> Value {
        let text = |number: &openssl::bn::BigNumRef, len| {
            BASE64.encode(number.to_vec_padded(len).unwrap())
        };
        if self.algorithm == "RS256" {
            let key = self.private.rsa().unwrap();
            let (n, e) = (text(key.n(), 256), text(key.e(), 3));
            return json!({"kty": "RSA", "kid": self.id, "use": "sig", "alg": "RS256", "n": n, "e": e});
        }
        let key = self.private.ec_key().unwrap();
        let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
        let mut context = BigNumContext::new().unwrap();
        let point = key.public_key();
        point
            .affine_coordinates(&p256(), &mut x, &mut y, &mut context)
            .unwrap();
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "x": text(&x, 32), "y": text(&y, 32)})
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm, "kid": self.id, "typ": "JWT"});
        self.token_with(&header, claims)
    }

    /// A token with this header too, whatever it says.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let mut signer = Signer::new(MessageDigest::sha256(), &self.private).unwrap();
        let mut signature = signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap();
        if self.algorithm == "ES256" {
            let parts = EcdsaSig::from_der(&signature).unwrap();
            let part = |number: &openssl::bn::BigNumRef| number.to_vec_padded(32).unwrap();
            signature = [part(parts.r()), part(parts.s())].concat();
        }
        format!("{signed}.{}", BASE64.encode(signature))
    }
}

/// A token signed with a secret, as of a server that takes what the header says.
pub(crate) fn hmac(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let signed = unsigned(header, claims);
    let key = PKey::hmac(secret).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    let signature = signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64.encode(signature))
}

/// Header and claims, without a signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

fn p256() -> EcGroup {
    EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()
}
