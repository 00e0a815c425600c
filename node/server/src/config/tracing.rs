//! Where traces go and which requests have one, under OpenTelemetry's and OpenFGA's environment names.
//!
//! Traces are sent once there is an endpoint, or `OPENFGA_TRACE_ENABLED` says so. The exporter reads the rest of
//! OpenTelemetry's variables for OTLP itself (`OTEL_EXPORTER_OTLP_HEADERS`, `_TIMEOUT` and so on).

use std::fmt::Display;

use super::ConfigError;

const ENABLED: &str = "OPENFGA_TRACE_ENABLED";
const ENDPOINTS: [&str; 3] = [
    "OPENFGA_TRACE_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
const TLS: &str = "OPENFGA_TRACE_OTLP_TLS_ENABLED";
const SAMPLERS: [&str; 2] = ["OPENFGA_TRACE_SAMPLER", "OTEL_TRACES_SAMPLER"];
const RATIOS: [&str; 2] = ["OPENFGA_TRACE_SAMPLE_RATIO", "OTEL_TRACES_SAMPLER_ARG"];
const NAMES: [&str; 2] = ["OPENFGA_TRACE_SERVICE_NAME", "OTEL_SERVICE_NAME"];
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// The share of requests that have a trace unless it is set: OpenFGA's.
const RATIO: f64 = 0.2;

/// Where traces go, and which requests have one.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// URL of the collector, which takes OTLP over gRPC.
    pub endpoint: String,
    /// Which requests have a trace.
    pub sampler: Sampler,
    /// The service that spans are of.
    pub service: String,
    /// What else is known of it.
    pub attributes: Vec<(String, String)>,
}

/// Which requests have a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// The share of requests, 0 to 1.
    pub ratio: f64,
    /// Whether a request that is part of a trace already has one exactly when that trace is recorded.
    pub by_parent: bool,
}

impl Tracing {
    /// Reads the settings by their names; `None` where no traces are wanted.
    ///
    /// # Errors
    /// [`ConfigError::Setting`] naming the variable that cannot be used.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, ConfigError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let first = |names: &[&'static str]| {
            let mut found = names.iter().map(|name| (*name, get(name)));
            found.find_map(|(name, value)| Some((name, value?)))
        };
        let endpoint = first(&ENDPOINTS);
        let enabled = flag(ENABLED, get(ENABLED))?.unwrap_or(endpoint.is_some());
        if !enabled || flag(DISABLED, get(DISABLED))? == Some(true) {
            return Ok(None);
        }
        let tls = flag(TLS, get(TLS))?.unwrap_or(false);
        Ok(Some(Self {
            endpoint: url(endpoint, tls),
            sampler: sampler(first(&SAMPLERS), first(&RATIOS))?,
            service: first(&NAMES).map_or_else(|| "meridian".to_owned(), |(_, name)| name),
            attributes: attributes(get(ATTRIBUTES))?,
        }))
    }

    /// Reads the settings from the environment.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_environment() -> Result<Option<Self>, ConfigError> {
        Self::read(|name| std::env::var(name).ok())
    }
}

fn setting(setting: &'static str, value: impl Display, remedy: &'static str) -> ConfigError {
    ConfigError::Setting {
        setting,
        value: value.to_string(),
        remedy: remedy.to_owned(),
    }
}

fn flag(name: &'static str, value: Option<String>) -> Result<Option<bool>, ConfigError> {
    let Some(value) = value else { return Ok(None) };
    match value.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(Some(true)),
        "false" | "f" | "0" => Ok(Some(false)),
        _ => Err(setting(name, value, "write true or false")),
    }
}

/// OpenFGA's endpoints are `host:port`, OpenTelemetry's are URLs.
fn url(endpoint: Option<(&'static str, String)>, tls: bool) -> String {
    let endpoint = endpoint.map_or_else(|| "localhost:4317".to_owned(), |(_, endpoint)| endpoint);
    match (endpoint.contains("://"), tls) {
        (true, _) => endpoint,
        (false, true) => format!("https://{endpoint}"),
        (false, false) => format!("http://{endpoint}"),
    }
}

fn sampler(
    kind: Option<(&'static str, String)>,
    ratio: Option<(&'static str, String)>,
) -> Result<Sampler, ConfigError> {
    let (name, kind) = kind.unwrap_or((SAMPLERS[0], "parentbased_traceidratio".to_owned()));
    let kind = kind.to_ascii_lowercase();
    let (by_parent, root) = match kind.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, kind.as_str()),
    };
    let share = match ratio {
        None => RATIO,
        Some((name, text)) => {
            let share = text.parse().ok();
            let share = share.filter(|share| (0.0..=1.0).contains(share));
            share.ok_or_else(|| setting(name, text, "write a number from 0 to 1, like 0.2"))?
        }
    };
    let ratio = match root {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => share,
        _ => {
            return Err(setting(
                name,
                kind,
                "write always_on, always_off or traceidratio, or one of them behind parentbased_",
            ));
        }
    };
    Ok(Sampler { ratio, by_parent })
}

fn attributes(text: Option<String>) -> Result<Vec<(String, String)>, ConfigError> {
    let text = text.unwrap_or_default();
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    pairs
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
            None => Err(setting(
                ATTRIBUTES,
                pair,
                "write name=value, separated by commas",
            )),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Tracing>, String> {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Tracing::read(get).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_traced_unless_asked_for() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("OTEL_TRACES_SAMPLER", "always_on")]), Ok(None));
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        assert_eq!(
            read(&[endpoint, ("OPENFGA_TRACE_ENABLED", "false")]),
            Ok(None)
        );
        assert_eq!(read(&[endpoint, ("OTEL_SDK_DISABLED", "true")]), Ok(None));
    }

    #[test]
    fn openfgas_names_come_before_opentelemetrys() {
        let read = read(&[
            ("OPENFGA_TRACE_OTLP_ENDPOINT", "near:4317"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://far:4317"),
            ("OPENFGA_TRACE_OTLP_TLS_ENABLED", "true"),
            ("OPENFGA_TRACE_SAMPLE_RATIO", "0.5"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_SERVICE_NAME", "shop"),
            ("OTEL_RESOURCE_ATTRIBUTES", "zone=a, rack = 7,"),
        ]);
        let expected = Tracing {
            endpoint: "https://near:4317".into(),
            sampler: Sampler {
                ratio: 0.5,
                by_parent: false,
            },
            service: "shop".into(),
            attributes: vec![("zone".into(), "a".into()), ("rack".into(), "7".into())],
        };
        assert_eq!(read, Ok(Some(expected)));
    }

    #[test]
    fn by_default_a_fifth_has_a_trace_and_a_trace_is_followed() {
        let read = read(&[("OPENFGA_TRACE_ENABLED", "true")]).unwrap().unwrap();
        assert_eq!(read.endpoint, "http://localhost:4317");
        assert_eq!((read.sampler.ratio, read.sampler.by_parent), (0.2, true));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        for (name, value) in [
            ("OPENFGA_TRACE_ENABLED", "maybe"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER_ARG", "20%"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
            ("OTEL_RESOURCE_ATTRIBUTES", "zone"),
        ] {
            let error = read(&[endpoint, (name, value)]).unwrap_err();
            assert!(
                error.starts_with(&format!("{name} is '{value}': write ")),
                "{error}"
            );
        }
    }
}
