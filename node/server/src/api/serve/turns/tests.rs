use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::join_all;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::Notify;

use super::*;
use crate::api::serve::http2;
use crate::limits::Limits;

/// The server's end of a connection, which counts what is written.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A client, and how often the server has written to it. `/waits` is answered when `released`, `/panics` never.
async fn connect(released: Arc<Notify>) -> (SendRequest<Empty<Bytes>>, Arc<AtomicUsize>) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let writes = Arc::new(AtomicUsize::new(0));
    let turns = Turns::default();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let released = Arc::clone(&released);
        async move {
            match request.uri().path() {
                "/waits" => released.notified().await,
                "/panics" => panic!("as a request must not"),
                _ => {}
            }
            Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
        }
    });
    let counted = Counted(far, Arc::clone(&writes));
    let connection =
        http2(turns.clone(), &Limits::default()).serve_connection(TokioIo::new(counted), service);
    tokio::spawn(Together::new(connection, turns));
    let (client, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near))
            .await
            .unwrap();
    tokio::spawn(driver);
    (client, writes)
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://node{path}"))
        .body(Empty::new())
        .unwrap()
}

#[tokio::test]
async fn what_is_asked_together_is_answered_together() {
    let (mut client, writes) = connect(Arc::default()).await;
    client.send_request(get("/")).await.unwrap();
    let before = writes.load(Ordering::Relaxed);
    let answers: Vec<_> = (0..50).map(|_| client.send_request(get("/"))).collect();
    for answer in join_all(answers).await {
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    }
    let wrote = writes.load(Ordering::Relaxed) - before;
    assert!(wrote < 25, "{wrote} writes for 50 answers");
}

#[tokio::test]
async fn a_request_that_waits_holds_up_no_other() {
    let released = Arc::new(Notify::new());
    let (mut client, _) = connect(Arc::clone(&released)).await;
    let mut waits = std::pin::pin!(client.send_request(get("/waits")));
    assert!(futures::poll!(&mut waits).is_pending());
    for _ in 0..3 {
        let quick = client.send_request(get("/")).await.unwrap();
        assert_eq!(quick.status(), StatusCode::OK);
    }
    assert!(futures::poll!(&mut waits).is_pending());
    released.notify_one();
    assert_eq!(waits.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_request_that_panics_ends_alone() {
    let (mut client, _) = connect(Arc::default()).await;
    assert!(client.send_request(get("/panics")).await.is_err());
    let next = client.send_request(get("/")).await.unwrap();
    assert_eq!(next.status(), StatusCode::OK);
}

#[tokio::test]
async fn what_waits_too_long_for_its_turn_gets_a_task() {
    let turns = Turns::default();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    turns.execute(async { std::thread::sleep(SLICE) });
    turns.execute(async move {
        let id = tokio::task::id();
        sender.send(id).unwrap();
    });
    let connection = tokio::spawn(async move {
        assert!(turns.take());
        assert!(!turns.take(), "all were begun");
        tokio::task::id()
    });
    assert_ne!(receiver.await.unwrap(), connection.await.unwrap());
}
