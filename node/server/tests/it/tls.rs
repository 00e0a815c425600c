//! TLS on every port, with certificates that change, and between nodes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::open_fga_service_client::OpenFgaServiceClient;
use meridian_server::config::Config;
use meridian_server::config::authn::{Method, Nodes, Secrets};
use meridian_server::config::transport::Files;
use meridian_server::roles::{self, Node};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::harness::alone;

const PATIENCE: Duration = Duration::from_secs(30);

/// An authority, and the files of what it issued.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &pem).unwrap();
        Self {
            folder,
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate and its key.
    fn issued(&self) -> (String, String) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names.to_vec()).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    fn files(&self) -> Files {
        Files {
            cert: Some(self.path("cert.pem")),
            key: Some(self.path("key.pem")),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts them where nodes look for them.
    fn put(&self, (cert, key): &(String, String)) {
        std::fs::write(self.path("cert.pem"), cert).unwrap();
        std::fs::write(self.path("key.pem"), key).unwrap();
    }

    /// Connects as a client that trusts the authority, and speaks one of `protocols`.
    async fn connect(
        &self,
        address: SocketAddr,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    /// Which certificate a port shows to new clients.
    async fn shown(&self, address: SocketAddr) -> Vec<u8> {
        let stream = self.connect(address, &["h2"]).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        chain[0].to_vec()
    }

    /// Waits until a port shows this certificate.
    async fn until_shown(&self, address: SocketAddr, (cert, _): &(String, String)) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while self.shown(address).await != der(cert) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.unwrap();
    }

    async fn client(&self, address: SocketAddr) -> OpenFgaServiceClient<Channel> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.pem))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
        OpenFgaServiceClient::new(channel)
    }
}

fn der(cert: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(cert.as_bytes())
        .unwrap()
        .to_vec()
}

fn config() -> Config {
    let mut config = alone();
    config.tls.reload_interval = Duration::from_millis(5);
    config
}

async fn central(authority: &Authority) -> Node {
    let mut config = config();
    (config.tls.grpc, config.tls.http) = (authority.files(), authority.files());
    let node = roles::central(&config).await.unwrap();
    tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
    node
}

async fn create(client: &mut OpenFgaServiceClient<Channel>) -> String {
    let request = v1::CreateStoreRequest {
        name: "shop".into(),
    };
    client.create_store(request).await.unwrap().into_inner().id
}

#[tokio::test]
async fn both_ports_speak_tls_and_choose_the_protocol() {
    let authority = Authority::new();
    authority.put(&authority.issued());
    let node = central(&authority).await;
    create(&mut authority.client(node.grpc).await).await;
    for (address, asked, chosen) in [
        (node.grpc, &["h2"][..], "h2"),
        (node.http, &["http/1.1", "h2"], "h2"),
        (node.http, &["http/1.1"], "http/1.1"),
    ] {
        let stream = authority.connect(address, asked).await.unwrap();
        let protocol = stream.get_ref().1.alpn_protocol();
        assert_eq!(protocol, Some(chosen.as_bytes()));
    }
    for protocols in [&["http/1.1"][..], &["h2"]] {
        let (status, body) = get(&authority, node.http, "/healthz", protocols).await;
        assert_eq!((status, &*body), (200, "{\"status\":\"SERVING\"}"));
    }
    // Whoever does not speak TLS learns nothing.
    let plain = OpenFgaServiceClient::connect(format!("http://{}", node.grpc)).await;
    if let Ok(mut plain) = plain {
        let asked = plain.list_stores(v1::ListStoresRequest::default()).await;
        assert!(asked.is_err());
    }
}

/// A GET over TLS with one of these protocols: status and body.
async fn get(
    authority: &Authority,
    address: SocketAddr,
    path: &str,
    protocols: &[&str],
) -> (u16, String) {
    use http_body_util::{BodyExt as _, Empty};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let io = TokioIo::new(authority.connect(address, protocols).await.unwrap());
    let request = http::Request::get(format!("https://localhost{path}"))
        .header("host", "localhost")
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = if protocols == ["h2"] {
        let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (mut sender, connection) = made.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_breaks_no_old_one() {
    let authority = Authority::new();
    let (first, second) = (authority.issued(), authority.issued());
    authority.put(&first);
    let node = central(&authority).await;
    let mut client = authority.client(node.grpc).await;
    let store = create(&mut client).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let (stopped, request) = (stop.clone(), v1::GetStoreRequest { store_id: store });
    let traffic = tokio::spawn(async move {
        let mut asked = 0;
        while !stopped.is_cancelled() {
            client.get_store(request.clone()).await.unwrap();
            asked += 1;
        }
        asked
    });
    for address in [node.grpc, node.http] {
        assert_eq!(authority.shown(address).await, der(&first.0));
    }
    authority.put(&second);
    for address in [node.grpc, node.http] {
        authority.until_shown(address, &second).await;
    }
    stop.cancel();
    assert!(traffic.await.unwrap() > 0);
}

#[tokio::test]
async fn files_that_cannot_be_used_change_nothing() {
    let authority = Authority::new();
    let (first, second, third) = (authority.issued(), authority.issued(), authority.issued());
    authority.put(&first);
    let node = central(&authority).await;
    for broken in [
        ("no certificate".to_owned(), first.1.clone()),
        (String::new(), String::new()),
        (second.0.clone(), first.1.clone()),
        (second.0.clone(), "no key".to_owned()),
    ] {
        authority.put(&broken);
        // As often as it takes for the files to be looked at: the certificate shown stays the same throughout.
        for _ in 0..10 {
            assert_eq!(authority.shown(node.grpc).await, der(&first.0));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    std::fs::remove_file(authority.path("key.pem")).unwrap();
    assert_eq!(authority.shown(node.grpc).await, der(&first.0));
    authority.put(&third);
    authority.until_shown(node.grpc, &third).await;
}

#[tokio::test]
async fn a_node_does_not_start_with_files_that_cannot_be_used() {
    let authority = Authority::new();
    let (one, other) = (authority.issued(), authority.issued());
    let told = async |files: Files| {
        let mut config = config();
        config.tls.http = files;
        format!("{:#}", roles::central(&config).await.err().unwrap())
    };
    authority.put(&(one.0.clone(), other.1));
    let said = told(authority.files()).await;
    assert!(said.starts_with("tls.http: the certificate in "), "{said}");
    authority.put(&(one.0, "hunter2".into()));
    let said = told(authority.files()).await;
    assert!(said.contains("key.pem has no private key"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    let missing = Files {
        cert: Some("/nowhere/cert.pem".into()),
        ..authority.files()
    };
    let said = told(missing).await;
    assert!(said.contains("cannot read /nowhere/cert.pem"), "{said}");
}

/// A central that wants a token of nodes below over TLS, and a regional that has these.
async fn pair(authority: &Authority, nodes: Nodes) -> (Node, Node) {
    let mut above = config();
    above.tls.nodes = authority.files();
    above.nodes.tokens = Secrets::new(["new".to_owned(), "old".to_owned()]);
    let central = roles::central(&above).await.unwrap();
    tokio::time::timeout(PATIENCE, central.ready())
        .await
        .unwrap();
    let mut below = config();
    below.upstream = vec![format!("https://{}", central.nodes.unwrap())];
    below.nodes = nodes;
    let regional = roles::regional(&below).await.unwrap();
    (central, regional)
}

/// What a regional says to a call that it passes up.
async fn passed_up(regional: &Node) -> Result<String, tonic::Status> {
    let address = format!("http://{}", regional.grpc);
    let mut client = OpenFgaServiceClient::connect(address).await.unwrap();
    let request = v1::CreateStoreRequest {
        name: "shop".into(),
    };
    let created = client.create_store(request).await?;
    Ok(created.into_inner().id)
}

#[tokio::test]
async fn nodes_know_each_other_by_token_and_certificate() {
    let authority = Authority::new();
    authority.put(&authority.issued());
    let nodes = |token: &str, ca: Option<PathBuf>| Nodes {
        tokens: Secrets::new(
            [token.to_owned()]
                .into_iter()
                .filter(|token| !token.is_empty()),
        ),
        ca,
        ..Nodes::default()
    };
    let ca = Some(authority.path("ca.pem"));
    for token in ["new", "old"] {
        let (_central, regional) = pair(&authority, nodes(token, ca.clone())).await;
        passed_up(&regional).await.unwrap();
    }
    for token in ["", "wrong"] {
        let (_central, regional) = pair(&authority, nodes(token, ca.clone())).await;
        let refused = passed_up(&regional).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert!(refused.message().contains("nodes.tokens"), "{refused}");
    }
    // Of another authority than the one it trusts: not even asked.
    let (_central, regional) = pair(&authority, nodes("new", None)).await;
    let refused = passed_up(&regional).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert!(refused.message().contains("cannot be reached"), "{refused}");
}

async fn meridian(arguments: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(arguments)
        .env_clear()
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn the_command_line_shows_a_token_over_tls() {
    let authority = Authority::new();
    authority.put(&authority.issued());
    let mut config = config();
    config.tls.grpc = authority.files();
    config.authn.method = Method::Preshared;
    config.authn.preshared.keys = Secrets::new(["key".to_owned()]);
    let node = roles::central(&config).await.unwrap();
    tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
    let (api, ca) = (node.grpc.to_string(), authority.path("ca.pem"));
    let ca = path(&ca);
    let told = async |arguments: &[&str]| {
        let output = meridian(&[&["stores", "--api", &api], arguments].concat()).await;
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), error)
    };
    assert_eq!(
        told(&["--ca", ca, "--token", "key"]).await,
        (true, String::new())
    );
    let (_, error) = told(&["--ca", ca]).await;
    assert_eq!(
        error,
        "error: bearer_token_missing (1010): missing bearer token\n"
    );
    let (_, error) = told(&["--tls", "--token", "key"]).await;
    assert!(
        error.contains("no node answers at") && error.contains("by --ca"),
        "{error}"
    );
    let (_, error) = told(&["--token", "key"]).await;
    assert!(
        error.contains("is no gRPC port") && error.contains("--ca FILE must be given"),
        "{error}"
    );
    config.tls.grpc = Files::default();
    let plain = roles::central(&config).await.unwrap();
    let api = plain.grpc.to_string();
    let output = meridian(&["stores", "--api", &api, "--ca", ca, "--token", "key"]).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("leave --tls and --ca out"), "{error}");
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
