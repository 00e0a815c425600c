//! Listening: connections in, until told to stop; then those that are open may finish what they are doing.

mod turns;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::grpc::Grpc;
use crate::limits::Limits;
use crate::outage::Outage;
use turns::{Together, Turns};

/// How long connections may go on after the stop.
#[derive(Debug, Clone, Copy)]
pub struct Drain(pub Duration);

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
    limits: Limits,
) {
    let connections = GracefulShutdown::new();
    accept(listener, stop, limits.connections, |stream, permit| {
        let grpc = Arc::clone(&grpc);
        let service = service_fn(move |request| {
            let grpc = Arc::clone(&grpc);
            async move { Ok::<_, std::convert::Infallible>(grpc.handle(request).await) }
        });
        let turns = Turns::default();
        let connection =
            http2(turns.clone(), &limits).serve_connection(TokioIo::new(stream), service);
        spawn(Together::new(connections.watch(connection), turns), permit);
    })
    .await;
    finish(connections, drain).await;
}

/// How gRPC connections are set up; `executor` runs their requests.
pub fn http2<E>(executor: E, limits: &Limits) -> hyper::server::conn::http2::Builder<E> {
    let mut builder = hyper::server::conn::http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(limits.streams_per_connection)
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
    limits: Limits,
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
        .max_concurrent_streams(limits.streams_per_connection);
    let connections = GracefulShutdown::new();
    accept(listener, stop, limits.connections, |stream, permit| {
        let service = TowerToHyperService::new(router.clone());
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        spawn(connections.watch(connection), permit);
    })
    .await;
    finish(connections, drain).await;
}

/// Hands each connection to `serve` until `stop`.
async fn accept(
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    connections: usize,
    mut serve: impl FnMut(TcpStream, OwnedSemaphorePermit),
) {
    let free = Arc::new(Semaphore::new(connections));
    let crowded = Outage::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        if free.available_permits() > 0 {
            crowded.worked();
        } else if crowded.failed() {
            tracing::warn!(connections, "all connections are taken; others wait");
        }
        let next = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&free)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            io::Result::Ok((stream, permit))
        };
        let accepted = tokio::select! {
            () = &mut stop => return,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, permit)) => serve(stream, permit),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that breaks, or speaks no HTTP, ends alone; its peer is told by HTTP/2's own means.
fn spawn<E: std::fmt::Display>(
    connection: impl Future<Output = Result<(), E>> + Send + 'static,
    permit: OwnedSemaphorePermit,
) {
    tokio::spawn(async move {
        let _open = permit;
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
