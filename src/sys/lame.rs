//! MP3 by libmp3lame (LAME 3.97 and later), opened on first use.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use super::dl::{Library, MissingLibrary, OnFirstUse};

/// Frames that one call may encode: those of the largest MP3 frame.
pub const MOST_FRAMES: usize = 1152;
/// Bytes that one call may write: lame.h says 1.25 bytes for each sample and 7200 more.
const MOST_BYTES: usize = MOST_FRAMES * 5 / 4 + 7200;

/// `MPEG_mode` of lame.h.
const JOINT_STEREO: c_int = 1;
const MONO: c_int = 3;
/// `vbr_mode` of lame.h.
const VBR_OFF: c_int = 0;
/// The algorithm's quality, from 0, the best, to 9. 7 takes half the CPU of 5.
const QUALITY: c_int = 7;

type Init = unsafe extern "C" fn() -> *mut c_void;
type Set = unsafe extern "C" fn(*mut c_void, c_int) -> c_int;
type SetNothing = unsafe extern "C" fn(*mut c_void, c_int);
type Run = unsafe extern "C" fn(*mut c_void) -> c_int;
type EncodeInterleaved = unsafe extern "C" fn(*mut c_void, *mut i16, c_int, *mut u8, c_int) -> c_int;
type EncodePlanar = unsafe extern "C" fn(*mut c_void, *const i16, *const i16, c_int, *mut u8, c_int) -> c_int;
type Flush = unsafe extern "C" fn(*mut c_void, *mut u8, c_int) -> c_int;

/// The functions of the library.
struct Functions {
    init: Init,
    set_in_samplerate: Set,
    set_out_samplerate: Set,
    set_num_channels: Set,
    set_mode: Set,
    set_brate: Set,
    set_quality: Set,
    set_vbr: Set,
    set_write_vbr_tag: Set,
    set_disable_reservoir: Set,
    set_write_id3tag: SetNothing,
    init_params: Run,
    encode_interleaved: EncodeInterleaved,
    encode_planar: EncodePlanar,
    flush: Flush,
    close: Run,
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
        let library = Library::open(c"libmp3lame.so.0", "libmp3lame0")?;
        // SAFETY: the types are those of lame.h, unchanged from 3.97 to 3.100. Enumerations are passed as
        // int.
        unsafe {
            Ok(Functions {
                init: library.function(c"lame_init")?,
                set_in_samplerate: library.function(c"lame_set_in_samplerate")?,
                set_out_samplerate: library.function(c"lame_set_out_samplerate")?,
                set_num_channels: library.function(c"lame_set_num_channels")?,
                set_mode: library.function(c"lame_set_mode")?,
                set_brate: library.function(c"lame_set_brate")?,
                set_quality: library.function(c"lame_set_quality")?,
                set_vbr: library.function(c"lame_set_VBR")?,
                set_write_vbr_tag: library.function(c"lame_set_bWriteVbrTag")?,
                set_disable_reservoir: library.function(c"lame_set_disable_reservoir")?,
                set_write_id3tag: library.function(c"lame_set_write_id3tag_automatic")?,
                init_params: library.function(c"lame_init_params")?,
                encode_interleaved: library.function(c"lame_encode_buffer_interleaved")?,
                encode_planar: library.function(c"lame_encode_buffer")?,
                flush: library.function(c"lame_encode_flush")?,
                close: library.function(c"lame_close")?,
            })
        }
    }
}

/// A reason for which LAME gives no encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LameError {
    /// The library is missing.
    Missing(MissingLibrary),
    /// LAME refused the settings, with this error number.
    Refused(i32),
}

/// An encoder of MP3 with a constant bit rate, whose frames stand alone: no bit reservoir, no Xing frame, no
/// ID3 tag.
pub struct Lame {
    functions: &'static Functions,
    /// Valid from `lame_init` to `lame_close` in `drop`; used by nothing else.
    handle: NonNull<c_void>,
    channels: usize,
    bytes: Vec<u8>,
}

// SAFETY: a LAME encoder keeps its state behind the handle and uses nothing of the thread that made it.
// `Lame` is its only owner, and every call takes `&mut self`.
unsafe impl Send for Lame {}

impl Lame {
    /// Returns an encoder for mono or stereo at `rate` Hz, a rate of MPEG-1, 2 or 2.5, with `bitrate` kbit/s.
    ///
    /// # Errors
    ///
    /// The library is missing, or it refuses the settings.
    ///
    /// # Panics
    ///
    /// `channels` is neither 1 nor 2.
    pub fn new(rate: u32, channels: usize, bitrate: u32) -> Result<Lame, LameError> {
        /// LAME fills tables that all its encoders share when one is made.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        assert!(matches!(channels, 1 | 2), "MP3 is mono or stereo");
        let functions = FUNCTIONS.get(Functions::load).map_err(LameError::Missing)?;
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: it takes nothing.
        let handle = NonNull::new(unsafe { (functions.init)() }).ok_or(LameError::Refused(0))?;
        // From here on, `drop` closes the encoder.
        let lame = Lame { functions, handle, channels, bytes: vec![0; MOST_BYTES] };
        let mode = if channels == 1 { MONO } else { JOINT_STEREO };
        for (set, value) in [
            (functions.set_in_samplerate, rate as c_int),
            (functions.set_out_samplerate, rate as c_int),
            (functions.set_num_channels, channels as c_int),
            (functions.set_mode, mode),
            (functions.set_brate, bitrate as c_int),
            (functions.set_quality, QUALITY),
            (functions.set_vbr, VBR_OFF),
            (functions.set_write_vbr_tag, 0),
            (functions.set_disable_reservoir, 1),
        ] {
            // SAFETY: the handle is a new encoder; the function takes it and an int of any value.
            let result = unsafe { set(handle.as_ptr(), value) };
            if result < 0 {
                return Err(LameError::Refused(result));
            }
        }
        // SAFETY: as above; the second one is called once, before anything is encoded.
        let result = unsafe {
            (functions.set_write_id3tag)(handle.as_ptr(), 0);
            (functions.init_params)(handle.as_ptr())
        };
        if result < 0 { Err(LameError::Refused(result)) } else { Ok(lame) }
    }

    /// Encodes interleaved samples, at most [`MOST_FRAMES`] frames. Returns the bytes that are complete,
    /// perhaps none.
    ///
    /// # Errors
    ///
    /// LAME's error number.
    ///
    /// # Panics
    ///
    /// There are more frames, or not a whole number of them.
    pub fn encode(&mut self, pcm: &mut [i16]) -> Result<&[u8], i32> {
        assert!(pcm.len() % self.channels == 0, "whole frames");
        let frames = pcm.len() / self.channels;
        assert!(frames <= MOST_FRAMES, "{frames} frames in one call");
        let (out, room) = (self.bytes.as_mut_ptr(), self.bytes.len() as c_int);
        let handle = self.handle.as_ptr();
        // SAFETY: the encoder is initialised for as many channels. `pcm` holds `frames` samples for each of
        // them: in turn for two, and for one only the first pointer is read. `bytes` has the room that lame.h
        // asks for MOST_FRAMES frames, and its length is passed. Nothing else refers to either meanwhile.
        let count = unsafe {
            if self.channels == 2 {
                (self.functions.encode_interleaved)(handle, pcm.as_mut_ptr(), frames as c_int, out, room)
            } else {
                (self.functions.encode_planar)(handle, pcm.as_ptr(), pcm.as_ptr(), frames as c_int, out, room)
            }
        };
        self.written(count)
    }

    /// Ends the stream: returns the last bytes. Nothing may be encoded afterwards.
    ///
    /// # Errors
    ///
    /// LAME's error number.
    pub fn flush(&mut self) -> Result<&[u8], i32> {
        // SAFETY: the encoder is initialised; `bytes` has the 7200 bytes that lame.h asks for, and its length
        // is passed.
        let count = unsafe {
            (self.functions.flush)(self.handle.as_ptr(), self.bytes.as_mut_ptr(), self.bytes.len() as c_int)
        };
        self.written(count)
    }

    fn written(&self, count: c_int) -> Result<&[u8], i32> {
        usize::try_from(count).ok().and_then(|count| self.bytes.get(..count)).ok_or(count)
    }
}

impl Drop for Lame {
    fn drop(&mut self) {
        // SAFETY: the handle is that of `lame_init`, is closed once, and is not used afterwards.
        unsafe { (self.functions.close)(self.handle.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns `true` where LAME is installed.
    fn is_there() -> bool {
        if let Err(missing) = load() {
            println!("not tested: {missing}");
            return false;
        }
        true
    }

    #[test]
    fn frames_come_out_at_the_bit_rate() {
        if !is_there() {
            return;
        }
        for channels in [1, 2] {
            let mut lame = Lame::new(48_000, channels, 128).expect("settings that LAME takes");
            let mut pcm: Vec<i16> = (0..MOST_FRAMES * channels).map(|n| (n * 7919) as i16).collect();
            let mut bytes = 0;
            for _ in 0..100 {
                bytes += lame.encode(&mut pcm).expect("no error").len();
            }
            bytes += lame.flush().expect("no error").len();
            // 384 bytes a frame.
            assert!((100 * 384..=103 * 384).contains(&bytes), "{bytes} bytes of {channels} channels");
        }
    }

    #[test]
    fn any_number_of_frames_is_taken_up_to_the_bound() {
        if !is_there() {
            return;
        }
        let mut lame = Lame::new(44_100, 2, 320).expect("settings that LAME takes");
        for frames in (0..=MOST_FRAMES).step_by(96) {
            lame.encode(&mut vec![i16::MIN; 2 * frames]).expect("no error");
        }
    }

    #[test]
    fn impossible_settings_are_an_error() {
        if is_there() {
            assert!(matches!(Lame::new(7, 2, 128), Err(LameError::Refused(_))));
        }
    }
}
