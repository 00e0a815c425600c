//! The calls one by one: questions are answered here where they can be, all else goes upstream.

use async_trait::async_trait;
use meridian_model::ApiError;
use meridian_proto::openfga::v1;
use tokio::sync::mpsc;

use super::Edge;
use crate::api::operations::{
    CreateStore, DeleteStore, GetStore, ListStores, Read, ReadAssertions, ReadAuthorizationModel,
    ReadAuthorizationModels, ReadChanges, Write, WriteAssertions, WriteAuthorizationModel,
};
use crate::calls::{Answer, Calls, Context};
use crate::routing::batch;
use crate::routing::regional::created;
use crate::routing::wants_primary;

#[async_trait]
impl Calls for Edge {
    fn check_now(
        &self,
        cx: &Context,
        request: &v1::CheckRequest,
    ) -> Option<Answer<v1::CheckResponse>> {
        if wants_primary(request.consistency) {
            return None;
        }
        let store = request.store_id.parse().ok()?;
        let cx = self.upwards.above_floor(cx, Some(store));
        let shown = self.held.view(store, cx.min_position)?;
        let found = self
            .held
            .decide(&shown.view, request, self.held.inline_budget());
        self.settle(store, &shown.view, request, found)
    }

    async fn check(&self, cx: &Context, request: v1::CheckRequest) -> Answer<v1::CheckResponse> {
        let store = request.store_id.parse().map_err(|why| {
            ApiError::validation(format!("store_id '{}' {why}", request.store_id))
        })?;
        let cx = self.upwards.above_floor(cx, Some(store));
        if !wants_primary(request.consistency)
            && let Some(answer) = self.here(&cx, store, &request).await
        {
            return answer;
        }
        self.ask_upstream(&cx, store, &request).await
    }

    async fn create_store(
        &self,
        cx: &Context,
        request: v1::CreateStoreRequest,
    ) -> Answer<v1::CreateStoreResponse> {
        created(
            &self.upwards,
            self.forward::<CreateStore>(cx, &request, true).await,
        )
    }

    async fn get_store(
        &self,
        cx: &Context,
        request: v1::GetStoreRequest,
    ) -> Answer<v1::GetStoreResponse> {
        self.forward::<GetStore>(cx, &request, false).await
    }

    async fn list_stores(
        &self,
        cx: &Context,
        request: v1::ListStoresRequest,
    ) -> Answer<v1::ListStoresResponse> {
        self.forward::<ListStores>(cx, &request, false).await
    }

    async fn delete_store(
        &self,
        cx: &Context,
        request: v1::DeleteStoreRequest,
    ) -> Answer<v1::DeleteStoreResponse> {
        self.forward::<DeleteStore>(cx, &request, true).await
    }

    async fn write_authorization_model(
        &self,
        cx: &Context,
        request: v1::WriteAuthorizationModelRequest,
    ) -> Answer<v1::WriteAuthorizationModelResponse> {
        self.forward::<WriteAuthorizationModel>(cx, &request, true)
            .await
    }

    async fn read_authorization_model(
        &self,
        cx: &Context,
        request: v1::ReadAuthorizationModelRequest,
    ) -> Answer<v1::ReadAuthorizationModelResponse> {
        self.forward::<ReadAuthorizationModel>(cx, &request, false)
            .await
    }

    async fn read_authorization_models(
        &self,
        cx: &Context,
        request: v1::ReadAuthorizationModelsRequest,
    ) -> Answer<v1::ReadAuthorizationModelsResponse> {
        self.forward::<ReadAuthorizationModels>(cx, &request, false)
            .await
    }

    async fn write(&self, cx: &Context, request: v1::WriteRequest) -> Answer<v1::WriteResponse> {
        self.forward::<Write>(cx, &request, true).await
    }

    async fn read(&self, cx: &Context, request: v1::ReadRequest) -> Answer<v1::ReadResponse> {
        self.forward::<Read>(cx, &request, false).await
    }

    async fn read_changes(
        &self,
        cx: &Context,
        request: v1::ReadChangesRequest,
    ) -> Answer<v1::ReadChangesResponse> {
        self.forward::<ReadChanges>(cx, &request, false).await
    }

    async fn batch_check(
        &self,
        cx: &Context,
        request: v1::BatchCheckRequest,
    ) -> Answer<v1::BatchCheckResponse> {
        batch::answer(self, cx, request).await
    }

    async fn streamed_batch_check(
        &self,
        cx: &Context,
        request: v1::BatchCheckRequest,
        found: mpsc::Sender<batch::BatchResult>,
    ) -> Answer<()> {
        batch::stream(self, cx, request, &found).await
    }

    async fn expand(&self, cx: &Context, request: v1::ExpandRequest) -> Answer<v1::ExpandResponse> {
        self.expanded(cx, request).await
    }

    async fn list_objects(
        &self,
        cx: &Context,
        request: v1::ListObjectsRequest,
    ) -> Answer<v1::ListObjectsResponse> {
        self.objects(cx, request).await
    }

    async fn streamed_list_objects(
        &self,
        cx: &Context,
        request: v1::StreamedListObjectsRequest,
        found: mpsc::Sender<String>,
    ) -> Answer<()> {
        self.streamed(cx, request, &found).await
    }

    async fn list_users(
        &self,
        cx: &Context,
        request: v1::ListUsersRequest,
    ) -> Answer<v1::ListUsersResponse> {
        self.users(cx, request).await
    }

    async fn write_assertions(
        &self,
        cx: &Context,
        request: v1::WriteAssertionsRequest,
    ) -> Answer<v1::WriteAssertionsResponse> {
        self.forward::<WriteAssertions>(cx, &request, true).await
    }

    async fn read_assertions(
        &self,
        cx: &Context,
        request: v1::ReadAssertionsRequest,
    ) -> Answer<v1::ReadAssertionsResponse> {
        self.forward::<ReadAssertions>(cx, &request, false).await
    }
}
