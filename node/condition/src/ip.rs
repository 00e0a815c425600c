//! IP addresses, read as Go's `net/netip` reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// An address; an IPv4 address mapped into IPv6 is taken for the IPv4 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ip {
    addr: IpAddr,
    /// An IPv6 zone, as in `fe80::1%eth0`.
    zone: Option<Arc<String>>,
}

impl Ip {
    /// `None` for what is not a well-formed address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (addr, zone) = parse(text)?;
        match addr {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some(Self {
                addr: unmap(v6),
                zone: None,
            }),
            addr => Some(Self {
                addr,
                zone: zone.map(|zone| Arc::new(zone.to_owned())),
            }),
        }
    }

    /// Whether the address is in the network `cidr`; `None` for what is not `address/bits`.
    pub(crate) fn in_cidr(&self, cidr: &str) -> Option<bool> {
        let (addr, bits) = cidr.rsplit_once('/')?;
        let (addr, None) = parse(addr)? else {
            return None;
        };
        let canonical = bits == "0" || !bits.starts_with(['0', '+', '-']);
        let bits: u32 = bits.parse().ok().filter(|_| canonical)?;
        let (addr, bits) = match addr {
            IpAddr::V4(_) if bits > 32 => return None,
            IpAddr::V6(_) if bits > 128 => return None,
            IpAddr::V6(v6) if bits >= 96 && v6.to_ipv4_mapped().is_some() => (unmap(v6), bits - 96),
            addr => (addr, bits),
        };
        Some(self.zone.is_none() && contains(addr, bits, self.addr))
    }
}

fn unmap(v6: Ipv6Addr) -> IpAddr {
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

fn parse(text: &str) -> Option<(IpAddr, Option<&str>)> {
    if let Ok(v4) = text.parse::<Ipv4Addr>() {
        return Some((IpAddr::V4(v4), None));
    }
    match text.split_once('%') {
        None => Some((IpAddr::V6(text.parse().ok()?), None)),
        Some((_, "")) => None,
        Some((addr, zone)) => Some((IpAddr::V6(addr.parse().ok()?), Some(zone))),
    }
}

fn contains(network: IpAddr, bits: u32, addr: IpAddr) -> bool {
    match (network, addr) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            (a.to_bits() ^ b.to_bits()) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            (a.to_bits() ^ b.to_bits()) & mask == 0
        }
        _ => false,
    }
}
