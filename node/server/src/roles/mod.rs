//! The roles: what each is made of, how it starts and how it stops. The only place that builds a node.
//!
//! A node listens at once and is not ready at first: databases, Kafka and the nodes above may be away, now or later. What
//! is missing is logged and tried again, and calls that need it say so.

mod brokers;
mod central;
mod edge;
mod gauges;
mod keeping;
mod live;
mod recorder;
mod regional;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use meridian_flow::FlowRecorder;
use meridian_model::ports::Datastore;
use meridian_proto::meridian::v1::admin_service_server::AdminServiceServer;
use meridian_proto::meridian::v1::flow_service_server::FlowServiceServer;
use meridian_proto::meridian::v1::node_service_server::NodeServiceServer;
use meridian_sync::kafka;
use meridian_sync::kafka::probe::Probe;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::service::interceptor::InterceptedService;
use tonic::service::{Routes, RoutesBuilder};

use crate::admin::{Admin, Tiering};
use crate::api::grpc::{Grpc, Readiness, common_services};
use crate::api::serve::{self, Drain, Port};
use crate::api::{Api, cors, http};
use crate::authn::Authenticator;
use crate::calls::{Calls, ServedBy};
use crate::commands::Local;
use crate::config::Config;
use crate::config::authn::Secrets;
use crate::config::transport::Tls;
use crate::flows::Flows;
use crate::node_service::Nodes;
use crate::peer::Peers;
use crate::peer::trust::guarded;
use crate::recording::{Guard, Recording};
use crate::routing::Own;
use crate::routing::replica::Replicated;
use crate::status::{self, Holds, NodeStatus};
use crate::telemetry::below::Observe;
use crate::tls::{H2, HTTP_1, Identity};
use gauges::{Below, Gauges, Holding};
use live::{Live, Source};
use watch::Watching;

pub use central::start as central;
pub use edge::{start as edge, start_live as live};
pub use regional::start as regional;

/// How long a node that stops goes on writing what it has recorded.
const LAST_FLOWS: Duration = Duration::from_secs(5);
/// How long it goes on explaining what it has decided.
const LAST_EXPLANATIONS: Duration = Duration::from_secs(1);

/// A node that runs.
pub struct Node {
    /// Its name, as in `meridian-served-by`.
    pub name: String,
    /// OpenFGA's API on gRPC.
    pub grpc: SocketAddr,
    /// OpenFGA's API on HTTP.
    pub http: SocketAddr,
    /// What it gives the nodes below; an edge has none.
    pub nodes: Option<SocketAddr>,
    readiness: Readiness,
    drain_delay: Duration,
    drain: CancellationToken,
    stop: CancellationToken,
    servers: JoinSet<()>,
    tasks: JoinSet<()>,
    recorder: FlowRecorder,
    recording: Arc<Recording>,
}

impl Node {
    /// Waits until the node is ready to answer.
    pub async fn ready(&self) {
        self.readiness.wait().await;
    }

    /// Stops it: health checks say so first, requests are taken on for the drain delay and may then finish, and everything
    /// else ends.
    pub async fn stop(mut self) {
        self.readiness.drain().await;
        tokio::time::sleep(self.drain_delay).await;
        self.drain.cancel();
        while self.servers.join_next().await.is_some() {}
        self.recording.finished(LAST_EXPLANATIONS).await;
        self.recorder.shutdown(LAST_FLOWS).await;
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// A node under construction: its listeners, and the tasks started so far.
struct Building {
    name: ServedBy,
    config: Config,
    authenticator: Arc<Authenticator>,
    grpc: TcpListener,
    http: TcpListener,
    nodes: Option<TcpListener>,
    tls: Identities,
    services: RoutesBuilder,
    readiness: Readiness,
    live: Option<Live>,
    watching: Watching,
    drain: CancellationToken,
    /// Of nothing, unless a role brings one.
    recorder: FlowRecorder,
    recording: Arc<Recording>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What its ports show who they are by.
struct Identities {
    grpc: Option<Arc<Identity>>,
    http: Option<Arc<Identity>>,
    nodes: Option<Arc<Identity>>,
}

impl Identities {
    fn load(tls: &Tls) -> anyhow::Result<Self> {
        let load = |setting, files, protocols: &[&[u8]]| {
            Identity::load(setting, files, protocols).context(setting)
        };
        Ok(Self {
            grpc: load("tls.grpc", &tls.grpc, &[H2])?,
            http: load("tls.http", &tls.http, &[H2, HTTP_1])?,
            nodes: load("tls.nodes", &tls.nodes, &[H2])?,
        })
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Identity>> {
        [&self.grpc, &self.http, &self.nodes].into_iter().flatten()
    }
}

/// What a node does, once it is put together.
struct Behaviour {
    calls: Arc<dyn Calls>,
    admin: Arc<Admin>,
    nodes: Option<Nodes>,
    guard: Arc<Guard>,
    flows: Arc<Flows>,
}

impl Building {
    async fn new(role: &str, config: &Config, has_nodes: bool) -> anyhow::Result<Self> {
        config.check_listen(has_nodes)?;
        if has_nodes {
            config.check_guarded()?;
        }
        let name = ServedBy::new(&format!("{role}/{}", config.name))
            .with_context(|| format!("name is '{}'", config.name))?;
        let listen = async |address: SocketAddr, setting: &'static str| {
            serve::bind(address).await.context(setting)
        };
        let (services, readiness) = common_services().await?;
        Ok(Self {
            name,
            services,
            readiness,
            authenticator: Arc::new(Authenticator::new(&config.authn, &config.nodes)?),
            tls: Identities::load(&config.tls)?,
            grpc: listen(config.listen.grpc, "listen.grpc").await?,
            http: listen(config.listen.http, "listen.http").await?,
            nodes: if has_nodes {
                Some(listen(config.listen.nodes, "listen.nodes").await?)
            } else {
                None
            },
            config: config.clone(),
            live: None,
            watching: Watching::default(),
            drain: CancellationToken::new(),
            recorder: FlowRecorder::disabled(),
            recording: Arc::new(Recording::off()),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        })
    }

    /// By which name this process, and no other, holds a lease: several may have the node's.
    fn holder(&self) -> String {
        format!("{} {}", self.name.as_str(), ulid::Ulid::generate())
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Has somebody say whether Kafka answers.
    fn watch_brokers(&mut self, kafka: &kafka::Settings, topic: String) {
        let probe = Probe::new(kafka.clone(), topic);
        let bootstrap = kafka.bootstrap_servers.clone();
        self.spawn(brokers::watch(probe, bootstrap, self.stop.clone()));
    }

    /// Has the node's figures measured, where somebody sees them.
    fn measure(&mut self, holding: Holding, below: Option<Below>) {
        if self.config.listen.metrics.is_some() {
            let gauges = Gauges {
                readiness: self.readiness.clone(),
                holding,
                below,
            };
            self.spawn(gauges.run(self.stop.clone()));
        }
    }

    fn kafka(&self) -> anyhow::Result<kafka::Settings> {
        let config = &self.config.kafka;
        let settings = kafka::Settings {
            bootstrap_servers: config.bootstrap.clone(),
            options: config.properties.clone(),
            topic_prefix: config.topic_prefix.clone(),
            product: self.config.product.clone(),
            partitions: config.partitions,
            replication: config.replication_factor,
        };
        settings.check()?;
        Ok(settings)
    }

    /// What lets flows through to the node's recorder, of the stores that `calls` finds.
    fn guard(&self, recorder: &FlowRecorder, calls: Arc<dyn Calls>) -> Arc<Guard> {
        let interval = self.config.recorder.authentication_interval;
        Arc::new(Guard::new(recorder.clone(), Some(calls), interval))
    }

    /// What answers for the node's status and tiers.
    fn admin(
        &self,
        tiering: Tiering,
        kafka: status::Kafka,
        upstream: Option<Peers>,
        holds: Holds,
    ) -> Arc<Admin> {
        let parts = status::Parts {
            name: self.name.clone(),
            readiness: self.readiness.clone(),
            kafka,
            upstream,
            holds,
        };
        Arc::new(Admin {
            tiering,
            status: NodeStatus::new(parts),
        })
    }

    /// Serves; `ready` decides when health checks say so.
    async fn serve(
        mut self,
        behaviour: Behaviour,
        ready: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<Node> {
        let Behaviour {
            calls,
            admin,
            nodes,
            guard,
            flows,
        } = behaviour;
        let limits = self.config.limits;
        let mut services = std::mem::replace(&mut self.services, Routes::builder());
        services
            .add_service(AdminServiceServer::from_arc(admin))
            .add_service(FlowServiceServer::from_arc(Arc::clone(&flows)));
        let authzen = self.config.authzen();
        if authzen.enabled && authzen.base_url.is_none() {
            tracing::warn!(
                "AuthZEN is served without its metadata document, which needs authzen.baseUrl"
            );
        }
        let method = self.config.authn.method;
        let recording = &self.config.recorder;
        let proxies = self.config.http.proxies();
        self.recorder = guard.recorder().clone();
        self.recording = Arc::new(recording.recording(guard, method, proxies, limits));
        let api = Api::new(calls, self.name.clone(), limits).with_authzen(authzen);
        let api = api.for_callers(Arc::clone(&self.authenticator));
        let api = Arc::new(api.recorded(Arc::clone(&self.recording)));
        let routes = http::flows::routes(Arc::clone(&flows), &limits);
        let mut router = http::router(Arc::clone(&api), self.readiness.clone())
            .merge(http::beside(&api, routes));
        if let Some(live) = &mut self.live {
            let publishing = std::mem::take(&mut live.publishing);
            router = router.merge(http::beside(&api, publishing));
        }
        let tokens = &self.config.nodes.tokens;
        let nodes = nodes.map(|nodes| node_services(nodes, flows, self.name.clone(), tokens));
        let api = Arc::new(Grpc::new(api, services));
        let grpc = move |port, stop, drain| serve::grpc(api, port, stop, drain, limits);
        self.listen(router, grpc, nodes, ready)
    }

    /// Serves the live channel and health, and nothing else.
    async fn serve_live(
        mut self,
        ready: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<Node> {
        let limits = self.config.limits;
        let services = std::mem::replace(&mut self.services, Routes::builder());
        let health = services.routes().prepare().into_axum_router();
        let grpc = move |port, stop, drain| serve::services(health, port, stop, drain, limits);
        let router = http::with_health(axum::Router::new(), self.readiness.clone());
        self.listen(router, grpc, None, ready)
    }

    /// Listens, and has everything run that a node needs beside.
    fn listen<F: Future<Output = ()> + Send + 'static>(
        mut self,
        mut router: axum::Router,
        grpc: impl FnOnce(Port, WaitForCancellationFutureOwned, Drain) -> F,
        nodes: Option<axum::Router>,
        ready: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<Node> {
        let addresses = (self.grpc.local_addr()?, self.http.local_addr()?);
        let (limits, patience) = (self.config.limits, Drain(self.config.shutdown_timeout));
        let drained = || self.drain.clone().cancelled_owned();
        let mut servers = JoinSet::new();
        if let Some(live) = self.live.take() {
            router = router.merge(Arc::clone(&live.server).router());
            let closed = async move { live.server.closed().await };
            servers.spawn(live::closed(
                "the live channel",
                closed,
                drained(),
                patience,
            ));
        }
        router = router.merge(self.watching.router);
        if let Some(watch) = self.watching.server {
            let closed = async move { watch.closed().await };
            servers.spawn(live::closed("/watch", closed, drained(), patience));
        }
        let router = router.layer(cors::layer(&self.config.http));
        for identity in self.tls.iter() {
            let every = self.config.tls.reload_interval;
            let follow = Arc::clone(identity).follow(every, self.stop.clone());
            self.tasks.spawn(follow);
        }
        servers.spawn(grpc(
            Port::new(self.grpc, self.tls.grpc),
            drained(),
            patience,
        ));
        servers.spawn(serve::http(
            router,
            Port::new(self.http, self.tls.http),
            drained(),
            patience,
            limits,
        ));
        let mut nodes_address = None;
        if let (Some(router), Some(listener)) = (nodes, self.nodes) {
            nodes_address = Some(listener.local_addr()?);
            servers.spawn(serve::services(
                router,
                Port::new(listener, self.tls.nodes),
                drained(),
                patience,
                limits,
            ));
        }
        let (authenticator, stop) = (Arc::clone(&self.authenticator), self.stop.clone());
        self.tasks
            .spawn(async move { authenticator.run(stop).await });
        let (set, name) = (self.readiness.clone(), self.name.clone());
        let (drained, authenticator) = (drained(), self.authenticator);
        self.tasks.spawn(async move {
            tokio::select! {
                () = drained => {}
                ((), ()) = async { tokio::join!(ready, authenticator.ready()) } => {
                    set.set(true).await;
                    tracing::info!(node = name.as_str(), "ready");
                }
            }
        });
        let name = self.name.as_str().to_owned();
        tracing::info!(node = %name, grpc = %addresses.0, http = %addresses.1, "listening");
        Ok(Node {
            name,
            grpc: addresses.0,
            http: addresses.1,
            nodes: nodes_address,
            readiness: self.readiness,
            drain_delay: self.config.drain_delay,
            drain: self.drain,
            stop: self.stop,
            servers,
            tasks: self.tasks,
            recorder: self.recorder,
            recording: self.recording,
        })
    }
}

/// What a node gives the nodes below that show one of `tokens`.
fn node_services(
    nodes: Nodes,
    flows: Arc<Flows>,
    node: ServedBy,
    tokens: &Secrets,
) -> axum::Router {
    let knows_nodes = tokens.iter().next().is_some();
    let mut services = Routes::builder();
    let flows = FlowServiceServer::from_arc(flows);
    services
        .add_service(AdminServiceServer::from_arc(Arc::clone(&nodes.admin)))
        .add_service(InterceptedService::new(flows, nodes.flows.keeps.clone()))
        .add_service(NodeServiceServer::new(nodes));
    let router = services.routes().prepare().into_axum_router();
    guarded(router.layer(Observe { node, knows_nodes }), tokens)
}

/// Opens the node's datastore. The database may be away: [`crate::schema::bring_up`] waits for it.
fn open_datastore(config: &Config) -> anyhow::Result<Arc<dyn Datastore>> {
    meridian_store::open(&config.datastore_settings()).context("datastore.url")
}

/// What answers from the node's datastore: its read replica first, if there is one.
fn own(config: &Config, local: &Arc<Local>) -> anyhow::Result<Arc<dyn Own>> {
    let Some(settings) = config.read_replica_settings() else {
        return Ok(Arc::clone(local) as _);
    };
    let datastore = meridian_store::open(&settings).context("datastore.readReplicaUrl")?;
    let replica = Local::new(
        Arc::clone(&datastore),
        local.name().clone(),
        config.limits,
        Arc::default(),
    )
    .keeping(config.decision_settings());
    Ok(Arc::new(Replicated::new(
        Arc::clone(local),
        replica,
        datastore,
    )))
}
