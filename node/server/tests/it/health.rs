//! Health and reflection.

use http::StatusCode;
use prost::Message;
use serde_json::json;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};

use crate::harness::Node;

#[tokio::test]
async fn health_follows_readiness() {
    let node = Node::start().await;
    let ask = async |service: &str| {
        let reply = node
            .raw_rpc(
                "grpc.health.v1.Health/Check",
                &HealthCheckRequest {
                    service: service.into(),
                }
                .encode_to_vec(),
                &[],
            )
            .await;
        (reply.status == 0).then(|| {
            HealthCheckResponse::decode(&reply.body[5..])
                .unwrap()
                .status()
        })
    };
    for (ready, status, http, body) in [
        (true, ServingStatus::Serving, StatusCode::OK, "SERVING"),
        (
            false,
            ServingStatus::NotServing,
            StatusCode::SERVICE_UNAVAILABLE,
            "NOT_SERVING",
        ),
    ] {
        node.readiness.set(ready).await;
        assert_eq!(ask("").await, Some(status));
        assert_eq!(ask("openfga.v1.OpenFGAService").await, Some(status));
        let reply = node.get("/healthz").await;
        assert_eq!((reply.status, reply.body), (http, json!({"status": body})));
    }
    assert_eq!(ask("no.such.Service").await, None);
}

#[tokio::test]
async fn a_node_that_drains_is_never_ready_again() {
    let node = Node::start().await;
    node.readiness.drain().await;
    node.readiness.set(true).await;
    let reply = node.get("/healthz").await;
    assert_eq!(reply.body, json!({"status": "NOT_SERVING"}));
    assert!(!node.readiness.is_ready());
}

#[tokio::test]
async fn reflection_lists_what_the_port_serves() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, ServerReflectionResponse, server_reflection_request,
        server_reflection_response,
    };
    let node = Node::start().await;
    let message_request = Some(server_reflection_request::MessageRequest::ListServices(
        String::new(),
    ));
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request,
    };
    let reply = node
        .raw_rpc(
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            &request.encode_to_vec(),
            &[],
        )
        .await;
    let response = ServerReflectionResponse::decode(&reply.body[5..]).unwrap();
    let Some(server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        response.message_response
    else {
        panic!("{response:?}")
    };
    let mut names: Vec<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    names.sort_unstable();
    let served = [
        "authzen.v1.AuthZenService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "meridian.v1.AdminService",
        "meridian.v1.CheckService",
        "meridian.v1.FlowService",
        "openfga.v1.OpenFGAService",
    ];
    assert_eq!(names, served);
}
