//! The names and addresses of this machine.

#![allow(unsafe_code)]

use std::ffi::c_char;
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Addresses for documentation (RFC 5737, RFC 3849): no host has them, so the route to them is the default route.
const BEYOND_THE_ROUTER: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
/// The socket of the daemon that answers for `NAME.local`.
const AVAHI: &str = "/run/avahi-daemon/socket";
/// The kernel's list of IPv6 addresses. Below `self` it is there in a sandbox without the rest of /proc too.
const IF_INET6: &str = "/proc/self/net/if_inet6";
/// The beginnings of the names of interfaces that lead only to containers and virtual machines on this machine.
const CONTAINER_INTERFACES: [&str; 9] =
    ["br-", "cni", "docker", "incusbr", "lxcbr", "lxdbr", "podman", "veth", "virbr"];

/// Returns the URLs, without a slash at the end, at which clients reach a socket that listens on `listening`. At least
/// one, the best one first, and the one with this machine's mDNS name last.
pub fn urls(listening: SocketAddr) -> Vec<String> {
    let port = listening.port();
    let mut hosts: Vec<String> = match listening.ip() {
        ip if !ip.is_unspecified() => vec![UrlHost(ip).to_string()],
        any => {
            let addresses = reachable_addresses().into_iter().filter(|ip| any.is_ipv6() || ip.is_ipv4());
            addresses.map(|ip| UrlHost(ip).to_string()).chain(local_name()).collect()
        }
    };
    if hosts.is_empty() {
        hosts.push("localhost".to_owned());
    }
    hosts.into_iter().map(|host| format!("http://{host}:{port}")).collect()
}

/// Returns the addresses at which other machines may reach this one, the best one first: that on the default route,
/// then the others, those of bridges to containers last. An interface with an IPv4 address is listed by that alone; an
/// interface without one by its IPv6 addresses, but for link-local ones, which need a zone that no URL has.
pub fn reachable_addresses() -> Vec<IpAddr> {
    reachable(&interface_addresses(), &default_route_addresses())
}

/// Returns all addresses of this machine, public, link-local and loopback ones too, in no particular order. The kernel
/// is asked at each call.
pub fn own_addresses() -> Vec<IpAddr> {
    let mut addresses = default_route_addresses();
    addresses.extend(interface_addresses().into_iter().map(|address| address.ip));
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Returns this machine's names in lower case: without its domain, and with it if it has one.
pub fn names() -> Vec<String> {
    let uname = rustix::system::uname();
    let whole = uname.nodename().to_str().unwrap_or_default().to_ascii_lowercase();
    let short = whole.split('.').next().unwrap_or_default().to_owned();
    let mut names = vec![short, whole];
    names.dedup();
    names.retain(|name| !name.is_empty() && name != "(none)");
    names
}

/// The mDNS name that the daemon which answers for it has told. The main thread writes it.
static TOLD_LOCAL_NAME: Mutex<Option<String>> = Mutex::new(None);

/// Keeps the mDNS name that the daemon which answers for it tells: `NAME-2.local` where another machine has `NAME.local`.
/// `None` if it tells none any more.
pub fn set_local_name(name: Option<String>) {
    *TOLD_LOCAL_NAME.lock().unwrap_or_else(PoisonError::into_inner) = name;
}

/// Returns this machine's mDNS name (RFC 6762): the one that was told, or else `NAME.local` if a daemon answers for it.
pub fn local_name() -> Option<String> {
    let told = TOLD_LOCAL_NAME.lock().unwrap_or_else(PoisonError::into_inner).clone();
    told.or_else(likely_local_name)
}

fn likely_local_name() -> Option<String> {
    let name = names().into_iter().next()?;
    (name != "localhost" && Path::new(AVAHI).exists()).then(|| format!("{name}.local"))
}

/// An IP address as a URL has it.
struct UrlHost(IpAddr);

impl fmt::Display for UrlHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "[{ip}]"),
        }
    }
}

/// An address of a network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
struct InterfaceAddress {
    /// The interface's name; empty if it is not known.
    interface: String,
    ip: IpAddr,
    /// The address is for longer use: it is not a temporary (RFC 8981), deprecated or untested one.
    is_stable: bool,
}

/// Chooses and sorts the addresses for [`reachable_addresses`]. `default_route` are the addresses from which packets
/// leave on the default routes.
fn reachable(all: &[InterfaceAddress], default_route: &[IpAddr]) -> Vec<IpAddr> {
    let is_routable = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_unspecified() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unspecified() && !ip.is_unicast_link_local(),
    };
    let unlisted = default_route
        .iter()
        .filter(|ip| all.iter().all(|address| address.ip != **ip))
        .map(|ip| InterfaceAddress { interface: String::new(), ip: *ip, is_stable: true });
    let all: Vec<InterfaceAddress> = all.iter().cloned().chain(unlisted).collect();
    // There is a better address on the same interface.
    let is_superseded = |address: &InterfaceAddress| {
        let others =
            || all.iter().filter(|other| other.interface == address.interface && is_routable(other.ip));
        match address.ip {
            IpAddr::V4(ip) => ip.is_link_local() && others().next().is_some(),
            IpAddr::V6(_) => {
                others().any(|other| other.ip.is_ipv4())
                    || !address.is_stable && others().any(|other| other.is_stable)
            }
        }
    };
    let is_link_local_v4 = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if ip.is_link_local());
    let mut chosen: Vec<&InterfaceAddress> = all
        .iter()
        .filter(|address| is_routable(address.ip) || is_link_local_v4(address.ip))
        .filter(|address| !is_superseded(address))
        .collect();
    chosen.sort_by_key(|address| {
        let is_default = default_route.contains(&address.ip);
        let is_container = CONTAINER_INTERFACES.iter().any(|start| address.interface.starts_with(start));
        // A bridge that leads to the router is not one to containers, whatever its name.
        (is_container && !is_default, is_link_local_v4(address.ip), !is_default, address.ip.is_ipv6())
    });
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in chosen {
        if !addresses.contains(&address.ip) {
            addresses.push(address.ip);
        }
    }
    addresses
}

/// Returns the addresses from which packets leave on the default routes, IPv4 first.
fn default_route_addresses() -> Vec<IpAddr> {
    let source_towards = |destination: IpAddr| {
        let any: IpAddr = match destination {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // Connecting a UDP socket sends nothing: the kernel only looks up the route.
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((destination, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
    };
    BEYOND_THE_ROUTER.into_iter().filter_map(source_towards).collect()
}

/// Returns the addresses of all interfaces, as far as the kernel tells.
///
/// getifaddrs(3) would be one call for both families, but it needs a netlink socket, which the service's sandbox does
/// not allow (`RestrictAddressFamilies=` in debian/wavecast.service).
fn interface_addresses() -> Vec<InterfaceAddress> {
    let mut addresses = ipv4_addresses().unwrap_or_default();
    addresses.extend(ipv6_addresses(&fs::read_to_string(IF_INET6).unwrap_or_default()));
    addresses
}

/// Returns the IPv4 addresses of all interfaces (SIOCGIFCONF, netdevice(7)).
fn ipv4_addresses() -> io::Result<Vec<InterfaceAddress>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut room = 32;
    loop {
        // SAFETY: `ifreq` is a name and a union of structs of integers, for which all zeros is a valid value.
        let mut list: Vec<libc::ifreq> = vec![unsafe { std::mem::zeroed() }; room];
        let bytes = libc::c_int::try_from(size_of_val(&list[..])).map_err(io::Error::other)?;
        let mut request = libc::ifconf {
            ifc_len: bytes,
            ifc_ifcu: libc::__c_anonymous_ifc_ifcu { ifcu_req: list.as_mut_ptr() },
        };
        // SAFETY: the kernel writes at most `ifc_len` bytes to `list`, which has that size, and the number of bytes
        // that it wrote to `ifc_len`. `request` and `list` outlive the call.
        if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFCONF as _, &raw mut request) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let count = request.ifc_len as usize / size_of::<libc::ifreq>();
        // A full list may be incomplete.
        if count < room {
            return Ok(list[..count].iter().filter_map(ipv4_address).collect());
        }
        room *= 2;
    }
}

/// Reads an entry of the kernel's list of IPv4 addresses; `None` for another family.
fn ipv4_address(entry: &libc::ifreq) -> Option<InterfaceAddress> {
    // SAFETY: all bytes of the union are initialised: they were zeros before the kernel wrote a sockaddr over them. Any
    // bytes are a valid sockaddr, which is a struct of integers.
    let address = unsafe { entry.ifr_ifru.ifru_addr };
    if i32::from(address.sa_family) != libc::AF_INET {
        return None;
    }
    // sockaddr_in (ip(7)): the port, then the address in network order.
    let [_, _, a, b, c, d, ..] = address.sa_data.map(|byte: c_char| byte as u8);
    let name = entry.ifr_name.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0);
    let name = String::from_utf8_lossy(&name.collect::<Vec<u8>>()).into_owned();
    // An alias like `eth0:1` is an address of `eth0`.
    let interface = name.split(':').next().unwrap_or_default().to_owned();
    Some(InterfaceAddress { interface, ip: Ipv4Addr::new(a, b, c, d).into(), is_stable: true })
}

/// Reads the kernel's list of IPv6 addresses: for each a line with address, interface number, prefix length, scope and
/// flags in hexadecimal, and the interface's name.
fn ipv6_addresses(list: &str) -> impl Iterator<Item = InterfaceAddress> {
    // IFA_F_TEMPORARY, IFA_F_DADFAILED, IFA_F_DEPRECATED and IFA_F_TENTATIVE of linux/if_addr.h.
    const UNSTABLE: u32 = 0x01 | 0x08 | 0x20 | 0x40;
    list.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let ip = Ipv6Addr::from(u128::from_str_radix(words.next()?, 16).ok()?);
        let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
        let interface = words.next()?.to_owned();
        Some(InterfaceAddress { interface, ip: ip.into(), is_stable: flags & UNSTABLE == 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_on_one_address_has_one_url() {
        let urls = |address: &str| urls(address.parse().expect("an address"));
        assert_eq!(urls("127.0.0.1:80"), ["http://127.0.0.1:80"]);
        assert_eq!(urls("[::1]:4410"), ["http://[::1]:4410"]);
    }

    #[test]
    fn a_socket_on_all_addresses_has_urls_that_can_be_opened() {
        for address in ["[::]:4410", "0.0.0.0:4410"] {
            let urls = urls(address.parse().expect("an address"));
            assert!(!urls.is_empty());
            for url in urls {
                assert!(url.starts_with("http://") && url.ends_with(":4410"), "{url}");
                assert!(!url.contains("0.0.0.0") && !url.contains("[::]"), "{url}");
                assert!(address.starts_with('[') || !url.contains("//["), "{url}: the socket has no IPv6");
            }
        }
    }

    #[test]
    fn the_machine_has_a_name() {
        assert!(!names().is_empty());
    }

    #[test]
    fn a_socket_can_be_bound_to_every_own_address() {
        let own = own_addresses();
        assert!(own.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{own:?}");
        for ip in own {
            // A link-local address needs its interface as well.
            if !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
                UdpSocket::bind((ip, 0)).unwrap_or_else(|error| panic!("{ip}: {error}"));
            }
        }
        let own = own_addresses();
        assert!(reachable_addresses().iter().all(|ip| own.contains(ip) && !ip.is_loopback()));
    }

    /// Reads `INTERFACE ADDRESS [unstable]`, a line for each.
    fn addresses(text: &str) -> Vec<InterfaceAddress> {
        let read = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            InterfaceAddress {
                interface: words[0].to_owned(),
                ip: words[1].parse().expect("an address"),
                is_stable: words.len() == 2,
            }
        };
        text.lines().filter(|line| !line.trim().is_empty()).map(read).collect()
    }

    #[test]
    fn reachable_addresses_are_chosen_and_sorted() {
        const LOOPBACK: &str = "lo 127.0.0.1\nlo ::1\n";
        const ETHERNET: &str =
            "eth0 192.168.1.5\neth0 fe80::5\neth0 2001:db8:1::5\neth0 2001:db8:1::77 unstable\n";
        const DOCKER: &str = "docker0 172.17.0.1\nbr-0123456789ab 172.18.0.1\nveth1 fe80::6\n";
        const WIFI_V6: &str =
            "wlan0 fe80::7\nwlan0 2001:db8:2::99 unstable\nwlan0 2001:db8:2::7\nwlan0 fd00::7\n";
        for (lists, default_route, expected) in [
            (vec![], vec![], vec![]),
            (vec![LOOPBACK], vec![], vec![]),
            // IPv4 alone, where the interface has it.
            (vec![LOOPBACK, ETHERNET], vec!["192.168.1.5"], vec!["192.168.1.5"]),
            // Bridges to containers last.
            (
                vec![LOOPBACK, DOCKER, ETHERNET],
                vec!["192.168.1.5", "2001:db8:1::5"],
                vec!["192.168.1.5", "172.17.0.1", "172.18.0.1"],
            ),
            // Without IPv4: the stable IPv6 addresses, that on the default route first; before the containers' IPv4.
            (vec![LOOPBACK, WIFI_V6], vec![], vec!["2001:db8:2::7", "fd00::7"]),
            (
                vec![WIFI_V6, DOCKER],
                vec!["fd00::7"],
                vec!["fd00::7", "2001:db8:2::7", "172.17.0.1", "172.18.0.1"],
            ),
            (vec!["eth0 2001:db8::3 unstable"], vec![], vec!["2001:db8::3"]),
            // Link-local IPv6 is never offered, link-local IPv4 only if the interface has no other address.
            (vec!["eth0 fe80::1\neth0 169.254.7.7"], vec![], vec!["169.254.7.7"]),
            (vec!["eth0 169.254.7.7\neth0 2001:db8::3"], vec![], vec!["2001:db8::3"]),
            (vec!["eth0 169.254.7.7\nwlan0 10.0.0.2"], vec![], vec!["10.0.0.2", "169.254.7.7"]),
            // A bridge that leads to the router is no container's.
            (vec!["eth1 10.0.0.2\nbr-lan 10.1.0.2"], vec!["10.1.0.2"], vec!["10.1.0.2", "10.0.0.2"]),
            // Without lists of interfaces (no /proc), the default routes are known all the same.
            (vec![], vec!["10.1.0.2"], vec!["10.1.0.2"]),
        ] {
            let parse = |ip: &&str| ip.parse::<IpAddr>().expect("an address");
            let default_route: Vec<IpAddr> = default_route.iter().map(parse).collect();
            let expected: Vec<IpAddr> = expected.iter().map(parse).collect();
            assert_eq!(reachable(&addresses(&lists.concat()), &default_route), expected, "{lists:?}");
        }
    }

    #[test]
    fn the_kernels_list_of_ipv6_addresses_is_read() {
        let list = "fd000000000000000000000000000002 04 40 00 80     eth0\n\
                    20010db8000000000000000000000003 02 40 00 01    wlan0\n\
                    broken\n";
        let expected = addresses("eth0 fd00::2\nwlan0 2001:db8::3 unstable");
        assert_eq!(ipv6_addresses(list).collect::<Vec<_>>(), expected);
        assert_eq!(ipv6_addresses("").count(), 0);
    }
}
