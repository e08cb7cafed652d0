//! From one configuration to the next: the order of the steps, and the listeners that may stay.
//!
//! # Order
//!
//! At no time may a client hear what neither the old nor the new configuration lets it hear. So the steps of a reload are:
//!
//! 1. Pushes that are removed or change are stopped. Inputs that are removed are taken off the air, and inputs that change are
//!    stopped.
//! 2. The new access rules apply, and listeners that they do not allow are disconnected.
//! 3. New and changed inputs start, and then new and changed pushes.
//!
//! The rules of the old configuration thus only ever meet its own inputs, and those of the new one theirs. The ring of an
//! input that keeps its name stays, with its history, since its listeners stay.

use log::{info, warn};

use super::memory::Memory;
use super::preflight;
use super::running::InputPlan;
use super::state::Daemon;
use crate::capture::devices::SystemPaths;
use crate::config::{Config, Network};
use crate::http::access::Access;
use crate::listeners::Listener;

impl Daemon {
    /// Changes to a new configuration. Only what differs is changed; inputs and sockets that stay are not touched.
    pub(super) fn reload(&mut self, old: &Config, new: &Config, access: Access) {
        let memory = Memory::for_histories(&SystemPaths::default(), self.inputs.ring_bytes());
        let plan = InputPlan::new(new, memory, &self.inputs.shortened());
        let (limits, listeners) = self.capacity.clamp(&new.limits, &new.listeners);
        self.pushes.stop(new);
        let stopped = self.inputs.stop(&plan);
        self.context.settings.set_limits(limits);
        self.context.settings.set_encoders(new.encoders.clone());
        self.context.settings.set_listeners(listeners);
        self.set_access(access, old, new);
        self.listening.apply_settings();
        self.inputs.start(plan, stopped, new);
        self.pushes.start(new);
        self.listening.reload(&new.http.listen, &self.service);
        self.listening.log_urls(&new.inputs[0].name);
        if old.log != new.log {
            warn!("the log filter changes at the next start");
        }
        info!("the configuration was read again");
        log_warnings(new);
    }

    /// Applies the access rules of `new`, and disconnects the listeners that they do not allow. A request that was allowed by
    /// the old rules and waits, for a card or a password check, is [checked again](crate::http::context::Context::recheck).
    fn set_access(&mut self, access: Access, old: &Config, new: &Config) {
        let passwords_changed = access.narrows_credentials(&self.context.access());
        let (old, new) = (&old.access, &new.access);
        let addresses_changed = old.allow != new.allow || old.trusted_proxies != new.trusted_proxies;
        self.context.set_access(access);
        let access = self.context.access();
        let (mut cut, mut count) = (Vec::new(), 0);
        for listener in self.context.listeners.all() {
            // The other addresses that a listener behind a proxy claimed are not known any more.
            let is_unknown = addresses_changed && is_proxied(&listener);
            if passwords_changed || is_unknown || !may_listen(&access, &listener) {
                listener.cut();
                count += 1;
                cut.push(listener.ip().to_string());
            }
        }
        if passwords_changed || old != new {
            // The pages connect again, as far as they may.
            self.context.subscribers.disconnect_all();
        }
        cut.sort();
        cut.dedup();
        if count > 0 {
            let reason = match passwords_changed {
                true => "since the passwords or tokens have changed",
                false => "since [access] allow does not name them",
            };
            let listeners = if count == 1 { "1 listener was" } else { &format!("{count} listeners were") };
            info!("{listeners} disconnected, {reason}: {}", cut.join(", "));
        }
    }
}

/// Returns `true` if a listener came through a proxy: its own address is not that of the connection.
fn is_proxied(listener: &Listener) -> bool {
    let peer = listener.socket().peer_addr().map(|peer| peer.ip().to_canonical());
    peer.is_ok_and(|peer| peer != listener.ip())
}

/// Returns `true` if the address rules of `access` allow a connected listener.
fn may_listen(access: &Access, listener: &Listener) -> bool {
    let local = listener.socket().local_addr().ok().map(|address| address.ip());
    access.recheck(listener.ip(), local)
}

/// Logs conditions of a configuration that its owner should know of.
pub(super) fn log_warnings(config: &Config) {
    if config.access.passwords.is_none() && config.access.allow.contains(&Network::Any) {
        warn!("everybody who can reach this machine may listen, from anywhere: [access] allow has \"any\"");
    }
    if let Some(problem) = preflight::exposed_passwords(config, &SystemPaths::default()) {
        warn!("{problem}");
    }
    if let Some(problem) = preflight::public_networks(config, &SystemPaths::default()) {
        warn!("{problem}");
    }
    for problem in preflight::shared_cards(&config.inputs, &SystemPaths::default()) {
        warn!("{problem}");
    }
    for problem in preflight::push_warnings(config, &SystemPaths::default()) {
        warn!("{problem}");
    }
}
