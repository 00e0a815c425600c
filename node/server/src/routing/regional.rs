//! A regional node: answers from its own copy, passes the rest up to central.

use std::sync::Arc;

use async_trait::async_trait;
use meridian_proto::openfga::v1;
use tokio::sync::mpsc;

use crate::api::operations::{Operation, ReadChanges, Way};
use crate::calls::{Answer, Context, Refusal, ServedBy};
use crate::commands::Local;
use crate::routing::batch::{DecideAll, Standing, Tell, Told, lifting};
use crate::routing::floors::Floors;
use crate::routing::routed::Routed;
use crate::routing::{
    Decide, Decided, Own, Upwards, is_about_here, store_of, streamed_here, wants_primary,
};

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
            (Some(Err(refusal)), _) if !is_about_here(&refusal.error) => Err(refusal),
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
        let (cx, floors) = (
            self.upwards.above_floor(cx, Some(store)),
            self.upwards.floors(),
        );
        let (mut told, mut tell) = (Told::default(), lifting(floors, Some(store), tell));
        if !wants_primary(first.consistency) {
            let here = told.decide_here(&*self.own, &cx, checks, &mut tell);
            match here.await {
                Err(refusal) if is_about_here(&refusal.error) => {}
                decided => {
                    if let Ok(standing) = &decided {
                        floors.lift(store, standing.position);
                    }
                    return decided;
                }
            }
        }
        told.decide_rest(&self.upwards, &cx, checks, &mut tell)
            .await
    }
}

impl Routed for Regional {
    fn name(&self) -> &ServedBy {
        self.local.name()
    }

    fn floors(&self) -> &Floors {
        self.upwards.floors()
    }

    async fn answer<O: Operation>(&self, cx: &Context, request: O::Request) -> Answer<O::Response> {
        let store = store_of(&request);
        let way = O::way(&request);
        if way == Way::Read {
            let above_floor = self.upwards.above_floor(cx, store);
            match O::run(&*self.own, &above_floor, request.clone()).await {
                Err(refusal) if is_about_here(&refusal.error) => {}
                answer => {
                    self.floors().lift_to(store, &answer);
                    return answer;
                }
            }
        }
        self.upwards
            .forward::<O>(cx, store, &request, way == Way::Write)
            .await
    }

    async fn changes(
        &self,
        cx: &Context,
        request: v1::ReadChangesRequest,
    ) -> Answer<v1::ReadChangesResponse> {
        let answer = self.answer::<ReadChanges>(cx, request.clone()).await?;
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

    async fn streamed(
        &self,
        cx: &Context,
        request: v1::StreamedListObjectsRequest,
        found: &mpsc::Sender<String>,
    ) -> Answer<()> {
        let above_floor = self.upwards.above_floor(cx, store_of(&request));
        let patience = self.local.limits().request_timeout;
        if !wants_primary(request.consistency) {
            let here = streamed_here(&*self.own, &above_floor, request.clone(), found, patience);
            match here.await {
                (Err(refusal), false) if is_about_here(&refusal.error) => {}
                (answer, _) => return answer,
            }
        }
        self.upwards
            .stream_objects(cx, request, found, patience)
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use meridian_model::ports::{Datastore, WriteOptions};
    use meridian_model::{Code, Tuple, TupleKey};
    use meridian_store::memory::MemoryDatastore;

    use super::*;
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
            model: Default::default(),
            why: Default::default(),
        };
        let request = v1::ReadChangesRequest {
            store_id: STORE.into(),
            continuation_token: token.into(),
            ..Default::default()
        };
        let answer = region.changes(&cx, request).await;
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
