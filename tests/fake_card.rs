//! The fake sound card, a program of its own because it sets an environment variable of its process: the card does
//! what all other tests with a card rely on.

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use alsa::pcm::{Access, Format, HwParams, State};
use alsa::{Direction, PCM};
use rustix::process::Pid;
use rustix::thread::gettid;
use rustix::time::{ClockId, clock_gettime};
use support::card::{Card, CardFormat, CardOptions, Cards, Order, ramp_bytes};
use support::stopwatch::{Stopwatch, assert_within};
use support::{PATIENCE, let_pass, wait_for};

/// 20 ms.
const PERIOD: i64 = 960;
/// 10 s, which is longer than a busy machine stalls a test.
const BUFFER: i64 = 480_000;
const RATE: u32 = 48_000;

/// One `asound.conf` for the whole process, because libasound reads one. Each test has a card of its own, because a
/// card can be opened once.
static CARDS: LazyLock<Cards> = LazyLock::new(|| {
    let plain = [
        "pacing", "poll", "nonblock", "unplug", "hang", "sleep", "xrun", "late", "storm", "open", "read",
        "reopen",
    ];
    let mut cards: Vec<(&str, CardOptions)> = plain.map(|name| (name, CardOptions::default())).into();
    for format in CardFormat::ALL {
        cards.push((format.name(), CardOptions { formats: vec![format], speed: 4.0, ..Default::default() }));
    }
    cards.push(("ppm", CardOptions { ppm: 500_000.0, ..Default::default() }));
    cards.push(("mono", CardOptions { rates: vec![RATE], channels: vec![1], ..Default::default() }));
    cards.push((
        "wide",
        CardOptions {
            formats: vec![CardFormat::S32],
            rates: vec![192_000],
            channels: vec![8],
            ..Default::default()
        },
    ));
    cards.push((
        "raw",
        CardOptions {
            formats: vec![CardFormat::S32],
            raw: Some(vec![1, -1, 300, -300, i16::MAX, i16::MIN]),
            ..Default::default()
        },
    ));
    let cards = Cards::with(cards);
    let (name, path) = cards.env();
    // SAFETY: the standard library's own reads of the environment take the lock that this call takes. The only other
    // reader in this process is libasound, and every test comes here, and waits here, before it calls libasound.
    unsafe { std::env::set_var(name, path) };
    cards
});

/// An opened and started capture.
struct Capture {
    pcm: PCM,
    channels: u32,
    frame_bytes: usize,
}

impl Capture {
    fn open(card: &Card, nonblock: bool) -> alsa::Result<PCM> {
        PCM::new(card.device(), Direction::Capture, nonblock)
    }

    /// Starts a capture of S16, stereo, 48 kHz.
    fn start(card: &Card) -> alsa::Result<Capture> {
        let pcm = Self::open(card, false)?;
        Self::start_with(pcm, Format::S16LE, RATE, 2, PERIOD, BUFFER)
    }

    fn start_with(
        pcm: PCM,
        format: Format,
        rate: u32,
        channels: u32,
        period: i64,
        buffer: i64,
    ) -> alsa::Result<Capture> {
        set_up(&pcm, format, rate, channels, period, buffer)?;
        pcm.start()?;
        let frame_bytes = (format.physical_width()? as usize / 8) * channels as usize;
        Ok(Capture { pcm, channels, frame_bytes })
    }

    /// Reads exactly `frames`, in as many reads as necessary.
    fn read(&self, frames: usize) -> alsa::Result<Vec<u8>> {
        let mut bytes = vec![0; frames * self.frame_bytes];
        let mut done = 0;
        while done < frames {
            assert!(self.pcm.wait(Some(PATIENCE.as_millis() as u32))?, "the card delivers nothing");
            done += self.pcm.io_bytes().readi(&mut bytes[done * self.frame_bytes..])?;
        }
        Ok(bytes)
    }

    /// Reads until an error comes, and returns its number.
    fn read_until_error(&self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Err(error) = self.read(PERIOD as usize) {
                return error.errno();
            }
        }
        panic!("the card goes on without an error");
    }

    /// Reads the frames that a hanging card has ready, the ramp from `frame` on, and returns the number of the next
    /// frame.
    fn read_until_silence(&self, mut frame: u64) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        while self.pcm.wait(Some(200)).expect("a hang is no error") {
            assert!(Instant::now() < deadline, "the card does not hang");
            let bytes = self.read(PERIOD as usize).expect("frames that were ready");
            assert!(
                bytes == ramp_bytes(CardFormat::S16, frame, PERIOD as usize, self.channels),
                "not the ramp"
            );
            frame += PERIOD as u64;
        }
        frame
    }

    fn restart(&self) -> alsa::Result<()> {
        self.pcm.prepare()?;
        self.pcm.start()
    }

    /// Reads two periods and compares them with the ramp, from `frame` on.
    fn expect_ramp_from(&self, frame: u64) {
        let bytes = self.read(2 * PERIOD as usize).expect("a card that works");
        assert!(
            bytes == ramp_bytes(CardFormat::S16, frame, 2 * PERIOD as usize, self.channels),
            "not the ramp from {frame}"
        );
    }
}

fn set_up(pcm: &PCM, format: Format, rate: u32, channels: u32, period: i64, buffer: i64) -> alsa::Result<()> {
    let params = HwParams::any(pcm)?;
    params.set_access(Access::RWInterleaved)?;
    params.set_format(format)?;
    params.set_rate(rate, alsa::ValueOr::Nearest)?;
    params.set_channels(channels)?;
    params.set_period_size(period, alsa::ValueOr::Nearest)?;
    params.set_buffer_size(buffer)?;
    if params.get_rate()? != rate {
        return Err(alsa::Error::new("rate", libc::EINVAL));
    }
    pcm.hw_params(&params)
}

fn alsa_format(format: CardFormat) -> Format {
    match format {
        CardFormat::S16 => Format::S16LE,
        CardFormat::S24Packed => Format::S243LE,
        CardFormat::S24 => Format::S24LE,
        CardFormat::S32 => Format::S32LE,
        CardFormat::Float => Format::FloatLE,
    }
}

/// Waits until a thread of this process sleeps: a reader, in its wait for sound.
fn wait_until_asleep(thread: Pid) {
    let file = format!("/proc/self/task/{}/stat", thread.as_raw_nonzero());
    wait_for("the reader to sleep", || {
        let stat = fs::read_to_string(&file).expect("it runs");
        // The state is the first field behind the name, which ends with the last parenthesis.
        stat.rsplit(") ").next()?.starts_with('S').then_some(())
    });
}

fn open_error(card: &Card) -> i32 {
    Capture::open(card, false).map(|_| ()).expect_err("open should fail").errno()
}

#[test]
fn every_format_carries_the_ramp_exactly() {
    for format in CardFormat::ALL {
        let card = CARDS.card(format.name());
        let pcm = Capture::open(card, false).expect("opens");
        let capture = Capture::start_with(pcm, alsa_format(format), RATE, 2, PERIOD, 4 * i64::from(RATE))
            .expect("starts");
        // Far enough for the ramp to wrap: 16 bits hold 32768 frames of two channels.
        let bytes = capture.read(40_000).expect("reads");
        assert!(bytes == ramp_bytes(format, 0, 40_000, 2), "{}", format.name());
    }
}

#[test]
fn wide_frames_fit_into_long_periods_and_buffers() {
    let card = CARDS.card("wide");
    let pcm = Capture::open(card, false).expect("opens");
    let capture = Capture::start_with(pcm, Format::S32LE, 192_000, 8, 96_000, 768_000).expect("500 ms, 4 s");
    assert!(capture.read(96_000).expect("reads") == ramp_bytes(CardFormat::S32, 0, 96_000, 8));
    let counters = card.position();
    assert_eq!((counters.rate, counters.channels), (192_000, 8));
    assert_eq!((counters.period_frames, counters.buffer_frames), (96_000, 768_000));
    drop(capture);

    let pcm = Capture::open(card, false).expect("opens again");
    Capture::start_with(pcm, Format::S32LE, 192_000, 8, 384, 76_800).expect("2 ms, 400 ms");
}

#[test]
fn a_raw_file_is_played_in_a_loop() {
    let pcm = Capture::open(CARDS.card("raw"), false).expect("opens");
    let capture = Capture::start_with(pcm, Format::S32LE, RATE, 2, PERIOD, BUFFER).expect("starts");
    let bytes = capture.read(6).expect("reads");
    let samples: Vec<i16> =
        bytes.chunks_exact(4).map(|sample| i16::from_le_bytes([sample[2], sample[3]])).collect();
    assert_eq!(samples, [1, -1, 300, -300, i16::MAX, i16::MIN, 1, -1, 300, -300, i16::MAX, i16::MIN]);
}

#[test]
fn the_clock_paces_the_card() {
    for (name, seconds) in [("pacing", 1.0), ("ppm", 1.0 / 1.5)] {
        let began = Stopwatch::start();
        let capture = Capture::start(CARDS.card(name)).expect("starts");
        let opened = began.elapsed().as_secs_f64();
        capture.read(RATE as usize).expect("reads");
        let took = began.by_the_clock().as_secs_f64();
        assert!(took >= seconds, "{name}: a second of sound after {took} s");
        // The rest may be a stall of this machine, not the card's clock.
        let limit = Duration::from_secs_f64(opened + seconds + 5.0);
        assert_within(&began, limit, "a second of sound of the fake card");
    }
}

#[test]
fn a_card_offers_only_what_it_has() {
    let pcm = Capture::open(CARDS.card("mono"), false).expect("opens");
    assert!(set_up(&pcm, Format::S16LE, RATE, 2, PERIOD, BUFFER).is_err(), "stereo");
    assert!(set_up(&pcm, Format::S16LE, 44_100, 1, PERIOD, BUFFER).is_err(), "44.1 kHz");
    assert!(set_up(&pcm, Format::S32LE, RATE, 1, PERIOD, BUFFER).is_err(), "32 bit");
    set_up(&pcm, Format::S16LE, RATE, 1, PERIOD, BUFFER).expect("the format on offer");
    assert!(PCM::new("mono", Direction::Playback, false).is_err(), "playback");
}

#[test]
fn a_wait_sleeps_until_a_whole_period_is_there() {
    let capture = Capture::start(CARDS.card("poll")).expect("starts");
    let cpu = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a positive time");
    let (before, began) = (cpu(), Instant::now());
    for _ in 0..40 {
        assert!(capture.pcm.wait(Some(10_000)).expect("waits"));
        let available = capture.pcm.avail_update().expect("no error");
        assert!(available >= PERIOD, "woken for {available} frames");
        capture.pcm.io_bytes().readi(&mut vec![0; PERIOD as usize * 4]).expect("reads");
    }
    let (used, took) = (cpu() - before, began.elapsed());
    assert!(used < took / 5, "{used:?} of CPU time in {took:?}");
}

#[test]
fn a_nonblocking_read_returns_at_once() {
    let pcm = Capture::open(CARDS.card("nonblock"), true).expect("opens");
    let capture = Capture::start_with(pcm, Format::S16LE, RATE, 2, BUFFER / 5, BUFFER).expect("starts");
    let error = capture.pcm.io_bytes().readi(&mut [0; 4000]).expect_err("2 s too early");
    assert_eq!(error.errno(), libc::EAGAIN);
    assert!(!capture.pcm.wait(Some(1)).expect("waits"));
    capture.expect_ramp_from(0);
}

#[test]
fn an_unplugged_card_is_dead_until_it_is_opened_again() {
    let card = CARDS.card("unplug");
    let capture = Capture::start(card).expect("starts");
    capture.expect_ramp_from(0);
    card.command(Order::Unplug);
    assert_eq!(capture.read_until_error(), libc::ENODEV);
    assert_eq!(capture.pcm.state(), State::Disconnected);
    assert_eq!(capture.restart().expect_err("it is gone").errno(), libc::ENODEV);

    card.command(Order::Run);
    assert_eq!(
        capture.read_until_error(),
        libc::ENODEV,
        "plugged in again, but this handle is of the old one"
    );
    drop(capture);
    card.command(Order::Unplug);
    assert_eq!(open_error(card), libc::ENODEV);

    card.command(Order::Run);
    let before = card.position();
    let capture = Capture::start(card).expect("it is back");
    let after = card.position();
    assert_eq!((after.opens, after.starts, after.overruns), (2, 2, 0));
    assert!(after.next_frame > before.next_frame, "the ramp went on meanwhile");
    capture.expect_ramp_from(after.next_frame);
}

#[test]
fn an_unplugged_card_wakes_a_sleeping_reader() {
    let card = CARDS.card("sleep");
    let capture = Capture::start(card).expect("starts");
    card.command(Order::Hang);
    capture.read_until_silence(0);
    let began = Instant::now();
    thread::scope(|scope| {
        let reader = gettid();
        scope.spawn(move || {
            wait_until_asleep(reader);
            card.command(Order::Unplug);
        });
        let error = capture.pcm.wait(Some(PATIENCE.as_millis() as u32)).expect_err("it is gone");
        assert_eq!(error.errno(), libc::ENODEV);
    });
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

#[test]
fn a_hung_card_goes_on_without_a_loss() {
    let card = CARDS.card("hang");
    let pcm = Capture::open(card, false).expect("opens");
    let capture = Capture::start_with(pcm, Format::S16LE, RATE, 2, PERIOD, 96_000).expect("starts");
    capture.expect_ramp_from(0);
    card.command(Order::Hang);
    let next = capture.read_until_silence(2 * PERIOD as u64);
    // Longer than the buffer: the time that passes meanwhile must not count as an overrun.
    let began = Instant::now();
    assert!(!capture.pcm.wait(Some(2100)).expect("no error"));
    assert!(began.elapsed() < PATIENCE / 2, "a wait ends in time: {:?}", began.elapsed());
    assert_eq!(card.position().delivered, next);

    thread::scope(|scope| {
        let reader = gettid();
        scope.spawn(move || {
            wait_until_asleep(reader);
            card.command(Order::Run);
        });
        capture.expect_ramp_from(next);
    });
    assert_eq!(card.position().lost(), 0);
}

#[test]
fn each_ordered_overrun_makes_one_hole_and_the_counters_tell_its_size() {
    let card = CARDS.card("xrun");
    let capture = Capture::start(card).expect("starts");
    capture.expect_ramp_from(0);
    for overruns in 1..=3 {
        card.command(Order::Overrun);
        assert_eq!(capture.read_until_error(), libc::EPIPE);
        let before = card.position();
        assert_eq!(before.overruns, overruns);

        capture.restart().expect("restarts");
        let hole = card.position().lost() - before.lost();
        assert!(hole > 0);
        capture.expect_ramp_from(before.next_frame + hole);
    }
    let capture_end = card.position();
    assert_eq!((capture_end.starts, capture_end.overruns), (4, 3));
}

#[test]
fn a_late_reader_gets_an_overrun() {
    let card = CARDS.card("late");
    let pcm = Capture::open(card, false).expect("opens");
    let capture = Capture::start_with(pcm, Format::S16LE, RATE, 2, PERIOD, 5 * PERIOD).expect("starts");
    // Longer than the buffer of 100 ms.
    let_pass(Duration::from_millis(250));
    assert_eq!(capture.read_until_error(), libc::EPIPE);
    assert_eq!(capture.pcm.state(), State::XRun);
    capture.restart().expect("restarts");
    let counters = card.position();
    assert_eq!((counters.overruns, counters.delivered), (1, 0));
    assert!(counters.lost() >= 12_000, "250 ms are lost: {counters:?}");
    let bytes = capture.read(PERIOD as usize).expect("reads");
    assert!(bytes == ramp_bytes(CardFormat::S16, counters.next_frame, PERIOD as usize, 2));
}

#[test]
fn a_storm_of_overruns_brings_no_data() {
    let card = CARDS.card("storm");
    let capture = Capture::start(card).expect("starts");
    capture.expect_ramp_from(0);
    card.command(Order::Storm);
    assert_eq!(capture.read_until_error(), libc::EPIPE);
    let before = card.position();
    for _ in 0..50 {
        capture.restart().expect("it restarts as if all were well");
        assert_eq!(capture.read(1).expect_err("no data").errno(), libc::EPIPE);
    }
    let after = card.position();
    assert_eq!(after.delivered, before.delivered);
    assert_eq!(after.overruns, before.overruns + 50);

    card.command(Order::Run);
    capture.restart().expect("restarts");
    capture.expect_ramp_from(card.position().next_frame);
}

#[test]
fn open_fails_as_ordered() {
    let card = CARDS.card("open");
    for (order, errno) in
        [(Order::Busy, libc::EBUSY), (Order::NoPermission, libc::EACCES), (Order::Gone, libc::ENOENT)]
    {
        card.command(order);
        assert_eq!(open_error(card), errno, "{order:?}");
    }
    card.command(Order::Run);
    let capture = Capture::start(card).expect("starts");
    card.command(Order::Busy);
    capture.expect_ramp_from(0);
    assert_eq!(card.position().opens, 1);
}

#[test]
fn reads_fail_as_ordered() {
    let card = CARDS.card("read");
    let capture = Capture::start(card).expect("starts");
    for (order, errno) in [(Order::ReadEio, libc::EIO), (Order::ReadBadFd, libc::EBADFD)] {
        card.command(order);
        assert_eq!(capture.read_until_error(), errno, "{order:?}");
    }
    card.command(Order::Run);
    capture.restart().expect("restarts");
    capture.expect_ramp_from(card.position().next_frame);
}

#[test]
fn a_card_can_be_opened_once_at_a_time_and_many_times_in_a_row() {
    let card = CARDS.card("reopen");
    let capture = Capture::start(card).expect("starts");
    assert_eq!(open_error(card), libc::EBUSY);
    capture.expect_ramp_from(0);
    drop(capture);
    for _ in 0..100 {
        let capture = Capture::start(card).expect("starts again");
        capture.pcm.drop().expect("stops");
        capture.pcm.prepare().expect("prepares");
    }
    let capture = Capture::start(card).expect("starts again");
    let counters = card.position();
    assert_eq!((counters.opens, counters.starts, counters.overruns), (102, 102, 0));
    capture.expect_ramp_from(counters.next_frame);
}

#[test]
fn a_child_process_gets_a_card_that_vanishes_with_its_test() {
    const CHILD: &str = "FAKE_CARD_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let pcm = PCM::new("solo", Direction::Capture, false).expect("the environment names its asound.conf");
        let capture = Capture::start_with(pcm, Format::S16LE, RATE, 2, PERIOD, BUFFER).expect("starts");
        return capture.expect_ramp_from(0);
    }
    let card = Card::new("solo", CardOptions::default());
    let (name, conf) = card.env();
    let status = Command::new(std::env::current_exe().expect("a test has a path"))
        .args(["--exact", "a_child_process_gets_a_card_that_vanishes_with_its_test"])
        .env(name, &conf)
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .status()
        .expect("starts");
    assert!(status.success());
    assert_eq!(card.wait_until("a read", |counters| counters.delivered > 0).delivered, 2 * PERIOD as u64);
    assert!(conf.exists());
    drop(card);
    assert!(!conf.exists());
}
