//! Kubernetes events: what changed, never that a reconcile ran.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::build::MANAGER;
use crate::reconcile::read::call;

/// Longest note that Kubernetes takes.
const MAX_NOTE: usize = 1000;

/// How long an event that comes again is counted up instead of told anew; a little longer than a recorder does so.
const COUNTED: Duration = Duration::from_mins(7);

/// Where events go.
///
/// A recorder counts up an event whose reason it has told before, whatever the new note says. So each note has its own.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    recorders: Arc<Mutex<HashMap<Told, (Instant, Recorder)>>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Told {
    about: Option<String>,
    reason: String,
    note: String,
}

/// How an event is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something was done.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Events {
    /// Events of the operator with this name.
    #[must_use]
    pub fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self {
            client,
            reporter,
            recorders: Arc::default(),
        }
    }

    /// Publishes an event. Events only tell: one that cannot be published is logged and that is all.
    pub async fn publish(
        &self,
        about: &ObjectReference,
        severity: Severity,
        reason: &str,
        note: &str,
    ) {
        let note: String = note.chars().take(MAX_NOTE).collect();
        let recorder = self.recorder(Told {
            about: about.uid.clone(),
            reason: reason.to_owned(),
            note: note.clone(),
        });
        let event = Event {
            type_: match severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: reason.to_owned(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let published = call(
            || format!("publish event {reason}"),
            recorder.publish(&event, about),
        )
        .await;
        if let Err(error) = published {
            tracing::warn!(%error, "an event is lost");
        }
    }
    fn recorder(&self, told: Told) -> Recorder {
        let mut recorders = self
            .recorders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        recorders.retain(|_, (last, _)| last.elapsed() < COUNTED);
        let new = || Recorder::new(self.client.clone(), self.reporter.clone());
        let (last, recorder) = recorders
            .entry(told)
            .or_insert_with(|| (Instant::now(), new()));
        *last = Instant::now();
        recorder.clone()
    }
}
