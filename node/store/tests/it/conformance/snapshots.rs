use std::sync::Arc;

use meridian_model::ports::{Datastore, Read, Snapshot, TupleFilter, WriteOptions};
use meridian_model::{Revision, Tiers, Tuple};

use crate::support::{deadline, key, keys, model, model_id, store_id, tuple, tuples};

type Db = Arc<dyn Datastore>;

const NO_LIMIT: u32 = u32::MAX;

fn direct(object: &str, relation: &str, user: &str) -> Read {
    Read::Direct {
        object: object.parse().unwrap(),
        relation: relation.into(),
        user: Arc::new(user.parse().unwrap()),
    }
}

fn members(object: &str, relation: &str) -> Read {
    Read::Members {
        object: object.parse().unwrap(),
        relation: relation.into(),
    }
}

fn objects(subject: &str, object_type: &str, relation: &str) -> Read {
    Read::Objects {
        subject: subject.parse().unwrap(),
        object_type: object_type.into(),
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
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();

    let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
    db.write_tuples(
        store_id(1),
        &[key("repo:a#admin@user:anne")],
        &tuples(&["repo:b#admin@user:anne"]),
        WriteOptions::default(),
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
    let reads = [
        direct("repo:a", "admin", "user:anne"),
        objects("user:anne", "repo", "admin"),
        direct("repo:b", "admin", "user:anne"),
    ];
    let admin_of_a = vec!["repo:a#admin@user:anne".to_owned()];
    let expected = [admin_of_a.clone(), admin_of_a, Vec::new()];
    assert_eq!(answers(&mut *snapshot, &reads).await, expected);
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
    db.write_tuples(
        store_id(1),
        &[],
        &tuples(&stored),
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
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
    let mut reads = Vec::new();
    let mut expected = Vec::new();
    for (user, own) in cases {
        reads.push(direct("repo:a", "reader", user));
        expected.push([usersets.as_slice(), own].concat());
        reads.push(parents("repo:a", "owner"));
        expected.push(vec!["repo:a#owner@org:acme"]);
        for nothing in [
            direct("repo:b", "reader", user),
            parents("repo:c", "owner"),
            members("repo:c", "owner"),
        ] {
            reads.push(nothing);
            expected.push(Vec::new());
        }
    }
    // The same sets read in another way, and once more.
    reads.extend([parents("repo:a", "reader"), members("repo:a", "owner")]);
    expected.push(vec!["repo:a#reader@user:anne", "repo:a#reader@user:bob"]);
    expected.push(vec![
        "repo:a#owner@org:acme",
        "repo:a#owner@org:*",
        "repo:a#owner@org:acme#member",
    ]);
    reads.push(direct("repo:a", "reader", "user:anne"));
    expected.push(expected[0].clone());
    for expected in &mut expected {
        expected.sort_unstable();
    }
    assert_eq!(answers(&mut *snapshot, &reads).await, expected);
    assert!(answers(&mut *snapshot, &[]).await.is_empty());
}

/// CVE-2026-55170 (OpenFGA): in MySQL names that differ in case alone were one.
pub(super) async fn names_are_told_apart_by_their_bytes(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let stored = [
        "repo:a#reader@user:anne",
        "repo:A#reader@user:Anne",
        "repo:a#Reader@user:ANNE",
        "Repo:a#reader@User:anne",
        "repo:a#reader@team:x#member",
        "repo:a#reader@team:x#Member",
        // An accent or a width alone, which some collations pass over.
        "repo:a#reader@user:ann\u{e9}",
        "repo:a#reader@user:anne\u{ff41}",
    ];
    for tuple in stored {
        db.write_tuples(
            store_id(1),
            &[],
            &tuples(&[tuple]),
            WriteOptions::default(),
            deadline(),
        )
        .await
        .unwrap();
    }
    let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
    let usersets = ["repo:a#reader@team:x#member", "repo:a#reader@team:x#Member"];
    let own = |tuple| [usersets.as_slice(), &[tuple]].concat();
    let cases = [
        (direct("repo:a", "reader", "user:anne"), own(stored[0])),
        (direct("repo:a", "reader", "user:Anne"), usersets.to_vec()),
        (direct("repo:A", "reader", "user:Anne"), vec![stored[1]]),
        (direct("repo:A", "reader", "user:anne"), Vec::new()),
        (direct("repo:a", "Reader", "user:ANNE"), vec![stored[2]]),
        (direct("repo:a", "reader", "user:ann\u{e9}"), own(stored[6])),
        (
            direct("repo:a", "reader", "user:anne\u{ff41}"),
            own(stored[7]),
        ),
        (objects("user:anne", "repo", "reader"), vec![stored[0]]),
        (objects("User:anne", "repo", "reader"), Vec::new()),
        (objects("team:x#Member", "repo", "reader"), vec![stored[5]]),
        (members("Repo:a", "reader"), vec![stored[3]]),
    ];
    let (reads, mut expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    for expected in &mut expected {
        expected.sort_unstable();
    }
    assert_eq!(answers(&mut *snapshot, &reads).await, expected);
    drop(snapshot);
    db.write_tuples(
        store_id(1),
        &[key(stored[1])],
        &[],
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
    let expected = [own(stored[0]), Vec::new()].map(|mut expected| {
        expected.sort_unstable();
        expected
    });
    let reads = [
        direct("repo:a", "reader", "user:anne"),
        direct("repo:A", "reader", "user:Anne"),
    ];
    assert_eq!(answers(&mut *snapshot, &reads).await, expected);
}

pub(super) async fn a_round_reads_a_subjects_objects(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let stored = [
        "repo:a#reader@team:core",
        "repo:b#reader@team:core",
        "repo:b#reader@team:core#member",
        "repo:c#reader@team:core#admin",
        "repo:c#readers@team:core",
        "repository:a#reader@team:core",
        "repo:d#reader@team:*",
        "repo:d#reader@team:cor",
        "org:a#reader@team:core",
    ];
    db.write_tuples(
        store_id(1),
        &[],
        &tuples(&stored),
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    let deleted = [key("repo:a#reader@team:core")];
    let mut before = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
    db.write_tuples(
        store_id(1),
        &deleted,
        &[],
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
    let reads = [
        objects("team:core", "repo", "reader"),
        objects("team:core#member", "repo", "reader"),
        objects("team:*", "repo", "reader"),
        objects("team:core", "repository", "reader"),
        objects("team:core", "repo", "owner"),
        objects("team:c", "repo", "reader"),
    ];
    let expected: [&[&str]; 6] = [
        &["repo:b#reader@team:core"],
        &["repo:b#reader@team:core#member"],
        &["repo:d#reader@team:*"],
        &["repository:a#reader@team:core"],
        &[],
        &[],
    ];
    assert_eq!(answers(&mut *snapshot, &reads).await, expected);
    assert_eq!(
        answers(&mut *before, &reads[..1]).await,
        [["repo:a#reader@team:core", "repo:b#reader@team:core"]]
    );
}

/// What a round reads, by key.
async fn answers(snapshot: &mut dyn Snapshot, reads: &[Read]) -> Vec<Vec<String>> {
    let found = snapshot.read(reads, NO_LIMIT).await.unwrap().unwrap();
    let sorted = |tuples: &Vec<Tuple>| {
        let mut keys = keys(tuples);
        keys.sort_unstable();
        keys
    };
    found.iter().map(sorted).collect()
}

pub(super) async fn a_round_may_be_large(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let stored: Vec<_> = (0..3000)
        .map(|n| tuple(&format!("repo:{n}#reader@user:anne")))
        .collect();
    db.write_tuples(
        store_id(1),
        &[],
        &stored,
        WriteOptions::default(),
        deadline(),
    )
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
    let mut reads: Vec<_> = (0..12_000)
        .map(|n| direct(&format!("repo:{n}"), "reader", "user:anne"))
        .collect();
    reads.push(objects("user:anne", "repo", "reader"));
    let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
    let round = snapshot.read(&reads, NO_LIMIT).await.unwrap().unwrap();
    let counts: Vec<usize> = round.iter().map(Vec::len).collect();
    let expected = [vec![1; 3000], vec![0; 9000], vec![3000]].concat();
    assert_eq!(counts, expected);
    let seventh = &round[7][0].key;
    assert_eq!(seventh.to_string(), "repo:7#reader@user:anne");
}

pub(super) async fn a_round_loads_no_more_than_its_limit(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let mut stored: Vec<_> = (0..20)
        .map(|n| tuple(&format!("repo:a#reader@team:{n}#member")))
        .collect();
    stored.extend((0..20).map(|n| tuple(&format!("repo:a#owner@org:{n}"))));
    stored.extend((0..20).map(|n| tuple(&format!("repo:a{n}#reader@user:anne"))));
    stored.push(tuple("repo:a#reader@user:anne"));
    db.write_tuples(
        store_id(1),
        &[],
        &stored,
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    let mut snapshot = db.snapshot(store_id(1), deadline()).await.unwrap().unwrap();
    let usersets = direct("repo:a", "reader", "user:anne");
    let of_org = parents("repo:a", "owner");
    let cases = [
        (vec![usersets.clone()], 21),
        (vec![of_org.clone()], 20),
        (vec![members("repo:a", "reader")], 21),
        (vec![objects("user:anne", "repo", "reader")], 21),
        (vec![usersets, of_org], 41),
        (vec![direct("repo:b", "reader", "user:anne")], 0),
    ];
    for (reads, count) in cases {
        let exact = snapshot.read(&reads, count).await.unwrap().unwrap();
        let found: usize = exact.iter().map(Vec::len).sum();
        assert_eq!(found, count as usize);
        if count > 0 {
            let over = snapshot.read(&reads, count - 1).await.unwrap();
            assert!(over.is_none());
        }
    }
}
