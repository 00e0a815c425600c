//! Requests of the nodes below: they go on under the name, and in the trace, of whoever began them.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use http::Request;
use tower::{Layer, Service};

use super::request::{Current, begin_below, carried_id};
use crate::api::log;
use crate::calls::ServedBy;

/// Puts [`Observed`] around the services of a node.
#[derive(Clone)]
pub(crate) struct Observe {
    /// The node.
    pub(crate) node: ServedBy,
}

/// A service whose requests come from the nodes below.
#[derive(Clone)]
pub(crate) struct Observed<S> {
    inner: S,
    node: ServedBy,
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed {
            inner,
            node: self.node.clone(),
        }
    }
}

impl<S, B> Service<Request<B>> for Observed<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let headers = request.headers();
        // What replication asks is nobody's request.
        let Some(id) = carried_id(headers) else {
            return Box::pin(self.inner.call(request));
        };
        let path = request.uri().path().to_owned();
        let started = Instant::now();
        let mut span = begin_below(headers, "meridian.v1.NodeService");
        if let Some(span) = &mut span {
            span.say("rpc.method", path.clone());
            span.say("meridian.node", self.node.as_str().to_owned());
        }
        let trace_id = span.as_ref().map(|span| span.trace_id().to_string());
        let (id, node) = (id.to_owned(), self.node.clone());
        let current = Current::new(&*id, span.as_deref());
        let answering = self.inner.call(request);
        Box::pin(async move {
            let counted = current.clone();
            let answer = current.run(answering).await;
            drop(span);
            tracing::debug!(
                target: log::TARGET,
                grpc_method = path,
                request_id = id,
                trace_id,
                query_duration_ms = started.elapsed().as_secs_f64() * 1000.0,
                datastore_query_count = counted.statements(),
                node = node.as_str(),
                "node_req_complete"
            );
            answer
        })
    }
}
