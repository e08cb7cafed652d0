//! Exactness: the client gets the samples that the card delivers, bit for bit.

use std::time::{Duration, Instant};

use crate::support::card::{CardFormat, CardOptions, Cards, Order, ramp16};
use crate::support::daemon::Daemon;
use crate::support::http::Response;
use crate::support::listening::{Ending, Listener, number};
use crate::support::ramp::{RampReader, Stretch};
use crate::support::wait_for;

/// The output formats, with their names in the configuration.
const OUTPUTS: [(&str, CardFormat); 3] =
    [("s16", CardFormat::S16), ("s24", CardFormat::S24Packed), ("s32", CardFormat::S32)];

fn one_card(options: CardOptions) -> Cards {
    Cards::with([("fake", options)])
}

/// The card's buffer lasts longer than this machine stalls, so that no frame is lost before it is read.
const PATIENT: &str = "buffer_ms = 10000\n";

/// Starts a daemon whose only input is the card `fake`, with more lines for its table.
fn daemon_of(cards: &Cards, more: &str) -> Daemon {
    let daemon = Daemon::start(Some(cards), &format!("[input.live]\ndevice = \"fake\"\n{PATIENT}{more}\n"));
    daemon.wait_for_state("live", "capturing");
    daemon
}

/// Returns rate, channels and bits from the header of the stream.
fn format_in(header: &[u8]) -> (u32, u16, u16) {
    let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    (u32::from_le_bytes(header[24..28].try_into().expect("four bytes")), word(22), word(34))
}

fn open_stream(daemon: &Daemon, target: &str) -> (Response, (u32, u16, u16)) {
    let mut response = daemon.get(target);
    assert_eq!(response.status, 200, "{target}");
    let header = response.bytes(44);
    (response, format_in(&header))
}

#[test]
fn a_listener_gets_the_cards_ramp_bit_for_bit() {
    let cards = one_card(CardOptions::default());
    let daemon = daemon_of(&cards, "");
    let (mut response, format) = open_stream(&daemon, "/live.wav");
    assert_eq!(format, (44_100, 2, 16));
    let mut ramp = RampReader::new(CardFormat::S16, 2);
    ramp.feed(&response.bytes(4 * 44_100 * 2));
    assert!(ramp.is_whole(), "{}", ramp.shown());
}

/// Checks every rate, number of channels and output format of one kind of card, at once, with an input for each.
fn every_output_of(card: CardFormat) {
    let options = || CardOptions { formats: vec![card], ..Default::default() };
    let mut inputs = Vec::new();
    for rate in [44_100, 48_000] {
        for channels in [1, 2] {
            for (output, format) in OUTPUTS {
                inputs.push((format!("c{rate}-{channels}-{output}"), rate, channels, output, format));
            }
        }
    }
    let cards = Cards::with(inputs.iter().map(|(name, ..)| (name.as_str(), options())));
    let config: String = inputs
        .iter()
        .map(|(name, rate, channels, output, _)| {
            format!(
                "[input.{name}]\ndevice = \"{name}\"\nrate = {rate}\nchannels = {channels}\n\
                 format = \"{output}\"\nperiod_ms = 25\n{PATIENT}"
            )
        })
        .collect();
    let daemon = Daemon::start(Some(&cards), &config);
    for (name, rate, channels, output, format) in inputs {
        let input = daemon.wait_for_state(&name, "capturing");
        assert_eq!(input["source"]["sample"], card.name(), "{name}");
        assert_eq!(input["format"]["sample"], output, "{name}");
        let (mut response, header) = open_stream(&daemon, &format!("/{name}.wav?back=30"));
        let bytes = match format {
            CardFormat::S16 => 2,
            CardFormat::S24Packed => 3,
            _ => 4,
        };
        assert_eq!(header, (rate, channels as u16, bytes as u16 * 8), "{name}");
        // All of the 65536 values, and the first ones again.
        let frames = 70_000 / channels as usize;
        let mut ramp = RampReader::converted(card, format, channels);
        ramp.feed(&response.bytes(frames * channels as usize * bytes));
        assert_eq!(ramp.stretches, [Stretch::Ramp { first: 0, frames: frames as u64 }], "{name}");
    }
}

#[test]
fn a_16_bit_card_is_heard_bit_for_bit_in_every_output() {
    every_output_of(CardFormat::S16);
}

#[test]
fn a_card_with_24_bits_in_3_bytes_is_heard_with_its_highest_bits_in_every_output() {
    every_output_of(CardFormat::S24Packed);
}

#[test]
fn a_card_with_24_bits_in_4_bytes_is_heard_with_its_highest_bits_in_every_output() {
    every_output_of(CardFormat::S24);
}

#[test]
fn a_card_with_32_bits_only_is_heard_with_its_highest_bits_in_every_output() {
    every_output_of(CardFormat::S32);
}

#[test]
fn a_card_with_floats_is_heard_bit_for_bit_in_every_output() {
    every_output_of(CardFormat::Float);
}

#[test]
fn a_card_with_every_format_is_captured_in_the_output_format() {
    let options = || CardOptions { formats: CardFormat::ALL.into(), ..Default::default() };
    let cards = Cards::with(OUTPUTS.map(|(name, _)| (name, options())));
    let config = OUTPUTS
        .map(|(name, _)| format!("[input.{name}]\ndevice = \"{name}\"\nformat = \"{name}\"\n"))
        .concat();
    let daemon = Daemon::start(Some(&cards), &config);
    for (name, format) in OUTPUTS {
        let input = daemon.wait_for_state(name, "capturing");
        assert_eq!(input["source"]["sample"], format.name());
    }
}

#[test]
fn a_card_without_the_wanted_rate_or_channels_gives_the_nearest_and_the_log_says_so() {
    let card = |rates: &[u32], channels: &[u32]| CardOptions {
        rates: rates.into(),
        channels: channels.into(),
        ..Default::default()
    };
    let cards = Cards::with([
        ("mono", card(&[44_100, 48_000], &[1])),
        ("one-rate", card(&[48_000], &[1, 2])),
        ("low-or-high", card(&[32_000, 96_000], &[2])),
        ("eight", card(&[44_100], &[8])),
        ("neither", card(&[16_000], &[1])),
    ]);
    let expected = [
        ("mono", 44_100, 1),
        ("one-rate", 48_000, 2),
        ("low-or-high", 32_000, 2),
        ("eight", 44_100, 8),
        ("neither", 16_000, 1),
    ];
    let config = expected.map(|(name, ..)| format!("[input.{name}]\ndevice = \"{name}\"\n")).concat();
    let daemon = Daemon::start(Some(&cards), &config);
    for (name, rate, channels) in expected {
        let input = daemon.wait_for_state(name, "capturing");
        assert_eq!(input["format"]["rate"], rate, "{name}");
        assert_eq!(input["format"]["channels"], channels, "{name}");
        let position = cards.card(name).position();
        assert_eq!((position.rate, position.channels), (rate.into(), channels.into()), "{name}");
        let (mut response, header) = open_stream(&daemon, &format!("/{name}.wav?back=30"));
        assert_eq!(header, (rate, channels as u16, 16), "{name}");
        let mut ramp = RampReader::new(CardFormat::S16, channels);
        ramp.feed(&response.bytes(rate as usize * channels as usize * 2));
        assert_eq!(ramp.stretches, [Stretch::Ramp { first: 0, frames: rate.into() }], "{name}");
        let line = daemon.wait_for_log(&format!("{name}: capturing from"));
        let words = "asked for 44100 Hz, this is the nearest it offers";
        assert_eq!(line.contains(words), rate != 44_100, "{line}");
        let words = "asked for stereo, this is the nearest it offers";
        assert_eq!(line.contains(words), channels != 2, "{line}");
    }
}

#[test]
fn picked_channels_are_bit_for_bit_those_of_the_card() {
    const CHANNELS: u32 = 4;
    let picks = [
        ("third", "[3]", &[2][..]),
        ("pair", "[1, 2]", &[0, 1]),
        ("reverse", "[4, 1, 4]", &[3, 0, 3]),
        ("left", "\"left\"", &[0]),
        ("right", "\"right\"", &[1]),
        ("swap", "\"swap\"", &[1, 0]),
        ("mono", "\"mono\"", &[]),
    ];
    // One that offers stereo too: the pick asks for enough.
    let offers = |name: &str| if name == "third" { vec![2, CHANNELS] } else { vec![CHANNELS] };
    let cards = Cards::with(
        picks.map(|(name, ..)| (name, CardOptions { channels: offers(name), ..Default::default() })),
    );
    let config =
        picks.map(|(name, pick, _)| format!("[input.{name}]\ndevice = \"{name}\"\npick = {pick}\n{PATIENT}"));
    let daemon = Daemon::start(Some(&cards), &config.concat());
    for (name, _, picked) in picks {
        let input = daemon.wait_for_state(name, "capturing");
        let channels = picked.len().max(1);
        assert_eq!(input["source"]["channels"], CHANNELS, "{name}");
        assert_eq!(input["format"]["channels"], channels, "{name}");
        assert_eq!(input["levels"].as_array().map(Vec::len), Some(channels), "{name}");
        let (mut response, header) = open_stream(&daemon, &format!("/{name}.wav?back=30"));
        assert_eq!(header, (44_100, channels as u16, 16), "{name}");
        let bytes = response.bytes(20_000 * channels * 2);
        let samples = bytes.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]]));
        let expected = (0..20_000).flat_map(|frame| {
            let of = |channel| ramp16(frame, channel, CHANNELS) as i16;
            let sum: i32 = (0..CHANNELS).map(|channel| i32::from(of(channel))).sum();
            let mean = (f64::from(sum) / f64::from(CHANNELS) + 0.5).floor() as i16;
            if picked.is_empty() { vec![mean] } else { picked.iter().map(|channel| of(*channel)).collect() }
        });
        assert!(samples.eq(expected), "{name}");
    }
}

#[test]
fn inputs_share_a_card_with_one_opening_and_their_streams_are_those_of_the_same_frames() {
    let cards = one_card(CardOptions { channels: vec![4], ..Default::default() });
    let input =
        |name: &str, pick: &str| format!("[input.{name}]\ndevice = \"fake\"\npick = {pick}\n{PATIENT}");
    let both = input("first", "[1]") + &input("pair", "[3, 4]");
    let daemon = Daemon::start(Some(&cards), &both);
    for (name, picked) in [("first", &[0][..]), ("pair", &[2, 3])] {
        daemon.wait_for_state(name, "capturing");
        let (mut response, header) = open_stream(&daemon, &format!("/{name}.wav?back=30"));
        assert_eq!(header, (44_100, picked.len() as u16, 16), "{name}");
        let bytes = response.bytes(20_000 * picked.len() * 2);
        let samples = bytes.chunks_exact(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
        let expected = (0..20_000).flat_map(|n| picked.iter().map(move |channel| ramp16(n, *channel, 4)));
        assert!(samples.eq(expected), "{name}");
    }
    assert_eq!(cards.card("fake").position().opens, 1);
    assert_eq!(daemon.count_log("capturing from fake"), 2);

    // Another input joins: the card is opened again, and the rings of the others go on with their listeners.
    let (mut listener, _) = open_stream(&daemon, "/first.wav?latency=low");
    daemon.reload(&(both + &input("mono", "\"mono\"")));
    daemon.wait_for_log("mono: capturing from fake");
    listener.bytes(44_100 * 2 * 2);
    assert_eq!(cards.card("fake").position().opens, 2);

    // An unplugged card is a loss of each.
    let names = ["first", "pair", "mono"];
    cards.card("fake").command(Order::Unplug);
    for name in names {
        daemon.wait_for_state(name, "lost");
    }
    cards.card("fake").command(Order::Run);
    for name in names {
        daemon.wait_for_state(name, "capturing");
        assert_eq!(number(&daemon.input(name), "losses"), 1, "{name}");
    }

    // The others go: the one that stays is captured alone.
    daemon.reload(&input("pair", "[3, 4]"));
    wait_for("the end of the others", || (daemon.get("/mono.wav").status == 404).then_some(()));
    daemon.wait_for_state("pair", "capturing");
}

#[test]
fn a_card_without_the_picked_channel_is_a_problem_with_advice() {
    let cards = one_card(CardOptions::default());
    let daemon = Daemon::start(Some(&cards), "[input.live]\ndevice = \"fake\"\npick = [3]\n");
    let line = daemon.wait_for_log("`pick` names channel 3");
    assert!(line.contains("fake offers 2 channels at most"), "{line}");
}

#[test]
fn period_and_buffer_are_what_is_configured_and_10_and_500_ms_if_nothing_is() {
    let cards = Cards::with(["usual", "other"].map(|name| (name, CardOptions::default())));
    let daemon = Daemon::start(
        Some(&cards),
        "[input.usual]\ndevice = \"usual\"\nrate = 48000\n\
         [input.other]\ndevice = \"other\"\nrate = 48000\nperiod_ms = 25\nbuffer_ms = 200\n",
    );
    for (name, period, buffer) in [("usual", 480, 24_000), ("other", 1200, 9600)] {
        let input = daemon.wait_for_state(name, "capturing");
        let position = cards.card(name).position();
        assert_eq!((position.period_frames, position.buffer_frames), (period, buffer));
        assert_eq!(input["source"]["period_frames"], period);
        assert_eq!(input["source"]["buffer_frames"], buffer);
    }
}

#[test]
fn gain_makes_it_louder_and_what_gets_too_loud_stays_at_full_scale() {
    // Each gain has the value that a sample of 1 << 8 becomes, so that its own formula is not the only judge.
    let gains = [("twice", 6.020_6, 512), ("much", 40.0, 25_600), ("half", -6.020_6, 128)];
    let cards = Cards::with(gains.map(|(name, ..)| (name, CardOptions::default())));
    let config = gains
        .map(|(name, db, _)| {
            format!("[input.{name}]\ndevice = \"{name}\"\nchannels = 1\ngain_db = {db:?}\n{PATIENT}")
        })
        .concat();
    let daemon = Daemon::start(Some(&cards), &config);
    for (name, db, known) in gains {
        daemon.wait_for_state(name, "capturing");
        let (mut response, _) = open_stream(&daemon, &format!("/{name}.wav?back=30"));
        let bytes = response.bytes(65_536 * 2);
        let gain = 10f64.powf(db / 20.0);
        let mut clipped = 0;
        // The stream begins with the card's frame 0, whose value is 0, and each value comes once.
        for (value, sample) in (0..=u16::MAX).zip(bytes.chunks_exact(2)) {
            let sample = i16::from_le_bytes([sample[0], sample[1]]);
            let exact = f64::from(value as i16) * gain;
            if !(-32_769.0..32_768.0).contains(&exact) {
                clipped += 1;
                assert_eq!(sample, if exact > 0.0 { i16::MAX } else { i16::MIN }, "{value} at {db} dB");
            } else {
                assert!((f64::from(sample) - exact).abs() <= 1.0, "{value} at {db} dB: {sample}");
            }
        }
        let sample = i16::from_le_bytes([bytes[512], bytes[513]]);
        assert!((i32::from(sample) - known).abs() <= 1, "{sample} at {db} dB");
        assert_eq!(clipped > 0, db > 0.0);
    }
}

#[test]
fn a_listener_that_asks_for_the_past_gets_exactly_the_frames_before() {
    let cards = one_card(CardOptions::default());
    let daemon = daemon_of(&cards, "");
    let card = cards.card("fake");
    let period = card.position().period_frames;
    card.wait_until("a past", |counters| counters.delivered > 3 * 44_100);
    for back in [0, 1, 2] {
        let before = card.position().next_frame;
        let (mut response, _) = open_stream(&daemon, &format!("/live.wav?back={back}"));
        let after = card.position().next_frame;
        let mut ramp = RampReader::new(CardFormat::S16, 2);
        ramp.feed(&response.bytes(4 * 44_100 * (back + 1)));
        assert!(ramp.is_whole(), "{}", ramp.shown());
        let [Stretch::Ramp { first, .. }] = ramp.stretches[..] else { panic!("whole") };
        // The frame that was live at the request is between the two counts, or one block earlier, because the card
        // counts a block a moment before it is published. The ramp has 32768 frames.
        let live = first + 44_100 * back as u64;
        let ahead = (live + period).wrapping_sub(before) % 32_768;
        assert!(ahead <= after - before + period, "back={back}: {first} in {before} to {after}");
        assert_eq!((before + ahead) % period, 0, "back={back}: it is counted from the last whole block");
    }
}

#[test]
fn frames_received_and_frames_missing_are_those_that_the_card_has_counted() {
    let cards = one_card(CardOptions::default());
    let daemon = daemon_of(&cards, "rate = 48000");
    let card = cards.card("fake");
    let listener = Listener::from_the_beginning(&daemon, RampReader::new(CardFormat::S16, 2));
    for overruns in 1..=3 {
        listener.hear_more(Duration::from_millis(300));
        card.command(Order::Overrun);
        card.wait_until("an overrun", |counters| counters.overruns == overruns);
    }
    listener.hear_more(Duration::from_millis(300));
    listener.keeps_up_with_the_clock();
    assert_eq!(card.position().overruns, 3, "this machine was too slow for 10 s of buffer");
    listener.missed_what_the_card_lost(&daemon, card);
    let heard = listener.heard();
    assert_eq!(heard.holes().len(), 3, "{}", heard.shown());
    let input = daemon.input("live");
    assert_eq!(number(&input, "overruns"), 3);
    // Silence goes on while the card is unplugged.
    let silence: u64 = heard.holes().iter().map(|hole| hole.silence).sum();
    assert!(number(&input, "silence_frames") >= silence);
}

#[test]
fn fifty_listeners_at_once_each_get_every_frame() {
    const LISTENERS: usize = 50;
    let seconds = std::env::var("WAVECAST_SOAK_SECONDS");
    let seconds: u64 = seconds.map_or(5, |text| text.parse().expect("WAVECAST_SOAK_SECONDS is a number"));
    let cards = one_card(CardOptions::default());
    let daemon = daemon_of(&cards, "rate = 48000");
    let ramp = RampReader::new(CardFormat::S16, 2);
    let listeners: Vec<Listener> =
        (0..LISTENERS).map(|_| Listener::start(&daemon, "/live.wav", ramp.clone())).collect();
    let began = Instant::now();
    // The streams begin with half a second of the past.
    let frames = seconds * 48_000 + 24_000;
    let patience = Duration::from_secs(seconds) + crate::support::PATIENCE;
    for listener in &listeners {
        crate::support::wait_within(patience, Duration::from_millis(20), &format!("{frames} frames"), || {
            assert_eq!(listener.ending(), None, "it is connected");
            (listener.look_at(RampReader::frames) >= frames).then_some(())
        });
    }
    let took = began.elapsed();
    // All were connected to the end, none was skipped, and none has a hole.
    let status = daemon.status();
    let connected = status["listeners"].as_array().expect("listeners");
    assert_eq!(connected.len(), LISTENERS);
    assert!(connected.iter().all(|listener| listener["frames_skipped"] == 0), "{status:#}");
    for listener in &listeners {
        let heard = listener.heard();
        assert!(heard.is_whole(), "{}", heard.shown());
        assert!(heard.frames() >= frames);
    }
    assert_eq!(cards.card("fake").position().lost(), 0);
    println!("{LISTENERS} listeners, {} frames each in {took:.1?}, every one exact", frames);
}

#[test]
fn a_card_that_runs_twenty_times_too_fast_is_heard_without_a_hole() {
    let cards = one_card(CardOptions { speed: 20.0, ..Default::default() });
    // All times are the card's: 10 s of buffer are half a second of the clock.
    let daemon = Daemon::start(
        Some(&cards),
        "[listeners]\nmax_lag_ms = 60000\nsend_buffer_ms = 5000\n\
         [input.live]\ndevice = \"fake\"\nbuffer_ms = 10000\nperiod_ms = 200\nhistory_seconds = 120\n",
    );
    daemon.wait_for_state("live", "capturing");
    let listener = Listener::start(&daemon, "/live.wav?back=120", RampReader::new(CardFormat::S16, 2));
    listener.wait_until("a minute of sound", |ramp| ramp.ramp_frames() >= 60 * 44_100);
    let heard = listener.heard();
    assert!(heard.is_whole(), "{}", heard.shown());
    assert!(matches!(heard.stretches[..], [Stretch::Ramp { first: 0, .. }]));
    listener.got_all_that_the_card_gave(&daemon, cards.card("fake"));
}

#[test]
fn the_drift_of_the_cards_clock_is_found_within_some_parts_in_a_million() {
    let ppms = [("fast", 200.0), ("true", 0.0), ("slow", -300.0)];
    let cards = Cards::with(ppms.map(|(name, ppm)| (name, CardOptions { ppm, ..Default::default() })));
    let config = ppms.map(|(name, _)| format!("[input.{name}]\ndevice = \"{name}\"\n")).concat();
    let daemon = Daemon::start(Some(&cards), &config);
    for (name, _) in ppms {
        assert!(daemon.wait_for_state(name, "capturing")["drift_ppm"].is_null(), "not known at once");
    }
    for (name, ppm) in ppms {
        // The measurement gets better with time. It must be near soon, however this machine stalls.
        wait_for_long(&format!("{name} to be known as {ppm} ppm"), || {
            daemon.input(name)["drift_ppm"].as_f64().filter(|found| (found - ppm).abs() < 30.0)
        });
    }
}

fn wait_for_long<T>(event: &str, look: impl FnMut() -> Option<T>) -> T {
    crate::support::wait_within(Duration::from_secs(20), Duration::from_millis(200), event, look)
}

#[test]
fn a_stall_shorter_than_the_buffer_loses_nothing_and_leaves_no_delay() {
    let cards = one_card(CardOptions::default());
    // Sound that comes late to all listeners must not make them skip.
    let daemon = daemon_of(&cards, "[listeners]\nmax_lag_ms = 10000");
    let card = cards.card("fake");
    let listener = Listener::from_the_beginning(&daemon, RampReader::new(CardFormat::S16, 2));
    listener.hear_more(Duration::from_millis(500));
    daemon.stop_for(Duration::from_millis(2500));
    // The sound in the card's buffer is read at once, and from then on the card is read at its own pace.
    listener.hear_more(Duration::from_secs(4));
    listener.keeps_up_with_the_clock();
    assert_eq!(card.position().lost(), 0);
    assert!(listener.heard().is_whole(), "{}", listener.heard().shown());
    assert_eq!(number(&daemon.input("live"), "overruns"), 0);
}

#[test]
fn a_listener_that_asks_for_more_past_than_there_is_is_skipped_forward_and_never_back() {
    let cards = one_card(CardOptions { speed: 20.0, ..Default::default() });
    // All times are the card's.
    let daemon = Daemon::start(
        Some(&cards),
        "[listeners]\nmax_lag_ms = 20000\n\
         [input.live]\ndevice = \"fake\"\nbuffer_ms = 10000\nperiod_ms = 200\nhistory_seconds = 120\n",
    );
    daemon.wait_for_state("live", "capturing");
    let (mut response, _) = open_stream(&daemon, "/live.wav?back=120");
    // The listener reads nothing until it is further behind than the limit, and further than it began.
    let card = cards.card("fake");
    card.wait_until("more than a listener may be behind", |counters| counters.delivered > 90 * 44_100);
    let mut ramp = RampReader::new(CardFormat::S16, 2);
    let skipped = wait_for("the listener to be skipped", || {
        ramp.feed(&response.bytes(4 * 44_100));
        daemon.status()["listeners"][0]["frames_skipped"].as_u64().filter(|frames| *frames > 0)
    });
    ramp.feed(&response.bytes(4 * 44_100 * 10));
    let missing: u64 = ramp.holes().iter().map(|hole| hole.missing).sum();
    assert_eq!(missing % 32_768, skipped % 32_768, "the hole is counted: {}", ramp.shown());
    assert_eq!(ramp.holes().len(), 1, "{}", ramp.shown());
    assert!(ramp.frames() + skipped <= card.position().delivered, "nothing came twice: {}", ramp.shown());
}

#[test]
fn a_listener_hears_everything_up_to_the_end_of_the_daemon() {
    let cards = one_card(CardOptions::default());
    let mut daemon = daemon_of(&cards, "");
    let listener = Listener::from_the_beginning(&daemon, RampReader::new(CardFormat::S16, 2));
    listener.hear_more(Duration::from_millis(500));
    let before = cards.card("fake").position().delivered;
    daemon.signal("TERM");
    assert!(daemon.wait().0.success());
    wait_for("the end of the stream", || listener.ending());
    assert_eq!(listener.ending(), Some(Ending::Complete));
    let heard = listener.heard();
    assert!(heard.is_whole(), "{}", heard.shown());
    // The last block that the card has delivered may not have reached the ring.
    assert!(heard.frames() + cards.card("fake").position().period_frames >= before);
}
