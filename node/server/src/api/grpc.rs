//! gRPC: `openfga.v1.OpenFGAService` and AuthZEN with OpenFGA's raw error numbers, health and reflection.
//!
//! The service is taken from the path by hand and not from tonic's router: its layers box every request, and a Check
//! answered from memory would spend more on them than on its answer. What is rare goes the ordinary way.
//!
//! OpenFGA's numbers stand in `grpc-status` as they are (2000 and up), which tonic's [`Code`] cannot hold. A refusal
//! therefore travels as the source of its [`Status`], and [`refusal`] puts the number into the finished answer.

mod refusal;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use ::http::{HeaderValue, Request, Response};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_prost::ProstCodec;
use tonic_reflection::server::Builder;
use tower::ServiceExt;

use crate::api::operations::{self, AuthZenVisitor, Check, Operation, Served, Visitor};
use crate::api::streamed::{StreamedBatchCheck, StreamedCall, StreamedListObjects};
use crate::api::timely::{Timely, late};
use crate::api::{Api, NotAdmitted, Outcome};
use crate::calls::Refusal;
use refusal::{is_unimplemented, not_served, raw, raw_number, status, told};

/// The service's full name.
pub const SERVICE: &str = "openfga.v1.OpenFGAService";
/// The service's method that no server has, as upstream.
const NOT_SERVED: &str = "UpdateStore";
const PATH: &str = "/openfga.v1.OpenFGAService/";
/// The full name of AuthZEN's.
pub(super) const AUTHZEN_SERVICE: &str = "authzen.v1.AuthZenService";
const AUTHZEN_PATH: &str = "/authzen.v1.AuthZenService/";
/// Whoever asks this shows nothing, as upstream.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// The services that others see to.
const OTHERS: &[&str] = &[
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "meridian.v1.AdminService",
    "meridian.v1.FlowService",
    CHECK_SERVICE,
];
/// The full name of what is served beyond OpenFGA's.
pub(super) const CHECK_SERVICE: &str = "meridian.v1.CheckService";
const STREAMED_BATCH_CHECK: &str = "/meridian.v1.CheckService/StreamedBatchCheck";

/// The gRPC side of a node's API.
pub struct Grpc {
    api: Arc<Api>,
    others: Routes,
}

/// Says to health checks, gRPC and HTTP alike, whether the node is ready. It is not until told so.
#[derive(Debug, Clone)]
pub struct Readiness {
    reporter: HealthReporter,
    ready: tokio::sync::watch::Sender<bool>,
    is_draining: Arc<tokio::sync::Mutex<bool>>,
}

impl Readiness {
    /// Changes what health checks are told; of a node that drains they are told no more than that.
    pub async fn set(&self, ready: bool) {
        let is_draining = self.is_draining.lock().await;
        if !*is_draining {
            self.tell(ready).await;
        }
    }

    /// Tells health checks that the node is not ready, and will not be again.
    pub async fn drain(&self) {
        let mut is_draining = self.is_draining.lock().await;
        *is_draining = true;
        self.tell(false).await;
    }

    async fn tell(&self, ready: bool) {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.ready.send_replace(ready);
        self.reporter.set_service_status("", status).await;
        self.reporter.set_service_status(SERVICE, status).await;
    }

    /// Waits until the node is ready.
    pub async fn wait(&self) {
        // The sender is `self.ready`, so the wait cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Whether the node is ready.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }
}

/// Why the gRPC side could not be put together.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve reflection: the built-in descriptors are unreadable")]
pub struct UnreadableDescriptors(#[from] tonic_reflection::server::Error);

/// Starts the list of services that a node's port has beside OpenFGA's: health and reflection. Others may be added.
///
/// # Errors
/// [`UnreadableDescriptors`] when the program was built with broken descriptors.
pub async fn common_services() -> Result<(RoutesBuilder, Readiness), UnreadableDescriptors> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let readiness = Readiness {
        reporter,
        ready: tokio::sync::watch::Sender::new(false),
        is_draining: Arc::default(),
    };
    readiness.set(false).await;
    let reflection = || {
        use tonic_reflection::pb;
        let served = [
            meridian_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            pb::v1::FILE_DESCRIPTOR_SET,
            pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        served
            .into_iter()
            .fold(
                Builder::configure(),
                Builder::register_encoded_file_descriptor_set,
            )
            .include_reflection_service(false)
    };
    let mut services = Routes::builder();
    services
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok((services, readiness))
}

impl Grpc {
    /// Serves `api` and, on the same port, `others`.
    pub fn new(api: Arc<Api>, others: RoutesBuilder) -> Self {
        Self {
            api,
            others: others.routes().prepare(),
        }
    }

    /// Whether requests are to say where they come from.
    pub(super) fn is_recorded(&self) -> bool {
        self.api.is_recorded()
    }

    /// Answers one request.
    pub async fn handle<B>(&self, mut request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        if !request.uri().path().starts_with(HEALTH)
            && let Err(NotAdmitted { error, request_id }) = self.api.admit(&mut request).await
        {
            let mut response = status(Refusal::from(error).into(), MetadataMap::new()).into_http();
            self.api.sign_as(request_id, response.headers_mut());
            return told(&self.api, response);
        }
        let path = request.uri().path();
        if let Some(name) = path.strip_prefix(PATH) {
            return match name {
                "Check" => unary::<Check, B>(&self.api, request).await,
                "StreamedListObjects" => {
                    Box::pin(streamed::<StreamedListObjects, B>(&self.api, request)).await
                }
                name => {
                    let name = name.to_owned();
                    let api = &*self.api;
                    let found = operations::find(&name, Unary { api, request });
                    self.found((SERVICE, &name), found).await
                }
            };
        }
        if path == STREAMED_BATCH_CHECK {
            return Box::pin(streamed::<StreamedBatchCheck, B>(&self.api, request)).await;
        }
        if let Some(name) = path.strip_prefix(AUTHZEN_PATH) {
            let name = name.to_owned();
            let api = &*self.api;
            let found = operations::find_authzen(&name, Unary { api, request });
            return self.found((AUTHZEN_SERVICE, &name), found).await;
        }
        let path = path.to_owned();
        let answer = self.others.clone().oneshot(request).await;
        let mut response = answer.unwrap_or_else(|never| match never {});
        if is_unimplemented(&response) {
            response = not_served(&path, OTHERS).into_http();
        }
        if path.starts_with(HEALTH) {
            self.api.sign(response.headers_mut());
        }
        response
    }

    /// Answers with what was found under a name.
    async fn found(
        &self,
        (service, name): (&str, &str),
        found: Option<Answering<'_>>,
    ) -> Response<Body> {
        match found {
            Some(answer) => answer.await,
            None => {
                let status = Status::unimplemented(match name {
                    NOT_SERVED => format!("method {name} not implemented"),
                    _ => format!("unknown method {name} for service {service}"),
                });
                told(&self.api, status.into_http())
            }
        }
    }
}

/// An answer on its way.
type Answering<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

struct Unary<'a, B> {
    api: &'a Api,
    request: Request<B>,
}

impl<'a, B> Visitor for Unary<'a, B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Output = Answering<'a>;

    fn visit<O: Operation>(self) -> Answering<'a> {
        Box::pin(unary::<O, B>(self.api, self.request))
    }
}

impl<'a, B> AuthZenVisitor for Unary<'a, B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Output = Answering<'a>;

    fn visit<O: Served>(self) -> Answering<'a> {
        Box::pin(unary::<O, B>(self.api, self.request))
    }
}

async fn unary<O: Served, B>(api: &Api, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let call = tower::service_fn(async |request: tonic::Request<O::Request>| {
        let (metadata, extensions, message) = request.into_parts();
        let called = api.call::<O>(metadata.as_ref(), &extensions, message);
        let Outcome { result, headers } = called.await;
        let metadata = MetadataMap::from_headers(headers);
        match result {
            Ok(body) => Ok(tonic::Response::from_parts(
                metadata,
                body,
                Default::default(),
            )),
            Err(rejection) => Err(status(rejection, metadata)),
        }
    });
    let codec = ProstCodec::<O::Response, O::Request>::default();
    let mut grpc = tonic::server::Grpc::new(codec)
        .max_decoding_message_size(api.limits().request_bytes)
        .accept_compressed(CompressionEncoding::Gzip);
    // As OpenFGA: who asks in gzip is answered in it.
    if request
        .headers()
        .get("grpc-encoding")
        .is_some_and(|encoding| encoding == "gzip")
    {
        grpc = grpc.send_compressed(CompressionEncoding::Gzip);
    }
    let limit = api.limits().body_timeout;
    let request = request.map(|body| Timely::new(body, limit, |limit| Box::new(raw(late(limit)))));
    let response = grpc.unary(call, request).await;
    told(api, response)
}

/// A streamed call. An error that comes behind the first finding stands in the trailers.
async fn streamed<S: StreamedCall, B>(api: &Api, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let late_number = Arc::new(OnceLock::new());
    let call = tower::service_fn(async |request: tonic::Request<S::Request>| {
        let (metadata, extensions, message) = request.into_parts();
        let about = (metadata.as_ref(), &extensions);
        let Outcome { result, headers } = api.stream::<S>(about, message).await;
        let metadata = MetadataMap::from_headers(headers);
        let findings = result.map_err(|rejection| status(rejection, metadata.clone()))?;
        let late_number = Arc::clone(&late_number);
        let answers = futures::stream::unfold(findings, move |mut findings| {
            let late_number = Arc::clone(&late_number);
            async move {
                let answer = match findings.next().await? {
                    Ok(found) => Ok(S::message(found)),
                    Err(rejection) => {
                        let status = status(rejection, MetadataMap::new());
                        raw_number(&status).map(|number| late_number.set(number));
                        Err(status)
                    }
                };
                Some((answer, findings))
            }
        });
        Ok(tonic::Response::from_parts(
            metadata,
            answers,
            Default::default(),
        ))
    });
    let codec = ProstCodec::<S::Response, S::Request>::default();
    let mut grpc = tonic::server::Grpc::new(codec)
        .max_decoding_message_size(api.limits().request_bytes)
        .accept_compressed(CompressionEncoding::Gzip);
    let limit = api.limits().body_timeout;
    let request = request.map(|body| Timely::new(body, limit, |limit| Box::new(raw(late(limit)))));
    let response = told(api, grpc.server_streaming(call, request).await);
    response.map(|body| {
        let number = move |frame: Frame<Bytes>| match frame.into_trailers() {
            Ok(mut trailers) => {
                if let Some(number) = late_number.get() {
                    trailers.insert(Status::GRPC_STATUS, HeaderValue::from(*number));
                }
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        };
        Body::new(body.map_frame(number))
    })
}
