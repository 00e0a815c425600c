//! Nodes that answer what they are told to.

use std::sync::Mutex;

use async_trait::async_trait;
use meridian_model::{AuthorizationModel, Tiers};
use meridian_operator::nodes::{Address, Dependency, Held, NodeError, NodeStatus, Nodes};

/// What nodes say, and what was written through them.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) stores: Vec<(String, String)>,
    pub(crate) models: Vec<(String, AuthorizationModel)>,
    pub(crate) tiers: Tiers,
    pub(crate) writes: Vec<String>,
    /// What every node says of itself, the store's models aside.
    pub(crate) status: NodeStatus,
    /// What nodes below central say, if not that.
    pub(crate) status_below: Option<NodeStatus>,
    /// Stores that nodes below still have, though central does not.
    pub(crate) kept_below: Vec<String>,
    /// The model that nodes below have, if not the latest.
    pub(crate) model_below: Option<String>,
    /// What every call but that for the status is answered with.
    pub(crate) failure: Option<NodeError>,
    /// Who was asked how it is, or to delete a store, and how they were spoken to.
    pub(crate) spoken_to: Vec<Address>,
    /// Whether what is deleted is answered too late.
    pub(crate) late: bool,
    /// Whether writes are done, and never answered.
    pub(crate) silent: bool,
}

impl Told {
    /// Lets nodes say that they reach something, or why they do not.
    pub(crate) fn reach(&mut self, name: &str, told: Result<(), &str>) {
        set_reach(&mut self.status, name, told);
    }

    /// The same of nodes below central only.
    pub(crate) fn reach_below(&mut self, name: &str, told: Result<(), &str>) {
        let below = self.status_below.get_or_insert_with(healthy);
        set_reach(below, name, told);
    }
}

fn set_reach(status: &mut NodeStatus, name: &str, told: Result<(), &str>) {
    for of in status.dependencies.iter_mut().filter(|of| of.name == name) {
        of.available = told.is_ok();
        of.message = told.err().unwrap_or_default().to_owned();
    }
}

/// What a node says that is ready and reaches all it needs.
pub(crate) fn healthy() -> NodeStatus {
    let reached = |name: &str| Dependency {
        name: name.to_owned(),
        available: true,
        message: String::new(),
    };
    NodeStatus {
        ready: true,
        dependencies: ["kafka", "datastore", "upstream"].map(reached).to_vec(),
        ..Default::default()
    }
}

#[derive(Default)]
pub(crate) struct FakeNodes(pub(crate) Mutex<Told>);

impl FakeNodes {
    fn call<T>(&self, answer: impl FnOnce(&mut Told) -> T) -> Result<T, NodeError> {
        let mut told = self.0.lock().unwrap();
        match &told.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(answer(&mut told)),
        }
    }

    async fn write<T>(&self, answer: impl FnOnce(&mut Told) -> T) -> Result<T, NodeError> {
        let done = self.call(answer);
        if self.0.lock().unwrap().silent {
            std::future::pending().await
        }
        done
    }
}

#[async_trait]
impl Nodes for FakeNodes {
    async fn find_store(&self, _: &Address, name: &str) -> Result<Option<String>, NodeError> {
        self.call(|told| {
            let found = told.stores.iter().find(|(_, of)| of == name);
            found.map(|(id, _)| id.clone())
        })
    }

    async fn create_store(&self, _: &Address, name: &str) -> Result<String, NodeError> {
        self.write(|told| {
            let id = format!("store-{}", told.stores.len() + 1);
            told.stores.push((id.clone(), name.to_owned()));
            told.writes.push(format!("create store {name}"));
            id
        })
        .await
    }

    async fn latest_model(
        &self,
        _: &Address,
        _: &str,
    ) -> Result<Option<(String, AuthorizationModel)>, NodeError> {
        self.call(|told| told.models.last().cloned())
    }

    async fn write_model(
        &self,
        _: &Address,
        _: &str,
        model: &AuthorizationModel,
    ) -> Result<String, NodeError> {
        self.write(|told| {
            let id = format!("model-{}", told.models.len() + 1);
            told.models.push((id.clone(), model.clone()));
            told.writes.push(format!("write {id}"));
            id
        })
        .await
    }

    async fn tiers(&self, _: &Address, _: &str) -> Result<Tiers, NodeError> {
        self.call(|told| told.tiers.clone())
    }

    async fn assign_tiers(&self, _: &Address, _: &str, tiers: &Tiers) -> Result<(), NodeError> {
        self.write(|told| {
            told.tiers = tiers.clone();
            told.writes.push("assign tiers".to_owned());
        })
        .await
    }

    async fn status(&self, to: &Address, store: Option<&str>) -> Result<NodeStatus, NodeError> {
        let mut told = self.0.lock().unwrap();
        let latest = told.models.last().map(|(id, _)| id.clone());
        told.spoken_to.push(to.clone());
        let is_below = to.at.starts_with("10.0.1.");
        let model = told.model_below.clone().filter(|_| is_below).or(latest);
        let below = told.status_below.as_ref().filter(|_| is_below);
        let status = below.unwrap_or(&told.status);
        let is_silent = |of: &Dependency| of.name == "datastore" && !of.available;
        let is_cut_off = status.dependencies.iter().any(is_silent);
        let has = |asked: &&str| told.stores.iter().any(|(id, _)| id == asked);
        let kept = |asked: &&str| is_below && told.kept_below.iter().any(|id| id == asked);
        let held = store
            .filter(|_| !is_cut_off)
            .filter(|of| has(of) || kept(of));
        Ok(NodeStatus {
            store: held.map(|of| Held {
                id: of.to_owned(),
                model: model.filter(|_| has(&of)),
            }),
            ..status.clone()
        })
    }

    async fn delete_store(&self, to: &Address, store: &str) -> Result<(), NodeError> {
        self.write(|told| {
            told.spoken_to.push(to.clone());
            told.stores.retain(|(id, _)| id != store);
            told.writes.push(format!("delete {store}"));
            match told.late {
                true => Err(NodeError::Unavailable("no answer in time".to_owned())),
                false => Ok(()),
            }
        })
        .await?
    }
}
