//! `/NAME/levels`: server-sent events with the levels and the state of an input.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::net::{SendFlags, send};
use serde::Serialize;

use super::not_found::not_found;
use crate::http::context::Context;
use crate::http::event_stream::Topic;
use crate::http::exchange::Exchange;
use crate::http::response::Response;
use crate::http::response_head::ResponseHead;
use crate::listeners::chunked::Chunk;
use crate::sys::host;

/// Subscribes the client to the events of the input `name`, or of the default input, at most one per `interval`.
pub(crate) fn serve(context: &Arc<Context>, exchange: Exchange, name: Option<&str>, interval: Duration) {
    let input = match name {
        Some(name) => context.input(name),
        None => context.inputs.all().into_iter().next(),
    };
    let Some(input) = input else { return not_found(context, exchange) };
    let chunked = exchange.takes_chunks();
    let mut head = ResponseHead::new(200)
        .with("Content-Type", "text/event-stream")
        .with("Cache-Control", "no-store, no-transform")
        .with("X-Content-Type-Options", "nosniff")
        // nginx would collect the events before it sends them on.
        .with("X-Accel-Buffering", "no")
        .with("Connection", "close");
    if chunked {
        head.push("Transfer-Encoding", "chunked");
    }
    head.add_cors(exchange.cors());
    if exchange.is_head() {
        return exchange.respond_with_head(&head);
    }
    let Some(admission) = context.subscribers.admit(context.settings.listeners().max) else {
        let why = format!("{} pages are open, no more can be.", context.subscribers.count());
        return exchange.respond(Response::unavailable(&why));
    };
    let Some(access) = context.recheck(&exchange) else {
        return exchange.respond(Response::unavailable("The access rules have changed meanwhile."));
    };
    let hello = hello(exchange.local_addr(), context.reachable.load(Ordering::Relaxed));
    let mut chunk = Chunk::new(hello.len());
    chunk.push(hello.as_bytes());
    let first = [&head.render(), chunk.bytes(chunked)].concat();
    let (socket, place) = exchange.into_stream();
    let topic = Topic { input: input.name.clone(), interval };
    let joined = context.subscribers.join(topic, socket, Box::new((admission, place)), chunked, first);
    if let Err(socket) = joined {
        let response = Response::unavailable("There is no thread left for the levels.").render_alone();
        // Without waiting: nothing was sent on this connection yet, so that the kernel has room.
        let _ = send(&socket, &response, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
    if !context.is_in_force(&access) {
        // The reload may have come before the subscription, which it has to end.
        context.subscribers.disconnect_all();
    }
}

/// Returns the first event of a subscription: the version, and the addresses under which other machines find this one.
///
/// `local` is the address to which the client connected. `reachable` is false for a daemon that listens on the loopback
/// alone, which other machines cannot reach.
fn hello(local: Option<SocketAddr>, reachable: bool) -> String {
    #[derive(Serialize)]
    struct Hello<'a> {
        version: &'a str,
        /// `NAME.local:PORT`, as mDNS has it.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// `ADDRESS:PORT`
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<String>,
    }
    let local = local.map(|local| SocketAddr::new(local.ip().to_canonical(), local.port()));
    let local = local.filter(|local| reachable || !local.ip().is_loopback());
    // A link-local address means nothing without the zone, which is another one on each machine.
    let is_for_this_machine =
        |ip: IpAddr| ip.is_loopback() || matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let address = local.and_then(|local| match is_for_this_machine(local.ip()) {
        true => host::reachable_addresses().into_iter().next().map(|ip| SocketAddr::new(ip, local.port())),
        false => Some(local),
    });
    let name = local.and_then(|local| Some(format!("{}:{}", host::local_name()?, local.port())));
    let hello = Hello {
        version: env!("CARGO_PKG_VERSION"),
        name,
        address: address.map(|address| address.to_string()),
    };
    // A struct of strings has no way to fail.
    let json = serde_json::to_string(&hello).unwrap_or_default();
    format!("retry: 1000\nevent: hello\ndata: {json}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_on_the_loopback_alone_has_no_address_for_others() {
        let local = Some("127.0.0.1:4410".parse().expect("an address"));
        let alone = hello(local, false);
        assert!(!alone.contains("address") && !alone.contains("name"), "{alone}");
        let lan = Some("[::ffff:192.168.1.20]:4410".parse().expect("an address"));
        assert!(hello(lan, true).contains("\"address\":\"192.168.1.20:4410\""));
        let link_local = Some("[fe80::1%2]:4410".parse().expect("an address"));
        assert!(!hello(link_local, true).contains("fe80"));
    }
}
