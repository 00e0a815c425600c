use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meridian_model::Code;
use meridian_proto::meridian::v1 as wire;
use tokio::net::TcpListener;
use tonic::Status;
use tonic_prost::ProstCodec;

use super::Peers;
use crate::api::serve;
use crate::limits::Limits;
use crate::telemetry::captured::Log;

/// What a played node does with the call of that number, the first being 0.
#[derive(Clone, Copy)]
enum Does {
    Answers,
    Refuses(tonic::Code),
    PassesOn,
    Waits,
}

type Script = fn(usize) -> Does;

/// A node that plays one script for every call; how often it was asked.
struct Played {
    address: String,
    asked: Arc<AtomicUsize>,
}

impl Played {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = url(listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let count = Arc::clone(&count);
                let service = service_fn(move |request| {
                    let does = script(count.fetch_add(1, Ordering::SeqCst));
                    async move { Ok::<_, std::convert::Infallible>(play(does, request).await) }
                });
                tokio::spawn(
                    serve::http2(TokioExecutor::new(), &Limits::default())
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn play(
    does: Does,
    request: http::Request<hyper::body::Incoming>,
) -> http::Response<tonic::body::Body> {
    let answer = tower::service_fn(
        async |_: tonic::Request<wire::GetTiersRequest>| match does {
            Does::Answers => Ok(tonic::Response::new(wire::GetTiersResponse::default())),
            Does::Refuses(code) => Err(Status::new(code, "the database is away")),
            Does::PassesOn => Err(Status::unavailable(
                "no node above can answer: the database is away; try again",
            )),
            Does::Waits => std::future::pending().await,
        },
    );
    let codec = ProstCodec::<wire::GetTiersResponse, wire::GetTiersRequest>::default();
    tonic::server::Grpc::new(codec).unary(answer, request).await
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Where nobody listens.
async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    url(listener.local_addr().unwrap())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

fn late() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

async fn read(peers: &Peers, deadline: Instant) -> Result<(), Status> {
    let request = wire::GetTiersRequest::default();
    peers.get_tiers(deadline, request).await.map(drop)
}

async fn write(peers: &Peers) -> Result<(), Status> {
    let request = wire::AssignTiersRequest::default();
    peers.assign_tiers(late(), request).await.map(drop)
}

fn peers(addresses: &[&str]) -> Peers {
    let addresses: Vec<_> = addresses
        .iter()
        .map(|&address| address.to_owned())
        .collect();
    Peers::new(&addresses).unwrap()
}

#[tokio::test]
async fn a_caller_without_time_is_told_so_and_changes_nothing_for_others() {
    let slow = Played::start(|call| {
        if call == 0 {
            Does::Waits
        } else {
            Does::Answers
        }
    })
    .await;
    let next = Played::start(|_| Does::Answers).await;
    let peers = peers(&[&slow.address, &next.address]);

    let status = read(&peers, soon()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert_eq!(
        status.message(),
        "upstream[0] did not answer within the request's time"
    );
    read(&peers, late()).await.unwrap();
    assert_eq!((slow.asked(), next.asked()), (2, 0));
}

#[tokio::test]
async fn a_deadline_that_was_exceeded_above_is_not_tried_elsewhere() {
    let slow = Played::start(|_| Does::Refuses(tonic::Code::DeadlineExceeded)).await;
    let next = Played::start(|_| Does::Answers).await;
    let peers = peers(&[&slow.address, &next.address]);
    for asked in 1..3 {
        let status = read(&peers, late()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert_eq!((slow.asked(), next.asked()), (asked, 0));
    }
}

#[tokio::test]
async fn a_node_that_is_unavailable_is_passed_over_for_a_while() {
    let ill = Played::start(|_| Does::Refuses(tonic::Code::Unavailable)).await;
    let next = Played::start(|_| Does::Answers).await;
    let peers = peers(&[&ill.address, &next.address]);
    read(&peers, late()).await.unwrap();
    read(&peers, late()).await.unwrap();
    assert_eq!((ill.asked(), next.asked()), (1, 2));
}

#[tokio::test]
async fn a_node_that_hangs_is_found_out_whatever_time_callers_bring() {
    // Accepts connections and says nothing at all.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hung = url(listener.local_addr().unwrap());
    let next = Played::start(|_| Does::Answers).await;
    let peers = peers(&[&hung, &next.address]);
    read(&peers, late()).await.unwrap();
    assert_eq!(next.asked(), 1);
}

#[tokio::test]
async fn a_write_is_made_twice_only_if_it_was_never_sent() {
    let next = Played::start(|_| Does::Answers).await;
    let ill = Played::start(|_| Does::Refuses(tonic::Code::Unavailable)).await;
    let sent = peers(&[&ill.address, &next.address]);
    let status = write(&sent).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!((ill.asked(), next.asked()), (1, 0));

    write(&peers(&[&nowhere().await, &next.address]))
        .await
        .unwrap();
    assert_eq!(next.asked(), 1);
}

#[tokio::test]
async fn when_none_can_answer_each_is_named_by_its_setting_with_its_reason() {
    let ill = Played::start(|_| Does::Refuses(tonic::Code::Unavailable)).await;
    let gone = nowhere().await;
    let status = read(&peers(&[&ill.address, &gone]), late())
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(
        status.message(),
        "no node above can answer: upstream[0] says: the database is away; upstream[1] cannot be reached; try again"
    );

    // As an edge says what its region says.
    assert_eq!(
        super::line::told(&status),
        "says: its upstream[0] says: the database is away; its upstream[1] cannot be reached"
    );

    let nobody = read(&peers(&[]), late()).await.unwrap_err();
    assert_eq!(
        nobody.message(),
        "there is no node above: no upstream is configured"
    );
    let no_url = Peers::new(&["http://a:1".into(), "no url".into()])
        .err()
        .unwrap();
    assert!(
        no_url.to_string().starts_with("upstream[1] is 'no url'"),
        "{no_url}"
    );
}

#[tokio::test]
async fn what_all_above_say_is_said_once() {
    let ill = Played::start(|_| Does::Refuses(tonic::Code::Unavailable)).await;
    // As a regional node passes on what central says.
    let between = Played::start(|_| Does::PassesOn).await;
    let status = read(&peers(&[&between.address, &ill.address]), late())
        .await
        .unwrap_err();
    assert_eq!(
        status.message(),
        "no node above can answer: the database is away; try again"
    );
}

#[tokio::test]
async fn what_is_no_node_is_passed_over_and_named_without_its_words() {
    // Answers any call as a web server does.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = url(listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let page = async |_: http::Request<hyper::body::Incoming>| {
                let page = tonic::body::Body::new(http_body_util::Full::new(
                    bytes::Bytes::from_static(b"<html><body>It works!</body></html>"),
                ));
                Ok::<_, std::convert::Infallible>(http::Response::new(page))
            };
            tokio::spawn(
                serve::http2(TokioExecutor::new(), &Limits::default())
                    .serve_connection(TokioIo::new(stream), service_fn(page)),
            );
        }
    });
    let log = Log::default();
    let _logging = log.start(tracing::Level::INFO);
    let status = read(&peers(&[&web]), late()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(
        status.message(),
        "no node above can answer: upstream[0] does not answer as a node of this version does: it must be the address \
         of a node's listen.nodes; try again"
    );
    let lines = log.lines();
    assert!(lines.iter().any(|line| line.contains(&web)), "{lines:#?}");
    let next = Played::start(|_| Does::Answers).await;
    read(&peers(&[&web, &next.address]), late()).await.unwrap();
}

#[tokio::test]
async fn an_outage_is_logged_when_it_begins_and_when_it_ends() {
    let ill = Played::start(|call| {
        if call < 3 {
            Does::Refuses(tonic::Code::Unavailable)
        } else {
            Does::Answers
        }
    })
    .await;
    let log = Log::default();
    let _logging = log.start(tracing::Level::INFO);
    let peers = peers(&[&ill.address]);
    for _ in 0..3 {
        read(&peers, late()).await.unwrap_err();
    }
    for _ in 0..3 {
        read(&peers, late()).await.unwrap();
    }
    let lines = log.lines();
    let [away, back] = &*lines else {
        panic!("{lines:#?}");
    };
    let name = format!("upstream[0] {}", ill.address);
    for (line, what) in [
        (away, "a node above is away"),
        (back, "a node above is back"),
    ] {
        assert!(line.contains(what) && line.contains(&name), "{line}");
    }
    assert!(away.contains("the database is away"), "{away}");
    assert!(back.contains("away="), "{back}");
}

#[test]
fn refusals_keep_the_code_that_says_whether_to_try_again() {
    for (status, code) in [
        (Status::deadline_exceeded(""), Code::DeadlineExceeded),
        (Status::resource_exhausted(""), Code::ResourceExhausted),
        (Status::unavailable(""), Code::Unavailable),
        (Status::unimplemented(""), Code::Internal),
    ] {
        assert_eq!(super::api::refusal(status).error.code, code);
    }
}
