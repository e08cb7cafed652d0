//! The operating system: clock, sockets, limits, names of this machine, log. The only module with unsafe code.

pub mod clock;
pub mod dl;
pub mod host;
pub mod lame;
pub mod limits;
pub mod logging;
pub mod opus;
pub mod panics;
pub(crate) mod reserve_threads;
pub mod socket;
pub(crate) mod sort;
pub(crate) mod threads;
pub mod tiny;
