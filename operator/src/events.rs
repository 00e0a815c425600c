//! Kubernetes events: what changed, never that a reconcile ran.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::build::MANAGER;
use crate::reconcile::read::call;

/// Longest note that Kubernetes takes.
const MAX_NOTE: usize = 1000;

/// Where events go.
#[derive(Clone)]
pub struct Events(Recorder);

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
        Self(Recorder::new(client, reporter))
    }

    /// Publishes an event. Events only tell: one that cannot be published is logged and that is all.
    pub async fn publish(
        &self,
        about: &ObjectReference,
        severity: Severity,
        reason: &str,
        note: &str,
    ) {
        let event = Event {
            type_: match severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: reason.to_owned(),
            note: Some(note.chars().take(MAX_NOTE).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let published = call(
            || format!("publish event {reason}"),
            self.0.publish(&event, about),
        )
        .await;
        if let Err(error) = published {
            tracing::warn!(%error, "an event is lost");
        }
    }
}
