use meridian_model::ports::{Datastore, WriteOptions};
use meridian_model::{Timestamp, Tuple, TupleKey, dsl};
use meridian_store::memory::MemoryDatastore;

use super::*;
use crate::calls::{Calls, ServedBy};

const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const NOBODY: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAW";
const MODEL: &str = "model
  schema 1.1
type user
type group
  relations
    define member: [user, group#member]
";

fn cx(why: &Why) -> Context {
    Context {
        deadline: Instant::now() + Duration::from_secs(60),
        min_position: None,
        caller: None,
        model: Default::default(),
        why: why.clone(),
    }
}

/// A central with groups from 0 to 3, each in the one before, and anne in the last.
async fn central() -> Local {
    let (datastore, store) = (MemoryDatastore::new(), STORE.parse().unwrap());
    let late = Instant::now() + Duration::from_secs(60);
    datastore.create_store(store, "shop", late).await.unwrap();
    let (id, model) = (STORE.parse().unwrap(), dsl::parse(MODEL).unwrap());
    let written = datastore.write_model(store, id, &model, late).await;
    written.unwrap();
    let tuple = |object: &str, user: &str| Tuple {
        key: TupleKey::parse(object, "member", user).unwrap(),
        condition: None,
        timestamp: Timestamp(0),
    };
    let tuples = [
        tuple("group:0", "group:1#member"),
        tuple("group:1", "group:2#member"),
        tuple("group:2", "group:3#member"),
        tuple("group:3", "user:anne"),
    ];
    let options = WriteOptions::default();
    let written = datastore.write_tuples(store, &[], &tuples, options, late);
    written.await.unwrap();
    let name = ServedBy::new("central").unwrap();
    Local::new(Arc::new(datastore), name, Limits::default(), Arc::default())
}

fn of(user: &str) -> v1::CheckRequest {
    v1::CheckRequest {
        store_id: STORE.into(),
        tuple_key: Some(v1::CheckRequestTupleKey {
            user: user.into(),
            relation: "member".into(),
            object: "group:0".into(),
        }),
        ..Default::default()
    }
}

fn explainer(limits: Limits) -> Explainer {
    let size = Size {
        parts: 100,
        bytes: 100_000,
    };
    Explainer::new(limits, size)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn sets(explained: Explained) -> (bool, Vec<String>) {
    let Explained::Because(explanation) = explained else {
        panic!("{explained:?}");
    };
    assert!(!explanation.truncated);
    let sets = explanation.steps.into_iter().map(|step| step.set);
    (explanation.allowed, sets.collect())
}

#[tokio::test]
async fn what_was_read_explains_the_decision() {
    let local = central().await;
    let groups = ["group:0", "group:1", "group:2", "group:3"].map(|of| format!("{of}#member"));
    for (user, allowed) in [("user:anne", true), ("user:bob", false)] {
        let why = Why::wanted();
        let answer = local.check(&cx(&why), of(user)).await.unwrap();
        assert_eq!(answer.body.allowed, allowed);
        let explained = explainer(Limits::default()).explanation(why, soon()).await;
        assert_eq!(sets(explained), (allowed, groups.to_vec()));
    }
}

#[tokio::test]
async fn nothing_is_left_that_nobody_wants() {
    let (local, why) = (central().await, Why::default());
    local.check(&cx(&why), of("user:anne")).await.unwrap();
    assert!(why.basis().is_none());
    let explained = explainer(Limits::default()).explanation(why, soon()).await;
    assert_eq!(explained, Explained::NotHere);
}

#[tokio::test]
async fn an_answer_kept_from_before_is_not_explained_here() {
    let local = central().await;
    let asked = async |why: &Why| local.decided(&cx(why), &of("user:anne")).await.unwrap();
    asked(&Why::default()).await;
    let why = Why::wanted();
    assert!(asked(&why).await.served_by.is_kept());
    let explained = explainer(Limits::default()).explanation(why, soon()).await;
    assert_eq!(explained, Explained::NotHere);
}

#[tokio::test]
async fn many_checks_in_one_call_leave_nothing() {
    let (local, why) = (central().await, Why::wanted());
    let item = v1::BatchCheckItem {
        tuple_key: of("user:anne").tuple_key,
        correlation_id: "1".into(),
        ..Default::default()
    };
    let request = v1::BatchCheckRequest {
        store_id: STORE.into(),
        checks: vec![item],
        ..Default::default()
    };
    local.batch_check(&cx(&why), request).await.unwrap();
    assert!(why.basis().is_none());
}

#[tokio::test]
async fn explanations_are_bounded_in_work_and_number() {
    let (local, why) = (central().await, Why::wanted());
    local.check(&cx(&why), of("user:anne")).await.unwrap();
    let little = Limits {
        check_work: 2,
        ..Limits::default()
    };
    let explained = explainer(little).explanation(why.clone(), soon()).await;
    assert_eq!(explained, Explained::TooLarge);
    let explainer = explainer(Limits::default());
    let slots = explainer.slots.clone().acquire_many_owned(AT_A_TIME);
    let slots = slots.await.unwrap();
    let now = explainer.explanation(why.clone(), Instant::now());
    assert_eq!(now.await, Explained::Busy);
    let (tell, told) = tokio::sync::oneshot::channel();
    explainer.later(why.clone(), |explained| tell.send(explained).unwrap());
    assert_eq!(told.await.unwrap(), Explained::Busy);
    drop(slots);
    assert!(sets(explainer.explanation(why, soon()).await).0);
}

#[tokio::test]
async fn what_is_explained_later_is_told_before_the_end() {
    let (local, why) = (central().await, Why::wanted());
    local.check(&cx(&why), of("user:anne")).await.unwrap();
    let explainer = explainer(Limits::default());
    let (tell, mut told) = tokio::sync::oneshot::channel();
    explainer.later(why.clone(), |explained| tell.send(explained).unwrap());
    explainer.finished(Duration::from_secs(60)).await;
    assert!(sets(told.try_recv().unwrap()).0);
    let (tell, mut told) = tokio::sync::oneshot::channel();
    explainer.later(why, |explained| tell.send(explained).unwrap());
    assert_eq!(told.try_recv().unwrap(), Explained::Busy);
}

#[tokio::test]
async fn an_explanation_has_as_many_bytes_as_it_may() {
    let (local, why) = (central().await, Why::wanted());
    local.check(&cx(&why), of("user:anne")).await.unwrap();
    let small = Size {
        parts: 100,
        bytes: 400,
    };
    let explainer = Explainer::new(Limits::default(), small);
    let Explained::Because(explanation) = explainer.explanation(why, soon()).await else {
        panic!("it is explained");
    };
    assert!(explanation.truncated && explanation.allowed);
    assert_eq!(explanation.steps.first().unwrap().set, "group:0#member");
    assert!(explanation.to_json().len() <= 400, "{explanation:?}");
}

#[tokio::test]
async fn whoever_asks_has_it_decided_anew() {
    let local = Arc::new(central().await);
    let kept = local.check(&cx(&Why::default()), of("user:anne")).await;
    let explaining = Explaining::new(local);
    let explained = explaining.explain(&of("user:anne"), soon()).await;
    let (position, explained) = explained.unwrap();
    assert_eq!(Some(position), kept.unwrap().position);
    assert!(sets(explained).0);
    let nobody = v1::CheckRequest {
        store_id: NOBODY.into(),
        ..of("user:anne")
    };
    let refused = explaining.explain(&nobody, soon()).await.unwrap_err();
    assert!(refused.message.contains(NOBODY), "{refused}");
}
