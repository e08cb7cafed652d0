//! Sound goes out; knows nothing of ALSA.
//!
//! A request's way: [`server`] → [`access`] (who may) → [`request`] (what is asked for) → for a stream, [`player`] (who asks) →
//! [`plan`] (what exactly goes out) → [`stream`] (ring → socket) and, for all who keep up together,
//! [`fanout`]; for a file of the past, [`past`] instead of [`plan`]; for the page's meters, [`levels`]; for
//! everything else a short answer ([`page`], [`status`], [`playlist`]).

pub mod access;
pub mod byte_range;
pub mod context;
pub mod event_stream;
pub mod handlers;
pub mod players;
mod response;
pub mod response_head;
pub mod server;
pub mod stream_response;
pub mod target;
pub mod tiny;

/// The Server header.
const SERVER: &str = concat!("wavecast/", env!("CARGO_PKG_VERSION"));
