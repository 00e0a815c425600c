//! The environment of OpenFGA's server, so that a deployment of it can be taken over as it is.
//!
//! Most of its variables are a setting's other name and stand in [`super::settings`]. Here is what needs more than that, and
//! what has no counterpart: that is told, since whoever set it counts on it.

use std::fmt::Write as _;

use humantime_serde::re::humantime::parse_duration;

use super::environment::Environment;
use super::settings::{SETTINGS, Setting};
use super::{Config, ConfigError};

/// What all of its variables begin with.
pub(super) const PREFIX: &str = "OPENFGA_";
/// An experimental feature: conditions that a tuple brings itself.
pub(super) const INLINE_EXPRESSIONS: &str = "inline_expressions";

const ENGINE: &str = "OPENFGA_DATASTORE_ENGINE";
const PRIMARY: Database = Database {
    uri: "OPENFGA_DATASTORE_URI",
    username: "OPENFGA_DATASTORE_USERNAME",
    password: "OPENFGA_DATASTORE_PASSWORD",
};
const SECONDARY: Database = Database {
    uri: "OPENFGA_DATASTORE_SECONDARY_URI",
    username: "OPENFGA_DATASTORE_SECONDARY_USERNAME",
    password: "OPENFGA_DATASTORE_SECONDARY_PASSWORD",
};
const METRICS: &str = "OPENFGA_METRICS_ENABLED";
const QUERY_CACHE: &str = "OPENFGA_CHECK_QUERY_CACHE_ENABLED";
const HORIZON: [&str; 2] = [
    "OPENFGA_CHANGELOG_HORIZON_OFFSET",
    "OPENFGA_CHANGELOGHORIZONOFFSET",
];
/// What a request may take where upstream sets no limit: every call here has one.
const LONGEST_REQUEST: &str = "1h";
const LOG_LEVEL: &str = "OPENFGA_LOG_LEVEL";
const LOG_FORMAT: &str = "OPENFGA_LOG_FORMAT";

/// Variables that are understood here, or where metrics and traces are, and not by [`super::settings`].
pub(super) const OWN: &[&str] = &[
    ENGINE,
    PRIMARY.uri,
    PRIMARY.username,
    PRIMARY.password,
    SECONDARY.uri,
    SECONDARY.username,
    SECONDARY.password,
    METRICS,
    QUERY_CACHE,
    HORIZON[0],
    HORIZON[1],
    LOG_LEVEL,
    LOG_FORMAT,
    "OPENFGA_GRPC_TLS_ENABLED",
    "OPENFGA_HTTP_TLS_ENABLED",
    "OPENFGA_METRICS_ENABLE_RPC_HISTOGRAMS",
    "OPENFGA_TRACE_ENABLED",
    "OPENFGA_TRACE_OTLP_ENDPOINT",
    "OPENFGA_TRACE_OTLP_TLS_ENABLED",
    "OPENFGA_TRACE_SAMPLER",
    "OPENFGA_TRACE_SAMPLE_RATIO",
    "OPENFGA_TRACE_SERVICE_NAME",
];

/// A variable, and the values of it that ask for what is done anyway.
type Variable = (&'static str, &'static [&'static str]);

/// Why variables have no effect, and which.
pub(super) const NO_EFFECT: &[(&str, &[Variable])] = &[
    (
        "there is no such part here",
        &[
            ("OPENFGA_PLAYGROUND_ENABLED", &["false"]),
            ("OPENFGA_PLAYGROUND_PORT", &[]),
            ("OPENFGA_PLAYGROUND_ADDR", &[]),
            ("OPENFGA_PROFILER_ENABLED", &["false"]),
            ("OPENFGA_PROFILER_ADDRESS", &[]),
            ("OPENFGA_ACCESS_CONTROL_ENABLED", &["false"]),
            ("OPENFGA_ACCESS_CONTROL_STORE_ID", &[]),
            ("OPENFGA_ACCESS_CONTROL_MODEL_ID", &[]),
        ],
    ),
    (
        "gRPC and HTTP are always served, and limits.requestTimeout bounds both",
        &[
            ("OPENFGA_HTTP_ENABLED", &["true"]),
            ("OPENFGA_HTTP_UPSTREAM_TIMEOUT", &[]),
            ("OPENFGA_HTTP_UPSTREAMTIMEOUT", &[]),
        ],
    ),
    (
        "checks are evaluated otherwise here, and bounded by limits.checkReads and limits.checkWork",
        &[
            ("OPENFGA_RESOLVE_NODE_BREADTH_LIMIT", &["10"]),
            ("OPENFGA_RESOLVENODEBREADTHLIMIT", &["10"]),
            ("OPENFGA_MAX_CONCURRENT_CHECKS_PER_BATCH_CHECK", &["50"]),
            ("OPENFGA_MAX_CONCURRENT_READS_FOR_CHECK", &[]),
            ("OPENFGA_MAXCONCURRENTREADSFORCHECK", &[]),
            ("OPENFGA_MAX_CONCURRENT_READS_FOR_LIST_OBJECTS", &[]),
            ("OPENFGA_MAXCONCURRENTREADSFORLISTOBJECTS", &[]),
            ("OPENFGA_MAX_CONCURRENT_READS_FOR_LIST_USERS", &[]),
            ("OPENFGA_MAXCONCURRENTREADSFORLISTUSERS", &[]),
            ("OPENFGA_LIST_OBJECTS_PIPELINE_ENABLED", &[]),
            ("OPENFGA_LISTOBJECTSPIPELINEENABLED", &[]),
            ("OPENFGA_CHECK_DISPATCH_THROTTLING_ENABLED", &["false"]),
            ("OPENFGA_CHECK_DISPATCH_THROTTLING_FREQUENCY", &[]),
            ("OPENFGA_CHECK_DISPATCH_THROTTLING_THRESHOLD", &[]),
            ("OPENFGA_CHECK_DISPATCH_THROTTLING_MAX_THRESHOLD", &[]),
            (
                "OPENFGA_LIST_OBJECTS_DISPATCH_THROTTLING_ENABLED",
                &["false"],
            ),
            ("OPENFGA_LIST_OBJECTS_DISPATCH_THROTTLING_FREQUENCY", &[]),
            ("OPENFGA_LIST_OBJECTS_DISPATCH_THROTTLING_THRESHOLD", &[]),
            (
                "OPENFGA_LIST_OBJECTS_DISPATCH_THROTTLING_MAX_THRESHOLD",
                &[],
            ),
            ("OPENFGA_LIST_USERS_DISPATCH_THROTTLING_ENABLED", &["false"]),
            ("OPENFGA_LIST_USERS_DISPATCH_THROTTLING_FREQUENCY", &[]),
            ("OPENFGA_LIST_USERS_DISPATCH_THROTTLING_THRESHOLD", &[]),
            ("OPENFGA_LIST_USERS_DISPATCH_THROTTLING_MAX_THRESHOLD", &[]),
            ("OPENFGA_CHECK_DATASTORE_THROTTLE_THRESHOLD", &["0"]),
            ("OPENFGA_CHECK_DATASTORE_THROTTLE_DURATION", &[]),
            ("OPENFGA_LIST_OBJECTS_DATASTORE_THROTTLE_THRESHOLD", &["0"]),
            ("OPENFGA_LIST_OBJECTS_DATASTORE_THROTTLE_DURATION", &[]),
            ("OPENFGA_LIST_USERS_DATASTORE_THROTTLE_THRESHOLD", &["0"]),
            ("OPENFGA_LIST_USERS_DATASTORE_THROTTLE_DURATION", &[]),
            ("OPENFGA_PLANNER_EVICTION_THRESHOLD", &[]),
            ("OPENFGA_PLANNER_CLEANUP_INTERVAL", &[]),
        ],
    ),
    (
        "what is kept in memory is kept otherwise here, and never longer than it is true unless checkCache.window allows it",
        &[
            ("OPENFGA_DATASTORE_MAX_CACHE_SIZE", &[]),
            ("OPENFGA_DATASTORE_MAXCACHESIZE", &[]),
            ("OPENFGA_DATASTORE_MAX_TYPESYSTEM_CACHE_SIZE", &[]),
            ("OPENFGA_DATASTORE_MAXTYPESYSTEMCACHESIZE", &[]),
            ("OPENFGA_CHECK_ITERATOR_CACHE_ENABLED", &["false"]),
            ("OPENFGA_CHECK_ITERATOR_CACHE_MAX_RESULTS", &[]),
            ("OPENFGA_CHECK_ITERATOR_CACHE_TTL", &[]),
            ("OPENFGA_LIST_OBJECTS_ITERATOR_CACHE_ENABLED", &["false"]),
            ("OPENFGA_LIST_OBJECTS_ITERATOR_CACHE_MAX_RESULTS", &[]),
            ("OPENFGA_LIST_OBJECTS_ITERATOR_CACHE_TTL", &[]),
            ("OPENFGA_CACHE_CONTROLLER_ENABLED", &["false"]),
            ("OPENFGA_CACHE_CONTROLLER_TTL", &[]),
            ("OPENFGA_CACHE_TTL_JITTER_PERCENTAGE", &["0"]),
            ("OPENFGA_SHARED_ITERATOR_ENABLED", &["false"]),
            ("OPENFGA_SHARED_ITERATOR_LIMIT", &[]),
        ],
    ),
    (
        "the pool is set by datastore.minConnections and datastore.maxConnections",
        &[
            ("OPENFGA_DATASTORE_MIN_IDLE_CONNS", &[]),
            ("OPENFGA_DATASTORE_MAX_IDLE_CONNS", &[]),
            ("OPENFGA_DATASTORE_MAXIDLECONNS", &[]),
        ],
    ),
    (
        "a query never outlasts its request",
        &[("OPENFGA_CONTEXT_PROPAGATION_TO_DATASTORE", &["true"])],
    ),
    (
        "metrics and log lines have one form here",
        &[
            ("OPENFGA_DATASTORE_METRICS_ENABLED", &["false"]),
            (
                "OPENFGA_REQUEST_DURATION_DATASTORE_QUERY_COUNT_BUCKETS",
                &[],
            ),
            ("OPENFGA_REQUEST_DURATION_DISPATCH_COUNT_BUCKETS", &[]),
            ("OPENFGA_LOG_TIMESTAMP_FORMAT", &[]),
        ],
    ),
];

/// How OpenFGA's variables want a process to log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// A level.
    pub level: Option<&'static str>,
    /// Whether lines are JSON.
    pub json: Option<bool>,
}

impl Environment {
    /// How OpenFGA's variables want a process to log.
    ///
    /// # Errors
    /// [`ConfigError::Variable`].
    pub fn logs(&self) -> Result<Logs, ConfigError> {
        let level = match self.get(LOG_LEVEL) {
            None => None,
            Some("none") => Some("off"),
            Some("debug") => Some("debug"),
            Some("info") => Some("info"),
            Some("warn") => Some("warn"),
            Some("error" | "panic" | "fatal") => Some("error"),
            Some(_) => {
                let levels = "use none, debug, info, warn, error, panic or fatal";
                return Err(wrong(LOG_LEVEL, levels));
            }
        };
        let json = match self.get(LOG_FORMAT) {
            None => None,
            Some("text") => Some(false),
            Some("json") => Some(true),
            Some(_) => return Err(wrong(LOG_FORMAT, "use text or json")),
        };
        Ok(Logs { level, json })
    }

    /// Which of OpenFGA's variables are set and have no effect, one sentence each.
    pub fn without_effect(&self) -> Vec<String> {
        let is_none = |name: &&str| {
            let of_none = |(_, variables): &(_, &[Variable])| {
                variables.iter().any(|(known, _)| known == name)
            };
            let of_setting = |setting: &Setting| setting.openfga.contains(name);
            !OWN.contains(name)
                && !NO_EFFECT.iter().any(of_none)
                && !SETTINGS.iter().any(of_setting)
        };
        let unknown = self.beginning(PREFIX).filter(is_none);
        let mut told: Vec<_> = unknown
            .map(|name| format!("{name} has no effect: OpenFGA's server has no such variable, nor is there one here"))
            .collect();
        for (why, variables) in NO_EFFECT {
            for (name, anyway) in *variables {
                let set = self.get(name);
                if set.is_some_and(|value| !anyway.contains(&value)) {
                    told.push(format!("{name} has no effect: {why}"));
                }
            }
        }
        told
    }
}

/// Sets what OpenFGA's variables say.
pub(super) fn apply(environment: &Environment, config: &mut Config) -> Result<(), ConfigError> {
    let uses_tls = |port: &str| switch(environment, &format!("{PREFIX}{port}_TLS_ENABLED"));
    let (grpc_tls, http_tls) = (uses_tls("GRPC")?, uses_tls("HTTP")?);
    let metrics = switch(environment, METRICS)?;
    for setting in SETTINGS {
        let counts = match setting.path {
            // As upstream: files alone switch nothing on.
            "tls.grpc.cert" | "tls.grpc.key" => grpc_tls == Some(true),
            "tls.http.cert" | "tls.http.key" => http_tls == Some(true),
            "listen.metrics" => metrics != Some(false),
            _ => true,
        };
        let mut names = setting.openfga.iter().filter(|_| counts);
        if let Some((name, text)) = names.find_map(|name| Some((name, environment.get(name)?))) {
            let text = match setting.path {
                "limits.requestTimeout" if is_no_time(text) => LONGEST_REQUEST,
                _ => text,
            };
            setting.set(config, name, text)?;
        }
    }
    let needs = |file: &Option<_>, port: &str, what: &str| {
        let name = format!("{PREFIX}{port}_TLS_{what}");
        let remedy = "name a file, since TLS is enabled for this port";
        file.as_ref().map(drop).ok_or_else(|| wrong(&name, remedy))
    };
    for (enabled, port, files) in [
        (grpc_tls, "GRPC", &mut config.tls.grpc),
        (http_tls, "HTTP", &mut config.tls.http),
    ] {
        match enabled {
            Some(true) => {
                needs(&files.cert, port, "CERT")?;
                needs(&files.key, port, "KEY")?;
            }
            Some(false) => *files = Default::default(),
            None => {}
        }
    }
    match metrics {
        Some(true) => {
            config
                .listen
                .metrics
                .get_or_insert(([0, 0, 0, 0], 2112).into());
        }
        Some(false) => config.listen.metrics = None,
        None => {}
    }
    if switch(environment, QUERY_CACHE)? == Some(false) {
        config.check_cache.max_answers = 0;
    }
    let mut horizon = HORIZON.into_iter();
    if let Some((name, minutes)) = horizon.find_map(|name| Some((name, environment.get(name)?))) {
        let minutes: u32 = minutes
            .parse()
            .map_err(|_| wrong(name, "use a whole number of minutes"))?;
        config.limits.changelog_horizon = std::time::Duration::from_secs(60 * u64::from(minutes));
    }
    if let Some(url) = datastore(environment, &PRIMARY)? {
        config.datastore.url = usable(PRIMARY.uri, url)?;
    }
    if environment.get(SECONDARY.uri).is_some() {
        let url = datastore(environment, &SECONDARY)?;
        let url = url.map(|url| usable(SECONDARY.uri, url)).transpose()?;
        config.datastore.read_replica_url = url;
    }
    Ok(())
}

/// A datastore's URL that was made of the variable `name`.
fn usable(name: &str, url: String) -> Result<String, ConfigError> {
    meridian_store::check_url(&url).map_err(|why| wrong(name, &why.to_string()))?;
    Ok(url)
}

fn wrong(name: &str, what: &str) -> ConfigError {
    ConfigError::Variable {
        name: name.to_owned(),
        what: what.to_owned(),
    }
}

/// Whether it is how Go writes a time of 0.
fn is_no_time(text: &str) -> bool {
    text == "0" || parse_duration(text).is_ok_and(|time| time.is_zero())
}

/// A variable that says yes or no, as Go reads it.
fn switch(environment: &Environment, name: &str) -> Result<Option<bool>, ConfigError> {
    match environment.get(name) {
        None => Ok(None),
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(Some(false)),
        Some(_) => Err(wrong(name, "use true or false")),
    }
}

/// The variables of a database.
struct Database {
    uri: &'static str,
    username: &'static str,
    password: &'static str,
}

/// A datastore's URL, of engine, URI and credentials.
fn datastore(
    environment: &Environment,
    database: &Database,
) -> Result<Option<String>, ConfigError> {
    let uri = environment.get(database.uri);
    let credentials = (
        environment.get(database.username),
        environment.get(database.password),
    );
    let malformed = |example| wrong(database.uri, example);
    let given = |example| uri.ok_or_else(|| malformed(example));
    match environment.get(ENGINE) {
        None if uri.is_some() => Err(wrong(
            ENGINE,
            &format!(
                "name the engine that {} is of: memory, postgres, mysql or sqlite",
                database.uri
            ),
        )),
        None => Ok(None),
        Some("memory") => Ok(Some("memory:".to_owned())),
        Some("postgres") => {
            let example = "write it like postgres://user:password@host:5432/database";
            let uri = given(example)?;
            let (scheme, rest) = uri.split_once("://").ok_or_else(|| malformed(example))?;
            let (own, place) = rest.rsplit_once('@').unwrap_or(("", rest));
            let (own_user, own_password) = own.split_once(':').unwrap_or((own, ""));
            let user = credentials
                .0
                .map_or_else(|| own_user.to_owned(), percent_encoded);
            let password = credentials
                .1
                .map_or_else(|| own_password.to_owned(), percent_encoded);
            Ok(Some(url(scheme, &user, &password, place)))
        }
        Some("mysql") => {
            let example = "write it like user:password@tcp(host:3306)/database";
            let uri = given(example)?;
            let (own, rest) = uri.rsplit_once("@tcp(").ok_or_else(|| malformed(example))?;
            let (host, path) = rest.split_once(")/").ok_or_else(|| malformed(example))?;
            // What follows is for Go's driver.
            let database = path.split('?').next().unwrap_or_default();
            let (own_user, own_password) = own.split_once(':').unwrap_or((own, ""));
            let user = percent_encoded(credentials.0.unwrap_or(own_user));
            let password = percent_encoded(credentials.1.unwrap_or(own_password));
            Ok(Some(url(
                "mysql",
                &user,
                &password,
                &format!("{host}/{database}"),
            )))
        }
        Some("sqlite") => {
            let uri = given("name the database's file, like file:/var/lib/openfga.db")?;
            let path = uri.strip_prefix("file:").unwrap_or(uri);
            let path = path.split('?').next().unwrap_or_default();
            Ok(Some(format!("sqlite://{path}?mode=rwc")))
        }
        Some(_) => Err(wrong(ENGINE, "use memory, postgres, mysql or sqlite")),
    }
}

fn url(scheme: &str, user: &str, password: &str, place: &str) -> String {
    match (user, password) {
        ("", _) => format!("{scheme}://{place}"),
        (user, "") => format!("{scheme}://{user}@{place}"),
        (user, password) => format!("{scheme}://{user}:{password}@{place}"),
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut done, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            done.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            let _ = write!(done, "%{byte:02X}");
        }
        done
    })
}
