//! The endpoint: who may connect, and how many.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Extension, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use meridian_model::StoreId;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::frames::PROTOCOL;
use crate::hub::Hub;
use crate::ports::{Authority, Observer, Origin, Tokens, Unobserved};
use crate::session::{Hello, Session};
use crate::settings::Settings;
use crate::sockets::{self, BUFFER, Counts, Taken};

/// Bytes of what a client calls itself that are looked at.
const AGENT: usize = 512;

/// The live endpoint of a node.
pub struct Server {
    pub(crate) hub: Arc<Hub>,
    pub(crate) tokens: Arc<dyn Tokens>,
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) settings: Settings,
    pub(crate) observer: Arc<dyn Observer>,
    /// Told when clients have to go to another node.
    pub(crate) stop: CancellationToken,
    sockets: TaskTracker,
    nodes: Arc<Counts<()>>,
    addresses: Arc<Counts<IpAddr>>,
    pub(crate) users: Arc<Counts<String>>,
}

impl Server {
    /// An endpoint for what `hub` has. When `stop` is told, every client is closed and no other let in.
    pub fn new(
        hub: Arc<Hub>,
        tokens: Arc<dyn Tokens>,
        authority: Arc<dyn Authority>,
        settings: Settings,
        stop: CancellationToken,
    ) -> Self {
        Self {
            hub,
            tokens,
            authority,
            settings,
            observer: Arc::new(Unobserved),
            stop,
            sockets: TaskTracker::new(),
            nodes: Arc::default(),
            addresses: Arc::default(),
            users: Arc::default(),
        }
    }

    /// The same, with `observer` told who connects.
    #[must_use]
    pub fn observed(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer, ..self }
    }

    /// The route `/live`.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().route("/live", get(connect)).with_state(self)
    }

    /// Waits until the last client is gone.
    pub async fn closed(&self) {
        self.sockets.close();
        self.sockets.wait().await;
    }
}

/// Why a connection is not upgraded.
struct Refused(StatusCode, &'static str, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, code, message) = self;
        (status, Json(json!({"code": code, "message": message}))).into_response()
    }
}

async fn connect(
    State(server): State<Arc<Server>>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let peer = peer.map(|Extension(ConnectInfo(address))| address);
    match admit(&server, peer, query.as_deref(), &headers) {
        Ok((hello, taken)) => {
            let upgrade = upgrade
                .protocols([PROTOCOL])
                .read_buffer_size(BUFFER)
                .write_buffer_size(BUFFER)
                .max_message_size(server.settings.limits.message_bytes)
                .max_frame_size(server.settings.limits.message_bytes);
            let token = server.sockets.token();
            upgrade.on_upgrade(async move |socket: WebSocket| {
                let _counted = (token, taken);
                Session::run(server, socket, hello).await;
            })
        }
        Err(refused) => {
            server.hub.meters.refused(refused.1);
            refused.into_response()
        }
    }
}

type Seats = (Taken<()>, Option<Taken<IpAddr>>);

fn admit(
    server: &Server,
    peer: Option<SocketAddr>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<(Hello, Seats), Refused> {
    let (settings, limits) = (&server.settings, server.settings.limits);
    if server.stop.is_cancelled() {
        let why = "the node stops; connect to another";
        return Err(Refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            why.into(),
        ));
    }
    if let Some(origin) = headers.get(header::ORIGIN)
        && !(settings.origins)(origin.as_bytes())
    {
        let why = "pages of this origin may not connect (live.allowedOrigins)";
        return Err(Refused(
            StatusCode::FORBIDDEN,
            "origin_not_allowed",
            why.into(),
        ));
    }
    let store = store(query, settings.store)
        .map_err(|why| Refused(StatusCode::BAD_REQUEST, "validation_error", why))?;
    if settings.shows_token && settings.store != Some(store) {
        let why =
            "the authority that decides here (live.authorityUrl) knows another store (live.store)";
        return Err(Refused(StatusCode::FORBIDDEN, "other_store", why.into()));
    }
    let crowded = |what: &str| {
        let why = format!("too many connections of this {what}; try again later");
        Refused(StatusCode::TOO_MANY_REQUESTS, "too_many_connections", why)
    };
    let node =
        Counts::take(&server.nodes, (), limits.connections).ok_or_else(|| crowded("node"))?;
    let address = peer.map(|peer| (settings.addresses)(peer.ip(), headers));
    let by_address = address.map(|address| {
        let taken = Counts::take(&server.addresses, address, limits.connections_per_address);
        taken.ok_or_else(|| crowded("address"))
    });
    let hello = Hello {
        store,
        token: sockets::token(headers),
        origin: Origin {
            address,
            agent: agent(headers),
        },
    };
    Ok((hello, (node, by_address.transpose()?)))
}

/// The store that a client names, or that of those who name none.
fn store(query: Option<&str>, default: Option<StoreId>) -> Result<StoreId, String> {
    let pairs = query.unwrap_or_default().split('&');
    let named = pairs
        .filter_map(|pair| pair.strip_prefix("store_id="))
        .next();
    match named {
        Some(id) => id.parse().map_err(|why| format!("store_id '{id}' {why}")),
        None => default.ok_or_else(|| "name a store: /live?store_id=…".to_owned()),
    }
}

/// What a client calls itself.
fn agent(headers: &HeaderMap) -> Option<String> {
    let agent = headers.get(header::USER_AGENT)?.as_bytes();
    let agent = agent.get(..AGENT).unwrap_or(agent);
    Some(String::from_utf8_lossy(agent).into_owned())
}
