//! A client of whoever is behind a Service, as an application has it.

use std::net::SocketAddr;
use std::time::Duration;

use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::open_fga_service_client::OpenFgaServiceClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

const TIMEOUT: Duration = Duration::from_secs(5);

/// A check's answer, and whose it is: `<role>/<pod>`.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    pub(crate) served_by: String,
}

pub(crate) struct Client {
    address: SocketAddr,
    tls: Option<ClientTlsConfig>,
    key: Option<&'static str>,
}

/// A tuple, or a question for one: object, relation, user.
pub(crate) type Triple<'a> = [&'a str; 3];

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            key: None,
        }
    }

    /// One that speaks TLS with who has a certificate of this authority (PEM) for that name, and shows a key.
    pub(crate) fn secured(
        address: SocketAddr,
        (authority, name): (&str, &str),
        key: Option<&'static str>,
    ) -> Self {
        let ca = Certificate::from_pem(authority);
        let tls = ClientTlsConfig::new().ca_certificate(ca).domain_name(name);
        Self {
            address,
            tls: Some(tls),
            key,
        }
    }

    /// Asks over a new connection, so that the Service chooses anew.
    pub(crate) async fn check(
        &self,
        store: &str,
        [object, relation, user]: Triple<'_>,
    ) -> Result<Answer, Status> {
        let request = v1::CheckRequest {
            store_id: store.into(),
            tuple_key: Some(v1::CheckRequestTupleKey {
                user: user.into(),
                relation: relation.into(),
                object: object.into(),
            }),
            ..Default::default()
        };
        let mut api = self.connect().await?;
        let response = api.check(self.showing(request)).await?;
        let served_by = response.metadata().get("meridian-served-by");
        Ok(Answer {
            served_by: served_by.unwrap().to_str().unwrap().into(),
            allowed: response.into_inner().allowed,
        })
    }

    pub(crate) async fn write(&self, store: &str, tuples: &[Triple<'_>]) -> Result<(), Status> {
        let tuple_keys = tuples.iter().map(|[object, relation, user]| v1::TupleKey {
            user: (*user).into(),
            relation: (*relation).into(),
            object: (*object).into(),
            condition: None,
        });
        let request = v1::WriteRequest {
            store_id: store.into(),
            writes: Some(v1::WriteRequestWrites {
                tuple_keys: tuple_keys.collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut api = self.connect().await?;
        api.write(self.showing(request)).await?;
        Ok(())
    }

    fn showing<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(key) = self.key {
            let shown = format!("Bearer {key}").parse().unwrap();
            request.metadata_mut().insert("authorization", shown);
        }
        request
    }

    async fn connect(&self) -> Result<OpenFgaServiceClient<Channel>, Status> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address)).unwrap();
        if let Some(tls) = &self.tls {
            endpoint = endpoint.tls_config(tls.clone()).unwrap();
        }
        let endpoint = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT);
        let channel = endpoint.connect().await;
        let channel = channel.map_err(|error| Status::unavailable(format!("{error:?}")))?;
        Ok(OpenFgaServiceClient::new(channel))
    }
}
