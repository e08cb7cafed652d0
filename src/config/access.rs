//! The table `[access]`: client networks, host names, proxies and origins.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;

use super::messages::shown_string;

/// Table `[access]`: the rules that decide if a client may listen.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// `allow`: the networks whose clients are served.
    pub allow: Vec<Network>,
    /// `hosts`: names of this machine beside its own, in lower case.
    pub hosts: Vec<String>,
    /// `passwords`: the password file. Without one no client needs a password.
    pub passwords: Option<PathBuf>,
    /// `trusted_proxies`: the networks of the proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `cors`: the origins whose pages may read responses, as browsers write them. `*` is every origin.
    pub cors: Vec<String>,
    /// `frames`: the origins whose pages may show the page in a frame, as browsers write them. `*` is every origin.
    pub frames: Vec<String>,
}

impl Default for Access {
    fn default() -> Access {
        Access {
            allow: vec![Network::Local],
            hosts: Vec::new(),
            passwords: None,
            trusted_proxies: Vec::new(),
            cors: Vec::new(),
            frames: Vec::new(),
        }
    }
}

/// A network of clients.
///
/// Read from `local`, `any`, `192.168.1.0/24` or `192.168.1.7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Private, link-local and loopback addresses, and IPv6 addresses of the same link.
    Local,
    /// Every address.
    Any,
    /// The addresses of one network.
    Net(IpNet),
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        match text {
            "local" => Ok(Network::Local),
            "any" => Ok(Network::Any),
            _ => parse_net(text)
                .map(Network::Net)
                .map_err(|problem| format!("{problem}; \"local\" and \"any\" are allowed too")),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::Local => f.write_str("local"),
            Network::Any => f.write_str("any"),
            Network::Net(network) => network.fmt(f),
        }
    }
}

/// Reads a network, or one address.
pub(super) fn parse_net(text: &str) -> Result<IpNet, String> {
    let one = text.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical()));
    let network = one.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
        format!("{} is not a network such as 192.168.1.0/24 or fd00::/8, nor an address", shown_string(text))
    })?;
    match network.trunc() == network {
        true => Ok(network),
        false => Err(format!(
            "{} has bits behind its prefix; did you mean {}?",
            shown_string(text),
            network.trunc()
        )),
    }
}

/// Reads an origin and writes it as browsers do: in lower case, and without the default port of its scheme.
pub(super) fn parse_origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let wrong = || {
        format!(
            "{} is not an origin such as https://example.org or http://192.168.1.5:8080, nor \"*\" for every origin",
            shown_string(text)
        )
    };
    let origin = text.to_ascii_lowercase();
    let (scheme, rest) = origin.split_once("://").ok_or_else(wrong)?;
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return Err(wrong()),
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            (host, Some(port.parse().ok().filter(|port: &u16| digits && *port > 0).ok_or_else(wrong)?))
        }
        _ => (rest, None),
    };
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match v6 {
        Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
        None => parse_host(host).is_ok(),
    };
    match (is_host, port.filter(|port| *port != default_port)) {
        (false, _) => Err(wrong()),
        (true, None) => Ok(format!("{scheme}://{host}")),
        (true, Some(port)) => Ok(format!("{scheme}://{host}:{port}")),
    }
}

/// Reads a host name and returns it in lower case.
pub(super) fn parse_host(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match !text.is_empty() && text.len() <= 253 && text.bytes().all(good) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!(
            "{} is not a host name such as birdbox.example.org, without a port",
            shown_string(text)
        )),
    }
}

/// Reads the path of a file. An empty text is no file.
pub(super) fn parse_path(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "" => Ok(None),
        _ if text.starts_with('/') => Ok(Some(PathBuf::from(text))),
        _ => Err(format!("{} must begin with a slash; a service has no current folder", shown_string(text))),
    }
}
