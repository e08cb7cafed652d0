//! The rules of the gate, as the configuration gives them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::limits::{Places, Rate};
use crate::config::Limits;

/// The rules of the gate. A reload of the configuration replaces them.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Table `[limits]`.
    pub limits: Limits,
    /// `trusted_proxies`: networks whose connections have no limit per client.
    pub trusted_proxies: Vec<IpNet>,
}

impl Policy {
    /// Returns the bucket of each client that has one.
    pub(super) fn rate(&self) -> Rate {
        let Limits { requests_per_second, request_burst, .. } = &self.limits;
        Rate { per_second: f64::from(*requests_per_second), burst: f64::from(*request_burst) }
    }

    /// Returns the limits of a new connection.
    pub(super) fn places(&self, ip: IpAddr) -> Places {
        let per_client = match self.is_trusted_proxy(ip) {
            true => usize::MAX,
            false => self.limits.connections_per_address.of(ip),
        };
        let rate = (!self.has_free_requests(ip)).then(|| self.rate());
        Places { total: self.limits.connections as usize, per_client, rate }
    }

    /// Returns `true` for a client without a bucket: a trusted proxy, this machine itself, and a client that
    /// may have any number of connections.
    pub(super) fn has_free_requests(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        // Players and proxies on this machine share the loopback address.
        let is_itself = ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST;
        is_itself || self.limits.connections_per_address.of(ip) == usize::MAX || self.is_trusted_proxy(ip)
    }

    fn is_trusted_proxy(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&ip))
    }
}
