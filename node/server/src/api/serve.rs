//! Listening: connections in, until told to stop; then those that are open may finish what they are doing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use crate::api::grpc::Grpc;

/// How long connections may go on after the stop.
#[derive(Debug, Clone, Copy)]
pub struct Drain(pub Duration);

/// Streams of one HTTP/2 connection that are open at a time.
const MAX_STREAMS: u32 = 1024;
/// How often a silent HTTP/2 connection is asked whether it still lives, and how long it has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long an HTTP/1 client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept: it fails mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves gRPC (HTTP/2 with prior knowledge) until `stop`, then drains.
pub async fn grpc(
    grpc: Arc<Grpc>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send,
    drain: Drain,
) {
    let builder = http2();
    let connections = GracefulShutdown::new();
    accept(listener, stop, |stream| {
        let grpc = Arc::clone(&grpc);
        let service = service_fn(move |request| {
            let grpc = Arc::clone(&grpc);
            async move { Ok::<_, std::convert::Infallible>(grpc.handle(request).await) }
        });
        spawn(connections.watch(builder.serve_connection(TokioIo::new(stream), service)));
    })
    .await;
    finish(connections, drain).await;
}

/// How gRPC connections are set up.
pub fn http2() -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(1024 * 1024);
    builder
}

/// Serves HTTP/1 and HTTP/2 until `stop`, then drains.
pub async fn http(
    router: axum::Router,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send,
    drain: Drain,
) {
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(MAX_STREAMS);
    let connections = GracefulShutdown::new();
    accept(listener, stop, |stream| {
        let service = TowerToHyperService::new(router.clone());
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        spawn(connections.watch(connection));
    })
    .await;
    finish(connections, drain).await;
}

/// Hands each connection to `serve` until `stop`.
async fn accept(
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    mut serve: impl FnMut(TcpStream),
) {
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => serve(stream),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that breaks, or speaks no HTTP, ends alone; its peer is told by HTTP/2's own means.
fn spawn<E: std::fmt::Display>(connection: impl Future<Output = Result<(), E>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    });
}

async fn finish(connections: GracefulShutdown, Drain(limit): Drain) {
    let open = connections.count();
    if tokio::time::timeout(limit, connections.shutdown())
        .await
        .is_err()
    {
        tracing::warn!(
            open,
            ?limit,
            "connections were still open after the drain time"
        );
    }
}

/// Binds a listener, naming the address in the error.
///
/// # Errors
/// The system's error, with the address and what to do about it.
pub async fn bind(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|why| {
        io::Error::new(
            why.kind(),
            format!("cannot listen on {address}: {why}; is another program using it?"),
        )
    })
}
