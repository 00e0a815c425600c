//! A regional node: answers from its own copy, passes the rest up to central.

use std::sync::Arc;

use async_trait::async_trait;
use meridian_model::StoreId;
use meridian_proto::openfga::v1;
use tokio::sync::mpsc;

use crate::api::fields::Fields;
use crate::api::operations::{
    Check, CreateStore, DeleteStore, Expand, GetStore, ListObjects, ListStores, ListUsers,
    Operation, Read, ReadAssertions, ReadAuthorizationModel, ReadAuthorizationModels, ReadChanges,
    Write, WriteAssertions, WriteAuthorizationModel,
};
use crate::calls::{Answer, Calls, Context, Refusal};
use crate::commands::Local;
use crate::commands::decisions::Outcome;
use crate::routing::batch::{self, DecideAll, Standing, Tell};
use crate::routing::{Decide, Decided, Own, Upwards, is_about_here, streamed_here, wants_primary};

/// The calls of a regional node.
pub struct Regional {
    local: Arc<Local>,
    own: Arc<dyn Own>,
    upwards: Upwards,
}

impl Regional {
    /// Answers by `own`: from `local`'s datastore, or a replica of it; or else from above.
    pub fn new(local: Arc<Local>, own: Arc<dyn Own>, upwards: Upwards) -> Self {
        Self {
            local,
            own,
            upwards,
        }
    }

    /// Answers here if this node has come far enough, else above.
    async fn read_here<O>(
        &self,
        cx: &Context,
        request: O::Request,
        primary: bool,
    ) -> Answer<O::Response>
    where
        O: Operation,
        O::Request: Clone,
    {
        let store = store_of(&request);
        if primary {
            return self.upwards.forward::<O>(cx, store, &request, false).await;
        }
        let above_floor = self.upwards.above_floor(cx, store);
        match O::run(&*self.own, &above_floor, request.clone()).await {
            Err(refusal) if is_about_here(&refusal) => {
                self.upwards.forward::<O>(cx, store, &request, false).await
            }
            answer => {
                if let (Some(store), Ok(Some(position))) =
                    (store, answer.as_ref().map(|reply| reply.position))
                {
                    self.upwards.floors().lift(store, position);
                }
                answer
            }
        }
    }

    async fn write_above<O: Operation>(
        &self,
        cx: &Context,
        request: &O::Request,
    ) -> Answer<O::Response> {
        self.upwards
            .forward::<O>(cx, store_of(request), request, true)
            .await
    }
}

fn store_of(request: &impl Fields) -> Option<StoreId> {
    request.store_id().parse().ok()
}

#[async_trait]
impl Decide for Regional {
    async fn decide(&self, cx: &Context, request: &v1::CheckRequest) -> Result<Decided, Refusal> {
        let above_floor = self.upwards.above_floor(cx, store_of(request));
        let here = if wants_primary(request.consistency) {
            None
        } else {
            Some(self.own.decide(&above_floor, request).await)
        };
        match (here, store_of(request)) {
            (Some(Ok(decided)), Some(store)) => {
                self.upwards.floors().lift(store, decided.decision.position);
                Ok(decided)
            }
            (Some(Err(refusal)), _) if !is_about_here(&refusal) => Err(refusal),
            (_, Some(store)) => self.upwards.decide(&above_floor, store, request).await,
            (Some(here), None) => here,
            (None, None) => self.own.decide(cx, request).await,
        }
    }
}

#[async_trait]
impl DecideAll for Regional {
    async fn decide_all(
        &self,
        cx: &Context,
        checks: &[v1::CheckRequest],
        tell: &mut Tell<'_>,
    ) -> Result<Standing, Refusal> {
        let (Some(first), Some(store)) = (checks.first(), checks.first().and_then(store_of)) else {
            return self.own.decide_all(cx, checks, tell).await;
        };
        let cx = self.upwards.above_floor(cx, Some(store));
        let (mut told, mut earliest) = (vec![false; checks.len()], None);
        if !wants_primary(first.consistency) {
            let mut noting = |at: usize, outcome: Outcome| {
                if let Some(told) = told.get_mut(at) {
                    *told = true;
                }
                if let Ok(decision) = &outcome {
                    earliest = Some(decision.position.min(earliest.unwrap_or(decision.position)));
                }
                tell(at, outcome);
            };
            match self.own.decide_all(&cx, checks, &mut noting).await {
                Err(refusal) if is_about_here(&refusal) => {}
                decided => {
                    if let Ok(standing) = &decided {
                        self.upwards.floors().lift(store, standing.position);
                    }
                    return decided;
                }
            }
        }
        let left: Vec<usize> = (0..checks.len())
            .filter(|at| told.get(*at) == Some(&false))
            .collect();
        let above = self.upwards.rest(&cx, store, checks, &left, tell).await?;
        Ok(Standing {
            position: above.position.min(earliest.unwrap_or(above.position)),
            ..above
        })
    }
}

#[async_trait]
impl Calls for Regional {
    async fn check(&self, cx: &Context, request: v1::CheckRequest) -> Answer<v1::CheckResponse> {
        let primary = wants_primary(request.consistency);
        self.read_here::<Check>(cx, request, primary).await
    }

    async fn create_store(
        &self,
        cx: &Context,
        request: v1::CreateStoreRequest,
    ) -> Answer<v1::CreateStoreResponse> {
        created(
            &self.upwards,
            self.write_above::<CreateStore>(cx, &request).await,
        )
    }

    async fn get_store(
        &self,
        cx: &Context,
        request: v1::GetStoreRequest,
    ) -> Answer<v1::GetStoreResponse> {
        self.read_here::<GetStore>(cx, request, false).await
    }

    async fn list_stores(
        &self,
        cx: &Context,
        request: v1::ListStoresRequest,
    ) -> Answer<v1::ListStoresResponse> {
        // Which stores exist is not any one store's revision: only central's list shows a store just created.
        self.upwards
            .forward::<ListStores>(cx, None, &request, false)
            .await
    }

    async fn delete_store(
        &self,
        cx: &Context,
        request: v1::DeleteStoreRequest,
    ) -> Answer<v1::DeleteStoreResponse> {
        self.write_above::<DeleteStore>(cx, &request).await
    }

    async fn write_authorization_model(
        &self,
        cx: &Context,
        request: v1::WriteAuthorizationModelRequest,
    ) -> Answer<v1::WriteAuthorizationModelResponse> {
        self.write_above::<WriteAuthorizationModel>(cx, &request)
            .await
    }

    async fn read_authorization_model(
        &self,
        cx: &Context,
        request: v1::ReadAuthorizationModelRequest,
    ) -> Answer<v1::ReadAuthorizationModelResponse> {
        self.read_here::<ReadAuthorizationModel>(cx, request, false)
            .await
    }

    async fn read_authorization_models(
        &self,
        cx: &Context,
        request: v1::ReadAuthorizationModelsRequest,
    ) -> Answer<v1::ReadAuthorizationModelsResponse> {
        self.read_here::<ReadAuthorizationModels>(cx, request, false)
            .await
    }

    async fn write(&self, cx: &Context, request: v1::WriteRequest) -> Answer<v1::WriteResponse> {
        self.write_above::<Write>(cx, &request).await
    }

    async fn read(&self, cx: &Context, request: v1::ReadRequest) -> Answer<v1::ReadResponse> {
        let primary = wants_primary(request.consistency);
        self.read_here::<Read>(cx, request, primary).await
    }

    async fn read_changes(
        &self,
        cx: &Context,
        request: v1::ReadChangesRequest,
    ) -> Answer<v1::ReadChangesResponse> {
        let answer = self
            .read_here::<ReadChanges>(cx, request.clone(), false)
            .await?;
        let from_here = answer.served_by == *self.local.name();
        if from_here && !self.local.has_changes(cx, &request).await.unwrap_or(false) {
            let store = store_of(&request);
            return self
                .upwards
                .forward::<ReadChanges>(cx, store, &request, false)
                .await;
        }
        Ok(answer)
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
        let primary = wants_primary(request.consistency);
        self.read_here::<Expand>(cx, request, primary).await
    }

    async fn list_objects(
        &self,
        cx: &Context,
        request: v1::ListObjectsRequest,
    ) -> Answer<v1::ListObjectsResponse> {
        let primary = wants_primary(request.consistency);
        self.read_here::<ListObjects>(cx, request, primary).await
    }

    async fn streamed_list_objects(
        &self,
        cx: &Context,
        request: v1::StreamedListObjectsRequest,
        found: mpsc::Sender<String>,
    ) -> Answer<()> {
        let above_floor = self.upwards.above_floor(cx, store_of(&request));
        let patience = self.local.limits().request_timeout;
        if !wants_primary(request.consistency) {
            let here = streamed_here(&*self.own, &above_floor, request.clone(), &found, patience);
            match here.await {
                (Err(refusal), false) if is_about_here(&refusal) => {}
                (answer, _) => return answer,
            }
        }
        self.upwards
            .stream_objects(cx, request, &found, patience)
            .await
    }

    async fn list_users(
        &self,
        cx: &Context,
        request: v1::ListUsersRequest,
    ) -> Answer<v1::ListUsersResponse> {
        let primary = wants_primary(request.consistency);
        self.read_here::<ListUsers>(cx, request, primary).await
    }

    async fn write_assertions(
        &self,
        cx: &Context,
        request: v1::WriteAssertionsRequest,
    ) -> Answer<v1::WriteAssertionsResponse> {
        self.write_above::<WriteAssertions>(cx, &request).await
    }

    async fn read_assertions(
        &self,
        cx: &Context,
        request: v1::ReadAssertionsRequest,
    ) -> Answer<v1::ReadAssertionsResponse> {
        // Only central has them.
        let store = store_of(&request);
        self.upwards
            .forward::<ReadAssertions>(cx, store, &request, false)
            .await
    }
}

/// A created store's floor, so that its creator finds it here at once.
pub(super) fn created(
    upwards: &Upwards,
    answer: Answer<v1::CreateStoreResponse>,
) -> Answer<v1::CreateStoreResponse> {
    if let Ok(reply) = &answer
        && let (Ok(store), Some(position)) = (reply.body.id.parse(), reply.position)
    {
        upwards.floors().lift(store, position);
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use meridian_model::ports::{Datastore, WriteOptions};
    use meridian_model::{Code, Tuple, TupleKey};
    use meridian_store::memory::MemoryDatastore;

    use super::*;
    use crate::calls::ServedBy;
    use crate::limits::Limits;
    use crate::peer::Peers;

    const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn deadline() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// A region whose central is away.
    fn region(datastore: &MemoryDatastore) -> Regional {
        let name = ServedBy::new("regional/eu").unwrap();
        let local = Local::new(
            Arc::new(datastore.clone()),
            name,
            Limits::default(),
            Arc::default(),
        );
        let local = Arc::new(local);
        let nobody = Peers::new(&["http://127.0.0.1:1".to_owned()]).unwrap();
        Regional::new(Arc::clone(&local), local, Upwards::new(nobody))
    }

    async fn changes(region: &Regional, token: &str) -> Result<v1::ReadChangesResponse, Code> {
        let cx = Context {
            deadline: deadline(),
            min_position: None,
            caller: None,
        };
        let request = v1::ReadChangesRequest {
            store_id: STORE.into(),
            continuation_token: token.into(),
            ..Default::default()
        };
        let answer = region.read_changes(&cx, request).await;
        answer
            .map(|reply| reply.body)
            .map_err(|refusal| refusal.error.code)
    }

    async fn write(datastore: &MemoryDatastore, object: &str) {
        let tuple = Tuple {
            key: TupleKey::parse(object, "reader", "user:anne").unwrap(),
            condition: None,
            timestamp: meridian_model::Timestamp(0),
        };
        let store = STORE.parse().unwrap();
        datastore
            .write_tuples(store, &[], &[tuple], WriteOptions::default(), deadline())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn history_that_a_snapshot_did_not_bring_is_asked_for_above() {
        let (datastore, store) = (MemoryDatastore::new(), STORE.parse().unwrap());
        datastore
            .create_store(store, "shop", deadline())
            .await
            .unwrap();
        write(&datastore, "doc:1").await;
        let region = region(&datastore);
        let whole = changes(&region, "").await.unwrap();
        assert_eq!(whole.changes.len(), 1);

        let mut snapshot = datastore
            .snapshot(store, deadline())
            .await
            .unwrap()
            .unwrap();
        let mut head = snapshot.head().await.unwrap();
        head.position.revision.0 = 10;
        let begun = datastore.replace(&head, Duration::from_secs(20)).await;
        begun.unwrap().unwrap().finish().await.unwrap();
        for token in ["", &whole.continuation_token] {
            assert_eq!(changes(&region, token).await, Err(Code::Unavailable));
        }

        // What is written from there on is whole; what was before it still is not.
        write(&datastore, "doc:2").await;
        assert_eq!(changes(&region, "").await, Err(Code::Unavailable));
        let central = MemoryDatastore::new();
        central
            .create_store(store, "shop", deadline())
            .await
            .unwrap();
        for number in 0..10 {
            write(&central, &format!("doc:{number}")).await;
        }
        let last = changes(&self::region(&central), "").await.unwrap();
        let here = changes(&region, &last.continuation_token).await.unwrap();
        assert!(here.changes.is_empty());
        assert_eq!(
            changes(&region, &whole.continuation_token).await,
            Err(Code::Unavailable)
        );
    }
}
