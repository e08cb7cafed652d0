//! The opener: closes a lost source and opens it again, with back-off.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select};

use super::devices;
use super::event::{CaptureEvent, CaptureEventKind, report};
use super::open::open;
use super::source::Source;
use crate::config;
use crate::inputs::LiveInput;
use crate::sys::limits;

/// The pause before a lost source is opened again; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Returns the pause that follows `pause`.
pub(super) fn next_pause(pause: Duration) -> Duration {
    (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
}

/// Closes a lost source and opens it again, as often as it takes. A thread of its own, since drivers can
/// take long over both.
pub(super) struct Opener {
    pub(super) config: config::Input,
    pub(super) input: Arc<LiveInput>,
    pub(super) events: Sender<CaptureEvent>,
    pub(super) stopped: Receiver<()>,
    pub(super) pause: Duration,
}

impl Opener {
    pub(super) fn run(mut self, lost: Option<Box<dyn Source>>, opened: &Sender<(Box<dyn Source>, Duration)>) {
        devices::with_alsa_log(|| drop(lost));
        let mut refused = String::new();
        loop {
            // At the very start there is no pause.
            if !self.pause.is_zero() {
                select! {
                    recv(self.stopped) -> _ => return,
                    default(self.pause) => {}
                }
            }
            match devices::with_alsa_log(|| open(&self.config)) {
                Ok(source) => {
                    let _ = opened.send((source, self.pause));
                    // Opening took more than all that comes after it.
                    limits::trim_heap();
                    return;
                }
                Err(error) => {
                    // Something moves: a card that has just come may still be waiting for udev to say whose it is.
                    if std::mem::replace(&mut refused, error.advice.clone()) != error.advice {
                        self.pause = Duration::ZERO;
                    }
                    report(&self.events, &self.input, CaptureEventKind::OpenFailed(error));
                }
            }
            self.pause = next_pause(self.pause);
        }
    }
}
