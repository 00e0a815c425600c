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
pub(crate) mod log;
mod meters;
pub mod operations;
pub mod serve;
pub mod streamed;
pub(crate) mod timely;

use std::sync::Arc;
use std::time::Instant;

use ::http::{Extensions, HeaderMap, Request};
use meridian_model::{ApiError, Code, Position, StoreId};

use crate::authn::{Authenticator, Unknown};
use crate::calls::{Answer, Calls, Context, Refusal, Resolved, ServedBy};
use crate::explanations::Why;
use crate::limits::Limits;
use crate::recording::{Came, Decided, Recording};
use crate::telemetry::request::{self, Authenticating, Begun, RequestId, stage};
use authzen::AuthZen;
use fields::{Fields, InvalidFields};
pub(crate) use headers::timeout;
pub(crate) use meters::CheckDurations;
use meters::{Done, Meters, Traits};
use operations::{Asked, Served, service};

/// The API of one node, shared by its transports.
pub struct Api {
    calls: Arc<dyn Calls>,
    name: ServedBy,
    limits: Limits,
    authzen: AuthZen,
    authenticator: Arc<Authenticator>,
    meters: Arc<Meters>,
    recording: Arc<Recording>,
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

/// A request that was not let in.
struct NotAdmitted {
    error: ApiError,
    request_id: RequestId,
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

    /// The node that refused; `None` for the one that was asked.
    pub(crate) fn served_by(&self) -> Option<&ServedBy> {
        match self {
            Self::Fields(_) => None,
            Self::Refused(refusal) => refusal.served_by.as_ref(),
        }
    }

    /// Where the store stood, where that is known.
    pub(crate) fn position(&self) -> Option<Position> {
        match self {
            Self::Fields(_) => None,
            Self::Refused(refusal) => refusal.position,
        }
    }
}

impl Api {
    /// The API of the node `name`, answered by `calls`.
    pub fn new(calls: Arc<dyn Calls>, name: ServedBy, limits: Limits) -> Self {
        Self {
            calls,
            name,
            limits,
            authzen: AuthZen::default(),
            authenticator: Arc::new(Authenticator::None),
            meters: Arc::new(Meters::new()),
            recording: Arc::new(Recording::off()),
        }
    }

    /// The same, recorded so.
    #[must_use]
    pub fn recorded(self, recording: Arc<Recording>) -> Self {
        Self { recording, ..self }
    }

    /// Whether the flow recorder is told of requests, and so wants to know where they come from.
    pub(crate) fn is_recorded(&self) -> bool {
        self.recording.is_on()
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
    async fn admit<B>(&self, request: &mut Request<B>) -> Result<(), NotAdmitted> {
        if self.authenticator.is_on() {
            let begun = Authenticating::begin();
            let caller = self.authenticator.authenticate(request.headers());
            let caller = tokio::time::timeout(self.limits.request_timeout, caller)
                .await
                .unwrap_or_else(|_| Err(deadline_exceeded().into()))
                .map_err(|unknown| self.not_admitted(request, unknown))?;
            let extensions = request.extensions_mut();
            extensions.insert(begun.end());
            extensions.insert(Arc::new(caller));
        }
        Ok(())
    }

    fn not_admitted<B>(
        &self,
        request: &Request<B>,
        Unknown { error, reason }: Unknown,
    ) -> NotAdmitted {
        let (code, path) = (error.code.name(), request.uri().path());
        self.meters.refused(code);
        if self.recording.is_on() {
            let why = if reason.is_empty() {
                error.message.as_str()
            } else {
                reason
            };
            let (headers, extensions) = (request.headers(), request.extensions());
            self.recording
                .not_admitted(path, headers, extensions, (code, why));
        }
        let request_id = RequestId::new();
        log::not_admitted(path, request_id, code, reason);
        NotAdmitted { error, request_id }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Completes the headers of an answer to a request that never became a call.
    fn sign(&self, headers: &mut HeaderMap) {
        if !headers::has_origin(headers) {
            self.sign_as(RequestId::new(), headers);
        }
    }

    /// The same, of a request that has its name already.
    fn sign_as(&self, request_id: RequestId, headers: &mut HeaderMap) {
        headers::add_request_id(headers, request_id);
        headers::add_origin(headers, None, &self.name);
    }

    /// Runs one call. `headers` are the request's headers or gRPC metadata; `extensions` are of the same request.
    pub async fn call<O: Served>(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        request: O::Request,
    ) -> Outcome<O::Response> {
        let started = Instant::now();
        self.meters.started(O::INDEX);
        let mut begun = request::begin(headers, extensions, O::NAME);
        let store = self.recorded_store(&request);
        let deciding = self.recording.begin(
            (O::NAME, request.store_id(), &request),
            (headers, extensions),
            started,
            &self.name,
        );
        begun.stages = deciding
            .as_ref()
            .map(|deciding| Arc::clone(&deciding.stages));
        let why = deciding.as_ref().map(|deciding| deciding.why.clone());
        let traits = Traits::of(&request);
        let request_id = begun.id;
        let mut answer_headers = headers::for_request(request_id, &request);
        let mut statements = 0;
        let answer = self
            .answer::<O>(
                (headers, extensions),
                request,
                why.unwrap_or_default(),
                started,
                &begun,
                &mut statements,
            )
            .await;
        let (mut served_by, mut position) = (None, None);
        let result = match answer {
            Ok(Ok(reply)) => {
                position = reply.position;
                headers::add_origin(&mut answer_headers, reply.position, &reply.served_by);
                headers::add_http_code(&mut answer_headers, O::NAME);
                if reply.truncated {
                    tracing::info!(
                        call = O::NAME,
                        %request_id,
                        "a listing was cut short by its limit, its deadline or the work it may take"
                    );
                    headers::add_truncated(&mut answer_headers);
                }
                if let Some(model) = reply.model {
                    headers::add_model(&mut answer_headers, model.as_str());
                }
                served_by = Some(reply.served_by);
                Ok(reply.body)
            }
            Ok(Err(refusal)) => {
                position = refusal.position;
                served_by.clone_from(&refusal.served_by);
                headers::add_origin(
                    &mut answer_headers,
                    refusal.position,
                    served_by.as_ref().unwrap_or(&self.name),
                );
                if let Some(model) = &refusal.model {
                    headers::add_model(&mut answer_headers, model.as_str());
                }
                Err(Rejection::Refused(refusal))
            }
            Err(fields) => {
                headers::add_origin(&mut answer_headers, None, &self.name);
                Err(Rejection::Fields(fields))
            }
        };
        let done = Done {
            took: started.elapsed(),
            statements,
            result: result.as_ref(),
            served_by: served_by.as_ref(),
            here: &self.name,
        };
        self.meters.done(O::INDEX, traits, &done);
        if let Some(store) = store {
            let code = result.as_ref().err().map(Rejection::code);
            let has_model = headers::has_model(&answer_headers);
            self.recording.told_of(store, has_model, code);
        }
        if let Some(deciding) = deciding {
            deciding.over(&Decided {
                came: match &result {
                    Ok(body) => Came::Answered(body),
                    Err(rejection) => Came::Refused(rejection),
                },
                took: done.took,
                position,
                model: headers::text(&answer_headers, headers::MODEL_ID),
                served_by: served_by.as_ref(),
            });
        }
        if let Some(store) = store {
            self.recording.authenticated(store, headers, extensions);
        }
        log::done((service(O::INDEX), O::NAME), begun, &answer_headers, &done);
        Outcome {
            result,
            headers: answer_headers,
        }
    }

    /// The store of a request whose caller is recorded, if it is well formed.
    fn recorded_store(&self, request: &impl Fields) -> Option<StoreId> {
        let is_on = self.recording.is_on();
        is_on.then(|| request.store_id().parse().ok()).flatten()
    }

    fn context(
        &self,
        (headers, extensions): (&HeaderMap, &Extensions),
        started: Instant,
    ) -> Result<Context, InvalidFields> {
        let limit = self.limits.request_timeout;
        Ok(Context {
            deadline: started + timeout(headers).map_or(limit, |asked| asked.min(limit)),
            min_position: headers::min_position(headers)?,
            caller: extensions.get().cloned(),
            model: Resolved::default(),
            why: Why::default(),
        })
    }

    /// A sampled request has its stages recorded; any other is answered at once if possible, with nothing around it.
    async fn answer<O: Served>(
        &self,
        about: (&HeaderMap, &Extensions),
        request: O::Request,
        why: Why,
        started: Instant,
        begun: &Begun,
        statements: &mut u32,
    ) -> Result<Answer<O::Response>, InvalidFields> {
        let sampled = begun.current_if_sampled();
        let validate = || {
            let _stage = stage("validate");
            let cx = self.context(about, started)?;
            request.check_fields(&self.limits)?;
            Ok::<_, InvalidFields>(Context { why, ..cx })
        };
        let cx = match &sampled {
            None => validate()?,
            Some(current) => current.work(validate)?,
        };
        if let Err(error) = request.check_whole(&self.limits) {
            return Ok(Err(error.into()));
        }
        let asked = Asked {
            calls: &*self.calls,
            cx: &cx,
            headers: about.0,
            limits: &self.limits,
            authzen: &self.authzen,
            name: &self.name,
        };
        let now = || O::now(asked, &request);
        let answer = match &sampled {
            None => now(),
            Some(current) => current.work(now),
        };
        if let Some(answer) = answer {
            return Ok(answer);
        }
        let current = sampled.unwrap_or_else(|| begun.current());
        let run = O::answer(asked, request);
        let run = tokio::time::timeout_at(cx.deadline.into(), run);
        let answer = current.clone().run(run).await;
        *statements = current.statements();
        let answer = answer.unwrap_or_else(|_| Err(deadline_exceeded().into()));
        Ok(answer.map_err(|refusal| refusal.under(&cx.model)))
    }
}

/// The error of a request whose time was up.
pub(crate) fn deadline_exceeded() -> ApiError {
    ApiError::new(Code::DeadlineExceeded, "Request Deadline Exceeded")
}
