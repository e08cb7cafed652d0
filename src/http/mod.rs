//! Sound goes out; knows nothing of ALSA.
//!
//! A request's way: [`server`] → [`access`] (who may) → [`request`] (what is asked for) → for a stream, [`player`] (who asks) →
//! [`plan`] (what exactly goes out) → [`stream`] (ring → socket) and, for all who keep up together,
//! [`fanout`]; for a file of the past, [`past`] instead of [`plan`]; for the page's meters, [`levels`]; for
//! everything else a short answer ([`page`], [`status`], [`playlist`]).

mod acceptor;
pub mod access;
mod answer;
mod bans;
mod chunk;
mod cors;
mod dismiss;
pub mod fanout;
pub mod gate;
pub mod guard;
pub mod levels;
pub mod listeners;
mod own_thread;
pub mod page;
pub mod past;
pub mod plan;
pub mod player;
pub mod playlist;
pub mod request;
pub mod server;
mod sockets;
pub mod status;
pub mod stream;
pub mod stuck;

/// The Server header.
const SERVER: &str = concat!("wavecast/", env!("CARGO_PKG_VERSION"));
