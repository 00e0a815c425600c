//! An OIDC issuer: a key made anew, the documents that nodes ask for, and tokens.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What its tokens are for.
pub(crate) const AUDIENCE: &str = "race";

/// Serves its documents until the runtime ends.
pub(crate) struct Issuer {
    pub(crate) url: String,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Issuer {
    pub(crate) async fn start() -> Result<Self> {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
            .map_err(|_| anyhow!("no key can be made"))?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random)
            .map_err(|why| anyhow!("the key made is not good: {why}"))?;
        // 4, then x and y.
        let point = key.public_key().as_ref();
        let part = |span| BASE64.encode(point.get(span).unwrap_or_default());
        let public = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "bench",
            "x": part(1..33), "y": part(33..65),
        }]});
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let discovery = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
        let router = Router::new()
            .route("/.well-known/openid-configuration", says(discovery))
            .route("/keys", says(public));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, key, random })
    }

    /// A user's token, good for an hour.
    pub(crate) fn token(&self, user: &str) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let header = json!({"alg": "ES256", "kid": "bench", "typ": "JWT"});
        let claims = json!({"iss": self.url, "aud": AUDIENCE, "sub": user, "exp": now + 3600});
        let part = |value: &Value| BASE64.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self
            .key
            .sign(&self.random, signed.as_bytes())
            .map_err(|_| anyhow!("nothing can be signed"))?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }
}

fn says(document: Value) -> axum::routing::MethodRouter {
    get(async move || Json(document.clone()))
}
