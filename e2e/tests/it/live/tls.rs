//! The live channel over TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use meridian_e2e::{Kafka, Workdir};
use meridian_model::dsl;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::client::{Client, produce};
use super::{MODEL, SOON};
use crate::system::{Node, Role};
use crate::until::{heavy, until};
use crate::world::tuple;

/// A connection to one who shows the certificate.
async fn shake_hands(
    node: SocketAddr,
    certificate: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(node).await?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

#[tokio::test]
async fn records_come_over_tls_to_who_trusts_the_certificate() {
    let _leave = heavy().await;
    let (kafka, dir) = (Kafka::start().await.unwrap(), Workdir::new("wss").unwrap());
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let own = own.self_signed(&key).unwrap();
    let certificate = dir.write("node.crt", &own.pem()).unwrap();
    let private = dir.write("node.key", &key.serialize_pem()).unwrap();
    let settings = format!(
        "datastore: {{url: \"sqlite://{}?mode=rwc\"}}
live: {{enabled: true}}
tls: {{http: {{cert: \"{}\", key: \"{}\"}}}}",
        dir.path().join("central.db").display(),
        certificate.display(),
        private.display()
    );
    let mut node = Node::new(Role::Central, &dir, &kafka.bootstrap(), &settings);
    node.process.start().unwrap();
    node.listening().await;
    let mut client = node.client();
    let store = until("a store", SOON, async || {
        client
            .create_store("race")
            .await
            .map_err(|why| format!("{why:?}"))
    })
    .await;
    let model = dsl::parse(MODEL).unwrap();
    client.write_model(&store, &model).await.unwrap();
    let may = tuple("event:42", "can_watch", "user:bob");
    client.write(&store, &[may], &[]).await.unwrap();

    let stream = shake_hands(node.http, own.der()).await.unwrap();
    let url = format!("wss://localhost:{}/live?store_id={store}", node.http.port());
    let mut bob = Client::over(stream, &url, "bob").await;
    until("the topic to be read", SOON, async || {
        match bob.ask("event:42").await {
            told if told["type"] == "subscribed" => Ok(()),
            told => Err(told.to_string()),
        }
    })
    .await;
    produce(&kafka.bootstrap(), &store, "event:42", &json!({"n": 1})).await;
    assert_eq!(bob.record().await["data"], json!({"n": 1}));

    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    assert!(shake_hands(node.http, other.cert.der()).await.is_err());
}
