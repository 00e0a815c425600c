//! What stands in headers, on gRPC as metadata: from the request the deadline and the asked position, on the answer
//! where it comes from.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use meridian_model::{ModelId, Position};

use crate::api::fields::{self, Fields, InvalidFields};
use crate::calls::ServedBy;
use crate::telemetry::request::{REQUEST_ID, RequestId};

const MIN_REVISION: HeaderName = HeaderName::from_static("meridian-min-revision");
const REVISION: HeaderName = HeaderName::from_static("meridian-revision");
pub(super) const SERVED_BY: HeaderName = HeaderName::from_static("meridian-served-by");
const TRUNCATED: HeaderName = HeaderName::from_static("meridian-truncated");
pub(super) const STORE_ID: HeaderName = HeaderName::from_static("openfga-store-id");
pub(super) const MODEL_ID: HeaderName = HeaderName::from_static("openfga-authorization-model-id");
const HTTP_CODE: HeaderName = HeaderName::from_static("x-http-code");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The headers an answer has however the call goes. Sized for all that [`add_origin`] and [`add_model`] add.
pub(super) fn for_request(request_id: RequestId, request: &impl Fields) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    add_request_id(&mut headers, request_id);
    if !request.store_id().is_empty() {
        add(&mut headers, STORE_ID, request.store_id().to_owned());
    }
    headers
}

/// Names the request.
pub(super) fn add_request_id(headers: &mut HeaderMap, request_id: RequestId) {
    if let Ok(mut id) = HeaderValue::try_from(request_id.to_string()) {
        // New every time: marked so, it is kept out of HPACK's table and pushes none of the others out.
        id.set_sensitive(true);
        headers.insert(REQUEST_ID, id);
    }
}

/// Whether an answer says where it comes from.
pub(super) fn has_origin(headers: &HeaderMap) -> bool {
    headers.contains_key(SERVED_BY)
}

/// Says where an answer comes from.
pub(super) fn add_origin(
    headers: &mut HeaderMap,
    position: Option<Position>,
    served_by: &ServedBy,
) {
    headers.insert(SERVED_BY, served_by.header());
    if let Some(position) = position {
        let mut number = itoa::Buffer::new();
        let mut text = String::with_capacity(24);
        text.push_str(number.format(position.epoch.0));
        text.push('.');
        text.push_str(number.format(position.revision.0));
        add(headers, REVISION, text);
    }
}

/// Says that a listing is a part.
pub(super) fn add_truncated(headers: &mut HeaderMap) {
    headers.insert(TRUNCATED, HeaderValue::from_static("true"));
}

/// Says the HTTP status of a call that did what was asked, where it is not 200, as upstream does over both transports.
pub(super) fn add_http_code(headers: &mut HeaderMap, call: &str) {
    let code = match call {
        "CreateStore" | "WriteAuthorizationModel" => "201",
        "DeleteStore" | "WriteAssertions" => "204",
        _ => return,
    };
    headers.insert(HTTP_CODE, HeaderValue::from_static(code));
}

/// Names the model an answer was made under.
pub(super) fn add_model(headers: &mut HeaderMap, model_id: &str) {
    add(headers, MODEL_ID, model_id.to_owned());
}

/// A header's value; empty where there is none.
pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// Whether an answer's headers name a model.
pub(super) fn has_model(headers: &HeaderMap) -> bool {
    headers.contains_key(MODEL_ID)
}

/// Leaves out what cannot stand in a header: a malformed store id is told in the error's message.
fn add(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// The position asked for in `meridian-min-revision`.
pub(super) fn min_position(headers: &HeaderMap) -> Result<Option<Position>, InvalidFields> {
    headers
        .get(MIN_REVISION)
        .map(|value| fields::min_position(value.as_bytes()))
        .transpose()
}

/// The authorization model that AuthZEN's callers name in `openfga-authorization-model-id`. What is no id counts as none,
/// as upstream.
pub(super) fn model(headers: &HeaderMap) -> Option<ModelId> {
    let value = headers.get(MODEL_ID)?.to_str().ok()?;
    value.trim().parse().ok()
}

/// The time a gRPC caller gives. A malformed `grpc-timeout` counts as none, as the gRPC specification allows.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(TIMEOUT)?.as_bytes();
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// Checks that the time an HTTP caller gives can be read, as upstream reads it, and leaves out one of zero, which there is no
/// limit.
///
/// # Errors
/// What the caller is told.
pub(super) fn check_timeout(headers: &mut HeaderMap) -> Result<(), String> {
    let value = headers.get(TIMEOUT).map_or(&b""[..], HeaderValue::as_bytes);
    if value.is_empty() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(value);
    let amount = text.strip_suffix(['H', 'M', 'S', 'm', 'u', 'n']);
    match amount.map(str::parse::<i64>) {
        Some(Ok(0)) => headers.remove(TIMEOUT),
        Some(Ok(_)) => return Ok(()),
        _ => return Err(format!("invalid grpc-timeout: {text}")),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_every_unit() {
        let timeout_of = |text: &'static str| {
            timeout(&HeaderMap::from_iter([(
                TIMEOUT,
                HeaderValue::from_static(text),
            )]))
        };
        assert_eq!(timeout_of("2S"), Some(Duration::from_secs(2)));
        assert_eq!(timeout_of("150m"), Some(Duration::from_millis(150)));
        assert_eq!(
            timeout_of("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for bad in ["", "S", "2", "2s", "-2S", "123456789S"] {
            assert_eq!(timeout_of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn positions_and_request_ids_are_written_whole() {
        let mut headers = HeaderMap::new();
        add_origin(
            &mut headers,
            Some(Position::new(u64::MAX, u64::MAX)),
            &ServedBy::new("central").unwrap(),
        );
        assert_eq!(
            headers[REVISION],
            "18446744073709551615.18446744073709551615"
        );
        assert_eq!(headers[SERVED_BY], "central");
    }
}
