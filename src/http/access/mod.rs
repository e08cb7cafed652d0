//! The access rules: may this request listen?
//!
//! | checked | reason |
//! |---|---|
//! | the client's address | by default only the local network hears a microphone; see [`forwarded`] for clients behind a proxy |
//! | the `Host` header | DNS rebinding; see [`host`] |
//! | user and password, or a token | where the configuration has a password file; see [`passwords`] and [`tokens`] |
//!
//! [`cors`] says which pages from elsewhere may read the responses. It grants nobody access.
//!
//! The rules are immutable: a reload builds new ones. Then [`Access::recheck`] tells which of the connected
//! listeners the new rules still allow.

pub(crate) mod basic_auth;
pub(crate) mod cors;
pub mod credential_file;
pub(crate) mod forwarded;
mod host;
pub mod passwords;
pub mod tokens;

use std::net::IpAddr;

use ipnet::IpNet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::basic_auth::Credentials;
use self::cors::Cors;
use self::forwarded::{ForwardingHeaders, Route};
use self::passwords::{LookUp, Passwords};
use self::tokens::Token;
use crate::config::{self, Network};
use crate::sys::client_key::ClientKey;

/// The access rules of a configuration.
pub struct Access {
    config: config::Access,
    passwords: Option<Passwords>,
    /// This machine's name in lower case, with and without its domain.
    names: Vec<String>,
    own_addresses: OwnAddresses,
}

/// The parts of a request that decide about access.
#[derive(Clone, Debug)]
pub(crate) struct RequestFacts<'a> {
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// The server's own address of the connection, where it is known.
    pub(crate) local: Option<IpAddr>,
    /// `Host`
    pub(crate) host: Option<&'a str>,
    /// All headers that proxies add.
    pub(crate) forwarding: ForwardingHeaders<'a>,
    /// `Authorization`
    pub(crate) authorization: Option<&'a str>,
    /// `token=` of the query
    pub(crate) token: Option<Token>,
}

/// The decision about a request that is not refused.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The request may be answered. Holds the client's address.
    Allowed(IpAddr),
    /// The password has to be hashed first, by [`Access::verify_slow`].
    NeedsHash(PendingPassword),
}

/// A password that has to be hashed before a request may be answered.
#[derive(Debug)]
pub(crate) struct PendingPassword {
    client: IpAddr,
    credentials: Credentials,
}

/// The reason why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No rule allows this address.
    Address(IpAddr),
    /// This peer is no trusted proxy and sent this header of proxies.
    UntrustedProxy(IpAddr, &'static str),
    /// This trusted proxy does not say for which client it asks, and the rules do not allow everybody.
    UnknownClient(IpAddr),
    /// The `Host` header names another machine.
    Host(String),
    /// There is no password, or it is wrong.
    Password,
    /// The token is wrong, and there is no password.
    Token,
    /// The client tried too many passwords or tokens.
    TooManyTries,
}

impl Access {
    /// Reads the password file and returns the rules of a configuration.
    ///
    /// # Errors
    ///
    /// A sentence with file and line, when the password file cannot be read or has mistakes.
    pub fn new(config: &config::Access) -> Result<Access, String> {
        let passwords = config.passwords.as_deref().map(Passwords::load).transpose()?;
        let names = crate::sys::host::names();
        Ok(Access {
            config: config.clone(),
            passwords,
            names,
            own_addresses: OwnAddresses::new(crate::sys::host::own_addresses),
        })
    }

    /// Returns all addresses that the client of a request may have, at least one: behind a trusted proxy, those that its
    /// headers claim.
    pub(crate) fn claims(&self, facts: &RequestFacts<'_>) -> Vec<IpAddr> {
        self.client(facts).map_or_else(|_| vec![facts.peer.to_canonical()], |client| client.claims)
    }

    /// Returns `true` if a client whom `old` let in by a password or a token might not be let in now: passwords are new, or
    /// an entry is gone.
    pub(crate) fn narrows_credentials(&self, old: &Access) -> bool {
        match (&self.passwords, &old.passwords) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(new), Some(old)) => !new.has_all_of(old),
        }
    }

    /// Returns the CORS headers of the response to a request with this `Origin`.
    pub(crate) fn cors(&self, origin: Option<&str>) -> Cors {
        Cors::of(&self.config.cors, origin)
    }

    /// Returns the origins whose pages may show this daemon's page in a frame.
    pub(crate) fn frames(&self) -> &[String] {
        &self.config.frames
    }

    /// Decides about a request. Takes microseconds and never hashes a password.
    ///
    /// # Errors
    ///
    /// The reason of a refusal.
    pub(crate) fn check(&self, facts: &RequestFacts<'_>) -> Result<Verdict, Refusal> {
        let client = self.client(facts)?;
        let Some(passwords) = &self.passwords else { return Ok(Verdict::Allowed(client.address())) };
        // A right token is not held up by a guesser at the same address: 128 bits cannot be guessed.
        if facts.token.as_ref().is_some_and(|token| passwords.has_token(token)) {
            return Ok(Verdict::Allowed(client.address()));
        }
        // A proxy's client is not on the link of the proxy's connection.
        let local = facts.local.filter(|_| client.is_direct);
        let keys: Vec<_> = client.claims.iter().map(|claim| ClientKey::of(*claim, local)).collect();
        // A right password counts also beside a token that was removed: a browser adds it to the address that it has.
        let Some(credentials) = facts.authorization.and_then(Credentials::parse) else {
            return Err(match facts.token {
                None => Refusal::Password,
                Some(_) if passwords.take_tries(&keys) => Refusal::Token,
                Some(_) => Refusal::TooManyTries,
            });
        };
        match passwords.look_up(&credentials, &keys) {
            LookUp::Right => Ok(Verdict::Allowed(client.address())),
            LookUp::TooManyTries => Err(Refusal::TooManyTries),
            LookUp::NeedsHash => {
                Ok(Verdict::NeedsHash(PendingPassword { client: client.address(), credentials }))
            }
        }
    }

    /// Hashes the password of a request and returns the client's address if it is right.
    ///
    /// Takes 50 ms to a second and 12 MiB, so it belongs on one thread of its own with a bounded queue.
    ///
    /// # Errors
    ///
    /// [`Refusal::Password`].
    pub(crate) fn verify_slow(&self, pending: &PendingPassword) -> Result<IpAddr, Refusal> {
        match &self.passwords {
            Some(passwords) if !passwords.verify(&pending.credentials) => Err(Refusal::Password),
            _ => Ok(pending.client),
        }
    }

    /// Decides about a request by address and `Host` alone: for a preflight request, which never carries a
    /// password.
    ///
    /// # Errors
    ///
    /// The reason of a refusal.
    pub(crate) fn admit(&self, facts: &RequestFacts<'_>) -> Result<IpAddr, Refusal> {
        self.client(facts).map(|client| client.address())
    }

    /// Returns `true` if the address rules allow a client that listens already. `local` is the server's own
    /// address of the connection.
    pub fn recheck(&self, client: IpAddr, local: Option<IpAddr>) -> bool {
        let client = client.to_canonical();
        match self.is_proxy(client) {
            true => self.allows_unknown(client),
            false => self.allows(client, local),
        }
    }

    /// Returns the networks of the trusted proxies.
    pub(crate) fn trusted_proxies(&self) -> &[IpNet] {
        &self.config.trusted_proxies
    }

    /// Returns `true` if a trusted proxy of the configuration has this address.
    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.config.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// Returns the text of the response to a refused request: the reason, and the line of the configuration
    /// that would change it.
    pub(crate) fn explain(&self, refusal: &Refusal) -> String {
        match refusal {
            Refusal::Address(client) => format!(
                "{client} may not listen here. The owner can allow this address by a line below [access] in the \
                 configuration: allow = [{}\"{client}\"]",
                if self.config.allow == [Network::Local] { "\"local\", " } else { "..., " }
            ),
            Refusal::UntrustedProxy(peer, header) => format!(
                "The request came through a proxy at {peer} that is not trusted: it has the header {header}. The owner \
                 can trust the proxy by a line below [access] in the configuration: trusted_proxies = [{}\"{peer}\"]",
                if self.config.trusted_proxies.is_empty() { "" } else { "..., " }
            ),
            Refusal::UnknownClient(proxy) => format!(
                "The trusted proxy {proxy} does not say which client asks. The owner can configure the proxy to send \
                 the client's address in X-Forwarded-For, or allow everybody behind it by a line below [access] in \
                 the configuration: allow = [{}\"{proxy}\"]",
                if self.config.allow == [Network::Local] { "\"local\", " } else { "..., " }
            ),
            Refusal::Host(host) => {
                let host: String = host.chars().filter(|char| !char.is_control()).take(100).collect();
                format!("{host:?} is not known as a name of this machine: [access] hosts may name it.")
            }
            Refusal::Password => "This needs a user and a password.".to_owned(),
            Refusal::Token => "The token in the address is wrong, or was removed.".to_owned(),
            Refusal::TooManyTries => "Too many passwords were tried.".to_owned(),
        }
    }

    /// Reads headers as a fuzzer sends them, as if a trusted proxy had.
    #[cfg(fuzzing)]
    pub fn fuzz(&self, host: &str, forwarded: &str, authorization: &str) {
        let mut forwarding = ForwardingHeaders::default();
        for name in ["X-Forwarded-For", "Forwarded", "X-Real-IP"] {
            forwarding.add(name, forwarded);
        }
        let facts = RequestFacts {
            peer: IpAddr::from([127, 0, 0, 1]),
            local: None,
            host: Some(host),
            forwarding,
            authorization: Some(authorization),
            token: Some(Token::of(authorization.to_owned())),
        };
        if let Err(refusal) = self.check(&facts) {
            let _ = self.explain(&refusal);
        }
        let _ = Credentials::parse(authorization);
    }

    /// Returns the client of a request that address and `Host` allow.
    fn client(&self, facts: &RequestFacts<'_>) -> Result<Client, Refusal> {
        let peer = facts.peer.to_canonical();
        let client = match Route::of(peer, &facts.forwarding, |ip| self.is_proxy(ip)) {
            Route::Direct if !self.allows(peer, facts.local) => return Err(Refusal::Address(peer)),
            Route::Direct => Client { claims: vec![peer], is_direct: true },
            Route::Proxied(claims) => match claims.iter().find(|claim| !self.allows(**claim, None)) {
                Some(refused) => return Err(Refusal::Address(*refused)),
                None => Client { claims, is_direct: false },
            },
            Route::UnknownClient if !self.allows_unknown(peer) => return Err(Refusal::UnknownClient(peer)),
            Route::UnknownClient => Client { claims: vec![peer], is_direct: false },
            Route::UntrustedProxy(header) => return Err(Refusal::UntrustedProxy(peer, header)),
        };
        // A player that sends no Host (HTTP/1.0) is no browser, and only a browser can be led astray by a
        // page.
        match facts.host {
            Some(host) if !host::is_ours(host, &self.names, &self.config.hosts) => {
                Err(Refusal::Host(host.to_owned()))
            }
            _ => Ok(client),
        }
    }

    /// Returns `true` if a rule allows a client whose address is known. `local` is the server's own address
    /// of the connection, if the client connected itself.
    fn allows(&self, client: IpAddr, local: Option<IpAddr>) -> bool {
        self.config.allow.iter().any(|network| match network {
            Network::Any => true,
            Network::Net(network) => network.contains(&client),
            Network::Local => {
                let local = local.map(|local| local.to_canonical());
                is_private(client)
                    || is_on_link(client, local)
                    || local == Some(client)
                    || self.own_addresses.contain(client)
            }
        })
    }

    /// Returns `true` if the rules allow whoever is behind a proxy that does not name its clients: `any`, and
    /// the address of exactly this proxy. `local` does not, and a network that happens to contain the proxy
    /// does not.
    fn allows_unknown(&self, proxy: IpAddr) -> bool {
        self.config.allow.iter().any(|network| match network {
            Network::Any => true,
            Network::Net(network) => {
                network.prefix_len() == network.max_prefix_len() && network.contains(&proxy)
            }
            Network::Local => false,
        })
    }
}

/// The client of one request.
struct Client {
    /// Addresses that the client may have, never none. The first one identifies it.
    claims: Vec<IpAddr>,
    is_direct: bool,
}

impl Client {
    fn address(&self) -> IpAddr {
        self.claims[0]
    }
}

/// This machine's own addresses. They change with DHCP and with cables, so they are read again from time to
/// time, and only for a client that no other rule allows.
struct OwnAddresses {
    read: fn() -> Vec<IpAddr>,
    /// The copy, and the time at which it was read. No other lock is taken while this one is held.
    copy: Mutex<Option<(Instant, Vec<IpAddr>)>>,
}

impl OwnAddresses {
    /// Time for which a copy is used. Without it, each refused request would ask the kernel.
    const MAX_AGE: Duration = Duration::from_secs(10);

    fn new(read: fn() -> Vec<IpAddr>) -> OwnAddresses {
        OwnAddresses { read, copy: Mutex::new(None) }
    }

    fn contain(&self, address: IpAddr) -> bool {
        let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = copy.take().filter(|(read_at, _)| read_at.elapsed() < Self::MAX_AGE);
        let (_, addresses) = copy.insert(fresh.unwrap_or_else(|| (Instant::now(), (self.read)())));
        addresses.contains(&address)
    }
}

/// Returns `true` for private (RFC 1918, RFC 4193), link-local and loopback addresses.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

/// Returns `true` for an IPv6 address of the same link as the server's: at home those are global addresses,
/// and phones prefer them. The prefix of an IPv4 network is not known here.
fn is_on_link(client: IpAddr, local: Option<IpAddr>) -> bool {
    match (client, local) {
        (IpAddr::V6(client), Some(IpAddr::V6(local))) => client.segments()[..4] == local.segments()[..4],
        _ => false,
    }
}

#[cfg(test)]
mod tests;
