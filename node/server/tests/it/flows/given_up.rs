//! Decisions whose clients do not wait for them.

use meridian_proto::openfga::v1::open_fga_service_client::OpenFgaServiceClient;
use tonic::metadata::MetadataValue;

use super::*;

#[tokio::test]
async fn a_stream_whose_client_goes_away_is_recorded_as_far_as_it_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let node = central(&folder.path().join("central.db"), |_| ()).await;
    let store = store(&node).await;
    // More than finds room on the way to a client that does not read.
    for part in 0..20 {
        let tuple = |number: i32| {
            let object = format!("document:{}{}", "x".repeat(200), part * 100 + number);
            json!({"user": "user:anne", "relation": "viewer", "object": object})
        };
        let tuples: Vec<_> = (0..100).map(tuple).collect();
        let write = json!({"writes": {"tuple_keys": tuples}});
        post(&node, &format!("/stores/{store}/write"), write).await;
    }
    let client = OpenFgaServiceClient::connect(format!("http://{}", node.grpc));
    let list = v1::StreamedListObjectsRequest {
        store_id: store.to_string(),
        r#type: "document".into(),
        relation: "viewer".into(),
        user: "user:anne".into(),
        ..v1::StreamedListObjectsRequest::default()
    };
    let mut request = tonic::Request::new(list);
    let key = MetadataValue::from_static(BEARER);
    request.metadata_mut().insert("authorization", key);
    let stream = client.await.unwrap().streamed_list_objects(request).await;
    let mut stream = stream.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    drop(stream);

    let flows = listed(&node, store, "kind=decision&error_code=cancelled", 1).await;
    let decision = &flows[0]["decision"];
    assert_eq!(decision["operation"], "StreamedListObjects");
    let told = decision["details"]["objects"].as_u64().unwrap();
    assert!((1..2001).contains(&told), "{told}");
    node.stop().await;
}
