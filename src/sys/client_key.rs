//! The identity of a client, for limits that count per client.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A client: one IPv4 address, one IPv6 address of this network, or one IPv6 network of 64 bits elsewhere.
///
/// A household elsewhere has at least one IPv6 network of 64 bits, and each device in the household chooses
/// any number of addresses in that network. So limits count a distant network as one client. On the server's
/// own link the same 64 bits are shared by all devices of the household, and `fe80::/64` by all devices of
/// every link: there each address is a client of its own, or one device could use up what all others are
/// allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientKey {
    /// An IPv4 address, or an IPv6 address that counts by itself.
    Address(IpAddr),
    /// The first address of an IPv6 network of 64 bits.
    Network(Ipv6Addr),
}

impl ClientKey {
    /// Returns the client that `peer` belongs to.
    ///
    /// `local` is the server's address of the same connection. It shows whether an IPv6 peer is on the same
    /// link; without it, a peer with a global address counts as distant.
    pub fn of(peer: IpAddr, local: Option<IpAddr>) -> ClientKey {
        match peer.to_canonical() {
            IpAddr::V6(ip) if !counts_by_itself(ip, local) => ClientKey::Network(network(ip)),
            ip => ClientKey::Address(ip),
        }
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientKey::Address(ip) => ip.fmt(formatter),
            ClientKey::Network(ip) => write!(formatter, "{ip}/64"),
        }
    }
}

/// Returns `true` for loopback, link-local (`fe80::/10`), unique local (`fc00::/7`, RFC 4193) and on-link
/// addresses.
fn counts_by_itself(ip: Ipv6Addr, local: Option<IpAddr>) -> bool {
    let is_on_link = matches!(local, Some(IpAddr::V6(local)) if network(local) == network(ip));
    ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local() || is_on_link
}

/// Returns the first address of the network of 64 bits that holds `ip`.
fn network(ip: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_here_and_a_network_elsewhere() {
        for (peer, local, key) in [
            ("192.168.1.5", "192.168.1.1", "192.168.1.5"),
            ("::ffff:192.168.1.5", "::ffff:192.168.1.1", "192.168.1.5"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
            ("::1", "::1", "::1"),
            ("fe80::7", "fe80::1", "fe80::7"),
            ("fd12:3456::7", "fd12:9999::1", "fd12:3456::7"),
            ("fc00::7", "fe80::1", "fc00::7"),
            // On the server's own link: the upper 64 bits are equal.
            ("2001:db8:1:2::7", "2001:db8:1:2::1", "2001:db8:1:2::7"),
            ("2001:db8:1:3::7", "2001:db8:1:2::1", "2001:db8:1:3::/64"),
            ("2001:db8:1:3:ffff::8", "2001:db8:1:2::1", "2001:db8:1:3::/64"),
            ("2001:db8:1:2::7", "192.168.1.1", "2001:db8:1:2::/64"),
        ] {
            let found = ClientKey::of(peer.parse().unwrap(), Some(local.parse().unwrap()));
            assert_eq!(found.to_string(), key, "{peer} at {local}");
        }
        let unknown = ClientKey::of("2001:db8::1".parse().unwrap(), None);
        assert_eq!(unknown.to_string(), "2001:db8::/64");
    }
}
