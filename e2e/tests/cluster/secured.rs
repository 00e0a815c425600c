//! A store that asks who calls, speaks TLS, and gets new certificates while it runs.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::client::{Client, Triple};
use crate::pod;
use crate::shared::root;
use crate::site::Site;

const STORE: &str = "authzstore/ledger";
const EDGES: &str = "edgeregion/desk";
const NAMESPACE: &str = "secured";
/// As it stands in the example.
const KEY: &str = "CHANGE-ME-key-of-the-clerks";
const SECRETS: [&str; 2] = ["ledger-api-tls", "ledger-nodes-tls"];

const POSTER: Triple<'_> = ["account:1", "poster", "user:anne"];

#[tokio::test]
#[ignore = "needs root: run by `cargo xtask test`"]
async fn a_store_knows_its_callers_and_takes_in_new_certificates() {
    let site = Site::new(NAMESPACE).await;
    let databases = "create database ledger_central owner meridian;
        create database ledger_eu_1 owner meridian;";
    site.access().sql("postgres", databases).await.unwrap();
    let example = fs::read_to_string(root().join("docs/examples/secured/store.yaml")).unwrap();
    assert!(example.contains(KEY));
    site.apply(&example).await;
    site.fails(STORE, "ReferencesResolved", &SECRETS).await;
    let authority = Authority::new();
    let first = authority.issue(&site).await;
    site.holds(STORE, "Ready").await;
    site.holds(EDGES, "Ready").await;

    let store = site.get([STORE]).await;
    let store = store["status"]["storeId"].as_str().unwrap();
    only_those_with_a_key_are_answered(&site, &authority, store).await;
    new_certificates_are_served_by_the_same_pods(&site, &authority, &first).await;
    site.holds(STORE, "Ready").await;
    site.holds(EDGES, "Ready").await;

    site.patch(STORE, &json!({"spec": {"deletionPolicy": "Delete"}}))
        .await;
    site.holds(STORE, "Ready").await;
    site.kubectl(["delete", EDGES, STORE]).await;
    site.is_empty().await;
    let count = format!("select count(*) from stores where id = '{store}' and deleted_at is null");
    let alive = site.access().sql("ledger_eu_1", &count).await.unwrap();
    assert_eq!(alive.trim(), "0", "the operator was let in to delete it");
}

async fn only_those_with_a_key_are_answered(site: &Site, authority: &Authority, store: &str) {
    let at = site.address("desk-ledger", 8081).await;
    let name = format!("desk-ledger.{NAMESPACE}.svc");
    let client = |key| Client::secured(at, (&authority.pem, &name), key);
    client(Some(KEY)).write(store, &[POSTER]).await.unwrap();
    site.until("the edge's answer", async || {
        match client(Some(KEY)).check(store, POSTER).await {
            Ok(answer) if answer.allowed && answer.served_by.starts_with("edge/desk-ledger-") => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    for (key, told) in [
        (None, "missing bearer token"),
        (Some("another"), "unauthenticated"),
    ] {
        let refused = client(key).check(store, POSTER).await.unwrap_err();
        assert_eq!(refused.message(), told);
    }
    let plain = Client::new(at).check(store, POSTER).await;
    assert!(plain.is_err(), "without TLS: {plain:?}");
}

async fn new_certificates_are_served_by_the_same_pods(
    site: &Site,
    authority: &Authority,
    first: &Issued,
) {
    let ports = [
        (SECRETS[0], site.address("ledger-central", 8080).await),
        (SECRETS[0], site.address("desk-ledger", 8081).await),
        (SECRETS[1], site.address("ledger-regional-eu-1", 8082).await),
    ];
    for (secret, port) in ports {
        assert_eq!(
            authority.shown(port).await,
            first[secret],
            "{secret} at {port}"
        );
    }
    let before = nodes(site).await;
    let second = authority.issue(site).await;
    // A kubelet looks at the Secrets of a pod when something about the pod changes, and else about every minute.
    let all = "app.kubernetes.io/name=meridian";
    site.kubectl(["annotate", "pods", "--selector", all, "looked=at"])
        .await;
    for (secret, port) in ports {
        site.until(
            &format!("the new certificate of {secret} at {port}"),
            async || {
                let is_new = authority.shown(port).await == second[secret];
                is_new.then_some(()).ok_or("the old one".to_owned())
            },
        )
        .await;
    }
    assert_eq!(nodes(site).await, before, "restarted or replaced");
}

/// Uid and restarts of each pod.
async fn nodes(site: &Site) -> Vec<(String, Value)> {
    let nodes = site.nodes().await;
    let of = |node: &Value| {
        let restarts = pod::container(node)["restartCount"].clone();
        (pod::uid(node).to_owned(), restarts)
    };
    nodes.iter().map(of).collect()
}

/// The certificate in each Secret.
type Issued = BTreeMap<&'static str, Vec<u8>>;

/// Who issues certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own.
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// Puts new certificates into the Secrets, as cert-manager does.
    async fn issue(&self, site: &Site) -> Issued {
        let mut issued = Issued::new();
        for name in SECRETS {
            let names = vec![format!("*.{NAMESPACE}.svc")];
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(names).unwrap();
            let cert = params.signed_by(&key, &self.issuer).unwrap();
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": {"name": name},
                "stringData": {"tls.crt": cert.pem(), "tls.key": key.serialize_pem(), "ca.crt": self.pem},
            });
            site.apply(&secret.to_string()).await;
            issued.insert(name, cert.der().to_vec());
        }
        issued
    }

    /// The certificate that a port shows to a new client.
    async fn shown(&self, port: SocketAddr) -> Vec<u8> {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap();
        roots.add(own).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(format!("any.{NAMESPACE}.svc")).unwrap();
        let stream = TcpStream::connect(port).await.unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await;
        let stream = stream.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        chain[0].to_vec()
    }
}
