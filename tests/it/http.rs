//! The answers that each kind of player gets, byte for byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Barrier};

use crate::support::daemon::Daemon;
use crate::support::http::{self, Response};
use crate::support::synth::SynthRamp;
use crate::support::{HEADER_BYTES, wait_for};
use serde_json::Value;

const CHROMIUM: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0";
const GSTREAMER: &str = "GStreamer souphttpsrc 1.22.0 libsoup/3.2.2";
const WEBKIT_GTK: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                          Version/17.0 Safari/605.1.15";
const APPLE: &str = "AppleCoreMedia/1.0.0.21E219 (iPhone; U; CPU OS 17_4 like Mac OS X)";
const VLC: &str = "VLC/3.0.24 LibVLC/3.0.24";
const LAVF: &str = "Lavf/59.27.100";

/// The rate of the default format, which has two channels of 16 bits.
const RATE: u64 = 44_100;
const FRAME_BYTES: usize = 4;

fn field(header: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"))
}

/// Returns a WAV header of 44 bytes with these sizes.
fn wav_header(channels: u16, rate: u32, bits: u16, riff: u32, data: u32) -> Vec<u8> {
    let frame = channels * bits / 8;
    let mut header = b"RIFF".to_vec();
    header.extend(riff.to_le_bytes());
    header.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    header.extend(channels.to_le_bytes());
    header.extend(rate.to_le_bytes());
    header.extend((rate * u32::from(frame)).to_le_bytes());
    header.extend(frame.to_le_bytes());
    header.extend(bits.to_le_bytes());
    header.extend(b"data");
    header.extend(data.to_le_bytes());
    header
}

/// Returns the index of the first frame of the ramp, from `earliest` on, that carries `value`.
fn index_of(value: u16, earliest: u64) -> u64 {
    earliest + u64::from(value.wrapping_sub(earliest as u16))
}

/// Returns a frame of the 16-bit stereo ramp.
fn frame(value: u16) -> [u8; 4] {
    let [low, high] = value.to_le_bytes();
    [low, high, low, high]
}

/// Reads `frames` frames of the default format's ramp.
fn ramp_of(response: &mut Response, frames: usize) -> SynthRamp {
    let mut ramp = SynthRamp::new(2, 2);
    ramp.feed(&response.bytes(frames * FRAME_BYTES));
    ramp
}

/// Checks that requests on new connections are answered. A request that is never answered fails after PATIENCE.
fn assert_serves(daemon: &Daemon) {
    assert_eq!(daemon.get("/healthz").text(), "ok\n");
    assert_eq!(daemon.get("/live.wav").bytes(4), b"RIFF");
}

// Streams.

#[test]
fn each_player_gets_the_sizes_that_it_copes_with() {
    let daemon = Daemon::ramp("");
    let largest = (u32::MAX - 36) / 4 * 4;
    for (agent, range, riff, data) in [
        (None, None, u32::MAX, u32::MAX),
        (Some(LAVF), Some("bytes=0-"), u32::MAX, u32::MAX),
        (Some(VLC), Some("bytes=0-"), u32::MAX, u32::MAX),
        (Some("Music Player Daemon 0.23.12"), None, u32::MAX, u32::MAX),
        (Some(CHROMIUM), Some("bytes=0-"), u32::MAX, u32::MAX),
        (Some(CHROMIUM), None, u32::MAX, u32::MAX),
        (Some(FIREFOX), Some("bytes=0-"), largest + 36, largest),
        (Some(GSTREAMER), None, 0, 0),
        (Some(WEBKIT_GTK), Some("bytes=0-"), 0, 0),
        (Some(APPLE), None, 0x7FFF_FF24, 0x7FFF_FF00),
    ] {
        let headers: Vec<_> = [("User-Agent", agent), ("Range", range), ("Icy-MetaData", Some("1"))]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let mut response = daemon.get_with("/live.wav", &headers);
        // Firefox asks again after a reset only if the answer was a range.
        let status = if agent == Some(FIREFOX) { 206 } else { 200 };
        assert_eq!(response.status, status, "{agent:?}");
        let header = response.bytes(HEADER_BYTES);
        assert_eq!(header, wav_header(2, 44_100, 16, riff, data), "{agent:?}");
        assert!(ramp_of(&mut response, 1000).is_whole());
    }
}

#[test]
fn firefoxs_sizes_end_with_a_frame_in_every_format() {
    for (channels, format, bytes) in [(1, "s24", 3), (2, "s24", 6), (3, "s32", 12)] {
        let daemon = Daemon::ramp(&format!("channels = {channels}\nformat = \"{format}\""));
        let header = daemon.get_with("/live.wav", &[("User-Agent", FIREFOX)]).bytes(HEADER_BYTES);
        let (riff, data) = (field(&header, 4), field(&header, 40));
        assert_eq!((data % bytes, riff - data), (0, 36));
        // Chunks are padded to an even size (RIFF), so that another frame may be missing for a size that is odd.
        assert!(u32::MAX - riff <= bytes);
    }
}

#[test]
fn the_header_has_rate_channels_and_width() {
    for (rate, channels, format, bits) in
        [(48_000, 1, "s16", 16), (44_100, 2, "s24", 24), (96_000, 2, "s32", 32), (8_000, 6, "s16", 16)]
    {
        let daemon = Daemon::ramp(&format!("rate = {rate}\nchannels = {channels}\nformat = \"{format}\""));
        let mut response = daemon.get("/live.wav");
        let header = response.bytes(HEADER_BYTES);
        assert_eq!(header, wav_header(channels, rate, bits, u32::MAX, u32::MAX));
        let mut ramp = SynthRamp::new(usize::from(bits / 8), channels.into());
        ramp.feed(&response.bytes(500 * usize::from(channels * bits / 8)));
        assert!(ramp.is_whole());
    }
}

#[test]
fn an_endless_stream_is_chunked_and_has_no_length_and_no_ranges() {
    let daemon = Daemon::ramp("");
    for headers in [&[][..], &[("Range", "bytes=0-")], &[("User-Agent", CHROMIUM), ("Range", "bytes=0-")]] {
        let mut response = daemon.get_with("/live.wav", headers);
        assert_eq!(response.status, 200);
        assert_eq!(response.header("transfer-encoding"), Some("chunked"));
        for absent in ["content-length", "accept-ranges", "content-range", "content-disposition"] {
            assert_eq!(response.header(absent), None, "{absent}");
        }
        assert_eq!(response.header("content-type"), Some("audio/wav"));
        assert_eq!(response.header("cache-control"), Some("no-store, no-transform"));
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(response.bytes(4), b"RIFF");
    }
}

#[test]
fn chunks_hold_whole_frames() {
    let daemon = Daemon::ramp("channels = 2\nformat = \"s24\"");
    let mut response = daemon.get_with("/live.wav", &[("User-Agent", VLC)]);
    response.bytes(HEADER_BYTES);
    // The header is in one chunk with the first sound.
    let mut ramp = SynthRamp::new(3, 2);
    for _ in 0..30 {
        let chunk = response.body.chunk().expect("the stream goes on");
        assert_eq!(chunk.len() % 6, 0);
        ramp.feed(&chunk);
    }
    assert!(ramp.is_whole());
}

#[test]
fn a_burst_is_as_long_as_the_player_needs_and_goes_on_without_a_seam() {
    let daemon = Daemon::ramp_with("", "synth:ramp?speed=4", "");
    daemon.wait_for_edge(3 * RATE);
    for (agent, range, burst) in [
        (LAVF, Some("bytes=0-"), RATE / 2),
        (FIREFOX, Some("bytes=0-"), RATE / 2),
        (GSTREAMER, None, RATE / 2),
        (CHROMIUM, Some("bytes=0-"), 65_536),
        (CHROMIUM, None, 0),
        (VLC, Some("bytes=0-"), RATE / 2),
    ] {
        let before = daemon.edge();
        let mut headers = vec![("User-Agent", agent)];
        headers.extend(range.map(|range| ("Range", range)));
        let mut response = daemon.get_with("/live.wav", &headers);
        response.bytes(HEADER_BYTES);
        let ramp = ramp_of(&mut response, 20_000);
        let first = index_of(ramp.first.expect("a frame"), before - burst);
        let after = daemon.edge();
        assert!(first + burst <= after, "{agent}: {first} + {burst} is not at the edge, {before} to {after}");
        assert!(ramp.is_whole(), "{:?}", ramp.holes);
    }
}

// Ranges.

#[test]
fn a_player_that_comes_back_goes_on_live_on_its_own_frame_grid() {
    for (format, channels, sample_bytes) in [("s16", 2, 2), ("s24", 2, 3), ("s24", 1, 3), ("s32", 1, 4)] {
        let daemon = Daemon::ramp(&format!("channels = {channels}\nformat = \"{format}\""));
        let frame_bytes = sample_bytes * channels;
        let grid = 44..44 + 2 * frame_bytes as u64;
        for first in grid.chain([1_000_003, 5_000_000_001]) {
            let before = daemon.edge();
            let range = format!("bytes={first}-");
            let mut response = daemon.get_with("/live.wav", &[("User-Agent", CHROMIUM), ("Range", &range)]);
            assert_eq!(response.status, 206, "{range}");
            let content_range = format!("bytes {first}-9007199254740990/*");
            assert_eq!(response.header("content-range"), Some(content_range.as_str()));
            assert_eq!(response.header("content-length"), None);
            assert_eq!(response.header("transfer-encoding"), Some("chunked"));
            assert_eq!(response.header("accept-ranges"), None);

            let inside = ((first - 44) % frame_bytes as u64) as usize;
            let rest = if inside > 0 { response.bytes(frame_bytes - inside) } else { Vec::new() };
            let mut ramp = SynthRamp::new(sample_bytes, channels);
            ramp.feed(&response.bytes(200 * frame_bytes));
            assert!(ramp.is_whole(), "{format}, {channels} channels, {range}: {:?}", ramp.holes);
            let mut value = ramp.first.expect("a frame");
            if inside > 0 {
                value = value.wrapping_sub(1);
                let mut whole = SynthRamp::new(sample_bytes, channels);
                let wide = (u32::from(value) << 16 | u32::from(value)).to_le_bytes();
                let bytes = wide[4 - sample_bytes..].repeat(channels);
                whole.feed(&bytes);
                assert_eq!(rest, bytes[inside..], "{format}, {channels} channels, {range}");
            }
            let index = index_of(value, before);
            let after = daemon.edge();
            assert!(index <= after, "{range}: frame {index} is not from now, {before} to {after}");
        }
    }
}

#[test]
fn a_client_with_a_part_of_the_header_gets_the_rest_of_it() {
    let daemon = Daemon::ramp("");
    let mut response = daemon.get_with("/live.wav", &[("Range", "bytes=40-")]);
    assert_eq!(response.status, 206);
    assert_eq!(response.bytes(4), [0xFF; 4]);
    assert!(ramp_of(&mut response, 500).is_whole());
}

#[test]
fn a_bounded_range_gets_exactly_its_bytes() {
    let daemon = Daemon::ramp("");
    let header = wav_header(2, 44_100, 16, u32::MAX, u32::MAX);
    for (first, last) in [(0, 1), (0, 43), (0, 44), (0, 1043), (40, 51), (44, 44), (44, 1043), (46, 53)] {
        let range = format!("bytes={first}-{last}");
        let mut response = daemon.get_with("/live.wav", &[("Range", &range)]);
        assert_eq!(response.status, 206, "{range}");
        assert_eq!(response.header("content-range"), Some(format!("bytes {first}-{last}/*").as_str()));
        assert_eq!(response.header("content-length"), Some((last - first + 1).to_string().as_str()));
        assert_eq!(response.header("transfer-encoding"), None);
        let mut bytes = Vec::new();
        response.body.read_to_end(&mut bytes).expect("it ends");
        assert_eq!(bytes.len(), last - first + 1, "{range}");
        let from_header = 44usize.saturating_sub(first).min(bytes.len());
        assert_eq!(bytes[..from_header], header[first.min(44)..][..from_header], "{range}");
        let sound = &bytes[from_header..];
        let inside = first.saturating_sub(44) % FRAME_BYTES;
        if inside == 0 {
            let mut ramp = SynthRamp::new(2, 2);
            ramp.feed(sound);
            assert!(ramp.is_whole());
        } else {
            // The range has the end of one frame, the whole next one, and the beginning of the third.
            let value = u16::from_le_bytes([sound[2], sound[3]]);
            let three = [frame(value.wrapping_sub(1)), frame(value), frame(value.wrapping_add(1))].concat();
            assert_eq!(sound, &three[inside..][..sound.len()], "{range}");
        }
    }
}

#[test]
fn apples_players_are_led_from_the_probe_to_the_stream() {
    let daemon = Daemon::ramp("");
    let ask = |range: &str| daemon.get_with("/live.wav", &[("User-Agent", APPLE), ("Range", range)]);

    let probe = ask("bytes=0-1");
    assert_eq!(probe.status, 206);
    assert_eq!(probe.header("content-range"), Some("bytes 0-1/2147483436"));
    assert_eq!(probe.header("content-length"), Some("2"));
    assert_eq!(probe.header("transfer-encoding"), None);
    assert_eq!(probe.text(), "RI");

    for range in ["bytes=0-2147483435", "bytes=0-"] {
        let mut all = ask(range);
        assert_eq!(all.status, 206);
        assert_eq!(all.header("content-range"), Some("bytes 0-2147483435/2147483436"));
        assert_eq!(all.header("content-length"), Some("2147483436"));
        assert_eq!(all.header("transfer-encoding"), None);
        assert_eq!(all.bytes(HEADER_BYTES), wav_header(2, 44_100, 16, 0x7FFF_FF24, 0x7FFF_FF00));
        assert!(ramp_of(&mut all, 30_000).is_whole());
    }

    let mut on = ask("bytes=100044-");
    assert_eq!(on.status, 206);
    assert_eq!(on.header("content-range"), Some("bytes 100044-2147483435/2147483436"));
    assert_eq!(on.header("content-length"), Some("2147383392"));
    assert!(ramp_of(&mut on, 500).is_whole());
}

#[test]
fn a_range_that_cannot_be_served_is_ignored_and_never_refused() {
    let daemon = Daemon::ramp("");
    for range in [
        "bytes=-500",
        "bytes=0-1,5-9",
        "bytes=9-5",
        "bytes=x-",
        "bytes=",
        "bytes",
        "items=0-1",
        "bytes=99999999999999999999-",
        // 2^53, beyond every file that a player can seek in.
        "bytes=9007199254740992-",
        "bytes=+5-",
    ] {
        let mut response = daemon.get_with("/live.wav", &[("Range", range)]);
        assert_eq!(response.status, 200, "{range}");
        assert_eq!(response.header("content-range"), None);
        assert_eq!(response.bytes(4), b"RIFF");
    }
    // A range beyond the end of the file, whose length Apple's players have from the probe.
    let headers = [("User-Agent", APPLE), ("Range", "bytes=2147483436-")];
    assert_eq!(daemon.get_with("/live.wav", &headers).status, 200);
}

// Old and simple players.

#[test]
fn a_client_that_does_not_know_chunks_gets_the_bare_sound() {
    let daemon = Daemon::ramp("");
    let plain = |version, headers: &[(&str, &str)]| {
        let mut response = http::request(daemon.address(), "GET", "/live.wav", version, headers);
        assert_eq!(response.status, 200);
        assert_eq!(response.header("transfer-encoding"), None);
        assert_eq!(response.header("content-length"), None);
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(response.bytes(HEADER_BYTES), wav_header(2, 44_100, 16, u32::MAX, u32::MAX));
        // Sound that was held back until the end of the stream would never come.
        assert!(ramp_of(&mut response, 5000).is_whole());
    };
    plain("1.0", &[]);
    plain("1.0", &[("User-Agent", "MPlayer 1.5"), ("Icy-MetaData", "1"), ("Connection", "keep-alive")]);
    plain("1.1", &[("TE", "identity")]);
    plain("1.1", &[("TE", "trailers, Identity")]);

    let mut back = http::request(daemon.address(), "GET", "/live.wav", "1.0", &[("Range", "bytes=48-")]);
    assert_eq!((back.status, back.header("transfer-encoding")), (206, None));
    assert!(ramp_of(&mut back, 500).is_whole());
}

#[test]
fn a_short_answer_to_an_old_client_ends_with_the_connection() {
    let daemon = Daemon::ramp("");
    let mut stream = http::connect(daemon.address());
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it ends");
    assert!(text.starts_with("HTTP/1.0 200 ") && text.ends_with("\r\n\r\nok\n"), "{text}");
}

#[test]
fn head_has_the_head_of_get_for_every_path() {
    let daemon = Daemon::ramp("");
    let ranges = ["bytes=0-", "bytes=50-", "bytes=0-1", "bytes=-5"];
    let mut asked: Vec<(&str, Vec<(&str, &str)>)> = [
        "/",
        "/index.html",
        "/@page/app.js",
        "/@page/nothing.js",
        "/live.wav",
        "/live.wav?for=2",
        "/live.wav?back=1",
        "/live.wav?back=never",
        "/live.m3u",
        "/live.pls",
        "/status.json",
        "/healthz",
        "/nothing",
        "/other.wav",
    ]
    .map(|target| (target, Vec::new()))
    .into();
    asked.extend(ranges.map(|range| ("/live.wav", vec![("Range", range)])));
    asked.push(("/live.wav", vec![("User-Agent", APPLE), ("Range", "bytes=0-1")]));
    asked.push(("/live.wav", vec![("TE", "identity")]));
    let heads: Vec<Response> = asked
        .iter()
        .map(|(target, headers)| http::request(daemon.address(), "HEAD", target, "1.1", headers))
        .collect();
    assert_eq!(daemon.listeners().len(), 0, "HEAD listens to nothing");
    for ((target, headers), mut head) in asked.iter().zip(heads) {
        let mut get = daemon.get_with(target, headers);
        if *target == "/status.json" {
            // The numbers have grown meanwhile, and so may the length.
            for response in [&mut get, &mut head] {
                let lengths = response.headers.iter_mut().filter(|(name, _)| name == "content-length");
                lengths.for_each(|(_, value)| value.clear());
            }
        }
        assert_eq!(head.head(), get.head(), "{target} {headers:?}");
        let mut after = String::new();
        let mut stream = head.body.socket();
        stream.shutdown(Shutdown::Write).expect("shut down");
        stream.read_to_string(&mut after).expect("it ends");
        assert_eq!(after, "", "nothing comes after the head of {target}");
    }
}

#[test]
fn every_head_has_a_date() {
    let daemon = Daemon::ramp("");
    for target in
        ["/", "/live.wav", "/live.wav?for=1", "/live/levels", "/status.json", "/live.m3u", "/nothing"]
    {
        let date = http::request(daemon.address(), "HEAD", target, "1.1", &[])
            .header("date")
            .map(str::to_owned)
            .expect(target);
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{target}: {date}");
    }
}

// History and recordings.

#[test]
fn back_begins_with_exactly_the_frames_of_that_moment() {
    let daemon = Daemon::ramp_with("", "synth:ramp?speed=10", "history_seconds = 20");
    daemon.wait_for_edge(8 * RATE);
    for (seconds, frames) in [("0", 0), ("0.001", 44), ("0.5", RATE / 2), ("2", 2 * RATE), ("7.25", 319_725)]
    {
        // `back` takes the place of the player's burst.
        for agent in [LAVF, CHROMIUM, VLC] {
            let before = daemon.edge();
            let headers = [("User-Agent", agent), ("Range", "bytes=0-")];
            let mut response = daemon.get_with(&format!("/live.wav?back={seconds}"), &headers);
            assert_eq!(response.status, 200);
            response.bytes(HEADER_BYTES);
            let ramp = ramp_of(&mut response, 10_000);
            let after = daemon.edge();
            let first = index_of(ramp.first.expect("a frame"), before - frames);
            assert!(first + frames <= after, "back={seconds}: {first} + {frames}, edge {before} to {after}");
            assert!(ramp.is_whole(), "{:?}", ramp.holes);
        }
    }
}

#[test]
fn back_reaches_as_far_as_there_is_sound() {
    let daemon = Daemon::ramp("history_seconds = 25");
    let mut response = daemon.get("/live.wav?back=25");
    response.bytes(HEADER_BYTES);
    let ramp = ramp_of(&mut response, 2000);
    assert_eq!(ramp.first, Some(0), "the very first frame");
    assert!(ramp.is_whole());
}

#[test]
fn back_beyond_the_history_begins_with_the_oldest_frame() {
    let daemon = Daemon::ramp("history_seconds = 2");
    daemon.wait_for_edge(RATE);
    let mut response = daemon.get("/live.wav?back=86400");
    assert_eq!(response.status, 200);
    // The bytes that arrive at once: far more than the burst of half a second.
    response.bytes(HEADER_BYTES + 44_100 * FRAME_BYTES);
}

#[test]
fn a_recording_is_a_finite_file_with_true_sizes_whoever_asks() {
    let daemon = Daemon::ramp_with("", "synth:ramp?speed=10", "");
    for agent in [LAVF, FIREFOX, GSTREAMER, APPLE, CHROMIUM] {
        for (seconds, frames) in [("1.5", 66_150), ("0.00001", 1), ("0.01", 441)] {
            let before = daemon.edge();
            let headers = [("User-Agent", agent), ("Range", "bytes=0-")];
            let mut response = daemon.get_with(&format!("/live.wav?for={seconds}"), &headers);
            assert_eq!(response.status, 200, "{agent}");
            let data = frames * FRAME_BYTES as u32;
            assert_eq!(response.header("content-length"), Some((data + 44).to_string().as_str()));
            assert_eq!(response.header("transfer-encoding"), None);
            assert_eq!(response.header("content-disposition"), Some("inline; filename=\"live.wav\""));
            assert_eq!(response.bytes(HEADER_BYTES), wav_header(2, 44_100, 16, data + 36, data));
            let mut ramp = SynthRamp::new(2, 2);
            let mut sound = Vec::new();
            response.body.read_to_end(&mut sound).expect("it ends");
            ramp.feed(&sound);
            assert!(response.body.is_complete());
            assert_eq!(ramp.frames, u64::from(frames));
            assert!(ramp.is_whole(), "{:?}", ramp.holes);
            let first = index_of(ramp.first.expect("a frame"), before);
            assert!(first <= daemon.edge(), "it begins with now");
            // Nothing comes after it.
            assert_eq!(response.body.socket().read(&mut [0]).expect("an end"), 0);
        }
    }
}

#[test]
fn the_last_seconds_can_be_saved_at_once() {
    let daemon = Daemon::ramp_with("", "synth:ramp?speed=10", "");
    daemon.wait_for_edge(6 * RATE);
    // Frames that lie in the past are not waited for.
    for (target, back, frames) in [
        ("/live.wav?back=5&for=2", 5 * RATE, 2 * RATE),
        ("/live.wav?for=2&back=2", 2 * RATE, 2 * RATE),
        ("/live.wav?back=1&for=4", RATE, 4 * RATE),
    ] {
        let before = daemon.edge();
        let mut response = daemon.get_with(target, &[("User-Agent", FIREFOX)]);
        response.bytes(HEADER_BYTES);
        let mut sound = Vec::new();
        response.body.read_to_end(&mut sound).expect("it ends");
        let mut ramp = SynthRamp::new(2, 2);
        ramp.feed(&sound);
        assert_eq!(ramp.frames, frames, "{target}");
        assert!(ramp.is_whole(), "{target}: {:?}", ramp.holes);
        let first = index_of(ramp.first.expect("a frame"), before - back);
        assert!(first + back <= daemon.edge(), "{target}");
    }
}

#[test]
fn an_old_client_can_record_too() {
    let daemon = Daemon::ramp("");
    let mut response = http::request(daemon.address(), "GET", "/live.wav?for=0.5", "1.0", &[]);
    assert_eq!(response.header("content-length"), Some("88244"));
    response.bytes(HEADER_BYTES);
    assert!(ramp_of(&mut response, 22_050).is_whole());
    assert!(response.body.is_complete());
}

#[test]
fn a_file_of_an_odd_size_ends_with_a_pad_byte() {
    let daemon = Daemon::ramp("rate = 11025\nchannels = 1\nformat = \"s24\"");
    let mut response = daemon.get("/live.wav?for=0.0011");
    // Twelve frames would be even.
    assert_eq!(response.header("content-length"), Some("80"));
    response.bytes(80);
    let mut response = daemon.get("/live.wav?for=0.0012");
    assert_eq!(response.header("content-length"), Some("84"));
    let file = response.bytes(84);
    assert_eq!(file.len() % 2, 0);
    assert_eq!((field(&file, 4), field(&file, 40), file[83]), (76, 39, 0));
    assert!(response.body.is_complete());
}

#[test]
fn a_resumed_download_of_the_last_seconds_joins_no_two_moments() {
    let daemon = Daemon::ramp("history_seconds = 5");
    daemon.wait_for_edge(RATE);
    let lead = daemon.get("/live.wav?last=1");
    assert_eq!((lead.status, lead.header("cache-control")), (307, Some("no-store")));
    let clip = daemon.get(&format!("/{}", lead.header("location").expect("an address")));
    assert!(clip.header("etag").is_some());
    let again = daemon.get_with("/live.wav?last=1", &[("Range", "bytes=1000-")]);
    assert_eq!((again.status, again.header("etag")), (200, None));
    assert_eq!(again.header("content-length"), Some("176444"));
}

// Refusals.

#[test]
fn a_query_that_makes_no_sense_is_refused_with_a_hint() {
    let daemon = Daemon::ramp("history_seconds = 10");
    for (query, text) in [
        ("back=soon", "back is a number of seconds, as in back=10 or back=2.5.\n"),
        ("back=-1", "back is a number of seconds, as in back=10 or back=2.5.\n"),
        ("back=", "back is a number of seconds, as in back=10 or back=2.5.\n"),
        ("back=inf", "back is a number of seconds, as in back=10 or back=2.5.\n"),
        ("for=abc", "for is a number of seconds, as in for=10 or for=2.5.\n"),
        ("for=0", "for=0 would be an empty recording.\n"),
        ("for=25000", "for=25000 is too long: a WAV file ends at 4 GiB, which is 24347 s of this stream.\n"),
        ("last=1&utc=-2147483648", "utc is minutes ahead of UTC, as in utc=60 or utc=-300.\n"),
        ("latency=high", "latency can only be low: latency=low.\n"),
        ("fro=60", "There is no key fro. Did you mean for=60 or from=60?\n"),
    ] {
        let response = daemon.get(&format!("/live.wav?{query}"));
        assert_eq!(response.status, 400, "{query}");
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(response.text(), text, "{query}");
    }
    // Unknown keys are ignored: players and pages add them to get around caches.
    assert_eq!(daemon.get("/live.wav?t=1700000000&x").status, 200);
}

#[test]
fn an_unknown_path_is_answered_with_the_streams_there_are() {
    let daemon = Daemon::start(
        None,
        "[input.live]\ndevice = \"synth:ramp\"\n[input.bird-box]\ndevice = \"synth:tone\"\n",
    );
    for target in [
        "/nothing",
        "/live",
        "/live.aac",
        "/other.wav",
        "/other.m3u",
        "/other.pls",
        "/LIVE.wav",
        "/%zz",
        "/../etc/passwd",
    ] {
        let response = daemon.get(target);
        assert_eq!(response.status, 404, "{target}");
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(
            response.text(),
            "There is nothing here. To listen: /live.wav  /bird-box.wav\n",
            "{target}"
        );
    }
}

#[test]
fn an_input_that_was_never_open_is_answered_with_its_problem_and_retry_after() {
    let daemon = Daemon::start(
        None,
        "[input.live]\ndevice = \"hw:CARD=NoSuch,DEV=0\"\n[input.tone]\ndevice = \"synth:tone\"\n",
    );
    daemon.wait_for_state("tone", "capturing");
    let problem = wait_for("the reason", || daemon.input("live")["problem"].as_str().map(str::to_owned));
    assert_eq!(daemon.input("live")["state"], "waiting");
    assert_eq!(daemon.input("live")["format"], Value::Null);
    let response = daemon.get("/live.wav");
    assert_eq!(response.status, 503);
    assert_eq!(response.header("retry-after"), Some("5"));
    assert_eq!(response.text(), format!("live has no sound yet: {problem}\n"));
    let head = http::request(daemon.address(), "HEAD", "/live.wav", "1.1", &[]);
    assert_eq!((head.status, head.header("retry-after")), (503, Some("5")));

    let health = daemon.get("/healthz");
    assert_eq!(health.status, 503);
    assert_eq!(health.text(), format!("live is waiting: {problem}\n"));
    // The other input is served, and playlists do not depend on the card.
    assert_eq!(daemon.get("/tone.wav").bytes(4), b"RIFF");
    assert_eq!(daemon.get("/live.m3u").status, 200);
}

#[test]
fn only_get_and_head_are_allowed() {
    let daemon = Daemon::ramp("");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        for target in ["/", "/live.wav", "/status.json"] {
            let response = http::request(daemon.address(), method, target, "1.1", &[]);
            assert_eq!(response.status, 405, "{method} {target}");
            assert_eq!(response.header("allow"), Some("GET, HEAD"));
            assert_eq!(response.text(), format!("{method} is not allowed here, only GET and HEAD.\n"));
        }
    }
}

#[test]
fn a_body_is_never_read_as_another_request() {
    let daemon = Daemon::ramp("");
    let hidden = "GET /live.wav HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = |body: &str| {
        format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    // Longer than any buffer of the daemon for a head.
    let long = format!("{hidden}{}", "x".repeat(1000)).repeat(120);
    let flood = post(&hidden.repeat(3000));
    let requests = [
        post(hidden),
        post(&long),
        flood,
        format!(
            "PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n",
            hidden.len()
        ),
        format!("DELETE /live.wav HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{hidden}"),
        format!(
            "GET /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{hidden}",
            hidden.len()
        ),
        format!("GET /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{hidden}"),
    ];
    for request in requests {
        let mut stream = http::connect(daemon.address());
        // The server may hang up before it has taken everything.
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            answer.extend_from_slice(&piece[..count]);
            assert!(answer.len() < 65_536, "a body was answered with a stream");
        }
        let answer = String::from_utf8_lossy(&answer);
        let refused = answer.starts_with("HTTP/1.1 40");
        assert!(refused, "{:?} was answered with {answer:?}", &request[..request.len().min(120)]);
        assert!(!answer.contains(" 200 OK"), "{answer}");
    }
    assert_serves(&daemon);
}

#[test]
fn a_body_that_is_announced_as_huge_is_answered_and_harms_nobody() {
    let daemon = Daemon::ramp("");
    let mut listening = daemon.get("/live.wav");
    listening.bytes(HEADER_BYTES);
    for length in [3_000_000_000, 100_000_000_000, 1 << 50, i64::MAX as u64, u64::MAX] {
        for (request, statuses) in [
            ("POST /", &[405, 413][..]),
            ("GET /healthz", &[200]),
            ("HEAD /live.wav", &[200]),
            ("GET /live.wav", &[200]),
        ] {
            let mut stream = http::connect(daemon.address());
            let text =
                format!("{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\nbody");
            stream.write_all(text.as_bytes()).expect("sent");
            let mut response = Response::read(stream, request.starts_with("HEAD"));
            assert!(statuses.contains(&response.status), "{request} with {length}: {}", response.status);
            if request == "GET /live.wav" {
                assert_eq!(response.bytes(4), b"RIFF");
            } else {
                let (_, mut rest) = response.finish();
                assert_eq!(rest.read(&mut [0]).unwrap_or(0), 0, "the connection ends");
            }
        }
    }
    assert_serves(&daemon);
    assert!(ramp_of(&mut listening, 60_000).is_whole());
    wait_for("the other streams to end", || (daemon.listeners().len() == 1).then_some(()));
}

// Playlists, status and health.

/// Returns the address that an entry of a playlist stands for. The entry may be relative to the playlist's own address.
fn resolve(entry: &str, playlist: &str) -> String {
    match entry.contains("://") {
        true => entry.to_owned(),
        false => format!("{}/{entry}", playlist.rsplit_once('/').expect("a path").0),
    }
}

#[test]
fn playlists_lead_back_to_the_address_that_the_player_used() {
    let daemon = Daemon::ramp("");
    let m3u = daemon.get_with("/live.m3u", &[("Host", "pi.local:4410")]);
    assert_eq!(m3u.status, 200);
    assert_eq!(m3u.header("content-type"), Some("audio/x-mpegurl"));
    let text = m3u.text();
    let lines: Vec<&str> = text.lines().collect();
    let [first, title, entry] = lines[..] else { panic!("{text}") };
    assert_eq!((first, title), ("#EXTM3U", "#EXTINF:-1,live"));
    assert_eq!(resolve(entry, "http://pi.local:4410/live.m3u"), "http://pi.local:4410/live.wav");
    let pls = daemon.get_with("/live.pls", &[("Host", "[fe80::1]:80")]);
    assert_eq!(pls.header("content-type"), Some("audio/x-scpls"));
    let text = pls.text();
    let lines: Vec<&str> = text.lines().collect();
    let [first, count, entry, title, length, version] = lines[..] else { panic!("{text}") };
    assert_eq!((first, count), ("[playlist]", "NumberOfEntries=1"));
    assert_eq!((title, length, version), ("Title1=live", "Length1=-1", "Version=2"));
    let entry = resolve(entry.strip_prefix("File1=").expect("a file"), "http://[fe80::1]:80/live.pls");
    assert_eq!(entry, "http://[fe80::1]:80/live.wav");
}

#[test]
fn nothing_of_a_strange_host_gets_into_a_playlist() {
    let daemon = Daemon::ramp("");
    // An entry is relative, or names the daemon itself.
    let leads_home = |text: &str| {
        let port = daemon.address().port();
        let homes = ["localhost", "127.0.0.1"].map(|host| format!("http://{host}:{port}/live.wav"));
        let entry = text.lines().map(|line| line.strip_prefix("File1=").unwrap_or(line));
        entry
            .filter(|line| line.contains(".wav"))
            .all(|line| line == "live.wav" || homes.contains(&line.to_owned()))
    };
    for host in ["evil.example/x.wav?", "a b", "\"><script>", "user@evil", "", "x%0d%0ay"] {
        for target in ["/live.m3u", "/live.pls"] {
            let answer = daemon.get_with(target, &[("Host", host)]);
            let (status, text) = (answer.status, answer.text());
            // Nearly all of them are no name of this machine, or no name at all.
            if status != 403 && status != 400 {
                assert_eq!(status, 200, "{host:?}");
                assert!(leads_home(&text), "{host:?}: {text}");
                assert!(host.is_empty() || !text.contains(host), "{host:?}: {text}");
            }
        }
    }
    let mut old = http::connect(daemon.address());
    old.write_all(b"GET /live.m3u HTTP/1.0\r\n\r\n").expect("sent");
    let mut text = String::new();
    old.read_to_string(&mut text).expect("it ends");
    let body = text.split("\r\n\r\n").nth(1).expect("a body");
    assert!(
        body.contains("live.wav") && leads_home(body),
        "a client without a Host gets a playlist too: {text}"
    );
}

#[test]
fn the_status_has_every_number_for_programs() {
    let daemon = Daemon::ramp("rate = 48000\nchannels = 1\nformat = \"s24\"\nhistory_seconds = 12");
    let mut listening = daemon.get_with("/live.wav", &[("User-Agent", FIREFOX)]);
    let response = daemon.get("/status.json");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));

    // A second of sound, so that there is something to count.
    listening.bytes(48_000 * 3);
    let status = daemon.status();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["uptime_seconds"].as_f64().is_some_and(|uptime| uptime > 0.0 && uptime < 600.0));

    let inputs = status["inputs"].as_array().expect("a list");
    assert_eq!(inputs.len(), 1);
    let input = &inputs[0];
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    assert_eq!((text(&input["name"]), text(&input["state"])), ("live".to_owned(), "capturing".to_owned()));
    assert_eq!(text(&input["device"]), "synth:ramp");
    assert!(input["state_seconds"].as_f64().is_some());
    assert_eq!(input.get("problem"), None, "there is none");
    assert_eq!(
        input["source"],
        serde_json::json!({"device": "synth:ramp", "sample": input["source"]["sample"], "rate": 48000,
            "channels": 1, "period_frames": 480, "buffer_frames": 480_000})
    );
    assert_eq!(
        input["format"],
        serde_json::json!({"rate": 48000, "channels": 1, "sample": "s24", "bytes_per_second": 144_000})
    );
    assert!(input["frames"].as_u64().is_some_and(|frames| frames >= 24_000));
    for none in ["silence_frames", "overruns", "losses"] {
        assert_eq!(input[none], 0, "{none}");
    }
    assert!(input.get("drift_ppm").is_some_and(|drift| drift.is_null() || drift.is_f64()));
    assert_eq!(input["history_seconds"], 12.0);

    let listeners = status["listeners"].as_array().expect("a list");
    assert_eq!(listeners.len(), 1);
    let listener = &listeners[0];
    assert!(listener["id"].as_u64().is_some_and(|id| id >= 1));
    assert_eq!(listener["input"], "live");
    assert_eq!(listener["address"], "127.0.0.1");
    assert_eq!(listener["player"], "Firefox 153.0");
    assert!(listener["seconds"].as_f64().is_some());
    assert!(listener["frames_sent"].as_u64().is_some_and(|frames| frames >= 24_000));
    assert_eq!(listener["frames_skipped"], 0);
    assert!(listener["lag_ms"].as_f64().is_some_and(|lag| (0.0..2000.0).contains(&lag)));
    assert!(listener["interval_ms"].as_f64().is_some());
    let latency = &listener["latency_ms"];
    assert!(latency["median"].as_f64() <= latency["p99"].as_f64() && latency["median"].as_f64() > Some(0.0));

    drop(listening);
    wait_for("the listener to leave", || daemon.listeners().is_empty().then_some(()));
}

#[test]
fn the_drift_of_the_clock_is_in_the_status_after_a_while() {
    let daemon = Daemon::ramp("");
    // The machine's own clock paces this source, so it has no drift. It is known after at most 20 s.
    let drift = wait_for("a drift", || daemon.input("live")["drift_ppm"].as_f64());
    assert!(drift.abs() < 1.0, "{drift} ppm");
}

#[test]
fn health_is_one_word_while_all_is_well() {
    let daemon = Daemon::ramp("");
    let health = daemon.get("/healthz");
    assert_eq!((health.status, health.header("cache-control")), (200, Some("no-store")));
    assert_eq!(health.text(), "ok\n");
}

#[test]
fn each_input_is_its_own_stream_in_its_own_format() {
    let daemon = Daemon::start(
        None,
        "[input.live]\ndevice = \"synth:ramp\"\n\
         [input.wide_one]\ndevice = \"synth:ramp?speed=2\"\nformat = \"s24\"\nrate = 48000\n\
         [input.hiss-2]\ndevice = \"synth:noise\"\nchannels = 1\n",
    );
    for name in ["live", "wide_one", "hiss-2"] {
        daemon.wait_for_state(name, "capturing");
    }
    let mut live = daemon.get("/live.wav");
    let mut wide = daemon.get("/wide_one.wav");
    let mut hiss = daemon.get("/hiss-2.wav");
    assert_eq!(live.bytes(44), wav_header(2, 44_100, 16, u32::MAX, u32::MAX));
    assert_eq!(wide.bytes(44), wav_header(2, 48_000, 24, u32::MAX, u32::MAX));
    assert_eq!(hiss.bytes(44), wav_header(1, 44_100, 16, u32::MAX, u32::MAX));
    assert!(ramp_of(&mut live, 20_000).is_whole());
    let mut ramp = SynthRamp::new(3, 2);
    ramp.feed(&wide.bytes(20_000 * 6));
    assert!(ramp.is_whole());
    let noise = hiss.bytes(4096 * 2);
    let loud = noise.chunks_exact(2).map(|s| i16::from_le_bytes([s[0], s[1]]).unsigned_abs()).max();
    assert!(loud.is_some_and(|peak| (4000..=8192).contains(&peak)), "noise, but not too loud: {loud:?}");
    let names: Vec<_> = daemon.listeners().iter().map(|listener| listener["input"].clone()).collect();
    assert_eq!(names, ["live", "wide_one", "hiss-2"]);
    assert!(daemon.get("/wide_one.m3u").text().contains("\nwide_one.wav\n"));
}

// Framing in time.

#[test]
fn each_block_is_a_chunk_for_low_latency() {
    let daemon = Daemon::ramp("period_ms = 100");
    let mut response = daemon.get("/live.wav?latency=low");
    response.bytes(HEADER_BYTES);
    let chunks: Vec<usize> =
        (0..10).map(|_| response.body.chunk().expect("the stream goes on").len()).collect();
    // After a stall of the machine a chunk has several blocks, but never a part of one.
    assert!(chunks.iter().all(|bytes| bytes % (4410 * FRAME_BYTES) == 0), "{chunks:?}");
    assert!(chunks.iter().filter(|bytes| **bytes == 4410 * FRAME_BYTES).count() >= 7, "{chunks:?}");
}

// Many clients, and strange ones.

#[test]
fn a_hundred_players_that_connect_at_once_all_hear_sound() {
    let daemon = Daemon::ramp("");
    daemon.wait_for_edge(RATE / 2);
    let barrier = Arc::new(Barrier::new(100));
    let players: Vec<_> = (0..100)
        .map(|_| {
            let (barrier, address) = (Arc::clone(&barrier), daemon.address());
            std::thread::spawn(move || {
                barrier.wait();
                let mut response = http::request(address, "GET", "/live.wav", "1.1", &[]);
                response.bytes(HEADER_BYTES);
                assert!(ramp_of(&mut response, 1000).is_whole());
                // The connections stay open, so that none makes room for another one.
                response
            })
        })
        .collect();
    let players: Vec<_> = players.into_iter().map(|player| player.join().expect("it is served")).collect();
    assert_eq!(daemon.listeners().len(), players.len());
}

#[test]
fn several_short_requests_share_a_connection() {
    let daemon = Daemon::ramp("");
    let mut writer = http::connect(daemon.address());
    let mut reader = std::io::BufReader::new(writer.try_clone().expect("a duplicate"));
    for (method, target, status) in [
        ("GET", "/healthz", 200),
        ("GET", "/status.json", 200),
        ("HEAD", "/status.json", 200),
        ("GET", "/nothing", 404),
        ("GET", "/live.wav?back=x", 400),
        ("HEAD", "/", 200),
        ("GET", "/", 200),
        ("GET", "/live.m3u", 200),
    ] {
        let text = http::request_text(daemon.address(), method, target, "1.1", &[]);
        writer.write_all(text.as_bytes()).expect("sent");
        let response = Response::next(reader, method == "HEAD");
        assert_eq!(response.status, status, "{method} {target}");
        (_, reader) = response.finish();
    }
    // The last answer is a stream.
    let text = http::request_text(daemon.address(), "GET", "/live.wav", "1.1", &[]);
    writer.write_all(text.as_bytes()).expect("sent");
    let mut stream = Response::next(reader, false);
    stream.bytes(HEADER_BYTES);
    assert!(ramp_of(&mut stream, 30_000).is_whole());
}

#[test]
fn requests_in_a_row_are_answered_in_their_order() {
    let daemon = Daemon::ramp("");
    let mut stream = http::connect(daemon.address());
    let text: String = ["/healthz", "/live.m3u", "/nothing", "/healthz"]
        .map(|target| http::request_text(daemon.address(), "GET", target, "1.1", &[]))
        .concat();
    stream.write_all(text.as_bytes()).expect("sent");
    let mut reader = std::io::BufReader::new(stream);
    for (status, begin) in [(200, "ok"), (200, "#EXTM3U"), (404, "There is nothing"), (200, "ok")] {
        let response = Response::next(reader, false);
        assert_eq!(response.status, status);
        let text;
        (text, reader) = response.finish();
        assert!(text.starts_with(begin), "{text}");
    }
}

#[test]
fn requests_behind_a_stream_harm_neither_the_stream_nor_others() {
    let daemon = Daemon::ramp("");
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = http::connect(daemon.address());
        let mut text = http::request_text(daemon.address(), "GET", "/live.wav", "1.1", &[]);
        for target in ["/healthz", "/", "/live.wav", "/status.json", "/nothing"] {
            text += &http::request_text(daemon.address(), "GET", target, "1.1", &[]);
        }
        stream.write_all(text.as_bytes()).expect("sent");
        streams.push(Response::read(stream, false));
    }
    assert_serves(&daemon);
    for stream in &mut streams {
        stream.bytes(HEADER_BYTES);
        assert!(ramp_of(stream, 30_000).is_whole());
    }
    drop(streams);
    wait_for("all of them to be gone", || daemon.listeners().is_empty().then_some(()));
    assert_serves(&daemon);
}

#[test]
fn a_thousand_requests_in_a_row_cost_nobody_else_anything() {
    let daemon = Daemon::ramp("");
    let mut listening = daemon.get("/live.wav");
    listening.bytes(HEADER_BYTES);
    let mut floods: Vec<TcpStream> = Vec::new();
    for targets in [["/healthz", "/"], ["/live.wav", "/healthz"], ["/status.json", "/nothing"]] {
        let mut stream = http::connect(daemon.address());
        let pair = targets.map(|target| http::request_text(daemon.address(), "GET", target, "1.1", &[]));
        // The server may end the connection before it has read all.
        let _ = stream.write_all(pair.concat().repeat(500).as_bytes());
        floods.push(stream);
    }
    for _ in 0..5 {
        assert_serves(&daemon);
    }
    assert!(ramp_of(&mut listening, 60_000).is_whole());
    drop(floods);
    assert_serves(&daemon);
}

#[test]
fn a_client_that_never_finishes_its_request_waits_alone() {
    let daemon = Daemon::ramp("");
    let mut listening = daemon.get("/live.wav");
    listening.bytes(HEADER_BYTES);
    let halves = [
        "G",
        "GET /live.wav HTT",
        "GET /live.wav HTTP/1.1\r\nHos",
        "GET / HTTP/1.1\r\nHost: localhost\r\n",
        "",
    ];
    let waiting: Vec<TcpStream> = (0..60)
        .map(|n| {
            let mut stream = http::connect(daemon.address());
            stream.write_all(halves[n % halves.len()].as_bytes()).expect("sent");
            stream
        })
        .collect();
    assert_serves(&daemon);
    assert!(ramp_of(&mut listening, 60_000).is_whole());
    // A client that finishes its request is served after all.
    let mut slow = waiting.into_iter().nth(3).expect("it is there");
    slow.write_all(b"\r\n").expect("sent");
    assert_eq!(Response::read(slow, false).status, 200);
}

#[test]
fn a_request_among_half_requests_is_answered() {
    let daemon = Daemon::ramp("");
    daemon.wait_for_edge(RATE / 2);
    let mut halves = Vec::new();
    for _ in 0..40 {
        for _ in 0..6 {
            let mut half = http::connect(daemon.address());
            half.write_all(b"GET /live.wav HTTP/1.1\r\n").expect("sent");
            halves.push(half);
        }
        daemon.get("/live.wav").bytes(HEADER_BYTES + 1);
    }
}

#[test]
fn random_bytes_harm_nobody() {
    let daemon = Daemon::ramp("");
    let mut listening = daemon.get("/live.wav");
    listening.bytes(HEADER_BYTES);
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    for round in 0..60 {
        let mut bytes: Vec<u8> = (0..2000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        match round % 3 {
            0 => {}
            1 => bytes.splice(..0, *b"GET /live.wav HTTP/1.1\r\n").for_each(drop),
            _ => bytes.iter_mut().for_each(|byte| *byte = b"\r\n :/GETHP1.0"[usize::from(*byte) % 13]),
        }
        bytes.extend(b"\r\n\r\n");
        let mut stream = http::connect(daemon.address());
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
    }
    assert_serves(&daemon);
    assert!(ramp_of(&mut listening, 60_000).is_whole());
}

#[test]
fn a_reset_right_after_the_request_harms_nobody() {
    let daemon = Daemon::ramp("");
    let mut listening = daemon.get("/live.wav");
    listening.bytes(HEADER_BYTES);
    for n in 0..200 {
        let mut stream = http::connect(daemon.address());
        let target = ["/live.wav", "/", "/status.json", "/live.wav?back=1"][n % 4];
        let text = http::request_text(daemon.address(), "GET", target, "1.1", &[]);
        stream.write_all(text.as_bytes()).expect("sent");
        http::reset(stream);
    }
    assert_serves(&daemon);
    assert!(ramp_of(&mut listening, 60_000).is_whole());
    wait_for("the others to be gone", || (daemon.listeners().len() == 1).then_some(()));
}

#[test]
fn a_player_that_leaves_is_no_listener_any_more() {
    let daemon = Daemon::ramp("");
    let response = daemon.get("/live.wav");
    assert_eq!(daemon.listeners().len(), 1);
    drop(response);
    wait_for("it to be gone", || daemon.listeners().is_empty().then_some(()));
    let line = daemon.wait_for_log("left after");
    assert!(line.contains("live: 127.0.0.1 (unknown player)"), "{line}");
}

#[test]
fn a_header_without_an_end_does_not_reach_the_others() {
    let daemon = Daemon::ramp("");
    let mut listening = daemon.get("/live.wav");
    listening.bytes(HEADER_BYTES);
    let mut stream = http::connect(daemon.address());
    stream.write_all(b"GET / HTTP/1.1\r\nX: ").expect("sent");
    for _ in 0..64 {
        match stream.write_all(&[b'x'; 16 * 1024]) {
            Ok(()) => {}
            Err(error) => assert_ne!(error.kind(), ErrorKind::WouldBlock, "it is read or ended"),
        }
    }
    assert_serves(&daemon);
    assert!(ramp_of(&mut listening, 60_000).is_whole());
}
