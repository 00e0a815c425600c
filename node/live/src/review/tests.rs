use std::collections::HashSet;

use async_trait::async_trait;

use super::*;
use crate::frames::Filter;
use crate::hub::Beginning;
use crate::ports::Rests;
use crate::room::Subscription;
use crate::settings::Limits;

/// Allows everything, and notes what it was asked about.
#[derive(Default)]
struct Notes(Mutex<HashSet<Arc<str>>>);

#[async_trait]
impl Authority for Notes {
    async fn follow(&self, _: StoreId) -> Result<Position, Undecided> {
        Ok(Position::default())
    }

    async fn decide(
        &self,
        _: StoreId,
        _: Option<Position>,
        questions: &[Question],
    ) -> Vec<Result<Decided, Undecided>> {
        let mut asked = self.0.lock().unwrap();
        asked.extend(
            questions
                .iter()
                .map(|question| Arc::clone(&question.object)),
        );
        questions.iter().map(|_| Ok(allowed())).collect()
    }
}

fn allowed() -> Decided {
    Decided {
        allowed: true,
        position: Position::new(1, 1),
        rests: Rests::On(Vec::new()),
        model: None,
        served_by: "test".into(),
    }
}

/// Opens a subscription to an object.
fn open(hub: &Hub, store: StoreId, object: Arc<str>) {
    let (sub, outbox) = (hub.number(), Arc::new(hub.outbox()));
    outbox.reserve(sub, "a".into(), Arc::clone(&object), false);
    let subscription = Subscription {
        id: "a".into(),
        object: Arc::clone(&object),
        outbox,
        filter: None::<Arc<Filter>>,
        question: Some(Question {
            user: "user:anne".into(),
            relation: "can_watch".into(),
            object,
            token: None,
        }),
        showing: Arc::default(),
    };
    let beginning = Beginning {
        position: None,
        last: false,
    };
    let ticket = hub.begin(store);
    hub.open((store, ticket, sub), subscription, allowed(), &beginning)
        .unwrap();
    hub.finish(store, ticket);
}

#[tokio::test]
async fn every_subscription_is_checked_from_time_to_time_however_many_there_are() {
    const MANY: usize = 60_000;
    let hub = Arc::new(Hub::new(Limits::default()));
    hub.reading("cluster", "topic", &[0]);
    let store = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    for number in 0..MANY {
        open(&hub, store, format!("event:{number}").into());
    }
    let notes = Arc::new(Notes::default());
    let times = Times {
        review: Duration::from_secs(1),
        ..Times::default()
    };
    let review = Review {
        hub,
        authority: Arc::clone(&notes) as Arc<dyn Authority>,
        times,
    };
    let stop = CancellationToken::new();
    let reviewing = tokio::spawn(review.run(stop.clone()));
    let all = async {
        while notes.0.lock().unwrap().len() < MANY {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(30), all).await;
    let asked = notes.0.lock().unwrap().len();
    assert!(done.is_ok(), "asked about {asked} of {MANY}");
    stop.cancel();
    reviewing.await.unwrap();
}
