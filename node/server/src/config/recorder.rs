//! The settings of the flow recorder.

use std::sync::Arc;
use std::time::Duration;

use meridian_flow::{RecorderSettings, StoreSettings};
use serde::Deserialize;

use super::authn::Method;
use super::rules::{TOPIC_PART, is_topic_part, need};
use super::{Config, ConfigError};
use crate::limits::Limits;
use crate::proxies::Proxies;
use crate::recording::{Guard, Recording};
use crate::schema::address;

/// What is recorded of logins and decisions, and how.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Recorder {
    /// Whether anything is from the start; it can be turned on and off at any time.
    pub enabled: bool,
    /// The database that flows are kept in (central and regional): as `datastore.url`, which it is unless set. What an edge
    /// records is kept by the nodes above it.
    pub url: Option<String>,
    /// The share of decisions that is recorded where a store has no share of its own: 0 for none, 1 for all.
    pub sampling: f64,
    /// The share of recorded checks whose explanation is kept, as they were decided: 0 for none, 1 for all.
    pub explain: f64,
    /// How long flows are kept where a store has no time of its own.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    /// Events that wait to be written at most; further ones are dropped.
    pub capacity: usize,
    /// Bytes of them at most.
    pub buffer_bytes: usize,
    /// Events that are written at once at most.
    pub batch: usize,
    /// How long an event may wait for others to be written with it.
    #[serde(with = "humantime_serde")]
    pub flush_interval: Duration,
    /// How long the beginning of a flow that somebody waits for may take to be stored.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
    /// How often the same caller's showing who it is is recorded at most, for each store and address; 0 for every request.
    #[serde(with = "humantime_serde")]
    pub authentication_interval: Duration,
    /// Regions without regional nodes (central): the flows of their edges are kept here.
    pub regions: Vec<String>,
}

impl Default for Recorder {
    fn default() -> Self {
        let RecorderSettings {
            capacity,
            max_bytes: buffer_bytes,
            batch,
            flush_interval,
            start_timeout,
            stores,
            ..
        } = RecorderSettings::default();
        Self {
            enabled: false,
            url: None,
            sampling: stores.sampling,
            explain: 0.0,
            retention: stores.retention,
            capacity,
            buffer_bytes,
            batch,
            flush_interval,
            start_timeout,
            authentication_interval: Duration::from_secs(60 * 60),
            regions: Vec::new(),
        }
    }
}

impl Recorder {
    /// The settings as the recorder takes them.
    pub fn settings(&self) -> RecorderSettings {
        RecorderSettings {
            enabled: self.enabled,
            capacity: self.capacity,
            max_bytes: self.buffer_bytes,
            batch: self.batch,
            flush_interval: self.flush_interval,
            start_timeout: self.start_timeout,
            stores: StoreSettings {
                enabled: true,
                sampling: self.sampling,
                retention: self.retention,
            },
        }
    }

    /// How flows are recorded through `guard`, of requests whose callers show who they are by `method`.
    pub(crate) fn recording(
        &self,
        guard: Arc<Guard>,
        method: Method,
        proxies: Proxies,
        limits: Limits,
    ) -> Recording {
        let grant = match method {
            Method::None => "none",
            Method::Preshared => "preshared",
            Method::Oidc => "oidc",
        };
        Recording::new(guard, grant, proxies).explaining(self.explain, limits)
    }
}

impl Config {
    pub(super) fn check_recorder(&self) -> Result<(), ConfigError> {
        let recorder = &self.recorder;
        for (setting, share) in [
            ("recorder.sampling", recorder.sampling),
            ("recorder.explain", recorder.explain),
        ] {
            need(
                (0.0..=1.0).contains(&share),
                setting,
                share,
                "use a share from 0 (no decisions) to 1 (all)",
            )?;
        }
        if let Some(url) = &recorder.url {
            let checked = meridian_store::check_url(url);
            let why = checked.err().map(|why| why.to_string()).unwrap_or_default();
            need(why.is_empty(), "recorder.url", address(url), why)?;
        }
        let regions = recorder.regions.iter();
        for region in regions {
            need(
                is_topic_part(region),
                "recorder.regions",
                region,
                TOPIC_PART,
            )?;
        }
        Ok(())
    }
}
