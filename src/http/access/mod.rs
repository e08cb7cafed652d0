//! Who may listen: by address, by the name that was asked for, by password.
//!
//! | what | why |
//! |---|---|
//! | the client's address | by default only the local network hears a microphone |
//! | the `Host` header | a web page from elsewhere can have its own name point to this machine (DNS rebinding); its scripts would then read what they like, but they cannot change the name that their browser sends |
//! | user and password | where the configuration has a file of them |
//!
//! Which pages from elsewhere may read the answers stands in `cors.rs`.
//!
//! An `X-Forwarded-For` is believed from the proxies of the configuration only.

pub(crate) mod cors;
pub mod passwords;

use std::net::IpAddr;

use base64ct::{Base64, Encoding};

use self::cors::Cors;
use self::passwords::{Passwords, Verdict};
use crate::config::{self, Network};
use crate::sys::host;

/// Suffixes below which nobody else can have a name: the local network's own (RFC 6762, RFC 8375, ICANN's
/// reservation of `internal`), and what common routers append.
const LOCAL_SUFFIXES: [&str; 7] =
    ["lan", "home", "home.arpa", "internal", "localdomain", "intranet", "fritz.box"];

/// The rules, ready to be asked.
pub struct Access {
    config: config::Access,
    passwords: Option<Passwords>,
    /// This machine's name, in lower case and without its domain, and with it.
    names: Vec<String>,
}

/// What is known of one who asks.
pub(crate) struct Asking<'a> {
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// The address of ours that it connected to, where that is known.
    pub(crate) local: Option<IpAddr>,
    /// `Host`
    pub(crate) host: Option<&'a str>,
    /// All `X-Forwarded-For`, in their order.
    pub(crate) forwarded: Vec<&'a str>,
    /// `Authorization`
    pub(crate) authorization: Option<&'a str>,
}

/// Why somebody may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The address is not among the allowed ones.
    Address(IpAddr),
    /// The name is not this machine's.
    Host(String),
    /// There is no password, or it is wrong.
    Password,
    /// Too many were tried.
    TooManyTries,
}

impl Access {
    /// The rules of a configuration.
    ///
    /// # Errors
    ///
    /// When the file of passwords cannot be read or has mistakes.
    pub fn new(config: &config::Access) -> Result<Access, String> {
        let passwords = config.passwords.as_deref().map(Passwords::load).transpose()?;
        Ok(Access { config: config.clone(), passwords, names: host::names() })
    }

    /// Whether a password is asked for.
    pub fn has_passwords(&self) -> bool {
        self.passwords.is_some()
    }

    /// What answers to a page of that origin say.
    pub(crate) fn cors(&self, origin: Option<&str>) -> Cors {
        Cors::of(&self.config.cors, origin)
    }

    /// Who asks, or why that one may not.
    pub(crate) fn check(&self, asking: &Asking<'_>) -> Result<IpAddr, Refusal> {
        let client = self.admit(asking)?;
        let Some(passwords) = &self.passwords else { return Ok(client) };
        let Some((user, password)) = asking.authorization.and_then(basic) else {
            return Err(Refusal::Password);
        };
        match passwords.check(&user, &password, client) {
            Verdict::Right => Ok(client),
            Verdict::Wrong => Err(Refusal::Password),
            Verdict::TooMany => Err(Refusal::TooManyTries),
        }
    }

    /// The same, but for the password.
    pub(crate) fn admit(&self, asking: &Asking<'_>) -> Result<IpAddr, Refusal> {
        let client = self.client(asking);
        if !self.is_allowed(client, asking) {
            return Err(Refusal::Address(client));
        }
        // A player that says none (HTTP/1.0) is no browser, and only those can be led astray.
        if let Some(host) = asking.host.filter(|host| !self.is_ours(host)) {
            return Err(Refusal::Host(host.to_owned()));
        }
        Ok(client)
    }

    /// Asks with these headers, as one behind a proxy.
    #[cfg(fuzzing)]
    pub fn fuzz(&self, host: &str, forwarded: &str, authorization: &str) {
        let asking = Asking {
            peer: IpAddr::from([127, 0, 0, 1]),
            local: None,
            host: Some(host),
            forwarded: vec![forwarded],
            authorization: Some(authorization),
        };
        let _ = self.check(&asking);
        let _ = basic(authorization);
    }

    /// The address that the request comes from: the peer's, or what a trusted proxy says.
    fn client(&self, asking: &Asking<'_>) -> IpAddr {
        let mut client = asking.peer.to_canonical();
        // Each proxy appends whom it heard it from; the last one that is no proxy of ours is who asks.
        let hops = asking.forwarded.iter().flat_map(|line| line.split(','));
        for hop in hops.rev() {
            if !self.is_proxy(client) {
                break;
            }
            match forwarded_address(hop.trim()) {
                Some(address) => client = address,
                None => break,
            }
        }
        client
    }

    /// Whether one of the configuration's proxies has that address.
    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        self.config.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    fn is_allowed(&self, client: IpAddr, asking: &Asking<'_>) -> bool {
        self.config.allow.iter().any(|network| match network {
            Network::Any => true,
            Network::Net(network) => network.contains(&client),
            Network::Local => {
                let connected = client == asking.peer.to_canonical();
                is_local(client) || connected && is_neighbour(client, asking.local)
            }
        })
    }

    /// Whether a `Host` header names this machine.
    fn is_ours(&self, host: &str) -> bool {
        let host = without_port(host);
        if host.parse::<IpAddr>().is_ok() || in_brackets(host).is_some_and(|ip| ip.parse::<IpAddr>().is_ok())
        {
            return true;
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let below = |suffix: &str| host.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.'));
        host == "localhost"
            || below("localhost").is_some()
            || below("local").is_some()
            || self.config.hosts.contains(&host)
            || self.names.contains(&host)
            || LOCAL_SUFFIXES
                .iter()
                .any(|suffix| below(suffix).is_some_and(|name| self.names.iter().any(|n| n == name)))
    }
}

/// Private (RFC 1918, RFC 4193), link-local and loopback addresses.
fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

/// Whether it is an IPv6 address on the same link as ours: at home those are global addresses, and phones prefer
/// them.
fn is_neighbour(ip: IpAddr, ours: Option<IpAddr>) -> bool {
    match (ip, ours) {
        (IpAddr::V6(ip), Some(IpAddr::V6(ours))) => ip.segments()[..4] == ours.segments()[..4],
        _ => false,
    }
}

/// An address in `X-Forwarded-For`, which may have a port.
fn forwarded_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim_matches('"');
    let host = in_brackets(without_port(hop)).unwrap_or_else(|| match hop.matches(':').count() {
        1 => without_port(hop),
        _ => hop,
    });
    host.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// `pi:4410` and `[::1]:4410` without what is behind the name.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !in_the_middle(name) => name,
        _ => host,
    }
}

/// Whether the last colon was within an IPv6 address and before no port.
fn in_the_middle(name: &str) -> bool {
    name.contains(':') && !name.ends_with(']')
}

fn in_brackets(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// User and password of an `Authorization: Basic …` (RFC 7617).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, credentials) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(Base64::decode_vec(credentials.trim()).ok()?).ok()?;
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn access(config: config::Access) -> Access {
        let names = vec!["birdbox".to_owned(), "birdbox.example.org".to_owned()];
        Access { config, passwords: None, names }
    }

    fn asking(peer: &str) -> Asking<'static> {
        Asking {
            peer: peer.parse().unwrap(),
            local: None,
            host: None,
            forwarded: Vec::new(),
            authorization: None,
        }
    }

    #[test]
    fn only_the_local_network_is_served_by_default() {
        let access = access(config::Access::default());
        for ip in [
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.1.1",
            "::1",
            "fe80::1",
            "fd12:3456::1",
            "::ffff:192.168.1.9",
        ] {
            assert!(access.check(&asking(ip)).is_ok(), "{ip}");
        }
        for ip in
            ["8.8.8.8", "172.32.0.1", "192.169.0.1", "100.64.0.1", "2001:db8::1", "fec0::1", "::ffff:8.8.8.8"]
        {
            assert_eq!(
                access.check(&asking(ip)).unwrap_err(),
                Refusal::Address(ip.parse::<IpAddr>().unwrap().to_canonical())
            );
        }
    }

    #[test]
    fn a_global_address_on_our_own_link_is_local() {
        let access = access(config::Access::default());
        let from = |peer: &str, local: &str| {
            let asking = Asking { local: Some(local.parse().unwrap()), ..asking(peer) };
            access.check(&asking).is_ok()
        };
        assert!(from("2001:db8:1:2::7", "2001:db8:1:2::1"));
        assert!(!from("2001:db8:1:3::7", "2001:db8:1:2::1"));
        assert!(!from("8.8.8.9", "8.8.8.8"), "of IPv4 no prefix is known");
    }

    #[test]
    fn what_is_allowed_can_be_said() {
        let only = |allow: Vec<Network>| access(config::Access { allow, ..config::Access::default() });
        let tailscale = only(vec![Network::Net("100.64.0.0/10".parse().unwrap())]);
        assert!(tailscale.check(&asking("100.100.1.1")).is_ok());
        assert!(tailscale.check(&asking("192.168.1.1")).is_err());
        assert!(only(vec![Network::Any]).check(&asking("8.8.8.8")).is_ok());
        assert!(only(vec![]).check(&asking("127.0.0.1")).is_err());
    }

    #[test]
    fn only_names_of_this_machine_are_served() {
        let access = access(config::Access {
            hosts: vec!["bird.example.com".to_owned()],
            ..config::Access::default()
        });
        for host in [
            "192.168.1.5",
            "192.168.1.5:4410",
            "[fe80::1]",
            "[fe80::1]:4410",
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
            assert!(access.is_ours(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "birdbox.evil.example",
            "local",
            "evil.local.example",
            "xlocalhost",
            "birdboxlan",
            "other.lan",
            "127.0.0.1.evil.example",
            "[::1].evil.example",
            "evil.example:4410",
            "localhost.evil.example",
            "1.2.3.4.5",
            "[::1",
        ] {
            assert!(!access.is_ours(host), "{host}");
        }
    }

    #[test]
    fn a_proxy_is_believed_only_if_it_is_ours() {
        let config = config::Access {
            trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()],
            ..config::Access::default()
        };
        let access = access(config);
        let from = |peer: &str, forwarded: &[&'static str]| {
            access.client(&Asking { forwarded: forwarded.to_vec(), ..asking(peer) }).to_string()
        };
        assert_eq!(from("127.0.0.1", &["8.8.8.8"]), "8.8.8.8");
        assert_eq!(from("192.168.1.9", &["10.0.0.1"]), "192.168.1.9", "anybody can send that header");
        assert_eq!(
            from("127.0.0.1", &["10.0.0.1, 8.8.8.8"]),
            "8.8.8.8",
            "what is before it anybody may have written"
        );
        assert_eq!(from("127.0.0.1", &["10.0.0.1", "8.8.8.8"]), "8.8.8.8");
        assert_eq!(from("127.0.0.1", &["8.8.8.8, 127.0.0.1"]), "8.8.8.8");
        assert_eq!(from("127.0.0.1", &["[2001:db8::1]:99"]), "2001:db8::1");
        assert_eq!(from("127.0.0.1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(from("127.0.0.1", &["8.8.8.8:1234"]), "8.8.8.8");
        assert_eq!(from("127.0.0.1", &["unknown"]), "127.0.0.1");
        assert_eq!(from("::ffff:127.0.0.1", &["8.8.4.4"]), "8.8.4.4");
    }

    #[test]
    fn basic_credentials_are_read_as_the_standard_says() {
        assert_eq!(
            basic("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            Some(("Aladdin".into(), "open sesame".into()))
        );
        assert_eq!(basic("basic dGVzdDoxMjPCow=="), Some(("test".into(), "123£".into())));
        assert_eq!(basic("Basic YTpiOmM="), Some(("a".into(), "b:c".into())), "a password may have a colon");
        for header in ["", "Basic", "Basic !", "Bearer YTpi", "Basic YWI=", "Basic /w==", "Basic YTpi extra"]
        {
            assert_eq!(basic(header), None, "{header}");
        }
    }
}
