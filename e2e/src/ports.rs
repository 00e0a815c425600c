//! Ports that stay one server's own over a restart.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

/// The lowest port tried: below are the ports of well-known services.
const LOWEST: u16 = 15_000;
/// Where outgoing connections take their ports from when the system does not say.
const USUAL_EPHEMERAL_START: u16 = 32_768;

/// A free TCP port on 127.0.0.1, outside the range that outgoing connections take theirs from.
///
/// Binding port 0 would give one inside that range. While a server is stopped, a client that keeps trying to reach it
/// may then be given that very port, be connected to itself, and keep the server from coming back. No port is given twice.
///
/// # Errors
///
/// When no port could be bound.
pub fn free_port() -> Result<u16> {
    let range = range();
    let width = u64::from(range.end - range.start);
    let random = RandomState::new();
    for attempt in 0..1000_u64 {
        let offset = u16::try_from(random.hash_one(attempt) % width)?;
        let port = range.start + offset;
        if is_new(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!(
        "no free port in {}..{} on 127.0.0.1",
        range.start,
        range.end
    )
}

/// Whether a port was not given before: nobody may listen yet where another part of the same server is to.
fn is_new(port: u16) -> bool {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    given.insert(port)
}

fn range() -> Range<u16> {
    let ephemeral_start = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .filter(|start| *start > LOWEST + 1000)
        .unwrap_or(USUAL_EPHEMERAL_START);
    LOWEST..ephemeral_start
}
