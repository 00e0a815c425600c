//! What the calls do at a node that has a datastore, transport-free: one file per group.

mod assertions;
mod authorization_models;
mod batch;
mod changes;
pub mod check;
pub mod decisions;
pub(crate) mod errors;
pub(crate) mod evaluations;
pub(crate) mod expand;
mod ids;
pub(crate) mod lists;
pub(crate) mod long_checks;
mod models;
mod stores;
mod tokens;
mod tuples;

use std::sync::Arc;

use async_trait::async_trait;
use meridian_live_channel::{Hub, Touched};
use meridian_model::ports::Datastore;
use meridian_model::{ApiError, Code, ModelId, Position, StoreId};
use meridian_proto::openfga::v1;
use tokio::sync::{Notify, mpsc};

use crate::calls::{Answer, Calls, Context, Reply, ServedBy};
use crate::limits::Limits;
use crate::routing;
use decisions::Decisions;
use evaluations::Evaluations;
use ids::Ids;
use long_checks::LongChecks;
pub use models::{Compiled, Models};

/// The calls answered from a datastore: all of central's, and what a regional node answers itself.
pub struct Local {
    datastore: Arc<dyn Datastore>,
    models: Models,
    ids: Ids,
    limits: Limits,
    name: ServedBy,
    long_checks: LongChecks,
    evaluations: Evaluations,
    decisions: Decisions,
    committed: Arc<Notify>,
    live: Option<Arc<Hub>>,
}

impl Local {
    /// The calls of the node `name` over `datastore`. `committed` is told of each commit: it wakes the relay.
    pub fn new(
        datastore: Arc<dyn Datastore>,
        name: ServedBy,
        limits: Limits,
        committed: Arc<Notify>,
    ) -> Self {
        let decisions = Decisions::new(Arc::clone(&datastore), decisions::Settings::default());
        Self {
            models: Models::new(Arc::clone(&datastore)),
            datastore,
            ids: Ids::new(),
            limits,
            name,
            long_checks: LongChecks::new(limits.concurrent_long_checks),
            evaluations: Evaluations::by_rounds(),
            decisions,
            committed,
            live: None,
        }
    }

    /// The same, telling the node's live channel of each commit before it is acknowledged.
    #[must_use]
    pub fn telling(self, live: Option<Arc<Hub>>) -> Self {
        Self { live, ..self }
    }

    /// The same, keeping decisions by these settings.
    #[must_use]
    pub fn keeping(self, settings: decisions::Settings) -> Self {
        Self {
            decisions: Decisions::new(Arc::clone(&self.datastore), settings),
            ..self
        }
    }

    /// The node's name.
    pub fn name(&self) -> &ServedBy {
        &self.name
    }

    /// What one request may ask for.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The compiled models of this node.
    pub fn models(&self) -> &Models {
        &self.models
    }

    fn reply<T>(&self, body: T, position: Option<Position>, model: Option<ModelId>) -> Reply<T> {
        errors::database_worked();
        Reply {
            body,
            position,
            model,
            served_by: self.name.clone(),
            truncated: false,
        }
    }

    /// Where the store stands, read before what is answered so that the answer is of this position or a later one.
    /// `None` for a store that does not exist (any more).
    async fn position(&self, cx: &Context, store: StoreId) -> Result<Option<Position>, ApiError> {
        let record = self
            .datastore
            .store(store, cx.deadline)
            .await
            .map_err(errors::from_datastore)?;
        let position = record
            .filter(|record| record.deleted_at.is_none())
            .map(|record| record.position);
        position.map(|position| at_least(cx, position)).transpose()
    }

    /// Has the relay and the live channel hear of a commit, and shows nothing older than it from now on.
    fn has_committed(&self, store: StoreId, position: Position, touched: impl FnOnce() -> Touched) {
        self.committed.notify_one();
        if let Some(live) = &self.live {
            live.touched(store, position, touched());
        }
        self.decisions.shown(store, position);
    }

    fn page_size(&self, asked: Option<i32>) -> u32 {
        asked
            .and_then(|size| u32::try_from(size).ok())
            .unwrap_or(self.limits.default_page_size)
    }
}

/// The store id of a request. Its form was checked with the request's fields; a caller that skips that gets an error.
fn store_id(text: &str) -> Result<StoreId, ApiError> {
    text.parse()
        .map_err(|why| ApiError::validation(format!("store_id '{text}' {why}")))
}

/// Refuses to answer from before the position the caller asked for.
fn at_least(cx: &Context, position: Position) -> Result<Position, ApiError> {
    match cx.min_position {
        Some(asked) if position < asked => Err(ApiError::new(
            Code::Unavailable,
            format!(
                "the store is at {position} here, behind {asked} as asked for in meridian-min-revision; try again"
            ),
        )),
        _ => Ok(position),
    }
}

#[async_trait]
impl Calls for Local {
    async fn check(&self, cx: &Context, request: v1::CheckRequest) -> Answer<v1::CheckResponse> {
        check::answer(self, cx, &request).await
    }

    async fn create_store(
        &self,
        cx: &Context,
        request: v1::CreateStoreRequest,
    ) -> Answer<v1::CreateStoreResponse> {
        stores::create(self, cx, &request).await
    }

    async fn get_store(
        &self,
        cx: &Context,
        request: v1::GetStoreRequest,
    ) -> Answer<v1::GetStoreResponse> {
        stores::get(self, cx, &request).await
    }

    async fn list_stores(
        &self,
        cx: &Context,
        request: v1::ListStoresRequest,
    ) -> Answer<v1::ListStoresResponse> {
        stores::list(self, cx, &request).await
    }

    async fn delete_store(
        &self,
        cx: &Context,
        request: v1::DeleteStoreRequest,
    ) -> Answer<v1::DeleteStoreResponse> {
        stores::delete(self, cx, &request).await
    }

    async fn write_authorization_model(
        &self,
        cx: &Context,
        request: v1::WriteAuthorizationModelRequest,
    ) -> Answer<v1::WriteAuthorizationModelResponse> {
        authorization_models::write(self, cx, request).await
    }

    async fn read_authorization_model(
        &self,
        cx: &Context,
        request: v1::ReadAuthorizationModelRequest,
    ) -> Answer<v1::ReadAuthorizationModelResponse> {
        authorization_models::read(self, cx, &request).await
    }

    async fn read_authorization_models(
        &self,
        cx: &Context,
        request: v1::ReadAuthorizationModelsRequest,
    ) -> Answer<v1::ReadAuthorizationModelsResponse> {
        authorization_models::list(self, cx, &request).await
    }

    async fn write(&self, cx: &Context, request: v1::WriteRequest) -> Answer<v1::WriteResponse> {
        tuples::write(self, cx, &request).await
    }

    async fn read(&self, cx: &Context, request: v1::ReadRequest) -> Answer<v1::ReadResponse> {
        tuples::read(self, cx, &request).await
    }

    async fn read_changes(
        &self,
        cx: &Context,
        request: v1::ReadChangesRequest,
    ) -> Answer<v1::ReadChangesResponse> {
        changes::read(self, cx, &request).await
    }

    async fn batch_check(
        &self,
        cx: &Context,
        request: v1::BatchCheckRequest,
    ) -> Answer<v1::BatchCheckResponse> {
        routing::batch::answer((self, &self.name), cx, request).await
    }

    async fn streamed_batch_check(
        &self,
        cx: &Context,
        request: v1::BatchCheckRequest,
        found: mpsc::Sender<routing::batch::BatchResult>,
    ) -> Answer<()> {
        routing::batch::stream((self, &self.name), cx, request, &found).await
    }

    async fn expand(&self, cx: &Context, request: v1::ExpandRequest) -> Answer<v1::ExpandResponse> {
        expand::answer(self, cx, &request).await
    }

    async fn list_objects(
        &self,
        cx: &Context,
        request: v1::ListObjectsRequest,
    ) -> Answer<v1::ListObjectsResponse> {
        lists::objects(self, cx, &request).await
    }

    async fn streamed_list_objects(
        &self,
        cx: &Context,
        request: v1::StreamedListObjectsRequest,
        found: mpsc::Sender<String>,
    ) -> Answer<()> {
        lists::streamed(self, cx, request, &found).await
    }

    async fn list_users(
        &self,
        cx: &Context,
        request: v1::ListUsersRequest,
    ) -> Answer<v1::ListUsersResponse> {
        lists::users(self, cx, &request).await
    }

    async fn write_assertions(
        &self,
        cx: &Context,
        request: v1::WriteAssertionsRequest,
    ) -> Answer<v1::WriteAssertionsResponse> {
        assertions::write(self, cx, request).await
    }

    async fn read_assertions(
        &self,
        cx: &Context,
        request: v1::ReadAssertionsRequest,
    ) -> Answer<v1::ReadAssertionsResponse> {
        assertions::read(self, cx, &request).await
    }
}
