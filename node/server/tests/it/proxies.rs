//! Whose a request is, where somebody says so in `X-Forwarded-For`.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use meridian_proto::openfga::v1;
use meridian_server::config::{self, Config};
use meridian_server::roles::{self, Node};
use prost::Message as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::harness::{NOBODY, alone, raw_rpc, send};

const PATIENCE: Duration = Duration::from_secs(30);

async fn node(trusted: &[&str]) -> Node {
    let mut config = Config {
        live: config::Live {
            enabled: true,
            store: Some(NOBODY.into()),
            connections_per_address: 1,
            ..Default::default()
        },
        ..alone()
    };
    config.recorder.enabled = true;
    config.http.trusted_proxies = trusted.iter().map(|text| (*text).to_owned()).collect();
    let node = roles::central(&config).await.unwrap();
    tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
    node
}

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// A client of the live channel, or the status it is refused with.
async fn connect(node: &Node, forwarded: &str) -> Result<Socket, u16> {
    let url = format!("ws://{}/live", node.http);
    let mut request = url.into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("x-forwarded-for", forwarded.parse().unwrap());
    match connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(refused)) => Err(refused.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// The addresses that the recorder has of two checks, by HTTP and by gRPC.
async fn recorded(node: &Node, forwarded: &str) -> Vec<String> {
    let headers = [("x-forwarded-for", forwarded)];
    let store = Bytes::from(json!({"name": "shop"}).to_string());
    let store = send(node.http, Method::POST, "/stores", &[], store).await;
    let store = store.body["id"].as_str().unwrap();
    let check = json!({"tuple_key": {"user": "user:anne", "relation": "viewer", "object": "document:plan"}});
    let (path, check) = (
        format!("/stores/{store}/check"),
        Bytes::from(check.to_string()),
    );
    let refused = send(node.http, Method::POST, &path, &headers, check).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "it has no model");
    let check = v1::CheckRequest {
        store_id: store.to_owned(),
        tuple_key: Some(v1::CheckRequestTupleKey {
            user: "user:anne".into(),
            relation: "viewer".into(),
            object: "document:plan".into(),
        }),
        ..v1::CheckRequest::default()
    };
    let method = "openfga.v1.OpenFGAService/Check";
    raw_rpc(node.grpc, method, &check.encode_to_vec(), &headers).await;
    let path = format!("/stores/{store}/flows?kind=decision");
    let flows = tokio::time::timeout(PATIENCE, async {
        loop {
            let found = send(node.http, Method::GET, &path, &[], Bytes::new()).await;
            let flows = found.body["flows"].as_array().unwrap().clone();
            if flows.len() == 2 {
                break flows;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let ip = |flow: &Value| flow["ip"].as_str().unwrap().to_owned();
    flows.await.unwrap().iter().map(ip).collect()
}

#[tokio::test]
async fn nobody_is_believed_unless_named() {
    let node = node(&["10.0.0.0/8"]).await;
    assert_eq!(recorded(&node, "198.51.100.9").await, ["127.0.0.1"; 2]);
    let _first = connect(&node, "198.51.100.1").await.unwrap();
    assert_eq!(connect(&node, "198.51.100.2").await.err(), Some(429));
    node.stop().await;
}

#[tokio::test]
async fn a_proxy_is_believed_what_it_adds_and_its_client_is_not() {
    let node = node(&["127.0.0.1", "10.0.0.0/8"]).await;
    let spoofed = "203.0.113.7, 198.51.100.9, 10.1.2.3";
    assert_eq!(recorded(&node, spoofed).await, ["198.51.100.9"; 2]);
    let _first = connect(&node, "198.51.100.1").await.unwrap();
    let _second = connect(&node, "2001:db8::1").await.unwrap();
    for again in [
        "203.0.113.7, 198.51.100.1:5050",
        "[2001:db8::1]:443, 10.1.2.3",
    ] {
        assert_eq!(connect(&node, again).await.err(), Some(429), "{again}");
    }
    node.stop().await;
}
