//! Nodes over gRPC.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use meridian_model::{AuthorizationModel, Tiers};
use meridian_proto::meridian::v1 as node;
use meridian_proto::meridian::v1::admin_service_client::AdminServiceClient;
use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::open_fga_service_client::OpenFgaServiceClient;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::{Access, Address, Dependency, Held, Identity, NodeError, NodeStatus, Nodes};
use crate::chain;

/// For one call, connecting included.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a node may take to say how it is.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection is tried, whether it is used or not: one whose other end vanished says nothing by itself.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Connections kept; pods come and go, and so do their addresses.
const MAX_CHANNELS: usize = 1024;

/// Nodes over gRPC; a connection to each is kept while it is used.
#[derive(Debug, Default)]
pub struct Client {
    channels: Mutex<HashMap<(Address, Duration), Channel>>,
}

/// A connection on which a token is shown.
type Shown = InterceptedService<Channel, Show>;

impl Client {
    fn channel(&self, to: &Address, timeout: Duration) -> Result<Shown, NodeError> {
        let show = Show::of(&to.access)?;
        let key = (to.clone(), timeout);
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&key) {
            return Ok(InterceptedService::new(channel.clone(), show));
        }
        let channel = endpoint(to)?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(CONNECT_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_lazy();
        if channels.len() >= MAX_CHANNELS {
            channels.clear();
        }
        channels.insert(key, channel.clone());
        Ok(InterceptedService::new(channel, show))
    }

    /// What a failed call means. The next one gets a connection of its own if this one may be dead.
    fn failed(&self, at: &Address) -> impl FnOnce(Status) -> NodeError {
        move |status| {
            let told = format!("{at}: {}", told(&status));
            match status.code() {
                Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Aborted
                | Code::ResourceExhausted
                | Code::Internal => {
                    let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
                    channels.retain(|(of, _), _| of != at);
                    NodeError::Unavailable(told)
                }
                _ => NodeError::Refused(told),
            }
        }
    }

    fn api(&self, at: &Address) -> Result<OpenFgaServiceClient<Shown>, NodeError> {
        self.channel(at, TIMEOUT).map(OpenFgaServiceClient::new)
    }

    fn admin(
        &self,
        at: &Address,
        timeout: Duration,
    ) -> Result<AdminServiceClient<Shown>, NodeError> {
        self.channel(at, timeout).map(AdminServiceClient::new)
    }
}

fn endpoint(to: &Address) -> Result<Endpoint, NodeError> {
    let refused = |why: String| NodeError::Refused(format!("address {to}: {why}"));
    let scheme = match to.access.identity {
        Some(_) => "https",
        None => "http",
    };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{to}"));
    let endpoint = endpoint.map_err(|why| refused(why.to_string()))?;
    match &to.access.identity {
        None => Ok(endpoint),
        Some(identity) => {
            let endpoint = endpoint.tls_config(tls(identity));
            endpoint.map_err(|why| refused(chain(&why)))
        }
    }
}

fn tls(identity: &Identity) -> ClientTlsConfig {
    let config = ClientTlsConfig::new().domain_name(&identity.name);
    match &identity.ca {
        Some(ca) => config.ca_certificate(Certificate::from_pem(ca)),
        None => config.with_native_roots(),
    }
}

/// Shows a token with every request, if there is one.
#[derive(Debug, Clone)]
struct Show(Option<MetadataValue<Ascii>>);

impl Show {
    fn of(access: &Access) -> Result<Self, NodeError> {
        let value = access.token.as_ref().map(|token| {
            let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.0).parse()?;
            value.set_sensitive(true);
            Ok(value)
        });
        let unusable = |_: tonic::metadata::errors::InvalidMetadataValue| {
            NodeError::Refused("the nodes' token has characters that cannot be sent".to_owned())
        };
        value.transpose().map(Self).map_err(unusable)
    }
}

impl Interceptor for Show {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// What a status says, with what lies under it: of a connection that fails it says itself only that it did.
fn told(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => chain(source),
        None => status.message().to_owned(),
    }
}

#[async_trait]
impl Nodes for Client {
    async fn find_store(&self, at: &Address, name: &str) -> Result<Option<String>, NodeError> {
        let request = v1::ListStoresRequest {
            page_size: Some(100),
            name: name.to_owned(),
            ..Default::default()
        };
        let page = self.api(at)?.list_stores(request).await;
        let stores = page.map_err(self.failed(at))?.into_inner().stores;
        // Ids grow with time.
        let named = stores.into_iter().filter(|store| store.name == name);
        Ok(named.map(|store| store.id).min())
    }

    async fn create_store(&self, at: &Address, name: &str) -> Result<String, NodeError> {
        let request = v1::CreateStoreRequest {
            name: name.to_owned(),
        };
        let created = self.api(at)?.create_store(request).await;
        Ok(created.map_err(self.failed(at))?.into_inner().id)
    }

    async fn latest_model(
        &self,
        at: &Address,
        store: &str,
    ) -> Result<Option<(String, AuthorizationModel)>, NodeError> {
        let request = v1::ReadAuthorizationModelsRequest {
            store_id: store.to_owned(),
            page_size: Some(1),
            ..Default::default()
        };
        let page = self.api(at)?.read_authorization_models(request).await;
        let models = page
            .map_err(self.failed(at))?
            .into_inner()
            .authorization_models;
        models
            .into_iter()
            .next()
            .map(|wire| Ok((wire.id.clone(), by_json(&wire)?)))
            .transpose()
    }

    async fn write_model(
        &self,
        at: &Address,
        store: &str,
        model: &AuthorizationModel,
    ) -> Result<String, NodeError> {
        let request = v1::WriteAuthorizationModelRequest {
            store_id: store.to_owned(),
            ..by_json(model)?
        };
        let written = self.api(at)?.write_authorization_model(request).await;
        Ok(written
            .map_err(self.failed(at))?
            .into_inner()
            .authorization_model_id)
    }

    async fn tiers(&self, at: &Address, store: &str) -> Result<Tiers, NodeError> {
        let request = node::GetTiersRequest {
            store_id: store.to_owned(),
        };
        let answer = self.admin(at, TIMEOUT)?.get_tiers(request).await;
        let tiers = answer.map_err(self.failed(at))?.into_inner().tiers;
        let tiers = tiers.unwrap_or_default();
        Ok(Tiers {
            critical: tiers.critical.into_iter().collect(),
            cold: tiers.cold.into_iter().collect(),
        })
    }

    async fn assign_tiers(
        &self,
        at: &Address,
        store: &str,
        tiers: &Tiers,
    ) -> Result<(), NodeError> {
        let request = node::AssignTiersRequest {
            store_id: store.to_owned(),
            tiers: Some(node::Tiers {
                critical: tiers.critical.iter().cloned().collect(),
                cold: tiers.cold.iter().cloned().collect(),
            }),
        };
        let done = self.admin(at, TIMEOUT)?.assign_tiers(request).await;
        done.map(|_| ()).map_err(self.failed(at))
    }

    async fn status(&self, at: &Address, store: Option<&str>) -> Result<NodeStatus, NodeError> {
        let request = node::GetStatusRequest {
            store_id: store.unwrap_or_default().to_owned(),
        };
        let answer = self.admin(at, STATUS_TIMEOUT)?.get_status(request).await;
        let status = answer.map_err(self.failed(at))?.into_inner();
        let dependencies = status.dependencies.into_iter().map(|of| Dependency {
            name: of.name,
            available: of.available,
            message: of.message,
        });
        Ok(NodeStatus {
            node: status.node,
            ready: status.ready,
            dependencies: dependencies.collect(),
            store: status.store.map(|of| Held {
                id: of.store_id,
                model: Some(of.authorization_model_id).filter(|id| !id.is_empty()),
            }),
        })
    }

    async fn delete_store(&self, at: &Address, store: &str) -> Result<(), NodeError> {
        let request = v1::DeleteStoreRequest {
            store_id: store.to_owned(),
        };
        let done = self.api(at)?.delete_store(request).await;
        done.map(|_| ()).map_err(self.failed(at))
    }
}

/// From the model's form to the wire's or back: both have OpenFGA's JSON.
fn by_json<T: DeserializeOwned>(of: &impl Serialize) -> Result<T, NodeError> {
    serde_json::to_value(of)
        .and_then(serde_json::from_value)
        .map_err(|why| NodeError::Refused(format!("authorization model: {why}")))
}
