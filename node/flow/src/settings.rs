//! How a process records, and what begins a flow.

use std::net::IpAddr;
use std::time::Duration;

/// How a process records.
#[derive(Debug, Clone)]
pub struct RecorderSettings {
    /// Whether it records from the start.
    pub enabled: bool,
    /// Events that wait to be written at most.
    pub capacity: usize,
    /// Bytes of them at most.
    pub max_bytes: usize,
    /// Events that are written at once at most.
    pub batch: usize,
    /// How long an event may wait for others to be written with it. One that somebody waits for does not.
    pub flush_interval: Duration,
    /// How long a flow's beginning may take to be stored.
    pub start_timeout: Duration,
    /// What holds for a store of which nothing else is set.
    pub stores: StoreSettings,
}

impl Default for RecorderSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            capacity: 65_536,
            max_bytes: 64 * 1024 * 1024,
            batch: 2_000,
            flush_interval: Duration::from_millis(100),
            start_timeout: Duration::from_secs(2),
            stores: StoreSettings::default(),
        }
    }
}

/// How a store's flows are recorded and kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StoreSettings {
    /// Whether they are.
    pub enabled: bool,
    /// The share of decisions that is recorded: 0 for none, 1 for all.
    pub sampling: f64,
    /// How long flows are kept.
    pub retention: Duration,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            sampling: 1.0,
            retention: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }
}

/// What is set of one store; the rest is as for all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overrides {
    /// Whether its flows are recorded.
    pub enabled: Option<bool>,
    /// The share of its decisions that is recorded.
    pub sampling: Option<f64>,
    /// How long its flows are kept.
    pub retention: Option<Duration>,
}

impl Overrides {
    /// These settings with what is set in place of theirs.
    #[must_use]
    pub fn over(&self, settings: StoreSettings) -> StoreSettings {
        StoreSettings {
            enabled: self.enabled.unwrap_or(settings.enabled),
            sampling: self.sampling.unwrap_or(settings.sampling),
            retention: self.retention.unwrap_or(settings.retention),
        }
    }
}

/// How a flow begins.
#[derive(Debug, Clone, Default)]
pub struct StartFlow {
    /// The client by which it comes.
    pub client_id: Option<String>,
    /// By what it shows who it is.
    pub grant_type: Option<String>,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
}

/// Why there is no flow to refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// Nothing is recorded, in this process or of this store.
    #[error("flows are not recorded here")]
    Disabled,
    /// There is no room for it.
    #[error("the flow recorder has no room left")]
    Full,
    /// It was not stored in time; the database may be away.
    #[error("the flow was not stored in time")]
    Late,
    /// It was refused, or the process stops.
    #[error("the flow could not be stored")]
    Refused,
}
