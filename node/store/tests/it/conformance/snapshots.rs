use std::sync::Arc;

use meridian_model::ports::{Datastore, Read, TupleFilter};
use meridian_model::{Revision, Tiers};

use crate::support::{deadline, key, keys, model, model_id, store_id, tuple, tuples};

type Db = Arc<dyn Datastore>;

const NO_LIMIT: u32 = u32::MAX;

fn direct(object: &str, relation: &str) -> Read {
    Read::Direct {
        object: object.parse().unwrap(),
        relation: relation.into(),
    }
}

fn parents(object: &str, relation: &str) -> Read {
    Read::Parents {
        object: object.parse().unwrap(),
        relation: relation.into(),
    }
}

pub(super) async fn a_snapshot_does_not_see_later_writes(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    assert!(
        db.snapshot(store_id(2), deadline())
            .await
            .unwrap()
            .is_none()
    );
    db.write_model(store_id(1), model_id(1), &model("1.1"), deadline())
        .await
        .unwrap();
    db.write_tuples(
        store_id(1),
        &[],
        &tuples(&["repo:a#admin@user:anne", "team:core#member@user:anne"]),
        deadline(),
    )
    .await
    .unwrap();

    let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
    db.write_tuples(
        store_id(1),
        &[key("repo:a#admin@user:anne")],
        &tuples(&["repo:b#admin@user:anne"]),
        deadline(),
    )
    .await
    .unwrap();
    db.write_model(store_id(1), model_id(2), &model("1.2"), deadline())
        .await
        .unwrap();
    db.assign_tiers(
        store_id(1),
        &Tiers {
            cold: ["repo".to_owned()].into(),
            ..Tiers::default()
        },
        deadline(),
    )
    .await
    .unwrap();

    assert_eq!(snapshot.position().revision, Revision(3));
    assert_eq!(
        keys(&snapshot.tuples(None, 10).await.unwrap()),
        ["repo:a#admin@user:anne", "team:core#member@user:anne"]
    );
    assert_eq!(
        keys(
            &snapshot
                .tuples(Some(&key("repo:a#admin@user:anne")), 10)
                .await
                .unwrap()
        ),
        ["team:core#member@user:anne"]
    );
    assert_eq!(
        keys(&snapshot.tuples_of_type("team", None, 10).await.unwrap()),
        ["team:core#member@user:anne"]
    );
    let reads = [direct("repo:a", "admin"), direct("repo:b", "admin")];
    let round = snapshot
        .read(&reads, &"user:anne".parse().unwrap(), NO_LIMIT)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(round.values().map(Vec::len).collect::<Vec<_>>(), [1, 0]);
    let head = snapshot.head().await.unwrap();
    assert_eq!(
        head.models
            .iter()
            .map(|stored| stored.id)
            .collect::<Vec<_>>(),
        [model_id(1)]
    );
    assert_eq!(snapshot.latest_model().await.unwrap(), Some(model_id(1)));
    assert_eq!(
        *snapshot.model(model_id(1)).await.unwrap().unwrap(),
        model("1.1")
    );
    assert_eq!(snapshot.model(model_id(2)).await.unwrap(), None);
    assert_eq!(
        (head.position, head.tiers, head.info.name.as_str()),
        (snapshot.position(), Tiers::default(), "one")
    );

    let mut later = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
    assert_eq!(later.position().revision, Revision(6));
    let models = later.head().await.unwrap().models;
    assert_eq!(
        models.iter().map(|stored| stored.id).collect::<Vec<_>>(),
        [model_id(1), model_id(2)]
    );
}

pub(super) async fn a_round_reads_what_decides(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let stored = [
        "repo:a#reader@user:anne",
        "repo:a#reader@user:bob",
        "repo:a#reader@user:*",
        "repo:a#reader@robot:*",
        "repo:a#reader@team:core#member",
        "repo:a#reader@team:web#member",
        "repo:a#readers@user:anne",
        "repo:a#owner@org:acme",
        "repo:a#owner@org:*",
        "repo:a#owner@org:acme#member",
        "repo:b#reader@user:bob",
    ];
    db.write_tuples(store_id(1), &[], &tuples(&stored), deadline())
        .await
        .unwrap();
    let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
    let reads = [
        direct("repo:a", "reader"),
        parents("repo:a", "owner"),
        direct("repo:b", "reader"),
        parents("repo:c", "owner"),
    ];

    let usersets = [
        "repo:a#reader@team:core#member",
        "repo:a#reader@team:web#member",
    ];
    let cases: [(&str, &[&str]); 4] = [
        (
            "user:anne",
            &["repo:a#reader@user:*", "repo:a#reader@user:anne"],
        ),
        ("user:carl", &["repo:a#reader@user:*"]),
        ("user:*", &["repo:a#reader@user:*"]),
        ("team:core#member", &[]),
    ];
    for (user, own) in cases {
        let user_read = user.parse().unwrap();
        let round = snapshot.read(&reads, &user_read, NO_LIMIT).await.unwrap();
        let round = round.unwrap();
        let set = |object: &str, relation: &str| {
            keys(&round[&(object.parse().unwrap(), relation.into())])
        };
        assert_eq!(round.len(), 4, "{user}");
        assert_eq!(
            set("repo:a", "reader"),
            [usersets.as_slice(), own].concat(),
            "{user}"
        );
        assert_eq!(set("repo:a", "owner"), ["repo:a#owner@org:acme"], "{user}");
        assert!(
            set("repo:b", "reader").is_empty() && set("repo:c", "owner").is_empty(),
            "{user}"
        );
    }
    let both = [direct("repo:a", "reader"), parents("repo:a", "reader")];
    let round = snapshot
        .read(&both, &"user:anne".parse().unwrap(), NO_LIMIT)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(round.len(), 1);
    assert_eq!(round.values().next().unwrap().len(), 5);
    assert!(
        snapshot
            .read(&[], &"user:anne".parse().unwrap(), 0)
            .await
            .unwrap()
            .unwrap()
            .is_empty()
    );
}

pub(super) async fn a_round_may_be_large(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let stored: Vec<_> = (0..3000)
        .map(|n| tuple(&format!("repo:{n}#reader@user:anne")))
        .collect();
    db.write_tuples(store_id(1), &[], &stored, deadline())
        .await
        .unwrap();
    assert_eq!(
        db.tuples(store_id(1), &TupleFilter::default(), None, 5000, deadline())
            .await
            .unwrap()
            .items
            .len(),
        3000
    );
    let reads: Vec<_> = (0..12_000)
        .map(|n| direct(&format!("repo:{n}"), "reader"))
        .collect();
    let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
    let round = snapshot
        .read(&reads, &"user:anne".parse().unwrap(), NO_LIMIT)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(round.len(), 12_000);
    assert_eq!(
        round.values().filter(|tuples| tuples.len() == 1).count(),
        3000
    );
}

pub(super) async fn a_round_loads_no_more_than_its_limit(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let mut stored: Vec<_> = (0..20)
        .map(|n| tuple(&format!("repo:a#reader@team:{n}#member")))
        .collect();
    stored.extend((0..20).map(|n| tuple(&format!("repo:a#owner@org:{n}"))));
    stored.push(tuple("repo:a#reader@user:anne"));
    db.write_tuples(store_id(1), &[], &stored, deadline())
        .await
        .unwrap();
    let user = "user:anne".parse().unwrap();
    let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
    let (usersets, objects) = (direct("repo:a", "reader"), parents("repo:a", "owner"));
    let cases = [
        (vec![usersets.clone()], 21),
        (vec![objects.clone()], 20),
        (vec![usersets, objects], 41),
        (vec![direct("repo:b", "reader")], 0),
    ];
    for (reads, count) in cases {
        let exact = snapshot.read(&reads, &user, count).await.unwrap().unwrap();
        let found: usize = exact.values().map(Vec::len).sum();
        assert_eq!(found, count as usize);
        if count > 0 {
            let over = snapshot.read(&reads, &user, count - 1).await.unwrap();
            assert!(over.is_none());
        }
    }
}
