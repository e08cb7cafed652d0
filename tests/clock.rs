//! Jumps of the real-time clock, a program of its own because it preloads a library (LD_PRELOAD) into the daemon.
//!
//! Hours pass or come back while a listener is connected and while the card is away. Only the daemon's CLOCK_REALTIME
//! changes, by clock.c below its C library. CLOCK_MONOTONIC goes on, as it does when a machine's clock is set.

mod support;

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use support::card::{self, CardFormat, CardOptions, Cards, Order};
use support::daemon::Daemon;
use support::listening::Listener;
use support::ramp::RampReader;
use support::stopwatch::{Stopwatch, assert_span_within};
use support::{http, wait_for};

/// The daemon's clock, as a number of hours ahead of this machine's clock.
struct Clock(File);

impl Clock {
    fn set(&self, hours: i64) {
        self.0.write_all_at(&(hours * 3600).to_ne_bytes(), 0).expect("written");
    }
}

/// Returns the hours between this machine's clock and the clock by which a file of the past is named.
fn hours_ahead(daemon: &Daemon) -> i64 {
    let lead = daemon.get("/live.wav?last=1&utc=0");
    assert_eq!(lead.status, 307);
    let target = format!("/{}", lead.header("location").expect("a place"));
    let file = http::request(daemon.address(), "GET", &target, "1.1", &[]);
    assert_eq!(file.status, 200, "{target}");
    let name = file.header("content-disposition").expect("a name").to_owned();
    // live-2026-11-20-162805.wav: the digits are the time, whatever is between them.
    let digits: Vec<i64> = name.chars().filter_map(|char| char.to_digit(10)).map(i64::from).collect();
    let number =
        |from: usize, count: usize| digits[from..from + count].iter().fold(0, |sum, digit| sum * 10 + digit);
    let (year, month, day) = (number(0, 4), number(4, 2), number(6, 2));
    // Days since 1970: Hinnant's days_from_civil, for years after it.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let named = days * 86_400 + number(8, 2) * 3600 + number(10, 2) * 60 + number(12, 2);
    // The file is named by this clock too.
    #[allow(clippy::disallowed_methods)]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after it").as_secs() as i64;
    (named - now + 1800).div_euclid(3600)
}

#[test]
fn a_clock_that_jumps_by_hours_changes_nothing_but_the_names_of_files() {
    let library = card::library("clock", include_str!("support/clock.c"), &[]);
    let cards = Cards::with([("fake", CardOptions { rates: vec![44_100], ..CardOptions::default() })]);
    let (key, value) = cards.env();
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("clock-{}", std::process::id()));
    let clock = Clock(File::create(&file).expect("created"));
    clock.set(0);
    let env: [(&str, &OsStr); 3] = [
        (key, value.as_os_str()),
        ("LD_PRELOAD", library.as_os_str()),
        ("WAVECAST_TEST_CLOCK", file.as_os_str()),
    ];
    let config = "[listeners]\nmax_lag_ms = 10000\n[input.live]\ndevice = \"fake\"\nbuffer_ms = 10000\n";
    let daemon = Daemon::with_env(config, &env, Stdio::piped());
    daemon.wait_for_state("live", "capturing");
    let listener = Listener::from_the_beginning(&daemon, RampReader::new(CardFormat::S16, 2));
    let mut events = daemon.get("/live/levels");
    listener.hear_more(Duration::from_secs(7));
    assert_eq!(hours_ahead(&daemon), 0);

    for hours in [6, -7, 30, 0] {
        clock.set(hours);
        wait_for("the clock to be seen to jump", || (hours_ahead(&daemon) == hours).then_some(()));
        // Levels go on to come 20 times a second.
        let began = Stopwatch::start();
        for _ in 0..10 {
            events.body.chunk().expect("they go on");
        }
        let levels = began.span();
        // The past comes at once.
        let began = Stopwatch::start();
        let mut back = daemon.get("/live.wav?back=7&for=7");
        back.bytes(44 + 7 * 44_100 * 4);
        let past = began.span();
        listener.hear_more(Duration::from_millis(500));
        listener.keeps_up_with_the_clock();
        assert_span_within(
            levels,
            Duration::from_secs(10),
            "ten events with levels after a jump of the clock",
        );
        assert_span_within(
            past,
            Duration::from_secs(6),
            "seven seconds of the past after a jump of the clock",
        );
    }
    // While the card is away, the silence is as long as the time.
    let card = cards.card("fake");
    card.command(Order::Unplug);
    daemon.wait_for_state("live", "lost");
    for hours in [12, -12] {
        clock.set(hours);
        wait_for("the clock to be seen to jump", || (hours_ahead(&daemon) == hours).then_some(()));
        listener.hear_silence(Duration::from_millis(500));
        listener.keeps_up_with_the_clock();
    }
    card.command(Order::Run);
    daemon.wait_for_state("live", "capturing");
    listener.hear_more(Duration::from_secs(1));
    listener.keeps_up_with_the_clock();
    listener.missed_what_the_card_lost(&daemon, card);
    let status = daemon.listeners();
    assert_eq!(status[0]["frames_skipped"], 0, "{status:?}");
    let _ = std::fs::remove_file(file);
}
