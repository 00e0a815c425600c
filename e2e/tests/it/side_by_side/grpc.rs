//! gRPC, with all that its trailers say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use meridian_proto::openfga::v1;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, from_value, json, to_value};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tower::ServiceExt as _;

use super::answer::{Answer, chosen};

/// More than any call may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A client of one server.
pub(crate) struct Grpc {
    pub(crate) address: SocketAddr,
    channel: Channel,
}

impl Grpc {
    pub(crate) fn new(address: SocketAddr, authority: Option<&str>) -> Self {
        let mut endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        if let Some(authority) = authority {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
            endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
            endpoint = endpoint.tls_config(tls).unwrap();
        }
        Self {
            address,
            channel: endpoint.connect_lazy(),
        }
    }

    /// Calls `method` of OpenFGA's service with a request in OpenFGA's JSON.
    pub(crate) async fn call(
        &self,
        method: &str,
        request: Value,
        headers: &BTreeMap<String, String>,
    ) -> Answer {
        let path = format!("/openfga.v1.OpenFGAService/{method}");
        let codec = codec(method);
        let message = (codec.encode)(request);
        let (head, trailers, body) = self.send(&path, message, headers).await;
        let status = trailers.get("grpc-status").or(head.get("grpc-status"));
        let status = status.map_or("none", |status| status.to_str().unwrap());
        let body = if status == "0" {
            let mut answers: Vec<_> = messages(&body).map(codec.decode).collect();
            match answers.len() {
                1 if method != "StreamedListObjects" => answers.remove(0),
                _ => Value::Array(answers),
            }
        } else {
            error(&trailers, &head)
        };
        Answer {
            status: format!("grpc {status}"),
            headers: chosen(&head),
            body,
        }
    }

    /// Sends bytes to a method at `path`. Of the answer, the bytes of its messages.
    pub(crate) async fn raw(
        &self,
        path: &str,
        message: Vec<u8>,
        headers: &BTreeMap<String, String>,
    ) -> Answer {
        let (head, trailers, body) = self.send(path, message, headers).await;
        let body = |status: &str| match status {
            "0" => messages(&body).map(|message| json!(message)).collect(),
            _ => error(&trailers, &head),
        };
        let status = trailers.get("grpc-status").or(head.get("grpc-status"));
        let status = status.map_or("none", |status| status.to_str().unwrap());
        Answer {
            status: format!("grpc {status}"),
            headers: chosen(&head),
            body: body(status),
        }
    }

    /// Sends one message; the answer's headers, trailers and bytes.
    async fn send(
        &self,
        path: &str,
        message: Vec<u8>,
        headers: &BTreeMap<String, String>,
    ) -> (HeaderMap, HeaderMap, Bytes) {
        let mut framed = BytesMut::with_capacity(PREFIX + message.len());
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).unwrap());
        framed.put_slice(&message);
        let mut request = http::Request::new(Body::new(Full::new(framed.freeze())));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = format!("http://{}{path}", self.address).parse().unwrap();
        let own = [("content-type", "application/grpc"), ("te", "trailers")];
        let all = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.into_iter().chain(all) {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request
                .headers_mut()
                .insert(name, HeaderValue::from_str(value).unwrap());
        }
        let response = timeout(DEADLINE, self.channel.clone().oneshot(request)).await;
        let late = || panic!("{path} of {} is late", self.address);
        let (head, body) = response.unwrap_or_else(|_| late()).unwrap().into_parts();
        let collected = timeout(DEADLINE, body.collect()).await.unwrap().unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        (head.headers, trailers, collected.to_bytes())
    }
}

fn error(trailers: &HeaderMap, head: &HeaderMap) -> Value {
    let text = |name: &str| {
        let value = trailers.get(name).or(head.get(name));
        value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let mut body = Map::new();
    let message = text("grpc-message").unwrap_or_default();
    body.insert("message".into(), json!(percent_decoded(&message)));
    if let Some(details) = text("grpc-status-details-bin") {
        body.insert("details".into(), json!(details));
    }
    Value::Object(body)
}

/// As gRPC writes `grpc-message`.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let escaped = after.first_chunk::<2>().filter(|_| *first == b'%');
        let byte = escaped
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        if byte.is_some() {
            rest = &after[2..];
        }
        bytes.push(byte.unwrap_or(*first));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The messages of an answer that is not compressed.
fn messages(mut body: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (prefix, rest) = body.split_first_chunk::<PREFIX>()?;
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
        let (message, rest) = rest.split_at(usize::try_from(length).unwrap());
        body = rest;
        Some(message)
    })
}

/// How a method's messages are written and read.
struct Codec {
    encode: fn(Value) -> Vec<u8>,
    decode: fn(&[u8]) -> Value,
}

fn encode<M: Message + DeserializeOwned>(json: Value) -> Vec<u8> {
    let shown = json.to_string();
    let message: Result<M, _> = from_value(json);
    let message = message.unwrap_or_else(|why| panic!("no request over gRPC: {shown}: {why}"));
    message.encode_to_vec()
}

fn decode<M: Message + Serialize + Default>(bytes: &[u8]) -> Value {
    to_value(M::decode(bytes).unwrap()).unwrap()
}

macro_rules! codecs {
    ($($method:literal $request:ident $response:ident;)+) => {
        fn codec(method: &str) -> Codec {
            match method {
                $($method => Codec { encode: encode::<v1::$request>, decode: decode::<v1::$response> },)+
                other => panic!("no method {other}"),
            }
        }
    };
}

codecs! {
    "BatchCheck" BatchCheckRequest BatchCheckResponse;
    "Check" CheckRequest CheckResponse;
    "CreateStore" CreateStoreRequest CreateStoreResponse;
    "DeleteStore" DeleteStoreRequest DeleteStoreResponse;
    "Expand" ExpandRequest ExpandResponse;
    "GetStore" GetStoreRequest GetStoreResponse;
    "ListObjects" ListObjectsRequest ListObjectsResponse;
    "ListStores" ListStoresRequest ListStoresResponse;
    "ListUsers" ListUsersRequest ListUsersResponse;
    "Read" ReadRequest ReadResponse;
    "ReadAssertions" ReadAssertionsRequest ReadAssertionsResponse;
    "ReadAuthorizationModel" ReadAuthorizationModelRequest ReadAuthorizationModelResponse;
    "ReadAuthorizationModels" ReadAuthorizationModelsRequest ReadAuthorizationModelsResponse;
    "ReadChanges" ReadChangesRequest ReadChangesResponse;
    "StreamedListObjects" StreamedListObjectsRequest StreamedListObjectsResponse;
    "UpdateStore" UpdateStoreRequest UpdateStoreResponse;
    "Write" WriteRequest WriteResponse;
    "WriteAssertions" WriteAssertionsRequest WriteAssertionsResponse;
    "WriteAuthorizationModel" WriteAuthorizationModelRequest WriteAuthorizationModelResponse;
}
