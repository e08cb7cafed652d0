//! Events that a capture thread and its opener report to the main thread.

use std::io;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::source::{OpenError, SourceLost};
use crate::inputs::{LiveInput, SourceInfo};

/// What a capture thread tells the main thread.
pub struct CaptureEvent {
    /// Whose it is.
    pub input: Arc<LiveInput>,
    /// What happened.
    pub kind: CaptureEventKind,
}

/// What happened.
#[derive(Debug)]
pub enum CaptureEventKind {
    /// The source was opened, and its first sound is in the ring.
    Opened(SourceInfo),
    /// It could not be opened; it will be tried again.
    OpenFailed(OpenError),
    /// It was open and is lost. Again and again for one that opens each time but never brings a sound.
    Lost(SourceLost),
    /// It dropped frames because the capture thread was late.
    Overrun,
    /// The operating system refused the capture thread real-time priority.
    RealtimeRefused(io::Error),
}

/// Never waits: should the main thread be behind by a thousand events, it can do without this one.
pub(super) fn report(events: &Sender<CaptureEvent>, input: &Arc<LiveInput>, kind: CaptureEventKind) {
    let _ = events.try_send(CaptureEvent { input: Arc::clone(input), kind });
}
