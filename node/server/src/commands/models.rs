//! Compiled models by id: a model never changes, so what is compiled once stays.

use std::sync::Arc;
use std::time::Instant;

use meridian_engine::Program;
use meridian_engine::symbols::Symbols;
use meridian_model::ports::{Datastore, Snapshot};
use meridian_model::{ApiError, AuthorizationModel, Code, ModelId, StoreId, TypeSystem};
use moka::future::Cache;

use crate::commands::errors::from_datastore;

/// How much model text the cache stands for, in bytes of JSON. What is compiled takes a few times that.
const CACHED_BYTES: u64 = 64 * 1024 * 1024;

/// A model ready for validation and evaluation.
#[derive(Debug)]
pub struct Compiled {
    /// Its id.
    pub id: ModelId,
    /// Checked, by names.
    pub types: TypeSystem,
    /// By numbers.
    pub program: Program,
    /// The numbers.
    pub symbols: Arc<Symbols>,
    weight: u32,
}

/// The compiled models of a node, loaded from its datastore as they are needed.
pub struct Models {
    datastore: Arc<dyn Datastore>,
    compiled: Cache<(StoreId, ModelId), Arc<Compiled>>,
}

impl Models {
    /// The models in `datastore`; none loaded yet.
    pub fn new(datastore: Arc<dyn Datastore>) -> Self {
        let compiled = Cache::builder()
            .max_capacity(CACHED_BYTES)
            .weigher(|_, model: &Arc<Compiled>| model.weight)
            .build();
        Self {
            datastore,
            compiled,
        }
    }

    /// The model `id`, or the store's latest when `id` is empty.
    ///
    /// # Errors
    /// `latest_authorization_model_not_found` when the store has none or does not exist,
    /// `authorization_model_not_found` when it has no such model, and the datastore's.
    pub async fn resolve(
        &self,
        store: StoreId,
        id: &str,
        deadline: Instant,
    ) -> Result<Arc<Compiled>, ApiError> {
        let id = if id.is_empty() {
            let latest = self
                .datastore
                .latest_model(store, deadline)
                .await
                .map_err(from_datastore)?;
            latest.ok_or_else(|| no_model(store))?
        } else {
            id.parse().map_err(|_| model_not_found(id))?
        };
        // Callers of the same model share one load. If the one that loads runs out of time, the next tries anew.
        let load = self.load(store, id, deadline);
        self.compiled
            .try_get_with((store, id), load)
            .await
            .map_err(|why| ApiError::clone(&why))
    }

    /// As [`Self::resolve`], with all that is read of the snapshot's revision.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub async fn resolve_in(
        &self,
        snapshot: &mut dyn Snapshot,
        store: StoreId,
        id: &str,
    ) -> Result<Arc<Compiled>, ApiError> {
        let id = if id.is_empty() {
            let latest = snapshot.latest_model().await.map_err(from_datastore)?;
            latest.ok_or_else(|| no_model(store))?
        } else {
            id.parse().map_err(|_| model_not_found(id))?
        };
        // Over the snapshot's own connection: who waits for this load holds one already.
        let load = async {
            let model = snapshot.model(id).await.map_err(from_datastore)?;
            compile(id, model.ok_or_else(|| model_not_found(id.as_str()))?).map(Arc::new)
        };
        self.compiled
            .try_get_with((store, id), load)
            .await
            .map_err(|why| ApiError::clone(&why))
    }

    /// Keeps a model that was just compiled and written.
    pub(super) async fn keep(&self, store: StoreId, compiled: Compiled) {
        self.compiled
            .insert((store, compiled.id), Arc::new(compiled))
            .await;
    }

    async fn load(
        &self,
        store: StoreId,
        id: ModelId,
        deadline: Instant,
    ) -> Result<Arc<Compiled>, ApiError> {
        let model = self
            .datastore
            .model(store, id, deadline)
            .await
            .map_err(from_datastore)?;
        compile(id, model.ok_or_else(|| model_not_found(id.as_str()))?).map(Arc::new)
    }
}

/// Checks a model and compiles it.
///
/// # Errors
/// `invalid_authorization_model`, naming the rule that it breaks.
pub(super) fn compile(id: ModelId, model: Arc<AuthorizationModel>) -> Result<Compiled, ApiError> {
    let weight = serde_json::to_vec(&*model).map_or(u32::MAX, |json| {
        u32::try_from(json.len()).unwrap_or(u32::MAX)
    });
    let types = TypeSystem::new(model)?;
    let mut symbols = Symbols::default();
    let program = Program::compile(&types, &mut symbols).ok_or_else(|| {
        ApiError::new(
            Code::InvalidAuthorizationModel,
            "the model names more than 65536 types or relations",
        )
    })?;
    Ok(Compiled {
        id,
        types,
        program,
        symbols: Arc::new(symbols),
        weight,
    })
}

/// No model of that id in the store.
pub(super) fn model_not_found(id: &str) -> ApiError {
    ApiError::new(
        Code::AuthorizationModelNotFound,
        format!("Authorization Model '{id}' not found"),
    )
}

/// The store has no model, or is none.
pub(super) fn no_model(store: StoreId) -> ApiError {
    ApiError::new(
        Code::LatestAuthorizationModelNotFound,
        format!("No authorization models found for store '{store}'"),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meridian_store::memory::MemoryDatastore;

    use super::*;

    #[tokio::test]
    async fn the_latest_model_is_of_the_snapshots_revision() {
        let deadline = Instant::now() + Duration::from_secs(20);
        let datastore = Arc::new(MemoryDatastore::new());
        let store: StoreId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let id =
            |number: u32| -> ModelId { format!("01ARZ3NDEKTSV4RRFF{number:08}").parse().unwrap() };
        let model = AuthorizationModel {
            schema_version: "1.1".into(),
            ..AuthorizationModel::default()
        };
        datastore
            .create_store(store, "shop", deadline)
            .await
            .unwrap();
        let write = async |number| {
            let written = datastore.write_model(store, id(number), &model, deadline);
            written.await.unwrap();
        };
        let models = Models::new(Arc::clone(&datastore) as _);
        let snapshot = async || datastore.snapshot(store, deadline).await.unwrap().unwrap();

        write(1).await;
        let mut before = snapshot().await;
        write(2).await;
        let latest = async |snapshot: &mut dyn Snapshot| {
            models.resolve_in(snapshot, store, "").await.unwrap().id
        };
        assert_eq!(latest(&mut *before).await, id(1));
        assert_eq!(latest(&mut *snapshot().await).await, id(2));
        let unknown = models.resolve_in(&mut *before, store, id(3).as_str()).await;
        assert_eq!(unknown.unwrap_err().code, Code::AuthorizationModelNotFound);
    }
}
