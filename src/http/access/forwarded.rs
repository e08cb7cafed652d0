//! The client's address behind the trusted proxies of the configuration.
//!
//! | header | who sends it |
//! |---|---|
//! | `X-Forwarded-For` | nearly every reverse proxy; each one appends the address that it was connected from |
//! | `Forwarded` | the same as a standard (RFC 7239) |
//! | `X-Real-IP` | nginx, by many recipes |
//! | `CF-Connecting-IP` | Cloudflare, also through its tunnel |
//!
//! Anybody can send these headers, so only those that a trusted proxy sends say something. A proxy usually
//! sets one of them and passes on the others as the client wrote them, and the daemon cannot know which one
//! is set. So every header that is present is a claim, and a client is served only if the access rules allow
//! each claim: a forged header can take rights away but adds none.

use std::net::IpAddr;

use super::host;

/// The headers by which a proxy describes the request that it forwards, as they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct ForwardingHeaders<'a> {
    /// All `X-Forwarded-For` lines in their order.
    pub(crate) x_forwarded_for: Vec<&'a str>,
    /// All `Forwarded` lines in their order.
    pub(crate) forwarded: Vec<&'a str>,
    /// All `X-Real-IP` lines.
    pub(crate) x_real_ip: Vec<&'a str>,
    /// All `CF-Connecting-IP` lines.
    pub(crate) cf_connecting_ip: Vec<&'a str>,
    /// The first `X-Forwarded-Proto`: `http` or `https`.
    pub(crate) x_forwarded_proto: Option<&'a str>,
    /// The first `X-Forwarded-Host`.
    pub(crate) x_forwarded_host: Option<&'a str>,
    /// The first `X-Forwarded-Port`.
    pub(crate) x_forwarded_port: Option<&'a str>,
    /// The first `X-Forwarded-Prefix`: the path below which the proxy serves this daemon.
    pub(crate) x_forwarded_prefix: Option<&'a str>,
    /// The first `X-Ingress-Path`: the same from Home Assistant.
    pub(crate) x_ingress_path: Option<&'a str>,
}

impl<'a> ForwardingHeaders<'a> {
    /// Keeps a header of a request if it is one of these. Takes any header, so that a caller can pass all of
    /// them.
    pub(crate) fn add(&mut self, name: &str, value: &'a str) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("X-Forwarded-For") {
            self.x_forwarded_for.push(value);
        } else if is("Forwarded") {
            self.forwarded.push(value);
        } else if is("X-Real-IP") {
            self.x_real_ip.push(value);
        } else if is("CF-Connecting-IP") {
            self.cf_connecting_ip.push(value);
        } else if is("X-Forwarded-Proto") {
            self.x_forwarded_proto.get_or_insert(value);
        } else if is("X-Forwarded-Host") {
            self.x_forwarded_host.get_or_insert(value);
        } else if is("X-Forwarded-Port") {
            self.x_forwarded_port.get_or_insert(value);
        } else if is("X-Forwarded-Prefix") {
            self.x_forwarded_prefix.get_or_insert(value);
        } else if is("X-Ingress-Path") {
            self.x_ingress_path.get_or_insert(value);
        }
    }

    /// Returns the name of a header that speaks of a client, if there is one. `Via` is none of them: a
    /// forward proxy in the client's own network sends it too.
    fn names_client(&self) -> Option<&'static str> {
        let present = [
            ("X-Forwarded-For", &self.x_forwarded_for),
            ("Forwarded", &self.forwarded),
            ("X-Real-IP", &self.x_real_ip),
            ("CF-Connecting-IP", &self.cf_connecting_ip),
        ];
        present.into_iter().find(|(_, lines)| !lines.is_empty()).map(|(name, _)| name)
    }
}

/// The way that a request took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The client connected itself.
    Direct,
    /// Trusted proxies passed it on and claim these client addresses; at least one. The first one identifies
    /// the client.
    Proxied(Vec<IpAddr>),
    /// A trusted proxy passed it on, with no client address that can be read.
    UnknownClient,
    /// A peer that is no trusted proxy sent this header.
    UntrustedProxy(&'static str),
}

impl Route {
    /// Returns the way of a request that `peer` (canonical) sent with these headers.
    pub(super) fn of(
        peer: IpAddr,
        headers: &ForwardingHeaders<'_>,
        is_proxy: impl Fn(IpAddr) -> bool,
    ) -> Route {
        match (is_proxy(peer), headers.names_client()) {
            (false, None) => return Route::Direct,
            (false, Some(name)) => return Route::UntrustedProxy(name),
            (true, None) => return Route::UnknownClient,
            (true, Some(_)) => {}
        }
        let mut claims: Vec<Option<IpAddr>> = Vec::new();
        if !headers.x_forwarded_for.is_empty() {
            let hops = headers.x_forwarded_for.iter().flat_map(|line| line.split(',')).map(address);
            claims.push(last_untrusted(hops, &is_proxy));
        }
        if !headers.forwarded.is_empty() {
            let hops = headers.forwarded.iter().flat_map(|line| elements(line));
            let hops = hops.map(|element| address(&parameter(element?, "for")?));
            claims.push(last_untrusted(hops.collect::<Vec<_>>().into_iter(), &is_proxy));
        }
        let single = headers.x_real_ip.iter().chain(&headers.cf_connecting_ip);
        claims.extend(single.map(|value| address(value)));
        match claims.into_iter().collect::<Option<Vec<_>>>() {
            Some(claims) if !claims.is_empty() => Route::Proxied(claims),
            _ => Route::UnknownClient,
        }
    }
}

/// Returns the client of a list to which each proxy appended the address that it was connected from: the last
/// one that is no trusted proxy. Everything before it may be the client's invention. If all are proxies, the
/// first one asks for itself. `None` where the list cannot be read that far.
fn last_untrusted(
    hops: impl DoubleEndedIterator<Item = Option<IpAddr>>,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut client = None;
    for hop in hops.rev() {
        let address = hop?;
        client = Some(address);
        if !is_proxy(address) {
            break;
        }
    }
    client
}

/// Reads an address as these headers have it: with or without port, brackets, quotes and zone.
fn address(text: &str) -> Option<IpAddr> {
    host::address(text.trim().trim_matches('"'))
}

/// Returns the value of a parameter of a `Forwarded` element: of `for` in
/// `for="[2001:db8::1]:99";proto=https`.
pub(crate) fn parameter(element: &str, name: &str) -> Option<String> {
    split_unquoted(element, ';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| unquoted(value.trim()))
    })
}

/// Returns the elements of a `Forwarded` line. A line whose last quotation does not end is one that cannot be read: a client
/// opens a quotation to hide the element that a proxy appends.
fn elements(line: &str) -> Vec<Option<&str>> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for char in line.chars() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
    }
    if is_quoted { vec![None] } else { split_unquoted(line, ',').map(Some).collect() }
}

/// Splits at each `separator` that is outside of a quoted string (RFC 9110 §5.6.4).
pub(crate) fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |char: char| {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => return char == separator && !is_quoted,
        }
        false
    })
}

/// Returns the text of a quoted string; any other text as it is.
fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut is_escaped = false;
    inner
        .chars()
        .filter(|char| {
            is_escaped = *char == '\\' && !is_escaped;
            !is_escaped
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The route of a request from `peer` where 127.0.0.1 is a trusted proxy.
    fn route(peer: &str, headers: &[(&str, &str)]) -> Route {
        let owned: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut forwarding = ForwardingHeaders::default();
        for (name, value) in &owned {
            forwarding.add(name, value);
        }
        Route::of(peer.parse().unwrap(), &forwarding, |ip| ip == IpAddr::from([127, 0, 0, 1]))
    }

    fn proxied(claims: &[&str]) -> Route {
        Route::Proxied(claims.iter().map(|claim| claim.parse().unwrap()).collect())
    }

    const XFF: &str = "x-forwarded-for";

    #[test]
    fn x_forwarded_for_is_read_from_its_end() {
        for (lines, client) in [
            (&["8.8.8.8"][..], "8.8.8.8"),
            (&["10.0.0.1, 8.8.8.8"], "8.8.8.8"),
            (&["10.0.0.1", "8.8.8.8"], "8.8.8.8"),
            (&["8.8.8.8, 127.0.0.1"], "8.8.8.8"),
            (&["unknown, 8.8.8.8"], "8.8.8.8"),
            (&["127.0.0.1"], "127.0.0.1"),
            (&["[2001:db8::1]:99"], "2001:db8::1"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["\"8.8.8.8:1234\""], "8.8.8.8"),
            (&["::ffff:8.8.8.8"], "8.8.8.8"),
        ] {
            let headers: Vec<_> = lines.iter().map(|line| (XFF, *line)).collect();
            assert_eq!(route("127.0.0.1", &headers), proxied(&[client]), "{lines:?}");
        }
    }

    #[test]
    fn other_headers_of_a_trusted_proxy_name_the_client_too() {
        for (name, value, client) in [
            ("X-Real-IP", "8.8.8.8", "8.8.8.8"),
            ("x-real-ip", "2001:db8::1", "2001:db8::1"),
            ("CF-Connecting-IP", "8.8.4.4", "8.8.4.4"),
            ("Forwarded", "for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("Forwarded", "For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("Forwarded", "for=10.0.0.1, for=198.51.100.17", "198.51.100.17"),
            ("Forwarded", "by=\"a,b;for=10.0.0.1\";for=198.51.100.17", "198.51.100.17"),
            ("Forwarded", "for=198.51.100.17;host=\"a\\\"b\", for=127.0.0.1", "198.51.100.17"),
        ] {
            assert_eq!(route("127.0.0.1", &[(name, value)]), proxied(&[client]), "{name}: {value}");
        }
    }

    #[test]
    fn every_header_is_a_claim() {
        let both = route("127.0.0.1", &[("X-Forwarded-For", "192.168.1.4"), ("X-Real-IP", "8.8.8.8")]);
        assert_eq!(both, proxied(&["192.168.1.4", "8.8.8.8"]));
        let twice = route("127.0.0.1", &[("X-Real-IP", "192.168.1.4"), ("X-Real-IP", "8.8.8.8")]);
        assert_eq!(twice, proxied(&["192.168.1.4", "8.8.8.8"]));
    }

    #[test]
    fn a_claim_that_cannot_be_read_leaves_the_client_unknown() {
        for (name, value) in [
            (XFF, "unknown"),
            (XFF, ""),
            (XFF, "8.8.8.8, garbage"),
            (XFF, "8.8.8.8, unknown, 127.0.0.1"),
            ("Forwarded", "for=unknown"),
            ("Forwarded", "for=_hidden"),
            ("Forwarded", "proto=https"),
            // The client has opened a quotation, so that what the proxy appended looks like a part of it.
            ("Forwarded", "for=192.168.1.4;x=\", for=8.8.8.8"),
            ("Forwarded", "for=192.168.1.4;x=\", for=\"[2001:db8::1]:4711\""),
            ("Forwarded", "for=192.168.1.4;x=\"\\, for=8.8.8.8"),
            ("X-Real-IP", ""),
            ("CF-Connecting-IP", "client"),
        ] {
            assert_eq!(route("127.0.0.1", &[(name, value)]), Route::UnknownClient, "{name}: {value}");
        }
        assert_eq!(route("127.0.0.1", &[]), Route::UnknownClient);
        let one_unknown = [(XFF, "192.168.1.4"), ("Forwarded", "for=unknown")];
        assert_eq!(route("127.0.0.1", &one_unknown), Route::UnknownClient);
    }

    #[test]
    fn only_a_trusted_proxy_may_speak_of_a_client() {
        for (name, shown) in [
            ("x-forwarded-for", "X-Forwarded-For"),
            ("FORWARDED", "Forwarded"),
            ("X-Real-Ip", "X-Real-IP"),
            ("cf-connecting-ip", "CF-Connecting-IP"),
        ] {
            for value in ["192.168.1.4", ""] {
                assert_eq!(route("192.168.1.9", &[(name, value)]), Route::UntrustedProxy(shown));
            }
        }
        for name in ["Via", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Ingress-Path"] {
            assert_eq!(route("192.168.1.9", &[(name, "1.1 squid")]), Route::Direct, "{name}");
        }
    }
}
