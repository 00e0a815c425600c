//! What a setting must be to make sense. What breaks a rule stops the node at its start: found out later, it would look
//! like a fault of something else.

use std::net::{IpAddr, SocketAddr};

use http::Uri;

use super::authn::Method;
use super::settings::SETTINGS;
use super::{Config, ConfigError};
use crate::schema::address;

pub(super) const TOPIC_PART: &str =
    "use 1 to 60 letters, digits, '-' and '_', since topics are named by it";
const UPSTREAM: &str = "write each as http://host:port or https://host:port, the address of listen.nodes of a node above";

impl Config {
    /// Checks what holds for every role.
    ///
    /// # Errors
    /// [`ConfigError::Setting`], the first rule broken.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_names()?;
        self.check_datastore()?;
        self.check_kafka()?;
        self.check_edge()?;
        self.check_live()?;
        self.check_recorder()?;
        self.check_watch()?;
        SETTINGS
            .iter()
            .try_for_each(|setting| setting.check(self))?;
        self.authn.check()?;
        self.nodes.check()?;
        self.tls.check()?;
        self.http.check()?;
        self.upstream
            .iter()
            .try_for_each(|url| need(is_node_url(url), "upstream", url, UPSTREAM))
    }

    /// Checks that there is a node above.
    ///
    /// # Errors
    /// [`ConfigError::Setting`] when none is named.
    pub(crate) fn check_has_upstream(&self) -> Result<(), ConfigError> {
        need(
            !self.upstream.is_empty(),
            "upstream",
            "[]",
            "name at least one node above, as http://host:port, the address of its listen.nodes",
        )
    }

    /// Checks that there is the live channel to serve.
    ///
    /// # Errors
    /// [`ConfigError::Setting`] when it is off.
    pub(crate) fn check_has_live(&self) -> Result<(), ConfigError> {
        need(
            self.live.enabled,
            "live.enabled",
            false,
            "set it to true: the live channel is all that this process serves",
        )
    }

    /// Checks that each listener has an address of its own.
    ///
    /// # Errors
    /// [`ConfigError::Setting`] naming the second of two that share one.
    pub(crate) fn check_listen(&self, has_nodes: bool) -> Result<(), ConfigError> {
        let listen = &self.listen;
        let mut before: Vec<SocketAddr> = Vec::new();
        for (setting, address) in [
            ("listen.grpc", Some(listen.grpc)),
            ("listen.http", Some(listen.http)),
            ("listen.nodes", Some(listen.nodes).filter(|_| has_nodes)),
            ("listen.metrics", listen.metrics),
        ] {
            let Some(address) = address.filter(|address| address.port() != 0) else {
                continue;
            };
            let alone = !before.iter().any(|other| overlap(*other, address));
            need(
                alone,
                setting,
                address,
                "another of this node's listeners has this port: give each its own",
            )?;
            before.push(address);
        }
        Ok(())
    }

    /// Checks that what callers must show something for is not given away at the port between nodes.
    ///
    /// # Errors
    /// [`ConfigError::Setting`] where it is.
    pub(crate) fn check_guarded(&self) -> Result<(), ConfigError> {
        let (method, nodes) = (self.authn.method, self.listen.nodes);
        let is_guarded = self.nodes.has_tokens() || nodes.ip().to_canonical().is_loopback();
        need(
            method == Method::None || is_guarded,
            "nodes.tokens",
            "[]",
            format!(
                "name at least one token, here or in nodes.tokensFile: authn.method is {}, and whoever reaches listen.nodes ({nodes}) could read and write everything without one. Where there are no nodes below, listen.nodes may be 127.0.0.1:{} instead",
                format!("{method:?}").to_lowercase(),
                nodes.port()
            ),
        )
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        let visible =
            (1..=128).contains(&self.name.len()) && self.name.bytes().all(|b| b.is_ascii_graphic());
        need(
            visible,
            "name",
            &self.name,
            "use 1 to 128 visible ASCII characters, without spaces",
        )?;
        for (setting, text) in [
            ("product", &self.product),
            ("region", &self.region),
            ("kafka.topicPrefix", &self.kafka.topic_prefix),
        ] {
            need(is_topic_part(text), setting, text, TOPIC_PART)?;
        }
        Ok(())
    }

    fn check_datastore(&self) -> Result<(), ConfigError> {
        let (least, most) = (
            self.datastore.min_connections,
            self.datastore.max_connections,
        );
        // A maximum of 0 is told as what it is.
        need(
            least <= most || most == 0,
            "datastore.minConnections",
            least,
            "use no more than datastore.maxConnections",
        )?;
        let Some(replica) = &self.datastore.read_replica_url else {
            return Ok(());
        };
        let engine = engine(replica);
        need(
            engine.is_some() && engine == self::engine(&self.datastore.url),
            "datastore.readReplicaUrl",
            address(replica),
            "name a PostgreSQL (postgres://) or MySQL (mysql://) server that replicates the one of datastore.url",
        )
    }

    fn check_kafka(&self) -> Result<(), ConfigError> {
        let kafka = &self.kafka;
        need(
            kafka.bootstrap.split(',').map(str::trim).all(is_host_port),
            "kafka.bootstrap",
            &kafka.bootstrap,
            "name at least one broker as host:port, more of them separated by commas",
        )
    }

    fn check_edge(&self) -> Result<(), ConfigError> {
        let directory = self.edge.directory.as_deref();
        need(
            directory.is_none_or(|folder| !folder.as_os_str().is_empty()),
            "edge.directory",
            "",
            "name a folder, or leave it out to start empty every time",
        )
    }
}

/// Which engine that replicates a URL is of.
fn engine(url: &str) -> Option<&'static str> {
    match url.split_once(':')?.0 {
        "postgres" | "postgresql" => Some("PostgreSQL"),
        "mysql" | "mariadb" => Some("MySQL"),
        _ => None,
    }
}

/// # Errors
/// [`ConfigError::Setting`] unless it holds.
pub(super) fn need(
    holds: bool,
    setting: &'static str,
    value: impl ToString,
    remedy: impl Into<String>,
) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    Err(ConfigError::Setting {
        setting,
        value: value.to_string(),
        remedy: remedy.into(),
    })
}

pub(super) fn is_topic_part(text: &str) -> bool {
    (1..=60).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Whether the text is `host:port`, the host an IPv6 address in brackets or free of separators.
pub(crate) fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let inside = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let known = match inside {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        }
    };
    known && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Whether the text is `http://host:port`, or the same with `https`.
fn is_node_url(text: &str) -> bool {
    let Ok(url) = text.parse::<Uri>() else {
        return false;
    };
    let address = url.authority().map_or("", |authority| authority.as_str());
    matches!(url.scheme_str(), Some("http" | "https"))
        && is_host_port(address)
        && url.path_and_query().is_none_or(|path| path.as_str() == "/")
}

/// Whether the host of a URL is this one.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether the system would refuse to listen on both.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}
