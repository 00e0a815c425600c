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
        let ((), theirs) = tokio::join!(ours.start(), OpenFga::start(&settings));
        let theirs = theirs.unwrap();
        Self {
            servers: [
                Server::new("Meridian", ours.grpc, ours.http),
                Server::new("OpenFGA", theirs.grpc(), theirs.http()),
            ],
            _ours: ours,
            _theirs: theirs,
            _dir: dir,
        }
    }
}

impl Server {
    fn new(name: &'static str, grpc: SocketAddr, http: SocketAddr) -> Self {
        Self {
            name,
            grpc: Grpc::new(grpc),
            http: Http::new(http),
        }
    }
}
