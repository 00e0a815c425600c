//! The request a task works on: its name in all logs, the statements it took, and the span that its stages hang under.
//!
//! What a request is told by goes with the task and not through every call, since the nodes above and the database are
//! reached by code that knows of no request. A check that is answered at once and is not sampled does without all of it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use meridian_proto::meridian::v1 as wire;
use meridian_store::{Watcher, watched};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, TraceFlags,
    TraceId, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::Span;
use prost::Message as _;
use tracing::Instrument as _;
use uuid::Uuid;

use super::traces;
use crate::authn::Caller;

/// Names a request, towards clients and between nodes.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PARENT: HeaderName = HeaderName::from_static("traceparent");
/// Between nodes: who called, a [`wire::Caller`] in base64, as gRPC has bytes in headers.
const CALLER: HeaderName = HeaderName::from_static("meridian-caller-bin");
/// Longest name of a request that is taken from a node below.
const MAX_ID: usize = 64;

tokio::task_local! {
    static CURRENT: Current;
}

/// Names a request: by its trace, or where there are none by a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestId {
    Trace(TraceId),
    Own(Uuid),
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Trace(id) => id.fmt(f),
            Self::Own(id) => id.fmt(f),
        }
    }
}

impl RequestId {
    /// A name that no other request has.
    pub(crate) fn new() -> Self {
        Self::Own(uuid::Builder::from_random_bytes(rand::random()).into_uuid())
    }
}

/// Finding out who sends a request, which is done before it is known what that is.
pub(crate) struct Authenticating {
    since: SystemTime,
    clock: Instant,
}

/// The same, done.
#[derive(Clone, Copy)]
pub(crate) struct Authenticated {
    /// When it began.
    pub(crate) since: SystemTime,
    /// How long it took.
    pub(crate) took: Duration,
}

/// The stages of a request that the flow recorder will be told of, as they end.
#[derive(Default)]
pub(crate) struct Stages(Mutex<Vec<Noted>>);

/// A stage that is over.
pub(crate) struct Noted {
    pub(crate) name: &'static str,
    pub(crate) began: Instant,
    pub(crate) took: Duration,
}

impl Stages {
    /// Notes a stage; one that follows another of its name goes on where that ended.
    fn note(&self, name: &'static str, began: Instant, took: Duration) {
        let mut stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match stages.last_mut().filter(|last| last.name == name) {
            Some(last) => last.took += took,
            None => stages.push(Noted { name, began, took }),
        }
    }

    /// Those that are over.
    pub(crate) fn take(&self) -> Vec<Noted> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Authenticating {
    pub(crate) fn begin() -> Self {
        Self {
            since: SystemTime::now(),
            clock: Instant::now(),
        }
    }

    pub(crate) fn end(self) -> Authenticated {
        Authenticated {
            since: self.since,
            took: self.clock.elapsed(),
        }
    }
}

/// A request that has come in.
pub(crate) struct Begun {
    /// Its name.
    pub(crate) id: RequestId,
    /// Who sent it, where that had to be shown.
    pub(crate) caller: Option<Arc<Caller>>,
    /// Its span, if it is sampled.
    pub(crate) span: Option<Box<Root>>,
    /// Its stages, if it is recorded.
    pub(crate) stages: Option<Arc<Stages>>,
}

/// The span of a request at this node.
pub(crate) struct Root(Span);

impl Begun {
    /// What its task works on.
    pub(crate) fn current(&self) -> Current {
        let caller = self.caller.clone();
        let current = Current::new(self.id.to_string(), caller, self.span.as_deref());
        Current {
            stages: self.stages.clone(),
            ..current
        }
    }

    /// The same, of a request whose stages somebody wants to know.
    pub(crate) fn current_if_sampled(&self) -> Option<Current> {
        (self.span.is_some() || self.stages.is_some()).then(|| self.current())
    }
}

/// Takes in a request: whether it is sampled, and under which name it goes. Its extensions say who sent it.
pub(crate) fn begin(headers: &HeaderMap, extensions: &Extensions, name: &'static str) -> Begun {
    let caller = extensions.get::<Arc<Caller>>().cloned();
    let authenticated = extensions.get::<Authenticated>();
    match root(headers, name, authenticated.map(|done| done.since)) {
        None => Begun {
            id: RequestId::new(),
            caller,
            span: None,
            stages: None,
        },
        Some(span) => {
            let id = RequestId::Trace(span.span_context().trace_id());
            let mut span = span.is_recording().then(|| Box::new(Root(span)));
            if let Some(span) = &mut span {
                authenticated
                    .into_iter()
                    .for_each(|done| span.stage_before("authenticate", *done));
                span.say_caller(caller.as_deref());
            }
            Begun {
                id,
                caller,
                span,
                stages: None,
            }
        }
    }
}

/// Takes in what a node below asks on behalf of a request: sampled if that is. One that is not says nothing of a trace,
/// and so begins none here either.
pub(crate) fn begin_below(headers: &HeaderMap, name: &'static str) -> Option<Box<Root>> {
    let span = headers
        .contains_key(PARENT)
        .then(|| root(headers, name, None));
    let span = span.flatten().filter(Span::is_recording);
    span.map(|span| Box::new(Root(span)))
}

fn root(headers: &HeaderMap, name: &'static str, since: Option<SystemTime>) -> Option<Span> {
    let tracer = traces::tracer()?;
    let parent = if headers.contains_key(PARENT) {
        TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
    } else {
        Context::new()
    };
    let mut builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server);
    builder.start_time = since;
    Some(tracer.build_with_context(builder, &parent))
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

impl Root {
    /// Says something about the request.
    pub(crate) fn say(&mut self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        self.0.set_attribute(KeyValue::new(name, value));
    }

    /// Says who called, as far as that is known.
    pub(crate) fn say_caller(&mut self, caller: Option<&Caller>) {
        let Some(Caller { subject, client_id }) = caller else {
            return;
        };
        for (name, value) in [("caller.subject", subject), ("caller.client_id", client_id)] {
            if let Some(value) = value {
                self.say(name, value.clone());
            }
        }
    }

    /// Says how long a stage took that was over before the request was known.
    fn stage_before(&self, name: &'static str, done: Authenticated) {
        let builder = SpanBuilder::from_name(name).with_start_time(done.since);
        if let Some(mut span) = child(self.0.span_context().clone(), builder) {
            span.end_with_timestamp(done.since + done.took);
        }
    }

    /// Says that the request failed.
    pub(crate) fn failed(&mut self, code: &'static str) {
        self.0.set_status(Status::error(code));
    }

    /// The name of its trace.
    pub(crate) fn trace_id(&self) -> TraceId {
        self.0.span_context().trace_id()
    }
}

/// The request that a task works on.
#[derive(Clone)]
pub(crate) struct Current {
    id: Arc<str>,
    caller: Option<Arc<Caller>>,
    statements: Arc<AtomicU32>,
    /// What stages hang under, if the request is sampled.
    parent: Option<SpanContext>,
    /// Where its stages are noted, if it is recorded.
    stages: Option<Arc<Stages>>,
}

impl Current {
    pub(crate) fn new(
        id: impl Into<Arc<str>>,
        caller: Option<Arc<Caller>>,
        root: Option<&Root>,
    ) -> Self {
        Self {
            id: id.into(),
            caller,
            statements: Arc::default(),
            parent: root.map(|root| root.0.span_context().clone()),
            stages: None,
        }
    }

    /// How many statements it took so far.
    pub(crate) fn statements(&self) -> u32 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Works on the request without waiting.
    pub(crate) fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    /// Works on the request. What is logged meanwhile says its name.
    pub(crate) async fn run<F: Future>(self, work: F) -> F::Output {
        let named = tracing::error_span!("request", request_id = &*self.id);
        self.scope(work).instrument(named).await
    }

    async fn scope<F: Future>(self, work: F) -> F::Output {
        let watcher = Arc::new(self.clone());
        CURRENT.scope(self, watched(watcher, work)).await
    }

    /// A span under this one's.
    fn child(&self, builder: SpanBuilder) -> Option<Span> {
        child(self.parent.clone()?, builder)
    }
}

fn child(parent: SpanContext, builder: SpanBuilder) -> Option<Span> {
    let parent = Context::new().with_remote_span_context(parent);
    Some(traces::tracer()?.build_with_context(builder, &parent))
}

impl Watcher for Current {
    fn statement(&self, text: &str, took: Duration) {
        self.statements.fetch_add(1, Ordering::Relaxed);
        if let Some(stages) = &self.stages {
            let now = Instant::now();
            stages.note("read", now.checked_sub(took).unwrap_or(now), took);
        }
        if self.parent.is_none() {
            return;
        }
        let now = SystemTime::now();
        let builder = SpanBuilder::from_name("query")
            .with_kind(SpanKind::Client)
            .with_start_time(now - took)
            .with_attributes([KeyValue::new("db.query.text", text.to_owned())]);
        if let Some(mut span) = self.child(builder) {
            span.end_with_timestamp(now);
        }
    }
}

/// The same work, on behalf of the request that this task works on wherever it is done.
pub(crate) fn along<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let current = CURRENT.try_with(Clone::clone).ok();
    move || match current {
        Some(current) => current.work(work),
        None => work(),
    }
}

/// The same work, on behalf of the request that this task works on, in a task of its own.
pub(crate) fn onward<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    let current = CURRENT.try_with(Clone::clone).ok();
    async move {
        match current {
            Some(current) => current.run(work).await,
            None => work.await,
        }
    }
}

/// How many statements the request that this task works on took so far.
pub(crate) fn statements() -> u32 {
    CURRENT.try_with(Current::statements).unwrap_or_default()
}

/// A stage of a sampled or recorded request that does not wait; it ends when dropped. Of all others it is nothing.
pub(crate) struct Stage {
    #[expect(dead_code, reason = "dropped, it ends")]
    span: Option<Span>,
    noted: Option<(Arc<Stages>, &'static str, Instant)>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some((stages, name, began)) = &self.noted {
            stages.note(name, *began, began.elapsed());
        }
    }
}

/// Begins a stage of the request that this task works on.
pub(crate) fn stage(name: &'static str) -> Stage {
    let begin = |current: &Current| Stage {
        span: current.child(SpanBuilder::from_name(name)),
        noted: current
            .stages
            .clone()
            .map(|stages| (stages, name, Instant::now())),
    };
    CURRENT.try_with(begin).unwrap_or(Stage {
        span: None,
        noted: None,
    })
}

/// Asks another node on behalf of the request that this task works on. What that node does hangs under it.
pub(crate) async fn asking<F: Future>(node: &str, work: F) -> F::Output {
    let stages = CURRENT.try_with(|current| current.stages.clone());
    let _stage = stages.ok().flatten().map(|stages| Stage {
        span: None,
        noted: Some((stages, "upstream", Instant::now())),
    });
    let begun = CURRENT.try_with(|current| {
        let builder = SpanBuilder::from_name("upstream")
            .with_kind(SpanKind::Client)
            .with_attributes([KeyValue::new("meridian.upstream", node.to_owned())]);
        Some((current.clone(), current.child(builder)?))
    });
    match begun {
        Ok(Some((current, span))) => {
            let below = Current {
                parent: Some(span.span_context().clone()),
                ..current
            };
            let done = below.scope(work).await;
            drop(span);
            done
        }
        _ => work.await,
    }
}

/// Says in a request to another node on whose behalf it is.
pub(crate) fn carry(headers: &mut HeaderMap) {
    let carry = |current: &Current| {
        if let Ok(id) = HeaderValue::try_from(&*current.id) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(caller) = current.caller.as_deref().and_then(caller_to_header) {
            headers.insert(CALLER, caller);
        }
        if let Some(parent) = current.parent.as_ref().and_then(traceparent) {
            headers.insert(PARENT, parent);
        }
    };
    // What replication asks is nobody's request.
    let _ = CURRENT.try_with(carry);
}

fn traceparent(span: &SpanContext) -> Option<HeaderValue> {
    let flags = span.trace_flags() & TraceFlags::SAMPLED;
    let (trace, span) = (span.trace_id(), span.span_id());
    HeaderValue::try_from(format!("00-{trace}-{span}-{flags:02x}")).ok()
}

/// `None` of a caller of whom nothing is known.
fn caller_to_header(caller: &Caller) -> Option<HeaderValue> {
    if *caller == Caller::default() {
        return None;
    }
    let Caller { subject, client_id } = caller.clone();
    let bytes = wire::Caller { subject, client_id }.encode_to_vec();
    HeaderValue::try_from(STANDARD_NO_PAD.encode(bytes)).ok()
}

/// Who called the node below that asks.
pub(crate) fn carried_caller(headers: &HeaderMap) -> Option<Caller> {
    let bytes = STANDARD_NO_PAD.decode(headers.get(CALLER)?).ok()?;
    let wire::Caller { subject, client_id } = wire::Caller::decode(&*bytes).ok()?;
    Some(Caller { subject, client_id })
}

/// The name that a node below gives the request it asks on behalf of.
pub(crate) fn carried_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    (1..=MAX_ID).contains(&id.len()).then_some(id)
}
