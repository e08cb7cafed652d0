//! A sound card, or whatever else ALSA knows by a name.
//!
//! What is done here and why was measured on real drivers and plugins: period and buffer are always asked
//! for, since defaults range from milliseconds to a minute; the capture is started, since one that was not
//! fails by itself after a while; every wait has an end, since a hung card gives neither sound nor error.

use std::time::Duration;

use alsa::pcm::{Access, Format, HwParams, PCM};
use alsa::poll::Descriptors;
use alsa::{Direction, ValueOr};

use super::devices::{self, SystemPaths};
use super::source::{OpenError, PATIENCE, Source, SourceLost, SourceRead};
use crate::config::Input;
use crate::inputs::SourceInfo;
use crate::media::format::SourceSample;
use crate::sys::clock::monotonic_ns;

/// So many overruns in a row without a frame in between, and the device counts as broken: through some
/// plugins `prepare` succeeds for ever and reading fails for ever.
const OVERRUNS_IN_A_ROW: u32 = 10;

/// A device that hands out sound this many times faster than real time has no clock of its own (`null`,
/// files): it is read at the clock's pace instead.
const NO_CLOCK: u64 = 50;

/// The longest buffer that the configuration takes.
const LONGEST_BUFFER: Duration = Duration::from_secs(10);

/// An open and running ALSA capture device.
pub struct AlsaSource {
    pcm: PCM,
    info: SourceInfo,
    descriptors: Vec<libc::pollfd>,
    /// Frames that were there already after the last read.
    waiting: u64,
    overruns_in_a_row: u32,
    pace: Pace,
}

impl AlsaSource {
    /// Opens and starts the device that the input names, in the format nearest to what the input asks for.
    ///
    /// # Errors
    ///
    /// What is wrong and what to do about it: no such device, no permission, in use, no usable format.
    pub fn open(input: &Input) -> Result<AlsaSource, OpenError> {
        let roots = SystemPaths::default();
        let (device, card) = devices::resolve(&input.device, &roots)?;
        // Without blocking: a busy device must say so, and must not keep us here until it is free.
        devices::check_jack(&device, &roots)?;
        let open = || PCM::new(&device, Direction::Capture, true);
        let (pcm, messages) = devices::with_alsa_messages(open);
        let pcm = pcm.map_err(|error| devices::diagnose(&device, error.errno(), &messages, &roots))?;
        let info = negotiate(&pcm, input, device, card)?;
        start(&pcm).map_err(|error| cannot(&info.device, "start the capture", &error))?;
        let pace = Pace::new(info.rate, info.buffer_frames);
        let descriptors = pcm.get().map_err(|error| cannot(&info.device, "wait for it", &error))?;
        // The tree of all that ALSA's configuration says, which the library keeps for the next time. It only counts one
        // reference less: whoever opens something at this moment goes on to have it.
        let _ = alsa::config::update_free_global();
        Ok(AlsaSource { pcm, info, descriptors, waiting: 0, overruns_in_a_row: 0, pace })
    }

    /// Waits for a whole block, or for an error to be read, at most [`PATIENCE`].
    ///
    /// Not `snd_pcm_wait`: that begins its time anew whenever a descriptor was ready without sound, so that
    /// with a plugin that has a timer behind its descriptor it never ends on a device that hangs.
    fn wait(&mut self) -> bool {
        if self.waiting >= u64::from(self.info.block_frames) {
            return true;
        }
        let end = monotonic_ns() + PATIENCE.as_nanos() as u64;
        loop {
            let left = Duration::from_nanos(end.saturating_sub(monotonic_ns()));
            // Rounded up: a wait of 0.4 ms must not become a loop without one.
            match alsa::poll::poll(&mut self.descriptors, left.as_micros().div_ceil(1000) as i32) {
                Ok(0) => return false,
                // An error of the device shows when it is read.
                Ok(_) => match self.pcm.revents(&self.descriptors) {
                    Ok(flags) if flags.is_empty() => std::thread::sleep(left.min(Duration::from_millis(1))),
                    _ => return true,
                },
                Err(_) => {}
            }
            if left.is_zero() {
                return false;
            }
        }
    }

    /// Brings the device back after an overrun or a suspend.
    fn recover(&mut self) -> Result<SourceRead, SourceLost> {
        self.overruns_in_a_row += 1;
        if self.overruns_in_a_row > OVERRUNS_IN_A_ROW {
            return Err(SourceLost::Overrunning);
        }
        start(&self.pcm).map_err(|error| loss(error.errno()))?;
        Ok(SourceRead::Overrun)
    }

    fn failed(&mut self, error: &alsa::Error) -> Result<SourceRead, SourceLost> {
        match error.errno() {
            libc::EPIPE | libc::ESTRPIPE => self.recover(),
            libc::EAGAIN | libc::EINTR => Ok(SourceRead::Timeout),
            errno => Err(loss(errno)),
        }
    }
}

impl Source for AlsaSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn read(&mut self, out: &mut [u8]) -> Result<SourceRead, SourceLost> {
        if !self.pace.wait() || !self.wait() {
            return Ok(SourceRead::Timeout);
        }
        let block = &mut out[..self.info.block_frames as usize * self.info.frame_bytes()];
        let read = self.pcm.io_bytes().readi(block);
        match read {
            Ok(0) => Ok(SourceRead::Timeout),
            Ok(frames) => {
                self.overruns_in_a_row = 0;
                self.pace.count(frames as u64);
                // What came in since belongs to the next block; without it a late reader would take the time
                // of its own lateness for the card's.
                self.waiting = self.pcm.avail_update().map_or(0, |waiting| waiting.max(0) as u64);
                let late = self.waiting.min(self.info.buffer_frames.into()) * 1_000_000_000
                    / u64::from(self.info.rate);
                Ok(SourceRead::Frames { frames, captured_at: monotonic_ns().saturating_sub(late) })
            }
            Err(error) => {
                self.waiting = 0;
                self.failed(&error)
            }
        }
    }
}

fn loss(errno: i32) -> SourceLost {
    match errno {
        libc::ENODEV => SourceLost::Unplugged,
        errno => SourceLost::Failed(errno),
    }
}

fn start(pcm: &PCM) -> alsa::Result<()> {
    pcm.prepare()?;
    pcm.start()
}

fn cannot(device: &str, what: &str, error: &alsa::Error) -> OpenError {
    let why = std::io::Error::from_raw_os_error(error.errno());
    OpenError { advice: format!("{device}: could not {what}: {why}"), absent: false }
}

/// Agrees on a format with the device, as near to what is wanted as it can.
fn negotiate(
    pcm: &PCM,
    input: &Input,
    device: String,
    card: Option<String>,
) -> Result<SourceInfo, OpenError> {
    let hw = HwParams::any(pcm).map_err(|e| cannot(&device, "read what it offers", &e))?;
    hw.set_access(Access::RWInterleaved).map_err(|e| cannot(&device, "set interleaved access", &e))?;

    let sample = SourceSample::preference(input.format)
        .into_iter()
        .find(|sample| hw.test_format(alsa_format(*sample)).is_ok())
        .ok_or_else(|| OpenError {
            advice: format!(
                "{device} offers none of S16_LE, S24_3LE, S24_LE, S32_LE and FLOAT_LE; \
                 ALSA converts what it has under the name plug{device}"
            ),
            absent: false,
        })?;
    hw.set_format(alsa_format(sample)).map_err(|e| cannot(&device, "set the sample format", &e))?;
    let channels = nearest_channels(&hw, input.channels.into())
        .and_then(|channels| hw.set_channels_near(channels))
        .map_err(|e| cannot(&device, "set the number of channels", &e))?;
    let rate = nearest_rate(&hw, input.rate)
        .and_then(|rate| hw.set_rate_near(rate, ValueOr::Nearest))
        .map_err(|e| cannot(&device, "set the rate", &e))?;
    let channels =
        u16::try_from(channels).ok().filter(|channels| *channels <= MOST_CHANNELS).ok_or_else(|| {
            let advice = format!("{device} wants {channels} channels, more than {MOST_CHANNELS}");
            OpenError { advice, absent: false }
        })?;

    let frames = |time: Duration| (time.as_nanos() as u64 * u64::from(rate) / 1_000_000_000).max(1) as i64;
    let period = hw
        .set_period_size_near(frames(input.period) as _, ValueOr::Nearest)
        .map_err(|e| cannot(&device, "set the period", &e))?;
    let buffer = hw
        .set_buffer_size_near(frames(input.buffer) as _)
        .map_err(|e| cannot(&device, "set the buffer", &e))?;
    pcm.hw_params(&hw).map_err(|e| cannot(&device, "set its parameters", &e))?;

    let sw = pcm.sw_params_current().map_err(|e| cannot(&device, "read its software parameters", &e))?;
    sw.set_avail_min(period).map_err(|e| cannot(&device, "set the wake-up point", &e))?;
    sw.set_start_threshold(1).map_err(|e| cannot(&device, "set the start point", &e))?;
    pcm.sw_params(&sw).map_err(|e| cannot(&device, "set its software parameters", &e))?;

    // A plugin's buffer may be anything up to hours; nothing here is allocated from it.
    let block_frames = u32::try_from(period).unwrap_or(u32::MAX).clamp(1, rate);
    let buffer_frames = u32::try_from(buffer).unwrap_or(u32::MAX);
    Ok(SourceInfo { device, card, rate, channels, sample, block_frames, buffer_frames })
}

/// The rates that hardware is built for, in frames a second.
pub(super) const USUAL_RATES: [u32; 15] = [
    8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000, 176_400,
    192_000, 384_000,
];

/// The nearest rate on offer. ALSA's own nearest is the higher one when that is the only one above, however
/// far it is: 96000 for 44100, from a card that has 32000 too.
fn nearest_rate(hw: &HwParams<'_>, wanted: u32) -> alsa::Result<u32> {
    let near = hw.clone().set_rate_near(wanted, ValueOr::Nearest)?;
    let nearer = |rate: &u32| *rate < wanted && wanted - rate < near.saturating_sub(wanted);
    let below = USUAL_RATES.into_iter().rev().filter(nearer).find(|rate| hw.test_rate(*rate).is_ok());
    Ok(below.unwrap_or(near))
}

/// The nearest number of channels on offer, for the same reason.
fn nearest_channels(hw: &HwParams<'_>, wanted: u32) -> alsa::Result<u32> {
    let near = hw.clone().set_channels_near(wanted)?;
    let nearer = |channels: &u32| wanted - channels < near.saturating_sub(wanted);
    let below = (1..wanted).rev().take_while(nearer).find(|channels| hw.test_channels(*channels).is_ok());
    Ok(below.unwrap_or(near))
}

/// The sample formats that a source can have, in the order in which `wavecast devices` lists them.
pub(super) const SAMPLES: [SourceSample; 5] = [
    SourceSample::S16,
    SourceSample::S24Packed,
    SourceSample::S24,
    SourceSample::S32,
    SourceSample::F32,
];

/// As many as the configuration takes.
const MOST_CHANNELS: u16 = 32;

pub(super) fn alsa_format(sample: SourceSample) -> Format {
    match sample {
        SourceSample::S16 => Format::S16LE,
        SourceSample::S24Packed => Format::S243LE,
        SourceSample::S24 => Format::S24LE,
        SourceSample::S32 => Format::S32LE,
        SourceSample::F32 => Format::FloatLE,
    }
}

/// Finds out whether a device has a clock, and is the clock for one that has none.
struct Pace {
    rate: u64,
    /// So many frames are counted before their time is looked at.
    enough: u64,
    /// When this count began, and how many frames there were since.
    since: u64,
    frames: u64,
    slowed: bool,
}

impl Pace {
    fn new(rate: u32, buffer_frames: u32) -> Pace {
        let rate = u64::from(rate);
        // A whole buffer comes at once from a card that was not read for a while, which has a clock all the
        // same. What a plugin calls its buffer may be hours; no more was asked for than this.
        let buffer = u64::from(buffer_frames).min(LONGEST_BUFFER.as_secs() * rate);
        Pace { rate, enough: rate + 2 * buffer, since: monotonic_ns(), frames: 0, slowed: false }
    }

    /// Counts what was read; when that is enough, looks how long it took.
    fn count(&mut self, frames: u64) {
        self.frames += frames;
        if self.frames < self.enough {
            return;
        }
        if self.slowed {
            self.since += self.sound();
        } else {
            let now = monotonic_ns();
            self.slowed = self.sound() > (now - self.since) * NO_CLOCK;
            self.since = now;
        }
        self.frames = 0;
    }

    fn sound(&self) -> u64 {
        self.frames * 1_000_000_000 / self.rate
    }

    /// Waits until the next read of a device without a clock is due; `false` if that is not yet.
    fn wait(&mut self) -> bool {
        if !self.slowed {
            return true;
        }
        let now = monotonic_ns();
        let due = self.since + self.sound();
        if now > due + 1_000_000_000 {
            // Long behind (a suspended machine): begin again instead of hurrying.
            (self.since, self.frames) = (now, 0);
        }
        let early = Duration::from_nanos(due.saturating_sub(now));
        std::thread::sleep(early.min(PATIENCE));
        early <= PATIENCE
    }
}
