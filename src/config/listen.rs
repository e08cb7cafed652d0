//! The key `http.listen`: addresses to listen on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::messages::shown_string;

/// One address to listen on.
///
/// Read from `4410`, `:4410`, `[::]:4410` (all three are [`ListenAddr::Any`]), `0.0.0.0:4410` or `[::1]:4410`. Port 0
/// lets the kernel choose a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// That port on every address of the machine, IPv6 and IPv4.
    Any(u16),
    /// That address alone. `0.0.0.0` is every IPv4 address.
    Addr(SocketAddr),
}

impl ListenAddr {
    /// Returns the port.
    pub const fn port(self) -> u16 {
        match self {
            ListenAddr::Any(port) => port,
            ListenAddr::Addr(address) => address.port(),
        }
    }

    /// Returns `true` if a socket on `self` prevents one on `other`, or the reverse: the two share a port and an address.
    pub fn overlaps(self, other: ListenAddr) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Returns `true` if `self` contains every address of `other`.
    fn covers(self, other: ListenAddr) -> bool {
        if self.port() != other.port() || self.port() == 0 {
            return false;
        }
        match (self, other) {
            (ListenAddr::Any(_), _) => true,
            (ListenAddr::Addr(_), ListenAddr::Any(_)) => false,
            (ListenAddr::Addr(one), ListenAddr::Addr(two)) => {
                one == two || one.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && two.is_ipv4()
            }
        }
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenAddr, String> {
        let port = text.strip_prefix(':').unwrap_or(text);
        // The parser of u16 accepts `+4410` too.
        if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
            let port = port.parse().map_err(|_| format!("{port} is not a port; the last port is 65535"))?;
            return Ok(ListenAddr::Any(port));
        }
        match text.parse() {
            Ok(SocketAddr::V6(address)) if *address.ip() == Ipv6Addr::UNSPECIFIED => {
                Ok(ListenAddr::Any(address.port()))
            }
            Ok(address) => Ok(ListenAddr::Addr(address)),
            Err(_) => Err(format!(
                "{} is not an address; write a port (\"4410\"), or an IP address and a port \
                 (\"192.168.1.5:4410\", \"[::1]:4410\")",
                shown_string(text)
            )),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Any(port) => write!(f, "[::]:{port}"),
            ListenAddr::Addr(address) => address.fmt(f),
        }
    }
}

/// Returns an error text if the daemon cannot listen on all these addresses at once.
pub(super) fn listen_problem(listen: &[ListenAddr]) -> Option<String> {
    if listen.is_empty() {
        return Some("needs at least one address".to_owned());
    }
    let pairs = listen.iter().enumerate().flat_map(|(at, one)| {
        let others = listen.iter().enumerate().filter(move |(other, _)| *other != at);
        others.map(move |(_, other)| (one, other))
    });
    let (one, other) = pairs.into_iter().find(|(one, other)| one.covers(**other))?;
    Some(if one == other {
        format!("{one} is listed twice")
    } else {
        format!("{one} includes {other}; remove one of the two")
    })
}
