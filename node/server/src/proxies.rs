//! Where a request comes from: its connection's address, or, behind proxies that are trusted, what these tell.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use http::{Extensions, HeaderMap, HeaderName};

/// What each proxy on the way writes whom it was asked by into, behind what stands there.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose word is believed. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Arc<[Network]>);

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

impl FromIterator<Network> for Proxies {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl Proxies {
    /// The client's address, of a connection with `peer`: its own, or, where that is a trusted proxy's, the last one in
    /// `X-Forwarded-For` that is none of these. What a client wrote there itself stands in front of that.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut address = peer.to_canonical();
        let lines = headers.get_all(FORWARDED_FOR).iter();
        let hops = lines.rev().flat_map(|line| {
            // A line that is no text is one hop that nobody can read.
            line.to_str().unwrap_or_default().rsplit(',')
        });
        for hop in hops {
            if !self.trust(address) {
                break;
            }
            let Some(before) = parsed(hop.trim()) else {
                break;
            };
            address = before.to_canonical();
        }
        address
    }

    /// The same, of a request that knows its connection.
    pub(crate) fn client_of(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<IpAddr> {
        let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(self.client(peer.ip(), headers))
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// An address, with or without a port.
fn parsed(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    text.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(peer: &str, forwarded: &[&[u8]]) -> String {
        let trusted = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"];
        let proxies: Proxies = trusted.iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line).unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn whoever_is_not_trusted_is_the_client_whatever_it_says() {
        assert_eq!(of("198.51.100.1", &[]), "198.51.100.1");
        assert_eq!(of("198.51.100.1", &[b"203.0.113.9"]), "198.51.100.1");
        assert_eq!(
            of("198.51.100.1", &[b"10.0.0.1", b"10.0.0.2"]),
            "198.51.100.1"
        );
        assert_eq!(of("2001:db9::1", &[b"203.0.113.9"]), "2001:db9::1");
        // Next to a network.
        assert_eq!(of("11.0.0.1", &[b"203.0.113.9"]), "11.0.0.1");
        assert_eq!(of("192.0.2.8", &[b"203.0.113.9"]), "192.0.2.8");
        let nobody = Proxies::default();
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, HeaderValue::from_static("203.0.113.9"));
        let peer = "127.0.0.1".parse().unwrap();
        assert_eq!(nobody.client(peer, &headers), peer);
    }

    #[test]
    fn the_last_that_is_not_trusted_counts_over_all_headers() {
        assert_eq!(of("10.1.2.3", &[b"198.51.100.9"]), "198.51.100.9");
        // What the client itself wrote stands before what the proxies add.
        let forwarded: [&[&[u8]]; 5] = [
            &[b"1.1.1.1, 198.51.100.9", b"10.9.9.9"],
            &[b"1.1.1.1", b"198.51.100.9", b"10.9.9.9,10.8.8.8"],
            &[b"10.4.4.4 ,198.51.100.9,  192.0.2.7"],
            &[b"nonsense, 198.51.100.9"],
            &[b"\xff\xfe", b"198.51.100.9"],
        ];
        for forwarded in forwarded {
            assert_eq!(of("10.1.2.3", forwarded), "198.51.100.9");
        }
        // Proxies all the way: the first of them asked by itself.
        assert_eq!(of("10.1.2.3", &[b"10.4.4.4, 10.5.5.5"]), "10.4.4.4");
    }

    #[test]
    fn addresses_are_of_both_kinds_and_may_have_ports() {
        assert_eq!(of("2001:db8::7", &[b"2001:db9::1"]), "2001:db9::1");
        assert_eq!(of("2001:db8::7", &[b"[2001:db9::1]:80"]), "2001:db9::1");
        assert_eq!(of("10.1.2.3", &[b"198.51.100.9:443"]), "198.51.100.9");
        assert_eq!(
            of("10.1.2.3", &[b"[2001:db8::9]:443, 10.5.5.5:80"]),
            "2001:db8::9"
        );
        // One of IPv4 within IPv6 is one of IPv4.
        assert_eq!(
            of("::ffff:10.1.2.3", &[b"::ffff:198.51.100.9"]),
            "198.51.100.9"
        );
    }

    #[test]
    fn what_cannot_be_read_ends_the_way() {
        assert_eq!(of("10.1.2.3", &[b"198.51.100.9, nonsense"]), "10.1.2.3");
        assert_eq!(of("10.1.2.3", &[b"198.51.100.9, "]), "10.1.2.3");
        assert_eq!(
            of("10.1.2.3", &[b"198.51.100.9, 10.4.4.4, unknown, 10.5.5.5"]),
            "10.5.5.5"
        );
        assert_eq!(of("10.1.2.3", &[b"198.51.100.9", b"\xff\xfe"]), "10.1.2.3");
        assert_eq!(of("10.1.2.3", &[b""]), "10.1.2.3");
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
