//! Listening: connections in, until told to stop; then those that are open may finish what they are doing.

mod turns;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use metrics::{describe_gauge, gauge};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::grpc::Grpc;
use crate::limits::Limits;
use crate::outage::Outage;
use crate::telemetry::Counted;
use crate::tls::Identity;
use turns::{Together, Turns};

const CONNECTIONS: &str = "meridian_connections";

/// How long connections may go on after the stop.
#[derive(Debug, Clone, Copy)]
pub struct Drain(pub Duration);

/// How often a silent HTTP/2 connection is asked whether it still lives, and how long it has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long an HTTP/1 client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept: it fails mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port to serve on, with the certificate by which it speaks TLS, if it does.
pub struct Port {
    listener: TcpListener,
    tls: Option<Arc<Identity>>,
}

impl Port {
    /// Serves on `listener`, with TLS where there is an identity.
    pub fn new(listener: TcpListener, tls: Option<Arc<Identity>>) -> Self {
        Self { listener, tls }
    }
}

impl From<TcpListener> for Port {
    fn from(listener: TcpListener) -> Self {
        Self::new(listener, None)
    }
}

/// A connection's bytes.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// What is done with a connection. The watcher tells it when to stop, and holds up the drain until it is dropped.
trait Serve: Clone + Send + 'static {
    /// What it is called in metrics.
    const TRANSPORT: &'static str;
    /// Bytes that the system may hold for a client before they are on their way; its own measure unless set.
    const UNSENT: Option<u32> = None;

    fn serve(
        self,
        io: impl Io,
        peer: SocketAddr,
        watcher: Watcher,
    ) -> impl Future<Output = ()> + Send;
}

/// Serves gRPC (HTTP/2 with prior knowledge, or by TLS) until `stop`, then drains.
pub async fn grpc(
    grpc: Arc<Grpc>,
    port: impl Into<Port>,
    stop: impl Future<Output = ()> + Send,
    drain: Drain,
    limits: Limits,
) {
    listen(
        port.into(),
        stop,
        drain,
        limits,
        GrpcConnection { grpc, limits },
    )
    .await;
}

#[derive(Clone)]
struct GrpcConnection {
    grpc: Arc<Grpc>,
    limits: Limits,
}

impl Serve for GrpcConnection {
    const TRANSPORT: &'static str = "grpc";

    async fn serve(self, io: impl Io, peer: SocketAddr, watcher: Watcher) {
        let grpc = self.grpc;
        let service = service_fn(move |mut request: http::Request<_>| {
            let grpc = Arc::clone(&grpc);
            if grpc.is_recorded() {
                request.extensions_mut().insert(ConnectInfo(peer));
            }
            async move { Ok::<_, std::convert::Infallible>(grpc.handle(request).await) }
        });
        let turns = Turns::default();
        let connection =
            http2(turns.clone(), &self.limits).serve_connection(TokioIo::new(io), service);
        ended(Together::new(watcher.watch(connection), turns).await);
    }
}

/// Serves the gRPC services of `router` (HTTP/2 with prior knowledge, or by TLS) until `stop`, then drains.
pub async fn services(
    router: axum::Router,
    port: impl Into<Port>,
    stop: impl Future<Output = ()> + Send,
    drain: Drain,
    limits: Limits,
) {
    listen(
        port.into(),
        stop,
        drain,
        limits,
        ServicesConnection { router, limits },
    )
    .await;
}

#[derive(Clone)]
struct ServicesConnection {
    router: axum::Router,
    limits: Limits,
}

impl Serve for ServicesConnection {
    const TRANSPORT: &'static str = "nodes";

    async fn serve(self, io: impl Io, _: SocketAddr, watcher: Watcher) {
        let service = TowerToHyperService::new(self.router);
        let connection =
            http2(TokioExecutor::new(), &self.limits).serve_connection(TokioIo::new(io), service);
        ended(watcher.watch(connection).await);
    }
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
    port: impl Into<Port>,
    stop: impl Future<Output = ()> + Send,
    drain: Drain,
    limits: Limits,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
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
    listen(
        port.into(),
        stop,
        drain,
        limits,
        HttpConnection { router, builder },
    )
    .await;
}

#[derive(Clone)]
struct HttpConnection {
    router: axum::Router,
    builder: auto::Builder<TokioExecutor>,
}

impl Serve for HttpConnection {
    const TRANSPORT: &'static str = "http";
    /// What was handed over cannot be held back any longer, when a viewer of the live channel may not see it now.
    const UNSENT: Option<u32> = Some(16 * 1024);

    async fn serve(self, io: impl Io, peer: SocketAddr, watcher: Watcher) {
        let router = self.router;
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            tower::Service::call(&mut router.clone(), request)
        });
        let io = TokioIo::new(io);
        // Sockets of the live channel begin as requests; from their upgrade on they are counted and ended there.
        let connection = self.builder.serve_connection_with_upgrades(io, service);
        ended(watcher.watch(connection.into_owned()).await);
    }
}

/// Serves each connection in a task of its own until `stop`, then lets those that are open finish.
async fn listen<S: Serve>(
    Port { listener, tls }: Port,
    stop: impl Future<Output = ()>,
    drain: Drain,
    limits: Limits,
    connection: S,
) {
    describe_gauge!(CONNECTIONS, "Open connections, by transport");
    let open = gauge!(CONNECTIONS, "transport" => S::TRANSPORT);
    let connections = GracefulShutdown::new();
    accept(
        listener,
        stop,
        limits.connections,
        |stream, peer, permit| {
            if let Some(bytes) = S::UNSENT {
                hold_at_most(&stream, bytes);
            }
            let (connection, watcher) = (connection.clone(), connections.watcher());
            let tls = tls.clone();
            let open = Counted::new(&open);
            tokio::spawn(async move {
                let _open = (permit, open);
                match tls {
                    None => connection.serve(stream, peer, watcher).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => connection.serve(stream, peer, watcher).await,
                        Err(error) => tracing::debug!(%error, "no TLS with a client"),
                    },
                }
            });
        },
    )
    .await;
    finish(connections, drain).await;
}

/// Has the system take no more for a client than it can send now, and so many bytes. What its socket cannot do, it need not.
fn hold_at_most(stream: &TcpStream, bytes: u32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_notsent_lowat(bytes) {
        tracing::debug!(%error, "the system holds what it likes for a client");
    }
    #[cfg(not(target_os = "linux"))]
    let _unused = (stream, bytes);
}

/// Hands each connection to `serve` until `stop`.
async fn accept(
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    connections: usize,
    mut serve: impl FnMut(TcpStream, SocketAddr, OwnedSemaphorePermit),
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
            let (stream, peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            io::Result::Ok((stream, peer, permit))
        };
        let accepted = tokio::select! {
            () = &mut stop => return,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => serve(stream, peer, permit),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that breaks, or speaks no HTTP, ends alone; its peer is told by HTTP/2's own means.
fn ended<E: std::fmt::Display>(how: Result<(), E>) {
    if let Err(error) = how {
        tracing::debug!(%error, "connection ended");
    }
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
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|why| {
        io::Error::new(
            why.kind(),
            format!("cannot listen on {address}: {why}; is another program using it?"),
        )
    })
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
