//! Capture: source → converter → ring, and silence while there is no sound.
//!
//! Each card has two threads, however many inputs share it. The *capture thread* reads the source and publishes blocks; the *opener thread*
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
mod track;
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
use self::opener::{CurrentRing, OpenSource, Opened, OpenedTimeline, Opener, Task, TrackConfig, next_pause};
use self::source::{OpenError, Source};
pub use self::timeline::Timeline;
use self::track::Track;
use self::wake_schedule::MonoNs;
use crate::config::{self, Device};
use crate::inputs::{LiveInput, Trouble};
use crate::sys::clock::monotonic_ns;
use crate::sys::limits;

/// A source that worked for this long is opened again after the shortest pause when it is lost.
const WORKED: Duration = Duration::from_secs(10);
/// The longest turn of a capture thread that has no ring to fill. The thread shows a heartbeat this often.
const IDLE_TURN: Duration = Duration::from_millis(500);
/// The time that [`Capture::stop`] waits for a driver. A read and a close take less than 0.2 s unless the driver hangs;
/// systemd's watchdog of the main thread is 30 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A running capture of one source. Dropping it stops the capture without waiting for its end.
pub struct Capture {
    stop: StopSignal,
    /// The timelines that the capture thread leaves at its end, one for each input.
    timelines: Receiver<Vec<Option<Timeline>>>,
    /// Disconnected when the opener thread has ended, and with it every close.
    opener_ended: Receiver<()>,
}

/// An input of a capture.
pub struct CaptureInput {
    /// The configuration of the input.
    pub config: config::Input,
    /// The length of sound that its ring keeps.
    pub keep: Duration,
    /// The input, into which the ring is put.
    pub live: Arc<LiveInput>,
    /// The timeline of an earlier capture: its ring goes on, as long as format, period and `keep` stay.
    pub timeline: Option<Timeline>,
}

impl Capture {
    /// Starts to capture the device of `inputs`, at least one, into a ring for each. Inputs that share a device have the
    /// same rate, period and buffer.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub fn start(inputs: Vec<CaptureInput>, events: Sender<CaptureEvent>) -> io::Result<Capture> {
        Capture::start_with(Box::new(open::open), inputs, events)
    }

    fn start_with(
        open: OpenSource,
        inputs: Vec<CaptureInput>,
        events: Sender<CaptureEvent>,
    ) -> io::Result<Capture> {
        let flag = Arc::<AtomicBool>::default();
        let (sender, stopped) = bounded(1);
        let stop = StopSignal { flag: Arc::clone(&flag), _sender: sender };
        let lives = inputs.iter().map(|input| Arc::clone(&input.live)).collect();
        let reporter = Reporter { inputs: lives, events, stopped: flag };
        let tracks: Vec<_> = inputs
            .iter()
            .map(|input| TrackConfig { config: input.config.clone(), keep: input.keep })
            .collect();
        let config = config::Input::for_card(tracks.iter().map(|track| &track.config));
        let (opener, opener_ended) =
            Opener::start(config.clone(), tracks, reporter.clone(), stopped.clone(), open)?;
        let name = format!("capture {}", config.name);
        // A reload of the configuration changes the device only through a new capture.
        let warns_of_drift = !matches!(config.device, Device::Synth(_));
        let idle = |CaptureInput { config, timeline, .. }| IdleTrack {
            dead_air: DeadAirDetector::new(&config),
            config,
            timeline,
        };
        let thread = CaptureThread {
            realtime_priority: config.realtime_priority,
            tracks: inputs.into_iter().map(idle).collect(),
            reporter,
            stopped,
            opener,
            pause: Duration::ZERO,
            warns_of_drift,
        };
        let (left, timelines) = bounded(1);
        thread::Builder::new().name(name).spawn(move || {
            let _ = left.send(thread.run());
        })?;
        Ok(Capture { stop, timelines, opener_ended })
    }

    /// Stops the capture and returns, for each input, what its next capture needs to go on with the same ring.
    ///
    /// Waits until the source is closed, so that the next capture can open the same device, but at most
    /// [`STOP_TIMEOUT`]: a driver that hangs in a read or a close keeps its thread, and the main thread goes on. The
    /// timelines are then lost, the result is empty, and the next capture makes other rings.
    pub fn stop(self) -> Vec<Option<Timeline>> {
        self.stop_within(STOP_TIMEOUT)
    }

    fn stop_within(self, timeout: Duration) -> Vec<Option<Timeline>> {
        let deadline = Instant::now() + timeout;
        drop(self.stop);
        let timelines = self.timelines.recv_deadline(deadline).unwrap_or_default();
        // Nothing is ever sent: its end is the signal.
        let _ = self.opener_ended.recv_deadline(deadline);
        timelines
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
    realtime_priority: u8,
    /// The tracks while there is no source, one for each input.
    tracks: Vec<IdleTrack>,
    reporter: Reporter,
    /// Disconnected when the capture is stopped.
    stopped: Receiver<()>,
    opener: Opener,
    /// Pause before the source is opened again.
    pause: Duration,
    /// A clock that is far off has not been reported yet.
    warns_of_drift: bool,
}

/// A track without a source.
struct IdleTrack {
    config: config::Input,
    /// `None` before the first source was opened, and while a source is captured.
    timeline: Option<Timeline>,
    dead_air: DeadAirDetector,
}

impl CaptureThread {
    /// Waits for a source, captures it until it is lost, and so on until the capture is stopped.
    fn run(mut self) -> Vec<Option<Timeline>> {
        if self.realtime_priority > 0 {
            if let Err(error) = limits::realtime(self.realtime_priority) {
                self.reporter.report(CaptureEventKind::RealtimeRefused(Arc::new(error)));
            }
        }
        devices::collect_alsa_messages();
        while let Some((mut source, timelines)) = self.wait_for_source() {
            let opened = monotonic_ns();
            let ended = self.capture(&mut *source, timelines);
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
            for track in &mut self.tracks {
                track.dead_air = DeadAirDetector::new(&track.config);
            }
            self.reporter.count(|counters| _ = counters.losses.fetch_add(1, Ordering::Relaxed));
            self.reporter.report(CaptureEventKind::Lost(lost));
            // ALSA's messages about the loss: without this they would pile up.
            devices::take_alsa_messages();
            let worked = Duration::from_nanos(monotonic_ns() - opened);
            self.pause = next_pause(if worked > WORKED { Duration::ZERO } else { self.pause });
        }
        self.tracks.into_iter().map(|track| track.timeline).collect()
    }

    /// Captures one source until its end.
    fn capture(&mut self, source: &mut dyn Source, timelines: Vec<Timeline>) -> Ended {
        let tracks = self.tracks.iter_mut().zip(timelines).map(|(idle, timeline)| {
            let dead_air = std::mem::replace(&mut idle.dead_air, DeadAirDetector::new(&idle.config));
            Track::new(timeline, &idle.config, dead_air, source.info())
        });
        let mut capture = CaptureLoop::new(
            tracks.collect(),
            source.info(),
            self.reporter.clone(),
            self.warns_of_drift,
            MonoNs(monotonic_ns()),
        );
        let ended = capture.run(source);
        self.warns_of_drift = capture.warns_of_drift();
        for (idle, track) in self.tracks.iter_mut().zip(capture.into_tracks()) {
            let (timeline, dead_air) = track.into_parts();
            (idle.timeline, idle.dead_air) = (Some(timeline), dead_air);
        }
        ended
    }

    /// Publishes silence, if there are rings already, until the opener has opened the source. Returns `None` when the
    /// capture is stopped.
    fn wait_for_source(&mut self) -> Option<(Box<dyn Source>, Vec<Timeline>)> {
        let current = |track: &IdleTrack| {
            track.timeline.as_ref().map(|timeline| CurrentRing {
                ring: timeline.writer().ring(),
                meter: Arc::clone(timeline.meter()),
                history: timeline.history(),
            })
        };
        let current = self.tracks.iter().map(current).collect();
        let _ = self.opener.tasks.send(Task::Open { pause: self.pause, current });
        loop {
            self.reporter.count(|counters| _ = counters.heartbeats.fetch_add(1, Ordering::Relaxed));
            let mut patience = IDLE_TURN;
            for timeline in self.tracks.iter_mut().filter_map(|track| track.timeline.as_mut()) {
                let now = monotonic_ns();
                timeline.fill_with_silence(now);
                patience = patience.min(timeline.until_next_silence(now));
            }
            select! {
                recv(self.opener.opened) -> opened => match opened {
                    Ok(Opened { source, timelines, pause }) => {
                        self.pause = pause;
                        if let Some(timelines) = self.take_timelines(timelines) {
                            return Some((source, timelines));
                        }
                        // Not reached: the opener keeps a ring only where the task named one.
                        let _ = self.opener.tasks.send(Task::Close(source));
                    }
                    Err(_) => {
                        // The opener thread survives everything but the end of its capture.
                        let advice = "its opener thread has ended: a bug in wavecast".to_owned();
                        self.reporter.report(CaptureEventKind::OpenFailed(OpenError { advice, trouble: Trouble::Other }));
                        self.opener.opened = never();
                    }
                },
                recv(self.stopped) -> _ => return None,
                default(patience) => {}
            }
        }
    }

    /// Returns the timelines for an opened source and lets the opener discard those that are replaced.
    fn take_timelines(&mut self, opened: Vec<OpenedTimeline>) -> Option<Vec<Timeline>> {
        let pairs = self.tracks.iter_mut().zip(opened);
        let take = |(track, opened): (&mut IdleTrack, OpenedTimeline)| {
            let current = track.timeline.take();
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
        };
        pairs.map(take).collect()
    }
}

#[cfg(test)]
mod tests;
