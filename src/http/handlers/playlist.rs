//! Playlists: `/NAME.m3u` and `/NAME.pls`, for players that rather open a file.
//!
//! An M3U names the stream by a relative address, which is right behind every proxy. PLS has no relative
//! addresses, so a PLS is made from the [`Origin`] under which the client reached this daemon.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::not_found::not_found;
use crate::encode::Codec;
use crate::http::access::RequestFacts;
use crate::http::access::forwarded::{parameter, split_unquoted};
use crate::http::context::Context;
use crate::http::exchange::Exchange;
use crate::http::response::Response;

/// The address under which a client reaches this daemon: what precedes `/live.wav`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host, with a port where it is not the usual one of the scheme.
    pub host: String,
    /// The path below which a proxy serves this daemon: empty, or with a slash at its beginning and none at
    /// its end.
    pub prefix: String,
}

impl Origin {
    /// Returns the origin of a request that came to the address `local`.
    ///
    /// The headers of proxies count only where `is_trusted`: the peer is a trusted proxy. Without a usable
    /// name the origin is `local` itself, which the client has just reached.
    pub(crate) fn of(facts: &RequestFacts<'_>, local: SocketAddr, is_trusted: bool) -> Origin {
        let direct = Origin {
            scheme: "http",
            host: facts.host.filter(|host| is_host(host)).map_or_else(|| shown(local), str::to_owned),
            prefix: String::new(),
        };
        if !is_trusted {
            return direct;
        }
        let headers = &facts.forwarding;
        // The first element is the client's own connection, the others are those between the proxies.
        let element = headers.forwarded.iter().flat_map(|line| split_unquoted(line, ',')).next();
        let element = |name| element.and_then(|element| parameter(element, name));
        let first = |value: Option<&str>| Some(value?.split(',').next()?.trim().to_owned());

        let scheme = first(headers.x_forwarded_proto).or_else(|| element("proto")).unwrap_or_default();
        let scheme = if scheme.eq_ignore_ascii_case("https") { "https" } else { "http" };
        let host = first(headers.x_forwarded_host).or_else(|| element("host"));
        let mut host = host.filter(|host| is_host(host)).unwrap_or(direct.host);
        // A port that is usual for either scheme is often the one between two proxies.
        let port = first(headers.x_forwarded_port).and_then(|port| port.parse().ok());
        if let Some(port) = port.filter(|port: &u16| !has_port(&host) && ![0, 80, 443].contains(port)) {
            host = format!("{host}:{port}");
        }
        let prefix = [headers.x_forwarded_prefix, headers.x_ingress_path].into_iter().flatten();
        let prefix =
            prefix.map(|prefix| prefix.trim().trim_end_matches('/')).find(|prefix| is_prefix(prefix));
        Origin { scheme, host, prefix: prefix.unwrap_or_default().to_owned() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.host, self.prefix)
    }
}

/// Answers `/NAME.m3u`.
pub(crate) fn serve_m3u(context: &Context, exchange: Exchange, name: &str, codec: Option<Codec>) {
    match context.input(name) {
        Some(input) => {
            let names = context.inputs.names();
            let list = m3u(&file(&input.name, codec), names.title(&input.name), &query(&exchange));
            exchange.respond(Response::playlist("audio/x-mpegurl", list));
        }
        None => not_found(context, exchange),
    }
}

/// Answers `/NAME.pls`.
pub(crate) fn serve_pls(context: &Context, exchange: Exchange, name: &str, codec: Option<Codec>) {
    let Some(input) = context.input(name) else { return not_found(context, exchange) };
    let facts = exchange.facts();
    let local = exchange.local_addr().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 80)));
    let origin = Origin::of(&facts, local, context.access().is_proxy(facts.peer));
    let names = context.inputs.names();
    let list = pls(&origin, &file(&input.name, codec), names.title(&input.name), &query(&exchange));
    exchange.respond(Response::playlist("audio/x-scpls", list));
}

/// Returns `?token=…` for the address in a playlist that was itself asked for with a token; else nothing.
fn query(exchange: &Exchange) -> String {
    let token = exchange.token().and_then(|token| token.query());
    token.map(|token| format!("?{token}")).unwrap_or_default()
}

/// Returns the last part of the stream's address.
fn file(name: &str, codec: Option<Codec>) -> String {
    format!("{name}.{}", codec.map_or("wav", Codec::name))
}

/// Returns the text of `/NAME.m3u`. `file` is the last part of the stream's address, `title` is one line, `query` that of the stream's address with its question mark.
pub fn m3u(file: &str, title: &str, query: &str) -> String {
    format!("#EXTM3U\n#EXTINF:-1,{title}\n{file}{query}\n")
}

/// Returns the text of `/NAME.pls`. `file` is the last part of the stream's address, `title` is one line, `query` that of the stream's address with its question mark.
pub fn pls(origin: &Origin, file: &str, title: &str, query: &str) -> String {
    format!(
        "[playlist]\nNumberOfEntries=1\nFile1={origin}/{file}{query}\nTitle1={title}\nLength1=-1\nVersion=2\n"
    )
}

/// Returns `true` for what can stand in an address as a host with or without a port. Nothing else that a
/// client sends may come back in a file.
fn is_host(host: &str) -> bool {
    // A percent sign begins the zone of an IPv6 address; in a name it would hide other characters.
    let others: &[u8] = if host.starts_with('[') { b".-_:[]%" } else { b".-_:" };
    !host.is_empty()
        && host.len() <= 255
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
}

/// Returns `true` for a path with a slash at its beginning that can stand in an address as it is.
fn is_prefix(path: &str) -> bool {
    path.starts_with('/')
        // Two slashes would begin another host.
        && !path.starts_with("//")
        && path.len() <= 255
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.-_~%".contains(&byte))
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns an address of this machine as it stands in a URL, without the port that is usual.
fn shown(local: SocketAddr) -> String {
    let host = match local.ip().to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    match local.port() {
        80 => host,
        port => format!("{host}:{port}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http::access::forwarded::ForwardingHeaders;

    /// The origin of a request to 192.168.1.5:4410 with these headers.
    fn origin(headers: &[(&'static str, &'static str)], is_trusted: bool) -> String {
        let mut facts = RequestFacts {
            peer: IpAddr::from([127, 0, 0, 1]),
            local: None,
            host: None,
            forwarding: ForwardingHeaders::default(),
            authorization: None,
            token: None,
        };
        for (name, value) in headers {
            match *name {
                "Host" => facts.host = Some(value),
                _ => facts.forwarding.add(name, value),
            }
        }
        Origin::of(&facts, "[::ffff:192.168.1.5]:4410".parse().unwrap(), is_trusted).to_string()
    }

    #[test]
    fn the_origin_is_the_host_that_the_client_asked_or_the_address_that_it_reached() {
        for (headers, expected) in [
            (&[("Host", "pi.local:4410")][..], "http://pi.local:4410"),
            (&[("Host", "[fe80::1%eth0]:80")], "http://[fe80::1%eth0]:80"),
            (&[("Host", "pi/evil")], "http://192.168.1.5:4410"),
            (&[("Host", "")], "http://192.168.1.5:4410"),
            (&[("Host", "p%69")], "http://192.168.1.5:4410"),
            (&[], "http://192.168.1.5:4410"),
            (&[("Host", "pi"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Prefix", "/a")], "http://pi"),
        ] {
            assert_eq!(origin(headers, false), expected, "{headers:?}");
        }
        assert_eq!(shown("[fd00::1]:80".parse().unwrap()), "[fd00::1]");
    }

    #[test]
    fn a_trusted_proxy_says_how_the_client_reached_it() {
        for (headers, expected) in [
            (&[("Host", "example.org"), ("X-Forwarded-Proto", "https")][..], "https://example.org"),
            (&[("Host", "a"), ("X-Forwarded-Proto", "HTTPS, http")], "https://a"),
            (&[("Host", "a"), ("X-Forwarded-Proto", "gopher")], "http://a"),
            (&[("Host", "127.0.0.1:4410"), ("X-Forwarded-Host", "example.org")], "http://example.org"),
            (&[("X-Forwarded-Host", "a.example, b.example")], "http://a.example"),
            (&[("Host", "a"), ("X-Forwarded-Host", "evil/\"")], "http://a"),
            (
                &[("Host", "a"), ("X-Forwarded-Port", "8443"), ("X-Forwarded-Proto", "https")],
                "https://a:8443",
            ),
            (&[("Host", "a:8443"), ("X-Forwarded-Port", "444")], "http://a:8443"),
            (&[("Host", "[::1]"), ("X-Forwarded-Port", "8080")], "http://[::1]:8080"),
            (&[("Host", "a"), ("X-Forwarded-Port", "443"), ("X-Forwarded-Proto", "https")], "https://a"),
            (&[("Host", "a"), ("X-Forwarded-Port", "80"), ("X-Forwarded-Proto", "https")], "https://a"),
            (&[("Host", "a"), ("X-Forwarded-Port", "99999")], "http://a"),
            (&[("Host", "a"), ("X-Forwarded-Prefix", "/audio/")], "http://a/audio"),
            (&[("Host", "a"), ("X-Forwarded-Prefix", "/")], "http://a"),
            (&[("Host", "a"), ("X-Forwarded-Prefix", "//evil.example")], "http://a"),
            (&[("Host", "a"), ("X-Forwarded-Prefix", "/a\nFile2=b")], "http://a"),
            (
                &[("Host", "a"), ("X-Ingress-Path", "/api/hassio_ingress/x_Y-1")],
                "http://a/api/hassio_ingress/x_Y-1",
            ),
            (
                &[("Forwarded", "for=1.2.3.4;host=\"example.org:8443\";proto=https, for=b;proto=http")],
                "https://example.org:8443",
            ),
        ] {
            assert_eq!(origin(headers, true), expected, "{headers:?}");
        }
    }

    #[test]
    fn playlists_name_the_endless_stream() {
        assert_eq!(m3u("live.wav", "Living room", ""), "#EXTM3U\n#EXTINF:-1,Living room\nlive.wav\n");
        let origin = Origin { scheme: "https", host: "pi".to_owned(), prefix: "/audio".to_owned() };
        let list = pls(&origin, "live.mp3", "Living room", "?token=a");
        assert!(list.contains("\nFile1=https://pi/audio/live.mp3?token=a\nTitle1=Living room\n"), "{list}");
    }
}
