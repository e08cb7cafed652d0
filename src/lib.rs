//! wavecast: live, uncompressed sound from an ALSA input to every player on the network.

pub mod audio;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod http;
pub mod hub;
pub mod logging;
pub mod os;
pub mod ring;
pub mod wav;
