//! The calls of a node that answers some of them itself and has others answer the rest: what those nodes have in common.

use async_trait::async_trait;
use meridian_proto::openfga::v1;
use tokio::sync::mpsc;

use super::batch::{self, DecideAll};
use super::floors::Floors;
use crate::api::operations::{
    Check, CreateStore, DeleteStore, Expand, GetStore, ListObjects, ListStores, ListUsers,
    Operation, Read, ReadAssertions, ReadAuthorizationModel, ReadAuthorizationModels, ReadChanges,
    Write, WriteAssertions, WriteAuthorizationModel,
};
use crate::calls::{Answer, Calls, Context, ServedBy};

/// Answers by [`Routed::answer`], whatever the call; those that a node may answer in a way of its own have a method besides.
pub trait Routed: DecideAll {
    /// The node's name.
    fn name(&self) -> &ServedBy;

    /// The positions this node has returned.
    fn floors(&self) -> &Floors;

    /// Answers a call where its [`Operation::way`] leads, and lifts the floor of its store.
    fn answer<O: Operation>(
        &self,
        cx: &Context,
        request: O::Request,
    ) -> impl Future<Output = Answer<O::Response>> + Send;

    /// See [`Calls::check_now`].
    fn checked_now(
        &self,
        _cx: &Context,
        _request: &v1::CheckRequest,
    ) -> Option<Answer<v1::CheckResponse>> {
        None
    }

    /// See [`Calls::check`].
    fn checked(
        &self,
        cx: &Context,
        request: v1::CheckRequest,
    ) -> impl Future<Output = Answer<v1::CheckResponse>> + Send {
        self.answer::<Check>(cx, request)
    }

    /// See [`Calls::read_changes`].
    fn changes(
        &self,
        cx: &Context,
        request: v1::ReadChangesRequest,
    ) -> impl Future<Output = Answer<v1::ReadChangesResponse>> + Send {
        self.answer::<ReadChanges>(cx, request)
    }

    /// See [`Calls::expand`].
    fn expanded(
        &self,
        cx: &Context,
        request: v1::ExpandRequest,
    ) -> impl Future<Output = Answer<v1::ExpandResponse>> + Send {
        self.answer::<Expand>(cx, request)
    }

    /// See [`Calls::list_objects`].
    fn objects(
        &self,
        cx: &Context,
        request: v1::ListObjectsRequest,
    ) -> impl Future<Output = Answer<v1::ListObjectsResponse>> + Send {
        self.answer::<ListObjects>(cx, request)
    }

    /// See [`Calls::list_users`].
    fn users(
        &self,
        cx: &Context,
        request: v1::ListUsersRequest,
    ) -> impl Future<Output = Answer<v1::ListUsersResponse>> + Send {
        self.answer::<ListUsers>(cx, request)
    }

    /// See [`Calls::streamed_list_objects`].
    fn streamed(
        &self,
        cx: &Context,
        request: v1::StreamedListObjectsRequest,
        found: &mpsc::Sender<String>,
    ) -> impl Future<Output = Answer<()>> + Send;
}

#[async_trait]
impl<T: Routed> Calls for T {
    fn check_now(
        &self,
        cx: &Context,
        request: &v1::CheckRequest,
    ) -> Option<Answer<v1::CheckResponse>> {
        self.checked_now(cx, request)
    }

    async fn check(&self, cx: &Context, request: v1::CheckRequest) -> Answer<v1::CheckResponse> {
        self.checked(cx, request).await
    }

    async fn create_store(
        &self,
        cx: &Context,
        request: v1::CreateStoreRequest,
    ) -> Answer<v1::CreateStoreResponse> {
        let reply = self.answer::<CreateStore>(cx, request).await?;
        // The request named no store. Its creator is to find it here at once.
        if let (Ok(store), Some(position)) = (reply.body.id.parse(), reply.position) {
            self.floors().lift(store, position);
        }
        Ok(reply)
    }

    async fn get_store(
        &self,
        cx: &Context,
        request: v1::GetStoreRequest,
    ) -> Answer<v1::GetStoreResponse> {
        self.answer::<GetStore>(cx, request).await
    }

    async fn list_stores(
        &self,
        cx: &Context,
        request: v1::ListStoresRequest,
    ) -> Answer<v1::ListStoresResponse> {
        self.answer::<ListStores>(cx, request).await
    }

    async fn delete_store(
        &self,
        cx: &Context,
        request: v1::DeleteStoreRequest,
    ) -> Answer<v1::DeleteStoreResponse> {
        self.answer::<DeleteStore>(cx, request).await
    }

    async fn write_authorization_model(
        &self,
        cx: &Context,
        request: v1::WriteAuthorizationModelRequest,
    ) -> Answer<v1::WriteAuthorizationModelResponse> {
        self.answer::<WriteAuthorizationModel>(cx, request).await
    }

    async fn read_authorization_model(
        &self,
        cx: &Context,
        request: v1::ReadAuthorizationModelRequest,
    ) -> Answer<v1::ReadAuthorizationModelResponse> {
        self.answer::<ReadAuthorizationModel>(cx, request).await
    }

    async fn read_authorization_models(
        &self,
        cx: &Context,
        request: v1::ReadAuthorizationModelsRequest,
    ) -> Answer<v1::ReadAuthorizationModelsResponse> {
        self.answer::<ReadAuthorizationModels>(cx, request).await
    }

    async fn write(&self, cx: &Context, request: v1::WriteRequest) -> Answer<v1::WriteResponse> {
        self.answer::<Write>(cx, request).await
    }

    async fn read(&self, cx: &Context, request: v1::ReadRequest) -> Answer<v1::ReadResponse> {
        self.answer::<Read>(cx, request).await
    }

    async fn read_changes(
        &self,
        cx: &Context,
        request: v1::ReadChangesRequest,
    ) -> Answer<v1::ReadChangesResponse> {
        self.changes(cx, request).await
    }

    async fn batch_check(
        &self,
        cx: &Context,
        request: v1::BatchCheckRequest,
    ) -> Answer<v1::BatchCheckResponse> {
        batch::answer((self, self.name()), cx, request).await
    }

    async fn streamed_batch_check(
        &self,
        cx: &Context,
        request: v1::BatchCheckRequest,
        found: mpsc::Sender<batch::BatchResult>,
    ) -> Answer<()> {
        batch::stream((self, self.name()), cx, request, &found).await
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
        self.answer::<WriteAssertions>(cx, request).await
    }

    async fn read_assertions(
        &self,
        cx: &Context,
        request: v1::ReadAssertionsRequest,
    ) -> Answer<v1::ReadAssertionsResponse> {
        self.answer::<ReadAssertions>(cx, request).await
    }
}
