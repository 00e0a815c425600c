//! The store, its model and its tiers, through the API of central.
//!
//! Each is looked up before it is made or written: after a crash in between, or with the status lost, nothing is done
//! twice. A model that somebody else wrote after the spec's is reported, and not overwritten: whoever is right, two
//! writers taking turns would make the store unusable.

use meridian_model::Tiers;

use super::validate::{WantedModel, model_hash};
use crate::api::store::ModelStatus;
use crate::lease::Leadership;
use crate::nodes::{NodeError, NodeStatus, Nodes};

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct StoreState {
    pub(super) id: Option<String>,
    pub(super) model: Option<ModelStatus>,
    /// The model that somebody else wrote since, if so.
    pub(super) superseded_by: Option<String>,
    /// Whether the model was written just now.
    pub(super) written: bool,
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
}

/// What to speak to.
pub(super) struct Central<'a> {
    pub(super) nodes: &'a dyn Nodes,
    pub(super) address: &'a str,
    /// Whether this operator may write.
    pub(super) leadership: &'a Leadership,
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
        let store = self.store(product, state).await?;
        self.model(&store, wanted, state).await?;
        if state.superseded_by.is_none() {
            self.tiers(&store, &wanted.tiers).await?;
        }
        Ok(())
    }

    async fn store(&self, product: &str, state: &mut StoreState) -> Result<String, ConvergeError> {
        if let Some(id) = state.id.clone().filter(|id| self.status.has(id)) {
            return Ok(id);
        }
        let found = self.nodes.find_store(self.address, product).await?;
        let id = match (found, &state.id) {
            (Some(id), Some(known)) if id == *known => id,
            // A new store in its place would hide that all its tuples are gone, and no client knows its id.
            (_, Some(lost)) => return Err(ConvergeError::Lost(lost.clone())),
            (Some(id), None) => id,
            (None, None) => {
                let create = self.nodes.create_store(self.address, product);
                self.leadership.guard(create).await?
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
    ) -> Result<(), NodeError> {
        state.superseded_by = None;
        let written = state.model.as_ref().filter(|of| of.hash == wanted.hash);
        if let Some(written) = written
            && self.status.model(store) == Some(&written.id)
        {
            return Ok(());
        }
        let latest = self.nodes.latest_model(self.address, store).await?;
        let id = match (latest, written) {
            (Some((id, model)), _) if model_hash(&model) == wanted.hash => id,
            (Some((id, _)), Some(_)) => {
                state.superseded_by = Some(id);
                return Ok(());
            }
            _ => {
                state.written = true;
                let write = self.nodes.write_model(self.address, store, &wanted.model);
                self.leadership.guard(write).await?
            }
        };
        state.model = Some(ModelStatus {
            id,
            hash: wanted.hash.clone(),
        });
        Ok(())
    }

    async fn tiers(&self, store: &str, wanted: &Tiers) -> Result<(), NodeError> {
        if self.nodes.tiers(self.address, store).await? == *wanted {
            return Ok(());
        }
        let assign = self.nodes.assign_tiers(self.address, store, wanted);
        self.leadership.guard(assign).await
    }
}
