//! What is wrong below the level of a call: no JSON, no route, too large, no protocol at all, no time, no position.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use meridian_proto::openfga::v1;
use meridian_server::limits::Limits;
use prost::Message;
use serde_json::json;
use tokio::net::TcpStream;

use crate::harness::{NOBODY, Node, check_request, speak};

#[tokio::test]
async fn json_that_is_none_says_where() {
    let node = Node::start().await;
    for (body, place) in [
        ("{\"name\":", "line 1 column 8"),
        ("{\"name\":\n 1}", "line 2 column 2"),
        ("[]", "line 1"),
    ] {
        let reply = node
            .send(Method::POST, "/stores", &[], Bytes::from(body))
            .await;
        let message = reply.message(400, "validation_error");
        assert!(
            message.starts_with("malformed JSON: ") && message.contains(place),
            "{body}: {message}"
        );
    }
    let reply = node.get("/stores?page_size=x").await;
    assert_eq!(
        reply.message(400, "validation_error"),
        "parsing field \"page_size\": 'x' is not a whole number"
    );
}

#[tokio::test]
async fn routes_that_are_none() {
    let node = Node::start().await;
    node.get("/nope")
        .await
        .assert_error(404, "undefined_endpoint", "Not Found");
    let path = node.get("/stores/%ff").await;
    let message = path.message(400, "validation_error");
    assert!(message.starts_with("parsing the path: "), "{message}");
    node.send(Method::PUT, "/stores", &[], Bytes::new())
        .await
        .assert_error(404, "unimplemented", "Method Not Allowed");
    let update = node
        .send(
            Method::PATCH,
            &format!("/stores/{NOBODY}"),
            &[],
            Bytes::from("{}"),
        )
        .await;
    update.assert_error(404, "unimplemented", "method UpdateStore not implemented");
    assert_eq!(
        node.rpc("UpdateStore", &v1::UpdateStoreRequest::default())
            .await
            .status,
        12
    );
    for (path, told) in [
        ("no.such.Service/Call", "unknown service no.such.Service"),
        (
            "meridian.v1.AdminService/Call",
            "unknown method Call for service meridian.v1.AdminService",
        ),
        (
            "grpc.health.v1.Health/Call",
            "unknown method Call for service grpc.health.v1.Health",
        ),
        ("nothing", "malformed method name: \"/nothing\""),
    ] {
        let reply = node.raw_rpc(path, &[], &[]).await;
        let message = reply.message.replace("%20", " ").replace("%22", "\"");
        assert_eq!((reply.status, message.as_str()), (12, told));
    }
}

#[tokio::test]
async fn requests_that_are_too_large() {
    let node = Node::start().await;
    let key = json!({"user": format!("user:{}", "x".repeat(500)), "relation": "owner", "object": "repo:1"});
    let keys: Vec<_> = std::iter::repeat_n(key, 3000).collect();
    let body = json!({"writes": {"tuple_keys": keys}, "store_id": NOBODY});
    let reply = node.post(&format!("/stores/{NOBODY}/write"), &body).await;
    reply.assert_error(
        413,
        "resource_exhausted",
        "the request is larger than 616448 bytes (limits.requestBytes); send less in one",
    );

    let request: v1::WriteRequest = serde_json::from_value(body).unwrap();
    let reply = node.rpc("Write", &request).await;
    assert_eq!(reply.status, 8, "{reply:?}");
    assert!(reply.message.contains("616448"), "{reply:?}");
}

/// As OpenFGA's server, whose clients look there for them.
#[tokio::test]
async fn what_is_told_of_every_answer_stands_before_an_error_too() {
    let node = Node::start().await;
    let store = node.store().await;
    let unknown = check_request(&store, ("user:anne", "flies", "repo:1"));
    let listing = v1::StreamedListObjectsRequest {
        store_id: store.clone(),
        r#type: "nope".into(),
        relation: "owner".into(),
        user: "user:anne".into(),
        ..Default::default()
    };
    for (reply, number) in [
        (node.rpc("Check", &unknown).await, 2000),
        (node.rpc("StreamedListObjects", &listing).await, 2021),
        (
            node.rpc("UpdateStore", &v1::UpdateStoreRequest::default())
                .await,
            12,
        ),
    ] {
        assert_eq!(reply.status, number, "{reply:?}");
        for name in ["x-request-id", "meridian-served-by", "content-type"] {
            assert_eq!(
                reply.headers.get_all(name).iter().count(),
                1,
                "{name}: {reply:?}"
            );
        }
        for name in ["grpc-status", "grpc-message", "content-length"] {
            assert!(!reply.headers.contains_key(name), "{name}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn calls_that_are_no_plain_200_over_http_say_so_over_both() {
    let node = Node::start().await;
    let code = |headers: &HeaderMap| {
        let code = headers.get("x-http-code");
        code.map(|code| code.to_str().unwrap().to_owned())
    };
    let create = v1::CreateStoreRequest {
        name: "shop".into(),
    };
    let created = node.rpc("CreateStore", &create).await;
    assert_eq!(code(&created.headers).as_deref(), Some("201"));
    let made = v1::CreateStoreResponse::decode(created.body.slice(5..)).unwrap();
    let get = v1::GetStoreRequest {
        store_id: made.id.clone(),
    };
    assert_eq!(code(&node.rpc("GetStore", &get).await.headers), None);
    let delete = v1::DeleteStoreRequest { store_id: made.id };
    let deleted = node.rpc("DeleteStore", &delete).await;
    assert_eq!(code(&deleted.headers).as_deref(), Some("204"));
    let body = json!({"name": "shop"});
    let made = node.post("/stores", &body).await;
    assert_eq!(code(&made.headers).as_deref(), Some("201"));
    let again = v1::DeleteStoreRequest::default();
    assert_eq!(code(&node.rpc("DeleteStore", &again).await.headers), None);
}

#[tokio::test]
async fn a_time_over_http_that_is_none_is_refused() {
    let node = Node::start().await;
    let list = async |time: &str| {
        let headers = [("grpc-timeout", time)];
        node.send(Method::GET, "/stores", &headers, Bytes::new())
            .await
    };
    for bad in ["bad", "S", "2", "2s", "x2S"] {
        let told = format!("invalid grpc-timeout: {bad}");
        list(bad).await.assert_error(400, "validation_error", &told);
    }
    for good in ["2S", ""] {
        assert_eq!(list(good).await.status, StatusCode::OK, "{good}");
    }
}

/// As upstream; over gRPC such a time is up at once.
#[tokio::test]
async fn a_time_of_zero_over_http_is_no_limit() {
    let node = Node::start().await;
    let store = node.store().await;
    let path = format!(
        "/stores/{}/check",
        check_request(&store, ("user:anne", "owner", "repo:1")).store_id
    );
    let question =
        json!({"tuple_key": {"user": "user:anne", "relation": "owner", "object": "repo:1"}});
    for time in ["0S", "000n"] {
        let headers = [("grpc-timeout", time), ("content-type", "application/json")];
        let body = Bytes::from(question.to_string());
        let answer = node.send(Method::POST, &path, &headers, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{time}");
    }
}

#[tokio::test]
async fn garbage_on_the_wire() {
    let node = Node::start().await;
    let garbage = node
        .raw_rpc(
            "openfga.v1.OpenFGAService/Check",
            b"\xff\xff\xff\xff garbage",
            &[],
        )
        .await;
    assert_eq!(garbage.status, 13, "{garbage:?}");
    assert!(garbage.message.contains("decode"), "{garbage:?}");
    // Neither HTTP nor TLS: the connection ends, the node does not.
    for address in [node.grpc, node.http] {
        speak(address, b"\x16\x03\x01\x02\x00\x01\x00garbage\r\n\r\n").await;
    }
    let alive = node
        .rpc("ListStores", &v1::ListStoresRequest::default())
        .await;
    assert_eq!(alive.status, 0);
    assert_eq!(node.get("/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_position_that_is_none_or_of_the_future() {
    let node = Node::start().await;
    let store = node.store().await;
    let body = json!({"tuple_key": {"user": "user:anne", "relation": "owner", "object": "repo:1"}})
        .to_string();
    let check = async |position: &str| {
        node.send(
            Method::POST,
            &format!("/stores/{store}/check"),
            &[("meridian-min-revision", position)],
            body.clone().into(),
        )
        .await
    };
    let reply = check("yesterday").await;
    let message = reply.message(400, "validation_error");
    assert!(
        message.starts_with(
            "invalid header meridian-min-revision: 'yesterday' must be two whole numbers"
        ),
        "{message}"
    );
    let reply = check("99999999999999.1").await;
    assert!(
        reply
            .message(503, "unavailable")
            .contains("meridian-min-revision")
    );
    let request = check_request(&store, ("user:anne", "owner", "repo:1")).encode_to_vec();
    let path = "openfga.v1.OpenFGAService/Check";
    assert_eq!(
        node.raw_rpc(path, &request, &[("meridian-min-revision", "x")])
            .await
            .status,
        3
    );
    assert_eq!(
        node.raw_rpc(
            path,
            &request,
            &[("meridian-min-revision", "99999999999999.1")]
        )
        .await
        .status,
        14
    );
}

#[tokio::test]
async fn a_deadline_that_is_over() {
    let node = Node::start().await;
    let store = node.store().await;
    let request = check_request(&store, ("user:anne", "owner", "repo:1")).encode_to_vec();
    let late = node
        .raw_rpc(
            "openfga.v1.OpenFGAService/Check",
            &request,
            &[("grpc-timeout", "0n")],
        )
        .await;
    assert_eq!(late.status, 4004, "{late:?}");
}

#[track_caller]
fn assert_signed(headers: &HeaderMap) {
    assert_eq!(headers["meridian-served-by"], "central", "{headers:?}");
    let id = headers["x-request-id"].to_str().unwrap();
    assert_eq!(uuid::Uuid::try_parse(id).unwrap().get_version_num(), 4);
}

#[tokio::test]
async fn what_never_became_a_call_says_where_its_answer_comes_from_too() {
    let node = Node::with(Limits {
        request_bytes: 100,
        ..Limits::default()
    })
    .await;
    let post = async |path: &str, body: &'static str| {
        node.send(Method::POST, path, &[], Bytes::from(body)).await
    };
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(300));
    for (status, reply) in [
        (400, post("/stores", "{\"name\":").await),
        (404, post("/nope", "").await),
        (
            404,
            node.send(Method::PUT, "/stores", &[], Bytes::new()).await,
        ),
        (
            404,
            node.send(
                Method::PATCH,
                &format!("/stores/{NOBODY}"),
                &[],
                Bytes::from("{}"),
            )
            .await,
        ),
        (400, node.get("/stores?page_size=x").await),
        (400, node.get("/stores/%ff").await),
        (
            413,
            node.send(Method::POST, "/stores", &[], large.into()).await,
        ),
    ] {
        assert_eq!(reply.status.as_u16(), status, "{}", reply.body);
        assert_signed(&reply.headers);
    }
    let path = "openfga.v1.OpenFGAService/Check";
    for reply in [
        node.raw_rpc(path, b"\xff\xff garbage", &[]).await,
        node.raw_rpc(path, &[0; 200], &[]).await,
        node.raw_rpc("openfga.v1.OpenFGAService/UpdateStore", &[], &[])
            .await,
    ] {
        assert_signed(&reply.headers);
    }
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let node = Node::with(Limits {
        body_timeout: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    let never = || {
        StreamBody::new(futures::stream::pending::<
            Result<http_body::Frame<Bytes>, Infallible>,
        >())
    };

    let stream = TcpStream::connect(node.grpc).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!(
        "http://{}/openfga.v1.OpenFGAService/Check",
        node.grpc
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers");
    let reply = sender
        .send_request(request.body(never()).unwrap())
        .await
        .unwrap();
    assert_signed(reply.headers());
    let body = reply.into_body().collect().await.unwrap();
    let trailers = body.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "4004", "{trailers:?}");

    let stream = TcpStream::connect(node.http).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::post("/stores").header("host", "node");
    let reply = sender
        .send_request(request.body(never()).unwrap())
        .await
        .unwrap();
    assert_signed(reply.headers());
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.contains("did not arrive within 50ms"), "{body}");
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_their_turn() {
    let node = Node::with(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let first = TcpStream::connect(node.http).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(first))
        .await
        .unwrap();
    let open = tokio::spawn(connection);
    let request = Request::get("/healthz").header("host", "node");
    let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
    assert_eq!(
        sender.send_request(request).await.unwrap().status(),
        StatusCode::OK
    );

    let mut second = std::pin::pin!(node.get("/healthz"));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
    assert!(early.is_err(), "{early:?}");
    open.abort();
    drop(sender);
    assert_eq!(second.await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_asks_in_gzip_is_answered_in_gzip() {
    use tonic::codec::CompressionEncoding::Gzip;
    let node = Node::start().await;
    let store = node.store().await;
    let tuple = ("user:anne", "owner", "repo:1");
    node.write(&store, &[tuple]).await;
    for asks_in_gzip in [true, false] {
        let mut client = node.client().await.accept_compressed(Gzip);
        if asks_in_gzip {
            client = client.send_compressed(Gzip);
        }
        let answer = client.check(check_request(&store, tuple)).await.unwrap();
        let encoding = answer.metadata().get("grpc-encoding");
        assert_eq!(encoding.is_some_and(|it| it == "gzip"), asks_in_gzip);
        assert!(answer.into_inner().allowed);
    }
    // However well it compresses, a request is as large as what it is unpacked to.
    let mut client = node.client().await.send_compressed(Gzip);
    let large = v1::CreateStoreRequest {
        name: "x".repeat(Limits::default().request_bytes + 1),
    };
    let refused = client.create_store(large).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
}
