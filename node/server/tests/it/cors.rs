//! What browsers are told, whoever may call.

use std::net::SocketAddr;

use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use meridian_server::api::cors;
use meridian_server::config::transport::Http;
use tokio::net::TcpListener;

use crate::harness::raw;

async fn serve(origins: &[&str], headers: &[&str]) -> SocketAddr {
    let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
    let settings = Http {
        cors_allowed_origins: owned(origins),
        cors_allowed_headers: owned(headers),
        ..Http::default()
    };
    let router = axum::Router::new()
        .route("/stores", get(async || StatusCode::UNAUTHORIZED))
        .layer(cors::layer(&settings));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// What a browser is told that asks before a call from a page of `origin`.
async fn asked(address: SocketAddr, origin: &str) -> HeaderMap {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,x-mine"),
    ];
    let (status, headers, _) =
        raw(address, Method::OPTIONS, "/stores", &headers, Bytes::new()).await;
    assert_eq!(status, StatusCode::OK);
    headers
}

#[tokio::test]
async fn pages_of_any_origin_may_call_unless_some_are_named() {
    let address = serve(&["*"], &["*"]).await;
    let told = asked(address, "https://a.example").await;
    assert_eq!(told["access-control-allow-origin"], "*");
    assert_eq!(told["access-control-allow-headers"], "authorization,x-mine");
    assert!(!told.contains_key("access-control-allow-credentials"));
    // A call that is refused says so to the page too.
    let origin = [("origin", "https://a.example")];
    let (status, told, _) = raw(address, Method::GET, "/stores", &origin, Bytes::new()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(told["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn only_pages_of_named_origins_may_call() {
    let origins = ["https://a.example", "https://*.b.example"];
    let address = serve(&origins, &["authorization"]).await;
    for origin in ["https://a.example", "https://x.b.example"] {
        let told = asked(address, origin).await;
        assert_eq!(told["access-control-allow-origin"], origin);
        assert_eq!(told["access-control-allow-credentials"], "true");
        assert_eq!(told["access-control-allow-headers"], "authorization");
    }
    for origin in [
        "https://a.example.evil",
        "http://a.example",
        "https://b.example",
    ] {
        let told = asked(address, origin).await;
        assert!(
            !told.contains_key("access-control-allow-origin"),
            "{origin}"
        );
    }
}
