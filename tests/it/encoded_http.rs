//! The answers of encoded streams, byte for byte: heads, framing, ranges, ICY metadata, files, refusals.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::collecting::Collector;
use crate::support::daemon::Daemon;
use crate::support::flac::FlacReader;
use crate::support::http::{self, Response};
use crate::support::listening::Ending;
use crate::support::programs::{offers, run_quietly, skip, try_run};
use crate::support::synth::SynthRamp;
use crate::support::{mp3, ogg, wait_for, wait_within};
use serde_json::Value;

const CHROMIUM: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0";
const GSTREAMER: &str = "GStreamer souphttpsrc 1.22.0 libsoup/3.2.2";
const APPLE: &str = "AppleCoreMedia/1.0.0.21E219 (iPhone; U; CPU OS 17_4 like Mac OS X)";
const VLC: &str = "VLC/3.0.24 LibVLC/3.0.24";

const TYPES: [(&str, &str); 3] = [("flac", "audio/flac"), ("mp3", "audio/mpeg"), ("opus", "audio/ogg")];

/// Starts a daemon with the ramp at 48 kHz in stereo, and waits for a second of it.
fn daemon_with(tables: &str) -> Daemon {
    // A machine that stalls makes no listener skip.
    let patient = if tables.contains("[listeners]") { "" } else { "[listeners]\nmax_lag_ms = 10000\n" };
    let daemon = Daemon::ramp_with(&format!("{patient}{tables}"), "synth:ramp", "rate = 48000");
    daemon.wait_for_edge(48_000);
    daemon
}

/// Returns the codecs that this machine has.
fn codecs(daemon: &Daemon) -> Vec<(&'static str, &'static str)> {
    TYPES.into_iter().filter(|(codec, _)| offers(daemon, codec)).collect()
}

/// Returns the running encoders of the status.
fn encoders(daemon: &Daemon) -> Vec<Value> {
    daemon.status()["encoders"].as_array().expect("encoders").clone()
}

/// Returns codec and media type of the stream that a player gets: Chromium's media element gets FLAC in Ogg.
fn of_player(
    (codec, content_type): (&'static str, &'static str),
    agent: &str,
) -> (&'static str, &'static str) {
    if codec == "flac" && agent == CHROMIUM { ("flac in ogg", "audio/ogg") } else { (codec, content_type) }
}

/// Checks that the bytes begin with a packet of that codec, with its header or without.
fn begins_with_a_packet(codec: &str, bytes: &[u8], has_header: bool) {
    match codec {
        "flac in ogg" => {
            let pages = ogg::pages(bytes).0;
            assert_eq!(pages[0].flags & ogg::BEGIN != 0, has_header);
            let start: &[u8] = if has_header { b"\x7fFLAC" } else { &[0xff, 0xf8] };
            assert!(pages[0].packets[0].starts_with(start), "{:?}", &pages[0].packets[0][..4]);
        }
        "flac" if has_header => assert_eq!(&bytes[..4], b"fLaC"),
        "flac" => assert_eq!(&bytes[..2], [0xff, 0xf8], "a frame"),
        "mp3" => assert!(mp3::frames(bytes).0.len() > 1),
        _ => {
            let pages = ogg::pages(bytes).0;
            assert_eq!(pages[0].flags & ogg::BEGIN != 0, has_header);
            assert_eq!(pages[0].packets[0].starts_with(b"OpusHead"), has_header);
        }
    }
}

#[test]
fn the_head_of_an_encoded_stream_is_that_of_an_endless_one() {
    let daemon = daemon_with("");
    for stream in codecs(&daemon) {
        let target = format!("/live.{}", stream.0);
        for headers in [&[][..], &[("Range", "bytes=0-")], &[("User-Agent", CHROMIUM), ("Range", "bytes=0-")]]
        {
            let (codec, content_type) = of_player(stream, headers.first().map_or("", |(_, value)| *value));
            let mut response = daemon.get_with(&target, headers);
            assert_eq!(response.status, 200, "{codec}");
            assert_eq!(response.header("content-type"), Some(content_type));
            assert_eq!(response.header("transfer-encoding"), Some("chunked"));
            assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(response.header("cache-control"), Some("no-store, no-transform"));
            for absent in [
                "content-length",
                "accept-ranges",
                "content-range",
                "icy-metaint",
                "icy-name",
                "icy-br",
                "content-encoding",
            ] {
                assert_eq!(response.header(absent), None, "{codec}: {absent}");
            }
            begins_with_a_packet(codec, &response.bytes(6_000), true);
        }
    }
}

#[test]
fn head_has_the_head_of_get_and_starts_no_encoder() {
    let daemon = daemon_with("[encoders]\nmax = 100");
    let mut heads = Vec::new();
    for (codec, _) in codecs(&daemon) {
        for query in ["", "?back=1", "?for=1", "?latency=low", "?framing=identity"] {
            for agent in [VLC, FIREFOX, CHROMIUM, APPLE] {
                let target = format!("/live.{codec}{query}");
                let headers = [("User-Agent", agent), ("Range", "bytes=0-"), ("Icy-MetaData", "1")];
                let head = http::request(daemon.address(), "HEAD", &target, "1.1", &headers);
                heads.push((target, agent, head.head()));
            }
        }
    }
    assert!(encoders(&daemon).is_empty(), "HEAD starts nothing");
    assert!(daemon.log().iter().all(|line| !line.contains("listens")), "HEAD listens to nothing");
    for (target, agent, head) in heads {
        let headers = [("User-Agent", agent), ("Range", "bytes=0-"), ("Icy-MetaData", "1")];
        let (status, mut fields) = daemon.get_with(&target, &headers).head();
        // The frame is that of the moment.
        fields.retain(|(name, _)| name != "wavecast-frame");
        assert_eq!(head, (status, fields), "{target} {agent}");
    }
}

#[test]
fn a_client_that_does_not_know_chunks_gets_the_bare_packets() {
    let daemon = daemon_with("");
    for (codec, content_type) in codecs(&daemon) {
        let (plain, bare) = (format!("/live.{codec}"), format!("/live.{codec}?framing=identity"));
        for (version, target, headers) in
            [("1.0", &plain, &[][..]), ("1.1", &plain, &[("TE", "identity")]), ("1.1", &bare, &[])]
        {
            let mut response = http::request(daemon.address(), "GET", target, version, headers);
            assert_eq!((response.status, response.header("content-type")), (200, Some(content_type)));
            for absent in ["transfer-encoding", "content-length", "accept-ranges"] {
                assert_eq!(response.header(absent), None, "{target}: {absent}");
            }
            begins_with_a_packet(codec, &response.bytes(2_500), true);
        }
    }
}

#[test]
fn a_player_that_comes_back_gets_packets_from_the_live_edge_without_a_header() {
    let daemon = daemon_with("");
    for stream in codecs(&daemon) {
        for agent in [CHROMIUM, GSTREAMER] {
            let (codec, content_type) = of_player(stream, agent);
            let headers = [("User-Agent", agent), ("Range", "bytes=123457-")];
            let mut response = daemon.get_with(&format!("/live.{}", stream.0), &headers);
            assert_eq!(response.status, 206, "{codec}");
            assert_eq!(response.header("content-type"), Some(content_type));
            assert_eq!(response.header("content-range"), Some("bytes 123457-9007199254740990/*"));
            assert_eq!(response.header("transfer-encoding"), Some("chunked"));
            assert_eq!(response.header("content-length"), None);
            begins_with_a_packet(codec, &response.bytes(6_000), false);
        }
    }
}

/// Chromium's media element gets FLAC in pages of one frame each, and they hold the input's own frames.
#[test]
fn flac_in_ogg_for_chromium_is_the_inputs_frames() {
    let daemon = daemon_with("");
    let headers = [("User-Agent", CHROMIUM), ("Range", "bytes=0-")];
    let in_ogg = Collector::start_with(&daemon, "/live.flac", &headers);
    let (pages, _) = ogg::pages(&in_ogg.wait_for(100_000));
    let [first, comments, frames @ ..] = &pages[..] else { panic!("{} pages", pages.len()) };
    assert_eq!((first.flags, comments.packets.len()), (ogg::BEGIN, 1));
    assert!(frames.len() > 20 && frames.iter().all(|page| page.packets.len() == 1));
    // Without the mapping's own 9 bytes, the first packet is the header of native FLAC; the comments are another block of it.
    let mut native = first.packets[0][9..].to_vec();
    native[4] |= 0x80;
    native.extend(frames.iter().flat_map(|page| &page.packets[0]));
    let mut ramp = SynthRamp::new(2, 2);
    ramp.feed(&FlacReader::default().feed(&native));
    assert!(ramp.frames > 20_000);
    assert!(ramp.is_whole() || encoders(&daemon)[0]["frames_skipped"] != 0, "{:?}", ramp.holes);
    // Its `fetch` decodes for itself and gets native FLAC, by an encoder of its own.
    let native = Collector::start_with(&daemon, "/live.flac", &[("User-Agent", CHROMIUM)]);
    assert_eq!(&native.wait_for(100)[..4], b"fLaC");
    assert_eq!(encoders(&daemon).len(), 2);
}

#[test]
fn a_page_of_another_origin_may_read_the_packets_if_the_configuration_says_so() {
    let daemon = daemon_with("[access]\ncors = [\"https://page.example\"]");
    for (codec, _) in codecs(&daemon) {
        let target = format!("/live.{codec}");
        let ask = |origin, method| {
            let headers = [("Origin", origin)];
            let response = http::request(daemon.address(), method, &target, "1.1", &headers);
            response.header("access-control-allow-origin").map(str::to_owned)
        };
        for method in ["GET", "HEAD"] {
            assert_eq!(
                ask("https://page.example", method).as_deref(),
                Some("https://page.example"),
                "{codec}"
            );
            assert_eq!(ask("https://other.example", method), None, "{codec}");
        }
    }
}

#[test]
fn firefox_is_told_an_end_of_mp3_only() {
    let daemon = daemon_with("");
    for (codec, _) in codecs(&daemon) {
        let target = format!("/live.{codec}");
        let mut response = daemon.get_with(&target, &[("User-Agent", FIREFOX), ("Range", "bytes=0-")]);
        if codec != "mp3" {
            assert_eq!((response.status, response.header("content-length")), (200, None), "{codec}");
            assert_eq!(response.header("transfer-encoding"), Some("chunked"));
        } else {
            assert_eq!(response.status, 206);
            assert_eq!(response.header("content-range"), Some("bytes 0-4294967299/4294967300"));
            assert_eq!(response.header("content-length"), Some("4294967300"));
            assert_eq!(response.header("transfer-encoding"), None);
        }
        begins_with_a_packet(codec, &response.bytes(2_500), true);
        drop(response);
        let mut again = daemon.get_with(&target, &[("User-Agent", FIREFOX), ("Range", "bytes=100000-")]);
        assert_eq!(again.status, 206);
        let range = if codec == "mp3" { "4294967299/4294967300" } else { "9007199254740990/*" };
        assert_eq!(again.header("content-range"), Some(&*format!("bytes 100000-{range}")), "{codec}");
        begins_with_a_packet(codec, &again.bytes(2_500), false);
    }
}

#[test]
fn apples_probe_of_mp3_gets_two_bytes_of_a_file_with_an_end() {
    let daemon = daemon_with("");
    if !offers(&daemon, "mp3") {
        return;
    }
    let ask = |range| {
        daemon.get_with("/live.mp3", &[("User-Agent", APPLE), ("Range", range), ("Icy-MetaData", "1")])
    };
    let mut probe = ask("bytes=0-1");
    assert_eq!((probe.status, probe.header("content-length")), (206, Some("2")));
    assert_eq!(probe.header("content-range"), Some("bytes 0-1/2147483392"));
    assert_eq!(probe.header("icy-metaint"), None, "never with a range");
    assert_eq!(probe.bytes(2)[0], 0xff);
    assert!(probe.body.is_complete());
    for (range, from) in [("bytes=0-2147483391", 0), ("bytes=2-", 2)] {
        let mut stream = ask(range);
        assert_eq!((stream.status, stream.header("icy-metaint")), (206, None));
        assert_eq!(stream.header("content-range"), Some(&*format!("bytes {from}-2147483391/2147483392")));
        assert_eq!(stream.header("content-length"), Some(&*(2_147_483_392_u64 - from).to_string()));
        begins_with_a_packet("mp3", &stream.bytes(2_500), false);
    }
}

// ICY metadata.

#[test]
fn icy_metadata_is_for_who_asks_and_for_mp3_alone() {
    let daemon = Daemon::start(
        None,
        "[input.live]\ntitle = \"Anna's café\"\ndevice = \"synth:noise\"\nrate = 48000\n",
    );
    daemon.wait_for_state("live", "capturing");
    for (codec, _) in codecs(&daemon) {
        for (headers, expected) in [
            (&[("Icy-MetaData", "1"), ("User-Agent", VLC), ("Range", "bytes=0-")][..], codec == "mp3"),
            (&[("Icy-MetaData", "1")], codec == "mp3"),
            (&[("icy-metadata", "1"), ("User-Agent", "Music Player Daemon 0.23.12")], codec == "mp3"),
            (&[("Icy-MetaData", "0")], false),
            // A player that goes on after a cut still expects metadata.
            (&[("Icy-MetaData", "1"), ("Range", "bytes=500-"), ("User-Agent", GSTREAMER)], codec == "mp3"),
            (&[("Icy-MetaData", "1"), ("Range", "bytes=500-"), ("User-Agent", APPLE)], false),
            (&[("Icy-MetaData", "1"), ("Range", "bytes=0-"), ("User-Agent", FIREFOX)], false),
            (&[], false),
        ] {
            let response = daemon.get_with(&format!("/live.{codec}"), headers);
            let icy = response.headers.iter().filter(|(name, _)| name.starts_with("icy-")).count();
            assert_eq!(icy, if expected { 3 } else { 0 }, "{codec} {headers:?} {:?}", response.headers);
            if expected {
                assert_eq!(response.header("icy-metaint"), Some("16000"));
                assert_eq!(response.header("icy-br"), Some("128"));
                assert_eq!(response.header("icy-name"), Some("Anna's café"));
            }
        }
    }
}

#[test]
fn metadata_is_exactly_between_its_intervals_over_a_skip_too() {
    // 320 kbit/s pass an interval in 0.4 s.
    let daemon = Daemon::ramp_with(
        "[listeners]\nmax_lag_ms = 300\n[encoders]\nmp3_bitrate = 320",
        "synth:noise",
        "title = \"Attic\"\nrate = 48000",
    );
    if !offers(&daemon, "mp3") {
        return;
    }
    // A listener that keeps up, one that is in its own thread because of its `back=`, and one that stops to read.
    let quick = Collector::start_with(&daemon, "/live.mp3", &[("Icy-MetaData", "1")]);
    let bare = http::request(daemon.address(), "GET", "/live.mp3", "1.0", &[("Icy-MetaData", "1")]);
    assert_eq!(bare.header("icy-metaint"), Some("16000"));
    let bare = Collector::of(bare);
    let mut sleeper = {
        let mut stream = http::connect_narrow(daemon.address(), 2048);
        let headers = [("Icy-MetaData", "1"), ("User-Agent", "sleeper")];
        let text = http::request_text(daemon.address(), "GET", "/live.mp3", "1.1", &headers);
        std::io::Write::write_all(&mut stream, text.as_bytes()).expect("the request is sent");
        Response::read(stream, false)
    };
    let mut slept = Vec::new();
    for _ in 0..2 {
        daemon.wait_for_edge(daemon.edge() + 3 * 48_000);
        let end = slept.len() + 60_000;
        while slept.len() < end {
            slept.extend(sleeper.body.chunk().expect("it goes on"));
        }
    }
    let skipped = daemon.listeners().iter().find(|one| one["player"] == "sleeper").expect("it listens")["frames_skipped"].clone();
    assert_ne!(skipped, 0, "it was skipped");
    for (name, stream) in
        [("quick", quick.wait_for(200_000)), ("bare", bare.wait_for(200_000)), ("slow", slept)]
    {
        let (sound, titles) = mp3::without_metadata(&stream, 16_000);
        assert_eq!(titles, ["StreamTitle='Attic';"], "{name}");
        let (frames, _) = mp3::frames(&sound);
        assert!(frames.len() * 960 > 100_000, "{name}: {} frames", frames.len());
    }
}

// Queries.

#[test]
fn the_bit_rate_is_one_of_the_list() {
    let daemon = daemon_with("[encoders]\nmax = 8\nmp3_bitrate = 192\nopus_bitrate = 48");
    if offers(&daemon, "mp3") {
        for (query, expected) in [("", 192), ("?bitrate=64", 64), ("?bitrate=320", 320)] {
            let bytes = daemon.get(&format!("/live.mp3{query}")).bytes(4_000);
            assert_eq!(mp3::frames(&bytes).0[0].bitrate, expected, "{query}");
        }
    }
    if offers(&daemon, "opus") {
        for (query, expected) in [("", 48), ("?bitrate=16", 16), ("?bitrate=256", 256)] {
            let bytes = daemon.get(&format!("/live.opus{query}")).bytes(4_000);
            // 20 ms a packet.
            assert_eq!(ogg::pages(&bytes).0[2].packets[0].len(), expected * 1000 / 8 / 50, "{query}");
        }
    }
    for (target, hint) in [
        ("/live.mp3?bitrate=100", "bitrate is one of 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320."),
        ("/live.mp3?bitrate=", "bitrate is one of"),
        ("/live.mp3?bitrate=-1", "bitrate is one of"),
        ("/live.mp3?bitrate=128k", "bitrate is one of"),
        ("/live.opus?bitrate=320", "bitrate is one of 16, 24, 32, 48, 64, 96, 128, 160, 192, 256."),
        ("/live.flac?bitrate=128", "bitrate is for MP3 and Opus."),
        ("/live.wav?bitrate=128", "bitrate is for MP3 and Opus."),
        ("/live.mp3?bitrat=128", "bitrate"),
        ("/live.m3u?codec=aac", "codec is wav, flac, mp3 or opus"),
        ("/live.pls?codec=", "codec is wav, flac, mp3 or opus"),
        ("/live.flac?for=0", "for"),
        ("/live.flac?for=x", "for"),
        ("/live.mp3?back=-1", "back"),
    ] {
        let response = daemon.get(target);
        assert_eq!(response.status, 400, "{target}");
        let text = response.text();
        assert!(text.contains(hint), "{target}: {text}");
    }
    for target in ["/live.aac", "/live.ogg", "/live.FLAC", "/live.flac.mp3", "/.mp3", "/other.flac"] {
        assert_eq!(daemon.get(target).status, 404, "{target}");
    }
}

#[test]
fn a_low_rate_has_no_high_bit_rate_and_says_so() {
    let daemon = Daemon::ramp("rate = 8000");
    if !offers(&daemon, "mp3") {
        return;
    }
    let head = daemon.get_with("/live.mp3", &[("Icy-MetaData", "1")]);
    assert_eq!(head.header("icy-br"), Some("64"));
    let streams = ["/live.mp3", "/live.mp3?bitrate=64", "/live.mp3?bitrate=320"]
        .map(|target| Collector::start(&daemon, target));
    for stream in streams {
        assert_eq!(mp3::frames(&stream.wait_for(2_000)).0[0].bitrate, 64);
    }
    let running = encoders(&daemon);
    assert_eq!(running.len(), 1, "all share one encoder: {running:?}");
    assert_eq!(running[0]["bitrate"], 64);
}

#[test]
fn playlists_lead_to_the_codec_that_was_asked_for() {
    let daemon = daemon_with("");
    let address = daemon.address();
    for (codec, _) in TYPES.into_iter().chain([("wav", "")]) {
        let m3u = daemon.get(&format!("/live.m3u?codec={codec}")).text();
        assert!(m3u.ends_with(&format!("\nlive.{codec}\n")), "{m3u}");
        let pls = daemon.get(&format!("/live.pls?codec={codec}")).text();
        assert!(pls.contains(&format!("\nFile1=http://{address}/live.{codec}\n")), "{pls}");
    }
}

#[test]
fn who_may_not_hear_wav_may_not_hear_the_others_either() {
    let daemon =
        Daemon::start(None, "[access]\nallow = [\"192.0.2.1\"]\n[input.live]\ndevice = \"synth:ramp\"\n");
    for target in ["/live.wav", "/live.flac", "/live.mp3?back=1", "/live.opus?last=1"] {
        assert_eq!(daemon.get(target).status, 403, "{target}");
    }
    assert!(daemon.log().iter().all(|line| !line.contains("panic")));
}

#[test]
fn a_token_is_needed_and_kept_by_a_redirect() {
    let passwords =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("passwords-{}-encoded", std::process::id()));
    std::fs::write(&passwords, "").expect("cargo's folder for tests is writable");
    let input = "[input.live]\ndevice = \"synth:ramp\"\nrate = 48000\n";
    let access = format!("[access]\npasswords = \"{}\"\n", passwords.display());
    let file = passwords.with_extension("toml");
    std::fs::write(&file, &access).expect("cargo's folder for tests is writable");
    let made = Command::new(env!("CARGO_BIN_EXE_wavecast"))
        .arg("--config")
        .arg(&file)
        .args(["token", "--write", "radio"])
        .output()
        .expect("it runs");
    let token = String::from_utf8(made.stdout).expect("text");
    let token = token.trim();
    assert_eq!(token.len(), 22, "{}", String::from_utf8_lossy(&made.stderr));
    let daemon = Daemon::start(None, &format!("{access}{input}"));
    for (codec, _) in TYPES {
        for query in ["", "?last=1", "?for=1"] {
            assert_eq!(daemon.get(&format!("/live.{codec}{query}")).status, 401, "{codec}{query}");
        }
    }
    let response = wait_for("a second of sound", || {
        let response = daemon.get(&format!("/live.flac?last=0.5&token={token}"));
        (response.status == 307).then_some(response)
    });
    let location = response.header("location").expect("an address");
    assert!(
        location.starts_with("live.flac?stream=") && location.ends_with(&format!("&token={token}")),
        "{location}"
    );
    assert_eq!(daemon.get(&format!("/{location}")).status, 200);
    let playlist = daemon.get(&format!("/live.m3u?codec=opus&token={token}")).text();
    assert!(playlist.ends_with(&format!("live.opus?token={token}\n")), "{playlist}");
    let _ = (std::fs::remove_file(passwords), std::fs::remove_file(file));
}

// Files.

/// Reads a whole file, and returns its head too.
fn fetched(daemon: &Daemon, target: &str) -> (Collector, Vec<u8>) {
    let file = Collector::start(daemon, target);
    assert_eq!(file.status, 200, "{target}: {}", String::from_utf8_lossy(&file.bytes()));
    let (ending, bytes) = file.wait_for_end_within(Duration::from_secs(60));
    assert_eq!(ending, Ending::Complete, "{target}");
    (file, bytes)
}

/// Checks a finite FLAC of `frames` frames, and returns its ramp.
fn assert_finite_flac(bytes: &[u8], frames: u64, has_md5: bool) -> SynthRamp {
    let mut flac = FlacReader::default();
    let pcm = flac.feed(bytes);
    let info = flac.info.expect("a header");
    assert_eq!((info.total, flac.rest()), (frames, 0), "all packets are whole");
    let mut ramp = SynthRamp::new(info.bits as usize / 8, info.channels.into());
    ramp.feed(&pcm);
    assert_eq!(ramp.frames, frames);
    assert!(ramp.is_whole(), "{:?}", ramp.holes);
    assert_eq!(info.md5 != [0; 16], has_md5);
    if let Some((success, output)) = try_run("flac", &["--test", "--silent", "-"], bytes) {
        assert!(success, "{}", output.stderr);
        assert_eq!(output.stderr.is_empty(), has_md5, "{}", output.stderr);
    }
    ramp
}

/// Returns the frames at the start of an Opus stream that players throw away.
fn pre_skip(pages: &[ogg::Page]) -> u64 {
    let head = &pages[0].packets[0];
    u64::from(u16::from_le_bytes([head[10], head[11]]))
}

/// Follows the redirect of `last=`, and returns the address.
fn redirected(daemon: &Daemon, target: &str) -> String {
    let response = daemon.get(target);
    assert!((300..400).contains(&response.status), "{target}: {}", response.status);
    format!("/{}", response.header("location").expect("an address"))
}

#[test]
fn the_last_seconds_are_a_flac_with_its_length_and_its_checksum() {
    for format in ["s16", "s24", "s32"] {
        let daemon = Daemon::ramp(&format!("rate = 48000\nformat = \"{format}\""));
        daemon.wait_for_edge(2 * 48_000);
        let address = redirected(&daemon, "/live.flac?last=1.5&utc=60");
        assert!(address.starts_with("/live.flac?stream="), "{address}");
        let (file, bytes) = fetched(&daemon, &address);
        assert_eq!(file.header("content-type"), Some("audio/flac"));
        let disposition = file.header("content-disposition").expect("a name");
        assert!(disposition.starts_with("attachment; filename=\"live-20"), "{disposition}");
        assert!(disposition.ends_with(".flac\""), "{disposition}");
        for absent in ["accept-ranges", "content-length", "etag"] {
            assert_eq!(file.header(absent), None, "{absent}");
        }
        let ramp = assert_finite_flac(&bytes, 72_000, true);
        // An address means the same bytes again.
        assert_eq!(fetched(&daemon, &address).1, bytes);
        // And the same frames as WAV.
        let wav = daemon.get(&address.replace("live.flac", "live.wav")).bytes(44 + 16);
        let low = usize::from(match format {
            "s16" => 0_u8,
            "s24" => 1,
            _ => 2,
        });
        assert_eq!(u16::from_le_bytes([wav[44 + low], wav[45 + low]]), ramp.first.expect("a frame"));
        wait_for("no encoder to be left", || {
            (daemon.listeners().is_empty() && encoders(&daemon).is_empty()).then_some(())
        });
    }
}

#[test]
fn the_last_seconds_of_mp3_and_opus_are_as_long_as_was_asked() {
    let daemon = daemon_with("");
    daemon.wait_for_edge(3 * 48_000);
    if offers(&daemon, "mp3") {
        let address = redirected(&daemon, "/live.mp3?last=2&bitrate=64");
        assert!(address.contains("&bitrate=64"), "{address}");
        let (frames, rest) = mp3::frames(&fetched(&daemon, &address).1);
        assert_eq!((rest, frames[0].bitrate), (0, 64));
        // 96000 frames are 83.3 MP3 frames, and the encoder holds back one or two more.
        assert!((84..=87).contains(&frames.len()), "{} frames", frames.len());
    }
    if offers(&daemon, "opus") {
        let address = redirected(&daemon, "/live.opus?last=2");
        let (file, bytes) = fetched(&daemon, &address);
        assert_eq!(file.header("content-type"), Some("audio/ogg"));
        let (pages, rest) = ogg::pages(&bytes);
        let last = pages.last().expect("a page");
        assert_eq!((rest, last.flags & ogg::END, last.granule), (0, ogg::END, pre_skip(&pages) + 96_000));
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("last-{}.opus", std::process::id()));
        std::fs::write(&path, &bytes).expect("cargo's folder for tests is writable");
        let path = path.to_str().expect("a path that is text");
        run_quietly("opusinfo", &[path], &[]);
        if let Some(pcm) = run_quietly("opusdec", &["--quiet", "--rate", "48000", path, "-"], &[]) {
            assert_eq!(pcm.len(), 2 * 48_000 * 4);
        }
        let _ = std::fs::remove_file(path);
    }
}

#[test]
fn a_file_of_the_past_is_refused_like_a_wav_when_it_is_not_there() {
    // The ring holds the history and no more: the lag that a listener may have is shorter.
    let daemon = Daemon::ramp_with(
        "[listeners]\nmax_lag_ms = 100\n",
        "synth:ramp",
        "rate = 48000\nhistory_seconds = 2",
    );
    daemon.wait_for_edge(2 * 48_000);
    let address = redirected(&daemon, "/live.flac?last=1");
    let stream = address.split("stream=").nth(1).and_then(|rest| rest.split('&').next()).expect("a number");
    for (query, status) in [
        ("stream=1&from=0&to=100".to_owned(), 410),
        (format!("stream={stream}&from=0&to=99999999999"), 404),
        (format!("stream={stream}&from=100&to=100"), 400),
        (format!("stream={stream}&from=100"), 400),
        ("last=999".to_owned(), 400),
    ] {
        for codec in ["flac", "mp3", "opus", "wav"] {
            assert_eq!(daemon.get(&format!("/live.{codec}?{query}")).status, status, "{codec} {query}");
        }
    }
    // A ring may keep more than it has to.
    wait_within(Duration::from_secs(60), Duration::from_millis(250), "the frames to be gone", || {
        let head = http::request(daemon.address(), "HEAD", &address, "1.1", &[]);
        (head.status == 410).then_some(())
    });
    assert_eq!(daemon.get(&address).status, 410);
}

#[test]
fn a_recording_of_the_time_to_come_has_its_length() {
    let daemon = daemon_with("");
    thread::scope(|scope| {
        for (codec, content_type) in codecs(&daemon) {
            let daemon = &daemon;
            scope.spawn(move || {
                let (file, bytes) = fetched(daemon, &format!("/live.{codec}?for=1.25&back=0.5"));
                assert_eq!(file.header("content-type"), Some(content_type));
                assert_eq!(
                    file.header("content-disposition"),
                    Some(&*format!("inline; filename=\"live.{codec}\""))
                );
                match codec {
                    "flac" => drop(assert_finite_flac(&bytes, 60_000, false)),
                    "mp3" => {
                        let (frames, rest) = mp3::frames(&bytes);
                        assert_eq!(rest, 0);
                        // 52.08 MP3 frames.
                        assert!((53..=56).contains(&frames.len()), "{} frames", frames.len());
                    }
                    _ => {
                        let (pages, rest) = ogg::pages(&bytes);
                        let last = pages.last().expect("a page");
                        assert_eq!(
                            (rest, last.flags & ogg::END, last.granule),
                            (0, ogg::END, pre_skip(&pages) + 60_000)
                        );
                    }
                }
            });
        }
    });
    wait_for("no listener to be left", || daemon.listeners().is_empty().then_some(()));
    assert!(encoders(&daemon).is_empty(), "no encoder is left");
}

#[test]
fn back_begins_that_long_before_the_live_edge() {
    let daemon = daemon_with("");
    daemon.wait_for_edge(4 * 48_000);
    let before = daemon.edge();
    let stream = Collector::start(&daemon, "/live.flac?back=2");
    let mut flac = FlacReader::default();
    let pcm = flac.feed(&stream.wait_for(100_000));
    let after = daemon.edge();
    let mut ramp = SynthRamp::new(2, 2);
    ramp.feed(&pcm);
    assert!(ramp.is_whole(), "{:?}", ramp.holes);
    let first = u64::from(ramp.first.expect("a frame"));
    let possible = (before - 96_000 - 480..=after - 96_000).any(|index| index % 65_536 == first);
    assert!(possible, "it begins with {first}, not between {before} and {after}");
    // The stream goes on to the live edge.
    wait_for("the live edge", || {
        let mut ramp = SynthRamp::new(2, 2);
        ramp.feed(&FlacReader::default().feed(&stream.bytes()));
        assert!(ramp.is_whole(), "{:?}", ramp.holes);
        (ramp.frames > 4 * 48_000).then_some(())
    });
    assert_eq!(stream.ending(), None);
    for (codec, bytes) in [("mp3", 30_000), ("opus", 23_000)] {
        if offers(&daemon, codec) {
            // Nearly two seconds at once, although nothing of it was encoded before.
            let stream = Collector::start(&daemon, &format!("/live.{codec}?back=2")).wait_for(bytes);
            begins_with_a_packet(codec, &stream, true);
        }
    }
}

#[test]
fn the_first_listener_gets_its_whole_burst_too() {
    // A burst of MPlayer is longer than the lag that listeners may have.
    let daemon = daemon_with("[listeners]\nmax_lag_ms = 2000\n[encoders]\nmp3_bitrate = 320");
    daemon.wait_for_edge(5 * 48_000);
    if !offers(&daemon, "mp3") {
        return;
    }
    for who in ["first", "second"] {
        let before = daemon.edge();
        let stream = Collector::start_with(&daemon, "/live.mp3", &[("User-Agent", "MPlayer 1.5")]);
        // 4 s have 166 frames.
        let bytes = stream.wait_for(960 * 166);
        let passed = daemon.edge() - before;
        assert!(passed < 3 * 48_000, "the {who} listener waited {passed} frames for a burst of 4 s");
        mp3::frames(&bytes);
        let listeners = daemon.listeners();
        let listener = listeners.iter().find(|one| one["player"] == "MPlayer 1.5").expect("it listens");
        assert_eq!(listener["frames_skipped"], 0, "the {who} listener: {listener}");
        drop(stream);
        wait_for("it to be gone", || daemon.listeners().is_empty().then_some(()));
    }
}

#[test]
fn flac_is_not_offered_for_more_channels_than_it_carries() {
    let daemon = Daemon::ramp_with("", "synth:ramp", "rate = 48000\nchannels = 9");
    let codecs = daemon.input("live")["codecs"].clone();
    assert!(!codecs.as_array().expect("codecs").contains(&"flac".into()), "{codecs}");
    let refused = daemon.get("/live.flac");
    assert_eq!((refused.status, refused.text().as_str()), (501, "FLAC carries 1 to 8 channels, not 9.\n"));
}

// Limits.

#[test]
fn beyond_max_encoders_there_is_503_and_the_others_go_on() {
    let daemon = daemon_with("[encoders]\nmax = 3");
    if !offers(&daemon, "mp3") || !offers(&daemon, "opus") {
        return;
    }
    let refused = |target, headers: &[(&str, &str)], why: &str| {
        let refused = daemon.get_with(target, headers);
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "{target}");
        assert_eq!(refused.text(), why, "{target}");
    };
    let unusual = ["/live.mp3?bitrate=64", "/live.flac?back=1", "/live.mp3?for=1"];
    let chromium = [("User-Agent", CHROMIUM), ("Range", "bytes=0-")];
    let flac = Collector::start(&daemon, "/live.flac");
    let mp3 = Collector::start(&daemon, "/live.mp3");
    flac.wait_for(50_000);
    mp3.wait_for(5_000);
    // The last place is for what everybody asks for.
    for target in unusual {
        let why =
            "2 encoders run already, and one more is for streams without bitrate, back, for and last.\n";
        refused(target, &[], why);
    }
    let opus = Collector::start(&daemon, "/live.opus");
    assert_eq!(opus.status, 200);
    opus.wait_for(5_000);
    for target in unusual {
        refused(target, &[], "3 encoders run already, no more can.\n");
    }
    refused("/live.flac", &chromium, "3 encoders run already, no more can.\n");
    // The encoders that run take more listeners.
    Collector::start(&daemon, "/live.flac").wait_for(50_000);
    flac.wait_for_more(50_000);
    mp3.wait_for_more(5_000);
    assert_eq!((flac.ending(), mp3.ending()), (None, None));
    // An encoder that nobody uses makes room at once, although it would stay for ten seconds.
    drop(mp3);
    wait_for("a listener to be gone", || {
        encoders(&daemon).iter().any(|one| one["codec"] == "mp3" && one["listeners"] == 0).then_some(())
    });
    let other = Collector::start_with(&daemon, "/live.flac", &chromium);
    assert_eq!(other.status, 200);
    other.wait_for(2_000);
    let running = encoders(&daemon);
    assert_eq!(running.len(), 3, "{running:?}");
    let mut ramp = SynthRamp::new(2, 2);
    ramp.feed(&FlacReader::default().feed(&flac.bytes()));
    // An encoder leaves sound out, and counts it, where this machine stalls.
    let left_out = running.iter().any(|one| one["frames_skipped"] != 0);
    assert!(ramp.is_whole() || left_out, "{:?}", ramp.holes);
    // More room, and none at all.
    let table = |max| {
        format!(
            "[encoders]\nmax = {max}\n[input.live]\ndevice = \"synth:ramp\"\nrate = 48000\nbuffer_ms = 10000\n"
        )
    };
    daemon.reload(&table(5));
    wait_for("room", || (daemon.get("/live.mp3?bitrate=32").status == 200).then_some(()));
    daemon.reload(&table(0));
    wait_for("none to be offered", || {
        daemon.input("live")["codecs"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    assert_eq!(daemon.get("/live.mp3?bitrate=96").status, 501);
    // A listener that is there already goes on.
    flac.wait_for_more(50_000);
    assert_eq!(flac.ending(), None);
}

#[test]
fn without_encoders_there_is_wav_alone() {
    let daemon = daemon_with("[encoders]\nmax = 0");
    assert_eq!(daemon.input("live")["codecs"], Value::Array(Vec::new()));
    for codec in ["flac", "mp3", "opus"] {
        for query in ["", "?back=1", "?for=1"] {
            for method in ["GET", "HEAD"] {
                let target = format!("/live.{codec}{query}");
                let refused = http::request(daemon.address(), method, &target, "1.1", &[]);
                assert_eq!(refused.status, 501, "{method} {target}");
                if method == "GET" {
                    assert_eq!(refused.text(), "Compressed streams are turned off here.\n", "{target}");
                }
            }
        }
    }
    assert_eq!(daemon.get("/live.wav").status, 200);
    assert!(encoders(&daemon).is_empty());
}

#[test]
fn an_encoder_ends_a_while_after_its_last_listener_and_gives_everything_back() {
    let daemon = daemon_with("");
    let threads = |daemon: &Daemon| {
        let folder = format!("/proc/{}/task", daemon.pid());
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .expect("it runs")
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .filter(|name| {
                let of_listeners = ["flac", "mp3", "opus", "fanout", "listener"];
                of_listeners.iter().any(|start| name.starts_with(start))
            })
            .collect();
        names.sort();
        names
    };
    let running: Vec<&str> = codecs(&daemon).into_iter().map(|(codec, _)| codec).collect();
    assert!(encoders(&daemon).is_empty(), "none runs without a listener");
    assert_eq!(threads(&daemon), Vec::<String>::new());
    let streams: Vec<Collector> =
        running.iter().map(|codec| Collector::start(&daemon, &format!("/live.{codec}"))).collect();
    streams.iter().for_each(|stream| drop(stream.wait_for(10_000)));
    let status = encoders(&daemon);
    assert_eq!(status.len(), running.len());
    for one in &status {
        assert_eq!((&one["input"], &one["listeners"]), (&Value::from("live"), &Value::from(1)), "{one}");
    }
    for codec in &running {
        let name = format!("{codec} live");
        assert!(threads(&daemon).contains(&name), "{name} in {:?}", threads(&daemon));
    }
    drop(streams);
    wait_for("the listeners to be gone", || daemon.listeners().is_empty().then_some(()));
    assert_eq!(encoders(&daemon).len(), running.len(), "a player that comes back finds them running");
    // This is the encoder of before: it numbers on.
    let mut flac = FlacReader::default();
    flac.feed(&Collector::start(&daemon, "/live.flac").wait_for(20_000));
    assert!(flac.numbers[0] > 0, "{:?}", flac.numbers);
    wait_within(Duration::from_secs(60), Duration::from_millis(50), "the encoders to end", || {
        encoders(&daemon).is_empty().then_some(())
    });
    wait_for("the threads to end", || threads(&daemon).is_empty().then_some(()));
}

// A missing library.

#[test]
fn a_missing_library_is_501_with_its_package_and_said_once() {
    // A mount namespace of its own, in which the libraries are empty files.
    let libraries = std::process::Command::new("sh")
        .args([
            "-c",
            "ldconfig -p | sed -n 's/.*=> //p' | grep -e 'libmp3lame[.]so[.]0' -e 'libopus[.]so[.]0'",
        ])
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let hide: String =
        libraries.lines().map(|library| format!("mount --bind /dev/null '{library}' && ")).collect();
    let script = format!("{hide}exec \"$@\"");
    let through = ["unshare", "--mount", "--propagation=private", "sh", "-c", &script, "sh"];
    let can = std::process::Command::new("unshare")
        .args(["--mount", "--propagation=private", "sh", "-c", &format!("{hide}true")])
        .stderr(std::process::Stdio::null())
        .status();
    if !can.is_ok_and(|status| status.success()) {
        return skip("this test needs the right to mount");
    }
    let daemon = Daemon::ramp_through(&through, "", "rate = 48000");
    assert_eq!(daemon.input("live")["codecs"], serde_json::json!(["flac"]));
    for (codec, package) in [("mp3", "libmp3lame0"), ("opus", "libopus0")] {
        for query in ["", "?for=1", "?bitrate=64"] {
            let refused = daemon.get(&format!("/live.{codec}{query}"));
            assert_eq!(refused.status, 501, "{codec}{query}");
            let text = refused.text();
            assert!(text.contains(package), "{text}");
        }
        let head = http::request(daemon.address(), "HEAD", &format!("/live.{codec}"), "1.1", &[]);
        assert_eq!(head.status, 501);
        daemon.wait_for_log(package);
        assert_eq!(daemon.count_log(package), 1, "said once");
    }
    Collector::start(&daemon, "/live.flac").wait_for(20_000);
}
