//! The addresses of a cluster.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::command::run;

/// How many clusters one machine may have at a time.
const CLUSTERS: u8 = 16;
/// The second number of the first cluster's addresses.
const FIRST: u8 = 208;
const DEADLINE: Duration = Duration::from_secs(10);
/// How the sockets are called by which clusters that start keep others from what they have chosen.
const LOCKS: &str = "meridian-cluster-";

/// 10.208.0.0/16 for a machine's first cluster, 10.209.0.0/16 for its second, and so on.
///
/// This machine has .0.1 and the node .0.2, at the two ends of a link; Services are in .32.0/19, pods in .64.0/18.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Network {
    index: u8,
}

/// A network that nobody else claims while this lives. Once its link is there, that says so too.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) network: Network,
    _lock: UnixListener,
}

impl Claim {
    /// The first that no cluster has or claims, and no route leads to.
    pub(super) async fn first() -> Result<Self> {
        Self::first_in(LOCKS).await
    }

    async fn first_in(locks: &str) -> Result<Self> {
        for index in 0..CLUSTERS {
            let network = Network { index };
            let Some(lock) = network.lock(locks)? else {
                continue;
            };
            let routes = ip(&["-4", "route", "show", "root", &network.range()]).await?;
            if !network.is_used() && routes.trim().is_empty() {
                return Ok(Self {
                    network,
                    _lock: lock,
                });
            }
        }
        bail!(
            "this machine has {CLUSTERS} clusters already: end one with `cargo xtask cluster down`"
        )
    }
}

impl Network {
    /// A name that only one process at a time can have, and that goes with it; `None` if another has it.
    fn lock(self, locks: &str) -> Result<Option<UnixListener>> {
        let name = format!("{locks}{}", self.index);
        let bound = SocketAddr::from_abstract_name(&name)
            .and_then(|address| UnixListener::bind_addr(&address));
        match bound {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error).with_context(|| format!("listening on the socket @{name}")),
        }
    }

    /// Whether a cluster has it.
    pub(super) fn is_used(self) -> bool {
        Path::new("/sys/class/net").join(self.name()).exists()
    }

    /// The name of its link, and of its control group.
    pub(super) fn name(self) -> String {
        format!("meridian{}", self.index)
    }

    /// The node, where the API server listens too.
    pub(super) fn node(self) -> Ipv4Addr {
        self.at(0, 2)
    }

    pub(super) fn services(self) -> String {
        format!("{}/19", self.at(32, 0))
    }

    pub(super) fn dns(self) -> Ipv4Addr {
        self.at(32, 10)
    }

    pub(super) fn pods(self) -> String {
        format!("{}/18", self.at(64, 0))
    }

    fn range(self) -> String {
        format!("{}/16", self.at(0, 0))
    }

    fn at(self, third: u8, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, FIRST + self.index, third, last)
    }

    /// Makes the link into the network namespace of `process`, and the route through it.
    pub(super) async fn link(self, process: u32) -> Result<()> {
        let (name, process) = (&self.name(), &process.to_string());
        let address = format!("{}/30", self.at(0, 1));
        let peer = ["type", "veth", "peer", "name", INSIDE, "netns", process];
        ip(&[&["link", "add", name], peer.as_slice()].concat()).await?;
        ip(&["address", "add", &address, "dev", name]).await?;
        ip(&["link", "set", name, "up"]).await?;
        let via = self.node().to_string();
        ip(&["route", "add", &self.range(), "via", &via, "dev", name]).await?;
        Ok(())
    }

    /// What `sh` does at the other end. Nobody but the API server, which is there too, is to reach the kubelet, who
    /// asks nobody for a name.
    pub(super) fn inside(self) -> String {
        let (node, host) = (self.node(), self.at(0, 1));
        format!(
            "ip address add {node}/30 dev {INSIDE}
ip link set {INSIDE} up
ip route add default via {host}
iptables -A INPUT ! -i lo -p tcp --dport 10250 -j DROP"
        )
    }

    /// Removes the link, if it is still there; the system would do so later.
    pub(super) fn unlink_blocking(self) {
        let mut delete = std::process::Command::new("ip");
        delete.args(["link", "delete", &self.name()]);
        let _ = delete.stdin(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// The link's name at the node's end.
const INSIDE: &str = "uplink";

async fn ip(args: &[&str]) -> Result<String> {
    let shown = format!("ip {}", args.join(" "));
    run(Command::new("ip").args(args), &shown, "", DEADLINE).await
}

#[cfg(test)]
mod tests {
    use super::Claim;

    #[tokio::test]
    async fn those_that_start_at_once_get_networks_of_their_own() {
        let locks = &format!("meridian-test-{}-", std::process::id());
        let first = Claim::first_in(locks);
        let (one, other) = tokio::try_join!(first, Claim::first_in(locks)).unwrap();
        assert_ne!(one.network.name(), other.network.name());

        let freed = one.network.name();
        drop(one);
        let next = Claim::first_in(locks).await.unwrap();
        assert_eq!(next.network.name(), freed);
    }
}
