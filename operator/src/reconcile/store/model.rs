//! The store, its model and its tiers, through the API of central.
//!
//! Each is looked up before it is made or written: after a crash in between, or with the status lost, nothing is done
//! twice. A model is known by its hash, which the status names before it is written. A model that somebody else wrote after the spec's is reported, and not overwritten: whoever is right, two
//! writers taking turns would make the store unusable.

use meridian_model::Tiers;

use super::validate::{WantedModel, model_hash};
use crate::api::AuthzStore;
use crate::api::store::{AuthzStoreStatus, ModelStatus};
use crate::nodes::{Address, NodeError, NodeStatus};
use crate::reconcile::{Context, Error, status};

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct StoreState {
    pub(super) id: Option<String>,
    pub(super) model: Option<ModelStatus>,
    /// The hash of a model of which it is not known whether it was written.
    pub(super) pending: Option<String>,
    /// The model that somebody else wrote since, if so.
    pub(super) superseded_by: Option<String>,
    /// Whether the model was written just now.
    pub(super) written: bool,
}

impl StoreState {
    /// This model is its own, and the latest.
    fn has(&mut self, model: ModelStatus) {
        self.model = Some(model);
        self.pending = None;
    }
}

/// Why the store is not as wanted.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConvergeError {
    /// Central does not have the store that it had, of this id.
    #[error(
        "central does not have store {0}, which it had: its database is another one, was emptied, or the store was \
             deleted. Name the database that has it, or restore that. To begin with an empty store, set deletionPolicy \
             to Retain, delete this AuthzStore and apply it again: nothing is deleted of any database"
    )]
    Lost(String),
    /// Central did not do it.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The status does not say what is about to be written, so it was not.
    #[error("the model is not written yet: {0}")]
    NotSaid(Error),
}

/// What to speak to.
pub(super) struct Central<'a> {
    pub(super) store: &'a AuthzStore,
    pub(super) context: &'a Context,
    pub(super) address: &'a Address,
    /// How a central node is.
    pub(super) status: &'a NodeStatus,
}

impl Central<'_> {
    /// Brings the store to the model and tiers wanted. `state` is what is known of it before, and what is known after,
    /// also when it fails half-way.
    pub(super) async fn converge(
        &self,
        product: &str,
        wanted: &WantedModel,
        state: &mut StoreState,
    ) -> Result<(), ConvergeError> {
        let store = self.find_or_create(product, state).await?;
        self.model(&store, wanted, state).await?;
        if state.superseded_by.is_none() {
            self.tiers(&store, &wanted.tiers).await?;
        }
        Ok(())
    }

    async fn find_or_create(
        &self,
        product: &str,
        state: &mut StoreState,
    ) -> Result<String, ConvergeError> {
        let nodes = &self.context.nodes;
        if let Some(id) = state.id.clone().filter(|id| self.status.has(id)) {
            return Ok(id);
        }
        let found = nodes.find_store(self.address, product).await?;
        let id = match (found, &state.id) {
            (Some(id), Some(known)) if id == *known => id,
            // A new store in its place would hide that all its tuples are gone, and no client knows its id.
            (_, Some(lost)) => return Err(ConvergeError::Lost(lost.clone())),
            (Some(id), None) => id,
            (None, None) => {
                let create = nodes.create_store(self.address, product);
                self.context.leadership.guard(create).await?
            }
        };
        state.id = Some(id.clone());
        Ok(id)
    }

    async fn model(
        &self,
        store: &str,
        wanted: &WantedModel,
        state: &mut StoreState,
    ) -> Result<(), ConvergeError> {
        state.superseded_by = None;
        let is_wanted = |of: &ModelStatus| of.hash == wanted.hash;
        if let Some(written) = state.model.as_ref().filter(|of| is_wanted(of))
            && self.status.model(store) == Some(&written.id)
        {
            return Ok(());
        }
        let nodes = &self.context.nodes;
        let latest = nodes.latest_model(self.address, store).await?;
        let latest = latest.map(|(id, model)| ModelStatus {
            id,
            hash: model_hash(&model),
        });
        match latest {
            Some(latest) if is_wanted(&latest) => {
                state.has(latest);
                return Ok(());
            }
            Some(latest) if state.pending.as_ref() == Some(&latest.hash) => state.has(latest),
            Some(latest) if state.model.as_ref().is_some_and(is_wanted) => {
                state.superseded_by = Some(latest.id);
                return Ok(());
            }
            _ => {}
        }
        self.say(wanted, state).await?;
        state.written = true;
        let write = nodes.write_model(self.address, store, &wanted.model);
        let id = self.context.leadership.guard(write).await?;
        state.has(ModelStatus {
            id,
            hash: wanted.hash.clone(),
        });
        Ok(())
    }

    /// Says which model is about to be written: its answer may be lost, and with it the model's id.
    async fn say(&self, wanted: &WantedModel, state: &mut StoreState) -> Result<(), ConvergeError> {
        let before = self.store.status.as_ref();
        state.pending = Some(wanted.hash.clone());
        let after = AuthzStoreStatus {
            store_id: state.id.clone(),
            model: state.model.clone(),
            pending_model: state.pending.clone(),
            ..before.cloned().unwrap_or_default()
        };
        status::write(self.context, self.store, before, &after)
            .await
            .map(|_| ())
            .map_err(ConvergeError::NotSaid)
    }

    async fn tiers(&self, store: &str, wanted: &Tiers) -> Result<(), NodeError> {
        let nodes = &self.context.nodes;
        if nodes.tiers(self.address, store).await? == *wanted {
            return Ok(());
        }
        let assign = nodes.assign_tiers(self.address, store, wanted);
        self.context.leadership.guard(assign).await
    }
}
