//! Where a request comes from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ::http::{Extensions, HeaderMap, HeaderName};
use axum::extract::ConnectInfo;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: Ipv6Addr,
    /// How many bits, of 128, they have in common.
    bits: u32,
}

/// A text that is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is neither an address, like 192.0.2.7, nor a network, like 10.0.0.0/8")]
pub struct InvalidNetwork;

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().map_err(|_| InvalidNetwork)?,
            None => most,
        };
        if bits > most {
            return Err(InvalidNetwork);
        }
        Ok(Self {
            address: wide(address),
            bits: 128 - most + bits,
        })
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let differ = self.address.to_bits() ^ wide(address).to_bits();
        differ.leading_zeros() >= self.bits
    }
}

/// Every address as one of IPv6.
fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// The client's address: the connection's, or, where that is a proxy's that is trusted, the last in `X-Forwarded-For` that
/// is none of these.
pub(super) fn address(
    extensions: &Extensions,
    headers: &HeaderMap,
    trusted: &[Network],
) -> Option<IpAddr> {
    let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    let mut address = peer.ip().to_canonical();
    let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
    let lines = headers.get_all(FORWARDED_FOR);
    let lines: Vec<_> = lines.iter().filter_map(|line| line.to_str().ok()).collect();
    let hops = lines.iter().flat_map(|line| line.split(','));
    let hops: Vec<_> = hops.collect();
    for hop in hops.iter().rev() {
        if !is_trusted(address) {
            break;
        }
        let Some(before) = parsed(hop.trim()) else {
            break;
        };
        address = before.to_canonical();
    }
    Some(address)
}

/// An address, with or without a port.
fn parsed(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    text.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<Network> = ["10.0.0.0/8", "2001:db8::/32"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let of = |peer: &str, forwarded: &[&str]| {
            let mut extensions = Extensions::new();
            let peer: IpAddr = peer.parse().unwrap();
            extensions.insert(ConnectInfo(SocketAddr::from((peer, 443))));
            let mut headers = HeaderMap::new();
            for line in forwarded {
                headers.append(FORWARDED_FOR, line.parse().unwrap());
            }
            address(&extensions, &headers, &trusted)
                .unwrap()
                .to_string()
        };
        assert_eq!(of("192.0.2.1", &[]), "192.0.2.1");
        assert_eq!(of("192.0.2.1", &["198.51.100.9"]), "192.0.2.1");
        assert_eq!(of("10.1.2.3", &["198.51.100.9"]), "198.51.100.9");
        assert_eq!(of("::ffff:10.1.2.3", &["198.51.100.9:443"]), "198.51.100.9");
        // What the client itself wrote stands before what the proxies add.
        assert_eq!(
            of("10.1.2.3", &["1.1.1.1, 198.51.100.9", "10.9.9.9"]),
            "198.51.100.9"
        );
        assert_eq!(of("2001:db8::7", &["[2001:db9::1]:80"]), "2001:db9::1");
        assert_eq!(of("10.1.2.3", &["nonsense"]), "10.1.2.3");
        assert_eq!(of("10.1.2.3", &["10.4.4.4"]), "10.4.4.4");
    }

    #[test]
    fn networks_are_read() {
        for text in [
            "10.0.0.0/8",
            "192.0.2.7",
            "::1",
            "2001:db8::/32",
            "0.0.0.0/0",
        ] {
            assert!(text.parse::<Network>().is_ok(), "{text}");
        }
        for text in [
            "",
            "proxy",
            "10.0.0.0/33",
            "10.0.0/8",
            "::1/129",
            "1.2.3.4/x",
        ] {
            assert_eq!(text.parse::<Network>(), Err(InvalidNetwork), "{text}");
        }
    }
}
