//! `/watch`: a store's changes, and the decisions of this node, to whoever may call the API. A plane of its own: the live channel
//! carries records to users, this what happens to a store to those who run it.
//!
//! Changes come from the change log, which is complete and in order; decisions from the flow recorder, and may be lost.
//! Nobody here is waited for: neither a write nor a check knows whether anybody watches.

mod admission;
mod asked;
pub mod feed;
mod frames;
mod meters;
mod session;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, StatusCode, Uri};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use meridian_flow::FlowRecorder;
use meridian_live_channel::sockets::BUFFER;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::http::error;
use crate::authn::Authenticator;
use crate::following::Following;
use crate::proxies::Proxies;
use admission::{Places, Refused};
use frames::PROTOCOL;
use meters::Meters;

const PATH: &str = "/watch";
/// Bytes of a watcher's message: tokens are the longest.
const MESSAGE: usize = 64 * 1024;
/// Watchers that the change log is read for at a time: the rest of the node needs the database too.
const READS: usize = 4;

/// How `/watch` behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's name, as watchers see it.
    pub node: String,
    /// Origins whose pages may connect, in which one `*` stands for anything.
    pub origins: Vec<String>,
    /// Who is believed whose a connection is.
    pub proxies: Proxies,
    /// Watchers at most.
    pub connections: usize,
    /// Decisions that wait for a watcher at most.
    pub decisions: usize,
    /// How long a watcher has to show its token.
    pub hello_timeout: Duration,
    /// Silence, after which a watcher is asked whether it lives; how often it is told how far it has come.
    pub ping_interval: Duration,
    /// Silence, after which it is taken to be gone.
    pub idle_timeout: Duration,
}

/// The endpoint of a node.
pub struct Watch {
    following: Arc<Following>,
    recorder: FlowRecorder,
    authenticator: Arc<Authenticator>,
    settings: Settings,
    stop: CancellationToken,
    sockets: TaskTracker,
    places: Places,
    reads: Semaphore,
    meters: Meters,
}

impl Watch {
    /// An endpoint for what `following` reads and `recorder` records. When `stop` is told, every watcher is closed and no other
    /// let in.
    pub fn new(
        following: Arc<Following>,
        recorder: FlowRecorder,
        authenticator: Arc<Authenticator>,
        settings: Settings,
        stop: CancellationToken,
    ) -> Self {
        Self {
            following,
            recorder,
            authenticator,
            settings,
            stop,
            sockets: TaskTracker::new(),
            places: Places::default(),
            reads: Semaphore::new(READS),
            meters: Meters::new(),
        }
    }

    /// The route.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().route(PATH, get(connect)).with_state(self)
    }

    /// Waits until the last watcher is gone.
    pub async fn closed(&self) {
        self.sockets.close();
        self.sockets.wait().await;
    }
}

/// The route of a node that has no change log, which says where there is one.
pub fn elsewhere(product: &str, region: &str) -> Router {
    let message = format!(
        "an edge keeps no change log: connect to {PATH} of a regional node of region '{region}', or of a central node, of product '{product}'"
    );
    let refused = async move || error(StatusCode::MISDIRECTED_REQUEST, "watch_elsewhere", &message);
    Router::new().route(PATH, get(refused))
}

async fn connect(
    State(watch): State<Arc<Watch>>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let peer = peer.map(|Extension(ConnectInfo(peer))| peer.ip());
    match watch.admit(peer, &uri, &headers).await {
        Ok((asked, guest)) => {
            let upgrade = upgrade
                .protocols([PROTOCOL])
                .read_buffer_size(BUFFER)
                .write_buffer_size(BUFFER)
                .max_message_size(MESSAGE)
                .max_frame_size(MESSAGE);
            let counted = watch.sockets.token();
            upgrade.on_upgrade(async move |socket: WebSocket| {
                let _counted = counted;
                session::run(watch, socket, asked, guest).await;
            })
        }
        Err(Refused(status, code, message)) => {
            watch.meters.refused(code);
            error(status, code, &message)
        }
    }
}
