//! A stream that is ready to start: the entry for the handlers of requests.

use std::sync::Arc;

use rustix::net::{SendFlags, send};

use super::Listeners;
use super::fanout::Fanouts;
use super::list::Admitted;
use super::stream::{Playback, Sound, Stream, StreamSource};

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
        source: StreamSource,
        listener: Admitted,
        playback: Playback,
        low_latency: bool,
        logged: bool,
    ) -> ActiveStream {
        let settings = Arc::clone(&listeners.settings);
        let stream = Stream::new(settings, source, listener, playback, low_latency, logged);
        ActiveStream { stream: Box::new(stream), fanouts: Arc::clone(&listeners.fanouts) }
    }

    /// Returns the ID of the input's ring and the index there of the first frame that is sent; `None` if the frame is not in
    /// that ring.
    pub fn frame(&self) -> Option<(u64, u64)> {
        let Stream { ring, reader, sound, .. } = &*self.stream;
        match sound {
            Sound::Packets(consumer) => consumer.encoding().input_frame(reader.frame()),
            Sound::Pcm | Sound::Encoded(_) => Some((ring.id(), reader.frame())),
        }
    }

    /// Sends `head` and then the body. The calling thread does not wait for the client: where the kernel does not take all
    /// sound up to the live edge, another thread goes on.
    ///
    /// # Errors
    ///
    /// The stream itself, if the operating system gives no thread. Then nothing was sent.
    pub fn start(self, head: Vec<u8>) -> Result<(), ActiveStream> {
        let ActiveStream { mut stream, fanouts } = self;
        stream.head = head;
        fanouts.begin(stream).map_err(|stream| ActiveStream { stream, fanouts })
    }

    /// Sends another response in place of a stream that could not start, without waiting, and ends the connection.
    pub fn refuse(self, response: &[u8]) {
        // Nothing was sent yet, so that the kernel has room for a short response.
        let socket = self.stream.listener.socket();
        let _ = send(socket, response, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}
