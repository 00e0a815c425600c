//! What a node is told: by one file, its environment and its command line.
//!
//! The command line wins over Meridian's own variables, these over those of OpenFGA's server, and these over the file. This
//! is the only place that reads the environment. Every setting has the default that its documentation states; a key that
//! does not exist is an error that names it.

mod advice;
pub mod authn;
mod authzen;
mod environment;
mod file;
pub mod live;
mod openfga;
mod properties;
mod recorder;
mod rules;
mod settings;
#[cfg(test)]
mod tests;
pub mod tracing;
pub mod transport;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use meridian_store::PoolSettings;
use serde::de::{Error as _, IntoDeserializer as _};
use serde::{Deserialize, Deserializer};

use crate::commands::decisions;
use crate::limits::Limits;
pub use advice::Role;
use authn::{Authn, Nodes};
pub use authzen::AuthZen;
pub use environment::{Environment, without_empty};
pub use live::Live;
pub use openfga::Logs;
pub use recorder::Recorder;
pub(crate) use rules::is_host_port;
use transport::{Http, Tls};
pub use watch::Watch;

/// Where a node's settings come from.
#[derive(Debug, Args)]
pub struct Source {
    /// The configuration file (YAML).
    #[arg(long, env = "MERIDIAN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's name; overrides `name`.
    #[arg(long, env = "MERIDIAN_NAME")]
    name: Option<String>,
    /// URL of the datastore, which may hold a password; overrides `datastore.url`.
    #[arg(long, env = "MERIDIAN_DATASTORE_URL", hide_env_values = true)]
    datastore_url: Option<String>,
    /// URL of a read replica of the datastore; overrides `datastore.readReplicaUrl`.
    #[arg(
        long,
        env = "MERIDIAN_DATASTORE_READ_REPLICA_URL",
        hide_env_values = true
    )]
    datastore_read_replica_url: Option<String>,
    /// Kafka's bootstrap servers; overrides `kafka.bootstrap`.
    #[arg(long, env = "MERIDIAN_KAFKA_BOOTSTRAP")]
    kafka_bootstrap: Option<String>,
}

/// The settings of a node. Which of them a role reads stands at each.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// The node's name, unique among those of its role and product; shown in `meridian-served-by`. The host's unless set.
    pub name: String,
    /// The product whose stores it holds: letters, digits, `-` and `_`.
    pub product: String,
    /// The region (regional and edge): letters, digits, `-` and `_`.
    pub region: String,
    /// Where it listens.
    pub listen: Listen,
    /// The database (central and regional).
    pub datastore: Datastore,
    /// The change topics.
    pub kafka: Kafka,
    /// URLs of the nodes above, nearest first (regional and edge): their `listen.nodes` address.
    pub upstream: Vec<String>,
    /// The answers that are kept beside a database (central and regional).
    pub check_cache: CheckCache,
    /// What an edge keeps.
    pub edge: Edge,
    /// The live channel.
    pub live: Live,
    /// What is recorded of logins and decisions.
    pub recorder: Recorder,
    /// A store's changes and decisions, to those who watch it.
    pub watch: Watch,
    /// How callers show who they are.
    pub authn: Authn,
    /// What nodes show each other.
    pub nodes: Nodes,
    /// Certificates of the ports.
    pub tls: Tls,
    /// What browsers may do.
    pub http: Http,
    /// What one request may ask for.
    pub limits: Limits,
    /// Features of OpenFGA's that are off unless named: `authzen`, `inline_expressions`. Others have no effect.
    pub experimentals: Vec<String>,
    /// Where clients of AuthZEN find it.
    pub authzen: AuthZen,
    /// How long a node that is told to stop goes on taking connections and requests after its health checks have begun to
    /// say so: as long as a load balancer takes to notice.
    #[serde(with = "humantime_serde")]
    pub drain_delay: Duration,
    /// How long open requests may take to finish after that.
    #[serde(with = "humantime_serde")]
    pub shutdown_timeout: Duration,
}

/// Where a node listens.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// OpenFGA's API on gRPC, with health and reflection.
    #[serde(deserialize_with = "address")]
    pub grpc: SocketAddr,
    /// OpenFGA's API on HTTP, with `/healthz`.
    #[serde(deserialize_with = "address")]
    pub http: SocketAddr,
    /// `meridian.v1` for the nodes below (central and regional), who show `nodes.tokens`.
    #[serde(deserialize_with = "address")]
    pub nodes: SocketAddr,
    /// Prometheus metrics at `/metrics`; not served unless set.
    #[serde(deserialize_with = "some_address")]
    pub metrics: Option<SocketAddr>,
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| {
        D::Error::custom(format_args!(
            "'{text}' is not an address to listen on: write IP:port, like 0.0.0.0:8081"
        ))
    })
}

fn some_address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    match Option::<String>::deserialize(from)? {
        Some(text) => address(text.into_deserializer()).map(Some),
        None => Ok(None),
    }
}

/// The database.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Datastore {
    /// `memory:`, `sqlite:///path/file.db?mode=rwc`, `postgres://user:password@host:port/database` or
    /// `mysql://user:password@host:port/database` (MySQL and MariaDB).
    pub url: String,
    /// A read replica of that database, which answers the reads that allow it (central); PostgreSQL, MySQL and MariaDB.
    pub read_replica_url: Option<String>,
    /// Connections kept open even when idle.
    pub min_connections: u32,
    /// Connections at most.
    pub max_connections: u32,
    /// Longest wait for a connection; a request's own deadline may end it sooner.
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    /// How long a connection beyond the minimum may be idle.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// How long a connection lives.
    #[serde(with = "humantime_serde")]
    pub max_lifetime: Duration,
    /// How long changes are kept for ReadChanges and for nodes below that were away; for ever unless set. A node away for
    /// longer starts over from a snapshot.
    #[serde(with = "humantime_serde")]
    pub changelog_retention: Option<Duration>,
}

/// The change topics.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    pub bootstrap: String,
    /// First part of every topic's name.
    pub topic_prefix: String,
    /// Partitions of a topic, fixed when it is made.
    pub partitions: u16,
    /// Copies of a topic.
    pub replication_factor: u16,
    /// Further settings of the client (librdkafka's names), like `security.protocol`.
    pub properties: BTreeMap<String, String>,
    /// A file of more of them, one `name=value` a line, which win over `properties`: what is secret comes by it.
    pub properties_file: Option<PathBuf>,
}

/// The answers of checks that a node with a database keeps.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CheckCache {
    /// Answers kept at most; 0 for none.
    pub max_answers: u64,
    /// How long an answer is kept at most.
    #[serde(with = "humantime_serde")]
    pub answer_max_age: Duration,
    /// How old what the node knows of a store's changes may be when it takes a kept answer. With 0 it reads up to where the
    /// store stands each time, and so never takes one that has changed.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
}

/// What an edge keeps, and how far it trusts it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Edge {
    /// Folder of the snapshot files; without it an edge starts empty every time.
    pub directory: Option<PathBuf>,
    /// How often changed views are written there. They are also written at shutdown.
    #[serde(with = "humantime_serde")]
    pub snapshot_interval: Duration,
    /// Age of its knowledge beyond which an edge no longer answers from it but asks upstream.
    #[serde(with = "humantime_serde")]
    pub max_staleness: Duration,
    /// How long an answer from upstream is kept at most.
    #[serde(with = "humantime_serde")]
    pub answer_max_age: Duration,
    /// Answers kept at most.
    pub max_answers: u64,
    /// How long a check waits for a revision that this edge has already shown somebody, before it goes upstream.
    #[serde(with = "humantime_serde")]
    pub revision_wait: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: host_name(),
            product: "default".into(),
            region: "default".into(),
            listen: Listen::default(),
            datastore: Datastore::default(),
            kafka: Kafka::default(),
            upstream: Vec::new(),
            check_cache: CheckCache::default(),
            edge: Edge::default(),
            live: Live::default(),
            recorder: Recorder::default(),
            watch: Watch::default(),
            authn: Authn::default(),
            nodes: Nodes::default(),
            tls: Tls::default(),
            http: Http::default(),
            limits: Limits::default(),
            experimentals: Vec::new(),
            authzen: AuthZen::default(),
            drain_delay: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

fn host_name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

impl Default for Listen {
    fn default() -> Self {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Self {
            grpc: any(8081),
            http: any(8080),
            nodes: any(8082),
            metrics: None,
        }
    }
}

impl Default for Datastore {
    fn default() -> Self {
        let pool = PoolSettings::default();
        Self {
            url: "sqlite://meridian.db?mode=rwc".into(),
            read_replica_url: None,
            min_connections: pool.min_connections,
            max_connections: pool.max_connections,
            acquire_timeout: pool.acquire_timeout,
            idle_timeout: pool.idle_timeout,
            max_lifetime: pool.max_lifetime,
            changelog_retention: None,
        }
    }
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            bootstrap: "localhost:9092".into(),
            topic_prefix: "meridian".into(),
            partitions: 8,
            replication_factor: 1,
            properties: BTreeMap::new(),
            properties_file: None,
        }
    }
}

impl Default for CheckCache {
    fn default() -> Self {
        let decisions::Settings {
            max_answers,
            max_age: answer_max_age,
            window,
        } = decisions::Settings::default();
        Self {
            max_answers,
            answer_max_age,
            window,
        }
    }
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            directory: None,
            snapshot_interval: Duration::from_secs(60),
            max_staleness: Duration::from_secs(10),
            answer_max_age: Duration::from_secs(300),
            max_answers: 100_000,
            revision_wait: Duration::from_millis(20),
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {0} {1}")]
    Unreadable(&'static str, PathBuf, #[source] std::io::Error),
    /// The file is not valid.
    #[error("the configuration file {0} is not valid: {1}")]
    Invalid(PathBuf, String),
    /// A line of `kafka.propertiesFile` is not valid. The line itself is not shown: it may hold a secret.
    #[error("kafka.propertiesFile {file}, line {line}: {what}")]
    Property {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A setting is out of its range.
    #[error("{setting} is '{value}': {remedy}")]
    Setting {
        /// Its path in the file.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        remedy: String,
    },
    /// A variable of the environment is not valid. Its value is not shown: it may be a secret.
    #[error("the environment's {name} is not valid: {what}")]
    Variable {
        /// The variable.
        name: String,
        /// What it must be.
        what: String,
    },
    /// A variable that looks like one of Meridian's and is none.
    #[error(
        "the environment's {name} is none of Meridian's variables: is {nearest} meant? If it is of something else, have it not reach this process"
    )]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The one that is written most like it.
        nearest: String,
    },
}

impl Source {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file, the variable or the setting, and what to do.
    pub fn load(&self, environment: &Environment) -> Result<Config, ConfigError> {
        let mut config = self
            .config
            .as_deref()
            .map_or_else(|| Ok(Config::default()), file::read)?;
        environment.check_names()?;
        openfga::apply(environment, &mut config)?;
        environment.apply(&mut config)?;
        if let Some(name) = &self.name {
            config.name.clone_from(name);
        }
        if let Some(url) = &self.datastore_url {
            config.datastore.url.clone_from(url);
        }
        if let Some(url) = &self.datastore_read_replica_url {
            config.datastore.read_replica_url = Some(url.clone());
        }
        if let Some(bootstrap) = &self.kafka_bootstrap {
            config.kafka.bootstrap.clone_from(bootstrap);
        }
        if let Some(file) = &config.kafka.properties_file {
            config.kafka.properties.extend(properties::read(file)?);
        }
        let keys = &mut config.authn.preshared;
        keys.keys
            .add_file("authn.preshared.keysFile", keys.keys_file.as_deref())?;
        let nodes = &mut config.nodes;
        nodes
            .tokens
            .add_file("nodes.tokensFile", nodes.tokens_file.as_deref())?;
        config.limits.inline_expressions = config
            .experimentals
            .iter()
            .any(|name| name == openfga::INLINE_EXPRESSIONS);
        config.check()?;
        Ok(config)
    }
}

impl Config {
    /// How a node with a database keeps the answers of checks.
    pub fn decision_settings(&self) -> decisions::Settings {
        decisions::Settings {
            max_answers: self.check_cache.max_answers,
            max_age: self.check_cache.answer_max_age,
            window: self.check_cache.window,
        }
    }

    /// The database's settings as its adapter takes them.
    pub fn datastore_settings(&self) -> meridian_store::DatastoreSettings {
        let Datastore {
            url,
            min_connections,
            max_connections,
            acquire_timeout,
            idle_timeout,
            max_lifetime,
            ..
        } = self.datastore.clone();
        let pool = PoolSettings {
            min_connections,
            max_connections,
            acquire_timeout,
            idle_timeout,
            max_lifetime,
            ..PoolSettings::default()
        };
        meridian_store::DatastoreSettings { url, pool }
    }

    /// The read replica's settings, if there is one. Who waits for it could have asked the primary, so it has not long.
    pub fn read_replica_settings(&self) -> Option<meridian_store::DatastoreSettings> {
        const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(500);
        let url = self.datastore.read_replica_url.clone()?;
        let pool = self.datastore_settings().pool;
        let pool = PoolSettings {
            acquire_timeout: pool.acquire_timeout.min(ACQUIRE_TIMEOUT),
            ..pool
        };
        Some(meridian_store::DatastoreSettings { url, pool })
    }
}
