//! The OpenFGA API on gRPC and HTTP: two skins over one [`Calls`] object.
//!
//! A request's way is the same on both: read the context from its headers, check its fields, ask [`Calls`], say in
//! headers where the answer comes from. All of that is [`Api::call`]; the skins only decode and encode.

pub mod authzen;
pub mod convert;
pub mod cors;
pub mod fields;
pub mod grpc;
mod headers;
pub mod http;
mod meters;
pub mod operations;
pub mod serve;
pub mod streamed;
mod timely;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ::http::{Extensions, HeaderMap, Request};
use meridian_model::{ApiError, Code};

use crate::authn::Authenticator;
use crate::calls::{Answer, Calls, Context, Refusal, ServedBy};
use crate::limits::Limits;
use authzen::AuthZen;
use fields::{Fields, InvalidFields};
pub(crate) use headers::timeout;
use meters::Meters;
use operations::{Asked, Served};

/// The API of one node, shared by its transports.
pub struct Api {
    calls: Arc<dyn Calls>,
    name: ServedBy,
    limits: Limits,
    authzen: AuthZen,
    authenticator: Arc<Authenticator>,
    meters: Meters,
    next_request_id: AtomicU64,
}

/// A request's result as both transports show it.
pub struct Outcome<T> {
    /// The response message, or why there is none.
    pub result: Result<T, Rejection>,
    /// What stands in the answer's headers, errors included.
    pub headers: HeaderMap,
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// It broke a rule of its message's fields.
    #[error(transparent)]
    Fields(#[from] InvalidFields),
    /// The call refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Rejection {
    /// The code's name in the JSON body and in metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fields(fields) => fields.code,
            Self::Refused(refusal) => refusal.error.code.name(),
        }
    }

    /// The message for the client.
    pub fn message(&self) -> &str {
        match self {
            Self::Fields(fields) => &fields.message,
            Self::Refused(refusal) => &refusal.error.message,
        }
    }
}

impl Api {
    /// The API of the node `name`, answered by `calls`.
    pub fn new(calls: Arc<dyn Calls>, name: ServedBy, limits: Limits) -> Self {
        // Ids of different starts and nodes differ; they need not be secret.
        let first = RandomState::new().hash_one(name.as_str());
        Self {
            calls,
            name,
            limits,
            authzen: AuthZen::default(),
            authenticator: Arc::new(Authenticator::None),
            meters: Meters::new(),
            next_request_id: AtomicU64::new(first),
        }
    }

    /// The same, with AuthZEN served as `authzen` says.
    pub fn with_authzen(self, authzen: AuthZen) -> Self {
        Self { authzen, ..self }
    }

    /// The same, for callers that show who they are.
    #[must_use]
    pub fn for_callers(self, authenticator: Arc<Authenticator>) -> Self {
        Self {
            authenticator,
            ..self
        }
    }

    /// Finds out who sends a request, and notes it among its extensions.
    ///
    /// # Errors
    /// As [`Authenticator::authenticate`], or that it took longer than a request may.
    async fn admit<B>(&self, request: &mut Request<B>) -> Result<(), ApiError> {
        if self.authenticator.is_on() {
            let caller = self.authenticator.authenticate(request.headers());
            let caller = tokio::time::timeout(self.limits.request_timeout, caller)
                .await
                .unwrap_or_else(|_| Err(deadline_exceeded()))
                .inspect_err(|error| self.meters.refused(error.code.name()))?;
            request.extensions_mut().insert(Arc::new(caller));
        }
        Ok(())
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Completes the headers of an answer to a request that never became a call.
    fn sign(&self, headers: &mut HeaderMap) {
        if !headers::has_origin(headers) {
            headers::add_request_id(headers, self.request_id());
            headers::add_origin(headers, None, &self.name);
        }
    }

    fn request_id(&self) -> u64 {
        self.next_request_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Runs one call. `headers` are the request's headers or gRPC metadata; `extensions` are of the same request.
    pub async fn call<O: Served>(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        request: O::Request,
    ) -> Outcome<O::Response> {
        let started = Instant::now();
        let request_id = self.request_id();
        let mut answer_headers = headers::for_request(request_id, &request);
        let answer = self
            .answer::<O>((headers, extensions), request, started, request_id)
            .await;
        let result = match answer {
            Ok(Ok(reply)) => {
                headers::add_origin(&mut answer_headers, reply.position, &reply.served_by);
                if reply.truncated {
                    tracing::info!(
                        call = O::NAME,
                        request_id = format_args!("{request_id:016x}"),
                        "a listing was cut short by its limit, its deadline or the work it may take"
                    );
                    headers::add_truncated(&mut answer_headers);
                }
                if let Some(model) = reply.model {
                    headers::add_model(&mut answer_headers, model.as_str());
                }
                Ok(reply.body)
            }
            Ok(Err(refusal)) => {
                headers::add_origin(
                    &mut answer_headers,
                    refusal.position,
                    refusal.served_by.as_ref().unwrap_or(&self.name),
                );
                Err(Rejection::Refused(refusal))
            }
            Err(fields) => {
                headers::add_origin(&mut answer_headers, None, &self.name);
                Err(Rejection::Fields(fields))
            }
        };
        self.meters.record::<O>(
            started.elapsed(),
            result.as_ref().err().map(Rejection::code),
        );
        Outcome {
            result,
            headers: answer_headers,
        }
    }

    fn context(
        &self,
        (headers, extensions): (&HeaderMap, &Extensions),
        started: Instant,
        request_id: u64,
    ) -> Result<Context, InvalidFields> {
        let limit = self.limits.request_timeout;
        Ok(Context {
            deadline: started + timeout(headers).map_or(limit, |asked| asked.min(limit)),
            min_position: headers::min_position(headers)?,
            request_id,
            caller: extensions.get().cloned(),
        })
    }

    async fn answer<O: Served>(
        &self,
        about: (&HeaderMap, &Extensions),
        request: O::Request,
        started: Instant,
        request_id: u64,
    ) -> Result<Answer<O::Response>, InvalidFields> {
        let cx = self.context(about, started, request_id)?;
        request.check_fields(&self.limits)?;
        let asked = Asked {
            calls: &*self.calls,
            cx: &cx,
            headers: about.0,
            limits: &self.limits,
            authzen: &self.authzen,
            name: &self.name,
        };
        if let Some(answer) = O::now(asked, &request) {
            return Ok(answer);
        }
        let run = O::answer(asked, request);
        Ok(tokio::time::timeout_at(cx.deadline.into(), run)
            .await
            .unwrap_or_else(|_| Err(deadline_exceeded().into())))
    }
}

/// The error of a request whose time was up.
pub(crate) fn deadline_exceeded() -> ApiError {
    ApiError::new(Code::DeadlineExceeded, "Request Deadline Exceeded")
}
