//! The measured process: one edge with everything it has on the way of a request, and two empty calls to compare with.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use async_trait::async_trait;
use futures::StreamExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meridian_model::ports::StoreHead;
use meridian_model::{Epoch, Position, StoreId, Timestamp, Tuple};
use meridian_proto::meridian::v1 as wire;
use meridian_proto::meridian::v1::admin_service_server::{AdminService, AdminServiceServer};
use meridian_server::answers::Answers;
use meridian_server::api::grpc::{Grpc, common_services};
use meridian_server::api::{Api, serve};
use meridian_server::calls::ServedBy;
use meridian_server::config::Config;
use meridian_server::limits::Limits;
use meridian_server::peer::Peers;
use meridian_server::routing::Upwards;
use meridian_server::routing::edge::{Edge, Parts};
use meridian_sync::edge_driver::{DriverSettings, EdgeDriver};
use meridian_sync::envelope::{Heartbeat, Record};
use meridian_sync::kafka::broadcast::Event;
use meridian_sync::upstream::{Changes, Incoming, Result, Standing, Upstream};
use meridian_sync::views::Views;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use meridian_bench::data::{Data, TYPES};

/// The edge's name in `meridian-served-by`.
pub(crate) const NAME: &str = "edge/bench";
/// Path of the empty call.
pub(crate) const EMPTY: &str = "/meridian.v1.AdminService/GetTiers";
/// Threads that serve. One, so that another processor is left to those who ask.
const THREADS: usize = 1;
/// Partitions of the topic, as many as a node has by default.
const PARTITIONS: usize = 8;
/// How often each brings a heartbeat.
const BEAT: Duration = Duration::from_millis(500);
/// How long the edge may take to hold its store.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Serves a store of `size` tuples, says on standard output where, and ends with standard input.
pub(crate) fn run(size: usize) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?;
    // As in production: without a recorder, metrics would cost nothing.
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder()?;
    let (empty, edge) = runtime.block_on(start(Data::of(size)?))?;
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            recorder.run_upkeep();
        }
    });
    println!("{empty} {edge}");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    runtime.shutdown_background();
    Ok(())
}

/// Starts serving; where the bare empty call and the edge listen.
async fn start(data: Data) -> anyhow::Result<(std::net::SocketAddr, std::net::SocketAddr)> {
    let store = data.head.info.id;
    let tuples = data.tuples.len();
    let views = held(Arc::new(Above(data))).await?;
    let shown = views
        .get(store)
        .context("the edge does not hold the store")?;
    anyhow::ensure!(
        shown.view.tuple_count() == tuples,
        "the edge holds {} of {tuples} tuples",
        shown.view.tuple_count()
    );

    let config = Config::default();
    let name = ServedBy::new(NAME)?;
    let edge = Edge::new(Parts {
        views,
        // No answer is kept, and there is nobody to ask: what the edge cannot decide itself is an error.
        answers: Arc::new(Answers::new(0, Duration::ZERO)),
        upwards: Upwards::new(Peers::new(&[])?),
        name: name.clone(),
        limits: config.limits,
        max_staleness: config.edge.max_staleness,
        revision_wait: config.edge.revision_wait,
    });
    let api = Arc::new(Api::new(Arc::new(edge), name, config.limits));
    let (mut services, _) = common_services().await?;
    services.add_service(AdminServiceServer::new(Empty));
    let grpc = Arc::new(Grpc::new(api, services));
    let (empty_listener, edge_listener) = (listener().await?, listener().await?);
    let addresses = (empty_listener.local_addr()?, edge_listener.local_addr()?);
    let drain = serve::Drain(Duration::ZERO);
    tokio::spawn(serve::grpc(
        grpc,
        edge_listener,
        std::future::pending(),
        drain,
        Limits::default(),
    ));
    tokio::spawn(serve_empty(empty_listener));
    Ok(addresses)
}

async fn listener() -> anyhow::Result<TcpListener> {
    Ok(serve::bind(([127, 0, 0, 1], 0).into()).await?)
}

/// An edge's views, filled and kept fresh by the task that does so in production.
async fn held(above: Arc<Above>) -> anyhow::Result<Arc<Views>> {
    let (beginning, epoch) = (Instant::now(), above.0.head.position.epoch);
    let views = Arc::new(Views::new(beginning, None));
    let driver = EdgeDriver {
        upstream: above,
        views: Arc::clone(&views),
        kept: Vec::new(),
        settings: DriverSettings::default(),
        start: beginning,
    };
    let (topic, events) = mpsc::channel(1);
    tokio::spawn(beat(epoch, topic));
    tokio::spawn(driver.run(events, CancellationToken::new()));
    tokio::time::timeout(READY_WITHIN, views.fresh())
        .await
        .context("the edge did not get hold of its store")?;
    Ok(views)
}

/// What the topic brings: a heartbeat on each partition, again and again.
async fn beat(epoch: Epoch, topic: mpsc::Sender<Event>) {
    let partitions = PARTITIONS;
    let mut event = Event::Reset { partitions };
    let mut next = (0..partitions).cycle();
    while topic.send(event).await.is_ok() {
        let partition = next.next().unwrap_or_default();
        if partition == 0 {
            tokio::time::sleep(BEAT).await;
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let clock = i64::try_from(now.unwrap_or_default().as_micros()).unwrap_or(i64::MAX);
        let clock = Timestamp(clock);
        event = Event::Record {
            partition,
            record: Box::new(Record::Heartbeat(Heartbeat {
                epoch,
                clock,
                generation: 0,
            })),
        };
    }
}

/// The node above: has the store.
struct Above(Data);

#[async_trait]
impl Upstream for Above {
    async fn positions(&self, _deadline: Instant) -> Result<Standing> {
        let head = &self.0.head;
        Ok(Standing {
            stores: vec![(head.info.id, head.position)],
            heartbeat: None,
        })
    }

    async fn changes(&self, _: StoreId, _: Position, _: u32, _: Instant) -> Result<Changes> {
        Ok(Changes {
            change_sets: Vec::new(),
            position: self.0.head.position,
        })
    }

    async fn head(&self, _: StoreId, _: Position, _: Instant) -> Result<StoreHead> {
        Ok(self.0.head.clone())
    }

    async fn fill(
        &self,
        _: StoreId,
        object_type: &str,
        _: Position,
        _: Duration,
    ) -> Result<(Position, Vec<Tuple>)> {
        Ok((self.0.head.position, self.0.of_type(object_type)))
    }

    async fn snapshot(&self, _: StoreId, _: Position, _: Duration) -> Result<Incoming> {
        let tuples = TYPES.iter().flat_map(|name| self.0.of_type(name)).collect();
        Ok(Incoming {
            head: self.0.head.clone(),
            tuples: futures::stream::iter([Ok(tuples)]).boxed(),
        })
    }
}

/// Answers nothing to nothing.
#[derive(Clone, Copy)]
struct Empty;

#[async_trait]
impl AdminService for Empty {
    async fn assign_tiers(
        &self,
        _: Request<wire::AssignTiersRequest>,
    ) -> std::result::Result<Response<wire::AssignTiersResponse>, Status> {
        Err(Status::unimplemented("not part of the benchmark"))
    }

    async fn get_tiers(
        &self,
        _: Request<wire::GetTiersRequest>,
    ) -> std::result::Result<Response<wire::GetTiersResponse>, Status> {
        Ok(Response::new(wire::GetTiersResponse::default()))
    }

    async fn get_status(
        &self,
        _: Request<wire::GetStatusRequest>,
    ) -> std::result::Result<Response<wire::GetStatusResponse>, Status> {
        Err(Status::unimplemented("not part of the benchmark"))
    }
}

/// The empty call with nothing around it: the transport as the edge sets it up, tonic's codec, no router, no layer.
async fn serve_empty(listener: TcpListener) {
    let builder = serve::http2(TokioExecutor::new(), &Limits::default());
    while let Ok((stream, _)) = listener.accept().await {
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let service = service_fn(async |request| {
            let call = tower::service_fn(async |request| Empty.get_tiers(request).await);
            let codec = ProstCodec::<wire::GetTiersResponse, wire::GetTiersRequest>::default();
            Ok::<_, Infallible>(tonic::server::Grpc::new(codec).unary(call, request).await)
        });
        tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
    }
}
