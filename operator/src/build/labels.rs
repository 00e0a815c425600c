//! Labels: what an object belongs to.

use std::collections::BTreeMap;

use super::{CENTRAL, COMPONENT, EDGE_REGION, LIVE, MANAGED_BY, MANAGER, REGION, STORE};

/// Labels of an object, which also select its pods.
#[derive(Debug, Clone)]
pub(super) struct Labels(pub(super) BTreeMap<String, String>);

impl Labels {
    pub(super) fn new(instance: &str, store: &str) -> Self {
        let labels = [
            ("app.kubernetes.io/name", "meridian"),
            ("app.kubernetes.io/instance", instance),
            (MANAGED_BY, MANAGER),
            (STORE, store),
        ];
        Self(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into())
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        self.0.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(super) fn component(self, component: &str) -> Self {
        self.with(COMPONENT, component)
    }

    pub(super) fn region(self, region: &str) -> Self {
        self.with(REGION, region)
    }

    pub(super) fn edge(self, edge: &str) -> Self {
        self.with(EDGE_REGION, edge)
    }

    /// What selects the pods: the labels that do not change with a version of this operator.
    pub(super) fn selector(&self) -> BTreeMap<String, String> {
        let keys = [STORE, COMPONENT, REGION, EDGE_REGION];
        self.0
            .iter()
            .filter(|(key, _)| keys.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

/// The part of what was asked for that the object with these labels is of: central, a region, a region's live channel, or the
/// edges of a store. `None`: of all.
pub fn target<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    if label(COMPONENT)? == LIVE {
        return label(REGION).map(live_target);
    }
    let name = if label(EDGE_REGION).is_some() {
        label(STORE)?
    } else {
        label(REGION).unwrap_or(CENTRAL)
    };
    Some(name.to_owned())
}

/// The live channel's pods of a region, beside the region itself.
#[must_use]
pub fn live_target(region: &str) -> String {
    format!("{region}/{LIVE}")
}
