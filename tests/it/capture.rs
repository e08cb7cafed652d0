//! Faults of the capture room, seen from outside: what a reload or a card does to an input.

use crate::support::card::{CardOptions, Cards, Order};
use crate::support::daemon::Daemon;
use crate::support::wait_for;

const RATE: u64 = 44_100;
/// Bytes of one frame: stereo, s16.
const FRAME_BYTES: u64 = 4;

/// Bytes of the WAV file that a request for the last `seconds` leads to.
fn clip_bytes(daemon: &Daemon, seconds: u64) -> u64 {
    let redirect = daemon.get(&format!("/live.wav?last={seconds}"));
    let target = format!("/{}", redirect.header("location").expect("a redirect to the clip"));
    let clip = daemon.get(&target);
    clip.header("content-length").and_then(|text| text.parse().ok()).expect("a length")
}

/// A ring's slots are counted for blocks of one period. A ring that was cut for blocks of 10 ms and gets blocks of 1 ms
/// would hold a tenth of the history that `/status.json` promises.
#[test]
fn history_is_whole_after_a_reload_that_changes_only_the_period() {
    let config = |period: u32| {
        format!(
            "[listeners]\nmax_lag_ms = 100\n[input.live]\ndevice = \"synth:ramp\"\nbuffer_ms = 10000\n\
             history_seconds = 4\nperiod_ms = {period}\n"
        )
    };
    let daemon = Daemon::start(None, &config(10));
    daemon.wait_for_state("live", "capturing");
    daemon.reload(&config(1));
    wait_for("the new period", || (daemon.input("live")["source"]["period_frames"] == 44).then_some(()));
    daemon.wait_for_edge(daemon.edge() + RATE * 7 / 2);
    assert_eq!(daemon.input("live")["history_seconds"], 4.0);
    let bytes = clip_bytes(&daemon, 3);
    assert!(bytes >= 3 * RATE * FRAME_BYTES, "{:.3} s", bytes as f64 / (RATE * FRAME_BYTES) as f64);
}

/// The promise of a longer history counts from the moment at which the longer ring exists.
#[test]
fn history_is_not_promised_before_its_ring_exists() {
    let cards = Cards::with([("fake", CardOptions::default())]);
    let config = |seconds: u32| {
        format!("[input.live]\ndevice = \"fake\"\nrate = 48000\nhistory_seconds = {seconds}\n")
    };
    let daemon = Daemon::start(Some(&cards), &config(1));
    daemon.wait_for_state("live", "capturing");
    assert_eq!(daemon.input("live")["history_seconds"], 1.0);
    cards.card("fake").command(Order::Busy);
    daemon.reload(&config(20));
    daemon.wait_for_state("live", "waiting");
    wait_for("the refusal", || (!daemon.input("live")["problem"].is_null()).then_some(()));
    assert_eq!(daemon.input("live")["history_seconds"], 1.0);
    cards.card("fake").command(Order::Run);
    daemon.wait_for_state("live", "capturing");
    assert_eq!(daemon.input("live")["history_seconds"], 20.0);
}

/// Reading hangs for as long as the card is stuck, and the main thread with its watchdog goes on all the same.
#[test]
fn a_reload_goes_on_while_the_driver_hangs() {
    let cards = Cards::with([("fake", CardOptions::default())]);
    let daemon = Daemon::start(Some(&cards), "[input.live]\ndevice = \"fake\"\nrate = 48000\n");
    daemon.wait_for_state("live", "capturing");
    cards.card("fake").stick();
    daemon.reload("[input.live]\ndevice = \"synth:tone\"\nrate = 48000\n");
    daemon.wait_for_log("the configuration was read again");
    wait_for("the tone", || {
        let input = daemon.wait_for_state("live", "capturing");
        (input["source"]["device"] == "synth:tone").then_some(())
    });
    let mut stream = daemon.get("/live.wav?latency=low");
    stream.bytes(44 + 48_000);
}

/// A history that the configuration accepts for stereo is too much for an interface that has 18 channels only.
#[test]
fn the_history_of_a_card_with_many_channels_is_shortened_to_the_limit() {
    let options = CardOptions { channels: vec![32], rates: vec![48_000], ..CardOptions::default() };
    let cards = Cards::with([("fake", options)]);
    let daemon = Daemon::start(
        Some(&cards),
        "[input.live]\ndevice = \"fake\"\nrate = 48000\nhistory_seconds = 3600\n",
    );
    daemon.wait_for_log("history shortened to");
    daemon.wait_for_state("live", "capturing");
    let history = daemon.input("live")["history_seconds"].as_f64().expect("a number");
    assert!(history > 10.0 && history < 350.0, "{history} s: 1 GiB of 32 channels is 349.5 s");
}

/// A mistake in `asound.conf` is reported with ALSA's own words, not as a missing card.
#[test]
fn a_mistake_in_the_configuration_of_alsa_is_reported_with_its_line() {
    let cards = Cards::with([("fake", CardOptions::default())]).and("pcm.mic {\n    slave.pcm \"hw:1\n}\n");
    let daemon = Daemon::start(Some(&cards), "[input.live]\ndevice = \"mic\"\n");
    let line = daemon.wait_for_log("ALSA cannot read its configuration: ");
    assert!(line.contains("asound.conf:"), "{line}");
    assert!(!line.contains("plugged in"), "{line}");
    assert_eq!(daemon.log().iter().filter(|line| line.contains(" WARN ")).count(), 1);
}

/// A stall that is shorter than a loss is silence. It is counted, and reported once per burst.
#[test]
fn a_stall_that_is_no_loss_is_reported() {
    let cards = Cards::with([("fake", CardOptions::default())]);
    let daemon =
        Daemon::start(Some(&cards), "[input.live]\ndevice = \"fake\"\nrate = 48000\nbuffer_ms = 500\n");
    daemon.wait_for_state("live", "capturing");
    let silence = || daemon.input("live")["silence_frames"].as_u64().expect("a number");
    for _ in 0..2 {
        let before = silence();
        cards.card("fake").command(Order::Hang);
        // The silence begins after half a second, and the card would be lost after two.
        wait_for("silence", || (silence() > before).then_some(()));
        cards.card("fake").command(Order::Run);
        daemon.wait_for_edge(daemon.edge() + 48_000 / 2);
    }
    daemon.wait_for_log("stall: ");
    assert_eq!(daemon.log().iter().filter(|line| line.contains("stall: ")).count(), 1);
    let input = daemon.input("live");
    assert_eq!((&input["losses"], &input["overruns"]), (&0.into(), &0.into()));
    assert!(silence() > 2 * 24_000, "{input}");
}
