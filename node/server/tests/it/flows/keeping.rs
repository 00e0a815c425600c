//! Where flows are kept, and with what they go.

use meridian_store::{DatastoreSettings, PoolSettings};

use super::*;

#[tokio::test]
async fn flows_have_a_database_of_their_own_and_go_with_their_store() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (
        folder.path().join("central.db"),
        folder.path().join("flows.db"),
    );
    let start = || central(&file, |recorder| recorder.url = Some(url(&other)));
    let node = start().await;
    let (gone, stays) = (store(&node).await, store(&node).await);
    let headers = [("authorization", BEARER)];
    let key = json!({"user": "user:anne", "relation": "viewer", "object": "document:plan"});
    for store in [gone, stays] {
        let path = format!("/stores/{store}/flow-recorder");
        let half = Bytes::from(json!({"sampling": 0.5}).to_string());
        let set = send(node.http, Method::PATCH, &path, &headers, half).await;
        assert_eq!(set.body["sampling"], 0.5);
        let check = format!("/stores/{store}/check");
        post(&node, &check, json!({ "tuple_key": key })).await;
        listed(&node, store, "kind=authentication", 1).await;
    }
    let path = format!("/stores/{gone}");
    let deleted = send(node.http, Method::DELETE, &path, &headers, Bytes::new());
    assert_eq!(deleted.await.status, StatusCode::NO_CONTENT);
    // A node sweeps soon after it has started.
    node.stop().await;
    let node = start().await;
    let flows = SqlFlows::connect_lazy(&url(&other)).unwrap();
    let deadline = || Instant::now() + PATIENCE;
    let swept = async {
        loop {
            let set = flows.get_overrides(deadline()).await.unwrap();
            let set: Vec<_> = set.iter().map(|(store, _)| *store).collect();
            let old = flows.has_older(gone, Timestamp(i64::MAX), deadline()).await;
            if !old.unwrap() && set == [stays] {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, swept).await.unwrap();
    assert_ne!(kept(&other, stays, FlowKind::Authentication).await, []);

    // Nodes take turns where the flows are: that is where the lease is held.
    for (database, is_free) in [(&file, true), (&other, false)] {
        let settings = DatastoreSettings {
            url: url(database),
            pool: PoolSettings::default(),
        };
        let datastore = meridian_store::open(&settings).unwrap();
        let lease = datastore.acquire_lease("flows", "another", Duration::ZERO, deadline());
        assert_eq!(lease.await.unwrap(), is_free);
    }
    node.stop().await;
    for store in [gone, stays] {
        assert_eq!(kept(&file, store, FlowKind::Authentication).await, []);
    }
}
