//! An OTLP collector that keeps what it is sent.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

const PATIENCE: Duration = Duration::from_secs(60);

/// A span as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) name: String,
    /// The process it is of.
    pub(super) instance: String,
    pub(super) node: String,
    /// The subject of whoever called.
    pub(super) caller: String,
    /// Of a query, the statement.
    pub(super) text: String,
}

pub(super) struct Collector {
    pub(super) address: String,
    seen: watch::Receiver<Vec<Seen>>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = format!("http://{}", incoming.local_addr().unwrap());
        let (sender, seen) = watch::channel(Vec::new());
        let service = TraceServiceServer::new(Keeper(sender));
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming));
        Self { address, seen }
    }

    /// Waits until what has arrived is enough.
    pub(super) async fn until(&self, is_enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut seen = self.seen.clone();
        let waited = seen.wait_for(|seen| is_enough(seen));
        let waited = tokio::time::timeout(PATIENCE, waited).await;
        match waited {
            Ok(seen) => seen.unwrap().clone(),
            Err(_) => panic!("not enough: {:#?}", *self.seen.borrow()),
        }
    }
}

struct Keeper(watch::Sender<Vec<Seen>>);

#[tonic::async_trait]
impl TraceService for Keeper {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_process in request.into_inner().resource_spans {
            let resource = of_process.resource.unwrap_or_default().attributes;
            let instance = text(&resource, "service.instance.id");
            let spans = of_process
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            let spans: Vec<_> = spans.map(|span| seen(&span, &instance)).collect();
            self.0.send_modify(|all| all.extend(spans));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn seen(span: &Span, instance: &str) -> Seen {
    Seen {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name.clone(),
        instance: instance.to_owned(),
        node: text(&span.attributes, "meridian.node"),
        caller: text(&span.attributes, "caller.subject"),
        text: text(&span.attributes, "db.query.text"),
    }
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|found| found.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
