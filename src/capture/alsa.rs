//! The source that reads a sound card, or any other PCM that ALSA knows by a name.
//!
//! The choices in this file were measured on real drivers and plugins. Period and buffer are always set, since defaults
//! range from milliseconds to a minute. The capture is started explicitly, since one that was not started fails after a
//! while. Every wait has an end, since a card that hangs gives neither sound nor an error.

use std::time::Duration;

use alsa::pcm::{Access, Format, HwParams, PCM};
use alsa::poll::Descriptors;
use alsa::{Direction, ValueOr};

use super::devices::{self, SystemPaths};
use super::source::{OpenError, READ_TIMEOUT, Source, SourceLost, SourceRead};
use crate::config::Input;
use crate::inputs::{SourceInfo, Trouble};
use crate::media::format::SourceSample;
use crate::sys::clock::monotonic_ns;

/// The rates for which hardware is built, in frames per second. `wavecast devices` lists those that a card offers.
pub(super) const USUAL_RATES: [u32; 15] = [
    8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000, 176_400,
    192_000, 384_000,
];

/// The sample formats that a source can have, in the order in which `wavecast devices` lists them.
pub(super) const SAMPLES: [SourceSample; 5] =
    [SourceSample::S16, SourceSample::S24Packed, SourceSample::S24, SourceSample::S32, SourceSample::F32];

/// Overruns in a row, without a frame in between, after which the device counts as broken: through some plugins
/// `prepare` succeeds for ever and reading fails for ever.
const MAX_OVERRUNS_IN_A_ROW: u32 = 10;

/// The largest number of channels, which is that of the configuration.
const MAX_CHANNELS: u16 = 32;

/// The longest buffer that the configuration accepts.
const LONGEST_BUFFER: Duration = Duration::from_secs(10);

/// A device that gives sound this many times faster than real time has no clock of its own (`null`, files). It is read
/// at the pace of CLOCK_MONOTONIC instead.
const NO_CLOCK_SPEED: u64 = 50;

/// An open ALSA capture device.
pub struct AlsaSource {
    pcm: PCM,
    info: SourceInfo,
    descriptors: Vec<libc::pollfd>,
    /// Frames that the device had already after the last read.
    available: u64,
    /// Time (CLOCK_MONOTONIC, ns) at which the last frame of the last read was captured; `None` after a start.
    last_frame_at: Option<u64>,
    overruns_in_a_row: u32,
    pace: Pace,
}

impl AlsaSource {
    /// Opens the device that the input names, in the format that is nearest to the configured one. Does not start it.
    ///
    /// # Errors
    ///
    /// An [`OpenError`] with what to do: no such device, no permission, in use, no usable format.
    pub fn open(input: &Input) -> Result<AlsaSource, OpenError> {
        let paths = SystemPaths::default();
        let absent = || devices::diagnose(&input.device.to_string(), libc::ENODEV, &[], &paths);
        let (device, card) = devices::resolve(&input.device, &paths).ok_or_else(absent)?;
        devices::check_jack(&device, &paths)?;
        // Non-blocking: a busy device returns an error at once instead of waiting until it is free.
        let open = || PCM::new(&device, Direction::Capture, true);
        let (pcm, messages) = devices::with_alsa_messages(open);
        let pcm = pcm.map_err(|error| devices::diagnose(&device, error.errno(), &messages, &paths))?;
        let info = negotiate(&pcm, input, device, card)?;
        let pace = Pace::new(info.rate, info.buffer_frames);
        let descriptors =
            pcm.get().map_err(|error| failed_to("get its descriptors", &info.device, &error))?;
        // Frees the tree of ALSA's whole configuration, which the library keeps for the next open. It only releases one
        // reference: a thread that opens something at this moment keeps its own.
        let _ = alsa::config::update_free_global();
        Ok(AlsaSource {
            pcm,
            info,
            descriptors,
            available: 0,
            last_frame_at: None,
            overruns_in_a_row: 0,
            pace,
        })
    }

    /// Waits until a whole block can be read, or an error, at most [`READ_TIMEOUT`]. Returns whether there is anything
    /// to read.
    ///
    /// Not by `snd_pcm_wait`: that starts its timeout anew whenever a descriptor was ready without sound. With a plugin
    /// that has a timer behind its descriptor, it never ends on a device that hangs.
    fn wait(&mut self) -> bool {
        if self.available >= u64::from(self.info.block_frames) {
            return true;
        }
        let end = monotonic_ns() + READ_TIMEOUT.as_nanos() as u64;
        loop {
            let left = Duration::from_nanos(end.saturating_sub(monotonic_ns()));
            // Rounded up: a wait of 0.4 ms must not become a busy loop.
            match alsa::poll::poll(&mut self.descriptors, left.as_micros().div_ceil(1000) as i32) {
                Ok(0) => return false,
                // An error of the device is returned by the read.
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

    /// Starts the device again after an overrun or a suspend.
    fn recover(&mut self) -> Result<SourceRead, SourceLost> {
        self.last_frame_at = None;
        self.overruns_in_a_row += 1;
        if self.overruns_in_a_row > MAX_OVERRUNS_IN_A_ROW {
            return Err(SourceLost::Overrunning);
        }
        prepare_and_start(&self.pcm).map_err(|error| lost(error.errno()))?;
        Ok(SourceRead::Overrun)
    }

    /// Returns the time (CLOCK_MONOTONIC, ns) at which the last of the `frames` frames that were just read was captured, and
    /// notes how many frames have come in since.
    fn time_of_last_frame(&mut self, frames: u64) -> u64 {
        let (available, now) = (self.pcm.avail_update(), monotonic_ns());
        let nanos = |frames: u64| frames * 1_000_000_000 / u64::from(self.info.rate);
        self.available = available.as_ref().map_or(0, |available| (*available).max(0) as u64);
        match self.last_frame_at {
            // The device has overrun since the read, while the machine stood still. How long ago cannot be told from what
            // it holds, and the next read reports the loss. These frames followed those before them.
            Some(last) if available.is_err() || self.available >= self.info.buffer_frames.into() => {
                last + nanos(frames)
            }
            // Frames that came in since belong to the next block. Without this, a late reader would take the time of its own
            // lateness for the card's.
            _ => now.saturating_sub(nanos(self.available.min(self.info.buffer_frames.into()))),
        }
    }

    fn read_failed(&mut self, error: &alsa::Error) -> Result<SourceRead, SourceLost> {
        match error.errno() {
            libc::EPIPE | libc::ESTRPIPE => self.recover(),
            libc::EAGAIN | libc::EINTR => Ok(SourceRead::Timeout),
            errno => Err(lost(errno)),
        }
    }
}

impl Source for AlsaSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn start(&mut self) -> Result<(), OpenError> {
        prepare_and_start(&self.pcm)
            .map_err(|error| failed_to("start the capture", &self.info.device, &error))?;
        self.pace = Pace::new(self.info.rate, self.info.buffer_frames);
        Ok(())
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
                let captured_at = self.time_of_last_frame(frames as u64);
                self.last_frame_at = Some(captured_at);
                Ok(SourceRead::Frames { frames, captured_at })
            }
            Err(error) => {
                self.available = 0;
                self.read_failed(&error)
            }
        }
    }
}

/// Returns ALSA's name of a sample format.
pub(super) fn alsa_format(sample: SourceSample) -> Format {
    match sample {
        SourceSample::S16 => Format::S16LE,
        SourceSample::S24Packed => Format::S243LE,
        SourceSample::S24 => Format::S24LE,
        SourceSample::S32 => Format::S32LE,
        SourceSample::F32 => Format::FloatLE,
    }
}

fn lost(errno: i32) -> SourceLost {
    match errno {
        libc::ENODEV => SourceLost::Unplugged,
        errno => SourceLost::Failed(errno),
    }
}

fn prepare_and_start(pcm: &PCM) -> alsa::Result<()> {
    pcm.prepare()?;
    pcm.start()
}

fn failed_to(action: &str, device: &str, error: &alsa::Error) -> OpenError {
    let reason = std::io::Error::from_raw_os_error(error.errno());
    OpenError { advice: format!("{device}: could not {action}: {reason}"), trouble: Trouble::Other }
}

/// Agrees on a format with the device, as near to the configured one as the device can.
fn negotiate(
    pcm: &PCM,
    input: &Input,
    device: String,
    card: Option<String>,
) -> Result<SourceInfo, OpenError> {
    let failed = |action: &'static str| {
        let device = device.clone();
        move |error: alsa::Error| failed_to(action, &device, &error)
    };
    let hw = HwParams::any(pcm).map_err(failed("read what it offers"))?;
    hw.set_access(Access::RWInterleaved).map_err(failed("set interleaved access"))?;

    let sample = SourceSample::preference(input.format)
        .into_iter()
        .find(|sample| hw.test_format(alsa_format(*sample)).is_ok())
        .ok_or_else(|| no_usable_format(&hw, &device))?;
    hw.set_format(alsa_format(sample)).map_err(failed("set the sample format"))?;
    let least = input.pick.least_channels();
    let channels = nearest_channels(&hw, input.card_channels().into(), least.into())
        .and_then(|channels| hw.set_channels_near(channels))
        .map_err(failed("set the number of channels"))?;
    let rate = nearest_rate(&hw, input.rate)
        .and_then(|rate| hw.set_rate_near(rate, ValueOr::Nearest))
        .map_err(failed("set the rate"))?;
    let channels =
        u16::try_from(channels).ok().filter(|channels| *channels <= MAX_CHANNELS).ok_or_else(|| {
            let advice = format!("{device} wants {channels} channels, more than {MAX_CHANNELS}");
            OpenError { advice, trouble: Trouble::Format }
        })?;
    if channels < least {
        let advice = format!(
            "{device} offers {channels} channels at most, but `pick` names channel {least}; `wavecast devices` lists \
             what each card offers"
        );
        return Err(OpenError { advice, trouble: Trouble::Format });
    }

    let frames = |time: Duration| (time.as_nanos() as u64 * u64::from(rate) / 1_000_000_000).max(1) as i64;
    let period = hw
        .set_period_size_near(frames(input.period) as _, ValueOr::Nearest)
        .map_err(failed("set the period"))?;
    let buffer = hw.set_buffer_size_near(frames(input.buffer) as _).map_err(failed("set the buffer"))?;
    pcm.hw_params(&hw).map_err(failed("set its parameters"))?;

    let sw = pcm.sw_params_current().map_err(failed("read its software parameters"))?;
    sw.set_avail_min(period).map_err(failed("set the wake-up point"))?;
    sw.set_start_threshold(1).map_err(failed("set the start point"))?;
    pcm.sw_params(&sw).map_err(failed("set its software parameters"))?;

    // A plugin's buffer may be anything up to hours. Nothing is allocated from its size.
    let block_frames = u32::try_from(period).unwrap_or(u32::MAX).clamp(1, rate);
    let buffer_frames = u32::try_from(buffer).unwrap_or(u32::MAX);
    Ok(SourceInfo { device, card, rate, channels, sample, block_frames, buffer_frames })
}

/// Returns the error for a device that offers no format of [`SAMPLES`], with the name that converts, where one does.
fn no_usable_format(hw: &HwParams<'_>, device: &str) -> OpenError {
    let names = SAMPLES.map(SourceSample::name).join(", ");
    let convertible = CONVERTIBLE.into_iter().any(|format| hw.test_format(format).is_ok());
    let advice = match convertible {
        true => {
            let converting = devices::converting_name(device);
            format!("{device} offers none of {names}; device = \"{converting}\" has ALSA convert")
        }
        false => {
            format!("{device} offers none of {names}; its data is no PCM sound, which nothing can convert")
        }
    };
    OpenError { advice, trouble: Trouble::Format }
}

/// The formats that ALSA's `plug` layer converts, beside [`SAMPLES`]. Missing are those that are no PCM: IEC958 frames,
/// DSD, MPEG, GSM.
const CONVERTIBLE: [Format; 16] = [
    Format::S8,
    Format::U8,
    Format::S16BE,
    Format::U16LE,
    Format::U16BE,
    Format::S24BE,
    Format::U24LE,
    Format::U24BE,
    Format::S32BE,
    Format::U32LE,
    Format::U32BE,
    Format::FloatBE,
    Format::Float64LE,
    Format::Float64BE,
    Format::MuLaw,
    Format::ALaw,
];

/// Returns the nearest rate on offer. ALSA's own nearest is the only higher one, however far that is: 96000 for 44100,
/// from a card that has 32000 too.
fn nearest_rate(hw: &HwParams<'_>, wanted: u32) -> alsa::Result<u32> {
    let near = hw.clone().set_rate_near(wanted, ValueOr::Nearest)?;
    let nearer = |rate: &u32| *rate < wanted && wanted - rate < near.saturating_sub(wanted);
    let below = USUAL_RATES.into_iter().rev().filter(nearer).find(|rate| hw.test_rate(*rate).is_ok());
    Ok(below.unwrap_or(near))
}

/// Returns the nearest number of channels on offer, for the same reason, and one of `least` or more where there is one.
fn nearest_channels(hw: &HwParams<'_>, wanted: u32, least: u32) -> alsa::Result<u32> {
    let near = hw.clone().set_channels_near(wanted)?;
    if near < least {
        let enough = (least..=MAX_CHANNELS.into()).find(|channels| hw.test_channels(*channels).is_ok());
        return Ok(enough.unwrap_or(near));
    }
    let nearer = |channels: &u32| wanted - channels < near.saturating_sub(wanted);
    let below = (least..wanted).rev().take_while(nearer).find(|channels| hw.test_channels(*channels).is_ok());
    Ok(below.unwrap_or(near))
}

/// A detector of devices without a clock, and the clock for such a device.
struct Pace {
    rate: u64,
    /// Frames that are counted before their time is compared.
    enough: u64,
    /// Start of the count (CLOCK_MONOTONIC, ns).
    since: u64,
    /// Frames read since then.
    frames: u64,
    /// The device has no clock.
    is_paced: bool,
}

impl Pace {
    fn new(rate: u32, buffer_frames: u32) -> Pace {
        let rate = u64::from(rate);
        // A card that was not read for a while gives a whole buffer at once, although it has a clock. A plugin may claim
        // a buffer of hours; the configuration asks for no more than this.
        let buffer = u64::from(buffer_frames).min(LONGEST_BUFFER.as_secs() * rate);
        Pace { rate, enough: rate + 2 * buffer, since: monotonic_ns(), frames: 0, is_paced: false }
    }

    /// Counts frames that were read. When there are enough, compares their duration with the time they took.
    fn count(&mut self, frames: u64) {
        self.frames += frames;
        if self.frames < self.enough {
            return;
        }
        if self.is_paced {
            self.since += self.duration();
        } else {
            let now = monotonic_ns();
            self.is_paced = self.duration() > (now - self.since) * NO_CLOCK_SPEED;
            self.since = now;
        }
        self.frames = 0;
    }

    /// Returns the duration of the counted frames in ns.
    fn duration(&self) -> u64 {
        self.frames * 1_000_000_000 / self.rate
    }

    /// Waits until the next read of a device without a clock is due, at most [`READ_TIMEOUT`]. Returns whether it is.
    fn wait(&mut self) -> bool {
        if !self.is_paced {
            return true;
        }
        let now = monotonic_ns();
        let due = self.since + self.duration();
        if now > due + 1_000_000_000 {
            // Far behind, for instance after a suspend: start the count again instead of catching up.
            (self.since, self.frames) = (now, 0);
        }
        let early = Duration::from_nanos(due.saturating_sub(now));
        std::thread::sleep(early.min(READ_TIMEOUT));
        early <= READ_TIMEOUT
    }
}
