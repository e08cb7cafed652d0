//! The clients that listen, and how sound gets from a ring to their sockets.
//!
//! ```text
//!                    thread "listener"                      thread "fanout live"
//! reserve ─▶ start ─▶ catch up: head, burst, ──joins by────▶ send to all that keep up, ──▶ socket
//!                   past sound             ◀─leaves: slow, failed, ring closed─┘
//!                        └─▶ end
//! ```
//!
//! | | |
//! |---|---|
//! | [`list`] | who listens: admission, and the end of a connection |
//! | [`active_stream`] | a stream that is ready to start: the entry for `http` |
//! | [`stream`] | one listener's stream: its body, its place in the ring, its end |
//! | [`catch_up`] | what the thread of a listener does that is not at the live edge |
//! | [`fanout`] | the threads: one for all listeners of a ring that are, one for each of the others |
//! | [`batch`] | frames that go to many listeners |
//! | [`rota`] | the turns of the listeners in a fan-out |
//! | [`pacing`] | the interval at which a listener is sent data |
//! | [`slow`] | the policy for listeners that are too slow |
//! | [`chunked`] | HTTP chunk framing |
//! | [`own_encoder`] | the encoder of a listener that hears what no other listener hears |
//! | [`icy`] | titles between the bytes of MP3 |
//! | [`latency`] | the histogram of each listener's latency |
//!
//! A listener owns its socket: nothing follows a stream on its connection, and the end of the listener is the end of
//! the connection.

pub mod active_stream;
pub mod batch;
pub mod catch_up;
pub mod chunked;
pub mod fanout;
pub mod icy;
pub mod latency;
pub mod list;
pub mod own_encoder;
pub mod pacing;
pub mod rota;
pub mod slow;
pub mod stream;

use std::net::IpAddr;
use std::sync::Arc;

pub use self::active_stream::ActiveStream;
use self::fanout::Fanouts;
use self::list::List;
pub use self::list::{Admission, Admitted, Coding, Full, Listener, Place, Seat};
pub use self::own_encoder::OwnEncoder;
pub use self::stream::{Playback, Sound, StartAt, StreamSource};
use crate::settings::Settings;

/// All clients that listen.
pub struct Listeners {
    /// Settings that a reload replaces. Written by the main thread.
    pub settings: Arc<Settings>,
    list: Arc<List>,
    /// The threads that send to listeners at the live edge.
    fanouts: Arc<Fanouts>,
}

impl Listeners {
    /// Returns an empty list.
    pub fn new(settings: Arc<Settings>) -> Listeners {
        Listeners { settings, list: Arc::default(), fanouts: Arc::default() }
    }

    /// Returns the number of listeners. Takes no lock.
    pub fn count(&self) -> usize {
        self.list.count()
    }

    /// Returns all listeners, the longest listening first.
    pub fn all(&self) -> Vec<Arc<Listener>> {
        self.list.all()
    }

    /// Reserves a place for a listener of a client that is connected to the address `local` of this machine. It counts for each
    /// of its `addresses`: behind a proxy there may be several, and a forged one must not replace the true one.
    ///
    /// # Errors
    ///
    /// [`Full`], if one of the limits is reached.
    pub fn reserve(
        &self,
        limits: Admission,
        addresses: &[IpAddr],
        local: Option<IpAddr>,
    ) -> Result<Seat, Full> {
        self.list.reserve(limits, addresses, local)
    }
}

#[cfg(test)]
mod testing;
