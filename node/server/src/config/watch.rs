//! `/watch`.

use std::time::Duration;

use serde::Deserialize;

use super::rules::need;
use super::{Config, ConfigError};

/// A store's changes and decisions as they happen, over WebSockets (central and regional).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Watch {
    /// Whether this node has it.
    pub enabled: bool,
    /// Watchers at most.
    pub connections: usize,
    /// Revisions of a store that are kept for those who watch it, and so how far a watcher may fall behind.
    pub queue_changes: usize,
    /// Bytes of them.
    pub queue_bytes: usize,
    /// Decisions that wait for a watcher; what is more is lost to it.
    pub queue_decisions: usize,
    /// How long a watcher has to show its token.
    #[serde(with = "humantime_serde")]
    pub hello_timeout: Duration,
    /// Silence, after which a watcher is asked whether it lives.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// Silence, after which it is closed.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            enabled: false,
            connections: 100,
            queue_changes: 4096,
            queue_bytes: 16 * 1024 * 1024,
            queue_decisions: 1024,
            hello_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

impl Config {
    pub(super) fn check_watch(&self) -> Result<(), ConfigError> {
        let watch = &self.watch;
        need(
            watch.idle_timeout > watch.ping_interval,
            "watch.idleTimeout",
            humantime_serde::re::humantime::format_duration(watch.idle_timeout),
            "make it longer than watch.pingInterval: a watcher is asked before it is taken to be gone",
        )
    }
}
