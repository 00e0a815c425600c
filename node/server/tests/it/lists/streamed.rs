//! StreamedListObjects.

use super::*;
use crate::captured::Log;

#[tokio::test]
async fn objects_are_streamed_on_both_transports() {
    let shop = Shop::open().await;
    let path = format!("/stores/{}/streamed-list-objects", shop.store);
    let stream = async |asked: Value| {
        let asked = asked.to_string().into();
        let (status, _, body) = raw(shop.node.http, Method::POST, &path, &[], asked).await;
        let lines: Vec<Value> = String::from_utf8(body.to_vec())
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (status.as_u16(), lines)
    };
    let (status, lines) =
        stream(json!({"type": "repo", "relation": "owner", "user": "user:bob"})).await;
    let objects: BTreeSet<_> = lines
        .iter()
        .map(|line| line["result"]["object"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((status, objects), (200, set(["repo:1", "repo:2"])));
    let (status, lines) =
        stream(json!({"type": "nope", "relation": "owner", "user": "user:bob"})).await;
    let expected = json!({"error": {"code": 3, "message": "type 'nope' not found", "details": []}});
    assert_eq!((status, &lines[0]), (400, &expected));

    let request = v1::StreamedListObjectsRequest {
        store_id: shop.store.clone(),
        r#type: "repo".into(),
        relation: "owner".into(),
        user: "user:bob".into(),
        ..Default::default()
    };
    let reply = shop.node.rpc("StreamedListObjects", &request).await;
    assert_eq!(reply.status, 0, "{}", reply.message);
    let mut rest = reply.body;
    let mut objects = BTreeSet::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        let message = rest.split_to(5 + length).slice(5..);
        objects.insert(
            v1::StreamedListObjectsResponse::decode(message)
                .unwrap()
                .object,
        );
    }
    assert_eq!(objects, set(["repo:1", "repo:2"]));
    // repo:1 is proven before the condition of repo:3 is met: its lack of an answer stands behind the stream.
    let request = v1::StreamedListObjectsRequest {
        relation: "reader".into(),
        user: "user:anne".into(),
        ..request
    };
    assert_eq!(
        shop.node.rpc("StreamedListObjects", &request).await.status,
        2000
    );
    let nope = v1::StreamedListObjectsRequest {
        relation: "nope".into(),
        ..request
    };
    assert_eq!(
        shop.node.rpc("StreamedListObjects", &nope).await.status,
        2022
    );
}

/// What is found before a listing turns out to be long, and is begun again elsewhere, is streamed once.
#[tokio::test]
async fn each_object_is_streamed_once_however_long_a_listing_is() {
    let shop = Shop::with(Limits {
        check_inline_work: 50,
        ..Limits::default()
    })
    .await;
    let repos: Vec<_> = (0..90).map(|n| format!("repo:of-all-{n}")).collect();
    let tuples: Vec<_> = repos
        .iter()
        .map(|repo| ("team:all#member", "owner", repo.as_str()))
        .chain([("user:anne", "owner", "repo:of-anne")])
        .collect();
    let written = shop.node.write(&shop.store, &tuples).await;
    assert_eq!(written.status.as_u16(), 200, "{}", written.body);
    let asked = json!({"type": "repo", "relation": "owner", "user": "user:anne"});
    let path = format!("/stores/{}/streamed-list-objects", shop.store);
    let (_, _, body) = raw(
        shop.node.http,
        Method::POST,
        &path,
        &[],
        asked.to_string().into(),
    )
    .await;
    let body = String::from_utf8(body.to_vec()).unwrap();
    let lines = body.lines().map(|line| serde_json::from_str(line).unwrap());
    let objects: Vec<String> = lines
        .map(|line: Value| line["result"]["object"].as_str().unwrap().to_owned())
        .collect();
    let different: BTreeSet<_> = objects.iter().map(String::as_str).collect();
    assert_eq!(objects.len(), different.len(), "{objects:?}");
    let all = repos.iter().map(String::as_str);
    assert_eq!(
        different,
        all.chain(["repo:1", "repo:of-anne"])
            .collect::<BTreeSet<_>>()
    );
}

#[tokio::test]
async fn a_stream_that_is_cut_short_before_anything_is_found_says_so() {
    let shop = Shop::with(Limits {
        check_reads: 0,
        ..Limits::default()
    })
    .await;
    let asked = json!({"type": "repo", "relation": "owner", "user": "user:anne"}).to_string();
    let path = format!("/stores/{}/streamed-list-objects", shop.store);
    let (status, headers, body) = raw(shop.node.http, Method::POST, &path, &[], asked.into()).await;
    assert_eq!((status.as_u16(), body.len()), (200, 0));
    assert_eq!(headers["meridian-truncated"], "true");
}

/// Else nobody but the client knows, whose code may not look.
#[tokio::test]
async fn listings_that_are_cut_short_are_logged() {
    let shop = Shop::with(Limits {
        list_objects_results: 1,
        check_reads: 0,
        ..Limits::default()
    })
    .await;
    let asked = json!({"type": "repo", "relation": "owner", "user": "user:bob"}).to_string();
    let (log, path) = (Log::default(), format!("/stores/{}", shop.store));
    let logging = log.start(tracing::Level::INFO);
    let list = async |call: &str| {
        let (path, asked) = (format!("{path}/{call}"), asked.clone());
        raw(shop.node.http, Method::POST, &path, &[], asked.into()).await
    };
    let (_, headers, _) = list("list-objects").await;
    let (_, of_stream, _) = list("streamed-list-objects").await;
    drop(logging);
    for (headers, what) in [
        (headers, "a listing was cut short"),
        (of_stream, "a streamed listing was cut short"),
    ] {
        assert_eq!(headers["meridian-truncated"], "true");
        let id = headers["x-request-id"].to_str().unwrap();
        let lines = log.lines();
        let is_told = |line: &&String| line.contains(what) && line.contains(id);
        assert_eq!(lines.iter().filter(is_told).count(), 1, "{lines:?}");
    }
}
