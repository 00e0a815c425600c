//! One line a call, for whoever keeps an access log; and what a sampled call's span says of it.
//!
//! The line is at debug under a target of its own, `access`: it costs more than a check at an edge does, so it is written
//! where it is asked for (`--log info,access=debug`). It holds names and numbers, never a token, a tuple or a context.

use http::HeaderMap;

use super::headers;
use super::meters::Done;
use crate::telemetry::request::{Begun, RequestId};

/// The target of the lines.
pub(crate) const TARGET: &str = "access";

/// Bytes of a path that are written: it is whatever an unknown caller sends.
const LONGEST_PATH: usize = 256;

/// Whether lines are written.
fn is_on() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::DEBUG)
}

/// Says that a request was not let in, and why. Nothing that its sender showed is said.
pub(super) fn not_admitted(path: &str, request_id: RequestId, code: &str, reason: &str) {
    if is_on() {
        let end = path.floor_char_boundary(LONGEST_PATH);
        tracing::debug!(
            target: TARGET,
            path = path.get(..end),
            %request_id,
            code,
            reason,
            "caller_refused"
        );
    }
}

/// Says that a call is done.
pub(super) fn done<T>(
    (service, call): (&'static str, &'static str),
    begun: Begun,
    answer_headers: &HeaderMap,
    done: &Done<'_, T>,
) {
    let code = done.result.err().map(super::Rejection::code);
    let trace_id = begun.span.as_ref().map(|span| span.trace_id().to_string());
    if let Some(mut span) = begun.span {
        let text = |name| headers::text(answer_headers, name);
        span.say("rpc.service", service);
        span.say("rpc.method", call);
        span.say("request_id", begun.id.to_string());
        span.say("meridian.node", done.here.as_str().to_owned());
        span.say("meridian.served_by", text(headers::SERVED_BY));
        span.say("openfga.store_id", text(headers::STORE_ID));
        span.say("datastore_query_count", i64::from(done.statements));
        if let Some(code) = code {
            span.failed(code);
        }
    }
    if is_on() {
        let caller = begun.caller.as_deref();
        let text = |name| headers::text(answer_headers, name);
        tracing::debug!(
            target: TARGET,
            grpc_service = service,
            grpc_method = call,
            request_id = %begun.id,
            trace_id,
            caller.subject = caller.and_then(|caller| caller.subject.as_deref()),
            caller.client_id = caller.and_then(|caller| caller.client_id.as_deref()),
            store_id = text(headers::STORE_ID),
            authorization_model_id = text(headers::MODEL_ID),
            code = code.unwrap_or("OK"),
            query_duration_ms = done.took.as_secs_f64() * 1000.0,
            datastore_query_count = done.statements,
            served_by = text(headers::SERVED_BY),
            "grpc_req_complete"
        );
    }
}
