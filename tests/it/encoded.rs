//! Encoded streams, bit for bit: FLAC is the input's own frames, every listener gets the same packets, MP3 and Opus have no
//! fault at any joint.

use std::io::Write;
use std::thread;

use crate::support::card::{CardFormat, CardOptions, Cards, Order};
use crate::support::collecting::Collector;
use crate::support::daemon::Daemon;
use crate::support::flac::FlacReader;
use crate::support::http::{self, Response};
use crate::support::listening::{Ending, number};
use crate::support::programs::{ffmpeg, offers, run, run_quietly, try_run};
use crate::support::ramp::{RampReader, Stretch};
use crate::support::synth::SynthRamp;
use crate::support::{mp3, ogg, wait_for};
use serde_json::Value;

/// The frames of a block of FLAC.
const BLOCK: usize = 1152;

/// Returns a checker for the PCM that FLAC has of a ramp with that many channels and bits in a sample.
fn ramp_of(channels: u16, bits: u32) -> SynthRamp {
    SynthRamp::new(bits as usize / 8, channels.into())
}

/// Decodes the packets of a whole stream with its header and compares them with the synthetic ramp.
fn decoded(stream: &[u8]) -> (FlacReader, SynthRamp) {
    let mut flac = FlacReader::default();
    let pcm = flac.feed(stream);
    let info = flac.info.expect("a header");
    let mut ramp = ramp_of(info.channels, info.bits);
    ramp.feed(&pcm);
    (flac, ramp)
}

/// Checks that packets have consecutive numbers.
fn assert_in_a_row(flac: &FlacReader) {
    assert!(flac.numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{:?}", flac.numbers);
}

/// Returns the frames that the encoders and the listeners have left out until now, because this machine stalled.
fn left_out(daemon: &Daemon) -> u64 {
    let status = daemon.status();
    let sum = |list: &str| -> u64 {
        status[list].as_array().expect("a list").iter().map(|one| number(one, "frames_skipped")).sum()
    };
    sum("listeners") + sum("encoders")
}

/// Checks that a ramp has no hole, unless frames were left out, and counted.
fn assert_whole(daemon: &Daemon, ramp: &SynthRamp) {
    assert!(ramp.is_whole() || left_out(daemon) > 0, "{:?}", ramp.holes);
}

// FLAC.

/// Checks FLAC of every sample format with 1, 2 and 8 channels at one rate, all at once.
fn flac_is_exact_at(rate: u32) {
    let mut inputs = Vec::new();
    for channels in [1, 2, 8] {
        for (format, bits) in [("s16", 16), ("s24", 24), ("s32", 24)] {
            inputs.push((format!("c{channels}-{format}"), channels, format, bits));
        }
    }
    let tables: String = inputs
        .iter()
        .map(|(name, channels, format, _)| {
            format!(
                "[input.{name}]\ndevice = \"synth:ramp\"\nrate = {rate}\nchannels = {channels}\n\
                 format = \"{format}\"\nbuffer_ms = 10000\n"
            )
        })
        .collect();
    let daemon = Daemon::start(None, &format!("[encoders]\nmax = {}\n{tables}", inputs.len()));
    thread::scope(|scope| {
        for (name, channels, _, bits) in &inputs {
            let daemon = &daemon;
            scope.spawn(move || {
                daemon.wait_for_state(name, "capturing");
                let mut response = daemon.get(&format!("/{name}.flac"));
                assert_eq!((response.status, response.header("content-type")), (200, Some("audio/flac")));
                let (mut flac, mut ramp) = (FlacReader::default(), ramp_of(*channels, *bits));
                while ramp.frames < u64::from(rate) / 2 {
                    let chunk = response.body.chunk().expect("it goes on");
                    ramp.feed(&flac.feed(&chunk));
                }
                let info = flac.info.expect("a header");
                assert_eq!((info.rate, info.channels, info.bits), (rate, *channels, *bits), "{name}");
                assert_eq!((info.total, info.md5, info.block_frames), (0, [0; 16], BLOCK as u16), "{name}");
                assert_in_a_row(&flac);
                assert_whole(daemon, &ramp);
            });
        }
    });
}

#[test]
fn flac_at_8_khz_is_the_inputs_frames() {
    flac_is_exact_at(8_000);
}

#[test]
fn flac_at_44_khz_is_the_inputs_frames() {
    flac_is_exact_at(44_100);
}

#[test]
fn flac_at_48_khz_is_the_inputs_frames() {
    flac_is_exact_at(48_000);
}

#[test]
fn flac_at_192_khz_is_the_inputs_frames() {
    flac_is_exact_at(192_000);
}

#[test]
fn other_decoders_have_nothing_to_say_about_flac() {
    let daemon = Daemon::ramp("rate = 48000\nformat = \"s24\"");
    let stream = Collector::start(&daemon, "/live.flac").wait_for(400_000);
    let (flac, ramp) = decoded(&stream);
    assert_whole(&daemon, &ramp);
    // A file ends with a packet.
    let whole = &stream[..stream.len() - flac.rest()];
    let arguments = ["-d", "-c", "--silent", "--force-raw-format", "--endian=little", "--sign=signed", "-"];
    let flac = run("flac", &arguments, whole).map(|output| {
        // An endless stream has no checksum of all its samples.
        let warning = "WARNING, cannot check MD5 signature since it was unset in the STREAMINFO";
        assert_eq!(output.stderr.trim(), format!("-: {warning}"));
        output.stdout
    });
    for pcm in [flac, ffmpeg(whole, "s24le")].into_iter().flatten() {
        let mut same = ramp_of(2, 24);
        same.feed(&pcm);
        assert_eq!((same.frames, same.first, same.holes), (ramp.frames, ramp.first, ramp.holes.clone()));
    }
}

#[test]
fn flac_goes_on_over_an_unplug_with_silence_in_place_of_lost_sound() {
    let cards = Cards::with([("fake", CardOptions::default())]);
    let config = "[input.live]\ndevice = \"fake\"\nrate = 48000\nbuffer_ms = 10000\n";
    let daemon = Daemon::start(Some(&cards), config);
    daemon.wait_for_state("live", "capturing");
    let stream = Collector::start(&daemon, "/live.flac");
    let heard = || {
        let (mut flac, mut ramp) = (FlacReader::default(), RampReader::new(CardFormat::S16, 2));
        ramp.feed(&flac.feed(&stream.bytes()));
        assert_in_a_row(&flac);
        ramp
    };
    wait_for("sound", || (heard().ramp_frames() > 24_000).then_some(()));
    cards.card("fake").command(Order::Unplug);
    daemon.wait_for_state("live", "lost");
    wait_for("silence", || (heard().silence_frames() > 48_000).then_some(()));
    cards.card("fake").command(Order::Run);
    let ramp = wait_for("sound after the silence", || {
        Some(heard()).filter(|ramp| matches!(ramp.stretches[..], [.., Stretch::Ramp { frames, .. }] if frames > 24_000 && ramp.silence_frames() > 0))
    });
    let [Stretch::Ramp { .. }, Stretch::Silence { frames }, Stretch::Ramp { .. }] = ramp.stretches[..] else {
        panic!("{}", ramp.shown())
    };
    assert!(frames >= 48_000, "{frames} frames of silence");
    assert_eq!(stream.ending(), None);
    assert_eq!(daemon.count_log("listens to FLAC"), 1);
    let encoders = daemon.status()["encoders"].as_array().expect("encoders").clone();
    assert_eq!(encoders.len(), 1, "one encoder all the time: {encoders:?}");
}

// Slow listeners.

/// Opens a stream on a connection with the smallest receive buffer.
fn narrow_stream(daemon: &Daemon, target: &str, headers: &[(&str, &str)]) -> Response {
    let mut stream = http::connect_narrow(daemon.address(), 2048);
    let text = http::request_text(daemon.address(), "GET", target, "1.1", headers);
    stream.write_all(text.as_bytes()).expect("the request is sent");
    let response = Response::read(stream, false);
    assert_eq!(response.status, 200);
    response
}

/// Sleeps until the listener `sleeper` has been skipped after it wakes up: reads until the status has skipped frames, and
/// returns the stream until a while after that.
fn past_a_hole(daemon: &Daemon, response: &mut Response, bytes_after: usize) -> (Vec<u8>, u64) {
    let edge = daemon.edge();
    let rate = daemon.input("live")["format"]["rate"].as_u64().expect("a rate");
    daemon.wait_for_edge(edge + 4 * rate);
    let mut stream = Vec::new();
    let skipped = |daemon: &Daemon| {
        let listeners = daemon.listeners();
        number(listeners.iter().find(|one| one["player"] == "sleeper").expect("it listens"), "frames_skipped")
    };
    let mut after = None;
    loop {
        stream.extend_from_slice(&response.body.chunk().expect("it goes on"));
        match after {
            None if skipped(daemon) > 0 => after = Some(stream.len() + bytes_after),
            Some(end) if stream.len() >= end => return (stream, skipped(daemon)),
            _ => {}
        }
    }
}

#[test]
fn a_slow_listener_of_flac_misses_whole_packets_which_are_counted() {
    // 8.2 s until the ramp repeats, longer than the hole.
    let options = "rate = 8000\nformat = \"s24\"";
    let daemon = Daemon::ramp_with("[listeners]\nmax_lag_ms = 500", "synth:ramp", options);
    let healthy = Collector::start(&daemon, "/live.flac");
    let mut sleeper = narrow_stream(&daemon, "/live.flac", &[("User-Agent", "sleeper")]);
    let (stream, skipped) = past_a_hole(&daemon, &mut sleeper, 60_000);
    let (flac, ramp) = decoded(&stream);
    let missing: u64 = ramp.holes.iter().map(|(_, frames)| u64::from(*frames)).sum();
    assert!(!ramp.holes.is_empty());
    // A chunk more may have been skipped while the status was read.
    assert!(skipped >= missing, "{skipped} frames are counted, {:?} are missing", ramp.holes);
    if ramp.holes.len() == 1 {
        assert_eq!(skipped, missing);
    }
    for (before, frames) in &ramp.holes {
        assert_eq!((before % BLOCK as u64, usize::from(*frames) % BLOCK), (0, 0), "whole packets");
    }
    // Decoders go on behind the hole.
    let whole = &stream[..stream.len() - flac.rest()];
    let arguments =
        ["-d", "-c", "-F", "--silent", "--force-raw-format", "--endian=little", "--sign=signed", "-"];
    if let Some(output) = run("flac", &arguments, whole) {
        let mut last = output.stdout[output.stdout.len() - 6..].to_vec();
        last.truncate(3);
        assert_eq!(u16::from_le_bytes([last[1], last[2]]), ramp.last());
    }
    let (_, ramp) = decoded(&healthy.bytes());
    assert_whole(&daemon, &ramp);
}

#[test]
fn a_slow_listener_with_an_encoder_of_its_own_misses_what_is_counted() {
    let options = "rate = 8000\nformat = \"s24\"";
    let daemon = Daemon::ramp_with("[listeners]\nmax_lag_ms = 500", "synth:ramp", options);
    daemon.wait_for_edge(8_000);
    let mut sleeper = narrow_stream(&daemon, "/live.flac?back=0.3", &[("User-Agent", "sleeper")]);
    let (stream, skipped) = past_a_hole(&daemon, &mut sleeper, 60_000);
    let (flac, ramp) = decoded(&stream);
    assert_in_a_row(&flac);
    let missing: u64 = ramp.holes.iter().map(|(_, frames)| u64::from(*frames)).sum();
    assert!(!ramp.holes.is_empty() && skipped >= missing, "{skipped} are counted: {:?}", ramp.holes);
    if ramp.holes.len() == 1 {
        assert_eq!(skipped, missing);
    }
}

// Equal packets for all.

/// Returns the place in `all` from which on it has the bytes `part`, as far as both go.
fn place_of(part: &[u8], all: &[u8]) -> usize {
    let key = &part[..200];
    let place = all.windows(key.len()).position(|window| window == key);
    let place = place.expect("the listener that was there before has this packet too");
    let both = part.len().min(all.len() - place);
    assert!(all[place..place + both] == part[..both], "the same bytes from byte {place} on");
    place
}

/// Three listeners join one after the other. From each one's first packet on, they all get the same bytes.
fn everybody_gets_the_same_packets(codec: &str, header: usize, packet: usize, check: impl Fn(&[u8])) {
    let daemon = Daemon::ramp_with("", "synth:noise", "rate = 48000");
    if !offers(&daemon, codec) {
        return;
    }
    let target = format!("/live.{codec}");
    let first = Collector::start(&daemon, &target);
    first.wait_for(header + 30 * packet);
    let second = Collector::start(&daemon, &target);
    second.wait_for(header + 20 * packet);
    let third = Collector::start(&daemon, &target);
    let third = third.wait_for(header + 40 * packet);
    let (second, first) = (second.wait_for(header + 50 * packet), first.bytes());
    if left_out(&daemon) > 0 {
        println!("this machine stalled: a listener was skipped");
        return;
    }
    assert_eq!((&first[..header], &second[..header]), (&second[..header], &third[..header]));
    let at_second = place_of(&second[header..], &first[header..]);
    let at_third = place_of(&third[header..], &second[header..]);
    assert!(at_second > 0 && at_third > 0, "they joined in the middle");
    for stream in [&first, &second, &third] {
        check(stream);
    }
    let encoders = daemon.status()["encoders"].clone();
    assert_eq!(encoders.as_array().map(Vec::len), Some(1), "one encoder for all: {encoders}");
}

#[test]
fn all_listeners_of_flac_get_the_same_packets() {
    everybody_gets_the_same_packets("flac", 42, 4700, |stream| {
        let mut flac = FlacReader::default();
        flac.feed(stream);
        assert_in_a_row(&flac);
    });
}

#[test]
fn all_listeners_of_mp3_get_the_same_packets_each_of_which_stands_alone() {
    everybody_gets_the_same_packets("mp3", 0, 384, |stream| {
        let (frames, rest) = mp3::frames(stream);
        assert!(frames.iter().all(|frame| (frame.rate, frame.bitrate, frame.bytes) == (48_000, 128, 384)));
        let whole = &stream[..stream.len() - rest];
        ffmpeg(whole, "s16le");
        run_quietly("mpg123", &["-q", "--no-resync", "-s", "-"], whole);
    });
}

/// Checks the pages of an Opus stream: two of header, then one packet each, with granules and numbers in a row. Returns the
/// pages and the bytes of an incomplete one.
fn opus_pages(stream: &[u8]) -> (Vec<ogg::Page>, usize) {
    let (pages, rest) = ogg::pages(stream);
    let [head, tags, live @ ..] = &pages[..] else { panic!("{} pages", pages.len()) };
    assert_eq!((head.flags, head.granule, head.number), (ogg::BEGIN, 0, 0));
    assert_eq!((tags.flags, tags.granule, tags.number), (0, 0, 1));
    assert_eq!(&head.packets[0][..9], b"OpusHead\x01");
    assert_eq!(&tags.packets[0][..8], b"OpusTags");
    assert_eq!(u16::from_le_bytes([head.packets[0][10], head.packets[0][11]]), 3840, "the pre-skip");
    for page in live {
        assert_eq!((page.flags, page.packets.len(), page.serial), (0, 1, head.serial));
    }
    for pair in live.windows(2) {
        assert_eq!(pair[1].number, pair[0].number + 1);
        assert_eq!(pair[1].granule, pair[0].granule + 960);
    }
    (pages.clone(), rest)
}

#[test]
fn all_listeners_of_opus_get_the_same_pages_without_a_fault() {
    // OpusHead takes 19 bytes, OpusTags 8 + 4 + 14 + 4; a page 28 more. A packet has 240 bytes.
    let daemon = Daemon::ramp_with("", "synth:noise", "rate = 48000");
    if !offers(&daemon, "opus") {
        return;
    }
    let stream = Collector::start(&daemon, "/live.opus").wait_for(10_000);
    let header = opus_pages(&stream).0[2].at;
    everybody_gets_the_same_packets("opus", header, 268, |stream| {
        let (_, rest) = opus_pages(stream);
        let whole = &stream[..stream.len() - rest];
        ffmpeg(whole, "s16le");
        let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "live-{}-{}.opus",
            std::process::id(),
            whole.len()
        ));
        std::fs::write(&file, whole).expect("cargo's folder for tests is writable");
        // A stream without an end is a fault to opusinfo.
        if let Some((_, output)) = try_run("opusinfo", &[file.to_str().expect("a path that is text")], &[]) {
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &output.stderr;
            // Only this copy ends here, and a joiner begins in the middle.
            let faults: Vec<&str> = text
                .lines()
                .filter(|line| line.to_lowercase().contains("warning") || line.contains("rror"))
                .filter(|line| {
                    let live = ["EOS not set", "sequence number gap", "discontinuity in stream"];
                    !live.iter().any(|known| line.contains(known))
                })
                .collect();
            assert!(faults.is_empty(), "{faults:?} in {text}");
        }
        let _ = std::fs::remove_file(file);
    });
}

#[test]
fn a_resampled_input_is_heard_in_mp3_and_opus_at_its_level() {
    let daemon = Daemon::ramp_with("", "synth:tone?hz=1000", "rate = 44100\nchannels = 3\nformat = \"s32\"");
    for (codec, bytes, rate) in [("mp3", 40_000, 44_100), ("opus", 30_000, 48_000)] {
        if !offers(&daemon, codec) {
            continue;
        }
        let stream = Collector::start(&daemon, &format!("/live.{codec}")).wait_for(bytes);
        let stream = match codec {
            "mp3" => &stream[..stream.len() - mp3::frames(&stream).1],
            _ => &stream[..stream.len() - opus_pages(&stream).1],
        };
        let Some(pcm) = ffmpeg(stream, "s16le") else { return };
        let left: Vec<i16> =
            pcm.chunks_exact(4).map(|frame| i16::from_le_bytes([frame[0], frame[1]])).collect();
        // Half a second, without the start.
        let part = &left[left.len() - rate / 2..];
        let crossings = part.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count();
        assert!(
            (990..=1010).contains(&crossings),
            "{codec}: {crossings} crossings in half a second of 1 kHz"
        );
        let peak = part.iter().map(|sample| sample.unsigned_abs()).max();
        println!("{codec}: peak {peak:?}");
        assert!(peak > Some(1000), "{codec}: {peak:?}");
    }
}

#[test]
fn fifty_listeners_of_each_codec_and_of_wav_hear_everything() {
    const EACH: usize = 50;
    let daemon = Daemon::ramp_with("[limits]\nlisteners_per_address = 300", "synth:ramp", "");
    let codecs: Vec<&str> =
        ["flac", "mp3", "opus"].into_iter().filter(|codec| offers(&daemon, codec)).collect();
    let plain: Vec<Collector> = (0..EACH).map(|_| Collector::start(&daemon, "/live.wav")).collect();
    let streams: Vec<(&str, Collector)> = (0..EACH)
        .flat_map(|_| &codecs)
        .map(|codec| (*codec, Collector::start(&daemon, &format!("/live.{codec}"))))
        .collect();
    // Two seconds, with all of them connected.
    let ends: Vec<usize> = plain.iter().map(|stream| stream.len() + 4 * 88_200).collect();
    plain.iter().zip(ends).for_each(|(stream, end)| drop(stream.wait_for(end)));
    for (codec, stream) in &streams {
        stream.wait_for(if *codec == "flac" { 150_000 } else { 20_000 });
    }
    let status = daemon.status();
    let listeners = status["listeners"].as_array().expect("listeners").len();
    assert_eq!(listeners, EACH * (1 + codecs.len()));
    let running = status["encoders"].as_array().expect("encoders");
    assert_eq!(running.len(), codecs.len(), "one encoder for each codec: {running:?}");
    assert!(running.iter().all(|one| one["listeners"] == EACH), "{running:?}");
    println!("{running:#?}");
    assert_eq!(daemon.input("live")["overruns"], 0);
    let left_out = left_out(&daemon);
    let taken = |stream: &Collector| {
        assert_eq!(stream.ending(), None);
        stream.bytes()
    };
    let all: Vec<(&str, Vec<u8>)> = plain
        .iter()
        .map(|stream| ("wav", taken(stream)))
        .chain(streams.iter().map(|(codec, stream)| (*codec, taken(stream))))
        .collect();
    // They leave before the checks, so that the streams do not get longer and longer meanwhile.
    drop((plain, streams, daemon));
    for (codec, stream) in all {
        let ramp = match codec {
            "wav" => {
                let mut ramp = SynthRamp::new(2, 2);
                ramp.feed(&stream[44..]);
                Some(ramp)
            }
            "flac" => Some(decoded(&stream).1),
            "mp3" => {
                mp3::frames(&stream);
                None
            }
            _ => {
                ogg::pages(&stream);
                None
            }
        };
        assert!(ramp.is_none_or(|ramp| ramp.is_whole() || left_out > 0), "{codec}");
    }
}

// The capture is begun anew, or ends.

/// Returns the running encoders of the status.
fn encoders(daemon: &Daemon) -> Vec<Value> {
    daemon.status()["encoders"].as_array().expect("encoders").clone()
}

#[test]
fn a_stream_goes_on_over_a_reload_that_keeps_the_format() {
    let config = |period: u32| {
        format!(
            "[input.live]\ndevice = \"synth:ramp\"\nrate = 48000\nperiod_ms = {period}\nbuffer_ms = 10000\n"
        )
    };
    let daemon = Daemon::start(None, &config(10));
    daemon.wait_for_state("live", "capturing");
    let plain = Collector::start(&daemon, "/live.wav");
    let streams: Vec<(&str, Collector)> = ["flac", "mp3", "opus"]
        .into_iter()
        .filter(|codec| offers(&daemon, codec))
        .map(|codec| (codec, Collector::start(&daemon, &format!("/live.{codec}"))))
        .collect();
    streams.iter().for_each(|(_, stream)| drop(stream.wait_for(20_000)));
    let before = streams.len();
    assert_eq!(encoders(&daemon).len(), before);
    for period in [20, 10] {
        daemon.reload(&config(period));
        wait_for("the new period", || {
            let source = daemon.input("live")["source"].clone();
            (source["period_frames"] == period * 48).then_some(())
        });
        plain.wait_for_more(200_000);
        streams.iter().for_each(|(_, stream)| drop(stream.wait_for_more(20_000)));
    }
    for (codec, stream) in &streams {
        assert_eq!(stream.ending(), None, "{codec}");
        let stream = stream.bytes();
        match *codec {
            "flac" => {
                let mut flac = FlacReader::default();
                let pcm = flac.feed(&stream);
                assert_in_a_row(&flac);
                if left_out(&daemon) == 0 {
                    // These are the frames of WAV, which began half a second before. The ramp repeats itself.
                    let all = plain.bytes();
                    let is_here = |place: &usize| {
                        let both = pcm.len().min(all.len() - place);
                        all[*place..place + both] == pcm[..both]
                    };
                    let place = (44..all.len() - 200).step_by(4).find(is_here);
                    assert!(place.is_some_and(|place| place < 44 + 4 * 48_000), "{place:?}");
                }
            }
            "mp3" => drop(mp3::frames(&stream)),
            _ => drop(opus_pages(&stream)),
        }
    }
    // A listener that joins now shares the encoder.
    let joined = Collector::start(&daemon, "/live.flac");
    joined.wait_for(20_000);
    let running = encoders(&daemon);
    assert_eq!(running.len(), before, "{running:?}");
    assert_eq!(running.iter().find(|one| one["codec"] == "flac").expect("it runs")["listeners"], 2);
}

#[test]
fn a_stream_ends_with_its_format_its_input_and_its_daemon() {
    let config = |name: &str, rate: u32| {
        format!(
            "[encoders]\nmax = 8\n[input.{name}]\ndevice = \"synth:noise\"\nrate = {rate}\n\
             [input.other]\ndevice = \"synth:tone\"\n"
        )
    };
    let mut daemon = Daemon::start(None, &config("live", 48_000));
    daemon.wait_for_state("live", "capturing");
    let codecs: Vec<&str> =
        ["flac", "mp3", "opus"].into_iter().filter(|codec| offers(&daemon, codec)).collect();
    let listen = |daemon: &Daemon, name: &str| -> Vec<Collector> {
        let streams: Vec<Collector> =
            codecs.iter().map(|codec| Collector::start(daemon, &format!("/{name}.{codec}"))).collect();
        streams.iter().for_each(|stream| drop(stream.wait_for(5_000)));
        streams
    };
    let streams = listen(&daemon, "live");
    let recording = Collector::start(&daemon, &format!("/live.{}?for=600", codecs[0]));
    recording.wait_for(5_000);
    daemon.reload(&config("live", 44_100));
    for stream in streams {
        let (ending, bytes) = stream.wait_for_end();
        assert_eq!(ending, Ending::Complete, "the format has changed, after {} bytes", bytes.len());
    }
    // Ten minutes were not over.
    assert_ne!(recording.wait_for_end().0, Ending::Complete);
    wait_for("the new format", || (daemon.input("live")["format"]["rate"] == 44_100).then_some(()));
    let streams = listen(&daemon, "live");
    let mut flac = FlacReader::default();
    flac.feed(&streams[0].bytes());
    assert_eq!(flac.info.expect("a header").rate, 44_100);
    daemon.reload(&config("renamed", 44_100));
    streams.iter().for_each(|stream| assert_eq!(stream.wait_for_end().0, Ending::Complete, "it is gone"));
    wait_for("its encoders to end", || encoders(&daemon).is_empty().then_some(()));
    wait_for("the new name", || {
        let inputs = daemon.status()["inputs"].clone();
        let renamed = inputs.as_array()?.iter().find(|input| input["name"] == "renamed")?.clone();
        (renamed["state"] == "capturing" && renamed["format"].is_object()).then_some(())
    });
    let streams = listen(&daemon, "renamed");
    daemon.signal("TERM");
    assert!(daemon.wait().0.success());
    streams.iter().for_each(|stream| drop(stream.wait_for_end()));
}
