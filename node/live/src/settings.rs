//! How the live channel behaves.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use meridian_model::StoreId;

/// Says whether pages of an origin may connect.
pub type Origins = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Says whose a connection with an address is, by its request's headers: a proxy in front may tell.
pub type Addresses = Arc<dyn Fn(IpAddr, &HeaderMap) -> IpAddr + Send + Sync>;

/// How the live channel behaves. The defaults are those that the documentation states.
#[derive(Clone)]
pub struct Settings {
    /// The node's name, as clients see it.
    pub node: String,
    /// The store of clients that name none; the only one of whose objects a token's scopes speak, and of which an authority
    /// outside decides.
    pub store: Option<StoreId>,
    /// Which relation lets a user see an object.
    pub rules: Rules,
    /// Pages that may connect. What is no page names no origin, and may.
    pub origins: Origins,
    /// Where clients come from; of the connection unless set.
    pub addresses: Addresses,
    /// Whether an authority outside decides, which wants to see the user's own token.
    pub shows_token: bool,
    /// How much there may be.
    pub limits: Limits,
    /// How long things may take.
    pub times: Times,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node: "node".to_owned(),
            store: None,
            rules: Rules::default(),
            origins: Arc::new(|_| true),
            addresses: Arc::new(|peer, _| peer.to_canonical()),
            shows_token: false,
            limits: Limits::default(),
            times: Times::default(),
        }
    }
}

/// Which relation lets a user see an object.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The relation, where a type has no other.
    pub relation: String,
    /// The relation of a type.
    pub relations: BTreeMap<String, String>,
    /// What lets a user see all objects of a type: an object and a relation to it. Without one nobody may but by a token.
    pub whole_types: BTreeMap<String, (String, String)>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            relation: "can_watch".to_owned(),
            relations: BTreeMap::new(),
            whole_types: BTreeMap::new(),
        }
    }
}

impl Rules {
    /// Object and relation that decide a subscription to `object`; `None` for a whole type that nothing opens.
    pub fn asked<'a>(&'a self, object: &'a str) -> Option<(&'a str, &'a str)> {
        let (object_type, id) = object.split_once(':')?;
        if id == "*" {
            let (object, relation) = self.whole_types.get(object_type)?;
            return Some((object, relation));
        }
        let relation = self.relations.get(object_type).unwrap_or(&self.relation);
        Some((object, relation))
    }
}

/// How much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sockets of the node.
    pub connections: usize,
    /// Sockets of one address.
    pub connections_per_address: usize,
    /// Sockets of one user.
    pub connections_per_user: usize,
    /// Subscriptions of one socket.
    pub subscriptions: usize,
    /// Bytes of a client's message.
    pub message_bytes: usize,
    /// Messages of a client a second; twice as many at once.
    pub messages_per_second: u32,
    /// Records that wait for one client.
    pub queue_records: usize,
    /// Bytes of them.
    pub queue_bytes: usize,
    /// Records of one object that are kept for those who come back.
    pub history_records: usize,
    /// Bytes of all records kept of a store.
    pub history_bytes: usize,
    /// Bytes of all records kept of all stores.
    pub history_total_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_address: 1000,
            connections_per_user: 100,
            subscriptions: 100,
            message_bytes: 64 * 1024,
            messages_per_second: 50,
            queue_records: 4096,
            queue_bytes: 2 * 1024 * 1024,
            history_records: 2048,
            history_bytes: 64 * 1024 * 1024,
            history_total_bytes: 256 * 1024 * 1024,
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// A client to show its token.
    pub hello: Duration,
    /// Silence, after which a client is asked whether it lives.
    pub ping: Duration,
    /// Silence, after which it is taken to be gone.
    pub idle: Duration,
    /// Before its token expires a client is told so long.
    pub notice: Duration,
    /// A subscription that rests on something that changed may wait so long for the authority, its records held back.
    pub grace: Duration,
    /// How often each subscription is checked again, whatever changed.
    pub review: Duration,
    /// How long a record is kept for those who come back.
    pub history: Duration,
}

impl Times {
    /// What an authority may take for its answers, so that those that are there are taken in within [`Self::grace`].
    #[must_use]
    pub fn question(&self) -> Duration {
        self.grace / 5 * 4
    }
}

impl Default for Times {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(10),
            ping: Duration::from_secs(25),
            idle: Duration::from_secs(60),
            notice: Duration::from_secs(60),
            grace: Duration::from_secs(5),
            review: Duration::from_secs(300),
            history: Duration::from_secs(60 * 60),
        }
    }
}
