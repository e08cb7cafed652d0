//! The operating system: clocks, futexes, sockets, limits, the names and addresses of this machine, log and panics. The
//! only module with unsafe code.

pub mod clock;
pub(crate) mod futex;
pub mod host;
pub mod limits;
pub mod logging;
pub mod panics;
pub(crate) mod reserve_threads;
pub mod socket;
pub(crate) mod sort;
pub(crate) mod threads;
pub mod tiny;
