use std::sync::Arc;

use meridian_model::ports::{Datastore, TupleFilter, WriteOptions};
use meridian_model::{Tuple, TupleKey};

use crate::support::{deadline, key, keys, store_id, tuple, tuples};

type Db = Arc<dyn Datastore>;

pub(super) async fn tuples_are_filtered(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let stored = [
        "repo:a#admin@user:anne",
        "repo:a#reader@team:core#member",
        "repo:a#reader@user:*",
        "repo:b#reader@user:anne",
        "team:core#member@user:anne",
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

    let filter = |object_type: &str, id: &str, relation: &str, user: &str| TupleFilter {
        object_type: (!object_type.is_empty()).then(|| object_type.to_owned()),
        object_id: (!id.is_empty()).then(|| id.to_owned()),
        relation: (!relation.is_empty()).then(|| relation.to_owned()),
        subject: (!user.is_empty()).then(|| user.parse().unwrap()),
    };
    let cases: [(TupleFilter, &[usize]); 10] = [
        (filter("", "", "", ""), &[0, 1, 2, 3, 4]),
        (filter("repo", "", "", ""), &[0, 1, 2, 3]),
        (filter("repo", "a", "", ""), &[0, 1, 2]),
        (filter("repo", "a", "reader", ""), &[1, 2]),
        (filter("repo", "", "reader", "user:anne"), &[3]),
        (filter("", "", "", "user:anne"), &[0, 3, 4]),
        (filter("", "", "", "user:*"), &[2]),
        (filter("repo", "", "", "team:core#member"), &[1]),
        (filter("repo", "", "", "team:core"), &[]),
        (filter("folder", "", "", ""), &[]),
    ];
    for (filter, expected) in cases {
        let page = db
            .tuples(store_id(1), &filter, None, 100, deadline())
            .await
            .unwrap();
        assert_eq!(
            keys(&page.items),
            expected.iter().map(|&i| stored[i]).collect::<Vec<_>>(),
            "{filter:?}"
        );
        assert_eq!(page.next, None);
    }
    let unknown = db
        .tuples(store_id(2), &TupleFilter::default(), None, 100, deadline())
        .await
        .unwrap();
    assert!(unknown.items.is_empty());
}

pub(super) async fn pages_follow_the_order_of_bytes(db: Db) {
    db.create_store(store_id(1), "one", deadline())
        .await
        .unwrap();
    let mut stored: Vec<Tuple> = Vec::new();
    for object in [
        "a:1",
        "a-b:1",
        "a_b:1",
        "A:1",
        "a:10",
        "a:2",
        "a:\u{e4}",
        "a:Z",
        "a:!",
        "z:~",
        "a:\u{1f600}",
        "a:\u{ffee}",
    ] {
        for user in [
            "user:b",
            "user:B",
            "user:*",
            "team:x#member",
            "team:x#Member",
        ] {
            stored.push(tuple(&format!("{object}#r@{user}")));
        }
    }
    db.write_tuples(
        store_id(1),
        &[],
        &stored,
        WriteOptions::default(),
        deadline(),
    )
    .await
    .unwrap();
    let mut expected: Vec<TupleKey> = stored.into_iter().map(|tuple| tuple.key).collect();
    expected.sort();

    let of_type = |object_type: &str| TupleFilter {
        object_type: Some(object_type.to_owned()),
        ..TupleFilter::default()
    };
    for filter in [TupleFilter::default(), of_type("a"), of_type("A")] {
        let wanted: Vec<_> = expected
            .iter()
            .filter(|key| {
                filter
                    .object_type
                    .as_deref()
                    .is_none_or(|t| t == key.object.object_type())
            })
            .cloned()
            .collect();
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = db
                .tuples(store_id(1), &filter, after.as_ref(), 7, deadline())
                .await
                .unwrap();
            assert!(page.items.len() == 7 || page.next.is_none());
            seen.extend(page.items.into_iter().map(|tuple| tuple.key));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, wanted);
    }
}

pub(super) async fn changes_are_paged_and_filtered(db: Db) {
    db.create_store(store_id(1), "one", deadline())
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
    let before = db.now(deadline()).await.unwrap();
    while db.now(deadline()).await.unwrap() == before {
        tokio::task::yield_now().await;
    }
    let gone = [key("repo:a#admin@user:anne")];
    let second = db
        .write_tuples(
            store_id(1),
            &gone,
            &tuples(&["repo:b#admin@user:anne"]),
            WriteOptions::default(),
            deadline(),
        )
        .await
        .unwrap()
        .unwrap();

    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = db
            .tuple_changes(store_id(1), None, None, after, 2, deadline())
            .await
            .unwrap();
        after = page.last().map(|change| change.cursor);
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    let told: Vec<_> = seen
        .iter()
        .map(|change| (change.tuple.key.to_string(), change.deleted))
        .collect();
    let expected = [
        ("repo:a#admin@user:anne", false),
        ("team:core#member@user:anne", false),
        ("repo:a#admin@user:anne", true),
        ("repo:b#admin@user:anne", false),
    ];
    assert_eq!(
        told,
        expected.map(|(key, deleted)| (key.to_owned(), deleted))
    );
    assert!(seen.is_sorted_by_key(|change| change.cursor));
    assert_eq!(seen[2].tuple.timestamp, second.at);

    let repos = db
        .tuple_changes(store_id(1), Some("repo"), None, None, 10, deadline())
        .await
        .unwrap();
    assert_eq!(repos, [seen[0].clone(), seen[2].clone(), seen[3].clone()]);
    let recent = db
        .tuple_changes(store_id(1), None, Some(second.at), None, 10, deadline())
        .await
        .unwrap();
    assert_eq!(recent, seen[2..]);
    let recent_teams = db
        .tuple_changes(
            store_id(1),
            Some("team"),
            Some(second.at),
            None,
            10,
            deadline(),
        )
        .await
        .unwrap();
    assert!(recent_teams.is_empty());
}
