//! The configuration: one struct for each table, the defaults, and errors that name file, line and key.
//!
//! The file is TOML. `config/wavecast.toml` documents every key for the person who edits the file. The structs here hold
//! times as [`Duration`]s and addresses as addresses, so that nothing behind this module parses a value again. Conditions
//! that depend on the machine, as memory and permissions do, are checked in `daemon::preflight`.
//!
//! All mistakes of a file are reported at once, one per line, in the order of the file:
//!
//! ```text
//! /etc/wavecast.toml:12: input.live.rate: 99 is outside 4000 to 384000
//! /etc/wavecast.toml:15: input.live.period: no such key; did you mean `period_ms`? …
//! ```
//!
//! The one exception is a file that is not TOML: the parser can only guess what follows the first syntax error, so that
//! error comes alone.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::sys::logging;

mod access;
mod device;
mod input;
mod listen;
mod messages;
mod names;
mod overrides;
mod parse;
mod pick;
mod problems;
mod push;
mod section;
mod sources;
mod syntax;

pub use access::{Access, Network};
pub use device::{Device, Hardware, Synth, SynthKind, UsbId};
pub use input::{Input, MAX_HISTORY_BYTES};
pub(crate) use input::{parse_channels, parse_format, parse_rate};
pub use listen::ListenAddr;
pub(crate) use messages::near;
pub use names::Names;
pub use overrides::Overrides;
pub use pick::Pick;
pub use push::{
    Destination, Fingerprint, MOST_PASSWORD_BYTES, Method, NO_TLS, Password, Protocol, Push, PushFormat,
    Secret,
};
pub use sources::{drop_ins, file_of};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Table `[station]`.
    pub station: Station,
    /// Table `[http]`.
    pub http: Http,
    /// Table `[access]`.
    pub access: Access,
    /// Table `[listeners]`.
    pub listeners: Listeners,
    /// Table `[limits]`.
    pub limits: Limits,
    /// Table `[encoders]`.
    pub encoders: Encoders,
    /// `log.filter`: the filter of log messages in the form of `RUST_LOG`, as [`logging::Filter`] reads it.
    pub log: Option<String>,
    /// Tables `[input.NAME]` in the order of the file, at least one. The first is the default input.
    pub inputs: Vec<Input>,
    /// Tables `[push.NAME]` in the order of the file.
    pub pushes: Vec<Push>,
}

impl Default for Config {
    /// The meaning of an empty file: every client of the local network may listen to the input `live`, the first card.
    fn default() -> Config {
        Config {
            station: Station::default(),
            http: Http::default(),
            access: Access::default(),
            listeners: Listeners::default(),
            limits: Limits::default(),
            encoders: Encoders::default(),
            log: Some(logging::DEFAULT_FILTER.to_owned()),
            inputs: vec![Input::default()],
            pushes: Vec::new(),
        }
    }
}

/// Table `[station]`: the name and description of this wavecast for people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Station {
    /// `title`: the name, as in "Bird box". Without one it is "wavecast", beside the name of the machine.
    pub title: Option<String>,
    /// `description`: one or two sentences about the station.
    pub description: Option<String>,
}

/// Table `[http]`: the addresses of the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// `listen`: the addresses to listen on, at least one. No address includes another one.
    pub listen: Vec<ListenAddr>,
}

impl Default for Http {
    fn default() -> Http {
        Http { listen: vec![ListenAddr::Any(4410)] }
    }
}

/// Table `[listeners]`: the number of listeners, how often data is sent to them, and the policy for slow ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Listeners {
    /// `max`: the number of listeners at once, over all inputs.
    pub max: u32,
    /// `interval_ms`: the time between two sends to a listener.
    pub interval: Interval,
    /// `send_buffer_ms`: the length of sound that the kernel may queue for a listener.
    pub send_buffer: Duration,
    /// `max_lag_ms`: the lag beyond which `when_behind` applies.
    pub max_lag: Duration,
    /// `when_behind`: the policy for a listener whose lag exceeds `max_lag`.
    pub when_behind: WhenBehind,
    /// `stall_seconds`: a listener that takes no byte for this time is disconnected.
    pub stall_timeout: Duration,
}

impl Default for Listeners {
    fn default() -> Listeners {
        Listeners {
            max: 1000,
            interval: Interval::Auto,
            send_buffer: Duration::from_millis(250),
            max_lag: Duration::from_millis(2_000),
            when_behind: WhenBehind::Skip,
            stall_timeout: Duration::from_secs(10),
        }
    }
}

/// Table `[limits]`: the share of the machine that strangers may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// `connections`: the number of connections at once, over all addresses that the daemon listens on.
    pub connections: u32,
    /// `connections_per_address`: the number of connections at once of one client.
    pub connections_per_address: PerAddress,
    /// `listeners_per_address`: the number of listeners at once of one client.
    pub listeners_per_address: PerAddress,
    /// `requests_per_second`: the number of requests that one client may make per second in the long run, connections
    /// included.
    pub requests_per_second: u32,
    /// `request_burst`: the number of requests that one client may make at once.
    pub request_burst: u32,
    /// `header_bytes`: the length of a request's head in bytes: its line, its headers, and the empty line behind them.
    pub header_bytes: u32,
    /// `request_seconds`: the time that a client has to send a request.
    pub request_time: Duration,
    /// `idle_seconds`: the time that a connection may stay open without a request.
    pub idle_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1200,
            connections_per_address: PerAddress::Auto(120),
            listeners_per_address: PerAddress::Auto(100),
            requests_per_second: 20,
            request_burst: 100,
            header_bytes: 16_384,
            request_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(30),
        }
    }
}

/// The bit rates of MP3 streams in kbit/s, lowest first. The low ones exist for speech and for hosted services.
pub const MP3_BITRATES: &[u32] = &[16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320];
/// The bit rates of Opus streams in kbit/s, lowest first.
pub const OPUS_BITRATES: &[u32] = &[16, 24, 32, 48, 64, 96, 128, 160, 192, 256];

/// Table `[encoders]`: the compressed streams.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoders {
    /// `max`: the number of encoders at once, over all inputs. 0 turns compressed streams off.
    pub max: u32,
    /// `mp3_bitrate`: kbit/s of an MP3 stream whose address names none; `None` is `auto`: 128, or 64 for mono.
    pub mp3_bitrate: Option<u32>,
    /// `opus_bitrate`: kbit/s of an Opus stream whose address names none; `None` is `auto`: 96, or 64 for mono.
    pub opus_bitrate: Option<u32>,
}

impl Default for Encoders {
    fn default() -> Encoders {
        Encoders { max: 4, mp3_bitrate: None, opus_bitrate: None }
    }
}

/// A limit for one client address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerAddress {
    /// This number, but no limit for clients on this machine: a local program can do worse anyway, and a reverse proxy that
    /// `trusted_proxies` does not name yet is there too.
    Auto(u32),
    /// This number for every client.
    Most(u32),
}

impl PerAddress {
    /// Returns the limit for a client of that address. `usize::MAX` is no limit.
    pub fn of(self, address: IpAddr) -> usize {
        match self {
            PerAddress::Auto(_) if address.to_canonical().is_loopback() => usize::MAX,
            PerAddress::Auto(most) | PerAddress::Most(most) => most as usize,
        }
    }
}

/// The time between two sends to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// All listeners share a budget of sends per second: the more listeners, the longer the interval. See
    /// [`listeners::pacing`](crate::listeners::pacing).
    Auto,
    /// A fixed interval.
    Every(Duration),
}

/// The policy for a listener whose lag exceeds [`Listeners::max_lag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenBehind {
    /// The listener continues at the live edge. The skipped frames are counted.
    Skip,
    /// The listener is disconnected.
    Disconnect,
}

impl WhenBehind {
    const NAMES: [(&'static str, WhenBehind); 2] =
        [("skip", WhenBehind::Skip), ("disconnect", WhenBehind::Disconnect)];
}

/// All mistakes of a configuration: one line each, with file and line, or with the option of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    lines: Vec<String>,
}

impl ConfigError {
    fn one(line: String) -> ConfigError {
        ConfigError { lines: vec![line] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
