//! Listeners of the servers: real players, which join late and write the sound that they would play.

use crate::LONG;
use crate::support::players::{Playing, ffmpeg, mpv_in_16_bits, vlc_to_card};

/// A player that writes samples of 16 bits.
pub(crate) struct Player {
    playing: Playing,
    /// The sound that no test has read yet.
    rest: Vec<u8>,
}

impl Player {
    /// Starts ffmpeg.
    pub(crate) fn ffmpeg(url: &str) -> Player {
        Player { playing: Playing::start(&mut ffmpeg(url, "s16le")), rest: Vec::new() }
    }

    /// Starts mpv.
    pub(crate) fn mpv(url: &str) -> Player {
        Player { playing: Playing::start(&mut mpv_in_16_bits(url)), rest: Vec::new() }
    }

    /// Starts VLC.
    pub(crate) fn vlc(url: &str) -> Player {
        Player { playing: Playing::start(&mut vlc_to_card(url)), rest: Vec::new() }
    }

    /// Waits until it has played `bytes` bytes more, and returns them.
    pub(crate) fn hear(&mut self, bytes: usize) -> Vec<u8> {
        let Player { playing, rest } = self;
        playing.hear_within(LONG, &format!("{bytes} bytes of sound"), |more| {
            rest.extend_from_slice(more);
            rest.len() >= bytes
        });
        rest.drain(..bytes).collect()
    }
}

/// Returns `true` if sound of 16 bits is no silence.
pub(crate) fn is_loud(sound: &[u8]) -> bool {
    let loud = sound
        .chunks_exact(2)
        .filter(|sample| i16::from_le_bytes([sample[0], sample[1]]).unsigned_abs() > 500);
    loud.count() > sound.len() / 2 / 10
}

/// Returns `true` if sound of 16 bits is silence, but for what a decoder leaves of the sound before.
pub(crate) fn is_silent(sound: &[u8]) -> bool {
    sound.chunks_exact(2).all(|sample| i16::from_le_bytes([sample[0], sample[1]]).unsigned_abs() < 10)
}
