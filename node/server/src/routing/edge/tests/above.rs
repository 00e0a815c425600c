//! What an edge asks of the node above it, counted there.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meridian_proto::meridian::v1 as wire;
use meridian_proto::meridian::v1::check_service_client::CheckServiceClient;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tonic_prost::ProstCodec;

use super::*;
use crate::api::grpc::{Grpc, common_services};
use crate::api::{Api, serve};

/// A node above that allows what is asked of object `doc:1`, once it is let.
#[derive(Clone)]
pub(in crate::routing::edge) struct Played {
    address: String,
    calls: Arc<AtomicUsize>,
    /// Calls that are not answered, and still awaited.
    open: watch::Sender<usize>,
    pub(in crate::routing::edge) leave: Arc<Semaphore>,
}

impl Played {
    pub(in crate::routing::edge) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let played = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            calls: Arc::default(),
            open: watch::Sender::new(0),
            leave: Arc::new(Semaphore::new(0)),
        };
        let node = played.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let node = node.clone();
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let node = node.clone();
                    async move { Ok::<_, std::convert::Infallible>(node.play(request).await) }
                });
                tokio::spawn(
                    serve::http2(TokioExecutor::new(), &Limits::default())
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        played
    }

    async fn play(
        &self,
        request: http::Request<hyper::body::Incoming>,
    ) -> http::Response<tonic::body::Body> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let _open = Open::new(&self.open);
        let _leave = self.leave.acquire().await.unwrap();
        if request.uri().path().ends_with("EvaluateBatch") {
            let answer = tower::service_fn(
                async |request: tonic::Request<wire::EvaluateBatchRequest>| {
                    Ok(tonic::Response::new(batch(request.get_ref())))
                },
            );
            let codec =
                ProstCodec::<wire::EvaluateBatchResponse, wire::EvaluateBatchRequest>::default();
            return tonic::server::Grpc::new(codec).unary(answer, request).await;
        }
        let answer = tower::service_fn(async |request: tonic::Request<wire::EvaluateRequest>| {
            let check = request.get_ref().check.as_ref().unwrap();
            Ok(tonic::Response::new(wire::EvaluateResponse {
                outcome: Some(wire::evaluate_response::Outcome::Allowed(allows(
                    check.tuple_key.as_ref(),
                ))),
                position: Some(above()),
                authorization_model_id: MODEL.into(),
                reads: Vec::new(),
                served_by: "regional/test".into(),
            }))
        });
        let codec = ProstCodec::<wire::EvaluateResponse, wire::EvaluateRequest>::default();
        tonic::server::Grpc::new(codec).unary(answer, request).await
    }

    pub(in crate::routing::edge) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(in crate::routing::edge) fn edge(&self) -> Edge {
        let answers = Arc::new(Answers::new(100, Duration::from_secs(60)));
        let views = Arc::new(Views::new(Instant::now(), None));
        edge_below(std::slice::from_ref(&self.address), views, answers)
    }
}

struct Open(watch::Sender<usize>);

impl Open {
    fn new(open: &watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

fn above() -> wire::Position {
    wire::Position {
        epoch: 1,
        revision: 9,
    }
}

fn allows(key: Option<&v1::CheckRequestTupleKey>) -> bool {
    key.is_some_and(|key| key.object == "doc:1")
}

fn batch(request: &wire::EvaluateBatchRequest) -> wire::EvaluateBatchResponse {
    use wire::evaluate_batch_response::{Result, result::Outcome};
    let result = |check: &v1::BatchCheckItem| Result {
        outcome: Some(Outcome::Allowed(allows(check.tuple_key.as_ref()))),
        reads: Vec::new(),
        position: Some(above()),
    };
    wire::EvaluateBatchResponse {
        results: request
            .batch
            .as_ref()
            .unwrap()
            .checks
            .iter()
            .map(result)
            .collect(),
        error: None,
        position: Some(above()),
        authorization_model_id: MODEL.into(),
        served_by: "regional/test".into(),
    }
}

pub(in crate::routing::edge) fn context() -> Context {
    Context {
        deadline: Instant::now() + Duration::from_secs(60),
        min_position: None,
        caller: None,
        model: Default::default(),
    }
}

fn items(objects: &[&str]) -> v1::BatchCheckRequest {
    let item = |(number, object): (usize, &&str)| {
        let mut key = question("").tuple_key.unwrap();
        key.object = (*object).to_owned();
        v1::BatchCheckItem {
            tuple_key: Some(key),
            correlation_id: number.to_string(),
            ..Default::default()
        }
    };
    v1::BatchCheckRequest {
        store_id: STORE.into(),
        checks: objects.iter().enumerate().map(item).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_hundred_identical_checks_that_an_edge_cannot_prove_are_one_call_above() {
    let node = Played::start().await;
    let edge = node.edge();
    let asks = join_all((0..100).map(|_| async { edge.check(&context(), question("")).await }));
    let let_go = async {
        while node.calls() == 0 {
            tokio::task::yield_now().await;
        }
        node.leave.add_permits(1);
    };
    let (answers, ()) = tokio::join!(asks, let_go);
    assert!(
        answers
            .into_iter()
            .all(|answer| answer.unwrap().body.allowed)
    );
    assert_eq!(node.calls(), 1);
}

#[tokio::test]
async fn a_batch_that_an_edge_cannot_prove_is_one_call_above_even_beside_another() {
    let node = Played::start().await;
    let edge = node.edge();
    node.leave.add_permits(1);
    let (one, other) = (context(), context());
    let (first, second) = tokio::join!(
        edge.batch_check(&one, items(&["doc:1", "doc:2", "doc:1"])),
        edge.batch_check(&other, items(&["doc:2", "doc:1"])),
    );
    assert_eq!(node.calls(), 1);
    let allowed = |answer: Answer<v1::BatchCheckResponse>| {
        let reply = answer.unwrap();
        assert_eq!(reply.position, Some(Position::new(1, 9)));
        assert_eq!(reply.served_by.as_str(), "regional/test");
        let result = reply.body.result.into_values();
        result
            .map(|single| single.check_result.unwrap())
            .collect::<Vec<_>>()
    };
    use v1::batch_check_single_result::CheckResult::Allowed;
    assert_eq!(
        allowed(first),
        [Allowed(true), Allowed(false), Allowed(true)]
    );
    assert_eq!(allowed(second), [Allowed(false), Allowed(true)]);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_streamed_batch_here_and_above() {
    let (node, soon) = (Played::start().await, Duration::from_secs(60));
    let limits = Limits {
        request_timeout: 10 * soon,
        ..Limits::default()
    };
    let name = ServedBy::new("edge/test").unwrap();
    let api = Arc::new(Api::new(Arc::new(node.edge()), name, limits));
    let (services, _readiness) = common_services().await.unwrap();
    let listener = serve::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve::grpc(
        Arc::new(Grpc::new(api, services)),
        listener,
        stop.clone().cancelled_owned(),
        serve::Drain(soon),
        limits,
    ));
    let mut client = CheckServiceClient::connect(address).await.unwrap();
    let batch = items(&["doc:1", "doc:2"]);
    let call = tokio::spawn(async move { client.streamed_batch_check(batch).await.map(drop) });
    let mut open = node.open.subscribe();
    let mut stands_at = async |calls| {
        let waited = tokio::time::timeout(soon, open.wait_for(|open| *open == calls)).await;
        assert_eq!(*waited.unwrap().unwrap(), calls);
    };
    stands_at(1).await;
    call.abort();
    stands_at(0).await;
    stop.cancel();
    serving.await.unwrap();
}
