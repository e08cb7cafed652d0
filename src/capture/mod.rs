//! Capture: source → converter → ring, and silence while there is no sound.
//!
//! Each input has two threads. The *capture thread* reads the source and publishes blocks; the *opener thread*
//! ([`opener`]) opens and closes sources and makes rings.
//!
//! # Invariants of the capture thread
//!
//! - It opens and closes no device: a dying USB hub can hold either for seconds. It makes and frees no ring.
//! - It writes no log. It reports events through a channel and never waits for room in it.
//! - It takes no lock that a listener or a handler may hold.
//! - Per block it allocates nothing and makes no system call but its source's and, where a reader waits for that block,
//!   one wake-up (`tests/allocations.rs`). Blocks for which no reader waits stay in the source for a while
//!   ([`wake_schedule`]).
//!
//! # Time
//!
//! The stream's time is the source's while there is one, and the clock's while there is none: sound that was lost is
//! replaced by as much silence. So players stay connected with their buffers as full as they were, and a recording of
//! an hour is an hour long.

pub mod alsa;
mod capture_loop;
pub mod channels;
pub mod clock_drift;
pub mod convert;
pub mod dead_air;
pub mod devices;
pub mod event;
mod history;
mod open;
mod opener;
pub mod source;
pub mod synth;
mod timeline;
mod wake_schedule;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};

use self::capture_loop::{CaptureLoop, Ended};
use self::dead_air::DeadAirDetector;
use self::event::{CaptureEvent, CaptureEventKind, Reporter};
use self::opener::{CurrentRing, OpenSource, Opened, OpenedTimeline, Opener, Task, next_pause};
use self::source::{OpenError, Source};
pub use self::timeline::Timeline;
use self::wake_schedule::MonoNs;
use crate::config::{self, Device};
use crate::inputs::LiveInput;
use crate::sys::clock::monotonic_ns;
use crate::sys::limits;

/// A source that worked for this long is opened again after the shortest pause when it is lost.
const WORKED: Duration = Duration::from_secs(10);
/// The longest turn of a capture thread that has no ring to fill. The thread shows a heartbeat this often.
const IDLE_TURN: Duration = Duration::from_millis(500);
/// The time that [`Capture::stop`] waits for a driver. A read and a close take less than 0.2 s unless the driver hangs;
/// systemd's watchdog of the main thread is 30 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A running capture of one input. Dropping it stops the capture without waiting for its end.
pub struct Capture {
    stop: StopSignal,
    /// The timeline that the capture thread leaves at its end.
    timeline: Receiver<Option<Timeline>>,
    /// Disconnected when the opener thread has ended, and with it every close.
    opener_ended: Receiver<()>,
}

impl Capture {
    /// Starts to capture what `config` says into a ring that keeps `keep` of sound, and puts that ring into `input`.
    ///
    /// With the `timeline` of an earlier capture its ring goes on, as long as format, period and `keep` stay.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub fn start(
        config: config::Input,
        keep: Duration,
        input: Arc<LiveInput>,
        events: Sender<CaptureEvent>,
        timeline: Option<Timeline>,
    ) -> io::Result<Capture> {
        Capture::start_with(Box::new(open::open), config, keep, input, events, timeline)
    }

    fn start_with(
        open: OpenSource,
        config: config::Input,
        keep: Duration,
        input: Arc<LiveInput>,
        events: Sender<CaptureEvent>,
        timeline: Option<Timeline>,
    ) -> io::Result<Capture> {
        let flag = Arc::<AtomicBool>::default();
        let (sender, stopped) = bounded(1);
        let stop = StopSignal { flag: Arc::clone(&flag), _sender: sender };
        let reporter = Reporter { input, events, stopped: flag };
        let (opener, opener_ended) =
            Opener::start(config.clone(), keep, reporter.clone(), stopped.clone(), open)?;
        let name = format!("capture {}", config.name);
        // A reload of the configuration changes the device only through a new capture.
        let warns_of_drift = !matches!(config.device, Device::Synth(_));
        let dead_air = DeadAirDetector::new(&config);
        let thread = CaptureThread {
            config,
            reporter,
            stopped,
            opener,
            timeline,
            pause: Duration::ZERO,
            warns_of_drift,
            dead_air,
        };
        let (left, timeline) = bounded(1);
        thread::Builder::new().name(name).spawn(move || {
            let _ = left.send(thread.run());
        })?;
        Ok(Capture { stop, timeline, opener_ended })
    }

    /// Stops the capture and returns what the next capture of this input needs to go on with the same ring.
    ///
    /// Waits until the source is closed, so that the next capture can open the same device, but at most
    /// [`STOP_TIMEOUT`]: a driver that hangs in a read or a close keeps its thread, and the main thread goes on. The
    /// timeline is then lost, and the next capture makes another ring.
    pub fn stop(self) -> Option<Timeline> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        drop(self.stop);
        let timeline = self.timeline.recv_deadline(deadline).ok().flatten();
        // Nothing is ever sent: its end is the signal.
        let _ = self.opener_ended.recv_deadline(deadline);
        timeline
    }
}

/// The stop request for both threads. Dropping it is the request.
struct StopSignal {
    flag: Arc<AtomicBool>,
    /// Nothing is ever sent. A thread that waits in a `select!` wakes when this is dropped.
    _sender: Sender<()>,
}

impl Drop for StopSignal {
    fn drop(&mut self) {
        self.flag.store(true, Ordering::Release);
    }
}

struct CaptureThread {
    config: config::Input,
    reporter: Reporter,
    /// Disconnected when the capture is stopped.
    stopped: Receiver<()>,
    opener: Opener,
    timeline: Option<Timeline>,
    /// Pause before the source is opened again.
    pause: Duration,
    /// A clock that is far off has not been reported yet.
    warns_of_drift: bool,
    dead_air: DeadAirDetector,
}

impl CaptureThread {
    /// Waits for a source, captures it until it is lost, and so on until the capture is stopped.
    fn run(mut self) -> Option<Timeline> {
        if self.config.realtime_priority > 0 {
            if let Err(error) = limits::realtime(self.config.realtime_priority) {
                self.reporter.report(CaptureEventKind::RealtimeRefused(error));
            }
        }
        devices::collect_alsa_messages();
        while let Some((mut source, timeline)) = self.wait_for_source() {
            let opened = monotonic_ns();
            let ended = self.capture(&mut *source, timeline);
            // To the opener first, whatever the end was: a source is never closed on this thread.
            let _ = self.opener.tasks.send(Task::Close(source));
            let lost = match ended {
                Ended::Stopped => break,
                Ended::Lost(lost) => lost,
                Ended::DeadAir => {
                    self.pause = Duration::ZERO;
                    continue;
                }
            };
            self.dead_air = DeadAirDetector::new(&self.config);
            self.reporter.input.counters.losses.fetch_add(1, Ordering::Relaxed);
            self.reporter.report(CaptureEventKind::Lost(lost));
            // ALSA's messages about the loss: without this they would pile up.
            devices::take_alsa_messages();
            let worked = Duration::from_nanos(monotonic_ns() - opened);
            self.pause = next_pause(if worked > WORKED { Duration::ZERO } else { self.pause });
        }
        self.timeline
    }

    /// Captures one source until its end.
    fn capture(&mut self, source: &mut dyn Source, timeline: Timeline) -> Ended {
        let dead_air = std::mem::replace(&mut self.dead_air, DeadAirDetector::new(&self.config));
        let mut capture = CaptureLoop::new(
            timeline,
            source.info(),
            &self.config,
            self.reporter.clone(),
            self.warns_of_drift,
            dead_air,
            MonoNs(monotonic_ns()),
        );
        let ended = capture.run(source);
        self.warns_of_drift = capture.warns_of_drift();
        let (timeline, dead_air) = capture.into_parts();
        (self.timeline, self.dead_air) = (Some(timeline), dead_air);
        ended
    }

    /// Publishes silence, if there is a ring already, until the opener has opened the source. Returns `None` when the
    /// capture is stopped.
    fn wait_for_source(&mut self) -> Option<(Box<dyn Source>, Timeline)> {
        let current = self.timeline.as_ref().map(|timeline| CurrentRing {
            ring: timeline.writer().ring(),
            meter: Arc::clone(timeline.meter()),
            history: timeline.history(),
        });
        let _ = self.opener.tasks.send(Task::Open { pause: self.pause, current });
        loop {
            self.reporter.input.counters.heartbeats.fetch_add(1, Ordering::Relaxed);
            let patience = self.timeline.as_mut().map_or(IDLE_TURN, |timeline| {
                let now = monotonic_ns();
                timeline.fill_with_silence(now);
                timeline.until_next_silence(now)
            });
            select! {
                recv(self.opener.opened) -> opened => match opened {
                    Ok(Opened { source, timeline, pause }) => {
                        self.pause = pause;
                        if let Some(timeline) = self.take_timeline(timeline) {
                            return Some((source, timeline));
                        }
                        // Not reached: the opener keeps a ring only where the task named one.
                        let _ = self.opener.tasks.send(Task::Close(source));
                    }
                    Err(_) => {
                        // The opener thread survives everything but the end of its capture.
                        let advice = "its opener thread has ended: a bug in wavecast".to_owned();
                        self.reporter.report(CaptureEventKind::OpenFailed(OpenError { advice, absent: false }));
                        self.opener.opened = never();
                    }
                },
                recv(self.stopped) -> _ => return None,
                default(patience.min(IDLE_TURN)) => {}
            }
        }
    }

    /// Returns the timeline for an opened source and lets the opener discard one that is replaced.
    fn take_timeline(&mut self, opened: OpenedTimeline) -> Option<Timeline> {
        let current = self.timeline.take();
        match opened {
            OpenedTimeline::New(timeline) => {
                if let Some(old) = current {
                    let _ = self.opener.tasks.send(Task::Discard(old));
                }
                Some(timeline)
            }
            OpenedTimeline::Current { asked_history } => {
                let mut timeline = current?;
                timeline.set_asked_history(asked_history);
                timeline.mark_gap();
                Some(timeline)
            }
        }
    }
}

#[cfg(test)]
mod tests;
