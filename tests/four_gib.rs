//! Streams beyond 2 and 4 GiB, where 32-bit sizes end, a program of its own because it takes all cores for a minute.

mod support;

use std::io::Read;
use std::thread;
use std::time::Instant;

use support::daemon::Daemon;
use support::http::Response;

/// The largest frames, of 128 bytes, at the largest rate: 49 MB a second, sped up.
const CHANNELS: usize = 32;
const FRAME_BYTES: usize = CHANNELS * 4;
const CONFIG: &str = "\
[listeners]
max_lag_ms = 10000
[input.live]
device = \"synth:ramp?speed=4\"
rate = 384000
channels = 32
format = \"s32\"
period_ms = 100
buffer_ms = 10000
history_seconds = 1
";

const GIB: u64 = 1 << 30;
/// Beyond 4 GiB by more than one turn of the ramp.
const ENOUGH: u64 = 4 * GIB + 64 * (1 << 20);

/// Returns one turn of the ramp: 65536 frames, 8 MiB.
fn one_turn() -> Vec<u8> {
    (0..=u16::MAX)
        .flat_map(|value| (u32::from(value) << 16 | u32::from(value)).to_le_bytes().repeat(CHANNELS))
        .collect()
}

/// Reads more than 4 GiB and compares every byte with the ramp, which must have no hole.
fn read_on(response: &mut Response, turn: &[u8]) {
    let mut piece = vec![0; 256 * 1024];
    response.body.read_exact(&mut piece[..FRAME_BYTES]).expect("a frame");
    let first = usize::from(u16::from_le_bytes([piece[2], piece[3]]));
    let mut at = first * FRAME_BYTES;
    assert_eq!(piece[..FRAME_BYTES], turn[at..][..FRAME_BYTES]);
    at = (at + FRAME_BYTES) % turn.len();
    let mut read = FRAME_BYTES as u64;
    while read < ENOUGH {
        let count = response.body.read(&mut piece).expect("the framing is intact");
        assert!(count > 0, "it ended after {read} bytes");
        let mut rest = &piece[..count];
        while !rest.is_empty() {
            let expected = &turn[at..];
            let length = expected.len().min(rest.len());
            assert!(rest[..length] == expected[..length], "another sound after {read} bytes");
            at = (at + length) % turn.len();
            rest = &rest[length..];
        }
        read += count as u64;
    }
}

#[test]
fn a_stream_goes_on_beyond_four_gib_without_a_seam() {
    let daemon = Daemon::start(None, CONFIG);
    daemon.wait_for_state("live", "capturing");
    let turn = one_turn();
    let began = Instant::now();
    thread::scope(|scope| {
        for (agent, riff, data) in [
            ("Lavf/59.27.100", u32::MAX, u32::MAX),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0",
                0xFFFF_FFA4,
                0xFFFF_FF80,
            ),
            ("GStreamer souphttpsrc 1.22.0 libsoup/3.2.2", 0, 0),
        ] {
            let (daemon, turn) = (&daemon, &turn);
            scope.spawn(move || {
                let mut response = daemon.get_with("/live.wav", &[("User-Agent", agent)]);
                let header = response.bytes(44);
                assert_eq!(header[4..8], u32::to_le_bytes(riff), "{agent}");
                assert_eq!(header[40..44], u32::to_le_bytes(data), "{agent}");
                read_on(&mut response, turn);
                println!("{agent}: 4 GiB in {:?}", began.elapsed());
            });
        }
    });
    let input = daemon.input("live");
    assert_eq!(input["overruns"], 0);
    for listener in daemon.listeners() {
        assert_eq!(listener["frames_skipped"], 0);
    }
}
