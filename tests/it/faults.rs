//! Faults of the card: they change the state, the log and the sound, and never end a connection.
//!
//! Nearly every test has a listener that is connected from the card's first frame on. Its stream is compared, frame
//! by frame, with the frames that the card has delivered and lost, and its length with the clock, because silence
//! takes the place of lost frames.

use std::time::Duration;

use crate::support::card::{Card, CardFormat, CardOptions, Cards, Order, ramp_bytes};
use crate::support::daemon::Daemon;
use crate::support::listening::{CLOSE, Ending, Listener, number};
use crate::support::ramp::{RampReader, Stretch};
use crate::support::stopwatch::{Span, Stopwatch, assert_span_within};
use crate::support::{let_pass, wait_for, wait_within};
use serde_json::Value;

/// The number of frames after which the ramp of two channels begins again.
const RAMP: u64 = 32_768;

/// A card, a daemon that captures it, and a listener from the first frame on.
struct Scene {
    cards: Cards,
    daemon: Daemon,
    listener: Listener,
}

impl Scene {
    /// Starts with a stereo card that offers both usual rates, at 48 kHz. The card's buffer lasts for 10 s, so that a
    /// machine that stalls for seconds causes no overrun.
    fn new() -> Scene {
        Scene::with_buffer(10_000)
    }

    /// Starts like [`Scene::new`], with a buffer of `buffer_ms`. A card that is quiet for that long has stalled.
    fn with_buffer(buffer_ms: u32) -> Scene {
        let cards = Cards::with([("fake", CardOptions::default())]);
        let config = format!("[input.live]\ndevice = \"fake\"\nrate = 48000\nbuffer_ms = {buffer_ms}\n");
        let daemon = Daemon::start(Some(&cards), &config);
        daemon.wait_for_state("live", "capturing");
        let listener = Listener::from_the_beginning(&daemon, RampReader::new(CardFormat::S16, 2));
        let scene = Scene { cards, daemon, listener };
        scene.listener.hear_more(Duration::from_millis(300));
        scene.is_well();
        assert_eq!(scene.count("overruns"), 0);
        assert_eq!(scene.count("losses"), 0);
        assert_eq!(scene.count("silence_frames"), 0);
        scene
    }

    fn card(&self) -> &Card {
        self.cards.card("fake")
    }

    fn count(&self, key: &str) -> u64 {
        number(&self.daemon.input("live"), key)
    }

    /// Returns the number of lines of the log that contain `text`.
    fn lines(&self, text: &str) -> usize {
        self.daemon.count_log(text)
    }

    /// Checks that the state is that of a card that works.
    fn is_well(&self) {
        let input = self.daemon.input("live");
        assert_eq!(input["state"], "capturing", "{input}");
        assert!(input["problem"].is_null(), "{input}");
        // For some seconds after a long loss most of the last 10 s is silence.
        wait_for("health", || (self.daemon.get("/healthz").text().trim() == "ok").then_some(()));
        assert_eq!(self.listener.ending(), None);
    }

    /// Waits until the state is that of a lost card with `problem`, and checks that a new listener gets a stream too.
    fn is_lost(&self, problem: &str) {
        wait_for(problem, || has_problem(&self.daemon.input("live"), problem).then_some(()));
        assert_eq!(self.daemon.input("live")["state"], "lost");
        let health = self.daemon.get("/healthz");
        assert_eq!(health.status, 503);
        let text = health.text();
        assert!(text.starts_with("live is lost: ") && text.contains(problem), "{text}");
        let mut newcomer = self.daemon.get("/live.wav?latency=low");
        assert_eq!(newcomer.status, 200);
        newcomer.bytes(44 + 4 * 480);
        assert_eq!(self.listener.ending(), None);
    }

    /// Waits for `time` of silence, during which the state stays that of a lost card.
    fn stays_lost_for(&self, time: Duration) {
        let until = self.listener.heard().silence_frames() + (time.as_secs_f64() * 48_000.0) as u64;
        wait_for("more silence", || {
            assert_eq!(self.daemon.input("live")["state"], "lost");
            (self.listener.look_at(RampReader::silence_frames) >= until).then_some(())
        });
    }

    /// Lets the card work again, and waits until listener and state show it.
    fn recovers(&self) {
        self.card().command(Order::Run);
        self.daemon.wait_for_state("live", "capturing");
        self.listener.hear_more(Duration::from_millis(300));
        self.listener.keeps_up_with_the_clock();
        self.is_well();
    }
}

fn has_problem(input: &Value, problem: &str) -> bool {
    input["problem"].as_str().is_some_and(|text| text.contains(problem))
}

#[test]
fn an_overrun_is_counted_logged_and_filled_with_as_much_silence_as_was_lost() {
    let scene = Scene::new();
    scene.card().command(Order::Overrun);
    wait_for("the overrun to be counted", || (scene.count("overruns") == 1).then_some(()));
    scene.listener.hear_more(Duration::from_millis(300));
    scene.is_well();
    scene.listener.keeps_up_with_the_clock();
    assert_eq!(scene.count("losses"), 0, "the card was never lost");
    assert_eq!(scene.count("silence_frames"), scene.listener.heard().silence_frames());
    assert_eq!(scene.card().position().opens, 1);
    scene.listener.missed_what_the_card_lost(&scene.daemon, scene.card());
    assert_eq!(scene.card().position().overruns, 1);
    assert_eq!(scene.lines("overrun"), 1);
}

#[test]
fn a_burst_of_overruns_is_one_log_line_at_its_start_and_one_at_its_end() {
    let scene = Scene::new();
    for overruns in 1..=5 {
        scene.card().command(Order::Overrun);
        wait_for("the overrun to be counted", || (scene.count("overruns") == overruns).then_some(()));
        scene.listener.hear_more(Duration::from_millis(50));
    }
    assert_eq!(scene.lines("overrun"), 1);
    let line = scene.daemon.wait_for_log("overruns within");
    assert!(line.contains("5 overruns within"), "{line}");
    scene.listener.keeps_up_with_the_clock();
    scene.is_well();
    scene.listener.missed_what_the_card_lost(&scene.daemon, scene.card());
    assert_eq!(scene.lines("overrun"), 2);
}

#[test]
fn a_daemon_that_is_stopped_for_longer_than_the_buffer_overruns_once_and_goes_on() {
    let scene = Scene::with_buffer(2000);
    scene.daemon.stop_for(Duration::from_secs(3));
    wait_for("the overrun to be counted", || (scene.count("overruns") == 1).then_some(()));
    scene.listener.hear_more(Duration::from_millis(300));
    scene.is_well();
    scene.listener.keeps_up_with_the_clock();
    assert_eq!(scene.count("losses"), 0);
    let lost = scene.listener.time(scene.card().position().lost());
    assert!(lost > Duration::from_millis(2900), "{lost:?}");
    scene.listener.missed_what_the_card_lost(&scene.daemon, scene.card());
    assert_eq!(scene.card().position().overruns, 1);
    assert_eq!(scene.lines("overrun"), 1);
}

#[test]
fn an_unplugged_card_is_silence_until_it_is_plugged_in_again() {
    let scene = Scene::new();
    scene.card().command(Order::Unplug);
    scene.is_lost("the sound card was unplugged");
    scene.stays_lost_for(Duration::from_secs(3));
    scene.listener.keeps_up_with_the_clock();
    let problem = scene.daemon.input("live")["problem"].clone();
    assert_eq!(problem, "the sound card was unplugged", "other devices are no answer to that");
    scene.recovers();
    assert_eq!(scene.count("losses"), 1);
    assert_eq!(scene.count("overruns"), 0);
    let silence = scene.count("silence_frames");
    assert_eq!(silence, scene.listener.heard().silence_frames());
    assert!(scene.listener.time(silence) > Duration::from_secs(3));
    let warnings: Vec<String> = scene
        .daemon
        .log()
        .into_iter()
        .filter(|line| line.contains(" WARN ") && line.contains(" live: "))
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    let line = "live: the sound card was unplugged; listeners hear silence, waiting for it to come back";
    assert!(warnings[0].ends_with(line), "{warnings:#?}");
    assert_eq!(scene.lines("back after"), 1);
    scene.listener.missed_what_the_card_lost(&scene.daemon, scene.card());
}

#[test]
fn a_card_that_is_unplugged_twice_comes_back_twice() {
    let scene = Scene::new();
    for losses in 1..=2 {
        scene.card().command(Order::Unplug);
        scene.is_lost("the sound card was unplugged");
        scene.stays_lost_for(Duration::from_millis(500));
        scene.recovers();
        assert_eq!(scene.count("losses"), losses);
        assert_eq!(scene.lines("back after"), losses as usize);
    }
    scene.listener.missed_what_the_card_lost(&scene.daemon, scene.card());
    assert_eq!(scene.listener.heard().holes().len(), 2);
}

/// Checks a card that opens without an error, and then fails at each read.
fn reads_that_fail(order: Order, problem: &str) {
    let scene = Scene::new();
    scene.card().command(order);
    scene.is_lost(problem);
    scene.stays_lost_for(Duration::from_secs(2));
    scene.listener.keeps_up_with_the_clock();
    let opens = scene.card().position().opens;
    assert!(opens >= 3, "it was opened again: {opens}");
    assert_eq!(scene.lines("back after"), 0, "opening is not yet sound");
    scene.recovers();
    assert_eq!(scene.lines(problem), 1, "one line for the change, none for the attempts");
    assert_eq!(scene.lines("back after"), 1);
    assert!(scene.count("losses") >= 3);
    scene.listener.missed_what_the_card_lost(&scene.daemon, scene.card());
}

#[test]
fn a_card_with_input_output_errors_is_silence_until_it_reads_again() {
    reads_that_fail(Order::ReadEio, "reading failed: Input/output error");
}

#[test]
fn a_card_in_a_bad_state_is_silence_until_it_reads_again() {
    reads_that_fail(Order::ReadBadFd, "reading failed: File descriptor in bad state");
}

#[test]
fn a_card_that_overruns_without_end_is_lost_and_not_a_loop() {
    let scene = Scene::new();
    scene.card().command(Order::Storm);
    scene.is_lost("the sound card overran again and again without a sound");
    scene.stays_lost_for(Duration::from_secs(2));
    scene.listener.keeps_up_with_the_clock();
    let position = scene.card().position();
    assert!(position.opens >= 3, "{position:?}");
    assert!(position.overruns <= 20 * position.opens, "{position:?}");
    scene.recovers();
    assert!(scene.count("overruns") >= 10);
    assert_eq!(scene.lines("overran again and again"), 1);
    assert_eq!(scene.lines("overrun:"), 1);
    assert_eq!(scene.lines("back after"), 1);
    scene.listener.missed_what_the_card_lost(&scene.daemon, scene.card());
}

#[test]
fn a_card_that_hangs_for_two_seconds_is_lost_until_it_delivers_again() {
    let scene = Scene::with_buffer(1500);
    scene.card().command(Order::Hang);
    scene.is_lost("the sound card gave no sound for 2.0 s");
    // Longer than the daemon takes to find that the card, opened again, still hangs.
    scene.stays_lost_for(Duration::from_secs(4));
    scene.listener.keeps_up_with_the_clock();
    assert!(scene.card().position().opens >= 2);
    scene.recovers();
    assert_eq!(scene.lines("gave no sound"), 1);
    assert_eq!(scene.lines("back after"), 1);
    assert!(scene.count("losses") >= 1);
    let gave = scene.listener.got_all_that_the_card_gave(&scene.daemon, scene.card());
    // The card stood still meanwhile, so the silence replaces no frame. The ramp repeats itself, so the number is
    // known modulo the ramp.
    let missing: u64 = scene.listener.heard().holes().iter().map(|hole| hole.missing).sum();
    assert_eq!(missing % RAMP, gave.lost() % RAMP);
    assert!(scene.listener.time(gave.lost()) < CLOSE, "{gave:?}");
}

#[test]
fn a_card_that_hangs_for_less_than_two_seconds_is_not_given_up() {
    let scene = Scene::with_buffer(500);
    scene.card().command(Order::Hang);
    // Silence begins after half a second. This leaves the machine more than a second to stall in.
    scene.listener.hear_silence(Duration::from_millis(100));
    let state = scene.daemon.input("live")["state"].clone();
    scene.card().command(Order::Run);
    assert_eq!(state, "capturing");
    scene.listener.hear_more(Duration::from_millis(300));
    scene.listener.keeps_up_with_the_clock();
    scene.is_well();
    assert_eq!(scene.count("losses"), 0);
    assert_eq!(scene.count("overruns"), 0);
    assert_eq!(scene.count("silence_frames"), scene.listener.heard().silence_frames());
    let gave = scene.listener.got_all_that_the_card_gave(&scene.daemon, scene.card());
    assert_eq!((gave.opens, gave.lost()), (1, 0));
    assert_eq!(scene.lines("gave no sound"), 0);
}

#[test]
fn a_card_that_opens_and_never_delivers_is_lost() {
    let cards = Cards::with([("fake", CardOptions::default())]);
    let card = cards.card("fake");
    card.command(Order::Hang);
    let daemon = Daemon::start(Some(&cards), "[input.live]\ndevice = \"fake\"\nrate = 48000\n");
    let lost = daemon.wait_for_state("live", "lost");
    assert!(has_problem(&lost, "gave no sound for 2.0 s"), "{lost}");
    assert_eq!(daemon.count_log("capturing from"), 0);
    let listener = Listener::from_the_beginning(&daemon, RampReader::new(CardFormat::S16, 2));
    listener.keeps_up_with_the_clock();
    card.command(Order::Run);
    daemon.wait_for_state("live", "capturing");
    listener.hear_more(Duration::from_millis(300));
    listener.keeps_up_with_the_clock();
    listener.got_all_that_the_card_gave(&daemon, card);
}

#[test]
fn a_card_that_another_program_takes_while_it_is_away_is_reported_as_in_use() {
    let scene = Scene::new();
    scene.card().command(Order::Unplug);
    scene.is_lost("the sound card was unplugged");
    scene.card().command(Order::Busy);
    scene.is_lost("the sound card was unplugged; \"fake\" is in use");
    assert!(has_problem(&scene.daemon.input("live"), "Stop it"));
    assert!(has_problem(&scene.daemon.input("live"), "sudo fuser -v /dev/snd/*"));
    scene.stays_lost_for(Duration::from_secs(1));
    scene.recovers();
    assert_eq!(scene.lines("is in use:"), 1);
    assert_eq!(scene.count("losses"), 1);
    scene.listener.missed_what_the_card_lost(&scene.daemon, scene.card());
}

#[test]
fn a_card_that_does_not_open_at_the_start_has_a_problem_with_advice_and_plays_once_it_opens() {
    let refused = [
        ("busy", Some(Order::Busy), "is in use:  sudo fuser -v /dev/snd/*  names the program"),
        ("forbidden", Some(Order::NoPermission), "would not open: Permission denied"),
        ("gone", Some(Order::Gone), "ALSA knows no \"gone\", or what it stands for is not there; "),
        (
            "unplugged",
            Some(Order::Unplug),
            "ALSA knows no \"unplugged\", or what it stands for is not there; ",
        ),
        ("mistyped", None, "ALSA knows no \"mistyped\", or what it stands for is not there; "),
        ("hw", None, "\"hw:CARD=NoSuchCard,DEV=0\" is not there"),
    ];
    let cards = Cards::with(
        refused
            .iter()
            .filter(|(_, order, _)| order.is_some())
            .map(|(name, ..)| (*name, CardOptions::default())),
    );
    let mut config = "[log]\nfilter = \"debug\"\n".to_owned();
    for (name, order, _) in &refused {
        if let Some(order) = order {
            cards.card(name).command(*order);
        }
        let device = if *name == "hw" { "hw:CARD=NoSuchCard,DEV=0" } else { name };
        config += &format!("[input.{name}]\ndevice = \"{device}\"\n");
    }
    let daemon = Daemon::start(Some(&cards), &config);
    // All inputs begin at once, so the log now knows of several attempts of each.
    wait_for("four attempts", || (attempts(&daemon, "mistyped") >= 4).then_some(()));

    let health = daemon.get("/healthz");
    assert_eq!(health.status, 503);
    let health = health.text();
    for (name, _, problem) in &refused {
        let input = daemon.input(name);
        assert_eq!(input["state"], "waiting");
        assert!(has_problem(&input, problem), "{input}");
        assert!(input["source"].is_null() && input["format"].is_null(), "{input}");
        assert!(health.contains(&format!("{name} is waiting: ")), "{health}");
        let stream = daemon.get(&format!("/{name}.wav"));
        assert_eq!(stream.status, 503);
        let text = stream.text();
        assert!(text.starts_with(&format!("{name} has no sound yet: ")) && text.contains(problem), "{text}");
        let warnings =
            daemon.log().iter().filter(|l| l.contains(" WARN ") && l.contains(&format!(" {name}: "))).count();
        assert_eq!(warnings, 1, "{name}: one line, not one for each attempt");
    }
    // The problem of a card without permission says what to change, for a service and for a person.
    assert!(has_problem(&daemon.input("forbidden"), "audio"));
    // The problem of a missing card names the cards that are there, or a source that needs no card.
    let choice = |input: &Value| has_problem(input, "there are: ") || has_problem(input, "synth:tone");
    for name in ["gone", "unplugged", "mistyped", "hw"] {
        assert!(choice(&daemon.input(name)), "{}", daemon.input(name));
    }
    for (name, order, _) in refused {
        if order.is_none() {
            continue;
        }
        cards.card(name).command(Order::Run);
        let input = daemon.wait_for_state(name, "capturing");
        assert!(input["problem"].is_null(), "{input}");
        let mut stream = daemon.get(&format!("/{name}.wav?back=30"));
        assert_eq!(stream.status, 200);
        stream.bytes(44);
        let mut ramp = RampReader::new(CardFormat::S16, 2);
        ramp.feed(&stream.bytes(4 * 10_000));
        assert_eq!(ramp.stretches, [Stretch::Ramp { first: 0, frames: 10_000 }], "{name}");
    }
}

/// Returns the number of times that ALSA was asked for the unknown device `name`, from its messages in the log.
fn attempts(daemon: &Daemon, name: &str) -> usize {
    daemon.count_log(&format!("Unknown PCM {name}"))
}

#[test]
fn a_missing_card_is_tried_less_and_less_often_and_at_least_every_5_seconds() {
    // One card opens and fails at once, and the other one does not open.
    let cards = Cards::with([("fake", CardOptions::default())]);
    let card = cards.card("fake");
    card.command(Order::ReadEio);
    // Before the start: the daemon may have tried both before the first look.
    let began = Stopwatch::start();
    let daemon = Daemon::start(
        Some(&cards),
        "[log]\nfilter = \"debug\"\n[input.live]\ndevice = \"fake\"\n[input.other]\ndevice = \"mistyped\"\n",
    );
    let pauses = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0];
    // Each attempt has two times: the last look before it, and the first look after it. This test may look late.
    let (mut opens, mut others): (Vec<[Stopwatch; 2]>, Vec<[Stopwatch; 2]>) = Default::default();
    let mut before = began;
    wait_within(Duration::from_secs(60), Duration::from_millis(5), "nine attempts at each device", || {
        let look = Stopwatch::start();
        let (opened, asked) = (card.position().opens as usize, attempts(&daemon, "mistyped"));
        let after = Stopwatch::start();
        opens.resize(opened, [before, after]);
        others.resize(asked, [before, after]);
        before = look;
        (opened.min(asked) > pauses.len()).then_some(())
    });
    // The time after each pause until the next attempt. The host's time is not counted.
    let mut late = Vec::new();
    for (attempts, is_exact) in [(opens, true), (others, false)] {
        let took: Vec<_> = attempts
            .windows(2)
            .map(|pair| {
                let ([first, seen], [not_yet, last]) = (pair[0], pair[1]);
                (not_yet.span_since(&seen), last.span_since(&first))
            })
            .collect();
        // The log is read by another thread, whose delays would shorten a pause.
        for ((_, at_most), pause) in took.iter().zip(pauses).filter(|_| is_exact) {
            assert!(at_most.clock.as_secs_f64() > pause, "no pause is shorter: {took:?}");
        }
        late.extend(took.into_iter().zip(pauses).map(|((at_least, _), pause)| Span {
            clock: at_least.clock.saturating_sub(Duration::from_secs_f64(pause)),
            ..at_least
        }));
    }
    assert_eq!(daemon.count_log(" WARN "), 2, "one line for each");
    // A machine that stalls delays single attempts.
    late.sort_unstable();
    assert_span_within(
        late[late.len() / 2],
        Duration::from_millis(400),
        "the lateness of half of the attempts",
    );
}

#[test]
fn a_card_that_has_worked_for_10_seconds_is_tried_at_once_when_it_is_lost_again() {
    let scene = Scene::new();
    scene.card().command(Order::ReadEio);
    // The next pause is 1.6 s, and the one after it would be 3.2 s.
    scene.card().wait_until("five openings", |counters| counters.opens == 5);
    scene.recovers();
    scene.listener.hear_more(Duration::from_secs(11));
    let opens = scene.card().position().opens;
    scene.card().command(Order::ReadEio);
    let began = Stopwatch::start();
    scene.card().wait_until("another opening", |counters| counters.opens > opens);
    let took = began.span();
    scene.recovers();
    assert_span_within(took, Duration::from_secs(3), "the next attempt to open the card");
}

#[test]
fn a_card_that_comes_back_with_another_rate_ends_the_stream_cleanly_and_begins_a_new_one() {
    let mut scene = Scene::new();
    scene.card().command(Order::Unplug);
    scene.is_lost("the sound card was unplugged");
    scene.cards.exchange("fake", CardOptions { rates: vec![32_000], ..Default::default() });
    scene.card().command(Order::Run);
    let input = scene.daemon.wait_for_state("live", "capturing");
    assert_eq!(input["format"]["rate"], 32_000);
    wait_for("the end of the stream", || scene.listener.ending());
    assert_eq!(scene.listener.ending(), Some(Ending::Complete), "its last chunk says that it is the last");
    let heard = scene.listener.heard();
    assert!(matches!(heard.stretches[..], [Stretch::Ramp { first: 0, .. }, Stretch::Silence { .. }]));

    let listener = Listener::start(&scene.daemon, "/live.wav", RampReader::new(CardFormat::S16, 2));
    assert_eq!(listener.rate(), 32_000);
    listener.hear_more(Duration::from_millis(500));
    assert!(listener.heard().is_whole(), "{}", listener.heard().shown());
    let line = scene.daemon.wait_for_log("back after");
    assert!(line.contains("32000 Hz") && line.contains("asked for 48000 Hz"), "{line}");
}

/// Returns the processor time that the daemon has used.
fn cpu(daemon: &Daemon) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Checks a device that would deliver a year of sound in a minute.
fn is_paced(daemon: &Daemon) {
    let input = daemon.wait_for_state("live", "capturing");
    let rate = number(&input["format"], "rate") as f64;
    // The daemon needs some sound to find out that the device has no clock. It comes at once.
    wait_for("the clock to be missed", || {
        (number(&daemon.input("live"), "frames") as f64 > rate).then_some(())
    });
    let (began, frames, used) = (Stopwatch::start(), number(&daemon.input("live"), "frames"), cpu(daemon));
    let mut stream = daemon.get("/live.wav?latency=low");
    stream.bytes(44 + 3 * 4 * rate as usize);
    let took = began.by_the_clock();
    assert!(took > Duration::from_millis(2800), "three seconds of sound in {took:?}");
    let frames = (number(&daemon.input("live"), "frames") - frames) as f64 / rate;
    let late = 0.3 + began.stolen().as_secs_f64();
    assert!((frames - took.as_secs_f64()).abs() < late, "{frames} s of sound in {took:?}");
    let used = cpu(daemon) - used;
    assert!(used < took / 5, "{used:?} of CPU time in {took:?}");
    assert_eq!(number(&daemon.input("live"), "overruns"), 0);
    assert_eq!(daemon.get("/healthz").status, 200);
}

#[test]
fn a_device_without_a_clock_is_read_at_the_pace_of_the_clock() {
    let cards = Cards::with([("fake", CardOptions::default())]);
    let daemon = Daemon::start(Some(&cards), "[input.live]\ndevice = \"null\"\n");
    is_paced(&daemon);
    // The default buffer of this device has 206,158,430 frames.
    assert!(number(&daemon.input("live")["source"], "buffer_frames") <= 44_100);
}

#[test]
fn a_file_instead_of_a_card_is_played_at_the_pace_of_the_clock_to_its_last_frame() {
    const SECONDS: u64 = 8;
    let file =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("file-{}.raw", std::process::id()));
    std::fs::write(&file, ramp_bytes(CardFormat::S16, 0, 44_100 * SECONDS as usize, 2)).expect("written");
    let cards = Cards::with([("fake", CardOptions::default())]).and(&format!(
        "pcm.recording {{ type file slave.pcm null file /dev/null infile \"{}\" format raw }}\n",
        file.display()
    ));
    let daemon = Daemon::start(Some(&cards), "[input.live]\ndevice = \"recording\"\n");
    is_paced(&daemon);
    let listener = Listener::from_the_beginning(&daemon, RampReader::new(CardFormat::S16, 2));
    listener.wait_until("all of the file", |ramp| ramp.ramp_frames() >= 44_100 * SECONDS);
    std::fs::remove_file(file).expect("it is this test's own");
    assert_eq!(listener.heard().stretches[0], Stretch::Ramp { first: 0, frames: 44_100 * SECONDS });
}

#[test]
fn stalls_again_and_again_that_are_most_of_the_sound_make_the_input_unhealthy() {
    let cards = Cards::with([("fake", CardOptions::default())]);
    let daemon = Daemon::start(Some(&cards), "[input.live]\ndevice = \"fake\"\nbuffer_ms = 100\n");
    daemon.wait_for_state("live", "capturing");
    let card = cards.card("fake");
    // A stall lasts longer than the card's buffer, and shorter than the two seconds after which a card is lost.
    let (stalled, running) = (Duration::from_millis(900), Duration::from_millis(200));
    let text = wait_for("an unhealthy input", || {
        card.command(Order::Hang);
        let_pass(stalled);
        card.command(Order::Run);
        let_pass(running);
        let health = daemon.get("/healthz/live");
        let text = (health.status == 503).then(|| health.text());
        // A card that hangs for two seconds, since the machine stalls, is lost.
        text.filter(|text| !text.starts_with("live is lost: "))
    });
    assert!(text.starts_with("live loses sound: ") && text.contains("of the last 10 s"), "{text}");
    daemon.wait_for_state("live", "capturing");
    wait_for("a healthy input", || (daemon.get("/healthz").status == 200).then_some(()));
}

/// Returns a card that delivers one value.
fn dead_card(value: i16) -> CardOptions {
    CardOptions { raw: Some(vec![value; 9600]), ..CardOptions::default() }
}

#[test]
fn dead_air_is_reported_everywhere_and_the_device_opened_again_once() {
    for (value, content) in [(0, "zeros only"), (-1, "one value only")] {
        let cards = Cards::with([("fake", dead_card(value))]);
        let daemon = Daemon::start(
            Some(&cards),
            "[input.live]\ndevice = \"fake\"\nquiet_seconds = 1\ngain_db = -20\n",
        );
        let line = daemon.wait_for_log("dead air: ");
        assert!(line.contains(content) && line.contains("it is opened again, once"), "{line}");
        cards.card("fake").wait_until("the second opening", |counters| counters.opens == 2);
        let frames = number(&daemon.input("live"), "frames");
        wait_for("more sound", || (number(&daemon.input("live"), "frames") > frames + 100_000).then_some(()));
        let health = daemon.get("/healthz");
        assert_eq!(health.status, 200);
        let text = health.text();
        assert!(
            text.starts_with("degraded\nlive has dead air: the device delivers ") && text.contains(content),
            "{text}"
        );
        let input = daemon.input("live");
        assert!(input["dead_air_seconds"].as_f64().is_some_and(|seconds| seconds > 2.0), "{input}");
        assert!(has_problem(&input, content) && input["state"] == "capturing", "{input}");
        assert_eq!(number(&input, "losses"), 0);
        assert_eq!(daemon.count_log("dead air"), 1);
        assert_eq!(daemon.count_log("capturing from"), 1);
        assert_eq!(cards.card("fake").position().opens, 2);
    }
}

#[test]
fn a_device_that_is_revived_by_opening_it_again_is_well_and_keeps_its_listeners() {
    let mut cards = Cards::with([("fake", dead_card(0))]);
    let daemon = Daemon::start(Some(&cards), "[input.live]\ndevice = \"fake\"\nquiet_seconds = 2\n");
    daemon.wait_for_state("live", "capturing");
    let mut stream = daemon.get("/live.wav?latency=low");
    stream.bytes(44);
    // The daemon keeps the card that it has open, until it opens it again.
    cards.exchange("fake", CardOptions::default());
    daemon.wait_for_log("dead air: ");
    daemon.wait_for_log("sound again after ");
    let input = wait_for("a good state", || {
        let input = daemon.input("live");
        input["problem"].is_null().then_some(input)
    });
    assert!(input["dead_air_seconds"].is_null() && input["state"] == "capturing", "{input}");
    assert_eq!(number(&input, "losses"), 0);
    assert_eq!(daemon.get("/healthz").text(), "ok\n");
    stream.bytes(44_100 * 4);
}
