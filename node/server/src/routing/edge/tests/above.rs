//! What an edge asks of the node above it, counted there.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::{self, BoxStream};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meridian_proto::meridian::v1 as wire;
use meridian_proto::meridian::v1::check_service_client::CheckServiceClient;
use meridian_store::memory::MemoryDatastore;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tonic_prost::ProstCodec;

use super::*;
use crate::api::grpc::{Grpc, common_services};
use crate::api::{Api, serve};
use crate::commands::Local;
use crate::routing::regional::Regional;

/// A node above that allows what is asked of object `doc:1`, once it is let.
#[derive(Clone)]
pub(in crate::routing::edge) struct Played {
    address: String,
    calls: Arc<AtomicUsize>,
    /// Calls that are not answered, and still awaited.
    open: watch::Sender<usize>,
    pub(in crate::routing::edge) leave: Arc<Semaphore>,
    /// One for each result of a batch that may go.
    pub(in crate::routing::edge) results: Arc<Semaphore>,
    /// Cuts the connections that are open.
    cut: Arc<Notify>,
}

/// Results that may go while nobody says otherwise.
const RESULTS: usize = 10_000;

impl Played {
    pub(in crate::routing::edge) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let played = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            calls: Arc::default(),
            open: watch::Sender::new(0),
            leave: Arc::new(Semaphore::new(0)),
            results: Arc::new(Semaphore::new(RESULTS)),
            cut: Arc::default(),
        };
        let node = played.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (node, cut) = (node.clone(), Arc::clone(&node.cut).notified_owned());
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let node = node.clone();
                    async move { Ok::<_, std::convert::Infallible>(node.play(request).await) }
                });
                let serving = serve::http2(TokioExecutor::new(), &Limits::default())
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move {
                    tokio::select! {
                        _ = serving => {}
                        () = cut => {}
                    }
                });
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
                    Ok(tonic::Response::new(self.parts(request.into_inner())))
                },
            );
            let codec =
                ProstCodec::<wire::EvaluateBatchPart, wire::EvaluateBatchRequest>::default();
            let mut grpc = tonic::server::Grpc::new(codec);
            return grpc.server_streaming(answer, request).await;
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

    /// A part for each check as soon as it may go, and the end.
    fn parts(
        &self,
        request: wire::EvaluateBatchRequest,
    ) -> BoxStream<'static, Result<wire::EvaluateBatchPart, tonic::Status>> {
        let node = self.clone();
        let part = move |(at, check): (usize, v1::BatchCheckItem)| {
            let node = node.clone();
            async move {
                node.results.acquire().await.unwrap().forget();
                Ok(wire::EvaluateBatchPart {
                    results: vec![result(at, &check)],
                    end: None,
                    authorization_model_id: MODEL.into(),
                })
            }
        };
        let end = wire::EvaluateBatchPart {
            end: Some(wire::EvaluateBatchEnd {
                error: None,
                position: Some(above()),
                served_by: "regional/test".into(),
            }),
            authorization_model_id: MODEL.into(),
            ..Default::default()
        };
        let checks = request.batch.unwrap().checks.into_iter().enumerate();
        let parts = stream::iter(checks).then(part);
        parts.chain(stream::iter([Ok(end)])).boxed()
    }

    pub(in crate::routing::edge) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(in crate::routing::edge) fn edge(&self) -> Edge {
        self.edge_within(Limits::default())
    }

    pub(in crate::routing::edge) fn edge_within(&self, limits: Limits) -> Edge {
        edge_of_nodes(&[self], limits)
    }
}

/// An edge that holds nothing, below these.
fn edge_of_nodes(nodes: &[&Played], limits: Limits) -> Edge {
    let addresses: Vec<_> = nodes.iter().map(|node| node.address.clone()).collect();
    let answers = Arc::new(Answers::new(100, Duration::from_secs(60)));
    let views = Arc::new(Views::new(Instant::now(), None));
    edge_below(&addresses, views, answers, limits)
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

fn result(at: usize, check: &v1::BatchCheckItem) -> wire::evaluate_batch_part::Result {
    use wire::evaluate_batch_part::{Result, result::Outcome};
    Result {
        check: u32::try_from(at).unwrap(),
        outcome: Some(Outcome::Allowed(allows(check.tuple_key.as_ref()))),
        reads: Vec::new(),
        position: Some(above()),
        served_by: "regional/test".into(),
    }
}

pub(in crate::routing::edge) fn context() -> Context {
    Context {
        deadline: Instant::now() + Duration::from_secs(60),
        min_position: None,
        caller: None,
        model: Default::default(),
        why: Default::default(),
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
async fn what_is_decided_above_is_told_and_shared_before_the_batch_ends() {
    let node = Played::start().await;
    node.leave.add_permits(1);
    node.results.forget_permits(RESULTS);
    let (edge, cx) = (Arc::new(node.edge()), context());
    let (found, mut results) = tokio::sync::mpsc::channel(2);
    let batch = {
        let (edge, cx) = (Arc::clone(&edge), cx.clone());
        tokio::spawn(async move {
            let items = items(&["doc:1", "doc:2"]);
            edge.streamed_batch_check(&cx, items, found).await
        })
    };
    while node.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let check = edge.check(&cx, question(""));
    let let_go = async { node.results.add_permits(1) };
    let (check, ()) = tokio::join!(check, let_go);
    assert!(check.unwrap().body.allowed);
    assert_eq!(node.calls(), 1);
    let (first, _) = results.recv().await.unwrap();
    assert_eq!(first, "0");
    assert!(results.try_recv().is_err() && !batch.is_finished());
    node.results.add_permits(1);
    let (second, _) = results.recv().await.unwrap();
    assert_eq!(second, "1");
    batch.await.unwrap().unwrap();
}

/// A region without a store of its own, below a node.
fn region_below(node: &Played) -> Regional {
    let name = ServedBy::new("regional/eu").unwrap();
    let datastore = Arc::new(MemoryDatastore::new());
    let local = Local::new(datastore, name, Limits::default(), Arc::default());
    let (local, peers) = (
        Arc::new(local),
        Peers::new(std::slice::from_ref(&node.address)),
    );
    Regional::new(local.clone(), local, Upwards::new(peers.unwrap()))
}

#[tokio::test]
async fn where_a_node_above_takes_too_long_what_it_decided_in_time_is_told() {
    use v1::batch_check_single_result::CheckResult::{Allowed, Error};
    type Below = fn(&Played) -> Arc<dyn Calls>;
    let nodes: [Below; 2] = [
        |node| Arc::new(node.edge()),
        |node| Arc::new(region_below(node)),
    ];
    for below in nodes {
        let node = Played::start().await;
        node.leave.add_permits(1);
        node.results.forget_permits(RESULTS);
        node.results.add_permits(1);
        let (found, mut results) = tokio::sync::mpsc::channel(3);
        let below = below(&node);
        let soon = Context {
            deadline: Instant::now() + Duration::from_secs(2),
            ..context()
        };
        let batch = tokio::spawn(async move {
            let items = items(&["doc:1", "doc:2", "doc:3"]);
            below.streamed_batch_check(&soon, items, found).await
        });
        let mut told = Vec::new();
        while let Some(result) = results.recv().await {
            told.push(result);
        }
        let reply = batch.await.unwrap().unwrap();
        assert_eq!(reply.position, Some(Position::new(1, 9)));
        assert_eq!(reply.served_by.as_str(), "regional/test");
        let told = told.into_iter().map(|(_, single)| single.check_result);
        let [Some(Allowed(true)), Some(Error(second)), Some(Error(third))] =
            &*told.collect::<Vec<_>>()
        else {
            panic!("not one decision and two errors");
        };
        let late = v1::check_error::Code::InternalError(4004);
        assert_eq!([&second.code, &third.code], [&Some(late), &Some(late)]);
    }
}

#[tokio::test]
async fn where_a_node_dies_in_its_answer_to_a_batch_another_is_asked_what_is_left() {
    let (node, other) = (Played::start().await, Played::start().await);
    for played in [&node, &other] {
        played.leave.add_permits(1);
        played.results.forget_permits(RESULTS);
    }
    let edge = Arc::new(edge_of_nodes(&[&node, &other], Limits::default()));
    let (found, mut results) = tokio::sync::mpsc::channel(3);
    let batch = {
        let edge = Arc::clone(&edge);
        tokio::spawn(async move {
            let items = items(&["doc:2", "doc:3", "doc:1"]);
            edge.streamed_batch_check(&context(), items, found).await
        })
    };
    let mut told = Vec::new();
    node.results.add_permits(1);
    told.extend(results.recv().await);
    node.cut.notify_waiters();
    other.results.add_permits(2);
    while let Some(result) = results.recv().await {
        told.push(result);
    }
    let reply = batch.await.unwrap().unwrap();
    assert_eq!(reply.position, Some(Position::new(1, 9)));
    use v1::batch_check_single_result::CheckResult::Allowed;
    let told: Vec<_> = told
        .into_iter()
        .map(|(name, single)| (name, single.check_result.unwrap()))
        .collect();
    let expected = [("0", false), ("1", false), ("2", true)];
    assert_eq!(told, expected.map(|(name, is)| (name.into(), Allowed(is))));

    // It is known to be away, and passed over.
    other.results.add_permits(1);
    let again = edge.batch_check(&context(), items(&["doc:4"])).await;
    assert!(again.is_ok());
    assert_eq!((node.calls(), other.calls()), (1, 2));
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
