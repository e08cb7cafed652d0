//! Pushes: an input is encoded and sent to a server that passes it on to many listeners.
//!
//! ```text
//!  ring ─▶ thread of the push: encoder ─▶ queue ─▶ socket ─▶ Icecast, harbor, SHOUTcast
//! ```
//!
//! A push is a consumer of sound as a listener is: a reader of the ring with a place of its own. Whatever its server or the
//! network does costs nobody else anything. It never gives up, never waits without a deadline, and keeps a bounded length of
//! sound: what a slow server does not take is dropped, whole packets and the oldest first, and counted.
//!
//! The encoder is the push's own, also where listeners have the same codec and bit rate. Their packets would not do: a server
//! wants FLAC in Ogg and pages of 100 ms, with a serial number and a title of this stream. And a push must not wait for a free
//! place among the encoders of listeners.
//!
//! | file | content |
//! |---|---|
//! | `thread.rs` | the thread: one connection after another, and the pauses between them |
//! | `session.rs` | one connection on the air: encoding, sending, the server's words |
//! | `icecast.rs`, `shoutcast.rs` | the protocols (pure) |
//! | `connection.rs`, `tls.rs` | sockets with deadlines |
//! | `queue.rs`, `backoff.rs` | packets that wait, the time to the next try (pure) |
//! | `problem.rs` | the reasons for which a push is not on the air |
//! | `format.rs` | the codec of a format |
//! | `password.rs` | the password, read at each try |
//! | `title.rs` | the title of a stream without Ogg |
//!
//! The state of a push for the rest of the program is a [`LivePush`].

mod backoff;
mod connection;
mod control;
mod format;
mod icecast;
mod password;
mod problem;
mod queue;
mod session;
mod shoutcast;
mod thread;
mod title;
#[cfg(feature = "tls")]
mod tls;

use std::io;
use std::sync::Arc;
use std::thread::{self as threads, JoinHandle};
use std::time::{Duration, Instant};

use self::control::Control;
pub use self::format::codec;
use crate::config;
use crate::inputs::Inputs;
use crate::pushes::LivePush;

/// A push that runs. It ends with [`stop`](Push::stop).
pub struct Push {
    /// The state, as the rest of the program sees it.
    pub live: Arc<LivePush>,
    config: config::Push,
    control: Arc<Control>,
    thread: JoinHandle<()>,
}

impl Push {
    /// Starts a push of the input that has the name `input`.
    ///
    /// # Errors
    ///
    /// The operating system has no thread.
    pub fn start(config: &config::Push, input: &str, inputs: &Arc<Inputs>) -> io::Result<Push> {
        let to = config.to.to_string();
        let live = Arc::new(LivePush::new(&config.name, input, &to, config.format.name()));
        let control = Arc::new(Control::default());
        let runner =
            thread::Runner::new(config.clone(), Arc::clone(inputs), Arc::clone(&live), Arc::clone(&control));
        let name = format!("push {}", config.name);
        let thread = threads::Builder::new().name(name).spawn(move || runner.run())?;
        Ok(Push { live, config: config.clone(), control, thread })
    }

    /// Returns `true` if this push sends that input as `config` says.
    pub fn is(&self, config: &config::Push, input: &str) -> bool {
        self.config == *config && self.live.input == input
    }

    /// Has a push that waits for its next try not wait: the reason may be gone.
    pub fn retry_now(&self) {
        self.control.retry_now();
    }

    /// Asks the push to end. [`wait`](Self::wait) waits for it.
    pub fn stop(&self) {
        self.control.stop();
    }

    /// Waits until the thread has ended, for at most `time`: a thread that hangs is left alone.
    pub fn wait(self, time: Duration) {
        let began = Instant::now();
        while !self.thread.is_finished() && began.elapsed() < time {
            threads::sleep(Duration::from_millis(2));
        }
        if self.thread.is_finished() {
            // A panic was logged.
            let _ = self.thread.join();
        }
    }
}
