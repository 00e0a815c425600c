//! A central node on ephemeral ports, and clients that look at what is on the wire.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::open_fga_service_client::OpenFgaServiceClient;
use meridian_server::api::authzen::AuthZen;
use meridian_server::api::grpc::{Grpc, Readiness, common_services};
use meridian_server::api::{Api, http as api_http, serve};
use meridian_server::calls::ServedBy;
use meridian_server::commands::Local;
use meridian_server::config::{Config, Datastore, Kafka, Listen};
use meridian_server::limits::Limits;
use meridian_store::memory::MemoryDatastore;
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A well-formed id that nothing has.
pub(crate) const NOBODY: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// A node by itself: on free ports of this machine, with its data in memory, and no Kafka.
pub(crate) fn alone() -> Config {
    let any = ([127, 0, 0, 1], 0).into();
    Config {
        name: "test".into(),
        listen: Listen {
            grpc: any,
            http: any,
            nodes: any,
            metrics: None,
        },
        datastore: Datastore {
            url: "memory:".into(),
            ..Default::default()
        },
        kafka: Kafka {
            bootstrap: "127.0.0.1:9".into(),
            ..Default::default()
        },
        shutdown_timeout: Duration::from_millis(100),
        ..Config::default()
    }
}

/// A running central. Stops when dropped.
pub(crate) struct Node {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) readiness: Readiness,
    _stop: DropGuard,
}

/// A gRPC answer as it was on the wire.
#[derive(Debug)]
pub(crate) struct RawReply {
    pub(crate) status: u16,
    pub(crate) message: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct JsonReply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl JsonReply {
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, code: &str, message: &str) {
        let expected = json!({"code": code, "message": message});
        assert_eq!((self.status.as_u16(), &self.body), (status, &expected));
    }

    /// The message, after checking status and code.
    #[track_caller]
    pub(crate) fn message(&self, status: u16, code: &str) -> &str {
        assert_eq!(
            (self.status.as_u16(), &self.body["code"]),
            (status, &json!(code)),
            "{}",
            self.body
        );
        self.body["message"].as_str().unwrap()
    }
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::serving(limits, AuthZen::default()).await
    }

    pub(crate) async fn serving(limits: Limits, authzen: AuthZen) -> Self {
        let name = ServedBy::new("central").unwrap();
        let local = Local::new(
            Arc::new(MemoryDatastore::new()),
            name.clone(),
            limits,
            Arc::default(),
        );
        let api = Api::new(Arc::new(local), name, limits).with_authzen(authzen);
        let api = Arc::new(api);
        let (services, readiness) = common_services().await.unwrap();
        readiness.set(true).await;
        let loopback = "127.0.0.1:0".parse().unwrap();
        let (grpc, http) = (
            serve::bind(loopback).await.unwrap(),
            serve::bind(loopback).await.unwrap(),
        );
        let stop = CancellationToken::new();
        let drain = serve::Drain(Duration::from_millis(100));
        let node = Self {
            grpc: grpc.local_addr().unwrap(),
            http: http.local_addr().unwrap(),
            readiness: readiness.clone(),
            _stop: stop.clone().drop_guard(),
        };
        tokio::spawn(serve::grpc(
            Arc::new(Grpc::new(Arc::clone(&api), services)),
            grpc,
            stop.clone().cancelled_owned(),
            drain,
            limits,
        ));
        tokio::spawn(serve::http(
            api_http::router(api, readiness),
            http,
            stop.cancelled_owned(),
            drain,
            limits,
        ));
        node
    }

    /// A generated client, as an application has.
    pub(crate) async fn client(&self) -> OpenFgaServiceClient<tonic::transport::Channel> {
        OpenFgaServiceClient::connect(format!("http://{}", self.grpc))
            .await
            .unwrap()
    }

    /// One call of OpenFGA's service, seen at the HTTP/2 level.
    pub(crate) async fn rpc(&self, method: &str, message: &impl Message) -> RawReply {
        self.raw_rpc(
            &format!("openfga.v1.OpenFGAService/{method}"),
            &message.encode_to_vec(),
            &[],
        )
        .await
    }

    pub(crate) async fn raw_rpc(
        &self,
        path: &str,
        message: &[u8],
        headers: &[(&str, &str)],
    ) -> RawReply {
        raw_rpc(self.grpc, path, message, headers).await
    }

    pub(crate) async fn get(&self, path: &str) -> JsonReply {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> JsonReply {
        self.send(Method::POST, path, &[], body.to_string().into())
            .await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> JsonReply {
        send(self.http, method, path, headers, body).await
    }

    /// A new store with [`github_model`]; its id.
    pub(crate) async fn store(&self) -> String {
        self.store_with(&github_model()).await
    }

    /// A new store in which `doc:1` has so many relations one below the other, and anne is in the lowest, `r0`; its id.
    pub(crate) async fn stairs(&self, steps: usize) -> String {
        let mut relations = vec!["define r0: [user]".to_owned()];
        let mut tuples = vec![("user:anne".to_owned(), "r0".to_owned())];
        for n in 1..=steps {
            relations.push(format!("define r{n}: [doc#r{}]", n - 1));
            tuples.push((format!("doc:1#r{}", n - 1), format!("r{n}")));
        }
        let relations = relations.join("\n    ");
        let model =
            format!("model\n  schema 1.1\ntype user\ntype doc\n  relations\n    {relations}\n");
        let model = meridian_model::dsl::parse(&model).unwrap();
        let id = self.store_with(&serde_json::to_value(model).unwrap()).await;
        let tuples: Vec<_> = tuples
            .iter()
            .map(|(user, relation)| (&**user, &**relation, "doc:1"))
            .collect();
        self.write(&id, &tuples).await;
        id
    }

    async fn store_with(&self, model: &Value) -> String {
        let store = self.post("/stores", &json!({"name": "repositories"})).await;
        let id = store.body["id"].as_str().unwrap().to_owned();
        let path = format!("/stores/{id}/authorization-models");
        let model = self.post(&path, model).await;
        assert_eq!(model.status, StatusCode::CREATED, "{}", model.body);
        id
    }

    pub(crate) async fn write(&self, store: &str, tuples: &[(&str, &str, &str)]) -> JsonReply {
        let keys: Vec<Value> = tuples.iter().map(|(user, relation, object)| json!({"user": user, "relation": relation, "object": object})).collect();
        self.post(
            &format!("/stores/{store}/write"),
            &json!({"writes": {"tuple_keys": keys}}),
        )
        .await
    }

    pub(crate) async fn delete(
        &self,
        store: &str,
        (user, relation, object): (&str, &str, &str),
    ) -> JsonReply {
        let keys = json!([{"user": user, "relation": relation, "object": object}]);
        self.post(
            &format!("/stores/{store}/write"),
            &json!({"deletes": {"tuple_keys": keys}}),
        )
        .await
    }

    pub(crate) async fn check(
        &self,
        store: &str,
        (user, relation, object): (&str, &str, &str),
    ) -> JsonReply {
        self.post(
            &format!("/stores/{store}/check"),
            &json!({"tuple_key": {"user": user, "relation": relation, "object": object}}),
        )
        .await
    }
}

/// One gRPC call of any node, seen at the HTTP/2 level.
pub(crate) async fn raw_rpc(
    address: SocketAddr,
    path: &str,
    message: &[u8],
    headers: &[(&str, &str)],
) -> RawReply {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len().try_into().unwrap());
    frame.put_slice(message);
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{}/{path}", address))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender
        .send_request(request.body(Full::new(frame.freeze())).unwrap())
        .await
        .unwrap();
    let headers = response.headers().clone();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let find = |name: &str| {
        headers
            .get(name)
            .or(trailers.get(name))
            .map(|value| value.to_str().unwrap().to_owned())
    };
    RawReply {
        status: find("grpc-status").expect("grpc-status").parse().unwrap(),
        message: find("grpc-message").unwrap_or_default(),
        body: body.to_bytes(),
        headers,
    }
}

/// One request to the HTTP port of any node, answered in JSON.
pub(crate) async fn send(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> JsonReply {
    let (status, headers, body) = raw(address, method, path, headers, body).await;
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).unwrap()
    };
    JsonReply {
        status,
        headers,
        body,
    }
}

/// As [`send`], with the answer's bytes as they came.
pub(crate) async fn raw(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> (StatusCode, HeaderMap, Bytes) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender
        .send_request(request.body(Full::new(body)).unwrap())
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, body)
}

/// A Check on the wire.
pub(crate) fn check_request(
    store: &str,
    (user, relation, object): (&str, &str, &str),
) -> v1::CheckRequest {
    let tuple_key = v1::CheckRequestTupleKey {
        user: user.into(),
        relation: relation.into(),
        object: object.into(),
    };
    v1::CheckRequest {
        store_id: store.into(),
        tuple_key: Some(tuple_key),
        ..Default::default()
    }
}

/// Teams within teams, repositories with owners, an organization whose members are admins, and who is blocked.
pub(crate) fn github_model() -> Value {
    json!({
        "schema_version": "1.1",
        "type_definitions": [
            {"type": "user"},
            {
                "type": "team",
                "relations": {"member": {"this": {}}},
                "metadata": {"relations": {"member": {"directly_related_user_types": [
                    {"type": "user"}, {"type": "user", "wildcard": {}}, {"type": "team", "relation": "member"}
                ]}}}
            },
            {
                "type": "repo",
                "relations": {
                    "owner": {"this": {}},
                    "org": {"this": {}},
                    "blocked": {"this": {}},
                    "admin": {"union": {"child": [
                        {"computedUserset": {"relation": "owner"}},
                        {"tupleToUserset": {"tupleset": {"relation": "org"}, "computedUserset": {"relation": "member"}}}
                    ]}},
                    "reader": {"difference": {
                        "base": {"computedUserset": {"relation": "admin"}},
                        "subtract": {"computedUserset": {"relation": "blocked"}}
                    }}
                },
                "metadata": {"relations": {
                    "owner": {"directly_related_user_types": [{"type": "user"}, {"type": "team", "relation": "member"}]},
                    "org": {"directly_related_user_types": [{"type": "team"}]},
                    "blocked": {"directly_related_user_types": [{"type": "user"}]}
                }}
            }
        ]
    })
}

/// Tells a process to end.
pub(crate) fn terminate(process: &tokio::process::Child) {
    let id = process.id().unwrap().cast_signed();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
}

/// Sends raw bytes and returns whatever comes back until the connection ends.
pub(crate) async fn speak(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    // The peer may close without reading to the end, which some systems report as a reset.
    let _closed = stream.read_to_end(&mut answer).await;
    answer
}
