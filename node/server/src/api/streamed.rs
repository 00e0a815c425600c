//! Calls whose findings go out as they are found.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Extensions, HeaderMap};
use meridian_model::{ApiError, Code};
use meridian_proto::meridian::v1 as meridian;
use meridian_proto::openfga::v1;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::meters::{Done, Meters, STREAMED_BATCH_CHECK, STREAMED_LIST_OBJECTS, Streamed, Traits};
use super::{Api, Outcome, Rejection, headers, log};
use crate::api::fields::Fields;
use crate::calls::{Answer, Calls, Context, Refusal, Reply, Resolved, ServedBy};
use crate::limits::Limits;
use crate::recording::{Came, Decided, Deciding, Finding};
use crate::routing::batch::BatchResult;
use crate::telemetry::request::{self, Begun, Current, stage};

/// Objects of a listing that wait for a slow client; then the listing waits.
const AHEAD: usize = 256;

/// A streamed call on its way.
type Running<'a> = Pin<Box<dyn Future<Output = Answer<()>> + Send + 'a>>;

/// A call whose findings are streamed.
pub trait StreamedCall: 'static {
    /// How it is measured and logged.
    const STREAMED: Streamed;
    /// Its request message.
    type Request: Fields + prost::Message + Default + DeserializeOwned + Send + 'static;
    /// What is found.
    type Found: Finding;
    /// A finding as gRPC's message.
    type Response: prost::Message + Default + 'static;
    /// A finding as HTTP shows it.
    type Shown: Serialize;

    /// The limits that a request is held to.
    fn limits(limits: &Limits) -> Limits {
        *limits
    }

    /// How many findings wait for a slow client.
    fn ahead(request: &Self::Request) -> usize;

    /// Puts in the store that an HTTP request names in its path.
    fn place(request: &mut Self::Request, store: String);

    /// Runs it.
    fn run<'a>(
        calls: &'a dyn Calls,
        cx: &'a Context,
        request: Self::Request,
        found: mpsc::Sender<Self::Found>,
    ) -> Running<'a>;

    /// For gRPC.
    fn message(found: Self::Found) -> Self::Response;

    /// For HTTP.
    fn show(found: Self::Found) -> Self::Shown;
}

/// OpenFGA's StreamedListObjects.
pub struct StreamedListObjects;

impl StreamedCall for StreamedListObjects {
    const STREAMED: Streamed = STREAMED_LIST_OBJECTS;
    type Request = v1::StreamedListObjectsRequest;
    type Found = String;
    type Response = v1::StreamedListObjectsResponse;
    type Shown = v1::StreamedListObjectsResponse;

    fn ahead(_: &Self::Request) -> usize {
        AHEAD
    }

    fn place(request: &mut Self::Request, store: String) {
        request.store_id = store;
    }

    fn run<'a>(
        calls: &'a dyn Calls,
        cx: &'a Context,
        request: Self::Request,
        found: mpsc::Sender<String>,
    ) -> Running<'a> {
        calls.streamed_list_objects(cx, request, found)
    }

    fn message(object: String) -> Self::Response {
        v1::StreamedListObjectsResponse { object }
    }

    fn show(object: String) -> Self::Shown {
        Self::message(object)
    }
}

/// `meridian.v1.CheckService/StreamedBatchCheck`.
pub struct StreamedBatchCheck;

/// A check's result, as HTTP shows it.
#[derive(Serialize)]
pub struct ShownResult {
    correlation_id: String,
    result: v1::BatchCheckSingleResult,
}

impl StreamedCall for StreamedBatchCheck {
    const STREAMED: Streamed = STREAMED_BATCH_CHECK;
    type Request = v1::BatchCheckRequest;
    type Found = BatchResult;
    type Response = meridian::StreamedBatchCheckResponse;
    type Shown = ShownResult;

    fn limits(limits: &Limits) -> Limits {
        Limits {
            checks_per_batch: limits.checks_per_streamed_batch,
            ..*limits
        }
    }

    fn ahead(request: &Self::Request) -> usize {
        request.checks.len().max(1)
    }

    fn place(request: &mut Self::Request, store: String) {
        request.store_id = store;
    }

    fn run<'a>(
        calls: &'a dyn Calls,
        cx: &'a Context,
        request: Self::Request,
        found: mpsc::Sender<BatchResult>,
    ) -> Running<'a> {
        calls.streamed_batch_check(cx, request, found)
    }

    fn message((correlation_id, result): BatchResult) -> Self::Response {
        meridian::StreamedBatchCheckResponse {
            correlation_id,
            result: Some(result),
        }
    }

    fn show((correlation_id, result): BatchResult) -> ShownResult {
        ShownResult {
            correlation_id,
            result,
        }
    }
}

/// The findings of a call under way. Dropped, it ends the call.
pub struct Findings<T> {
    first: Option<T>,
    /// Whether there may be some though nothing was found.
    is_cut_short: bool,
    found: mpsc::Receiver<T>,
    call: Option<AbortOnDropHandle<Over>>,
    recorded: Option<Deciding>,
}

impl<T: Finding> Findings<T> {
    /// The next finding; an error is the last there is.
    pub async fn next(&mut self) -> Option<Result<T, Rejection>> {
        let found = match self.first.take() {
            Some(first) => Some(first),
            None => self.found.recv().await,
        };
        if let Some(found) = found {
            let recorded = self.recorded.iter_mut();
            recorded.for_each(|deciding| deciding.found(&found));
            return Some(Ok(found));
        }
        let over = Over::of(self.call.take()?.await);
        over.record(self.recorded.take());
        over.result.err().map(Err)
    }
}

/// What a call came to.
struct Over {
    result: Result<Reply<()>, Rejection>,
    took: Duration,
    model: String,
}

impl Over {
    /// A call that broke down has not found all there is.
    fn of(call: Result<Self, JoinError>) -> Self {
        call.unwrap_or_else(|_| {
            let error = ApiError::new(Code::Internal, "Internal Server Error");
            Self {
                result: Err(Rejection::Refused(error.into())),
                took: Duration::ZERO,
                model: String::new(),
            }
        })
    }

    /// Has it recorded, once all that was found is told.
    fn record(&self, recorded: Option<Deciding>) {
        let Some(deciding) = recorded else { return };
        let decided = match &self.result {
            Ok(reply) => Decided {
                came: Came::Answered(&()),
                took: self.took,
                position: reply.position,
                model: self.model.clone(),
                served_by: Some(&reply.served_by),
            },
            Err(rejection) => Decided {
                model: self.model.clone(),
                ..Decided::refused(rejection, self.took)
            },
        };
        deciding.over(&decided);
    }
}

/// What is measured and logged when a call ends; of one that its client gives up, nothing.
struct End {
    streamed: Streamed,
    meters: Arc<Meters>,
    here: ServedBy,
    traits: Traits,
    headers: HeaderMap,
    current: Current,
    begun: Begun,
    started: Instant,
}

impl End {
    /// Notes it, and how long it took.
    fn note(self, served_by: Option<&ServedBy>, result: Result<&(), &Rejection>) -> Duration {
        let took = self.started.elapsed();
        let done = Done {
            took,
            statements: self.current.statements(),
            result,
            served_by,
            here: &self.here,
        };
        let Streamed {
            index,
            service,
            name,
        } = self.streamed;
        self.meters.done(index, self.traits, &done);
        log::done((service, name), self.begun, &self.headers, &done);
        took
    }
}

/// Names the model, as far as it is known.
fn add_model(headers: &mut HeaderMap, resolved: &Resolved) {
    if let Some(model) = resolved.get() {
        headers::add_model(headers, model.as_str());
    }
}

impl Api {
    /// Begins a streamed call. What is refused at once, without any finding, is refused here.
    pub async fn stream<S: StreamedCall>(
        &self,
        (request_headers, extensions): (&HeaderMap, &Extensions),
        request: S::Request,
    ) -> Outcome<Findings<S::Found>> {
        let started = Instant::now();
        self.meters.started(S::STREAMED.index);
        let mut begun = request::begin(request_headers, extensions, S::STREAMED.name);
        let store = self.recorded_store(&request);
        let deciding = self.recording.begin(
            (S::STREAMED.name, request.store_id(), &request),
            (request_headers, extensions),
            started,
            &self.name,
        );
        begun.stages = deciding
            .as_ref()
            .map(|deciding| Arc::clone(&deciding.stages));
        let mut answer_headers = headers::for_request(begun.id, &request);
        headers::add_origin(&mut answer_headers, None, &self.name);
        let end = End {
            streamed: S::STREAMED,
            meters: Arc::clone(&self.meters),
            here: self.name.clone(),
            traits: Traits::of(&request),
            headers: answer_headers.clone(),
            current: begun.current(),
            begun,
            started,
        };
        let limits = S::limits(&self.limits);
        let current = end.current.clone();
        let checked = || {
            let _stage = stage("validate");
            let cx = self.context((request_headers, extensions), started)?;
            request.check_fields(&limits)?;
            request.check_whole(&limits).map_err(Refusal::from)?;
            Ok(cx)
        };
        let result = match current.work(checked) {
            Ok(cx) => {
                let model = cx.model.clone();
                let begun = self.begin::<S>(cx, request, end, deciding).await;
                add_model(&mut answer_headers, &model);
                if let Some(store) = store {
                    let has_model = headers::has_model(&answer_headers);
                    let code = begun.as_ref().err().map(Rejection::code);
                    self.recording.told_of(store, has_model, code);
                }
                if begun.as_ref().is_ok_and(|findings| findings.is_cut_short) {
                    headers::add_truncated(&mut answer_headers);
                }
                begun
            }
            Err(rejection) => {
                let took = end.note(None, Err(&rejection));
                if let Some(deciding) = deciding {
                    deciding.over(&Decided::refused(&rejection, took));
                }
                Err(rejection)
            }
        };
        if let Some(store) = store {
            let recording = &self.recording;
            recording.authenticated(store, request_headers, extensions);
        }
        Outcome {
            result,
            headers: answer_headers,
        }
    }

    async fn begin<S: StreamedCall>(
        &self,
        cx: Context,
        request: S::Request,
        mut end: End,
        recorded: Option<Deciding>,
    ) -> Result<Findings<S::Found>, Rejection> {
        let (sender, mut found) = mpsc::channel(S::ahead(&request));
        let calls = Arc::clone(&self.calls);
        let call = tokio::spawn(async move {
            let running = async {
                let answer = S::run(&*calls, &cx, request, sender).await;
                if answer.as_ref().is_ok_and(|reply| reply.truncated) {
                    tracing::info!(
                        "a streamed listing was cut short by its deadline or the work it may take"
                    );
                }
                answer
            };
            let answer = end.current.clone().run(running).await;
            let known = match &answer {
                Ok(reply) => reply.model,
                Err(refusal) => refusal.model.as_deref().copied(),
            };
            known.into_iter().for_each(|model| cx.model.note(model));
            add_model(&mut end.headers, &cx.model);
            let model = headers::text(&end.headers, headers::MODEL_ID);
            let answer = answer.map_err(Rejection::Refused);
            let took = match &answer {
                Ok(reply) => end.note(Some(&reply.served_by), Ok(&())),
                Err(rejection) => end.note(rejection.served_by(), Err(rejection)),
            };
            Over {
                result: answer,
                took,
                model,
            }
        });
        let mut call = AbortOnDropHandle::new(call);
        let Some(first) = found.recv().await else {
            // Nothing was found: the end says whether that is the answer.
            let over = Over::of((&mut call).await);
            over.record(recorded);
            let reply = over.result?;
            return Ok(Findings {
                first: None,
                is_cut_short: reply.truncated,
                found,
                call: None,
                recorded: None,
            });
        };
        Ok(Findings {
            first: Some(first),
            is_cut_short: false,
            found,
            call: Some(call),
            recorded,
        })
    }
}
