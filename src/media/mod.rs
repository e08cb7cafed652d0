//! Sound in memory: sample formats, the level meter, the spectrum, the WAV header, and the ring that shares sound between threads.
//!
//! This module does no I/O.

pub mod format;
pub mod level_history;
pub mod meter;
pub mod ring;
pub mod spectrum;
pub mod wav;
