//! The live channel.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;
use meridian_live_channel::settings::{Limits, Rules, Times};
use meridian_model::{Object, StoreId};
use serde::Deserialize;

use super::authn::{Method, Oidc, is_http_url};
use super::rules::need;
use super::{Config, ConfigError};

/// The live channel: records to whoever may see them, over WebSockets.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Live {
    /// Whether this node has it.
    pub enabled: bool,
    /// Whose records its nodes have: all of the product, or those of their own region.
    pub scope: Scope,
    /// Whether records are written to the database as well: those of the product to central's, those of a region to its own.
    pub durable: bool,
    /// How long they are kept there.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    /// The store of clients and records that name none.
    pub store: Option<String>,
    /// The type of users: `sub` of a token is the id of one of them.
    pub user_type: String,
    /// The relation that lets a user see an object.
    pub relation: String,
    /// Other relations by type: `event=can_see`.
    pub relations: Vec<String>,
    /// What lets a user see all objects of a type: `event=system:live#can_watch_all`.
    pub whole_types: Vec<String>,
    /// The claim of a token that lists objects which it allows by itself.
    pub scope_claim: String,
    /// Tokens of an issuer of the users' own; those of `authn.oidc` unless set.
    pub oidc: Oidc,
    /// Whom to ask whose a token is, instead of checking it here.
    pub userinfo_url: Option<String>,
    /// How long its answer is kept.
    #[serde(with = "humantime_serde")]
    pub userinfo_max_age: Duration,
    /// Whom to ask, with the user's token, who may see an object, instead of Meridian.
    pub authority_url: Option<String>,
    /// Origins of pages that may connect, in which one `*` stands for anything.
    pub allowed_origins: Vec<String>,
    /// Sockets of the node.
    pub connections: usize,
    /// Sockets of one address.
    pub connections_per_address: usize,
    /// Sockets of one user.
    pub connections_per_user: usize,
    /// Subscriptions of one socket.
    pub subscriptions_per_socket: usize,
    /// Bytes of a client's message.
    pub message_bytes: usize,
    /// Messages of a client a second.
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
    /// How long a record is kept.
    #[serde(with = "humantime_serde")]
    pub history_age: Duration,
    /// How long a client has to show its token.
    #[serde(with = "humantime_serde")]
    pub hello_timeout: Duration,
    /// Silence, after which a client is asked whether it lives.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// Silence, after which it is closed.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// How long before its token expires a client is told.
    #[serde(with = "humantime_serde")]
    pub expiry_notice: Duration,
    /// How long what a change has put in doubt waits for the authority.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// How often each subscription is checked again.
    #[serde(with = "humantime_serde")]
    pub review_interval: Duration,
}

/// Whose records a node has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All of the product.
    #[default]
    Product,
    /// Those of its own region; central has those of its own `region` setting.
    Region,
}

impl Default for Live {
    fn default() -> Self {
        let (limits, times) = (Limits::default(), Times::default());
        Self {
            enabled: false,
            scope: Scope::default(),
            durable: true,
            retention: Duration::from_secs(30 * 24 * 60 * 60),
            store: None,
            user_type: "user".to_owned(),
            relation: Rules::default().relation,
            relations: Vec::new(),
            whole_types: Vec::new(),
            scope_claim: "meridian_live".to_owned(),
            oidc: Oidc::default(),
            userinfo_url: None,
            userinfo_max_age: Duration::from_secs(60),
            authority_url: None,
            allowed_origins: vec!["*".to_owned()],
            connections: limits.connections,
            connections_per_address: limits.connections_per_address,
            connections_per_user: limits.connections_per_user,
            subscriptions_per_socket: limits.subscriptions,
            message_bytes: limits.message_bytes,
            messages_per_second: limits.messages_per_second,
            queue_records: limits.queue_records,
            queue_bytes: limits.queue_bytes,
            history_records: limits.history_records,
            history_bytes: limits.history_bytes,
            history_total_bytes: limits.history_total_bytes,
            history_age: times.history,
            hello_timeout: times.hello,
            ping_interval: times.ping,
            idle_timeout: times.idle,
            expiry_notice: times.notice,
            grace: times.grace,
            review_interval: times.review,
        }
    }
}

const RELATION: &str = "write each as type=relation, like event=can_see";
const WHOLE_TYPE: &str = "write each as type=object#relation, like event=system:live#can_watch_all";

impl Live {
    /// The store of those who name none.
    pub fn default_store(&self) -> Option<StoreId> {
        self.store.as_deref()?.parse().ok()
    }

    /// Which relation lets a user see an object. What is malformed was refused when the settings were read.
    pub fn rules(&self) -> Rules {
        let relations = self.relations.iter().filter_map(|one| relation(one));
        let whole_types = self.whole_types.iter().filter_map(|one| whole_type(one));
        Rules {
            relation: self.relation.clone(),
            relations: relations.collect(),
            whole_types: whole_types.collect::<BTreeMap<_, _>>(),
        }
    }

    /// How much there may be.
    pub fn limits(&self) -> Limits {
        Limits {
            connections: self.connections,
            connections_per_address: self.connections_per_address,
            connections_per_user: self.connections_per_user,
            subscriptions: self.subscriptions_per_socket,
            message_bytes: self.message_bytes,
            messages_per_second: self.messages_per_second,
            queue_records: self.queue_records,
            queue_bytes: self.queue_bytes,
            history_records: self.history_records,
            history_bytes: self.history_bytes,
            history_total_bytes: self.history_total_bytes,
        }
    }

    /// How long things may take.
    pub fn times(&self) -> Times {
        Times {
            hello: self.hello_timeout,
            ping: self.ping_interval,
            idle: self.idle_timeout,
            notice: self.expiry_notice,
            grace: self.grace,
            review: self.review_interval,
            history: self.history_age,
        }
    }
}

impl Config {
    pub(super) fn check_live(&self) -> Result<(), ConfigError> {
        let live = &self.live;
        if let Some(store) = &live.store {
            let is_id = store.parse::<StoreId>().is_ok();
            need(is_id, "live.store", store, "write a store's id")?;
        }
        for one in &live.relations {
            need(relation(one).is_some(), "live.relations", one, RELATION)?;
        }
        for one in &live.whole_types {
            need(
                whole_type(one).is_some(),
                "live.wholeTypes",
                one,
                WHOLE_TYPE,
            )?;
        }
        let user_type = format!("{}:x", live.user_type);
        need(
            user_type.parse::<Object>().is_ok(),
            "live.userType",
            &live.user_type,
            "name a type: 1 to 254 bytes without spaces, :, #, @ and *",
        )?;
        need(
            is_relation(&live.relation),
            "live.relation",
            &live.relation,
            "name a relation: 1 to 50 bytes without spaces, :, #, @ and *",
        )?;
        for origin in &live.allowed_origins {
            let may_be = origin.contains("://") || origin.starts_with('*') || origin == "null";
            need(
                may_be,
                "live.allowedOrigins",
                origin,
                "write each with its scheme, like https://map.example.com",
            )?;
        }
        let url = live.userinfo_url.as_deref().unwrap_or("http://none");
        need(
            is_url(url),
            "live.userinfoUrl",
            url,
            "write a URL, like https://app.example.com/me",
        )?;
        let url = live.authority_url.as_deref().unwrap_or("http://none/{id}");
        let names_object = ["{object}", "{id}"].iter().any(|part| url.contains(part));
        let filled = PLACES
            .iter()
            .fold(url.to_owned(), |url, place| url.replace(place, "x"));
        need(
            names_object && is_url(&filled),
            "live.authorityUrl",
            url,
            "write a URL with {object}, or {type} and {id}, like https://app.example.com/may-watch/{type}/{id}",
        )?;
        need(
            live.store.is_some() || live.authority_url.is_none(),
            "live.store",
            "",
            "name the store whose objects live.authorityUrl knows: it is asked for no other",
        )?;
        need(
            live.history_total_bytes >= live.history_bytes,
            "live.historyTotalBytes",
            live.history_total_bytes,
            "make it at least live.historyBytes, which one store may have",
        )?;
        let ping = live.ping_interval;
        need(
            live.idle_timeout > ping,
            "live.idleTimeout",
            humantime_serde::re::humantime::format_duration(live.idle_timeout),
            "make it longer than live.pingInterval: a client is asked before it is taken to be gone",
        )?;
        self.check_live_tokens()
    }

    fn check_live_tokens(&self) -> Result<(), ConfigError> {
        let live = &self.live;
        if !live.oidc.issuer.is_empty() {
            need(
                is_http_url(&live.oidc.issuer),
                "live.oidc.issuer",
                &live.oidc.issuer,
                "write the issuer's URL, like https://issuer.example.com",
            )?;
            return need(
                !live.oidc.audience.is_empty(),
                "live.oidc.audience",
                "",
                "name the audience that tokens are made for, since live.oidc.issuer is set",
            );
        }
        let knows_users =
            !live.enabled || live.userinfo_url.is_some() || self.authn.method != Method::Preshared;
        need(
            knows_users,
            "live.oidc.issuer",
            "",
            "name the issuer of the users' tokens, or live.userinfoUrl: a preshared key says nothing of who a user is",
        )
    }
}

/// What stands for the object in `live.authorityUrl`.
const PLACES: [&str; 3] = ["{object}", "{type}", "{id}"];

fn is_url(text: &str) -> bool {
    is_http_url(text) && !text.contains(['{', '}']) && text.parse::<Uri>().is_ok()
}

fn is_relation(text: &str) -> bool {
    let is_out = |c: char| c.is_whitespace() || c.is_control() || ":#@*".contains(c);
    (1..=50).contains(&text.len()) && !text.contains(is_out)
}

fn relation(text: &str) -> Option<(String, String)> {
    let (object_type, relation) = text.split_once('=')?;
    let named = !object_type.is_empty() && !relation.is_empty() && !relation.contains(['#', ':']);
    named.then(|| (object_type.to_owned(), relation.to_owned()))
}

fn whole_type(text: &str) -> Option<(String, (String, String))> {
    let (object_type, asked) = text.split_once('=')?;
    let (object, relation) = asked.split_once('#')?;
    let (of_type, id) = object.split_once(':')?;
    let named = [object_type, relation, of_type, id]
        .iter()
        .all(|part| !part.is_empty());
    named.then(|| {
        (
            object_type.to_owned(),
            (object.to_owned(), relation.to_owned()),
        )
    })
}
