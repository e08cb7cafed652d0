//! Sound in memory: its format, its level, the ring that shares it, the WAV header. Does no I/O.

pub(crate) mod bytes;
pub mod format;
pub mod meter;
pub mod ring;
pub mod wav;
