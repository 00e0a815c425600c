//! What a token claims, and whether that lets its bearer in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::config::authn::Oidc;

/// Who calls. Empty where callers show a shared key, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The token's `sub`.
    pub subject: Option<String>,
    /// The client that the token was issued to, by the first of `oidc.clientIdClaims` that it has.
    pub client_id: Option<String>,
}

/// The claims of a token whose signature is right.
pub(super) struct Claims(pub(super) Map<String, Value>);

impl Claims {
    /// Who the token is of, if it may be used here, at `now` (seconds since 1970). As OpenFGA's server: no leeway, expiry and
    /// audience are required, a time of 0 counts as none.
    ///
    /// # Errors
    /// Why it may not, without anything that it says.
    pub(super) fn caller(&self, settings: &Oidc, now: f64) -> Result<Caller, &'static str> {
        let no_time = "one of exp, nbf and iat is no number";
        let time = |claim| self.time(claim).ok_or(no_time);
        let (expires, not_before, issued) = (time("exp")?, time("nbf")?, time("iat")?);
        let expires = expires.ok_or("it has no exp")?;
        let issuer = self.text("iss").ok_or("it has no iss")?;
        let aliases = &settings.issuer_aliases;
        let subject = match self.0.get("sub") {
            None => None,
            Some(subject) => Some(subject.as_str().ok_or("its sub is no text")?),
        };
        let may = |subject| settings.subjects.iter().any(|allowed| allowed == subject);
        for (holds, why) in [
            (now < expires, "it has expired: exp is past"),
            (
                not_before.is_none_or(|time| time <= now) && issued.is_none_or(|time| time <= now),
                "nbf or iat is yet to come: compare the clocks of issuer and node",
            ),
            (
                issuer == settings.issuer || aliases.iter().any(|alias| alias == issuer),
                "iss is neither oidc.issuer nor one of oidc.issuerAliases",
            ),
            (
                self.is_for(&settings.audience),
                "aud does not contain oidc.audience",
            ),
            (
                settings.subjects.is_empty() || subject.is_some_and(may),
                "sub is none of oidc.subjects",
            ),
        ] {
            if !holds {
                return Err(why);
            }
        }
        let mut client_ids = settings.client_id_claims.iter();
        Ok(Caller {
            subject: subject.map(str::to_owned),
            client_id: client_ids.find_map(|claim| self.text(claim).map(str::to_owned)),
        })
    }

    /// When the token expires.
    pub(super) fn expires_at(&self) -> Option<SystemTime> {
        let seconds = self.time("exp")??;
        let since = Duration::try_from_secs_f64(seconds).ok()?;
        UNIX_EPOCH.checked_add(since)
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.0.get(claim)?.as_str()
    }

    /// The time of a claim, `Some(None)` where there is none; `None` where it is not a number.
    fn time(&self, claim: &str) -> Option<Option<f64>> {
        match self.0.get(claim) {
            None => Some(None),
            Some(value) => value.as_f64().map(|time| Some(time).filter(|t| *t != 0.0)),
        }
    }

    fn is_for(&self, audience: &str) -> bool {
        match self.0.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(several)) => {
                several.iter().all(Value::is_string) && several.iter().any(|one| one == audience)
            }
            _ => false,
        }
    }
}
