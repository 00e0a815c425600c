//! Connections to nodes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::Request;
use axum::response::IntoResponse as _;
use axum::serve::Listener;
use meridian_operator::nodes::{Access, Address, Client, Hidden, Identity, NodeError, Nodes as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::fixtures::Authority;

#[tokio::test]
async fn a_connection_on_which_nobody_answers_is_left_for_a_new_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = Address {
        at: listener.local_addr().unwrap().to_string(),
        access: Access::default(),
    };
    let nodes = Client::default();
    let (said, dead) = tokio::join!(nodes.status(&at, None), listener.accept());
    assert!(matches!(said, Err(NodeError::Unavailable(_))), "{said:?}");
    // From now on there is a server, which knows no status.
    let serving = tokio::spawn(async { axum::serve(listener, axum::Router::new()).await });
    let said = nodes.status(&at, None).await;
    assert!(matches!(said, Err(NodeError::Refused(_))), "{said:?}");
    serving.abort();
    drop(dead);
}

/// Connections of those who take the certificate for what it should be.
struct Secured {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Secured {
    async fn listen(authority: &Authority) -> Self {
        let (cert, key) = authority.issued(&["node.example"]);
        let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: Arc::new(config).into(),
        }
    }
}

impl Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

#[tokio::test]
async fn a_node_is_shown_the_token_once_it_has_shown_who_it_is() {
    let authority = Authority::new();
    let listener = Secured::listen(&authority).await;
    let at = listener.local_addr().unwrap().to_string();
    let shown = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&shown);
    let node = axum::Router::new().fallback(async move |request: Request| {
        let token = request.headers()["authorization"].to_str().unwrap();
        seen.lock().unwrap().push(token.to_owned());
        let headers = [("content-type", "application/grpc"), ("grpc-status", "12")];
        headers.into_response()
    });
    let serving = tokio::spawn(async { axum::serve(listener, node).await });
    let ask = async |name: &str, ca: Option<String>| {
        let identity = Identity {
            name: name.to_owned(),
            ca,
        };
        let access = Access {
            token: Some(Hidden("first".to_owned())),
            identity: Some(identity),
        };
        let at = at.clone();
        Client::default()
            .status(&Address { at, access }, None)
            .await
    };
    for (name, ca) in [
        ("another.example", Some(authority.pem.clone())),
        ("node.example", Some(Authority::new().pem)),
        ("node.example", None),
    ] {
        match ask(name, ca).await {
            Err(NodeError::Unavailable(why)) => assert!(why.contains("certificate"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(shown.lock().unwrap().is_empty());
    let said = ask("node.example", Some(authority.pem.clone())).await;
    assert!(matches!(said, Err(NodeError::Refused(_))), "{said:?}");
    assert_eq!(*shown.lock().unwrap(), ["Bearer first"]);
    serving.abort();
}
