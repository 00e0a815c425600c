//! A small client of a node's API, for the command line and the demonstration.

mod told;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use clap::builder::BoolishValueParser;
use http_body::Frame;
use http_body_util::BodyExt as _;
use meridian_model::{Tier, TupleKey, TypeSystem, dsl};
use meridian_proto::meridian::v1 as node;
use meridian_proto::meridian::v1::admin_service_client::AdminServiceClient;
use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::open_fga_service_client::OpenFgaServiceClient;
use meridian_sync::envelope::tiers_from_wire;
use tonic::body::Body;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};
use tower::ServiceExt;
use tower::util::MapResponse;

use crate::api::convert;
use crate::config::is_host_port;
use crate::peer::trust::Trust;
use told::told;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Where [`keep_number`] puts OpenFGA's number: tonic takes it for unknown and drops it.
const RAW_STATUS: &str = "meridian-raw-status";

const SERVED_BY: &str = "meridian-served-by";

/// What to look at when there is no node at an address.
const GRPC: &str = "is the node running, and is this its listen.grpc (usually port 8081), not listen.http or listen.nodes?";

type KeepNumber = fn(http::Response<Body>) -> http::Response<Body>;

fn keep_number(response: http::Response<Body>) -> http::Response<Body> {
    let keep = |frame: Frame<Bytes>| match frame.into_trailers() {
        Ok(mut trailers) => {
            if let Some(number) = trailers.get(Status::GRPC_STATUS).cloned() {
                trailers.insert(RAW_STATUS, number);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    };
    response.map(|body| Body::new(body.map_frame(keep)))
}

/// A connection to a node.
#[derive(Clone)]
pub struct Client {
    address: String,
    api: OpenFgaServiceClient<Shown<MapResponse<Channel, KeepNumber>>>,
    admin: AdminServiceClient<Shown<Channel>>,
}

/// A connection on which a token is shown.
type Shown<C> = InterceptedService<C, Trust>;

/// Where a node is, and what it wants to be shown.
#[derive(Debug, Args)]
pub struct Access {
    /// gRPC address of a node.
    #[arg(long, env = "MERIDIAN_API", default_value = "127.0.0.1:8081")]
    pub api: String,
    /// What is shown to the node as the bearer token.
    #[arg(long, env = "MERIDIAN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The node speaks TLS, with a certificate that the system trusts.
    #[arg(long, env = "MERIDIAN_TLS", value_parser = BoolishValueParser::new())]
    pub tls: bool,
    /// The node speaks TLS, with a certificate that leads to one in this file (PEM).
    #[arg(long, env = "MERIDIAN_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// A check's answer with where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The answer.
    pub allowed: bool,
    /// `meridian-served-by`.
    pub served_by: String,
    /// `meridian-revision`.
    pub revision: String,
}

impl Client {
    /// A client of the node at `address`, `host:port` of its `listen.grpc`, which asks for nothing to be shown. Connects
    /// when first used.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(address: &str) -> anyhow::Result<Self> {
        Self::of(address, "http", &Trust::default())
    }

    /// A client of the node that `access` names. Connects when first used.
    ///
    /// # Errors
    /// When the address is none, or the certificate's file cannot be read.
    pub fn with(access: &Access) -> anyhow::Result<Self> {
        let read = |file: &PathBuf| {
            std::fs::read(file).with_context(|| format!("cannot read --ca {}", file.display()))
        };
        let ca = access.ca.as_ref().map(read).transpose()?;
        let scheme = if access.tls || ca.is_some() {
            "https"
        } else {
            "http"
        };
        Self::of(&access.api, scheme, &Trust::of(access.token.as_deref(), ca))
    }

    fn of(address: &str, scheme: &str, trust: &Trust) -> anyhow::Result<Self> {
        let mut endpoint = Some(address)
            .filter(|address| is_host_port(address))
            .and_then(|address| Endpoint::from_shared(format!("{scheme}://{address}")).ok())
            .with_context(|| {
                format!("--api is '{address}': write host:port, without http://, like 127.0.0.1:8081; {GRPC}")
            })?;
        if scheme == "https" {
            endpoint = endpoint
                .tls_config(trust.tls())
                .context("--ca holds no certificate in PEM")?;
        }
        let channel = endpoint
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT)
            .connect_lazy();
        Ok(Self {
            address: address.to_owned(),
            api: OpenFgaServiceClient::with_interceptor(
                channel.clone().map_response(keep_number as KeepNumber),
                trust.clone(),
            ),
            admin: AdminServiceClient::with_interceptor(channel, trust.clone()),
        })
    }

    /// Creates a store; returns its id.
    ///
    /// # Errors
    /// As the node answers.
    pub async fn create_store(&mut self, name: &str) -> anyhow::Result<String> {
        let created = self
            .api
            .create_store(v1::CreateStoreRequest {
                name: name.to_owned(),
            })
            .await
            .map_err(|status| told(&self.address, status))?;
        Ok(created.into_inner().id)
    }

    /// Writes a model, given in the modelling language; returns its id.
    ///
    /// # Errors
    /// Each mistake in the text with line and column, or as the node answers.
    pub async fn write_model(&mut self, store: &str, text: &str) -> anyhow::Result<String> {
        let v1::AuthorizationModel {
            schema_version,
            type_definitions,
            conditions,
            ..
        } = convert::model_to_wire("", parse_model(text)?.model());
        let request = v1::WriteAuthorizationModelRequest {
            store_id: store.to_owned(),
            type_definitions,
            schema_version,
            conditions,
        };
        Ok(self
            .api
            .write_authorization_model(request)
            .await
            .map_err(|status| told(&self.address, status))?
            .into_inner()
            .authorization_model_id)
    }

    /// Assigns tiers.
    ///
    /// # Errors
    /// As the node answers.
    pub async fn assign_tiers(
        &mut self,
        store: &str,
        critical: Vec<String>,
        cold: Vec<String>,
    ) -> anyhow::Result<()> {
        let tiers = Some(node::Tiers { critical, cold });
        self.admin
            .assign_tiers(node::AssignTiersRequest {
                store_id: store.to_owned(),
                tiers,
            })
            .await
            .map_err(|status| told(&self.address, status))?;
        Ok(())
    }

    /// Every type of the store's latest model with its tier; nothing while there is no model.
    ///
    /// # Errors
    /// As the node answers.
    pub async fn tiers(&mut self, store: &str) -> anyhow::Result<Vec<(String, Tier)>> {
        let request = node::GetTiersRequest {
            store_id: store.to_owned(),
        };
        let tiers = self.admin.get_tiers(request).await;
        let tiers = tiers.map_err(|status| told(&self.address, status))?;
        let tiers = tiers_from_wire(tiers.into_inner().tiers.unwrap_or_default());
        let request = v1::ReadAuthorizationModelsRequest {
            store_id: store.to_owned(),
            page_size: Some(1),
            ..Default::default()
        };
        let models = self.api.read_authorization_models(request).await;
        let models = models.map_err(|status| told(&self.address, status))?;
        let models = models.into_inner().authorization_models;
        let types = models.into_iter().flat_map(|model| model.type_definitions);
        Ok(types
            .map(|defined| {
                let tier = tiers.of(&defined.r#type);
                (defined.r#type, tier)
            })
            .collect())
    }

    /// The store of that name; of several the first made.
    ///
    /// # Errors
    /// As the node answers.
    pub async fn find_store(&mut self, name: &str) -> anyhow::Result<Option<String>> {
        let request = v1::ListStoresRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let stores = self.api.list_stores(request).await;
        let stores = stores.map_err(|status| told(&self.address, status))?;
        let first = stores.into_inner().stores.into_iter().next();
        Ok(first.map(|store| store.id))
    }

    /// Every store's id and name, in the order in which they were made.
    ///
    /// # Errors
    /// As the node answers.
    pub async fn stores(&mut self) -> anyhow::Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        let mut request = v1::ListStoresRequest::default();
        loop {
            let page = self.api.list_stores(request.clone()).await;
            let page = page
                .map_err(|status| told(&self.address, status))?
                .into_inner();
            all.extend(page.stores.into_iter().map(|store| (store.id, store.name)));
            if page.continuation_token.is_empty() {
                return Ok(all);
            }
            request.continuation_token = page.continuation_token;
        }
    }

    /// Whether a tuple is stored.
    ///
    /// # Errors
    /// As the node answers.
    pub async fn has(&mut self, store: &str, tuple: &TupleKey) -> anyhow::Result<bool> {
        let request = v1::ReadRequest {
            store_id: store.to_owned(),
            tuple_key: Some(v1::ReadRequestTupleKey {
                user: tuple.subject.to_string(),
                relation: tuple.relation.to_string(),
                object: tuple.object.to_string(),
            }),
            ..Default::default()
        };
        let read = self.api.read(request).await;
        let read = read.map_err(|status| told(&self.address, status))?;
        Ok(!read.into_inner().tuples.is_empty())
    }

    /// Writes tuples, all or nothing.
    ///
    /// # Errors
    /// As the node answers.
    pub async fn write(&mut self, store: &str, tuples: &[TupleKey]) -> anyhow::Result<String> {
        let tuple_keys = tuples.iter().map(|key| v1::TupleKey {
            user: key.subject.to_string(),
            relation: key.relation.to_string(),
            object: key.object.to_string(),
            condition: None,
        });
        let writes = Some(v1::WriteRequestWrites {
            tuple_keys: tuple_keys.collect(),
            ..Default::default()
        });
        let written = self
            .api
            .write(v1::WriteRequest {
                store_id: store.to_owned(),
                writes,
                ..Default::default()
            })
            .await
            .map_err(|status| told(&self.address, status))?;
        Ok(header(&written, "meridian-revision"))
    }

    /// Deletes tuples, all or nothing.
    ///
    /// # Errors
    /// As the node answers.
    pub async fn delete(&mut self, store: &str, tuples: &[TupleKey]) -> anyhow::Result<String> {
        let tuple_keys = tuples.iter().map(|key| v1::TupleKeyWithoutCondition {
            user: key.subject.to_string(),
            relation: key.relation.to_string(),
            object: key.object.to_string(),
        });
        let deletes = Some(v1::WriteRequestDeletes {
            tuple_keys: tuple_keys.collect(),
            ..Default::default()
        });
        let written = self
            .api
            .write(v1::WriteRequest {
                store_id: store.to_owned(),
                deletes,
                ..Default::default()
            })
            .await
            .map_err(|status| told(&self.address, status))?;
        Ok(header(&written, "meridian-revision"))
    }

    /// Asks.
    ///
    /// # Errors
    /// As the node answers.
    pub async fn check(&mut self, store: &str, key: &TupleKey) -> anyhow::Result<Checked> {
        let tuple_key = Some(v1::CheckRequestTupleKey {
            user: key.subject.to_string(),
            relation: key.relation.to_string(),
            object: key.object.to_string(),
        });
        let answer = self
            .api
            .check(v1::CheckRequest {
                store_id: store.to_owned(),
                tuple_key,
                ..Default::default()
            })
            .await
            .map_err(|status| told(&self.address, status))?;
        let (served_by, revision) = (
            header(&answer, SERVED_BY),
            header(&answer, "meridian-revision"),
        );
        Ok(Checked {
            allowed: answer.into_inner().allowed,
            served_by,
            revision,
        })
    }
}

/// Reads and checks a model's text.
///
/// # Errors
/// Each mistake with line and column.
pub fn parse_model(text: &str) -> anyhow::Result<TypeSystem> {
    dsl::compile(text).map_err(|mistakes| {
        anyhow::anyhow!(
            mistakes
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        )
    })
}

/// Reads `object#relation@user`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_tuple(text: &str) -> anyhow::Result<TupleKey> {
    let parts = text.split_once('#').and_then(|(object, rest)| {
        rest.split_once('@')
            .map(|(relation, user)| (object, relation, user))
    });
    let Some((object, relation, user)) = parts else {
        bail!("'{text}' must be object#relation@user, like repo:acme/api#reader@user:anne")
    };
    Ok(TupleKey::parse(object, relation, user)?)
}

fn header<T>(response: &Response<T>, name: &'static str) -> String {
    response
        .metadata()
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("-")
        .to_owned()
}
