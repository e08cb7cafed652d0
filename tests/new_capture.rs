//! Faults of the capture room, seen from outside: what a reload or a card does to an input.

mod support;

use support::daemon::Daemon;
use support::wait_for;

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
