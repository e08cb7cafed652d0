//! wavecast: live, uncompressed sound from an ALSA input to every player on the network.
//!
//! This is the library behind the program `wavecast`; it is one so that tests and benchmarks reach its parts.
//!
//! # The map
//!
//! ```text
//! card ── capture thread ──▶ ring ──▶ listener threads ──▶ sockets    (one capture thread and one ring per
//!               │                            ▲                         input; one listener thread for all who
//!               └─▶ state, counters ─────────┴──▶ page, status         keep up, and one for each who does not)
//! ```
//!
//! | | |
//! |---|---|
//! | [`audio`] | sound comes in; knows nothing of HTTP |
//! | [`ring`] | the lock-free broadcast ring between the two: one writer, many readers, nobody waits |
//! | [`wav`] | the header, for endless and for finite streams |
//! | [`http`] | sound goes out; knows nothing of ALSA |
//! | `src/page` | the page, as a browser gets it; [`http::page`] serves it, [`http::levels`] feeds its meters |
//! | [`hub`] | what all threads share: inputs, listeners, settings |
//! | [`daemon`] | the main thread: signals, what capture threads report, the end |
//! | [`service`] | systemd: ready, how it is, that it lives, and the sockets that it holds for us |
//! | [`password`] | the file of users, and how one is checked |
//! | [`addresses`] | by which addresses others reach this machine |
//! | [`config`], [`cli`], [`logging`] | what a person says to it, and what it says to a person |
//! | [`panics`] | what is said of a bug, instead of a backtrace |
//! | [`os`] | the clock, limits, priorities; the only unsafe code |
//!
//! # A sample's way
//!
//! [`audio::alsa`] reads a period from the card, [`audio::convert`] makes it what listeners get,
//! [`audio::capture`] publishes it into the [`ring`] with the time at which it was captured, and
//! [`http::stream`] and [`http::fanout`] copy it out and hand it to the kernel. Nothing on this way allocates per
//! block or waits for anybody further down; up to the ring nothing locks.

#![deny(unsafe_code)]

pub mod capture;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod encode;
pub mod http;
pub mod inputs;
pub mod listeners;
pub mod media;
pub mod settings;
pub mod sys;
