//! Every setting once: where it stands in the file, what it is called in the environment, and what it may be.
//! `docs/configuration.md` shows the same table, which a test compares.

mod values;

use std::time::Duration;

use super::rules::need;
use super::{Config, ConfigError};
use values::{Amount, Value, words};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A setting.
pub(super) struct Setting {
    /// Its path in the file.
    pub(super) path: &'static str,
    /// What OpenFGA's server calls it in its environment.
    pub(super) openfga: &'static [&'static str],
    range: Range,
    read: fn(&mut Config, &str) -> Result<(), &'static str>,
    show: fn(&Config) -> String,
    amount: fn(&Config) -> Option<Amount>,
    is_list: fn(&Config) -> bool,
}

/// What a setting may be.
enum Range {
    /// As its kind says, and as the rules of [`super::rules`] go on.
    Is(&'static str),
    /// A number of these, with the reason where there is one to tell.
    Count(u64, u64, &'static str),
    /// A time of these.
    Time(Duration, Duration, &'static str),
}

macro_rules! settings {
    ($($path:literal $($field:ident).+, $range:expr $(, $openfga:literal)*;)+) => {
        &[$(Setting {
            path: $path,
            openfga: &[$($openfga),*],
            range: $range,
            read: |config, text| {
                config.$($field).+ = Value::read(text)?;
                Ok(())
            },
            show: |config| Value::show(&config.$($field).+),
            amount: |config| Value::amount(&config.$($field).+),
            is_list: |config| Value::is_list(&config.$($field).+),
        }),+]
    };
}

const BOOL: Range = Range::Is("`true` or `false`");
const ADDRESS: Range = Range::Is("IP:port");
const FILE: Range = Range::Is("a file");
const LIST: Range = Range::Is("comma-separated");
const SECRETS: Range = Range::Is("comma-separated, visible ASCII");
const TOPIC_PART: Range = Range::Is("1 to 60 letters, digits, `-`, `_`");

const fn count(least: u64, most: u64) -> Range {
    Range::Count(least, most, "")
}

const fn time(least: Duration, most: Duration) -> Range {
    Range::Time(least, most, "")
}

/// Most of what one request may hold: with all, the numbers inside stay far from overflowing.
const MANY: u64 = 1_000_000;
const BYTES: u64 = 64 * 1024 * 1024;

pub(super) const SETTINGS: &[Setting] = settings! {
    "name" name, Range::Is("1 to 128 visible ASCII");
    "product" product, TOPIC_PART;
    "region" region, TOPIC_PART;
    "listen.grpc" listen.grpc, ADDRESS, "OPENFGA_GRPC_ADDR";
    "listen.http" listen.http, ADDRESS, "OPENFGA_HTTP_ADDR";
    "listen.nodes" listen.nodes, ADDRESS;
    "listen.metrics" listen.metrics, ADDRESS, "OPENFGA_METRICS_ADDR";
    "authn.method" authn.method, Range::Is("`none`, `preshared` or `oidc`"), "OPENFGA_AUTHN_METHOD";
    "authn.preshared.keys" authn.preshared.keys, SECRETS, "OPENFGA_AUTHN_PRESHARED_KEYS";
    "authn.preshared.keysFile" authn.preshared.keys_file, FILE;
    "authn.oidc.issuer" authn.oidc.issuer, Range::Is("a URL"), "OPENFGA_AUTHN_OIDC_ISSUER";
    "authn.oidc.issuerAliases" authn.oidc.issuer_aliases, LIST, "OPENFGA_AUTHN_OIDC_ISSUER_ALIASES";
    "authn.oidc.audience" authn.oidc.audience, Range::Is("any text"), "OPENFGA_AUTHN_OIDC_AUDIENCE";
    "authn.oidc.subjects" authn.oidc.subjects, LIST, "OPENFGA_AUTHN_OIDC_SUBJECTS";
    "authn.oidc.clientIdClaims" authn.oidc.client_id_claims, LIST, "OPENFGA_AUTHN_OIDC_CLIENT_ID_CLAIMS";
    "authn.oidc.refreshInterval" authn.oidc.refresh_interval, time(SECOND, Duration::from_secs(48 * 60 * 60));
    "authn.oidc.refetchPause" authn.oidc.refetch_pause, time(Duration::ZERO, HOUR);
    "authn.oidc.ca" authn.oidc.ca, FILE;
    "nodes.tokens" nodes.tokens, SECRETS;
    "nodes.tokensFile" nodes.tokens_file, FILE;
    "nodes.ca" nodes.ca, FILE;
    "tls.grpc.cert" tls.grpc.cert, FILE, "OPENFGA_GRPC_TLS_CERT";
    "tls.grpc.key" tls.grpc.key, FILE, "OPENFGA_GRPC_TLS_KEY";
    "tls.http.cert" tls.http.cert, FILE, "OPENFGA_HTTP_TLS_CERT";
    "tls.http.key" tls.http.key, FILE, "OPENFGA_HTTP_TLS_KEY";
    "tls.nodes.cert" tls.nodes.cert, FILE;
    "tls.nodes.key" tls.nodes.key, FILE;
    "tls.reloadInterval" tls.reload_interval, time(MILLISECOND, HOUR);
    "http.corsAllowedOrigins" http.cors_allowed_origins, LIST, "OPENFGA_HTTP_CORS_ALLOWED_ORIGINS", "OPENFGA_HTTP_CORSALLOWEDORIGINS";
    "http.corsAllowedHeaders" http.cors_allowed_headers, LIST, "OPENFGA_HTTP_CORS_ALLOWED_HEADERS", "OPENFGA_HTTP_CORSALLOWEDHEADERS";
    "http.trustedProxies" http.trusted_proxies, LIST;
    "datastore.url" datastore.url, Range::Is("a datastore's URL");
    "datastore.readReplicaUrl" datastore.read_replica_url, Range::Is("a datastore's URL");
    "datastore.minConnections" datastore.min_connections, Range::Is("no more than `maxConnections`"), "OPENFGA_DATASTORE_MIN_OPEN_CONNS";
    "datastore.maxConnections" datastore.max_connections, count(1, 10_000), "OPENFGA_DATASTORE_MAX_OPEN_CONNS", "OPENFGA_DATASTORE_MAXOPENCONNS";
    "datastore.acquireTimeout" datastore.acquire_timeout, time(MILLISECOND, HOUR);
    "datastore.idleTimeout" datastore.idle_timeout, Range::Time(SECOND, DAY.saturating_mul(30), ""), "OPENFGA_DATASTORE_CONN_MAX_IDLE_TIME", "OPENFGA_DATASTORE_CONNMAXIDLETIME";
    "datastore.maxLifetime" datastore.max_lifetime, time(SECOND, DAY.saturating_mul(30)), "OPENFGA_DATASTORE_CONN_MAX_LIFETIME", "OPENFGA_DATASTORE_CONNMAXLIFETIME";
    "datastore.changelogRetention" datastore.changelog_retention, Range::Time(MINUTE, DAY.saturating_mul(36_500), "; leave it out to keep all changes");
    "kafka.bootstrap" kafka.bootstrap, Range::Is("`host:port`, comma-separated");
    "kafka.topicPrefix" kafka.topic_prefix, TOPIC_PART;
    "kafka.partitions" kafka.partitions, count(1, 10_000);
    "kafka.replicationFactor" kafka.replication_factor, Range::Count(1, 100, ", and no more than there are brokers");
    "kafka.propertiesFile" kafka.properties_file, FILE;
    "upstream" upstream, Range::Is("URLs, comma-separated");
    "checkCache.maxAnswers" check_cache.max_answers, count(0, u64::MAX), "OPENFGA_CHECK_CACHE_LIMIT", "OPENFGA_CHECK_QUERY_CACHE_LIMIT";
    "checkCache.answerMaxAge" check_cache.answer_max_age, time(MILLISECOND, DAY.saturating_mul(30)), "OPENFGA_CHECK_QUERY_CACHE_TTL";
    "checkCache.window" check_cache.window, time(Duration::ZERO, MINUTE);
    "edge.directory" edge.directory, Range::Is("a folder");
    "edge.snapshotInterval" edge.snapshot_interval, time(Duration::from_millis(100), DAY);
    "edge.maxStaleness" edge.max_staleness, Range::Time(Duration::from_secs(2), DAY.saturating_mul(30), ": the writer vouches for its changes once a second");
    "edge.answerMaxAge" edge.answer_max_age, time(MILLISECOND, DAY.saturating_mul(30));
    "edge.maxAnswers" edge.max_answers, Range::Count(1, u64::MAX, "; of which types no answers are kept is set with `meridian tiers --cold`");
    "edge.revisionWait" edge.revision_wait, time(Duration::ZERO, MINUTE);
    "live.enabled" live.enabled, BOOL;
    "live.scope" live.scope, Range::Is("`product` or `region`");
    "live.durable" live.durable, BOOL;
    "live.retention" live.retention, time(HOUR, DAY.saturating_mul(36_500));
    "live.store" live.store, Range::Is("a store's id");
    "live.userType" live.user_type, Range::Is("a type");
    "live.relation" live.relation, Range::Is("a relation");
    "live.relations" live.relations, Range::Is("`type=relation`, comma-separated");
    "live.wholeTypes" live.whole_types, Range::Is("`type=object#relation`, comma-separated");
    "live.scopeClaim" live.scope_claim, Range::Is("a claim");
    "live.oidc.issuer" live.oidc.issuer, Range::Is("a URL");
    "live.oidc.issuerAliases" live.oidc.issuer_aliases, LIST;
    "live.oidc.audience" live.oidc.audience, Range::Is("any text");
    "live.oidc.subjects" live.oidc.subjects, LIST;
    "live.oidc.clientIdClaims" live.oidc.client_id_claims, LIST;
    "live.oidc.refreshInterval" live.oidc.refresh_interval, time(SECOND, Duration::from_secs(48 * 60 * 60));
    "live.oidc.refetchPause" live.oidc.refetch_pause, time(Duration::ZERO, HOUR);
    "live.oidc.ca" live.oidc.ca, FILE;
    "live.userinfoUrl" live.userinfo_url, Range::Is("a URL");
    "live.userinfoMaxAge" live.userinfo_max_age, time(Duration::ZERO, HOUR);
    "live.authorityUrl" live.authority_url, Range::Is("a URL with `{object}`");
    "live.allowedOrigins" live.allowed_origins, LIST;
    "live.connections" live.connections, count(1, MANY);
    "live.connectionsPerAddress" live.connections_per_address, count(1, MANY);
    "live.connectionsPerUser" live.connections_per_user, count(1, MANY);
    "live.subscriptionsPerSocket" live.subscriptions_per_socket, count(1, 10_000);
    "live.messageBytes" live.message_bytes, count(1024, BYTES);
    "live.messagesPerSecond" live.messages_per_second, count(1, 10_000);
    "live.queueRecords" live.queue_records, count(2, MANY);
    "live.queueBytes" live.queue_bytes, count(1024, BYTES);
    "live.historyRecords" live.history_records, count(0, MANY);
    "live.historyBytes" live.history_bytes, count(0, 64 * BYTES);
    "live.historyTotalBytes" live.history_total_bytes, count(0, 1024 * BYTES);
    "live.historyAge" live.history_age, time(SECOND, DAY.saturating_mul(30));
    "live.helloTimeout" live.hello_timeout, time(MILLISECOND, MINUTE);
    "live.pingInterval" live.ping_interval, time(MILLISECOND, HOUR);
    "live.idleTimeout" live.idle_timeout, time(MILLISECOND, DAY);
    "live.expiryNotice" live.expiry_notice, time(Duration::ZERO, HOUR);
    "live.grace" live.grace, time(MILLISECOND, HOUR);
    "live.reviewInterval" live.review_interval, time(SECOND, DAY);
    "recorder.enabled" recorder.enabled, BOOL;
    "recorder.url" recorder.url, Range::Is("a datastore's URL");
    "recorder.sampling" recorder.sampling, Range::Is("0 to 1");
    "recorder.explain" recorder.explain, Range::Is("0 to 1");
    "recorder.retention" recorder.retention, time(HOUR, DAY.saturating_mul(36_500));
    "recorder.capacity" recorder.capacity, count(1, 10 * MANY);
    "recorder.bufferBytes" recorder.buffer_bytes, count(65_536, 64 * BYTES);
    "recorder.batch" recorder.batch, count(1, 100_000);
    "recorder.flushInterval" recorder.flush_interval, time(MILLISECOND, MINUTE);
    "recorder.startTimeout" recorder.start_timeout, time(MILLISECOND, MINUTE);
    "recorder.authenticationInterval" recorder.authentication_interval, time(Duration::ZERO, DAY);
    "recorder.regions" recorder.regions, LIST;
    "watch.enabled" watch.enabled, BOOL;
    "watch.connections" watch.connections, count(1, MANY);
    "watch.queueChanges" watch.queue_changes, count(1, MANY);
    "watch.queueBytes" watch.queue_bytes, count(1024, 64 * BYTES);
    "watch.queueDecisions" watch.queue_decisions, count(1, MANY);
    "watch.helloTimeout" watch.hello_timeout, time(MILLISECOND, MINUTE);
    "watch.pingInterval" watch.ping_interval, time(MILLISECOND, HOUR);
    "watch.idleTimeout" watch.idle_timeout, time(MILLISECOND, DAY);
    "drainDelay" drain_delay, time(Duration::ZERO, HOUR);
    "shutdownTimeout" shutdown_timeout, time(MILLISECOND, HOUR), "OPENFGA_SHUTDOWN_TIMEOUT";
    "experimentals" experimentals, LIST, "OPENFGA_EXPERIMENTALS";
    "authzen.baseUrl" authzen.base_url, Range::Is("a URL"), "OPENFGA_AUTHZEN_BASE_URL";
    "limits.requestTimeout" limits.request_timeout, time(MILLISECOND, HOUR), "OPENFGA_REQUEST_TIMEOUT";
    "limits.bodyTimeout" limits.body_timeout, time(MILLISECOND, HOUR);
    "limits.connections" limits.connections, count(1, MANY);
    "limits.streamsPerConnection" limits.streams_per_connection, count(1, MANY);
    "limits.requestBytes" limits.request_bytes, count(1024, BYTES), "OPENFGA_GRPC_MAX_RECV_MSG_BYTES";
    "limits.tuplesPerWrite" limits.tuples_per_write, count(1, MANY), "OPENFGA_MAX_TUPLES_PER_WRITE", "OPENFGA_MAXTUPLESPERWRITE";
    "limits.contextualTuples" limits.contextual_tuples, count(0, MANY);
    "limits.conditionContextBytes" limits.condition_context_bytes, count(0, BYTES);
    "limits.typesPerModel" limits.types_per_model, count(1, MANY), "OPENFGA_MAX_TYPES_PER_AUTHORIZATION_MODEL", "OPENFGA_MAXTYPESPERAUTHORIZATIONMODEL";
    "limits.modelBytes" limits.model_bytes, count(1, BYTES), "OPENFGA_MAX_AUTHORIZATION_MODEL_SIZE_IN_BYTES", "OPENFGA_MAXAUTHORIZATIONMODELSIZEINBYTES";
    "limits.defaultPageSize" limits.default_page_size, count(1, 100);
    "limits.readChangesPageSize" limits.read_changes_page_size, count(1, 10_000), "OPENFGA_READ_CHANGES_MAX_PAGE_SIZE", "OPENFGA_READCHANGESMAXPAGESIZE";
    "limits.changelogHorizon" limits.changelog_horizon, time(Duration::ZERO, DAY);
    "limits.resolveNodeLimit" limits.resolve_node_limit, count(1, 1000), "OPENFGA_RESOLVE_NODE_LIMIT", "OPENFGA_RESOLVENODELIMIT";
    "limits.conditionEvaluationCost" limits.condition_evaluation_cost, Range::Count(100, MANY, ": conditions that OpenFGA's own default allows must go on working"), "OPENFGA_MAX_CONDITION_EVALUATION_COST", "OPENFGA_MAXCONDITIONEVALUATIONCOST";
    "limits.checkReads" limits.check_reads, count(1, 100 * MANY);
    "limits.checkInlineWork" limits.check_inline_work, count(0, MANY);
    "limits.checkWork" limits.check_work, count(1, 10_000 * MANY);
    "limits.concurrentLongChecks" limits.concurrent_long_checks, count(1, 256);
    "limits.checksPerBatch" limits.checks_per_batch, count(1, MANY), "OPENFGA_MAX_CHECKS_PER_BATCH_CHECK";
    "limits.checksPerStreamedBatch" limits.checks_per_streamed_batch, count(1, MANY);
    "limits.listObjectsResults" limits.list_objects_results, count(0, MANY), "OPENFGA_LIST_OBJECTS_MAX_RESULTS", "OPENFGA_LISTOBJECTSMAXRESULTS";
    "limits.listObjectsDeadline" limits.list_objects_deadline, time(Duration::ZERO, HOUR), "OPENFGA_LIST_OBJECTS_DEADLINE", "OPENFGA_LISTOBJECTSDEADLINE";
    "limits.listUsersResults" limits.list_users_results, count(0, MANY), "OPENFGA_LIST_USERS_MAX_RESULTS", "OPENFGA_LISTUSERSMAXRESULTS";
    "limits.listUsersDeadline" limits.list_users_deadline, time(Duration::ZERO, HOUR), "OPENFGA_LIST_USERS_DEADLINE", "OPENFGA_LISTUSERSDEADLINE";
};

impl Setting {
    /// What it is called in the environment: `limits.checkReads` is `MERIDIAN_LIMITS_CHECK_READS`.
    pub(super) fn variable(&self) -> String {
        let mut name = "MERIDIAN_".to_owned();
        for letter in self.path.chars() {
            match letter {
                '.' => name.push('_'),
                upper if upper.is_ascii_uppercase() => {
                    name.push('_');
                    name.push(upper);
                }
                lower => name.push(lower.to_ascii_uppercase()),
            }
        }
        name
    }

    /// Sets it to what the variable `name` says.
    ///
    /// # Errors
    /// [`ConfigError::Variable`] naming it, and what it must be. Its value is not shown: it may be a secret.
    pub(super) fn set(
        &self,
        config: &mut Config,
        name: &str,
        text: &str,
    ) -> Result<(), ConfigError> {
        let wrong = |what: String| ConfigError::Variable {
            name: name.to_owned(),
            what,
        };
        (self.read)(config, text.trim()).map_err(|what| wrong(what.to_owned()))?;
        self.check(config).map_err(|error| match error {
            ConfigError::Setting { remedy, .. } => wrong(remedy),
            other => other,
        })
    }

    /// Checks its range.
    ///
    /// # Errors
    /// [`ConfigError::Setting`].
    pub(super) fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let within = match ((self.amount)(config), &self.range) {
            (Some(Amount::Count(value)), Range::Count(least, most, _)) => {
                (*least..=*most).contains(&value)
            }
            (Some(Amount::Time(value)), Range::Time(least, most, _)) => {
                (*least..=*most).contains(&value)
            }
            _ => true,
        };
        let remedy = || match &self.range {
            Range::Is(what) => (*what).to_owned(),
            Range::Count(.., why) | Range::Time(.., why) => format!("use {}{why}", self.range()),
        };
        need(within, self.path, (self.show)(config), remedy())
    }

    /// What it may be, in words.
    pub(super) fn range(&self) -> String {
        match self.range {
            Range::Is(what) => what.to_owned(),
            Range::Count(least, u64::MAX, _) => format!("{least} or more"),
            Range::Count(least, most, _) => format!("{least} to {most}"),
            Range::Time(least, most, _) => format!("{} to {}", words(least), words(most)),
        }
    }

    /// Its value, as it would be written; of secrets nothing.
    pub(super) fn show(&self, config: &Config) -> String {
        (self.show)(config)
    }

    /// Whether it is a list in the file.
    pub(super) fn is_list(&self) -> bool {
        (self.is_list)(&Config::default())
    }

    /// What it must look like, where this text cannot be read.
    pub(super) fn misread(&self, text: &str) -> Option<&'static str> {
        (self.read)(&mut Config::default(), text).err()
    }
}
