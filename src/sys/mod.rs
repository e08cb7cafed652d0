//! The operating system: clocks, futexes, sockets, limits, memory, the names and addresses of this machine, log and panics. The
//! only module with unsafe code.

pub mod burst;
pub mod client_key;
pub mod clock;
pub mod dl;
pub(crate) mod futex;
pub mod host;
pub mod lame;
pub mod limits;
pub mod logging;
pub mod memory;
pub mod opus;
pub mod panics;
pub mod socket;
pub mod system_bus;
