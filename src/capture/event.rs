//! Events that a capture thread and its opener report to the main thread.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::dead_air::DeadAir;
use super::source::{OpenError, SourceLost};
use crate::inputs::{Counters, LiveInput, SourceInfo};
use crate::media::format::StreamFormat;

/// An event of one capture.
pub struct CaptureEvent {
    /// The input that is captured.
    pub input: Arc<LiveInput>,
    /// The event itself.
    pub kind: CaptureEventKind,
    /// Set when the capture is stopped.
    stopped: Arc<AtomicBool>,
}

impl CaptureEvent {
    /// Returns whether the capture that sent this event has been stopped since. Another capture may feed the same input
    /// now, possibly from another device: a stale event must not change the input's state.
    pub fn is_stale(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// The kinds of events.
#[derive(Clone, Debug)]
pub enum CaptureEventKind {
    /// The source was opened, and its first sound is in the ring.
    Opened(SourceInfo),
    /// The source could not be opened. The opener will try again.
    OpenFailed(OpenError),
    /// The source was open and is lost. Repeated for a source that opens each time but never gives sound.
    Lost(SourceLost),
    /// The source dropped frames because the capture thread was late. Sent for each overrun; the receiver counts bursts.
    Overrun,
    /// The source gave no sound for longer than its buffer lasts, and then went on. Sent at the end of each such stall;
    /// the receiver counts bursts.
    Silence {
        /// Length of the silence that was published in place of sound.
        time: Duration,
    },
    /// The source delivers no sound to this input. Sent once for each dead air.
    DeadAir(DeadAir),
    /// The source is closed and opened again because of dead air.
    Reopening,
    /// Sound came after dead air that was reported.
    SoundAgain {
        /// Length of the dead air.
        time: Duration,
    },
    /// The ring holds less history than the configuration asks for.
    HistoryShortened(HistoryShortened),
    /// The source's clock is off by more than [`CLOCK_WARNING_PPM`](super::clock_drift::CLOCK_WARNING_PPM). Sent once
    /// per capture.
    ClockOff {
        /// Parts per million by which the source's clock is fast; negative: slow.
        ppm: f64,
    },
    /// The operating system refused real-time priority for the capture thread.
    RealtimeRefused(Arc<io::Error>),
}

/// The reason and the amount of a shortened history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryShortened {
    /// History that the configuration asks for.
    pub asked: Duration,
    /// History that a listener can have.
    pub kept: Duration,
    /// Format of the ring.
    pub format: StreamFormat,
    /// The limit that was met.
    pub limit: HistoryLimit,
}

/// The limits of a ring's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryLimit {
    /// 1 GiB per input, for the format that the card agreed to.
    PerInput,
    /// The memory of this machine.
    Memory,
}

impl fmt::Display for HistoryShortened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HistoryShortened { asked, kept, format, limit } = self;
        let limit = match limit {
            HistoryLimit::PerInput => "more than 1 GiB of memory",
            HistoryLimit::Memory => "more memory than there is",
        };
        let (kept, asked) = (kept.as_secs_f64(), asked.as_secs_f64());
        write!(f, "history shortened to {kept:.1} s: {asked:.1} s of {format} take {limit}")
    }
}

/// A sender of events for one capture, and the counters of its inputs. The capture thread and its opener have one each.
#[derive(Clone)]
pub(super) struct Reporter {
    /// The inputs of the capture, in the order of its tracks.
    pub(super) inputs: Arc<[Arc<LiveInput>]>,
    pub(super) events: Sender<CaptureEvent>,
    /// Set by the main thread when the capture is stopped.
    pub(super) stopped: Arc<AtomicBool>,
}

impl Reporter {
    /// Sends an event of every input, as [`report_of`](Self::report_of) does.
    pub(super) fn report(&self, kind: CaptureEventKind) {
        for input in 0..self.inputs.len() {
            self.report_of(input, kind.clone());
        }
    }

    /// Sends an event of the input with that index unless the capture was stopped. Never waits: if the main thread is a
    /// thousand events behind, the event is dropped.
    pub(super) fn report_of(&self, input: usize, kind: CaptureEventKind) {
        if self.is_stopped() {
            return;
        }
        let (input, stopped) = (Arc::clone(&self.inputs[input]), Arc::clone(&self.stopped));
        let _ = self.events.try_send(CaptureEvent { input, kind, stopped });
    }

    /// Changes the counters of every input.
    pub(super) fn count(&self, change: impl Fn(&Counters)) {
        self.inputs.iter().for_each(|input| change(&input.counters));
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}
