//! The names and addresses by which this machine may be asked: the check of the `Host` header.
//!
//! A web page from elsewhere can have its own name point to this machine (DNS rebinding). Its scripts are
//! then of the same origin as the daemon and could read everything, but they cannot change the name that
//! their browser sends. So only names that belong to this machine are answered, and addresses: a page whose
//! own name is an address cannot move to another one.

use std::net::{IpAddr, Ipv6Addr};

/// Domains that home routers append to a machine's name.
///
/// Nobody on the internet can have a name below `home.arpa` (RFC 8375) and `internal` (reserved by ICANN in
/// 2024). The others are not reserved. `lan`, `home`, `intranet` and `localdomain` do not exist as top-level
/// domains, and `fritz.box` is a public domain that belongs to the maker of the router. So for those a DNS
/// rebinding page would need the help of whoever answers them in the visitor's network, and it would have to
/// know the machine's name: the check accepts them for this machine's own name only.
const ROUTER_DOMAINS: [&str; 7] =
    ["lan", "home", "home.arpa", "internal", "localdomain", "intranet", "fritz.box"];

/// Returns `true` if a `Host` header names this machine: by an address, `localhost` or a name below it, a
/// name below `.local` (RFC 6762: only the local network answers for these), one of `configured`, or one of
/// `own`, with or without one of the [`ROUTER_DOMAINS`]. All names are given in lower case.
pub(super) fn is_ours(host: &str, own: &[String], configured: &[String]) -> bool {
    if address(host).is_some() {
        return true;
    }
    let host = without_port(host);
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let below = |domain: &str| host.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.'));
    host == "localhost"
        || below("localhost").is_some()
        || below("local").is_some()
        || configured.contains(&host)
        || own.contains(&host)
        || ROUTER_DOMAINS
            .iter()
            .any(|domain| below(domain).is_some_and(|name| own.iter().any(|own| own == name)))
}

/// Reads an IP address in one of the forms that headers have: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
/// `[2001:db8::1]:80`, `[fe80::1%eth0]:80`. The port and the zone (RFC 6874; ffmpeg and mpv send it) are
/// dropped, and an IPv4-mapped address becomes an IPv4 address.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let host = without_port(text);
    let ip: IpAddr = match host.strip_prefix('[') {
        Some(host) => without_zone(host.strip_suffix(']')?)?.into(),
        None => host.parse().ok().or_else(|| without_zone(host).map(IpAddr::V6))?,
    };
    Some(ip.to_canonical())
}

/// Returns `pi` for `pi:4410`, `[::1]` for `[::1]:4410`, and a bare IPv6 address as it is.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !is_cut_address(name) => name,
        _ => host,
    }
}

/// Returns `true` if the part before the last colon shows that the colon belongs to an IPv6 address without
/// brackets.
fn is_cut_address(name: &str) -> bool {
    name.contains(':') && !name.ends_with(']')
}

/// Reads an IPv6 address with or without a zone: `fe80::1%eth0`, or `fe80::1%25eth0` as URLs have it.
fn without_zone(text: &str) -> Option<Ipv6Addr> {
    let (address, zone) = text.split_once('%').unwrap_or((text, "-"));
    let is_zone = |byte: u8| byte.is_ascii_alphanumeric() || b"%-._~".contains(&byte);
    (!zone.is_empty() && zone.bytes().all(is_zone)).then(|| address.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ours(host: &str) -> bool {
        let own = ["birdbox".to_owned(), "birdbox.example.org".to_owned()];
        super::is_ours(host, &own, &["bird.example.com".to_owned()])
    }

    #[test]
    fn names_and_addresses_of_this_machine_are_accepted() {
        for host in [
            "192.168.1.5",
            "192.168.1.5:4410",
            "[fe80::1]",
            "[fe80::1]:4410",
            "[fe80::1%eth0]",
            "[fe80::1%eth0]:4410",
            "[fe80::1%25wlan0]:4410",
            "localhost",
            "localhost:4410",
            "LOCALHOST",
            "app.localhost",
            "birdbox",
            "BirdBox:4410",
            "birdbox.local",
            "other.local.",
            "birdbox.lan",
            "birdbox.fritz.box",
            "birdbox.home.arpa:80",
            "birdbox.example.org",
            "bird.example.com:443",
            "8.8.8.8",
        ] {
            assert!(is_ours(host), "{host}");
        }
    }

    #[test]
    fn all_other_names_are_refused() {
        for host in [
            "",
            "evil.example",
            "birdbox.evil.example",
            "local",
            "evil.local.example",
            "xlocalhost",
            "birdboxlan",
            "other.lan",
            "fritz.box",
            "evil.fritz.box",
            "127.0.0.1.evil.example",
            "[::1].evil.example",
            "[fe80::1%eth0].evil.example",
            "[fe80::1%]",
            "[evil.example%eth0]",
            "127.0.0.1%eth0",
            "evil.example:4410",
            "localhost.evil.example",
            "1.2.3.4.5",
            "[::1",
            "[127.0.0.1]",
        ] {
            assert!(!is_ours(host), "{host}");
        }
    }

    #[test]
    fn addresses_are_read_in_every_form() {
        for (text, ip) in [
            ("8.8.8.8", "8.8.8.8"),
            ("8.8.8.8:1234", "8.8.8.8"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:99", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%eth0]:99", "fe80::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(address(text), ip.parse().ok(), "{text}");
        }
        for text in ["", "unknown", "_hidden", "8.8.8", "2001:db8::1::2", "fe80::1%", "[]"] {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
