//! The pushes that run, as the rest of the program sees them: state and counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// The pushes that run, in the order of the configuration.
#[derive(Default)]
pub struct Pushes {
    /// Written by the main thread, read by handlers.
    all: RwLock<Vec<Arc<LivePush>>>,
}

impl Pushes {
    /// Returns all pushes.
    pub fn all(&self) -> Vec<Arc<LivePush>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the push of that name.
    pub fn find(&self, name: &str) -> Option<Arc<LivePush>> {
        self.all().into_iter().find(|push| push.name == name)
    }

    /// Replaces all pushes.
    pub fn set(&self, pushes: Vec<Arc<LivePush>>) {
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = pushes;
    }
}

/// A running push. The push's thread writes it, handlers read it.
pub struct LivePush {
    /// The name in the configuration.
    pub name: String,
    /// The name of its input.
    pub input: String,
    /// The server and the mount; no secret is part of it.
    pub to: String,
    /// The name of the format in the configuration.
    pub format: &'static str,
    /// The bit rate in kbit/s; 0 for FLAC, and before the input's format is known.
    pub bitrate: AtomicU64,
    /// The counters.
    pub counters: PushCounters,
    state: RwLock<PushState>,
}

/// The counters of a push since it began.
#[derive(Default)]
pub struct PushCounters {
    /// Bytes of the stream that the kernel took.
    pub sent_bytes: AtomicU64,
    /// Packets, which are Ogg pages or MP3 frames, that were dropped because the server was slow.
    pub dropped_packets: AtomicU64,
    /// Frames that were overwritten before the push has read them.
    pub lost_frames: AtomicU64,
    /// Connections after the first one that was on the air.
    pub reconnects: AtomicU64,
    /// The length of the sound that waits for the server, in ms.
    pub queue_ms: AtomicU64,
}

impl PushCounters {
    /// Returns the value of a counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// The state of a push, for people and programs.
#[derive(Clone, Debug)]
pub struct PushState {
    /// The phase.
    pub phase: PushPhase,
    /// Time of the last change of the phase.
    pub since: Instant,
    /// The reason of the phase and the remedy; empty while there is nothing to say.
    pub detail: String,
    /// The last words of the server; empty if it has said nothing.
    pub server_says: String,
    /// The time of the next try; `None` while none is planned.
    pub next_try: Option<Instant>,
}

/// The phase of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushPhase {
    /// The input has had no sound since the start.
    Waiting,
    /// A connection is being made, or was taken and has to last a moment yet.
    Connecting,
    /// The server takes the stream.
    OnTheAir,
    /// The mount has another source, which often is the push's last connection.
    InUse,
    /// The server does not want this stream as it is configured.
    Refused,
    /// The server is out of reach, or the connection is lost.
    Unreachable,
    /// The push cannot run here: the encoder, a file or a thread is missing.
    Failed,
}

impl PushPhase {
    /// Returns the words in `/status.json`.
    pub const fn name(self) -> &'static str {
        match self {
            PushPhase::Waiting => "waiting for sound",
            PushPhase::Connecting => "connecting",
            PushPhase::OnTheAir => "on the air",
            PushPhase::InUse => "mount in use",
            PushPhase::Refused => "refused",
            PushPhase::Unreachable => "unreachable",
            PushPhase::Failed => "failed",
        }
    }
}

impl LivePush {
    /// A push that has not begun.
    pub fn new(name: &str, input: &str, to: &str, format: &'static str) -> LivePush {
        LivePush {
            name: name.to_owned(),
            input: input.to_owned(),
            to: to.to_owned(),
            format,
            bitrate: AtomicU64::new(0),
            counters: PushCounters::default(),
            state: RwLock::new(PushState {
                phase: PushPhase::Waiting,
                since: Instant::now(),
                detail: String::new(),
                server_says: String::new(),
                next_try: None,
            }),
        }
    }

    /// Returns a copy of the state.
    pub fn state(&self) -> PushState {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the state. If that changes the phase, [`PushState::since`] becomes now.
    pub fn change(&self, change: impl FnOnce(&mut PushState)) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = state.phase;
        change(&mut state);
        if state.phase != before {
            state.since = Instant::now();
        }
    }

    /// Returns status code and text of `/healthz/push/NAME`: 200 on the air, 503 with the reason otherwise.
    pub fn health(&self) -> (u16, String) {
        let state = self.state();
        match state.phase {
            PushPhase::OnTheAir => (200, "ok".to_owned()),
            phase if state.detail.is_empty() => (503, format!("{} is {}", self.name, phase.name())),
            phase => (503, format!("{} is {}: {}", self.name, phase.name(), state.detail)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_healthy_on_the_air_only() {
        let push = LivePush::new("radio", "live", "icecast://a:8000/b", "flac");
        assert_eq!(push.health(), (503, "radio is waiting for sound".to_owned()));
        push.change(|state| state.phase = PushPhase::OnTheAir);
        assert_eq!(push.health(), (200, "ok".to_owned()));
        push.change(|state| {
            state.phase = PushPhase::Refused;
            state.detail = "wrong password".to_owned();
        });
        assert_eq!(push.health(), (503, "radio is refused: wrong password".to_owned()));
    }

    #[test]
    fn a_phase_begins_when_it_changes() {
        let push = LivePush::new("radio", "live", "icecast://a:8000/b", "flac");
        let since = push.state().since;
        push.change(|state| state.detail = "new".to_owned());
        assert_eq!(push.state().since, since);
    }
}
