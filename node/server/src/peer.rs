//! The nodes above, over `meridian.v1.NodeService`.
//!
//! A node has one or more of them, nearest first: an edge its regional and behind it central. A call goes to the first
//! that is not known to be away, and one that may safely be made twice goes on to the next. A write goes on only where it
//! certainly was not sent.

mod api;
mod batch;
pub(crate) mod flows;
mod line;
mod list;
mod origin;
pub(crate) mod replication;
mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod trust;

use std::time::{Duration, Instant};

use futures::future::join_all;
use meridian_proto::meridian::v1 as wire;
use meridian_proto::meridian::v1::admin_service_client::AdminServiceClient;
use meridian_proto::meridian::v1::flow_service_client::FlowServiceClient;
use meridian_proto::meridian::v1::node_service_client::NodeServiceClient;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use flows::{Flowing, ForFlows, OfRegion};
use line::{Line, Peer, Repeat};
use trust::Trust;

/// Largest message taken from upstream: a page of changes, a chunk of a fill.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// Bytes that one streamed listing, and all of them together, may leave unread: a thousand that wait for their clients hold
/// up no other.
const LIST_WINDOW: u32 = 64 * 1024;
const LISTS_WINDOW: u32 = 64 * 1024 * 1024;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a connection is asked whether its node still lives, and how long the node has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The nodes above this one, nearest first.
pub struct Peers {
    line: Line,
    for_edge: bool,
}

/// A node's services.
///
/// Streamed listings have a connection of their own: what a slow client leaves unread there counts against the window of the
/// whole connection, and would in the end hold up everything else on it.
#[derive(Clone)]
struct Client {
    calls: Connection,
    lists: Connection,
    /// What `calls` goes by, and what is shown there.
    channel: Channel,
    trust: Trust,
}

pub(crate) type Connection = InterceptedService<Channel, Trust>;

impl Client {
    fn nodes(self) -> NodeServiceClient<Connection> {
        NodeServiceClient::new(self.calls)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn lists(self) -> NodeServiceClient<Connection> {
        NodeServiceClient::new(self.lists)
    }

    fn admin(self) -> AdminServiceClient<Connection> {
        AdminServiceClient::new(self.calls)
    }

    fn flows(self, region: OfRegion) -> Flowing {
        let shown = ForFlows {
            trust: self.trust,
            region,
        };
        FlowServiceClient::new(InterceptedService::new(self.channel, shown))
    }
}

/// Why an address is not one.
#[derive(Debug, thiserror::Error)]
#[error(
    "{setting} is '{address}', which is not a URL like http://central:8082, or nodes.ca is no certificate"
)]
pub struct InvalidAddress {
    setting: String,
    address: String,
    #[source]
    source: tonic::transport::Error,
}

impl Peers {
    /// The same, asked by an edge: tuples that it does not hold are left out of the changes it is sent.
    #[must_use]
    pub fn for_edge(self) -> Self {
        Self {
            for_edge: true,
            ..self
        }
    }

    /// Nodes by address, as `upstream` lists them. Connects when first used, and again whenever a connection is lost.
    ///
    /// # Errors
    /// [`InvalidAddress`] naming the one that is no URL.
    pub fn new(addresses: &[String]) -> Result<Self, InvalidAddress> {
        Self::trusting(addresses, &Trust::default())
    }

    /// The same, shown a token, and trusted by a certificate, as `trust` says.
    ///
    /// # Errors
    /// [`InvalidAddress`] naming the one that is no URL, or cannot be trusted so.
    pub fn trusting(addresses: &[String], trust: &Trust) -> Result<Self, InvalidAddress> {
        let peer = |(index, address): (usize, &String)| {
            let setting = format!("upstream[{index}]");
            let endpoint = Endpoint::from_shared(address.clone()).and_then(|endpoint| {
                if address.starts_with("https://") {
                    endpoint.tls_config(trust.tls())
                } else {
                    Ok(endpoint)
                }
            });
            let endpoint = match endpoint {
                Ok(endpoint) => endpoint,
                Err(source) => {
                    return Err(InvalidAddress {
                        setting,
                        address: address.clone(),
                        source,
                    });
                }
            };
            let endpoint = endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .tcp_nodelay(true);
            let lists = endpoint
                .clone()
                .initial_stream_window_size(LIST_WINDOW)
                .initial_connection_window_size(LISTS_WINDOW);
            let channel = endpoint.connect_lazy();
            let shown = |channel| InterceptedService::new(channel, trust.clone());
            let client = Client {
                calls: shown(channel.clone()),
                lists: shown(lists.connect_lazy()),
                channel,
                trust: trust.clone(),
            };
            Ok(Peer::new(&setting, address, client))
        };
        let peers = addresses.iter().enumerate().map(peer);
        Ok(Self {
            line: Line(peers.collect::<Result<_, _>>()?),
            for_edge: false,
        })
    }

    /// Has tiers assigned at central.
    ///
    /// # Errors
    /// As central's [`crate::admin::Admin`] answers, or UNAVAILABLE.
    pub async fn assign_tiers(
        &self,
        deadline: Instant,
        request: wire::AssignTiersRequest,
    ) -> Result<wire::AssignTiersResponse, Status> {
        let call = |client: Client| {
            let request = request.clone();
            async move { client.admin().assign_tiers(request).await }
        };
        self.line.call(deadline, Repeat::Unsent, call).await
    }

    /// Asks central for the tiers in force.
    ///
    /// # Errors
    /// As central's [`crate::admin::Admin`] answers, or UNAVAILABLE.
    pub async fn get_tiers(
        &self,
        deadline: Instant,
        request: wire::GetTiersRequest,
    ) -> Result<wire::GetTiersResponse, Status> {
        let call = |client: Client| {
            let request = request.clone();
            async move { client.admin().get_tiers(request).await }
        };
        self.line.call(deadline, Repeat::Safe, call).await
    }

    /// Asks every node above whether it answers, in the order in which they are configured. With each its URL.
    ///
    /// # Errors
    /// Of each that does not: its URL and why.
    pub async fn ask(&self, deadline: Instant) -> Vec<(String, Result<(), String>)> {
        let answers = self.line.0.iter().map(async |peer| {
            let mut client = peer.client.clone().nodes();
            let positions = client.positions(wire::PositionsRequest {});
            let why = match tokio::time::timeout_at(deadline.into(), positions).await {
                Ok(Ok(_)) => return (peer.address.clone(), Ok(())),
                Ok(Err(status)) => line::why(&status),
                Err(_) => "it did not answer in time".to_owned(),
            };
            (peer.address.clone(), Err(format!("{}: {why}", peer.name)))
        });
        join_all(answers).await
    }
}
