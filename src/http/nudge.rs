//! Connections that tiny_http forgets are brought back to its mind.
//!
//! tiny_http 0.12 gives each connection to a thread of its pool, and starts a new one when it counts no idle
//! one. But it counts a thread as idle until that has woken up: of connections that come within those
//! microseconds, more are queued than there are threads for. A queued one waits until another connection
//! *ends*, and with endless streams that is never. (Of 100 players that connected at once, 4 to 97 heard
//! something.)
//!
//! Such a connection is known from outside by what nobody reads: its request lies in the kernel. What helps
//! is one more connection, which ends at once: its thread then looks into the queue.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::debug;

use super::sockets;

/// A request that lies unread for so long is forgotten: a thread that has it would have read it.
const PATIENCE: Duration = Duration::from_millis(10);
/// While there are connections that have not asked for anything yet, it is looked after this time: those that
/// came with a forgotten one may be slow to ask, or never do.
const ROUND: Duration = Duration::from_millis(200);
/// And after this time while there are none.
const IDLE_ROUND: Duration = Duration::from_millis(700);
/// And so much longer than a look takes: with thousands of connections it is not for nothing.
const LEISURE: u32 = 200;

/// Starts a thread that looks after connections to that address of ours whenever it is told that a request
/// came, until nobody can tell it any more. `served` says whether a peer has a handler already.
pub(super) fn start(
    address: SocketAddr,
    asked: Receiver<()>,
    served: impl Fn(&SocketAddr) -> bool + Send + 'static,
) -> io::Result<()> {
    thread::Builder::new().name("nudge".to_owned()).stack_size(64 * 1024).spawn(move || {
        // All that have no handler; and of those, whose request nobody reads.
        let look = || -> (usize, Vec<SocketAddr>) {
            let mut accepted = sockets::accepted(address.port());
            accepted.retain(|socket| !served(&socket.peer));
            let unread = accepted.iter().filter(|socket| socket.unread);
            (accepted.len(), unread.map(|socket| socket.peer).collect())
        };
        let mut round = ROUND;
        while asked.recv_timeout(round) != Err(RecvTimeoutError::Disconnected) {
            let began = Instant::now();
            let (mut strangers, mut suspects) = look();
            let took = began.elapsed();
            while !suspects.is_empty() {
                thread::sleep(PATIENCE);
                let (strangers_now, now) = look();
                for peer in suspects.iter().filter(|peer| now.contains(peer)) {
                    debug!("{peer}: its request was left lying");
                    nudge(address);
                }
                (strangers, suspects) = (strangers_now, now);
            }
            round = if strangers > 0 { ROUND } else { IDLE_ROUND }.max(took * LEISURE);
        }
    })?;
    Ok(())
}

/// Connects and ends at once.
pub(super) fn nudge(address: SocketAddr) {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    // The end of what it sends is what makes the kernel hand it over. An error means that nothing can be
    // reached there now; then nothing is waiting either.
    if let Ok(socket) = TcpStream::connect_timeout(&(ip, address.port()).into(), Duration::from_secs(1)) {
        let _ = socket.shutdown(Shutdown::Write);
    }
}
