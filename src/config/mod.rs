//! What the configuration may say; defaults; errors that name file, line and key.
//!
//! The file is TOML; `config/wavecast.toml` documents every key for the person who edits it. Here
//! is one type per table of it, with times as [`Duration`]s and addresses as addresses, so that
//! nothing behind this module checks a value again.
//!
//! All mistakes of a file are reported at once, one per line, in the order of the file:
//!
//! ```text
//! /etc/wavecast.toml:12: input.live.rate: 99 is outside 4000 to 384000
//! /etc/wavecast.toml:15: input.live.period: no such key; did you mean `period_ms`? …
//! ```
//!
//! The one exception is a file that is no TOML at all: what comes after the first syntax error is
//! guesswork, so that error comes alone.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::media::format::{SampleFormat, StreamFormat};
use crate::sys::logging;

mod device;
mod messages;
mod parse;

pub use device::{Device, Synth, SynthKind, UsbId};
pub(crate) use messages::near;
use messages::{choose, in_range, parse_whole, shown_string};

const RATES: RangeInclusive<u32> = 4_000..=384_000;
const CHANNELS: RangeInclusive<u16> = 1..=32;
/// What the history of one input may take: enough for an hour of a CD, too little to lock up a
/// board by a slip of the finger.
const MAX_HISTORY_BYTES: u64 = 1 << 30;
/// A configuration is a few kilobytes; without a limit, `--config /dev/zero` would never end.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// All that can be configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Table `[http]`.
    pub http: Http,
    /// Table `[access]`.
    pub access: Access,
    /// Table `[listeners]`.
    pub listeners: Listeners,
    /// Table `[limits]`.
    pub limits: Limits,
    /// `log.filter`: which messages are logged, as `RUST_LOG` has it and [`logging::Filter`] reads it.
    pub log: Option<String>,
    /// Tables `[input.NAME]` in the order of the file, never none. The first is the default one.
    pub inputs: Vec<Input>,
}

impl Default for Config {
    /// What an empty file means: everybody on the local network may listen to the input `live`, the first card there is.
    fn default() -> Config {
        Config {
            http: Http::default(),
            access: Access::default(),
            listeners: Listeners::default(),
            limits: Limits::default(),
            log: Some(logging::DEFAULT_FILTER.to_owned()),
            inputs: vec![Input::default()],
        }
    }
}

/// Table `[http]`: where the daemon is found.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// `listen`: the addresses to listen on, never none, and none that covers another one.
    pub listen: Vec<ListenAddr>,
}

impl Default for Http {
    fn default() -> Http {
        Http { listen: vec![ListenAddr::Any(4410)] }
    }
}

/// One address to listen on.
///
/// Read from `4410`, `:4410`, `[::]:4410` (all three are [`ListenAddr::Any`]), `0.0.0.0:4410` or
/// `[::1]:4410`. Port 0 lets the kernel choose one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// That port on every address of the machine, IPv6 and IPv4.
    Any(u16),
    /// That address alone; `0.0.0.0` is every IPv4 address.
    Addr(SocketAddr),
}

impl ListenAddr {
    /// The port.
    pub const fn port(self) -> u16 {
        match self {
            ListenAddr::Any(port) => port,
            ListenAddr::Addr(address) => address.port(),
        }
    }

    /// Whether a socket on `self` leaves no room for one on `other`.
    fn covers(self, other: ListenAddr) -> bool {
        if self.port() != other.port() || self.port() == 0 {
            return false;
        }
        match (self, other) {
            (ListenAddr::Any(_), _) => true,
            (ListenAddr::Addr(_), ListenAddr::Any(_)) => false,
            (ListenAddr::Addr(one), ListenAddr::Addr(two)) => {
                one == two || one.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && two.is_ipv4()
            }
        }
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenAddr, String> {
        let port = text.strip_prefix(':').unwrap_or(text);
        // u16's parser would take `+4410` too.
        if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
            let port = port.parse().map_err(|_| format!("{port} is no port; ports end at 65535"))?;
            return Ok(ListenAddr::Any(port));
        }
        match text.parse() {
            Ok(SocketAddr::V6(address)) if *address.ip() == Ipv6Addr::UNSPECIFIED => {
                Ok(ListenAddr::Any(address.port()))
            }
            Ok(address) => Ok(ListenAddr::Addr(address)),
            Err(_) => Err(format!(
                "{} is no address; write a port (\"4410\"), or an IP address and a port \
                 (\"192.168.1.5:4410\", \"[::1]:4410\")",
                shown_string(text)
            )),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Any(port) => write!(f, "[::]:{port}"),
            ListenAddr::Addr(address) => address.fmt(f),
        }
    }
}

/// Table `[access]`: who may listen.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// `allow`: the networks whose addresses are served.
    pub allow: Vec<Network>,
    /// `hosts`: names of this machine beside its own, in lower case.
    pub hosts: Vec<String>,
    /// `passwords`: the file of users. Without one nobody is asked.
    pub passwords: Option<PathBuf>,
    /// `trusted_proxies`: the networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `cors`: the origins whose pages may read, as browsers write them; `*` is all.
    pub cors: Vec<String>,
}

impl Default for Access {
    fn default() -> Access {
        Access {
            allow: vec![Network::Local],
            hosts: Vec::new(),
            passwords: None,
            trusted_proxies: Vec::new(),
            cors: Vec::new(),
        }
    }
}

/// Whose addresses.
///
/// Read from `local`, `any`, `192.168.1.0/24` or `192.168.1.7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Private, link-local and loopback addresses, and IPv6 addresses of the same link.
    Local,
    /// Everybody's.
    Any,
    /// That network's.
    Net(IpNet),
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        match text {
            "local" => Ok(Network::Local),
            "any" => Ok(Network::Any),
            _ => parse_net(text)
                .map(Network::Net)
                .map_err(|problem| format!("{problem}; there are also \"local\" and \"any\"")),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::Local => f.write_str("local"),
            Network::Any => f.write_str("any"),
            Network::Net(network) => network.fmt(f),
        }
    }
}

/// A network, or one address.
fn parse_net(text: &str) -> Result<IpNet, String> {
    let one = text.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical()));
    let network = one.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
        format!("{} is no network such as 192.168.1.0/24 or fd00::/8, and no address", shown_string(text))
    })?;
    match network.trunc() == network {
        true => Ok(network),
        false => Err(format!(
            "{} has bits behind its prefix; did you mean {}?",
            shown_string(text),
            network.trunc()
        )),
    }
}

/// An origin, in the way in which a browser writes it: in lower case, and without a port that is the usual one.
fn parse_origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let wrong = || {
        format!(
            "{} is no origin such as https://example.org or http://192.168.1.5:8080, nor \"*\" for all",
            shown_string(text)
        )
    };
    let origin = text.to_ascii_lowercase();
    let (scheme, rest) = origin.split_once("://").ok_or_else(wrong)?;
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return Err(wrong()),
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            (host, Some(port.parse().ok().filter(|port: &u16| digits && *port > 0).ok_or_else(wrong)?))
        }
        _ => (rest, None),
    };
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match v6 {
        Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
        None => parse_host(host).is_ok(),
    };
    match (is_host, port.filter(|port| *port != usual)) {
        (false, _) => Err(wrong()),
        (true, None) => Ok(format!("{scheme}://{host}")),
        (true, Some(port)) => Ok(format!("{scheme}://{host}:{port}")),
    }
}

/// A host's name, in lower case.
fn parse_host(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match !text.is_empty() && text.len() <= 253 && text.bytes().all(good) {
        true => Ok(text.to_ascii_lowercase()),
        false => {
            Err(format!("{} is no host name such as birdbox.example.org, without port", shown_string(text)))
        }
    }
}

/// Table `[listeners]`: how many, how closely they are served, and what happens to slow ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Listeners {
    /// `max`: how many may listen at once, over all inputs.
    pub max: u32,
    /// `interval_ms`: how often each is sent what has come in.
    pub interval: Interval,
    /// `send_buffer_ms`: how much sound the kernel may hold for each.
    pub send_buffer: Duration,
    /// `max_lag_ms`: how far one may be behind before `when_behind` applies.
    pub max_lag: Duration,
    /// `when_behind`: what happens to one that is further behind.
    pub when_behind: WhenBehind,
    /// `stall_seconds`: after so long without taking a byte, one is disconnected.
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

/// Table `[limits]`: what strangers may take of the machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// `connections`: how many there may be at once, over all addresses that are listened on.
    pub connections: u32,
    /// `connections_per_address`: how many of them one address may have; of IPv6, one network of 64 bits.
    pub connections_per_address: PerAddress,
    /// `listeners_per_address`: how many listeners one address may have.
    pub listeners_per_address: PerAddress,
    /// `header_bytes`: how long a request may be, its line and headers together.
    pub header_bytes: u32,
    /// `request_seconds`: how long one may take to send a request.
    pub request_time: Duration,
    /// `idle_seconds`: how long one may keep a connection without asking for anything.
    pub idle_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1200,
            connections_per_address: PerAddress::Auto(120),
            listeners_per_address: PerAddress::Auto(100),
            header_bytes: 8192,
            request_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(30),
        }
    }
}

/// How many one address may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerAddress {
    /// So many; but any number from this machine itself, where whoever could take them can do worse anyway, and
    /// where a reverse proxy is that nobody has named yet.
    Auto(u32),
    /// So many, whoever it is.
    Most(u32),
}

impl PerAddress {
    /// How many that address may have.
    pub fn of(self, address: IpAddr) -> usize {
        match self {
            PerAddress::Auto(_) if address.to_canonical().is_loopback() => usize::MAX,
            PerAddress::Auto(most) | PerAddress::Most(most) => most as usize,
        }
    }
}

/// How often a listener is sent what has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// All share a budget of sends: the more there are, the longer it is. See
    /// [`http::stream`](crate::listeners::catch_up).
    Auto,
    /// At this interval, whatever it is.
    Every(Duration),
}

/// What happens to a listener that is further behind than [`Listeners::max_lag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenBehind {
    /// It goes on at the live edge; the frames in between are lost to it, and counted.
    Skip,
    /// It is disconnected.
    Disconnect,
}

impl WhenBehind {
    const NAMES: [(&'static str, WhenBehind); 2] =
        [("skip", WhenBehind::Skip), ("disconnect", WhenBehind::Disconnect)];
}

/// One table `[input.NAME]`: where sound comes from, what it is turned into, and how much is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The table's name, and the stream's: `/NAME.wav`. Lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// `device`: where sound comes from.
    pub device: Device,
    /// `rate`: frames a second.
    pub rate: u32,
    /// `channels`: samples in a frame.
    pub channels: u16,
    /// `format`: how a sample is stored.
    pub format: SampleFormat,
    /// `period_ms`: how much sound the card gathers before it wakes the daemon; one block.
    pub period: Duration,
    /// `buffer_ms`: how long the daemon may be late before the card loses sound; 2 periods or more.
    pub buffer: Duration,
    /// `history_seconds`: how much sound is kept in memory. At most 1 GiB of it.
    pub history: Duration,
    /// `gain_db`: by how much the sound is made louder; 0.0 leaves every sample as it is.
    pub gain_db: f64,
    /// `realtime_priority`: SCHED_FIFO's priority for the capture thread; 0 does not ask for it.
    pub realtime_priority: u8,
}

impl Default for Input {
    /// The input that is there when the file has none: `live`, a CD's format from the first card.
    fn default() -> Input {
        Input {
            name: "live".to_owned(),
            device: Device::Auto,
            rate: 44_100,
            channels: 2,
            format: SampleFormat::S16,
            period: Duration::from_millis(10),
            buffer: Duration::from_millis(500),
            history: Duration::from_secs(30),
            gain_db: 0.0,
            realtime_priority: 10,
        }
    }
}

impl Input {
    /// What is asked of the card. It may offer something else; what it then is, the source says.
    pub const fn stream_format(&self) -> StreamFormat {
        StreamFormat { rate: self.rate, channels: self.channels, sample: self.format }
    }

    /// Why the period does not fit the buffer, if it does not.
    fn buffer_problem(&self) -> Option<String> {
        (self.buffer < 2 * self.period).then(|| {
            format!(
                "{} ms are less than two periods of {} ms; the card fills one while the other is read",
                millis(self.buffer),
                millis(self.period)
            )
        })
    }

    /// Why the history is too long, if it is.
    fn history_problem(&self) -> Option<String> {
        let format = self.stream_format();
        let a_second = format.bytes_per_second();
        let bytes = self.history.as_nanos() * u128::from(a_second) / 1_000_000_000;
        (bytes > u128::from(MAX_HISTORY_BYTES)).then(|| {
            format!(
                "{} seconds of {format} take {:.1} GiB of memory, more than 1 GiB; at most {} fit",
                self.history.as_secs_f64(),
                bytes as f64 / MAX_HISTORY_BYTES as f64,
                MAX_HISTORY_BYTES / a_second
            )
        })
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What is wrong with a configuration: every problem on a line of its own, each with file and line,
/// or with the flag it came from.
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

impl Config {
    /// Reads the file at `path`. One that is absent means the defaults, unless `explicit`: then
    /// somebody asked for this very file.
    ///
    /// # Errors
    /// When the file cannot be read, is not UTF-8 text, or has mistakes as in [`Config::parse`].
    pub fn load(path: &Path, explicit: bool) -> Result<Config, ConfigError> {
        let name = path.display().to_string();
        match read(path) {
            Ok(bytes) => parse::parse_bytes(&bytes, &name),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !explicit => Ok(Config::default()),
            Err(error) => Err(ConfigError::one(format!("{name}: cannot be read: {error}"))),
        }
    }

    /// Reads a configuration from its text; `file` is its name in messages.
    ///
    /// # Errors
    /// All mistakes there are: syntax, unknown keys, values of the wrong type or out of range, two
    /// inputs on one device.
    pub fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
        parse::parse(text, file)
    }

    /// Lays what the command line said over what the file said. Device, rate, channels and format
    /// go to the first input only.
    ///
    /// `log` replaces the filter here too, but cannot be told from the file's there: give the flag
    /// to [`logging::init`] as well, so that it wins over `RUST_LOG`.
    ///
    /// # Errors
    /// When a value is out of range, or does not go together with the rest of the configuration.
    /// Each line of the error names the flag. The configuration is then as it was.
    pub fn apply(&mut self, overrides: &Overrides) -> Result<(), ConfigError> {
        let mut config = self.clone();
        let mut lines = Vec::new();

        if let Some(listen) = &overrides.listen {
            lines.extend(listen_problem(listen).map(|problem| format!("--listen: {problem}")));
            config.http.listen.clone_from(listen);
        }
        if let Some(filter) = &overrides.log {
            let checked = filter.parse::<logging::Filter>();
            lines.extend(checked.err().map(|problem| format!("--log: {problem}")));
            config.log = Some(filter.clone());
        }
        if let Some((input, others)) = config.inputs.split_first_mut() {
            if let Some(rate) = overrides.rate {
                lines.extend(in_range(rate, &RATES).err().map(|problem| format!("--rate: {problem}")));
                input.rate = rate;
            }
            if let Some(channels) = overrides.channels {
                let checked = in_range(channels, &CHANNELS);
                lines.extend(checked.err().map(|problem| format!("--channels: {problem}")));
                input.channels = channels;
            }
            if let Some(format) = overrides.format {
                input.format = format;
            }
            if let Some(device) = &overrides.device {
                let same = others.iter().find(|other| clash(&other.device, device));
                lines.extend(same.map(|other| {
                    format!("--device: \"{device}\" is the device of input.{} already", other.name)
                }));
                input.device = device.clone();
            }
            // Only where a flag made it so: the file was checked when it was read.
            if lines.is_empty() {
                let flags = overrides.format_flags();
                let problem = input.history_problem().filter(|_| !flags.is_empty());
                lines.extend(problem.map(|problem| {
                    format!("{}: input.{}.history_seconds: {problem}", flags.join(", "), input.name)
                }));
            }
        }

        if !lines.is_empty() {
            return Err(ConfigError { lines });
        }
        *self = config;
        Ok(())
    }
}

/// What the command line says in place of the file. `device`, `rate`, `channels` and `format` mean
/// the first input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// `--device`
    pub device: Option<Device>,
    /// `--rate`, in frames a second.
    pub rate: Option<u32>,
    /// `--channels`
    pub channels: Option<u16>,
    /// `--format`
    pub format: Option<SampleFormat>,
    /// `--listen`, once for each address.
    pub listen: Option<Vec<ListenAddr>>,
    /// `--log`, a filter as [`logging::Filter`] reads it.
    pub log: Option<String>,
}

impl Overrides {
    /// The flags that were given of those that change how many bytes a second has.
    fn format_flags(&self) -> Vec<&'static str> {
        let flags = [
            ("--rate", self.rate.is_some()),
            ("--channels", self.channels.is_some()),
            ("--format", self.format.is_some()),
        ];
        flags.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
    }
}

/// Reads a rate from a flag's value.
pub(crate) fn parse_rate(text: &str) -> Result<u32, String> {
    parse_whole(text, &RATES)
}

/// Reads a number of channels from a flag's value.
pub(crate) fn parse_channels(text: &str) -> Result<u16, String> {
    parse_whole(text, &CHANNELS)
}

/// Reads a sample format from a flag's value.
pub(crate) fn parse_format(text: &str) -> Result<SampleFormat, String> {
    choose(text, &SampleFormat::ALL.map(|format| (format.name(), format)))
}

/// Why these addresses cannot be listened on together, if they cannot.
fn listen_problem(listen: &[ListenAddr]) -> Option<String> {
    if listen.is_empty() {
        return Some("needs an address at least".to_owned());
    }
    let pairs = listen.iter().enumerate().flat_map(|(at, one)| {
        let others = listen.iter().enumerate().filter(move |(other, _)| *other != at);
        others.map(move |(_, other)| (one, other))
    });
    let (one, other) = pairs.into_iter().find(|(one, other)| one.covers(**other))?;
    Some(if one == other {
        format!("{one} is there twice")
    } else {
        format!("{one} covers {other}; leave one of them out")
    })
}

/// Whether two inputs cannot both have their device. Any number of them may be synthetic.
fn clash(one: &Device, other: &Device) -> bool {
    !matches!(one, Device::Synth(_)) && one == other
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB, so it is no configuration"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
