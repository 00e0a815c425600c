//! Where roles are reached.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{GRPC_PORT, HTTP_PORT, Kind, Labels, METRICS_PORT, NODES_PORT, Object, Settings};
use crate::api::edge::{EdgeRegionSpec, ServiceType};

/// Central's or a region's.
pub(super) fn nodes(metadata: ObjectMeta, labels: &Labels) -> Object {
    let mut ports = api_ports();
    ports.push(port("nodes", NODES_PORT, H2C));
    ports.push(port("metrics", METRICS_PORT, "http"));
    service(metadata, labels, ports, ServiceSpec::default())
}

/// An edge's, which prefers the nearest endpoint. The preference holds for connections, not for requests.
pub(super) fn edge(
    metadata: ObjectMeta,
    labels: &Labels,
    spec: &EdgeRegionSpec,
    settings: &Settings,
) -> Object {
    let wanted = spec.service.clone().unwrap_or_default();
    let distribution = wanted.traffic_distribution.map_or_else(
        || settings.traffic_distribution.clone(),
        |of| format!("{of:?}"),
    );
    let kind = match wanted.r#type {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let base = ServiceSpec {
        type_: Some(kind.to_owned()),
        traffic_distribution: Some(distribution),
        ..Default::default()
    };
    service(metadata, labels, api_ports(), base)
}

/// For clients that balance by themselves, and for scraping each pod.
pub(super) fn headless(metadata: ObjectMeta, labels: &Labels) -> Object {
    let mut ports = api_ports();
    ports.push(port("metrics", METRICS_PORT, "http"));
    let base = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        ..Default::default()
    };
    service(metadata, labels, ports, base)
}

/// HTTP/2 without TLS.
const H2C: &str = "kubernetes.io/h2c";

fn api_ports() -> Vec<ServicePort> {
    vec![
        port("grpc", GRPC_PORT, H2C),
        port("http", HTTP_PORT, "http"),
    ]
}

fn port(name: &str, number: u16, protocol: &str) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        app_protocol: Some(protocol.to_owned()),
        ..Default::default()
    }
}

fn service(
    metadata: ObjectMeta,
    labels: &Labels,
    ports: Vec<ServicePort>,
    base: ServiceSpec,
) -> Object {
    Object::new(
        Kind::Service,
        &Service {
            metadata,
            spec: Some(ServiceSpec {
                selector: Some(labels.selector()),
                ports: Some(ports),
                ..base
            }),
            ..Default::default()
        },
    )
}
