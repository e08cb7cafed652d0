//! The HTTP server: the gate, and behind it the router.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use super::context::Context;
use super::exchange::Exchange;
use super::gate::{Gate, ListenerId, Policy};
use super::router;

/// A running server. There is one in the process, for any number of listening sockets.
pub struct Server {
    gate: Gate,
    context: Arc<Context>,
}

impl Server {
    /// Starts the threads of the server, without a listening socket.
    ///
    /// # Errors
    ///
    /// The operating system gives no thread or descriptor.
    pub fn start(context: Arc<Context>) -> io::Result<Server> {
        let shared = Arc::clone(&context);
        let gate = Gate::start(policy(&context), context.refusals.clone(), move |request, connection| {
            router::route(&shared, Exchange::new(request, connection));
        })?;
        Ok(Server { gate, context })
    }

    /// Accepts connections on a socket that [`listen`](super::gate::listen) bound or prepared.
    ///
    /// # Errors
    ///
    /// The operating system cannot wait for the socket.
    pub fn open(&self, listener: TcpListener) -> io::Result<ListenerId> {
        self.gate.open(listener)
    }

    /// Closes that listening socket, and ends its connections that are between two requests; streams go on. On return the
    /// address is free.
    pub fn close(&self, id: ListenerId) {
        self.gate.close(id);
    }

    /// Accepts no more connections on that socket. New connections wait in it for the next process that has it.
    pub fn hand_over(&self, id: ListenerId) {
        self.gate.hand_over(id);
    }

    /// Returns `true` if no request is being answered, and no client has just connected to send one.
    pub fn is_idle(&self) -> bool {
        self.gate.is_idle()
    }

    /// Puts the limits and trusted proxies of the context in force, after a reload.
    pub fn apply_settings(&self) {
        self.gate.set_policy(policy(&self.context));
    }

    /// Returns a number that grows while the gate works, for the watchdog.
    pub fn heartbeats(&self) -> u64 {
        self.gate.heartbeats()
    }
}

fn policy(context: &Context) -> Policy {
    Policy {
        limits: context.settings.limits().as_ref().clone(),
        trusted_proxies: context.access().trusted_proxies().to_vec(),
    }
}
