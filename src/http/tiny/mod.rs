//! What tiny_http 0.12 needs around it; replaced by the gate.
pub(crate) mod acceptor;
pub(crate) mod bans;
pub(crate) mod dismiss;
pub mod guard;
pub(crate) mod sockets;
pub mod stuck;
