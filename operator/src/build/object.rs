//! The kinds that are built, and an object as it should be.

use kube::Resource;
use kube::api::ApiResource;
use serde::Serialize;
use serde_json::Value;

use super::{APPLIED, hash, target};
use crate::api::common::KeyRef;

/// The kinds that are built, in the order in which they are applied: what others need first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Who a pod is to the cluster.
    ServiceAccount,
    /// A node's settings.
    ConfigMap,
    /// Who may reach which port.
    NetworkPolicy,
    /// Where a role is reached.
    Service,
    /// How many pods may be away at once.
    PodDisruptionBudget,
    /// A migration.
    Job,
    /// Central and regional nodes.
    Deployment,
    /// Edges.
    StatefulSet,
}

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::ServiceAccount,
        Self::ConfigMap,
        Self::NetworkPolicy,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::Job,
        Self::Deployment,
        Self::StatefulSet,
    ];

    /// Whether pods are made of it.
    #[must_use]
    pub fn has_pods(self) -> bool {
        matches!(self, Self::Job | Self::Deployment | Self::StatefulSet)
    }

    /// As the API server knows it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        use k8s_openapi::api::{apps, batch, core, networking, policy};
        fn of<K: Resource<DynamicType = ()>>() -> ApiResource {
            ApiResource::erase::<K>(&())
        }
        match self {
            Self::ServiceAccount => of::<core::v1::ServiceAccount>(),
            Self::ConfigMap => of::<core::v1::ConfigMap>(),
            Self::NetworkPolicy => of::<networking::v1::NetworkPolicy>(),
            Self::Service => of::<core::v1::Service>(),
            Self::PodDisruptionBudget => of::<policy::v1::PodDisruptionBudget>(),
            Self::Job => of::<batch::v1::Job>(),
            Self::Deployment => of::<apps::v1::Deployment>(),
            Self::StatefulSet => of::<apps::v1::StatefulSet>(),
        }
    }
}

/// An object as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// All of it, with [`APPLIED`].
    pub body: Value,
    /// The Job that must have succeeded before this is applied.
    pub after: Option<String>,
    /// The values of Secrets that its pods do not start without.
    pub needs: Vec<KeyRef>,
}

impl Object {
    pub(super) fn new<K: Serialize>(kind: Kind, object: &K) -> Self {
        // Every type here writes itself as a JSON object; if one did not, the API server would refuse the null.
        let mut body = serde_json::to_value(object).unwrap_or_default();
        stamp(&mut body);
        let name = body
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        Self {
            kind,
            name,
            body,
            after: None,
            needs: Vec::new(),
        }
    }

    /// Puts another value where `place` points to.
    pub(crate) fn change(&mut self, place: &str, value: Value) {
        if let Some(part) = self.body.pointer_mut(place) {
            *part = value;
            stamp(&mut self.body);
        }
    }

    /// The part of what was asked for that this is of, as [`target`] says.
    #[must_use]
    pub fn target(&self) -> Option<String> {
        target(|label| {
            let labels = self.body.pointer("/metadata/labels")?;
            labels.get(label)?.as_str()
        })
    }

    pub(super) fn needs<'a>(mut self, secrets: impl IntoIterator<Item = &'a KeyRef>) -> Self {
        self.needs = secrets.into_iter().cloned().collect();
        self
    }

    pub(super) fn after(mut self, job: &str) -> Self {
        self.after = Some(job.to_owned());
        self
    }
}

/// Writes a hash of an object into it.
fn stamp(body: &mut Value) {
    let hash = hash(&body.to_string());
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata
            .entry("annotations")
            .or_insert_with(|| Value::Object(Default::default()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(APPLIED.to_owned(), Value::String(hash));
        }
    }
}
