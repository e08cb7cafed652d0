//! A stream that is ready to start: the entry for the handlers of requests.

use std::net::TcpStream;
use std::sync::Arc;

use super::Listeners;
use super::fanout::Fanouts;
use super::list::Admitted;
use super::stream::{Playback, Stream};
use crate::inputs::LiveInput;
use crate::media::ring::Ring;

/// A listener at its place in a ring, to which nothing was sent yet. If it is dropped, the connection ends.
pub struct ActiveStream {
    pub(super) stream: Box<Stream>,
    fanouts: Arc<Fanouts>,
}

impl ActiveStream {
    /// Prepares the socket and the place in the ring. Sends nothing.
    ///
    /// `logged`: whether the log gets a line for the start and one for the end.
    pub fn new(
        listeners: &Arc<Listeners>,
        input: Arc<LiveInput>,
        ring: &Ring,
        listener: Admitted,
        playback: Playback,
        low_latency: bool,
        logged: bool,
    ) -> ActiveStream {
        let settings = Arc::clone(&listeners.settings);
        let stream = Stream::new(settings, input, ring, listener, playback, low_latency, logged);
        ActiveStream { stream: Box::new(stream), fanouts: Arc::clone(&listeners.fanouts) }
    }

    /// Returns the index in the ring of the first frame that is sent.
    pub fn frame(&self) -> u64 {
        self.stream.reader.frame()
    }

    /// Sends `head` and then the body, in other threads.
    ///
    /// # Errors
    ///
    /// The stream itself, if the operating system gives no thread. Then nothing was sent.
    pub fn start(self, head: Vec<u8>) -> Result<(), ActiveStream> {
        let ActiveStream { mut stream, fanouts } = self;
        stream.head = head;
        fanouts.start(stream).map_err(|stream| ActiveStream { stream, fanouts })
    }

    /// Returns the socket, for another response. The place in the list is free then.
    pub fn into_socket(self) -> TcpStream {
        self.stream.listener.into_socket()
    }
}
