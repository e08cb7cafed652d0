//! The players: which one sends a request, and what each kind needs. One table, found with the real players,
//! but for Apple's, which is from public reports.
//!
//! | player | sizes in the header | burst | reason |
//! |---|---|---|---|
//! | Chromium, `fetch` | unknown | 0 | the page keeps its own buffer |
//! | Chromium, `<audio>` | unknown | 256 KiB | it waits for 229 KB before the first sound, whatever their age |
//! | Firefox | largest whole | 500 ms | refuses 0; would wrap into the middle of a frame at 4 GiB; reconnects after a cut only to a file with an end |
//! | GStreamer | 0 | 500 ms | stops at 2 GiB of anything else |
//! | WebKitGTK | 0 | 500 ms | is GStreamer; starts in 73 ms instead of 4.6 s |
//! | Apple | 0x7FFFFF00 | 500 ms | wants ranges of a file with an end |
//! | all others | unknown | 500 ms | go on beyond 4 GiB; a burst below their own need only shortens the start |
//!
//! An HTTP/1.1 client gets an endless stream in chunks, unless it sends `TE: identity` (see
//! [`accepts_chunks`]). A client that plays the chunk sizes as noise and does not say so can be given an
//! address with `?framing=identity`.
//!
//! A burst is sound from before the request, sent at once. A burst that is longer than what the player wants
//! in its buffer anyway would stay as delay for as long as it plays. 500 ms are not too long for any of
//! these. Seconds from the request to the first sound / behind live from then on, for a burst of
//!
//! | player, stream | 0 | 300 ms | 500 ms |
//! |---|---|---|---|
//! | VLC 3.0.24, each of these | 1.09 / 1.09 | 0.79 / 1.09 | 0.59 / 1.09 |
//! | mpv 0.35, 44.1 kHz mono 16 bit | 2.33 / 2.33 | 2.03 / 2.33 | 1.83 / 2.33 |
//! | mpv, 44.1 kHz stereo 16 bit | 1.18 / 1.17 | 0.86 / 1.17 | 0.67 / 1.17 |
//! | mpv, 48 kHz stereo 16 bit | 1.06 / 1.07 | 0.77 / 1.07 | 0.56 / 1.07 |
//! | mpv, 48 kHz stereo 32 bit | 0.54 / 0.54 | 0.24 / 0.54 | 0.04 / 0.54 |
//! | ffplay 5.1, MPD 0.23 | as mpv | as mpv | as mpv, all within 0.05 |
//! | but MPD, 48 kHz stereo 32 bit | 1.01 / 1.01 | 0.70 / 1.01 | 0.51 / 1.01 |
//! | GStreamer 1.22 playbin, stereo | 6.06 / 6.06 | 5.48 / 5.79 | 5.09 / 5.59 |
//!
//! Of an encoded stream, these bursts (see [`Player::encoded_burst`]):
//!
//! | player | FLAC | MP3 | Opus |
//! |---|---|---|---|
//! | Chromium | two packets | 33 KB | 33 KB |
//! | Firefox | 1 s | 1 s | 33 KB |
//! | WebKitGTK | 2 s | 0.5 s | 2 s |
//! | GStreamer | 2 s | 2 s | two packets: it starts after 5 s whatever it gets |
//! | MPlayer | two packets | 4 s | 3 s: it waits for 64 KB |
//! | all others | two packets | two packets | two packets |
//!
//! The figures are medians of three runs, each player with PulseAudio and a null sink for a sound card; live
//! is what a listener with `latency=low` has. VLC wants a second, mpv and ffplay 205 KB, MPD both.

use std::time::Duration;

use crate::encode::{Codec, Kind};
use crate::media::format::StreamFormat;
use crate::media::wav::Sizes;

/// A kind of player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Player {
    /// The media element of Chromium and of every browser that is made of Chromium (Chrome, Edge, Android's).
    ChromiumMedia,
    /// Chromium's `fetch`, which decodes nothing itself.
    ChromiumFetch,
    /// Firefox.
    Firefox,
    /// A program that uses GStreamer's HTTP source.
    GStreamer,
    /// WebKit on Linux: a browser that plays through GStreamer.
    WebKitGtk,
    /// MPlayer.
    MPlayer,
    /// Safari, and everything on iOS.
    Apple,
    /// VLC, mpv, ffmpeg, MPD, curl and the rest.
    Other,
}

/// Size of the sound that Apple's players are told, in bytes: a file with an end that is far, 6.7 h of mono
/// at 44.1 kHz.
pub const APPLE_DATA_BYTES: u32 = 0x7FFF_FF00;

impl Player {
    /// Returns the player that sends this User-Agent. Chromium's media element differs from its `fetch` in
    /// that it always asks for a range (its Sec-Fetch-Dest comes on secure origins only).
    pub fn of(user_agent: &str, asks_for_range: bool) -> Player {
        let has = |part: &str| user_agent.contains(part);
        if has("AppleCoreMedia") {
            Player::Apple
        } else if has("GStreamer") {
            Player::GStreamer
        } else if has("MPlayer") {
            Player::MPlayer
        } else if has("Firefox/") {
            Player::Firefox
        } else if has("Chrome/") || has("Chromium/") {
            match asks_for_range {
                // Televisions and Cast devices play by the player of the device.
                _ if ["TV", "Web0S", "Tizen", "CrKey"].into_iter().any(has) => Player::Other,
                true => Player::ChromiumMedia,
                false => Player::ChromiumFetch,
            }
        } else if has("AppleWebKit/") && has("Safari/") {
            if has("Macintosh") || has("iPhone") || has("iPad") { Player::Apple } else { Player::WebKitGtk }
        } else {
            Player::Other
        }
    }

    /// Returns the sizes that this player is told in the WAV header.
    pub const fn sizes(self) -> Sizes {
        match self {
            Player::Firefox => Sizes::LargestWhole,
            Player::GStreamer | Player::WebKitGtk => Sizes::Zero,
            Player::Apple => Sizes::Data(APPLE_DATA_BYTES),
            _ => Sizes::Unknown,
        }
    }

    /// Returns the number of frames from before the request that this player is sent at once.
    pub fn burst(self, format: StreamFormat) -> u64 {
        match self {
            Player::ChromiumMedia => (256 * 1024) / format.frame_bytes() as u64,
            Player::ChromiumFetch => 0,
            _ => format.frames_in(Duration::from_millis(500)),
        }
    }
}

impl Player {
    /// Returns the size of an encoded stream that this player is told, in bytes; `None` for a stream without an end.
    ///
    /// Firefox comes back after a cut only to a file with an end, but looks for the end of any file but MP3 at once, and then
    /// falls silent. Apple's players want ranges of a file with an end.
    pub const fn encoded_bytes(self, codec: Codec) -> Option<u64> {
        match (self, codec) {
            (Player::Firefox, Codec::Mp3) => Some(FIREFOX_BYTES),
            (Player::Apple, Codec::Mp3) => Some(APPLE_DATA_BYTES as u64),
            _ => None,
        }
    }

    /// Returns whether this player gets an encoded stream in Ogg whose codec has a container of its own.
    ///
    /// Chromium's player ends at a damaged frame of FLAC, such as the one that a cut connection went through: it did at each of
    /// 15 places in a frame. Of Ogg it leaves the damaged page out and goes on, at each of the 15.
    pub const fn wants_ogg(self, codec: Codec) -> bool {
        matches!((self, codec), (Player::ChromiumMedia, Codec::Flac))
    }

    /// Returns the number of frames from before the request that this player is sent at once, of an encoded stream.
    pub fn encoded_burst(self, kind: Kind, format: StreamFormat) -> u64 {
        let seconds = match (self, kind.codec) {
            // FLAC brings a block in 0.4 s.
            (Player::ChromiumMedia, Codec::Mp3 | Codec::Opus) | (Player::Firefox, Codec::Opus) => {
                BLOCK_BYTES / kind.bytes_per_second(format) as f64
            }
            // With more of a file of MP3, it begins sooner, stops again, and is two seconds later.
            (Player::Firefox, Codec::Flac | Codec::Mp3) => 1.0,
            (Player::WebKitGtk, Codec::Mp3) => 0.5,
            (Player::WebKitGtk, _) | (Player::GStreamer, Codec::Flac | Codec::Mp3) => 2.0,
            (Player::MPlayer, Codec::Mp3) => 4.0,
            (Player::MPlayer, Codec::Opus) => 3.0,
            // The others start with what they need of new sound. Any burst that is longer stays as delay.
            _ => 0.0,
        };
        let burst = format.frames_in(Duration::from_secs_f64(f64::min(seconds, MOST_BURST)));
        // The first sound leaves with the head of the response, and not with the next packet.
        burst.max(LEAST_PACKETS * kind.packet_frames(format))
    }
}

/// The size of an MP3 stream that Firefox is told: that of the largest WAV file.
const FIREFOX_BYTES: u64 = 4_294_967_300;
/// Bytes of an encoded stream that Chromium and Firefox want before their first sound: their decoders get whole blocks of
/// 32 KiB. The rest of a longer burst waits for the end of the second block, and stays as delay.
const BLOCK_BYTES: f64 = 33_000.0;
/// The packets with which every encoded stream begins: about 50 ms, which is less than any player has in its buffer.
const LEAST_PACKETS: u64 = 2;
/// The longest burst of an encoded stream in seconds.
const MOST_BURST: f64 = 4.0;

/// Returns `true` if a client understands chunked framing (RFC 9112 §7.1).
///
/// `TE: identity` is not in RFC 9110 any more, but players that send it mean it.
pub fn accepts_chunks(is_http_1_1: bool, te: Option<&str>) -> bool {
    let refuses = |te: &str| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("identity"));
    is_http_1_1 && !te.is_some_and(refuses)
}

/// Returns the name of a player for the log and `/status.json`: the product that it names first, or the
/// browser behind `Mozilla/5.0`.
pub fn product(user_agent: &str) -> String {
    // Each browser also names those that it descends from. So the most specific names come first.
    const BROWSERS: [(&str, &str); 6] = [
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("AppleCoreMedia/", "Apple Core Media"),
        ("Version/", "Safari"),
    ];
    let version = |mark: &str| {
        let rest = &user_agent[user_agent.find(mark)? + mark.len()..];
        let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').take(20).collect();
        Some(version)
    };
    for (mark, name) in BROWSERS {
        if let Some(version) = version(mark) {
            return format!("{name} {version}").trim_end().to_owned();
        }
    }
    // Not a browser: its first words, without anything that could disturb a log line.
    let name: String = user_agent.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(40).collect();
    match name.trim() {
        "" => "unknown player".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::format::SampleFormat;

    const AGENTS: [(&str, bool, Player, &str); 13] = [
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
            true,
            Player::ChromiumMedia,
            "Chrome 156.0.0.0",
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
            false,
            Player::ChromiumFetch,
            "Chrome 156.0.0.0",
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0",
            true,
            Player::Firefox,
            "Firefox 153.0",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
            true,
            Player::Apple,
            "Safari 17.4",
        ),
        (
            "AppleCoreMedia/1.0.0.21E219 (iPhone; U; CPU OS 17_4 like Mac OS X)",
            true,
            Player::Apple,
            "Apple Core Media 1.0.0.21",
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Safari/605.1.15",
            true,
            Player::WebKitGtk,
            "Safari 17.0",
        ),
        (
            "GStreamer souphttpsrc 1.22.0 libsoup/3.2.2",
            false,
            Player::GStreamer,
            "GStreamer souphttpsrc 1.22.0 libsoup/3.2",
        ),
        (
            "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
            true,
            Player::Other,
            "Chrome 120.0.0.0",
        ),
        ("VLC/3.0.24 LibVLC/3.0.24", true, Player::Other, "VLC/3.0.24 LibVLC/3.0.24"),
        ("Lavf/59.27.100", true, Player::Other, "Lavf/59.27.100"),
        ("Music Player Daemon 0.23.12", false, Player::Other, "Music Player Daemon 0.23.12"),
        ("", false, Player::Other, "unknown player"),
        ("evil\u{7}\nagent", false, Player::Other, "evilagent"),
    ];

    #[test]
    fn players_are_recognised_by_their_user_agent() {
        for (agent, range, player, name) in AGENTS {
            assert_eq!(Player::of(agent, range), player, "{agent}");
            assert_eq!(product(agent), name);
        }
    }

    #[test]
    fn chromium_starts_at_once_and_no_other_player_gets_more_than_half_a_second() {
        let format = StreamFormat { rate: 48_000, channels: 2, sample: SampleFormat::S16 };
        assert!(Player::ChromiumMedia.burst(format) * 4 > 229_000);
        for player in [Player::Firefox, Player::GStreamer, Player::Other, Player::Apple] {
            assert!(player.burst(format) <= 24_000);
        }
    }

    #[test]
    fn chunks_go_only_to_clients_that_understand_them() {
        for (is_http_1_1, te, accepts) in [
            (true, None, true),
            (true, Some("trailers"), true),
            (true, Some("identity"), false),
            (true, Some("trailers, Identity"), false),
            (false, None, false),
        ] {
            assert_eq!(accepts_chunks(is_http_1_1, te), accepts, "{is_http_1_1} {te:?}");
        }
    }

    #[test]
    fn encoded_streams_begin_with_two_packets_at_least_and_chromium_with_a_block_of_its_network() {
        let format = StreamFormat { rate: 44_100, channels: 2, sample: SampleFormat::S16 };
        let kind = |codec: Codec, bitrate| Kind { codec, bitrate, in_ogg: false };
        let burst = |player: Player, kind| player.encoded_burst(kind, format);
        for (codec, bitrate, packet) in
            [(Codec::Flac, None, 1152), (Codec::Mp3, Some(128), 1152), (Codec::Opus, Some(96), 882)]
        {
            assert_eq!(burst(Player::Other, kind(codec, bitrate)), 2 * packet);
        }
        let seconds = |kind| format.duration_of(burst(Player::ChromiumMedia, kind)).as_secs_f64();
        for bitrate in [96, 128, 256] {
            assert!(seconds(kind(Codec::Mp3, Some(bitrate))) * f64::from(bitrate) * 125.0 > 32_768.0);
            // A page has 28 bytes beside the packet.
            let pages = f64::from(bitrate) * 125.0 + 28.0 * 50.0;
            let bytes = seconds(kind(Codec::Opus, Some(bitrate))) * pages;
            assert!((32_768.0..34_000.0).contains(&bytes), "{bytes}");
        }
    }
}
