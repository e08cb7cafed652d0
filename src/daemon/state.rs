//! The state of the main thread, the only one that changes what runs.

use std::sync::Arc;

use super::announce::Announcer;
use super::capacity::Capacity;
use super::listening::Listening;
use super::pushes::RunningPushes;
use super::running::RunningInputs;
use super::systemd::Service;
use crate::http::context::Context;

/// The state of the main thread.
pub(super) struct Daemon {
    pub(super) context: Arc<Context>,
    pub(super) capacity: Capacity,
    pub(super) listening: Listening,
    /// The announcement on the local network, of a daemon that is a service.
    pub(super) announcer: Announcer,
    pub(super) inputs: RunningInputs,
    pub(super) pushes: RunningPushes,
    pub(super) service: Service,
    /// `true` once the service manager was told that the daemon is ready: at least one socket is served.
    pub(super) ready: bool,
    /// The server's heartbeats at the last check.
    pub(super) heartbeats: u64,
}
