//! Where roles are reached.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    EdgeInput, GRPC_PORT, HTTP_PORT, Kind, Labels, METRICS_PORT, NODES_PORT, Object, Settings,
    api_certificate, edge_certificate, nodes_certificate,
};
use crate::api::edge::ServiceType;
use crate::api::store::AuthzStoreSpec;

/// Central's or a region's.
pub(super) fn nodes(metadata: ObjectMeta, labels: &Labels, spec: &AuthzStoreSpec) -> Object {
    let mut ports = api_ports(api_certificate(spec).is_some());
    let tls = nodes_certificate(spec).is_some();
    ports.push(port("nodes", NODES_PORT, if tls { TLS } else { H2C }));
    ports.push(port("metrics", METRICS_PORT, "http"));
    service(metadata, labels, ports, ServiceSpec::default())
}

/// An edge's, which prefers the nearest endpoint. The preference holds for connections, not for requests.
pub(super) fn edge(
    metadata: ObjectMeta,
    labels: &Labels,
    input: &EdgeInput,
    settings: &Settings,
) -> Object {
    let tls = edge_certificate(&input.spec, &input.store_spec).is_some();
    let wanted = input.spec.service.clone().unwrap_or_default();
    let distribution = wanted.traffic_distribution.map_or_else(
        || settings.traffic_distribution.clone(),
        |of| format!("{of:?}"),
    );
    let base = ServiceSpec {
        type_: Some(type_name(wanted.r#type).to_owned()),
        traffic_distribution: Some(distribution),
        ..Default::default()
    };
    service(metadata, labels, api_ports(tls), base)
}

/// That of pods that serve the live channel alone.
pub(super) fn live(
    metadata: ObjectMeta,
    labels: &Labels,
    spec: &AuthzStoreSpec,
    wanted: ServiceType,
) -> Object {
    let http = if api_certificate(spec).is_some() {
        TLS
    } else {
        "http"
    };
    let ports = vec![
        port("http", HTTP_PORT, http),
        port("metrics", METRICS_PORT, "http"),
    ];
    let base = ServiceSpec {
        type_: Some(type_name(wanted).to_owned()),
        ..Default::default()
    };
    service(metadata, labels, ports, base)
}

/// For clients that balance by themselves, and for scraping each pod.
pub(super) fn headless(metadata: ObjectMeta, labels: &Labels, tls: bool) -> Object {
    let mut ports = api_ports(tls);
    ports.push(port("metrics", METRICS_PORT, "http"));
    let base = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        ..Default::default()
    };
    service(metadata, labels, ports, base)
}

/// HTTP/2 without TLS.
const H2C: &str = "kubernetes.io/h2c";

/// Whichever version of HTTP.
const TLS: &str = "https";

fn api_ports(tls: bool) -> Vec<ServicePort> {
    let (grpc, http) = if tls { (TLS, TLS) } else { (H2C, "http") };
    vec![port("grpc", GRPC_PORT, grpc), port("http", HTTP_PORT, http)]
}

fn type_name(of: ServiceType) -> &'static str {
    match of {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    }
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
