//! Real players of FLAC, MP3 and Opus, a program of their own because decoding takes all cores.
//!
//! Of FLAC, each player's output is the card's ramp, sample by sample. Of MP3 and Opus, it is the card's tone: at its
//! pitch, and without a gap from the moment at which the player began. `players.packages` and `encoders.packages` list the packages. A test
//! whose player is missing says so and passes, unless `WAVECAST_ALL_PLAYERS=1`.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt;
use support::card::{CardFormat, CardOptions, Cards, Order};
use support::daemon::Daemon;
use support::players::{Playing, ffmpeg, gstreamer, mpd, mplayer, mpv_in_16_bits, vlc_to_card};
use support::programs::{installed, offers};
use support::ramp::{RampReader, Stretch};
use support::wait_for;

/// The pitch of the tone in Hz.
const PITCH: u32 = 1000;
const RATE: u32 = 48_000;
/// A window of sound: 10 ms, in samples of two channels.
const WINDOW: usize = RATE as usize / 100 * 2;
/// The sound that each player has to play without a fault, in windows.
const ENOUGH: usize = 200;
/// GStreamer and MPlayer begin after several seconds, on a quiet machine.
const LONG: Duration = Duration::from_secs(60);

/// A daemon with two cards at 48 kHz: `live` is the ramp, `tone` a tone.
struct Room {
    daemon: Daemon,
    cards: Cards,
}

impl Room {
    fn new() -> Room {
        // A hundred periods, so that the loop has no seam.
        let samples = (0..RATE / 10).flat_map(|n| {
            let angle =
                f64::from(n % (RATE / PITCH)) * f64::from(PITCH) * std::f64::consts::TAU / f64::from(RATE);
            let sample = (8_000.0 * angle.sin()).round() as i16;
            [sample, sample]
        });
        let options = || CardOptions { rates: vec![RATE], channels: vec![2], ..CardOptions::default() };
        let tone = CardOptions { raw: Some(samples.collect()), ..options() };
        let cards = Cards::with([("live", options()), ("tone", tone)]);
        // A machine that stalls makes no player skip.
        let inputs: String = ["live", "tone"]
            .map(|name| {
                format!(
                    "[input.{name}]\ndevice = \"{name}\"\nrate = {RATE}\nchannels = 2\nbuffer_ms = 10000\n"
                )
            })
            .concat();
        let daemon = Daemon::start(
            Some(&cards),
            &format!("[listeners]\nmax_lag_ms = 10000\n[encoders]\nmax = 6\n{inputs}"),
        );
        for name in ["live", "tone"] {
            wait_for("a second of sound", || {
                daemon.input(name)["frames"].as_u64().filter(|frames| *frames > RATE.into())
            });
        }
        Room { daemon, cards }
    }

    /// Lets a player play all three codecs at once.
    fn plays_everything(&self, player: impl Fn(&str) -> Playing) {
        let exact = player(&self.daemon.url("/live.flac"));
        let tones: Vec<(&str, Playing)> = ["mp3", "opus"]
            .into_iter()
            .filter(|codec| offers(&self.daemon, codec))
            .map(|codec| (codec, player(&self.daemon.url(&format!("/tone.{codec}")))))
            .collect();
        self.hears_the_ramp(exact);
        for (codec, mut playing) in tones {
            let mut tone = Tone::default();
            playing.hear_within(LONG, codec, |bytes| tone.feed(bytes) && tone.run >= ENOUGH);
            let whole = tone.runs == 1 || self.left_out() > 0;
            assert!(whole, "{codec}: {} windows without the tone after it began", tone.quiet);
        }
    }

    /// Checks two seconds of the ramp. A player may begin with silence.
    fn hears_the_ramp(&self, mut playing: Playing) {
        let mut ramp = RampReader::new(CardFormat::S16, 2);
        playing.hear_within(LONG, "the ramp", |bytes| {
            ramp.feed(bytes);
            ramp.ramp_frames() > 2 * u64::from(RATE)
        });
        let whole = matches!(
            ramp.stretches[..],
            [Stretch::Ramp { .. }] | [Stretch::Silence { .. }, Stretch::Ramp { .. }]
        );
        assert!(whole || self.left_out() > 0, "{} heard {}", playing.name, ramp.shown());
    }

    /// Returns the frames that were left out until now, and counted, because this machine stalled.
    fn left_out(&self) -> u64 {
        let status = self.daemon.status();
        let sum = |list: &str, key: &str| -> u64 {
            status[list].as_array().expect("a list").iter().filter_map(|one| one[key].as_u64()).sum()
        };
        sum("listeners", "frames_skipped")
            + sum("encoders", "frames_skipped")
            + sum("inputs", "silence_frames")
    }

    /// Unplugs the card of the tone for three seconds while a player plays each codec. Each plays silence and then the tone
    /// again, on the same connection.
    fn outlives_an_unplug(&self, player: impl Fn(&str) -> Playing) {
        let mut players: Vec<(Playing, Tone)> = ["flac", "mp3", "opus"]
            .into_iter()
            .filter(|codec| offers(&self.daemon, codec))
            .map(|codec| (player(&self.daemon.url(&format!("/tone.{codec}"))), Tone::default()))
            .collect();
        for (playing, tone) in &mut players {
            playing.hear_within(LONG, "a tone", |bytes| tone.feed(bytes) && tone.run >= ENOUGH / 2);
        }
        let before = self.connections();
        assert_eq!(before.len(), players.len());
        let silence = || self.daemon.input("tone")["silence_frames"].as_u64().expect("a number");
        let end = silence() + 3 * u64::from(RATE);
        self.cards.card("tone").command(Order::Unplug);
        wait_for("three seconds of silence", || (silence() >= end).then_some(()));
        self.cards.card("tone").command(Order::Run);
        for (playing, tone) in &mut players {
            playing.hear_within(LONG, "the tone behind the silence", |bytes| {
                tone.feed(bytes) && tone.quiet >= 250 && tone.run >= ENOUGH / 2
            });
            assert_eq!(tone.runs, 2, "{}: a tone, silence, a tone", playing.name);
        }
        assert_eq!(self.connections(), before, "the same connections");
    }

    /// Returns the numbers of the listeners' connections.
    fn connections(&self) -> BTreeSet<u64> {
        let listeners = self.daemon.listeners();
        listeners.iter().map(|listener| listener["id"].as_u64().expect("a number")).collect()
    }
}

/// A checker of the tone in 16-bit stereo, window by window.
#[derive(Default)]
struct Tone {
    rest: Vec<u8>,
    /// Windows with the tone, since the last one without.
    run: usize,
    /// The number of runs.
    runs: usize,
    /// Windows without the tone since the first one with it.
    quiet: usize,
}

impl Tone {
    /// Checks the next samples. Returns `true`.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.len() / (2 * WINDOW) * 2 * WINDOW;
        let rest = self.rest.split_off(whole);
        for window in std::mem::replace(&mut self.rest, rest).chunks_exact(2 * WINDOW) {
            let left: Vec<i16> =
                window.chunks_exact(4).map(|frame| i16::from_le_bytes([frame[0], frame[1]])).collect();
            let changes = left.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count();
            let peak = left.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
            // Ten periods have twenty changes of sign. The first and the last window of a run have a part of the tone only.
            if (6_000..10_000).contains(&peak) && (18..=22).contains(&changes) {
                self.runs += usize::from(self.run == 0);
                self.run += 1;
            } else if self.runs > 0 {
                // The edge of a tone is not heard as a gap in it: a codec smears it.
                (self.run, self.quiet) = (0, self.quiet + 1);
            }
        }
        true
    }
}

fn playbin(url: &str) -> Playing {
    let sink = "audio-sink=audioconvert ! audio/x-raw,format=S16LE ! fdsink fd=1";
    Playing::start(&mut gstreamer(&["playbin", &format!("uri={url}"), sink]))
}

fn mpv_plays(url: &str) -> Playing {
    Playing::start(&mut mpv_in_16_bits(url))
}

fn mplayer_in_16_bits(url: &str) -> Playing {
    Playing::start(&mut mplayer(&["-af", "format=s16le", url]))
}

fn vlc_plays(url: &str) -> Playing {
    Playing::start(&mut vlc_to_card(url))
}

fn ffmpeg_plays(url: &str) -> Playing {
    Playing::start(&mut ffmpeg(url, "s16le"))
}

#[test]
fn ffmpeg_plays_all_codecs() {
    if installed(&["ffmpeg"]) {
        Room::new().plays_everything(ffmpeg_plays);
    }
}

#[test]
fn vlc_plays_all_codecs() {
    if installed(&["vlc"]) {
        Room::new().plays_everything(vlc_plays);
    }
}

#[test]
fn mpv_plays_all_codecs() {
    if installed(&["mpv"]) {
        Room::new().plays_everything(mpv_plays);
    }
}

#[test]
fn gstreamers_playbin_plays_all_codecs() {
    if installed(&["gst-launch-1.0"]) {
        Room::new().plays_everything(playbin);
    }
}

#[test]
fn mpd_plays_all_codecs() {
    if installed(&["mpd", "mpc"]) {
        Room::new().plays_everything(|url| mpd("add", url, "48000:16:2"));
    }
}

#[test]
fn mplayer_plays_all_codecs() {
    if installed(&["mplayer"]) {
        Room::new().plays_everything(mplayer_in_16_bits);
    }
}

#[test]
fn ffmpeg_outlives_an_unplugged_card_in_all_codecs() {
    if installed(&["ffmpeg"]) {
        Room::new().outlives_an_unplug(ffmpeg_plays);
    }
}

#[test]
fn mpv_outlives_an_unplugged_card_in_all_codecs() {
    if installed(&["mpv"]) {
        Room::new().outlives_an_unplug(mpv_plays);
    }
}

#[test]
fn vlc_outlives_an_unplugged_card_in_all_codecs() {
    if installed(&["vlc"]) {
        Room::new().outlives_an_unplug(vlc_plays);
    }
}

/// A relay to a daemon, which can cut all its connections.
struct Relay {
    address: SocketAddr,
    /// Each connection to a client and the one to the daemon behind it.
    connections: Arc<Mutex<Vec<[Arc<TcpStream>; 2]>>>,
    /// The heads of the requests until now.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    fn to(daemon: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let relay = Relay { address, connections: Arc::default(), requests: Arc::default() };
        let (connections, requests) = (Arc::clone(&relay.connections), Arc::clone(&relay.requests));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let client = Arc::new(client);
                let server = Arc::new(TcpStream::connect(daemon).expect("the daemon listens"));
                let pair = [Arc::clone(&client), Arc::clone(&server)];
                connections.lock().expect("nobody panics holding it").push(pair);
                let (to_client, from_server) = (Arc::clone(&client), Arc::clone(&server));
                let requests = Arc::clone(&requests);
                thread::spawn(move || {
                    copy(&client, &server, |bytes| {
                        let text = String::from_utf8_lossy(bytes).into_owned();
                        requests.lock().expect("nobody panics holding it").push(text);
                    });
                });
                thread::spawn(move || copy(&from_server, &to_client, |_| {}));
            }
        });
        relay
    }

    fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// Cuts all connections with a reset, like a router that has lost its state.
    fn cut(&self) {
        for [client, server] in self.connections.lock().expect("nobody panics holding it").drain(..) {
            // The last owner of the client's socket resets the connection. These two make the threads let go of it.
            let _ = sockopt::set_socket_linger(&*client, Some(Duration::ZERO));
            let _ = client.shutdown(Shutdown::Read);
            let _ = server.shutdown(Shutdown::Both);
        }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("nobody panics holding it").clone()
    }
}

/// Copies bytes until one of the two connections ends.
fn copy(mut from: &TcpStream, mut to: &TcpStream, mut seen: impl FnMut(&[u8])) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        seen(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
}

#[test]
fn gstreamer_goes_on_over_a_cut_with_packets_from_the_live_edge() {
    if !installed(&["gst-launch-1.0"]) {
        return;
    }
    let room = Room::new();
    for codec in ["flac", "mp3"] {
        if !offers(&room.daemon, codec) {
            continue;
        }
        let relay = Relay::to(room.daemon.address());
        let mut playing = playbin(&relay.url(&format!("/tone.{codec}")));
        let mut tone = Tone::default();
        playing.hear_within(LONG, "a tone", |bytes| tone.feed(bytes) && tone.run >= ENOUGH);
        relay.cut();
        let mut again = 0;
        playing.hear_within(LONG, "the tone behind the cut", |bytes| {
            tone.feed(bytes);
            again += bytes.len();
            // More than it had in its own buffers.
            again > 8 * RATE as usize * 4 && tone.run >= ENOUGH
        });
        let requests = relay.requests();
        assert!(requests.len() > 1 && requests[1].contains("Range: bytes="), "{requests:?}");
        println!("GStreamer, {codec}: {} windows without the tone over a cut", tone.quiet);
        assert!(tone.quiet < 200, "{} windows are missing", tone.quiet);
    }
}

#[test]
fn a_player_that_is_started_again_hears_the_stream_of_a_daemon_that_was_started_again() {
    if !installed(&["mpv"]) {
        return;
    }
    let mut room = Room::new();
    let url = room.daemon.url("/live.flac");
    room.hears_the_ramp(mpv_plays(&url));
    let listen = format!("[http]\nlisten = \"{}\"\n", room.daemon.address());
    let config = std::fs::read_to_string(room.daemon.config_file()).expect("it is there");
    room.daemon.signal("TERM");
    room.daemon.wait();
    let config = config.replace("[http]\nlisten = \"127.0.0.1:0\"\n", &listen);
    room.daemon = Daemon::start(Some(&room.cards), &config);
    room.hears_the_ramp(mpv_plays(&url));
}
