//! Real players, a program of their own because decoding takes all cores: the output of each player is the card's ramp,
//! sample by sample.
//!
//! Each player runs as a child process that writes the sound it would play to its standard output. It may begin
//! anywhere, and from there on nothing may be missing, added or changed. `players.packages` lists the packages. A
//! test whose player is missing says so and passes, unless `WAVECAST_ALL_PLAYERS=1`.

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::card::{CardFormat, CardOptions, Cards, Order};
use support::daemon::Daemon;
use support::players::{Playing, curl, ffmpeg, gstreamer, mpd, mplayer, mpv, sox, vlc, vlc_to_card};
use support::programs::installed;
use support::ramp::{RampReader, Stretch};
use support::{HEADER_BYTES, wait_for};

/// A stream of [`Room`].
#[derive(Clone, Copy)]
struct Stream {
    name: &'static str,
    rate: u32,
    channels: u32,
    samples: CardFormat,
    /// ffmpeg's name for the samples. The configuration has the name without the `le`.
    codec: &'static str,
}

const LIVE: Stream =
    Stream { name: "live", rate: 44_100, channels: 2, samples: CardFormat::S16, codec: "s16le" };
const STREAMS: [Stream; 4] = [
    LIVE,
    Stream { name: "mono", rate: 48_000, channels: 1, samples: CardFormat::S16, codec: "s16le" },
    Stream { name: "wide", rate: 48_000, channels: 2, samples: CardFormat::S24Packed, codec: "s24le" },
    Stream { name: "widest", rate: 44_100, channels: 2, samples: CardFormat::S32, codec: "s32le" },
];

/// The width at which a player writes samples of 24 bits.
#[derive(Clone, Copy, PartialEq)]
enum Samples24 {
    /// Samples in 3 bytes.
    Packed,
    /// Samples as the upper 24 bits of 32.
    Padded,
}

/// The sound that each player has to play without a fault, in seconds.
const SECONDS: u64 = 2;

/// A daemon that captures every one of [`STREAMS`] from a card of its own.
struct Room {
    daemon: Daemon,
    cards: Cards,
}

impl Room {
    fn with(streams: &[Stream]) -> Room {
        let cards = Cards::with(streams.iter().map(|stream| {
            let options = CardOptions { formats: vec![stream.samples], ..CardOptions::default() };
            (stream.name, options)
        }));
        let inputs: String = streams
            .iter()
            .map(|Stream { name, rate, channels, codec, .. }| {
                let format = codec.trim_end_matches("le");
                format!(
                    "[input.{name}]\ndevice = \"{name}\"\nrate = {rate}\nchannels = {channels}\n\
                     format = \"{format}\"\nbuffer_ms = 10000\n"
                )
            })
            .collect();
        // A machine that stalls makes no player skip.
        let config = format!("[listeners]\nmax_lag_ms = 10000\n{inputs}");
        let daemon = Daemon::start(Some(&cards), &config);
        for stream in streams {
            // After a second every player gets its whole burst, and none gets the card's first frame, which looks
            // like silence in mono.
            wait_for("a second of sound", || {
                daemon.input(stream.name)["frames"].as_u64().filter(|frames| *frames > stream.rate.into())
            });
        }
        Room { daemon, cards }
    }

    /// Lets a player play each of the streams, all at once, and compares the sound.
    fn plays_exactly(
        &self,
        streams: &[Stream],
        samples24: Samples24,
        player: impl Fn(&str, &Stream) -> Playing,
    ) {
        let playing: Vec<Playing> = streams
            .iter()
            .map(|stream| player(&self.daemon.url(&format!("/{}.wav", stream.name)), stream))
            .collect();
        for (stream, mut playing) in streams.iter().zip(playing) {
            playing.hears_exactly(stream, samples24);
        }
    }

    /// Lets a player open both playlists of the first stream.
    fn plays_playlists(&self, player: impl Fn(&str) -> Playing) {
        let playing: Vec<Playing> =
            ["/live.m3u", "/live.pls"].iter().map(|playlist| player(&self.daemon.url(playlist))).collect();
        for mut playing in playing {
            playing.hears_exactly(&LIVE, Samples24::Packed);
        }
    }

    /// Returns the status of the only listener.
    fn listener(&self) -> Value {
        let status = self.daemon.status();
        let listeners = status["listeners"].as_array().expect("listeners");
        assert_eq!(listeners.len(), 1, "{listeners:?}");
        listeners[0].clone()
    }

    /// Unplugs the card for five seconds, and checks that the player plays silence and then sound again, on the same
    /// connection.
    fn outlives_an_unplugged_card(&self, mut playing: Playing) {
        let card = self.cards.card("live");
        let mut ramp = RampReader::new(LIVE.samples, LIVE.channels);
        let rate = u64::from(LIVE.rate);
        playing.hear("sound", |bytes| {
            ramp.feed(bytes);
            ramp.frames() > rate
        });
        let before = self.listener();
        card.command(Order::Unplug);
        self.daemon.wait_for_state("live", "lost");
        wait_for("five seconds of silence", || {
            self.daemon.input("live")["silence_frames"].as_u64().filter(|silent| *silent >= 5 * rate)
        });
        card.command(Order::Run);
        playing.hear("sound after the silence", |bytes| {
            ramp.feed(bytes);
            matches!(ramp.stretches[..], [_, _, Stretch::Ramp { frames, .. }, ..] if frames > rate)
        });
        match ramp.stretches[..] {
            [Stretch::Ramp { .. }, Stretch::Silence { frames: silent }, Stretch::Ramp { .. }] => {
                assert!(silent >= 5 * rate, "only {silent} frames of silence");
            }
            _ => panic!("{:?}", ramp.stretches),
        }
        let after = self.listener();
        assert_eq!(before["id"], after["id"], "a new connection: {before} {after}");
        assert_eq!(after["frames_skipped"], 0);
    }
}

impl Playing {
    /// Skips the header of the stream.
    fn skip_header(&mut self) {
        let mut header = Vec::new();
        self.hear("a header", |bytes| {
            header.extend_from_slice(bytes);
            header.len() >= HEADER_BYTES
        });
        let sound = header.split_off(HEADER_BYTES);
        self.heard.lock().expect("nobody panics holding it").splice(..0, sound);
    }

    /// Checks [`SECONDS`] of the stream.
    fn hears_exactly(&mut self, stream: &Stream, samples24: Samples24) {
        let padded = samples24 == Samples24::Padded && stream.samples == CardFormat::S24Packed;
        let mut ramp = RampReader::new(stream.samples, stream.channels);
        let mut rest = Vec::new();
        self.hear(&format!("{SECONDS} s of {}", stream.name), |bytes| {
            rest.extend_from_slice(bytes);
            match padded {
                true => ramp.feed(&packed(&mut rest)),
                false => ramp.feed(&std::mem::take(&mut rest)),
            }
            ramp.frames() > SECONDS * u64::from(stream.rate)
        });
        assert!(ramp.is_whole(), "{} heard {:?}", self.name, ramp.stretches);
    }
}

/// Takes all whole samples of 32 bits out of `bytes`, without their lowest 8 bits, which must be zero.
fn packed(bytes: &mut Vec<u8>) -> Vec<u8> {
    let rest = bytes.split_off(bytes.len() / 4 * 4);
    let samples = std::mem::replace(bytes, rest);
    assert!(samples.iter().step_by(4).all(|lowest| *lowest == 0), "more than 24 bits");
    samples.chunks_exact(4).flat_map(|sample| &sample[1..]).copied().collect()
}

#[test]
fn curl_gets_every_sample() {
    if installed(&["curl"]) {
        Room::with(&STREAMS).plays_exactly(&STREAMS, Samples24::Packed, |url, _| {
            let mut playing = Playing::start(&mut curl(url));
            playing.skip_header();
            playing
        });
    }
}

#[test]
fn ffmpeg_plays_every_sample() {
    if installed(&["ffmpeg"]) {
        Room::with(&STREAMS).plays_exactly(&STREAMS, Samples24::Packed, |url, stream| {
            Playing::start(&mut ffmpeg(url, stream.codec))
        });
    }
}

#[test]
fn ffprobe_sees_what_the_streams_are() {
    if !installed(&["ffprobe"]) {
        return;
    }
    let room = Room::with(&STREAMS);
    for stream in &STREAMS {
        let url = room.daemon.url(&format!("/{}.wav", stream.name));
        let output = Command::new("ffprobe")
            .args(["-v", "error", "-of", "json", "-show_streams", "-show_format", &url])
            .stderr(Stdio::inherit())
            .output()
            .expect("ffprobe runs");
        assert!(output.status.success());
        let seen: Value = serde_json::from_slice(&output.stdout).expect("it writes JSON");
        assert_eq!(seen["format"]["format_name"], "wav");
        let seen = &seen["streams"][0];
        assert_eq!(seen["codec_name"], format!("pcm_{}", stream.codec));
        assert_eq!(seen["sample_rate"], stream.rate.to_string());
        assert_eq!(seen["channels"], stream.channels);
        assert_eq!(seen["duration"], Value::Null, "it has no end");
    }
}

#[test]
fn vlc_plays_every_sample() {
    if installed(&["vlc"]) {
        Room::with(&STREAMS).plays_exactly(&STREAMS, Samples24::Padded, |url, stream| {
            Playing::start(&mut match stream.samples {
                CardFormat::S16 => vlc_to_card(url),
                // VLC's file as a sound card takes 16 bits at most, but its encoder takes more.
                _ => {
                    let mut command = vlc(url);
                    command.arg("--sout=#transcode{acodec=s32l}:std{access=file,mux=dummy,dst=-}");
                    command
                }
            })
        });
    }
}

#[test]
fn vlc_plays_the_playlists() {
    if installed(&["vlc"]) {
        Room::with(&[LIVE]).plays_playlists(|url| Playing::start(&mut vlc_to_card(url)));
    }
}

#[test]
fn vlc_goes_on_when_the_card_is_unplugged_for_five_seconds() {
    if installed(&["vlc"]) {
        let room = Room::with(&[LIVE]);
        let playing = Playing::start(&mut vlc_to_card(&room.daemon.url("/live.wav")));
        room.outlives_an_unplugged_card(playing);
    }
}

#[test]
fn mpv_plays_every_sample() {
    if installed(&["mpv"]) {
        Room::with(&STREAMS)
            .plays_exactly(&STREAMS, Samples24::Padded, |url, _| Playing::start(&mut mpv(url)));
    }
}

#[test]
fn mpv_plays_the_playlists() {
    if installed(&["mpv"]) {
        Room::with(&[LIVE]).plays_playlists(|url| Playing::start(&mut mpv(url)));
    }
}

#[test]
fn mpv_goes_on_when_the_card_is_unplugged_for_five_seconds() {
    if installed(&["mpv"]) {
        let room = Room::with(&[LIVE]);
        let playing = Playing::start(&mut mpv(&room.daemon.url("/live.wav")));
        room.outlives_an_unplugged_card(playing);
    }
}

#[test]
fn gstreamers_http_source_plays_every_sample() {
    if installed(&["gst-launch-1.0"]) {
        Room::with(&STREAMS).plays_exactly(&STREAMS, Samples24::Packed, |url, _| {
            let location = format!("location={url}");
            let pipeline = ["souphttpsrc", &location, "!", "wavparse", "!", "fdsink", "fd=1"];
            Playing::start(&mut gstreamer(&pipeline))
        });
    }
}

#[test]
fn gstreamers_playbin_plays_every_sample() {
    if installed(&["gst-launch-1.0"]) {
        Room::with(&STREAMS).plays_exactly(&STREAMS, Samples24::Packed, |url, _| {
            let pipeline = ["playbin", &format!("uri={url}"), "audio-sink=fdsink fd=1"];
            Playing::start(&mut gstreamer(&pipeline))
        });
    }
}

#[test]
fn mpd_plays_every_sample() {
    if installed(&["mpd", "mpc"]) {
        Room::with(&STREAMS).plays_exactly(&STREAMS, Samples24::Padded, |url, _| mpd("add", url, "*:*:*"));
    }
}

#[test]
fn mpd_plays_the_playlists() {
    if installed(&["mpd", "mpc"]) {
        Room::with(&[LIVE]).plays_playlists(|url| mpd("load", url, "*:*:*"));
    }
}

#[test]
fn sox_plays_every_sample() {
    if installed(&["sox", "wget"]) {
        Room::with(&STREAMS)
            .plays_exactly(&STREAMS, Samples24::Packed, |url, _| Playing::start(&mut sox(url)));
    }
}

#[test]
fn mplayer_plays_every_sample() {
    if installed(&["mplayer"]) {
        Room::with(&STREAMS)
            .plays_exactly(&STREAMS, Samples24::Packed, |url, _| Playing::start(&mut mplayer(&[url])));
    }
}

#[test]
fn mplayer_plays_the_playlists() {
    if installed(&["mplayer"]) {
        Room::with(&[LIVE]).plays_playlists(|url| Playing::start(&mut mplayer(&["-playlist", url])));
    }
}

/// The other tests of MPlayer test a client that knows no chunks, because of this.
#[test]
fn mplayer_asks_with_http_1_0() {
    if installed(&["mplayer"]) {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/live.wav", server.local_addr().expect("an address"));
        let _playing = Playing::start(&mut mplayer(&[&url]));
        let (connection, _) = server.accept().expect("it connects");
        let mut line = String::new();
        BufReader::new(connection).read_line(&mut line).expect("it asks");
        assert_eq!(line, "GET /live.wav HTTP/1.0\r\n");
    }
}

#[test]
fn curl_with_http_1_0_gets_the_bare_stream() {
    if installed(&["curl"]) {
        Room::with(&[LIVE]).plays_exactly(&[LIVE], Samples24::Packed, |url, _| {
            let mut command = curl(url);
            command.args(["--http1.0", "--raw"]);
            let mut playing = Playing::start(&mut command);
            playing.skip_header();
            playing
        });
    }
}
