//! The measured node and its databases.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use meridian_bench::nodes::{Addresses, start_node};
use meridian_e2e::{Kafka, Postgres, Process, Workdir};
use meridian_proto::meridian::v1::SetRecorderRequest;
use meridian_proto::meridian::v1::flow_service_client::FlowServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A central node with a datastore, and another for flows.
pub(crate) struct Central {
    pub(crate) addresses: Addresses,
    pub(crate) flows: Postgres,
    process: Process,
    _datastore: Postgres,
    _kafka: Kafka,
    _dir: Workdir,
}

/// Events of the recorder so far.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) written: f64,
    pub(crate) dropped: f64,
    /// Bytes that wait.
    pub(crate) waiting: f64,
}

impl Central {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let (datastore, flows, kafka) =
            tokio::try_join!(Postgres::start(), Postgres::start(), Kafka::start())?;
        let dir = Workdir::new("bench")?;
        // Nothing is kept of answers: each is decided from PostgreSQL.
        let more = format!(
            "datastore: {{url: \"{}\", maxConnections: 30}}
checkCache: {{maxAnswers: 0}}
recorder: {{enabled: true, url: \"{}\"}}",
            datastore.url(),
            flows.url()
        );
        let (addresses, process) = start_node(&dir, &kafka.bootstrap(), "central", &more).await?;
        Ok(Self {
            addresses,
            flows,
            process,
            _datastore: datastore,
            _kafka: kafka,
            _dir: dir,
        })
    }

    /// The node's process.
    pub(crate) fn process(&self) -> u32 {
        self.process.id().unwrap_or_default()
    }

    /// Turns the process's recorder on or off.
    pub(crate) async fn switch(&self, store: &str, on: bool) -> anyhow::Result<()> {
        let mut client =
            FlowServiceClient::connect(format!("http://{}", self.addresses.grpc)).await?;
        let request = SetRecorderRequest {
            store_id: store.to_owned(),
            process_enabled: Some(on),
            ..Default::default()
        };
        client.set_recorder(request).await?;
        Ok(())
    }

    /// Waits until nothing waits to be written.
    pub(crate) async fn until_written(&self, limit: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.events().await?.waiting > 0.0 {
            ensure!(start.elapsed() < limit, "not written within {limit:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// What the node's metrics say.
    pub(crate) async fn events(&self) -> anyhow::Result<Events> {
        let mut stream = TcpStream::connect(self.addresses.metrics).await?;
        let request = "GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let sum = |name: &str| -> anyhow::Result<f64> {
            let lines = text.lines().filter(|line| line.starts_with(name));
            let values = lines.map(|line| {
                let value = line.rsplit(' ').next().context("no value")?;
                Ok(value.parse::<f64>()?)
            });
            // An empty sum of floats is -0.
            values.sum::<anyhow::Result<f64>>().map(|sum| sum + 0.0)
        };
        Ok(Events {
            written: sum("meridian_flow_events_written_total")?,
            dropped: sum("meridian_flow_events_dropped_total")?,
            waiting: sum("meridian_flow_queue_bytes")?,
        })
    }
}
