//! What browsers are told about pages of other origins.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::config::transport::Http;

/// How long a browser may go by what it was told.
const MAX_AGE: Duration = Duration::from_secs(5);

/// The layer that answers browsers' questions, and completes other answers for them. Any origin is told so without
/// leave to send credentials, which browsers would not send there either.
pub fn layer(settings: &Http) -> CorsLayer {
    let origins = &settings.cors_allowed_origins;
    let headers = &settings.cors_allowed_headers;
    let is_any = |list: &[String]| list.iter().any(|one| one == "*");
    let layer = CorsLayer::new()
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::HEAD,
            Method::PATCH,
            Method::DELETE,
            Method::PUT,
        ])
        .max_age(MAX_AGE)
        .allow_headers(if is_any(headers) {
            AllowHeaders::mirror_request()
        } else {
            AllowHeaders::list(
                headers
                    .iter()
                    .filter_map(|name| name.parse::<HeaderName>().ok()),
            )
        });
    if is_any(origins) {
        return layer.allow_origin(AllowOrigin::any());
    }
    let allowed = origins.clone();
    layer
        .allow_credentials(true)
        .allow_origin(AllowOrigin::predicate(move |origin: &HeaderValue, _| {
            is_among(&allowed, origin.as_bytes())
        }))
}

/// Whether an origin is one of those named, in which one `*` stands for anything.
pub(crate) fn is_among(allowed: &[String], origin: &[u8]) -> bool {
    allowed.iter().any(|pattern| matches(pattern, origin))
}

/// Whether an origin is the one named, in which one `*` stands for anything.
fn matches(pattern: &str, origin: &[u8]) -> bool {
    match pattern.split_once('*') {
        None => pattern.as_bytes().eq_ignore_ascii_case(origin),
        Some((before, after)) => {
            origin.len() >= before.len() + after.len()
                && origin.starts_with(before.as_bytes())
                && origin.ends_with(after.as_bytes())
        }
    }
}
