//! Streamed calls on HTTP, whose answers and errors have a form of their own.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{StatusCode, header};
use serde::Serialize;

use super::{Ids, JSON, decode};
use crate::api::streamed::{Findings, StreamedCall};
use crate::api::{Api, Outcome, Rejection};

/// A streamed call: a JSON object a line. An error that comes behind the first finding is the last line.
pub(super) async fn streamed<S: StreamedCall>(
    State(api): State<Arc<Api>>,
    ids: Ids,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let mut message: S::Request = match decode(body, api.limits()).await {
        Ok(message) => message,
        Err(response) => return response,
    };
    S::place(&mut message, ids.store);
    let about = (&parts.headers, &parts.extensions);
    let Outcome { result, headers } = api.stream::<S>(about, message).await;
    let mut response = match result {
        Ok(findings) => {
            let next = async |mut findings: Findings<S::Found>| {
                let line = match findings.next().await? {
                    Ok(found) => line(&Streamed::Result(S::show(found))),
                    Err(rejection) => stream_error(&rejection).1,
                };
                Some((Ok::<_, std::convert::Infallible>(line), findings))
            };
            let lines = futures::stream::unfold(findings, next);
            let mut response = Response::new(Body::from_stream(lines));
            response.headers_mut().insert(header::CONTENT_TYPE, JSON);
            response
        }
        Err(rejection) => stream_refused(&rejection),
    };
    response.headers_mut().extend(headers);
    response
}

/// The answer of a stream that does not begin.
pub(super) fn stream_refused(rejection: &Rejection) -> Response {
    let (status, line) = stream_error(rejection);
    let mut response = Response::new(Body::from(line));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// An error of a stream: as upstream's gateway, with gRPC's own code instead of OpenFGA's.
fn stream_error(rejection: &Rejection) -> (StatusCode, Vec<u8>) {
    let status = match rejection {
        Rejection::Fields(_) => 400,
        Rejection::Refused(refusal) => refusal.error.code.http_status(),
    };
    let code = match status {
        400 => tonic::Code::InvalidArgument,
        401 => tonic::Code::Unauthenticated,
        404 => tonic::Code::NotFound,
        409 => tonic::Code::Aborted,
        429 => tonic::Code::ResourceExhausted,
        503 => tonic::Code::Unavailable,
        _ => tonic::Code::Internal,
    };
    let line = line(&Streamed::Error::<()> {
        code: code as i32,
        message: rejection.message(),
        details: [],
    });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, line)
}

/// A line of a streamed answer.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Streamed<'a, T> {
    Result(T),
    Error {
        code: i32,
        message: &'a str,
        details: [(); 0],
    },
}

fn line(streamed: &Streamed<'_, impl Serialize>) -> Vec<u8> {
    // These types serialize without fail.
    let mut line = serde_json::to_vec(streamed).unwrap_or_default();
    line.push(b'\n');
    line
}
