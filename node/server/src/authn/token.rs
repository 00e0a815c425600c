//! JSON web tokens, and the keys that they are signed with.
//!
//! On ring's signatures, which are in the program for TLS already. The crates for tokens bring another library of
//! cryptography each. What is understood here is the least there can be: two algorithms, each with keys of its own kind, so
//! that no token chooses how it is checked.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use super::claims::Claims;

/// How a token is signed. There is no other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Es256,
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

/// A token as it came, not yet verified.
pub(super) struct Token<'a> {
    algorithm: Algorithm,
    /// By which of the issuer's keys it says that it is signed.
    pub(super) key_id: String,
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    /// Extensions without which the token must not be understood; none is known here.
    crit: Option<Value>,
}

impl<'a> Token<'a> {
    /// Reads a token; `None` where it is none, or is signed in a way that is not taken.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        if header.crit.is_some() {
            return None;
        }
        Some(Self {
            algorithm: Algorithm::named(&header.alg)?,
            key_id: header.kid,
            signed,
            claims,
            signature: BASE64.decode(signature).ok()?,
        })
    }

    /// What it claims, if it is signed with `key`.
    pub(super) fn verify(&self, key: &Key) -> Option<Claims> {
        let message = self.signed.as_bytes();
        let verified = match (self.algorithm, &key.public) {
            (Algorithm::Rs256, Public::Rsa(public)) => {
                public.verify(&RSA_PKCS1_2048_8192_SHA256, message, &self.signature)
            }
            (Algorithm::Es256, Public::P256(point)) => {
                let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                public.verify(message, &self.signature)
            }
            (Algorithm::Rs256, Public::P256(_)) | (Algorithm::Es256, Public::Rsa(_)) => {
                return None;
            }
        };
        verified.ok()?;
        let claims = serde_json::from_slice(&BASE64.decode(self.claims).ok()?).ok()?;
        Some(Claims(claims))
    }
}

/// A key of the issuer's.
#[derive(Debug)]
pub(super) struct Key {
    id: String,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point.
    P256(Vec<u8>),
}

/// The keys that an issuer publishes.
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

/// A JSON web key set. Each key is read alone: one that is not understood takes nothing from the others.
#[derive(Deserialize)]
pub(super) struct KeySet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct WebKey {
    kid: String,
    kty: String,
    r#use: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// The keys that tokens taken here can be signed with; `None` where there is none of them.
    pub(super) fn of(set: KeySet) -> Option<Self> {
        let read = |key| Key::of(serde_json::from_value(key).ok()?);
        let keys: Vec<_> = set.keys.into_iter().filter_map(read).collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    pub(super) fn find(&self, id: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }
}

impl Key {
    fn of(key: WebKey) -> Option<Self> {
        let decode = |part: Option<String>| BASE64.decode(part?.trim_end_matches('=')).ok();
        let (algorithm, public) = match key.kty.as_str() {
            "RSA" => {
                let (n, e) = (decode(key.n)?, decode(key.e)?);
                (
                    Algorithm::Rs256,
                    Public::Rsa(RsaPublicKeyComponents { n, e }),
                )
            }
            "EC" if key.crv.as_deref() == Some("P-256") => {
                let point = [vec![4], decode(key.x)?, decode(key.y)?].concat();
                (Algorithm::Es256, Public::P256(point))
            }
            _ => return None,
        };
        let signs = key.r#use.is_none_or(|what| what == "sig");
        let fits = key
            .alg
            .is_none_or(|name| Algorithm::named(&name) == Some(algorithm));
        (signs && fits).then_some(Self {
            id: key.kid,
            public,
        })
    }
}
