//! A client of whoever is behind a Service, as an application has it.

use std::net::SocketAddr;
use std::time::Duration;

use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::open_fga_service_client::OpenFgaServiceClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

const TIMEOUT: Duration = Duration::from_secs(5);

/// A check's answer, and whose it is: `<role>/<pod>`.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    pub(crate) served_by: String,
}

pub(crate) struct Client {
    address: SocketAddr,
}

/// A tuple, or a question for one: object, relation, user.
pub(crate) type Triple<'a> = [&'a str; 3];

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
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
        let response = self.connect().await?.check(request).await?;
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
        self.connect().await?.write(request).await?;
        Ok(())
    }

    async fn connect(&self) -> Result<OpenFgaServiceClient<Channel>, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let endpoint = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT);
        let channel = endpoint.connect().await;
        let channel = channel.map_err(|error| Status::unavailable(format!("{error:?}")))?;
        Ok(OpenFgaServiceClient::new(channel))
    }
}
