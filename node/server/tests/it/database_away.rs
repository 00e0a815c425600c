//! Central's database is away: what only central can do is refused by every node alike, naming the database.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::Method;
use meridian_proto::openfga::v1;
use meridian_server::config::Config;
use meridian_server::roles::{self, Node};
use prost::Message as _;
use serde_json::json;

use crate::harness::{NOBODY, alone, raw_rpc, send};

fn config(datastore: &str, above: &[&Node]) -> Config {
    let above = above.iter().filter_map(|node| node.nodes);
    let mut config = Config {
        upstream: above.map(|address| format!("http://{address}")).collect(),
        ..alone()
    };
    config.datastore.url = datastore.into();
    // That the database is away is known long before any caller's time is up.
    config.datastore.acquire_timeout = Duration::from_secs(1);
    config.limits.request_timeout = Duration::from_secs(20);
    config
}

#[tokio::test]
async fn what_needs_central_is_unavailable_at_every_node_and_names_the_database() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let database = format!("postgres://{}/meridian", nowhere.local_addr().unwrap());
    drop(nowhere);
    let central = roles::central(&config(&database, &[])).await.unwrap();
    let regional = roles::regional(&config("memory:", &[&central]))
        .await
        .unwrap();
    let edge = roles::edge(&config("memory:", &[&regional, &central]))
        .await
        .unwrap();

    let key = json!({"user": "user:anne", "relation": "reader", "object": "doc:1"});
    let calls = [
        (
            Method::POST,
            format!("/stores/{NOBODY}/write"),
            json!({"writes": {"tuple_keys": [key]}}).to_string(),
        ),
        (
            Method::POST,
            format!("/stores/{NOBODY}/check"),
            json!({"tuple_key": key, "consistency": "HIGHER_CONSISTENCY"}).to_string(),
        ),
        (Method::GET, "/stores".to_owned(), String::new()),
    ];
    let asked = [&central, &regional, &edge].into_iter().flat_map(|node| {
        calls.iter().map(move |(method, path, body)| async move {
            let body = Bytes::from(body.clone());
            let reply = send(node.http, method.clone(), path, &[], body).await;
            (format!("{} {path}", node.name), reply)
        })
    });
    for (asked, reply) in join_all(asked).await {
        assert_eq!(reply.status, 503, "{asked}: {}", reply.body);
        assert!(
            reply.message(503, "unavailable").contains("database"),
            "{asked}: {}",
            reply.body
        );
    }
    for node in [edge, regional, central] {
        node.stop().await;
    }
}

/// A caller may ask for less time than the node gives, and not for more.
#[tokio::test]
async fn a_call_takes_no_longer_than_the_node_allows_whatever_its_caller_asks() {
    // Takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let database = format!("postgres://{}/meridian", silent.local_addr().unwrap());
    let mut config = config(&database, &[]);
    config.limits.request_timeout = Duration::from_millis(100);
    config.datastore.acquire_timeout = Duration::from_secs(600);
    let central = roles::central(&config).await.unwrap();
    let request = v1::ListStoresRequest::default().encode_to_vec();
    let path = "openfga.v1.OpenFGAService/ListStores";
    let asked = raw_rpc(central.grpc, path, &request, &[("grpc-timeout", "1H")]);
    let reply = tokio::time::timeout(Duration::from_secs(30), asked).await;
    assert_ne!(reply.unwrap().status, 0);
    central.stop().await;
}
