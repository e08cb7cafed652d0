//! Tests of [`super`]: the loop with a clock that the test owns.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::{Receiver, unbounded};

use super::*;
use crate::capture::dead_air::DeadAirDetector;
use crate::capture::event::CaptureEvent;
use crate::capture::timeline::{History, Timeline};
use crate::config;
use crate::inputs::LiveInput;
use crate::media::format::{SampleFormat, SourceSample, StreamFormat};
use crate::media::meter::Meter;
use crate::media::ring::{self, Ring};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const FORMAT: StreamFormat = StreamFormat { rate: 48_000, channels: 1, sample: SampleFormat::S16 };
/// Frames of a period of 10 ms.
const PERIOD: u64 = 480;

/// A loop over a card with periods of 10 ms and a buffer of 500 ms, started at second 100.
struct Room {
    capture: CaptureLoop,
    input: Arc<LiveInput>,
    ring: Ring,
    events: Receiver<CaptureEvent>,
    /// The time, in ns.
    now: u64,
}

impl Room {
    fn new() -> Room {
        let input = Arc::new(LiveInput::new("live", "test"));
        let keep = Duration::from_secs(1);
        let (writer, ring) = ring::new(FORMAT, PERIOD as u32, keep).expect("memory");
        let meter = Arc::new(Meter::new(FORMAT, PERIOD as u32, Duration::from_secs(1)));
        let history = History { asked: keep, kept: keep };
        let now = 100 * SECOND;
        let timeline = Timeline::new(writer, meter, Arc::clone(&input), history, now);
        let info = SourceInfo {
            device: "test".to_owned(),
            card: None,
            rate: FORMAT.rate,
            channels: FORMAT.channels,
            sample: SourceSample::S16,
            block_frames: PERIOD as u32,
            buffer_frames: 24_000,
        };
        let (sender, events) = unbounded();
        let stopped = Arc::<AtomicBool>::default();
        let inputs = Arc::from([Arc::clone(&input)]);
        let reporter = Reporter { inputs, events: sender, stopped };
        let config = config::Input::default();
        let dead_air = DeadAirDetector::new(&config);
        let tracks = vec![Track::new(timeline, &config, dead_air, &info)];
        let capture = CaptureLoop::new(tracks, &info, reporter, true, MonoNs(now));
        Room { capture, input, ring, events, now }
    }

    /// Lets the card give sound for `seconds` by a clock that is fast by `ppm`, read without lateness.
    fn play(&mut self, seconds: f64, ppm: f64) {
        let started = self.now;
        for block in 1..=(seconds * 100.0) as u64 {
            let time = (block * PERIOD) as f64 / (48_000.0 * (1.0 + ppm / 1e6)) * 1e9;
            let called = self.now;
            self.now = started + time as u64;
            let (called, now) = (MonoNs(called), MonoNs(self.now));
            self.capture.on_frames(&[1; PERIOD as usize * 2], called, now, now);
        }
    }

    /// Lets the card be quiet for `ms`, with the timeouts that reads return meanwhile.
    fn stall(&mut self, ms: u64) -> Result<(), SourceLost> {
        for _ in 0..ms / 100 {
            self.now += 100 * MS;
            self.capture.on_timeout(MonoNs(self.now))?;
        }
        Ok(())
    }

    fn silence(&self) -> u64 {
        self.input.counters.silence.load(Ordering::Relaxed)
    }

    fn events(&self) -> Vec<CaptureEventKind> {
        self.events.try_iter().map(|event| event.kind).collect()
    }
}

#[test]
fn a_stall_that_loses_time_leaves_the_drift_of_an_exact_clock_at_zero() {
    let mut room = Room::new();
    room.play(60.0, 0.0);
    room.stall(1500).expect("less than a loss");
    room.play(600.0, 0.0);
    let ppm = room.input.counters.drift_ppm().expect("an estimate");
    assert!(ppm.abs() < 1.0, "{ppm} ppm");
}

#[test]
fn a_stall_is_filled_with_silence_and_reported_once_at_its_end() {
    let mut room = Room::new();
    room.play(1.0, 0.0);
    room.events();
    room.stall(400).expect("less than a loss");
    assert_eq!(room.silence(), 0, "the buffer lasts for 500 ms");
    room.stall(1100).expect("less than a loss");
    assert!(room.events().is_empty(), "it is not over");
    assert!(room.silence() > 71_000, "{}", room.silence());
    room.play(0.5, 0.0);
    // The first block after the stall was captured from its end on.
    assert_eq!(room.silence(), 72_000);
    assert!(
        matches!(room.events()[..], [CaptureEventKind::Silence { time }] if time == Duration::from_millis(1500))
    );
    assert_eq!(room.ring.frames(), 48_000 + 72_000 + 24_000);
}

#[test]
fn a_source_that_gives_no_sound_for_two_seconds_is_lost() {
    let mut room = Room::new();
    room.play(1.0, 0.0);
    assert_eq!(room.stall(2100), Err(SourceLost::Hung(HUNG)));
}

#[test]
fn a_source_is_reported_as_opened_with_its_first_sound() {
    let mut room = Room::new();
    room.stall(1000).expect("less than a loss");
    assert!(room.events().is_empty());
    room.play(0.1, 0.0);
    assert!(matches!(room.events()[..], [CaptureEventKind::Opened(_), CaptureEventKind::Silence { .. }]));
}

#[test]
fn an_overrun_is_counted_and_reported_and_its_gap_is_filled() {
    let mut room = Room::new();
    room.play(1.0, 0.0);
    room.events();
    room.capture.on_overrun();
    room.now += SECOND / 2;
    room.play(1.0, 0.0);
    assert!(matches!(room.events()[..], [CaptureEventKind::Overrun]));
    assert_eq!(room.input.counters.overruns.load(Ordering::Relaxed), 1);
    assert_eq!(room.silence(), 24_000);
}

#[test]
fn a_clock_that_is_far_off_is_reported_once() {
    let mut room = Room::new();
    room.play(300.0, 2000.0);
    let warnings: Vec<f64> = room
        .events()
        .into_iter()
        .filter_map(|event| match event {
            CaptureEventKind::ClockOff { ppm } => Some(ppm),
            _ => None,
        })
        .collect();
    assert!(matches!(warnings[..], [ppm] if (1990.0..2010.0).contains(&ppm)), "{warnings:?}");

    let mut room = Room::new();
    room.play(300.0, 500.0);
    assert!(!room.events().iter().any(|event| matches!(event, CaptureEventKind::ClockOff { .. })));
}

#[test]
fn frames_that_came_while_the_thread_slept_are_read_before_a_stop() {
    let mut room = Room::new();
    room.capture.backlog = Backlog::Unread;
    let late = |room: &mut Room, captured: u64| {
        let (captured, now) = (MonoNs(captured), MonoNs(room.now));
        room.capture.on_frames(&[1; PERIOD as usize * 2], now, captured, now);
        room.capture.backlog
    };
    room.now += 30 * MS;
    let end = room.now;
    assert_eq!(late(&mut room, end - 20 * MS), Backlog::Unread);
    assert_eq!(late(&mut room, end - 10 * MS), Backlog::Unread);
    assert_eq!(late(&mut room, end), Backlog::Empty);
    room.capture.backlog = Backlog::Unread;
    room.stall(100).expect("less than a loss");
    assert_eq!(room.capture.backlog, Backlog::Empty, "a source without sound has none left");
}
