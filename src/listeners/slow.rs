//! The policy for listeners that are too slow.
//!
//! The kernel holds [`send_buffer_ms`](crate::config::Listeners::send_buffer) of sound for a listener. A listener that
//! reads more slowly than that falls behind the live edge in the ring. Beyond
//! [`max_lag_ms`](crate::config::Listeners::max_lag) this policy decides.

use crate::config::WhenBehind;

/// The action for one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send the next frames.
    Continue,
    /// Leave frames out and continue this many frames behind the live edge.
    SkipTo(u64),
    /// End the connection, so that the client knows that frames are missing.
    Disconnect,
}

/// Returns the action for a listener that is `lag` frames behind the live edge.
///
/// A lag of up to `limit` frames is allowed. A listener that skips continues `resume_at` frames behind the live edge.
pub(super) fn decide(lag: u64, limit: u64, policy: WhenBehind, resume_at: u64) -> Action {
    if lag <= limit {
        return Action::Continue;
    }
    match policy {
        WhenBehind::Skip => Action::SkipTo(resume_at),
        WhenBehind::Disconnect => Action::Disconnect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_may_lag_up_to_the_limit() {
        for (lag, limit, policy, resume_at, action) in [
            (0, 0, WhenBehind::Skip, 0, Action::Continue),
            (1, 0, WhenBehind::Skip, 0, Action::SkipTo(0)),
            (96_000, 96_000, WhenBehind::Skip, 0, Action::Continue),
            (96_001, 96_000, WhenBehind::Skip, 0, Action::SkipTo(0)),
            // A listener that asked for `back=` continues there.
            (1_056_001, 1_056_000, WhenBehind::Skip, 960_000, Action::SkipTo(960_000)),
            (96_000, 96_000, WhenBehind::Disconnect, 0, Action::Continue),
            (96_001, 96_000, WhenBehind::Disconnect, 0, Action::Disconnect),
            (u64::MAX, u64::MAX, WhenBehind::Disconnect, 0, Action::Continue),
        ] {
            assert_eq!(decide(lag, limit, policy, resume_at), action, "{lag} of {limit}, {policy:?}");
        }
    }
}
