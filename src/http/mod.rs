//! HTTP: requests come in, short responses and streams go out. Knows nothing of ALSA.
//!
//! The way of a request: [`gate`] (accepts, reads the head, applies the limits) → tiny_http (parses) → [`server`] →
//! `exchange` (the request and its connection) → `router` ([`access`]: may this client listen?
//! [`target`]: which endpoint?) → one of the [`handlers`]. A short [response] is rendered by tiny_http and
//! goes back through the gate. For a stream ([`stream_response`], [`players`]) and for the events of the page
//! ([`event_stream`]) the handler takes the socket out of the gate.

pub mod access;
pub mod byte_range;
pub mod context;
mod date;
pub mod event_stream;
mod exchange;
pub mod gate;
pub mod handlers;
mod listener_log;
mod page_state;
mod password_queue;
pub mod players;
mod refusal_log;
mod response;
pub mod response_head;
mod router;
pub mod server;
pub mod stream_response;
pub mod target;

/// The Server header.
const SERVER: &str = concat!("wavecast/", env!("CARGO_PKG_VERSION"));
