//! Where a server listens.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::ports::free_port;
use crate::process::Process;

/// This machine's loopback address, or a network of a cluster's own.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    host: Ipv4Addr,
    network: Option<PathBuf>,
}

impl Place {
    /// 127.0.0.1, with ports that nobody has.
    pub(crate) fn here() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST,
            network: None,
        }
    }

    /// An address in the network that a file stands for, where every port is free.
    pub(crate) fn inside(network: PathBuf, host: Ipv4Addr) -> Self {
        Self {
            host,
            network: Some(network),
        }
    }

    /// Whether it is a network of a cluster's own, which nobody else reaches.
    pub(crate) fn is_inside(&self) -> bool {
        self.network.is_some()
    }

    pub(crate) fn host(&self) -> Ipv4Addr {
        self.host
    }

    /// The port to listen on: the usual one, where it is free for sure.
    pub(crate) fn port(&self, usual: u16) -> Result<u16> {
        if self.is_inside() {
            Ok(usual)
        } else {
            free_port()
        }
    }

    /// A program that listens there. A cluster's goes with its folder, should this process die.
    pub(crate) fn process(&self, name: &str, program: &Path, dir: &Path) -> Process {
        let process = Process::new(name, program, dir);
        match &self.network {
            Some(network) => process
                .network(network.clone())
                .tidy(format!("rm -rf -- '{}'", dir.display())),
            None => process,
        }
    }
}
