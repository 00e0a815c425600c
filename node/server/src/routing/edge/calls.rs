//! The calls: questions are answered here where they can be, all else goes upstream.

use meridian_model::{ApiError, StoreId};
use meridian_proto::openfga::v1;
use tokio::sync::mpsc;

use super::Edge;
use crate::api::fields::Fields;
use crate::api::operations::{Expand, ListObjects, ListUsers, Operation, Way};
use crate::calls::{Answer, Context, ServedBy};
use crate::commands::lists::{Question as _, hand_on, unary};
use crate::routing::floors::Floors;
use crate::routing::routed::Routed;
use crate::routing::{store_of, wants_primary};

impl Routed for Edge {
    fn name(&self) -> &ServedBy {
        &self.held.name
    }

    fn floors(&self) -> &Floors {
        self.upwards.floors()
    }

    async fn answer<O: Operation>(&self, cx: &Context, request: O::Request) -> Answer<O::Response> {
        let writes = O::way(&request) == Way::Write;
        self.upwards
            .forward::<O>(cx, store_of(&request), &request, writes)
            .await
    }

    fn checked_now(
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
        found.leave(&cx.why, &shown.view, request);
        self.settle(store, &shown.view, request, found)
    }

    async fn checked(&self, cx: &Context, request: v1::CheckRequest) -> Answer<v1::CheckResponse> {
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

    async fn objects(
        &self,
        cx: &Context,
        request: v1::ListObjectsRequest,
    ) -> Answer<v1::ListObjectsResponse> {
        let store = asked(&request, request.consistency);
        let most = request.limits(&self.held.limits).results;
        match self.list(cx, store, &request, most).await {
            Some(listed) => Ok(listed?.objects(&self.held.name)),
            None => self.above::<ListObjects>(cx, &request).await,
        }
    }

    async fn users(
        &self,
        cx: &Context,
        request: v1::ListUsersRequest,
    ) -> Answer<v1::ListUsersResponse> {
        let store = asked(&request, request.consistency);
        let most = request.limits(&self.held.limits).results;
        match self.list(cx, store, &request, most).await {
            Some(listed) => Ok(listed?.users(&self.held.name)),
            None => self.above::<ListUsers>(cx, &request).await,
        }
    }

    async fn streamed(
        &self,
        cx: &Context,
        request: v1::StreamedListObjectsRequest,
        found: &mpsc::Sender<String>,
    ) -> Answer<()> {
        let store = asked(&request, request.consistency);
        let patience = self.held.limits.request_timeout;
        let Some(listed) = self.list(cx, store, &unary(request.clone()), 0).await else {
            let cx = store.map_or_else(|| cx.clone(), |store| self.above_view(cx, store));
            return self
                .upwards
                .stream_objects(&cx, request, found, patience)
                .await;
        };
        let mut names = Vec::new();
        let listed = listed?;
        cx.model.note(listed.model);
        let reply = listed.reply(&self.held.name, |found| names = found);
        for name in names {
            hand_on(name, found, patience).await?;
        }
        Ok(reply)
    }

    async fn expanded(
        &self,
        cx: &Context,
        request: v1::ExpandRequest,
    ) -> Answer<v1::ExpandResponse> {
        let store = asked(&request, request.consistency);
        match self.expand(cx, store, &request).await {
            Some(answer) => answer,
            None => self.above::<Expand>(cx, &request).await,
        }
    }
}

impl Edge {
    /// Has a question answered above, at what is held here or later.
    async fn above<O: Operation>(&self, cx: &Context, request: &O::Request) -> Answer<O::Response> {
        let store = store_of(request);
        let cx = store.map_or_else(|| cx.clone(), |store| self.above_view(cx, store));
        self.upwards.forward::<O>(&cx, store, request, false).await
    }
}

/// The store that a question is about, if this node may answer it.
fn asked(request: &impl Fields, consistency: i32) -> Option<StoreId> {
    if wants_primary(consistency) {
        return None;
    }
    store_of(request)
}
