//! A client of one node, as an application has it: OpenFGA over gRPC.

use std::collections::HashSet;
use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use meridian_model::{AuthorizationModel, Code, TupleKey};
use meridian_proto::meridian::v1 as node;
use meridian_proto::meridian::v1::admin_service_client::AdminServiceClient;
use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::open_fga_service_client::OpenFgaServiceClient;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{IntoRequest, Request, Response, Status};
use tower::ServiceExt as _;
use tower::util::MapResponse;

/// More than any node lets a request take.
const TIMEOUT: Duration = Duration::from_secs(15);
const PAGE: i32 = 100;

/// A check's answer, and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    pub(crate) revision: u64,
    pub(crate) served_by: String,
}

impl Answer {
    pub(crate) fn is_by(&self, role: &str) -> bool {
        self.served_by.starts_with(&format!("{role}/"))
    }
}

/// Why there was no answer.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "the messages are there to be shown")]
pub(crate) enum Failure {
    /// The node said so.
    Coded(Code, String),
    /// The connection was refused or lost.
    Cut(String),
    /// Something else: never right.
    Odd(String),
}

impl Failure {
    /// Whether it is a clear "not now": in an outage, the only right answer but the right answer.
    pub(crate) fn is_clear(&self) -> bool {
        match self {
            Self::Coded(code, _) => matches!(
                code,
                Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
            ),
            Self::Cut(_) => true,
            Self::Odd(_) => false,
        }
    }

    /// Whether it says that what was to be written is there, or what was to be deleted is not.
    pub(crate) fn is_done_already(&self) -> bool {
        matches!(self, Self::Coded(Code::WriteFailedDueToInvalidInput, _))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let number = status
            .metadata()
            .get(RAW_STATUS)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let message = format!("{:?}: {}", status.code(), status.message());
        let own = match status.code() {
            tonic::Code::Unavailable => Some(Code::Unavailable),
            tonic::Code::ResourceExhausted => Some(Code::ResourceExhausted),
            _ => None,
        };
        match number.and_then(Code::from_number).or(own) {
            _ if status.source().is_some() => Self::Cut(message),
            Some(code) => Self::Coded(code, message),
            None => Self::Odd(message),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Where [`keep_number`] puts what tonic drops.
const RAW_STATUS: &str = "raw-grpc-status";

type KeepNumber = fn(http::Response<Body>) -> http::Response<Body>;
type WithNumbers = MapResponse<Channel, KeepNumber>;

/// OpenFGA's numbers do not fit tonic's codes, so tonic drops them.
fn keep_number(response: http::Response<Body>) -> http::Response<Body> {
    let keep = |frame: Frame<Bytes>| match frame.into_trailers() {
        Ok(mut trailers) => {
            if let Some(number) = trailers.get("grpc-status").cloned() {
                trailers.insert(RAW_STATUS, number);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    };
    response.map(|body| Body::new(body.map_frame(keep)))
}

/// A connection to a node. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Client {
    api: OpenFgaServiceClient<WithNumbers>,
    admin: AdminServiceClient<Channel>,
}

impl Client {
    /// Connects when first used, and again whenever the connection is lost.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .timeout(TIMEOUT)
            .connect_lazy();
        Self {
            api: OpenFgaServiceClient::new(channel.clone().map_response(keep_number as KeepNumber)),
            admin: AdminServiceClient::new(channel),
        }
    }

    pub(crate) async fn create_store(&mut self, name: &str) -> Result<String> {
        let request = v1::CreateStoreRequest { name: name.into() };
        Ok(self.api.create_store(request).await?.into_inner().id)
    }

    pub(crate) async fn write_model(
        &mut self,
        store: &str,
        model: &AuthorizationModel,
    ) -> Result<()> {
        let json = serde_json::to_value(model).unwrap();
        let request = v1::WriteAuthorizationModelRequest {
            store_id: store.into(),
            ..serde_json::from_value(json).unwrap()
        };
        self.api.write_authorization_model(request).await?;
        Ok(())
    }

    pub(crate) async fn make_critical(&mut self, store: &str, types: &[&str]) -> Result<u64> {
        let tiers = node::Tiers {
            critical: types.iter().map(|&name| name.into()).collect(),
            cold: Vec::new(),
        };
        let request = node::AssignTiersRequest {
            store_id: store.into(),
            tiers: Some(tiers),
        };
        let assigned = self.admin.assign_tiers(request).await?.into_inner();
        Ok(assigned.position.unwrap().revision)
    }

    /// Writes and deletes, all or nothing; returns the revision.
    pub(crate) async fn write(
        &mut self,
        store: &str,
        writes: &[TupleKey],
        deletes: &[TupleKey],
    ) -> Result<u64> {
        let to_write = writes.iter().map(|key| v1::TupleKey {
            user: key.subject.to_string(),
            relation: key.relation.to_string(),
            object: key.object.to_string(),
            condition: None,
        });
        let to_delete = deletes.iter().map(|key| v1::TupleKeyWithoutCondition {
            user: key.subject.to_string(),
            relation: key.relation.to_string(),
            object: key.object.to_string(),
        });
        let request = v1::WriteRequest {
            store_id: store.into(),
            writes: (!writes.is_empty()).then(|| v1::WriteRequestWrites {
                tuple_keys: to_write.collect(),
                ..Default::default()
            }),
            deletes: (!deletes.is_empty()).then(|| v1::WriteRequestDeletes {
                tuple_keys: to_delete.collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        Ok(revision(&self.api.write(request).await?))
    }

    /// Asks, without any header or for an answer at `min_revision` or later.
    pub(crate) async fn check(
        &mut self,
        store: &str,
        question: &TupleKey,
        min_revision: Option<u64>,
    ) -> Result<Answer> {
        let any = v1::ConsistencyPreference::Unspecified;
        self.check_with(store, question, min_revision, any).await
    }

    /// Asks as [`Self::check`], and says how fresh the answer must be.
    pub(crate) async fn check_with(
        &mut self,
        store: &str,
        question: &TupleKey,
        min_revision: Option<u64>,
        consistency: v1::ConsistencyPreference,
    ) -> Result<Answer> {
        let tuple_key = Some(v1::CheckRequestTupleKey {
            user: question.subject.to_string(),
            relation: question.relation.to_string(),
            object: question.object.to_string(),
        });
        let request = v1::CheckRequest {
            store_id: store.into(),
            tuple_key,
            consistency: consistency.into(),
            ..Default::default()
        };
        let response = self.api.check(asking(request, min_revision)).await?;
        Ok(Answer {
            revision: revision(&response),
            served_by: header(&response, "meridian-served-by").into(),
            allowed: response.into_inner().allowed,
        })
    }

    /// Every tuple of a store.
    pub(crate) async fn read_all(&mut self, store: &str) -> Result<HashSet<TupleKey>> {
        let mut request = v1::ReadRequest {
            store_id: store.into(),
            page_size: Some(PAGE),
            ..Default::default()
        };
        let mut tuples = HashSet::new();
        loop {
            let page = self.api.read(request.clone()).await?.into_inner();
            for tuple in page.tuples {
                let key = tuple.key.unwrap();
                let key = TupleKey::parse(&key.object, &key.relation, &key.user).unwrap();
                assert!(tuples.insert(key), "Read repeats a tuple");
            }
            if page.continuation_token.is_empty() {
                return Ok(tuples);
            }
            request.continuation_token = page.continuation_token;
        }
    }
}

/// Revisions are asked for within the first epoch: nothing here rewrites history.
fn asking<T>(message: T, min_revision: Option<u64>) -> Request<T> {
    let mut request = message.into_request();
    if let Some(revision) = min_revision {
        let value = format!("{EPOCH}.{revision}").parse().unwrap();
        request
            .metadata_mut()
            .insert("meridian-min-revision", value);
    }
    request
}

const EPOCH: &str = "1";

fn revision<T>(response: &Response<T>) -> u64 {
    let (epoch, revision) = header(response, "meridian-revision")
        .split_once('.')
        .unwrap();
    assert_eq!(epoch, EPOCH);
    revision.parse().unwrap()
}

fn header<'a, T>(response: &'a Response<T>, name: &str) -> &'a str {
    let value = response.metadata().get(name);
    value
        .unwrap_or_else(|| panic!("no {name} on an answer"))
        .to_str()
        .unwrap()
}
