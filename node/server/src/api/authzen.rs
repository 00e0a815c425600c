//! AuthZEN: the Authorization API 1.0 over the calls of `openfga.v1`, mapped as OpenFGA maps it.
//!
//! A subject is a user, a resource an object, an action a relation; their properties are values of conditions' parameters.
//! Nothing is decided here: each call asks [`Calls`](crate::calls::Calls), so that every role answers it as it answers the
//! calls it is made of.

pub mod evaluations;
pub mod searches;

use std::fmt;
use std::str::FromStr;

use meridian_model::{ApiError, Code};
use meridian_proto::authzen::v1;
use meridian_proto::google::Struct;
use meridian_proto::openfga::v1 as openfga;

use super::headers;
use super::operations::Asked;
use crate::calls::{Answer, Reply};

/// How a node serves AuthZEN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthZen {
    /// Whether it does.
    pub enabled: bool,
    /// Where its clients find it.
    pub base_url: Option<BaseUrl>,
}

impl AuthZen {
    /// Refuses calls of a node that does not serve them.
    ///
    /// # Errors
    /// `unimplemented`, in upstream's words.
    pub fn check_enabled(&self) -> Result<(), ApiError> {
        if self.enabled {
            return Ok(());
        }
        Err(ApiError::new(
            Code::Unimplemented,
            "AuthZEN endpoints are experimental. Enable with --experimentals=authzen",
        ))
    }
}

/// The URL that AuthZEN's routes are found under, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

/// Why a text is no base URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "write one absolute http or https URL, as https://pdp.example.com, without user, query and fragment"
)]
pub struct InvalidBaseUrl;

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BaseUrl {
    type Err = InvalidBaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidBaseUrl> {
        let uri: http::Uri = text.parse().map_err(|_| InvalidBaseUrl)?;
        let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
        let names_one_host = uri
            .authority()
            .is_some_and(|authority| !authority.as_str().contains(['@', ',']));
        // The parser drops a fragment.
        if is_web && names_one_host && !text.contains(['?', '#']) {
            Ok(Self(text.trim_end_matches('/').to_owned()))
        } else {
            Err(InvalidBaseUrl)
        }
    }
}

/// GetConfiguration: where a store's calls are.
pub async fn configuration(
    asked: Asked<'_>,
    request: v1::GetConfigurationRequest,
) -> Answer<v1::GetConfigurationResponse> {
    let Some(BaseUrl(base)) = &asked.authzen.base_url else {
        return Err(ApiError::new(
            Code::FailedPrecondition,
            "AuthZEN discovery base URL is not configured; set authzen.baseUrl or OPENFGA_AUTHZEN_BASE_URL",
        )
        .into());
    };
    let store = format!("{base}/stores/{}", request.store_id);
    let of_store = |rest: &str| format!("{store}/access/v1/{rest}");
    let body = v1::GetConfigurationResponse {
        access_evaluation_endpoint: of_store("evaluation"),
        access_evaluations_endpoint: of_store("evaluations"),
        search_subject_endpoint: of_store("search/subject"),
        search_resource_endpoint: of_store("search/resource"),
        search_action_endpoint: of_store("search/action"),
        policy_decision_point: store,
        capabilities: Vec::new(),
        signed_metadata: None,
    };
    Ok(Reply {
        body,
        position: None,
        model: None,
        served_by: asked.name.clone(),
        truncated: false,
    })
}

impl Asked<'_> {
    /// The authorization model that the caller names; empty for the latest.
    fn model_id(&self) -> String {
        headers::model(self.headers).map_or_else(String::new, |model| model.to_string())
    }
}

/// What AuthZEN asks, in OpenFGA's words.
struct Question {
    key: openfga::CheckRequestTupleKey,
    context: Option<Struct>,
}

impl Question {
    /// Puts a question together.
    ///
    /// # Errors
    /// Which part is missing.
    fn new(
        subject: Option<&v1::Subject>,
        resource: Option<&v1::Resource>,
        action: Option<&v1::Action>,
        context: Option<&Struct>,
    ) -> Result<Self, &'static str> {
        let subject = subject.ok_or("missing subject")?;
        let resource = resource.ok_or("missing resource")?;
        let action = action.ok_or("missing action")?;
        let key = openfga::CheckRequestTupleKey {
            user: user(subject),
            relation: action.name.clone(),
            object: object(resource),
        };
        let context = merged([
            ("subject_", subject.properties.as_ref()),
            ("resource_", resource.properties.as_ref()),
            ("action_", action.properties.as_ref()),
            ("", context),
        ]);
        Ok(Self { key, context })
    }
}

/// A subject as a user. It may be longer than a user can be, which the calls refuse.
fn user(subject: &v1::Subject) -> String {
    format!("{}:{}", subject.r#type, subject.id)
}

/// A resource as an object. It may be longer than an object can be, which the calls refuse.
fn object(resource: &v1::Resource) -> String {
    format!("{}:{}", resource.r#type, resource.id)
}

/// Properties, each under its prefix and name, as one context; of one name the last counts. None at all without any.
fn merged<const N: usize>(sources: [(&str, Option<&Struct>); N]) -> Option<Struct> {
    let mut merged = Struct::default();
    for (prefix, source) in sources {
        let fields = source.into_iter().flat_map(|source| &source.fields);
        let prefixed = fields.map(|(name, value)| (format!("{prefix}{name}"), value.clone()));
        merged.fields.extend(prefixed);
    }
    Some(merged).filter(|merged| !merged.fields.is_empty())
}

fn invalid_argument(message: impl Into<String>) -> ApiError {
    ApiError::new(Code::InvalidArgument, message)
}

/// Refuses a batch that OpenFGA's BatchCheck would refuse.
fn check_batch(asked: Asked<'_>, checks: usize) -> Result<(), ApiError> {
    let most = asked.limits.checks_per_batch;
    if checks == 0 {
        return Err(ApiError::validation(
            "batch check requires at least one check to evaluate, no checks were received",
        ));
    }
    if checks > most {
        return Err(ApiError::validation(format!(
            "batchCheck received {checks} checks, the maximum allowed is {most}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
