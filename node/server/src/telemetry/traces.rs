//! Traces: spans of the requests that are sampled, sent as OTLP.
//!
//! The hazard: a collector that is slow or away. Spans wait in a queue of fixed length for a thread of their own; what does
//! not fit is dropped and counted, and no request waits for any of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use metrics::{Counter, counter, describe_counter};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span, SpanData,
    SpanExporter, SpanProcessor,
};

use crate::config::tracing::Tracing;
use crate::outage::Outage;

const SPANS: &str = "meridian_trace_spans_total";

/// Spans that may wait to be sent.
const WAITING: usize = 4096;
/// How often what waits is sent, if it is not much.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a collector may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a process that ends waits for the last spans to be sent.
const LAST: Duration = Duration::from_secs(2);

/// A process has one place that its spans go to.
static TRACES: OnceLock<(SdkTracerProvider, SdkTracer)> = OnceLock::new();

/// Makes the spans; `None` where traces are not wanted.
pub(super) fn tracer() -> Option<&'static SdkTracer> {
    TRACES.get().map(|(_, tracer)| tracer)
}

/// Begins to trace requests of this process, which `instance` names among those of its service. Within a Tokio runtime.
///
/// # Errors
/// When the collector's address cannot be used.
pub fn start(settings: &Tracing, instance: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot send traces to '{}'", settings.endpoint);
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&settings.endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .with_context(cannot)?;
    let provider = provider(settings, instance, exporter);
    let tracer = provider.tracer("meridian");
    // A second start in one process goes on with the first's.
    let _ = TRACES.set((provider, tracer));
    tracing::info!(
        endpoint = settings.endpoint,
        ratio = settings.sampler.ratio,
        "sending traces"
    );
    Ok(())
}

/// Sends what waits, and no more after that.
pub async fn stop() {
    if let Some((provider, _)) = TRACES.get() {
        let end = || provider.shutdown_with_timeout(LAST);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(end).await {
            tracing::warn!(%error, "the last traces may not have been sent");
        }
    }
}

fn provider(
    settings: &Tracing,
    instance: &str,
    exporter: impl SpanExporter + 'static,
) -> SdkTracerProvider {
    let root = Sampler::TraceIdRatioBased(settings.sampler.ratio);
    let sampler = if settings.sampler.by_parent {
        Sampler::ParentBased(Box::new(root))
    } else {
        root
    };
    let attributes = settings.attributes.iter();
    let attributes = attributes.map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    let resource = Resource::builder_empty()
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(attributes)
        .with_service_name(settings.service.clone())
        .build();
    SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_resource(resource)
        .with_span_processor(Bounded::new(exporter))
        .build()
}

/// Spans on their way.
#[derive(Debug)]
struct Queue {
    waiting: AtomicUsize,
    exported: Counter,
    failed: Counter,
    dropped: Counter,
    outage: Outage,
}

/// Takes spans while there is room.
#[derive(Debug)]
struct Bounded {
    inner: BatchSpanProcessor,
    queue: Arc<Queue>,
}

/// Sends spans and counts them.
#[derive(Debug)]
struct Counted<E> {
    inner: E,
    queue: Arc<Queue>,
}

impl Bounded {
    fn new(exporter: impl SpanExporter + 'static) -> Self {
        describe_counter!(SPANS, "Spans of traces, by what became of them");
        let spans = |outcome: &'static str| counter!(SPANS, "outcome" => outcome);
        let queue = Arc::new(Queue {
            waiting: AtomicUsize::new(0),
            exported: spans("exported"),
            failed: spans("failed"),
            dropped: spans("dropped"),
            outage: Outage::new(),
        });
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING)
            .with_scheduled_delay(INTERVAL)
            .build();
        let exporter = Counted {
            inner: exporter,
            queue: Arc::clone(&queue),
        };
        Self {
            inner: BatchSpanProcessor::builder(exporter)
                .with_batch_config(batches)
                .build(),
            queue,
        }
    }
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.inner.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        if self.queue.waiting.fetch_add(1, Ordering::Relaxed) < WAITING {
            self.inner.on_end(span);
        } else {
            self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
            self.queue.dropped.increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.inner.export(batch).await;
        self.queue.waiting.fetch_sub(spans, Ordering::Relaxed);
        match &exported {
            Ok(()) => {
                self.queue.exported.increment(spans as u64);
                if let Some(away) = self.queue.outage.worked() {
                    tracing::info!(?away, "traces can be sent again");
                }
            }
            Err(error) => {
                self.queue.failed.increment(spans as u64);
                if self.queue.outage.failed() {
                    tracing::warn!(%error, "traces cannot be sent; they are lost meanwhile");
                }
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
    use opentelemetry::trace::Tracer as _;
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;
    use crate::config::tracing::Sampler as Share;

    /// A collector that takes nothing until its gate is gone, and then fails if it is to.
    #[derive(Debug)]
    struct Gated {
        gate: Mutex<mpsc::Receiver<()>>,
        fails: bool,
    }

    impl SpanExporter for Gated {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            let _gone = self.gate.lock().unwrap().recv();
            if self.fails {
                Err(OTelSdkError::InternalFailure("away".into()))
            } else {
                Ok(())
            }
        }
    }

    /// What became of so many spans that were made while the collector took nothing.
    fn after(spans: usize, fails: bool) -> PrometheusHandle {
        let recorder = PrometheusBuilder::new().build_recorder();
        let settings = Tracing {
            endpoint: String::new(),
            sampler: Share {
                ratio: 1.0,
                by_parent: true,
            },
            service: "s".into(),
            attributes: Vec::new(),
        };
        let (gate, gone) = mpsc::channel();
        let gated = Gated {
            gate: Mutex::new(gone),
            fails,
        };
        let provider = metrics::with_local_recorder(&recorder, || provider(&settings, "i", gated));
        let tracer = provider.tracer("t");
        for _ in 0..spans {
            drop(tracer.start("span"));
        }
        drop(gate);
        // One that failed to send says so here too.
        let _ = provider.shutdown_with_timeout(Duration::from_secs(20));
        recorder.handle()
    }

    #[test]
    fn what_a_slow_collector_leaves_no_room_for_is_dropped_and_counted() {
        let counted = after(WAITING + 100, false).render();
        assert!(counted.contains(&format!("{SPANS}{{outcome=\"exported\"}} {WAITING}\n")));
        assert!(counted.contains(&format!("{SPANS}{{outcome=\"dropped\"}} 100\n")));
    }

    #[test]
    fn what_a_collector_refuses_is_counted() {
        let counted = after(3, true).render();
        assert!(counted.contains(&format!("{SPANS}{{outcome=\"failed\"}} 3\n")));
    }
}
