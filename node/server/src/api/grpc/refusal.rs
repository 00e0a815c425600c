//! Errors as they stand on the wire.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use meridian_model::{ApiError, Code as ApiCode};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::api::{Api, Rejection};

/// An answer as it goes out: one that is an error says at first what is told of every answer and then, in the trailers, the
/// error with OpenFGA's number. tonic says both at once, which clients take for the error's own.
pub(super) fn told(api: &Api, mut response: Response<Body>) -> Response<Body> {
    let Some(number) = response.extensions().get::<Status>().map(raw_number) else {
        return response;
    };
    // A request that could not be decoded, or of nobody, never became a call.
    api.sign(response.headers_mut());
    let mut trailers = HeaderMap::with_capacity(3);
    for name in [
        Status::GRPC_STATUS,
        Status::GRPC_MESSAGE,
        Status::GRPC_STATUS_DETAILS,
    ] {
        if let Some(value) = response.headers_mut().remove(&name) {
            trailers.insert(name, value);
        }
    }
    if let Some(number) = number {
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from(number));
    }
    let behind = Ok::<Frame<Bytes>, Infallible>(Frame::trailers(trailers));
    let behind = futures::stream::once(std::future::ready(behind));
    response.map(|_| Body::new(StreamBody::new(behind)))
}

/// Whether it is tonic's answer where there is no such service or method, which does not say so.
pub(super) fn is_unimplemented(response: &Response<Body>) -> bool {
    let headers = response.headers();
    let status = headers.get(Status::GRPC_STATUS);
    status.is_some_and(|status| status == "12") && !headers.contains_key(Status::GRPC_MESSAGE)
}

/// The same, in the words that Go's gRPC has for it.
pub(super) fn not_served(path: &str, services: &[&str]) -> Status {
    let name = path.strip_prefix('/').unwrap_or(path);
    Status::unimplemented(match name.rsplit_once('/') {
        None => format!("malformed method name: {path:?}"),
        Some((service, method)) if services.contains(&service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    })
}

/// Codes that upstream sends as gRPC's own, which clients know to retry (or not), go out as these; others as raw numbers.
pub(super) fn status(rejection: Rejection, metadata: MetadataMap) -> Status {
    let Rejection::Refused(refusal) = rejection else {
        return Status::with_metadata(Code::InvalidArgument, rejection.message(), metadata);
    };
    let code = code_of(refusal.error.code);
    let mut status = Status::with_metadata(code, &refusal.error.message, metadata);
    if code == Code::Unknown {
        status.set_source(Arc::new(refusal.error));
    }
    status
}

fn code_of(code: ApiCode) -> Code {
    match code {
        ApiCode::Aborted => Code::Aborted,
        ApiCode::ResourceExhausted => Code::ResourceExhausted,
        ApiCode::Unavailable => Code::Unavailable,
        ApiCode::Unimplemented => Code::Unimplemented,
        ApiCode::FailedPrecondition => Code::FailedPrecondition,
        ApiCode::InvalidArgument => Code::InvalidArgument,
        _ => Code::Unknown,
    }
}

impl Rejection {
    /// The code in `grpc-status` by the name that Go's gRPC, and with it OpenFGA's metrics, has for it.
    pub(in crate::api) fn grpc_code(&self) -> String {
        match self {
            Self::Fields(_) => format!("{:?}", Code::InvalidArgument),
            Self::Refused(refusal) => match code_of(refusal.error.code) {
                Code::Unknown => format!("Code({})", refusal.error.code.number()),
                code => format!("{code:?}"),
            },
        }
    }
}

/// An error that goes out as OpenFGA's number.
pub(super) fn raw(error: ApiError) -> Status {
    let mut status = Status::new(Code::Unknown, &error.message);
    status.set_source(Arc::new(error));
    status
}

/// The number that belongs into `grpc-status` instead of the status's own code.
pub(super) fn raw_number(status: &Status) -> Option<u16> {
    if let Some(error) =
        std::error::Error::source(status).and_then(|source| source.downcast_ref::<ApiError>())
    {
        return Some(error.code.number());
    }
    // tonic's decoder says "out of range" of a message that is too large; gRPC's other implementations, and OpenFGA's
    // clients with them, expect RESOURCE_EXHAUSTED.
    (status.code() == Code::OutOfRange).then_some(Code::ResourceExhausted as u16)
}
