//! By which addresses others reach this machine: what a person is told to open.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// TEST-NET-1 (RFC 5737): nobody is there, so the way to it is the way out.
const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Who answers for `NAME.local` is there, if this is.
const AVAHI: &str = "/run/avahi-daemon/socket";
/// The kernel's IPv4 routes, proc_pid_net(5). Under `self` it is there in a sandbox too.
const ROUTES: &str = "/proc/self/net/route";

/// The roots of URLs, without a slash at the end, of what listens there. At least one; the best one first, and
/// the name, if this machine is known by one, last.
pub fn urls(listening: SocketAddr) -> Vec<String> {
    let port = listening.port();
    let ip = listening.ip();
    if !ip.is_unspecified() {
        return vec![format!("http://{}:{port}", Host(ip))];
    }
    let mut hosts: Vec<String> = own().into_iter().map(|ip| Host(ip).to_string()).collect();
    hosts.extend(local_name());
    if hosts.is_empty() {
        hosts.push("localhost".to_owned());
    }
    hosts.into_iter().map(|host| format!("http://{host}:{port}")).collect()
}

/// This machine's own IPv4 addresses but for the loopback, first the one on the way out.
pub fn own() -> Vec<IpAddr> {
    let routes = fs::read_to_string(ROUTES).unwrap_or_default();
    let mut addresses = Vec::new();
    for destination in std::iter::once(SOMEWHERE).chain(neighbours(&routes)) {
        if let Some(ip) = towards(destination).filter(|ip| !ip.is_loopback() && !addresses.contains(ip)) {
            addresses.push(ip);
        }
    }
    addresses
}

/// The address that this machine has for those who are there.
fn towards(destination: Ipv4Addr) -> Option<IpAddr> {
    // Connecting a UDP socket sends nothing: the kernel only looks up its route.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((destination, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// The first address of every network that needs no gateway.
fn neighbours(routes: &str) -> impl Iterator<Item = Ipv4Addr> {
    networks(routes).filter_map(|network| u32::from(network).checked_add(1)).map(Ipv4Addr::from)
}

/// The networks that need no gateway.
fn networks(routes: &str) -> impl Iterator<Item = Ipv4Addr> {
    // In hexadecimal, as the bytes lie in memory.
    let address = |word: &str| Some(Ipv4Addr::from(u32::from_str_radix(word, 16).ok()?.to_ne_bytes()));
    routes.lines().filter_map(move |line| {
        let mut words = line.split_whitespace().skip(1);
        let (destination, gateway) = (address(words.next()?)?, address(words.next()?)?);
        (gateway.is_unspecified() && !destination.is_unspecified()).then_some(destination)
    })
}

/// This machine's own names, in lower case: without a domain, and with one where it has it.
pub fn names() -> Vec<String> {
    let uname = rustix::system::uname();
    let whole = uname.nodename().to_str().unwrap_or_default().to_ascii_lowercase();
    let short = whole.split('.').next().unwrap_or_default().to_owned();
    let mut names = vec![short, whole];
    names.dedup();
    names.retain(|name| !name.is_empty() && name != "(none)");
    names
}

/// The host's name as it is on the local network (RFC 6762), if there is somebody who answers for it.
pub fn local_name() -> Option<String> {
    let name = names().into_iter().next()?;
    (name != "localhost" && Path::new(AVAHI).exists()).then(|| format!("{name}.local"))
}

/// An address as it stands in a URL.
struct Host(IpAddr);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "[{ip}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_alone_is_the_only_one() {
        let urls = |address: &str| urls(address.parse().expect("an address"));
        assert_eq!(urls("127.0.0.1:80"), ["http://127.0.0.1:80"]);
        assert_eq!(urls("[::1]:4410"), ["http://[::1]:4410"]);
    }

    #[test]
    fn every_address_is_at_least_one_that_can_be_opened() {
        let urls = urls("[::]:4410".parse().expect("an address"));
        assert!(!urls.is_empty());
        for url in urls {
            assert!(url.starts_with("http://") && url.ends_with(":4410"), "{url}");
            assert!(!url.contains("0.0.0.0") && !url.contains("[::]"), "{url}");
        }
    }

    #[test]
    fn the_machine_has_a_name() {
        assert!(!names().is_empty());
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_route_to_the_broadcast_address_is_no_network() {
        // Some DHCP clients add this route.
        let routes = "Iface\tDestination\tGateway\neth0\tFFFFFFFF\t00000000\t0005\n";
        assert_eq!(neighbours(routes).count(), 0);
    }

    // The figures are as on a little-endian machine.
    #[cfg(target_endian = "little")]
    #[test]
    fn networks_without_a_gateway_are_found_in_the_kernels_list() {
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                      eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\n\
                      wlan0\t0004A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n\
                      broken\n";
        assert_eq!(networks(routes).collect::<Vec<_>>(), [Ipv4Addr::new(192, 168, 4, 0)]);
        assert_eq!(networks("").count(), 0);
    }
}
