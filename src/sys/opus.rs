//! Opus by libopus (1.0 and later), opened on first use.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use super::dl::{Library, MissingLibrary, OnFirstUse};

/// Upper bound of a packet's bytes (RFC 6716, section 3.4).
pub const MOST_BYTES: usize = 1275;

/// Constants of opus_defines.h.
const APPLICATION_AUDIO: c_int = 2049;
const SET_BITRATE: c_int = 4002;
const SET_VBR: c_int = 4006;
const SET_COMPLEXITY: c_int = 4010;
const GET_LOOKAHEAD: c_int = 4027;

/// The encoder's effort, from 0 to 10. 10 takes half as much CPU again.
const COMPLEXITY: c_int = 5;

type Create = unsafe extern "C" fn(i32, c_int, c_int, *mut c_int) -> *mut c_void;
type Control = unsafe extern "C" fn(*mut c_void, c_int, ...) -> c_int;
type Encode = unsafe extern "C" fn(*mut c_void, *const i16, c_int, *mut u8, i32) -> i32;
type Destroy = unsafe extern "C" fn(*mut c_void);

/// The functions of the library.
struct Functions {
    create: Create,
    control: Control,
    encode: Encode,
    destroy: Destroy,
}

static FUNCTIONS: OnFirstUse<Functions> = OnFirstUse::new();

/// Opens the library. The first outcome is remembered.
///
/// # Errors
///
/// The library is not installed or lacks a function.
pub fn load() -> Result<(), MissingLibrary> {
    FUNCTIONS.get(Functions::load).map(drop)
}

impl Functions {
    fn load() -> Result<Functions, MissingLibrary> {
        let library = Library::open(c"libopus.so.0", "libopus0")?;
        // SAFETY: the types are those of opus.h, unchanged since 1.0.
        unsafe {
            Ok(Functions {
                create: library.function(c"opus_encoder_create")?,
                control: library.function(c"opus_encoder_ctl")?,
                encode: library.function(c"opus_encode")?,
                destroy: library.function(c"opus_encoder_destroy")?,
            })
        }
    }
}

/// A reason for which libopus gives no encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpusError {
    /// The library is missing.
    Missing(MissingLibrary),
    /// libopus refused the settings, with this error number.
    Refused(i32),
}

/// An encoder of Opus with a constant bit rate. In silence, a variable one keeps players waiting for 27 s and
/// longer.
pub struct Opus {
    functions: &'static Functions,
    /// Valid from `opus_encoder_create` to `opus_encoder_destroy` in `drop`; used by nothing else.
    handle: NonNull<c_void>,
    channels: usize,
    bytes: [u8; MOST_BYTES],
}

// SAFETY: an encoder of libopus keeps its state behind the handle and uses nothing of the thread that made
// it. `Opus` is its only owner, and every call takes `&mut self`.
unsafe impl Send for Opus {}

impl Opus {
    /// Returns an encoder for mono or stereo at 8, 12, 16, 24 or 48 kHz, with `bitrate` kbit/s.
    ///
    /// # Errors
    ///
    /// The library is missing, or it refuses the settings.
    pub fn new(rate: u32, channels: usize, bitrate: u32) -> Result<Opus, OpusError> {
        let functions = FUNCTIONS.get(Functions::load).map_err(OpusError::Missing)?;
        let mut error = 0;
        // SAFETY: it takes any integers, and writes one int to `error`, which lives until after the call.
        let handle =
            unsafe { (functions.create)(rate as i32, channels as c_int, APPLICATION_AUDIO, &mut error) };
        let handle = NonNull::new(handle).ok_or(OpusError::Refused(error))?;
        // From here on, `drop` destroys the encoder.
        let mut opus = Opus { functions, handle, channels, bytes: [0; MOST_BYTES] };
        opus.set(SET_BITRATE, bitrate as c_int * 1000)?;
        opus.set(SET_VBR, 0)?;
        opus.set(SET_COMPLEXITY, COMPLEXITY)?;
        Ok(opus)
    }

    fn set(&mut self, request: c_int, value: c_int) -> Result<(), OpusError> {
        // SAFETY: the three requests above take one opus_int32 each, which is an int here and in a list of
        // variable arguments.
        match unsafe { (self.functions.control)(self.handle.as_ptr(), request, value) } {
            0 => Ok(()),
            error => Err(OpusError::Refused(error)),
        }
    }

    /// Returns the frames by which what is decoded lies behind what was encoded, at the encoder's rate.
    pub fn lookahead(&mut self) -> u32 {
        let mut frames: c_int = 0;
        // SAFETY: this request takes a pointer to an opus_int32, which is valid and lives until after the
        // call.
        unsafe { (self.functions.control)(self.handle.as_ptr(), GET_LOOKAHEAD, &raw mut frames) };
        frames.max(0) as u32
    }

    /// Encodes interleaved samples of 2.5, 5, 10, 20, 40 or 60 ms. Returns the packet.
    ///
    /// # Errors
    ///
    /// libopus's error number, also for another length.
    pub fn encode(&mut self, pcm: &[i16]) -> Result<&[u8], i32> {
        let frames = (pcm.len() / self.channels) as c_int;
        // SAFETY: `pcm` holds `frames` samples for each channel, and `bytes` has as many bytes as are passed.
        // Nothing else refers to `bytes` meanwhile.
        let count = unsafe {
            (self.functions.encode)(
                self.handle.as_ptr(),
                pcm.as_ptr(),
                frames,
                self.bytes.as_mut_ptr(),
                MOST_BYTES as i32,
            )
        };
        usize::try_from(count).ok().and_then(|count| self.bytes.get(..count)).ok_or(count)
    }
}

impl Drop for Opus {
    fn drop(&mut self) {
        // SAFETY: the handle is that of `opus_encoder_create`, is destroyed once, and is not used afterwards.
        unsafe { (self.functions.destroy)(self.handle.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns `true` where libopus is installed.
    fn is_there() -> bool {
        if let Err(missing) = load() {
            println!("not tested: {missing}");
            return false;
        }
        true
    }

    #[test]
    fn every_packet_has_the_same_size_in_sound_and_in_silence() {
        if !is_there() {
            return;
        }
        for (rate, channels, bitrate) in [(48_000, 2, 96), (48_000, 1, 64), (8_000, 1, 16), (48_000, 2, 256)]
        {
            let mut opus = Opus::new(rate, channels, bitrate).expect("settings that libopus takes");
            assert!(opus.lookahead() > 0 && opus.lookahead() < rate / 100);
            for round in 0..100 {
                let samples = rate as usize / 50 * channels;
                let pcm: Vec<i16> =
                    (0..samples).map(|n| if round < 50 { (n * 7919) as i16 } else { 0 }).collect();
                let packet = opus.encode(&pcm).expect("no error");
                assert_eq!(packet.len(), bitrate as usize * 1000 / 8 / 50);
            }
        }
    }

    #[test]
    fn impossible_settings_and_lengths_are_errors() {
        if !is_there() {
            return;
        }
        assert!(matches!(Opus::new(44_100, 2, 96), Err(OpusError::Refused(-1))));
        assert!(matches!(Opus::new(48_000, 3, 96), Err(OpusError::Refused(-1))));
        let mut opus = Opus::new(48_000, 2, 96).expect("settings that libopus takes");
        assert_eq!(opus.encode(&[0; 7]).err(), Some(-1));
        assert_eq!(opus.encode(&[]).err(), Some(-1));
    }
}
