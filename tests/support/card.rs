//! A sound card for tests, without hardware: `fakecard.c`, built, configured and commanded from Rust.
//!
//! ```ignore
//! let card = Card::new("fake", CardOptions { rates: vec![48_000], ..Default::default() });
//! let daemon = Command::new(…).envs([card.env()]).arg(card.device()).spawn()?;
//! card.command(Order::Unplug);
//! card.wait_until("a second opening", |counters| counters.opens == 2);
//! ```
//!
//! The head of `fakecard.c` says what the card can do and which samples it delivers. The environment variable is for
//! a child process: libasound reads it once in each process.

// Every test program compiles this module for itself and uses a part of it.
#![allow(dead_code)]

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::{PATIENCE, wait_within};

/// The way the card stores a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CardFormat {
    /// 16 bits in 2 bytes.
    S16,
    /// 24 bits in 3 bytes.
    S24Packed,
    /// 24 bits, sign-extended, in 4 bytes.
    S24,
    /// 32 bits in 4 bytes.
    S32,
    /// A float between -1 and 1.
    Float,
}

impl CardFormat {
    /// All formats.
    pub(crate) const ALL: [CardFormat; 5] =
        [CardFormat::S16, CardFormat::S24Packed, CardFormat::S24, CardFormat::S32, CardFormat::Float];

    /// Returns libasound's name of the format.
    pub(crate) fn name(self) -> &'static str {
        match self {
            CardFormat::S16 => "S16_LE",
            CardFormat::S24Packed => "S24_3LE",
            CardFormat::S24 => "S24_LE",
            CardFormat::S32 => "S32_LE",
            CardFormat::Float => "FLOAT_LE",
        }
    }

    /// Appends a sample with a 16-bit value, as the card stores it.
    fn push(self, value: u16, out: &mut Vec<u8>) {
        match self {
            CardFormat::S16 => out.extend(value.to_le_bytes()),
            CardFormat::S24Packed => out.extend(&widen24(value).to_le_bytes()[..3]),
            CardFormat::S24 => out.extend(widen24(value).to_le_bytes()),
            CardFormat::S32 => out.extend(widen32(value).to_le_bytes()),
            CardFormat::Float => out.extend((f32::from(value as i16) / 32768.0).to_le_bytes()),
        }
    }
}

/// Returns the ramp's 16-bit value of `channel` in the card's frame number `frame`.
pub(crate) fn ramp16(frame: u64, channel: u32, channels: u32) -> u16 {
    (frame * u64::from(channels) + u64::from(channel)) as u16
}

/// Returns the 24-bit sample that carries a 16-bit value, sign-extended.
pub(crate) fn widen24(value: u16) -> i32 {
    let bits = u32::from(value) << 8 | u32::from(value) >> 8;
    (bits << 8) as i32 >> 8
}

/// Returns the 32-bit sample that carries a 16-bit value.
pub(crate) fn widen32(value: u16) -> i32 {
    (u32::from(value) << 16 | u32::from(value)) as i32
}

/// Returns the bytes that the card delivers for `frames` frames from its frame number `first` on.
pub(crate) fn ramp_bytes(format: CardFormat, first: u64, frames: usize, channels: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in first..first + frames as u64 {
        for channel in 0..channels {
            format.push(ramp16(frame, channel, channels), &mut bytes);
        }
    }
    bytes
}

/// The formats that a card offers, and the clock by which it runs.
#[derive(Clone, Debug)]
pub(crate) struct CardOptions {
    /// The sample formats on offer.
    pub(crate) formats: Vec<CardFormat>,
    /// The rates on offer, in frames a second.
    pub(crate) rates: Vec<u32>,
    /// The numbers of channels on offer.
    pub(crate) channels: Vec<u32>,
    /// The speed of the card, in multiples of real time.
    pub(crate) speed: f64,
    /// The error of the card's crystal, in parts in a million. A positive number is a fast crystal.
    pub(crate) ppm: f64,
    /// Interleaved samples to play in a loop instead of the ramp.
    pub(crate) raw: Option<Vec<i16>>,
}

impl Default for CardOptions {
    fn default() -> Self {
        CardOptions {
            formats: vec![CardFormat::S16],
            rates: vec![44_100, 48_000],
            channels: vec![1, 2],
            speed: 1.0,
            ppm: 0.0,
            raw: None,
        }
    }
}

/// An order to the card. `fakecard.c` describes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Work.
    Run,
    /// ENODEV everywhere; an open handle stays dead after it.
    Unplug,
    /// No data and no error; after `Run` it goes on without a loss.
    Hang,
    /// One more overrun.
    Overrun,
    /// One overrun after another without any data between them.
    Storm,
    /// EBUSY from open.
    Busy,
    /// EACCES from open.
    NoPermission,
    /// ENOENT from open.
    Gone,
    /// EIO from every read.
    ReadEio,
    /// EBADFD from every read.
    ReadBadFd,
    /// A read that does not return before the next order.
    Stuck,
}

/// The counters of a card since the test began, over all openings. All are zero before the first opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Frames delivered.
    pub(crate) delivered: u64,
    /// The number of the frame that comes next, as of the last read or start.
    pub(crate) next_frame: u64,
    /// Successful opens.
    pub(crate) opens: u64,
    /// Successful starts.
    pub(crate) starts: u64,
    /// Overruns, whether forced or earned.
    pub(crate) overruns: u64,
    /// The rate that the program chose last, in frames a second.
    pub(crate) rate: u64,
    /// The number of channels that the program chose last.
    pub(crate) channels: u64,
    /// The period that the program chose last, in frames.
    pub(crate) period_frames: u64,
    /// The buffer that the program chose last, in frames.
    pub(crate) buffer_frames: u64,
    /// The reads that [`Order::Stuck`] has held until now.
    pub(crate) stuck_reads: u64,
}

impl Counters {
    /// Returns the frames that no program got: in overruns, and while the card was closed or unplugged.
    pub(crate) fn lost(&self) -> u64 {
        self.next_frame - self.delivered
    }
}

/// Several cards that one process can open, because they share an `asound.conf`.
pub(crate) struct Cards {
    cards: Vec<Card>,
    options: Vec<CardOptions>,
    /// More text for the `asound.conf`.
    more: String,
}

impl Cards {
    /// Makes a card for each name and its options.
    pub(crate) fn with<'a>(cards: impl IntoIterator<Item = (&'a str, CardOptions)>) -> Cards {
        let folder = Arc::new(Folder::new());
        let (cards, options) =
            cards.into_iter().map(|(name, options)| (Card::in_folder(&folder, name), options)).unzip();
        let cards = Cards { cards, options, more: String::new() };
        cards.write_conf();
        cards
    }

    /// Adds text to the `asound.conf`.
    pub(crate) fn and(mut self, conf: &str) -> Cards {
        self.more += conf;
        self.write_conf();
        self
    }

    /// Replaces the card `name` by another card. libasound checks at each open if its `asound.conf` has changed, so a
    /// program that has the old card open keeps it.
    pub(crate) fn exchange(&mut self, name: &str, options: CardOptions) {
        let place = self.cards.iter().position(|card| card.name == name);
        self.options[place.expect("a card that this test has made")] = options;
        self.write_conf();
    }

    /// Returns the card `name`.
    pub(crate) fn card(&self, name: &str) -> &Card {
        self.cards.iter().find(|card| card.name == name).expect("a card that this test has made")
    }

    /// Returns the environment variable that shows the cards to a child process.
    pub(crate) fn env(&self) -> (&'static str, PathBuf) {
        self.cards[0].env()
    }

    fn write_conf(&self) {
        let mut conf = format!(
            "</usr/share/alsa/alsa.conf>\npcm_type.fakecard {{ lib {} }}\n",
            quoted(plugin().as_os_str())
        );
        for (card, options) in self.cards.iter().zip(&self.options) {
            card.describe(options, &mut conf);
        }
        conf += &self.more;
        replace(&self.cards[0].env().1, conf.as_bytes()).expect("the test's own folder is writable");
    }
}

/// A fake card. Its folder is removed when the last card of its `asound.conf` is dropped.
pub(crate) struct Card {
    name: String,
    folder: Arc<Folder>,
    overruns_ordered: AtomicU64,
}

impl Card {
    /// Makes one card, which programs open as `name`.
    pub(crate) fn new(name: &str, options: CardOptions) -> Card {
        Cards::with([(name, options)]).cards.remove(0)
    }

    /// Returns the environment variable that shows the card to a child process.
    pub(crate) fn env(&self) -> (&'static str, PathBuf) {
        ("ALSA_CONFIG_PATH", self.folder.0.join("asound.conf"))
    }

    /// Returns the ALSA name to open.
    pub(crate) fn device(&self) -> &str {
        &self.name
    }

    /// Gives the card an order. The card reads it at its next call from libasound, or at once if libasound is in
    /// poll().
    pub(crate) fn command(&self, order: Order) {
        let word = match order {
            Order::Run => "run".to_owned(),
            Order::Unplug => "unplug".to_owned(),
            Order::Hang => "hang".to_owned(),
            Order::Overrun => format!("xrun {}", 1 + self.overruns_ordered.fetch_add(1, Ordering::Relaxed)),
            Order::Storm => "storm".to_owned(),
            Order::Busy => "busy".to_owned(),
            Order::NoPermission => "noperm".to_owned(),
            Order::Gone => "gone".to_owned(),
            Order::ReadEio => "eio".to_owned(),
            Order::ReadBadFd => "badfd".to_owned(),
            Order::Stuck => "stuck".to_owned(),
        };
        replace(&self.path("ctl"), word.as_bytes()).expect("the test's own folder is writable");
    }

    /// Returns the counters.
    pub(crate) fn position(&self) -> Counters {
        // The words are read one by one while the card may be changing them. Every change raises the sequence number,
        // so two equal readings with an even sequence number are one state.
        let deadline = Instant::now() + PATIENCE;
        let mut before = self.read_stat();
        loop {
            let words = self.read_stat();
            if words == before && words[1] % 2 == 0 {
                return Counters {
                    delivered: words[2],
                    next_frame: words[3],
                    opens: words[4],
                    starts: words[5],
                    overruns: words[6],
                    rate: words[7],
                    channels: words[8],
                    period_frames: words[9],
                    buffer_frames: words[10],
                    stuck_reads: words[11],
                };
            }
            assert!(Instant::now() < deadline, "the stat file of {} never settles", self.name);
            before = words;
        }
    }

    /// Waits until the counters are as a test wants them, and returns them. Panics after [`PATIENCE`].
    pub(crate) fn wait_until(&self, event: &str, wanted: impl Fn(&Counters) -> bool) -> Counters {
        wait_within(PATIENCE, Duration::from_millis(2), event, || Some(self.position()).filter(&wanted))
    }

    /// Makes the card hang in a read, and waits until a read hangs.
    pub(crate) fn stick(&self) {
        let before = self.position().stuck_reads;
        self.command(Order::Stuck);
        self.wait_until("a read that does not return", |counters| counters.stuck_reads > before);
    }

    fn in_folder(folder: &Arc<Folder>, name: &str) -> Card {
        let card =
            Card { name: name.to_owned(), folder: Arc::clone(folder), overruns_ordered: AtomicU64::new(0) };
        fs::create_dir(folder.0.join(name)).expect("a name that can be a folder's, once");
        card
    }

    /// Appends the card's part of `asound.conf`.
    fn describe(&self, options: &CardOptions, conf: &mut String) {
        let formats: Vec<_> = options.formats.iter().map(|format| format.name()).collect();
        let raw = options.raw.as_ref().map_or(String::new(), |samples| {
            let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            fs::write(self.path("raw"), bytes).expect("the test's own folder is writable");
            format!("raw {}", quoted(self.path("raw").as_os_str()))
        });
        // `!` replaces the system's definition of the name, for example of `default`.
        write!(
            conf,
            "pcm.!{} {{\n  type fakecard\n  ctl {}\n  stat {}\n  formats [ {} ]\n  rates [ {} ]\n  \
             channels [ {} ]\n  speed {:?}\n  ppm {:?}\n  hint {{ show on description \"Fake card\" }}\n  {raw}\n}}\n",
            self.name,
            quoted(self.path("ctl").as_os_str()),
            quoted(self.path("stat").as_os_str()),
            formats.join(" "),
            numbers(&options.rates),
            numbers(&options.channels),
            options.speed,
            options.ppm,
        )
        .expect("a String takes everything");
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.0.join(&self.name).join(file)
    }

    /// Returns the first words of the stat file, `struct device` in `fakecard.c`.
    fn read_stat(&self) -> [u64; 12] {
        const MAGIC: u64 = 0x3252_4143_454b_4146;
        let mut words = [0; 12];
        let bytes = fs::read(self.path("stat")).unwrap_or_default();
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().expect("chunks of eight"));
        }
        // Without the magic number the file is not there yet, or the first open is about to fill it.
        if words[0] != MAGIC { [0; 12] } else { words }
    }
}

/// The folder of one `asound.conf` and the files of its cards. It is removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let parent = scratch();
        remove_leftovers(&parent);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("card-{}-{count}", process::id()));
        // The number is new in this process, so an existing folder is of an earlier process with the same process ID.
        let _ = fs::remove_dir_all(&path);
        DirBuilder::new().mode(0o700).create(&path).expect("cargo's folder for tests is writable");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes the folders of tests that were killed, and of tests that keep their cards in a static.
fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix("card-")?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns cargo's folder for tests, made if it is missing.
fn scratch() -> PathBuf {
    let path = option_env!("CARGO_TARGET_TMPDIR").map_or_else(env::temp_dir, PathBuf::from);
    fs::create_dir_all(&path).expect("cargo's folder for tests can be made");
    path
}

/// Builds the plugin at the first call. Its name carries a hash of its source, so that an edit makes a new one. It
/// appears under that name when it is complete, so parallel tests at worst build it twice.
fn plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| library("fakecard", include_str!("fakecard.c"), &["-lasound"]))
}

/// Builds a shared library from `source`, unless it was built before, and returns its path.
pub(crate) fn library(name: &str, source: &str, with: &[&str]) -> PathBuf {
    let path = scratch().join(format!("{name}-{:016x}.so", fnv1a(source.as_bytes())));
    if !path.exists() {
        let unfinished = path.with_extension(process::id().to_string());
        compile(source, with, &unfinished);
        fs::rename(&unfinished, &path).expect("cargo's folder for tests is writable");
    }
    path
}

fn compile(source: &str, with: &[&str], output: &Path) {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut child = process::Command::new(&compiler)
        .args(["-shared", "-fPIC", "-DPIC", "-O2", "-Wall", "-Wextra", "-x", "c", "-o"])
        .arg(output)
        .arg("-")
        .args(with)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{compiler}: {error}: the fake card needs a C compiler"));
    child.stdin.take().expect("it is piped").write_all(source.as_bytes()).expect("the compiler reads");
    let status = child.wait().expect("the compiler is our child");
    assert!(status.success(), "{compiler} cannot build it: are libasound's headers installed?");
}

/// FNV-1a. The standard library's hash may change between releases, and nothing here needs a better one.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    fs::rename(&new, path)
}

fn quoted(text: &OsStr) -> String {
    let text = text.to_str().expect("a path that asound.conf can hold");
    assert!(!text.contains(['"', '\\', '\n']), "asound.conf cannot hold {text}");
    format!("\"{text}\"")
}

fn numbers(list: &[u32]) -> String {
    list.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}
