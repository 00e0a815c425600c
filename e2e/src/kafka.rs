//! An Apache Kafka broker of a test's own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::place::Place;
use crate::probe::Probe;
use crate::process::Process;
use crate::tools;
use crate::workdir::Workdir;

const FORMAT_DEADLINE: Duration = Duration::from_secs(60);
const START_DEADLINE: Duration = Duration::from_secs(90);

/// With the time of day, and without the lists of all settings, which would crowd out an error's log tail.
const LOGGING: [&str; 4] = [
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaConfig=warn",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn",
];

/// One Kafka process, broker and controller, on 127.0.0.1 or in a cluster's network. Topics are made only when asked for.
///
/// Its files go when it is dropped, but stay when the test fails.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    address: SocketAddr,
    dir: Workdir,
}

impl Kafka {
    /// Makes a new, empty cluster and starts it.
    ///
    /// # Errors
    ///
    /// When Kafka or Java is not there (the message says how to get it) or does not become ready in 90 seconds.
    pub async fn start() -> Result<Self> {
        Self::start_at(&Place::here()).await
    }

    pub(crate) async fn start_at(place: &Place) -> Result<Self> {
        let java = tools::java()?;
        let mut class_path = tools::kafka_libs()?.into_os_string();
        class_path.push("/*");
        let dir = Workdir::new("kafka")?;
        let address = SocketAddr::from((place.host(), place.port(9092)?));
        let controller = place.port(9093)?;
        let config = dir.write("server.properties", &properties(&dir, address, controller))?;
        let run = |name: &str, class: &str| {
            place
                .process(name, &java, dir.path())
                .args([
                    "-Xms128m",
                    "-Xmx512m",
                    "-XX:+UseSerialGC",
                    "-XX:TieredStopAtLevel=1",
                ])
                .args(LOGGING)
                .args(["-cp"])
                .args([&class_path])
                .args([class])
        };

        // Kafka wants a cluster id of 22 characters.
        let cluster = format!("meridian-e2e-{:08}A", address.port());
        let mut format = run("format", "kafka.tools.StorageTool")
            .args(["format", "--cluster-id", &cluster, "--config"])
            .args([&config]);
        format.start()?;
        format.finish(FORMAT_DEADLINE).await?;

        let process = run("kafka", "kafka.Kafka").args([&config]);
        let mut broker = Self {
            process,
            address,
            dir,
        };
        broker.start_again().await?;
        Ok(broker)
    }

    /// Starts a stopped broker on the same data and port.
    ///
    /// # Errors
    ///
    /// When it runs already, or does not become ready in 90 seconds.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process.start()?;
        self.process
            .ready(&Probe::Kafka(self.address), START_DEADLINE)
            .await
    }

    /// Stops the broker in good order.
    ///
    /// # Errors
    ///
    /// When it has not ended after 30 seconds.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop().await
    }

    /// Ends the broker with SIGKILL.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Where clients start: `<address>:<port>`. The same over restarts.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// The broker's process, for its log and for signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The folder of its data and log.
    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Lets it run on, and its files stay, when this process ends.
    pub(crate) fn leave_running(&mut self) {
        self.process.leave_running();
        self.dir.leave();
    }
}

/// Every internal topic has one replica, for there is one broker, and one partition, for a quick start. A killed broker
/// is let in again only when its last session has timed out, hence the short one.
fn properties(dir: &Workdir, address: SocketAddr, controller: u16) -> String {
    let logs = dir.path().join("data");
    let logs = logs.display();
    format!(
        "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{address}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={logs}
auto.create.topics.enable=false
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=4000
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=8388608
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
"
    )
}
