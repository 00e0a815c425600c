//! Both servers.

use std::net::SocketAddr;

use meridian_e2e::{OpenFga, Workdir, free_port};

use super::grpc::Grpc;
use super::http::Http;
use crate::system::{Node, Role};

/// Ours and theirs, in that order wherever there are two of something.
pub(crate) struct Pair {
    pub(crate) servers: [Server; 2],
    _ours: Node,
    _theirs: OpenFga,
    _dir: Workdir,
}

/// One of them, as a client sees it.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) grpc: Grpc,
    pub(crate) http: Http,
}

/// What all pairs have in common.
const COMMON: [(&str, &str); 1] = [("OPENFGA_EXPERIMENTALS", "inline_expressions")];

impl Pair {
    /// Starts both with `settings`, under OpenFGA's environment names; each keeps its stores in memory.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        Self::trusting(settings, None).await
    }

    /// The same, over TLS: both are trusted by a certificate (PEM).
    pub(crate) async fn over_tls(settings: &[(&str, &str)], authority: &str) -> Self {
        Self::trusting(settings, Some(authority)).await
    }

    async fn trusting(settings: &[(&str, &str)], authority: Option<&str>) -> Self {
        let settings: Vec<_> = COMMON
            .iter()
            .chain(settings)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let dir = Workdir::new("side-by-side").unwrap();
        // A central node takes writes and answers without Kafka, which nothing here reads.
        let nowhere = format!("127.0.0.1:{}", free_port().unwrap());
        let mut ours = Node::new(
            Role::Central,
            &dir,
            &nowhere,
            "datastore: {url: \"memory:\"}",
        );
        for (name, value) in &settings {
            ours.process = ours.process.env(name, value);
        }
        ours.process.start().unwrap();
        let ours_up = async {
            match authority {
                Some(_) => ours.listening().await,
                None => ours.ready().await,
            }
        };
        let ((), theirs) = tokio::join!(ours_up, OpenFga::start(&settings));
        let theirs = theirs.unwrap();
        Self {
            servers: [
                Server::new("Meridian", (ours.grpc, ours.http), authority),
                Server::new("OpenFGA", (theirs.grpc(), theirs.http()), authority),
            ],
            _ours: ours,
            _theirs: theirs,
            _dir: dir,
        }
    }
}

impl Server {
    fn new(
        name: &'static str,
        (grpc, http): (SocketAddr, SocketAddr),
        authority: Option<&str>,
    ) -> Self {
        Self {
            name,
            grpc: Grpc::new(grpc, authority),
            http: Http::new(http, authority),
        }
    }
}
