//! What the operating system's facts mean to wavecast.

pub mod client_key;
