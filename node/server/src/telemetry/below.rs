//! Requests of the nodes below: they go on under the name, and in the trace, of whoever began them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::Request;
use tower::{Layer, Service};

use super::request::{Current, begin_below, carried_caller, carried_id};
use crate::api::log;
use crate::calls::ServedBy;

/// Puts [`Observed`] around the services of a node.
#[derive(Clone)]
pub(crate) struct Observe {
    /// The node.
    pub(crate) node: ServedBy,
    /// Whether all who ask have shown that they are nodes, so that what they say of callers may be believed.
    pub(crate) knows_nodes: bool,
}

/// A service whose requests come from the nodes below.
#[derive(Clone)]
pub(crate) struct Observed<S> {
    inner: S,
    observe: Observe,
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed {
            inner,
            observe: self.clone(),
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
        let Observe { node, knows_nodes } = self.observe.clone();
        let caller = carried_caller(headers)
            .filter(|_| knows_nodes)
            .map(Arc::new);
        let mut span = begin_below(headers, "meridian.v1.NodeService");
        if let Some(span) = &mut span {
            span.say("rpc.method", path.clone());
            span.say("meridian.node", node.as_str().to_owned());
            span.say_caller(caller.as_deref());
        }
        let trace_id = span.as_ref().map(|span| span.trace_id().to_string());
        let id = id.to_owned();
        let current = Current::new(&*id, caller.clone(), span.as_deref());
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
                caller.subject = caller.as_ref().and_then(|caller| caller.subject.as_deref()),
                caller.client_id = caller.as_ref().and_then(|caller| caller.client_id.as_deref()),
                query_duration_ms = started.elapsed().as_secs_f64() * 1000.0,
                datastore_query_count = counted.statements(),
                node = node.as_str(),
                "node_req_complete"
            );
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::HeaderMap;
    use tower::ServiceExt as _;

    use super::super::request::carry;
    use super::*;
    use crate::authn::Caller;

    /// Whom a node names to those above it, when one below names `anne`.
    async fn passed_on(knows_nodes: bool) -> Option<Caller> {
        let anne = Caller {
            subject: Some("änne".into()),
            client_id: None,
        };
        let mut request = Request::new(());
        let from_below = Current::new("id", Some(Arc::new(anne)), None);
        from_below.work(|| carry(request.headers_mut()));
        let inner = tower::service_fn(async |_: Request<()>| {
            let mut above = HeaderMap::new();
            carry(&mut above);
            Ok::<_, Infallible>(carried_caller(&above))
        });
        let node = ServedBy::new("central").unwrap();
        let service = Observe { node, knows_nodes }.layer(inner);
        service.oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn who_called_is_believed_of_nodes_alone() {
        let told = passed_on(true).await.unwrap();
        assert_eq!(told.subject.as_deref(), Some("änne"));
        assert_eq!(passed_on(false).await, None);
    }
}
