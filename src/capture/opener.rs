//! The opener: a thread that opens and closes the sources of one capture.
//!
//! A driver can take seconds to open or close a device, and a dying USB hub can hold a close for ever. The capture
//! thread therefore does neither: it sends a [`Task`] and publishes silence until an [`Opened`] comes back. The opener
//! also makes the ring and frees old ones, since a large block of memory takes long to map and unmap.
//!
//! One opener thread lives as long as its capture. It is started before the capture thread, so that a loss needs no new
//! thread at a time when there may be none.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};

use super::devices::{SystemPaths, with_alsa_log};
use super::event::{CaptureEventKind, HistoryLimit, HistoryShortened, Reporter};
use super::history::{self, RingChoice, RingShape};
use super::source::{OpenError, Source};
use super::timeline::{History, Timeline};
use crate::config;
use crate::inputs::{SourceInfo, Trouble};
use crate::media::format::StreamFormat;
use crate::media::meter::Meter;
use crate::media::ring::Ring;
use crate::sys::clock::monotonic_ns;
use crate::sys::limits;

/// Pause before a lost source is opened again. Doubles with each failure, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A card that is plugged in is heard after this time at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Returns the pause that follows `pause`.
pub(super) fn next_pause(pause: Duration) -> Duration {
    (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
}

/// A function that opens the source of a capture without starting it. Tests pass their own.
pub(super) type OpenSource = Box<dyn Fn(&config::Input) -> Result<Box<dyn Source>, OpenError> + Send>;

/// A task for the opener.
pub(super) enum Task {
    /// Close this source.
    Close(Box<dyn Source>),
    /// Close this ring for its readers and free it.
    Discard(Timeline),
    /// Open the source, as often as it takes.
    Open {
        /// Pause before the first attempt.
        pause: Duration,
        /// The ring of each track, where it exists.
        current: Vec<Option<CurrentRing>>,
    },
}

/// The configuration of one track.
#[derive(Clone)]
pub(super) struct TrackConfig {
    pub(super) config: config::Input,
    /// Length of sound that the ring keeps.
    pub(super) keep: Duration,
}

/// A ring that exists, and the meter of its sound.
pub(super) struct CurrentRing {
    pub(super) ring: Ring,
    pub(super) meter: Arc<Meter>,
    pub(super) history: History,
}

/// A source that runs, and the rings for its sound.
pub(super) struct Opened {
    pub(super) source: Box<dyn Source>,
    /// One for each track.
    pub(super) timelines: Vec<OpenedTimeline>,
    /// Pause after which the source was opened; the next one is longer if the source gives no sound.
    pub(super) pause: Duration,
}

/// The timeline for the sound of an opened source.
pub(super) enum OpenedTimeline {
    /// The current one. Its history counts as asked for with this duration from now on.
    Current {
        /// The duration.
        asked_history: Duration,
    },
    /// A new one. Readers find its ring already; the current timeline has to be discarded.
    New(Timeline),
}

/// The capture thread's end of the opener. The opener thread ends when this is dropped.
pub(super) struct Opener {
    /// Unbounded: the capture thread never waits to send a task.
    pub(super) tasks: Sender<Task>,
    /// Holds one message. Not a rendezvous channel: there, a receiver spins until the sender has written the message.
    /// With real-time priority it keeps the sender from the processor for the second that the kernel lets it.
    pub(super) opened: Receiver<Opened>,
}

impl Opener {
    /// Starts the thread. The returned receiver is disconnected when the thread has ended.
    pub(super) fn start(
        config: config::Input,
        tracks: Vec<TrackConfig>,
        reporter: Reporter,
        stopped: Receiver<()>,
        open: OpenSource,
    ) -> io::Result<(Opener, Receiver<()>)> {
        let (tasks, received) = unbounded();
        let (sender, opened) = bounded(1);
        let (ended_sender, ended) = bounded(0);
        let name = format!("open {}", config.name);
        let unclaimed = opened.clone();
        let opener =
            OpenerThread { config, tracks, reporter, stopped, open, opened: sender, _unclaimed: unclaimed };
        thread::Builder::new().name(name).spawn(move || {
            opener.run(&received);
            with_alsa_log(|| drop(opener));
            drop(ended_sender);
        })?;
        Ok((Opener { tasks, opened }, ended))
    }
}

struct OpenerThread {
    /// The properties to ask the source for.
    config: config::Input,
    tracks: Vec<TrackConfig>,
    reporter: Reporter,
    /// Disconnected when the capture is stopped.
    stopped: Receiver<()>,
    open: OpenSource,
    opened: Sender<Opened>,
    /// Keeps a source that the capture thread did not take before its end, so that this thread closes it.
    _unclaimed: Receiver<Opened>,
}

impl OpenerThread {
    fn run(&self, tasks: &Receiver<Task>) {
        for task in tasks {
            match task {
                Task::Close(source) => with_alsa_log(|| drop(source)),
                Task::Discard(timeline) => drop(timeline),
                Task::Open { pause, current } => self.open_until_done(pause, &current),
            }
        }
    }

    /// Opens the source, with growing pauses, until it runs or the capture is stopped.
    fn open_until_done(&self, mut pause: Duration, current: &[Option<CurrentRing>]) {
        let mut last_advice = String::new();
        loop {
            // The first attempt of a capture has no pause.
            if !pause.is_zero() {
                select! {
                    recv(self.stopped) -> _ => return,
                    default(pause) => {}
                }
            }
            if self.reporter.is_stopped() {
                return;
            }
            match with_alsa_log(|| self.open_and_start(current)) {
                Ok((source, timelines)) => {
                    // Never waits: each source that was sent has been taken before the next is asked for.
                    let _ = self.opened.send(Opened { source, timelines, pause });
                    // Opening took more memory than everything after it will.
                    limits::trim_heap();
                    return;
                }
                Err(error) => {
                    // Another reason than the last time: something changes. A card that has just appeared may still
                    // wait for udev to set its owner.
                    if std::mem::replace(&mut last_advice, error.advice.clone()) != error.advice {
                        pause = Duration::ZERO;
                    }
                    self.reporter.report(CaptureEventKind::OpenFailed(error));
                }
            }
            pause = next_pause(pause);
        }
    }

    /// Opens the source, makes its rings, starts it, and puts the rings in place for readers, in this order.
    fn open_and_start(
        &self,
        current: &[Option<CurrentRing>],
    ) -> Result<(Box<dyn Source>, Vec<OpenedTimeline>), OpenError> {
        let attempt = || {
            let mut source = (self.open)(&self.config)?;
            self.check_not_stopped()?;
            let mut rings = Vec::new();
            for (track, current) in self.tracks.iter().zip(current) {
                let format = track.ring_format(source.info());
                let memory = history::available_memory(&SystemPaths::default());
                let wanted = (format, source.info().block_frames, track.keep);
                let shape = current.as_ref().map(CurrentRing::shape);
                let (choice, limit) = history::choose_ring(wanted, shape, memory, history::make_ring)?;
                rings.push((choice, limit, format));
            }
            source.start()?;
            self.check_not_stopped()?;
            let install = |(track, (ring, current)): (usize, (_, &Option<CurrentRing>))| {
                self.install(track, ring, current.as_ref())
            };
            let timelines = rings.into_iter().zip(current).enumerate().map(install).collect();
            Ok((source, timelines))
        };
        // The thread has to survive a bug in here: it is the only one that can open this input.
        catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_| {
            let advice = format!("\"{}\" could not be opened: a bug in wavecast", self.config.device);
            Err(OpenError { advice, trouble: Trouble::Other })
        })
    }

    /// Puts the ring of a track in place for readers.
    fn install(
        &self,
        track: usize,
        (choice, limit, format): (RingChoice, Option<HistoryLimit>, StreamFormat),
        current: Option<&CurrentRing>,
    ) -> OpenedTimeline {
        let (RingChoice::Current(history) | RingChoice::New { history, .. }) = &choice;
        let TrackConfig { config, keep } = &self.tracks[track];
        let (history, asked) = (*history, config.history);
        let kept = history::promise(asked, history);
        if let Some(limit) = limit {
            let shortened = HistoryShortened { asked, kept, format, limit };
            self.reporter.report_of(track, CaptureEventKind::HistoryShortened(shortened));
        }
        let input = &self.reporter.inputs[track];
        match choice {
            RingChoice::New { writer, ring, .. } => {
                let meter = Arc::new(Meter::new(format, ring.block_frames(), kept));
                // The ring of an earlier capture that hangs: no other thread would close it.
                let orphan = input.ring().filter(|_| current.is_none());
                // Readers that see the old ring end find the new one in place.
                input.set_sound(ring, Arc::clone(&meter), kept);
                if let Some(orphan) = orphan {
                    orphan.close();
                }
                OpenedTimeline::New(Timeline::new(writer, meter, Arc::clone(input), history, monotonic_ns()))
            }
            RingChoice::Current(_) => {
                if let Some(current) = current {
                    input.set_sound(current.ring.clone(), Arc::clone(&current.meter), kept);
                }
                OpenedTimeline::Current { asked_history: *keep }
            }
        }
    }

    /// Fails when the capture was stopped while the driver took its time: another capture may have put its ring in place
    /// by now. The error is not reported.
    fn check_not_stopped(&self) -> Result<(), OpenError> {
        match self.reporter.is_stopped() {
            true => Err(OpenError { advice: "the capture was stopped".to_owned(), trouble: Trouble::Other }),
            false => Ok(()),
        }
    }
}

impl TrackConfig {
    /// Returns the format of the ring for the sound of a source.
    fn ring_format(&self, info: &SourceInfo) -> StreamFormat {
        let channels = self.config.pick.stream_channels(info.channels);
        StreamFormat { rate: info.rate, channels, sample: self.config.format }
    }
}

impl CurrentRing {
    fn shape(&self) -> RingShape {
        RingShape {
            format: self.ring.format(),
            block_frames: self.ring.block_frames(),
            history: self.history,
        }
    }
}
