//! Settings that a reload of the configuration replaces while the daemon runs.
//!
//! The main thread writes them; the threads that serve clients read them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::config::{self, Interval};

/// The tables `[listeners]`, `[limits]` and `[encoders]` as they are in force now.
#[derive(Default)]
pub struct Settings {
    /// Written by the main thread, read by listener and handler threads.
    listeners: RwLock<Arc<config::Listeners>>,
    /// Written by the main thread, read by handler threads.
    limits: RwLock<Arc<config::Limits>>,
    /// Written by the main thread, read by handler threads.
    encoders: RwLock<Arc<config::Encoders>>,
    /// `[listeners] interval` in µs, 0 for `auto`. A copy beside the lock: the fan-out reads it at every wake-up.
    interval_us: AtomicU32,
}

impl Settings {
    /// Settings with these values.
    pub fn new(listeners: config::Listeners, limits: config::Limits) -> Settings {
        let settings = Settings::default();
        settings.set_listeners(listeners);
        settings.set_limits(limits);
        settings
    }

    /// Returns the table `[listeners]`.
    pub fn listeners(&self) -> Arc<config::Listeners> {
        Arc::clone(&self.listeners.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the table `[limits]`.
    pub fn limits(&self) -> Arc<config::Limits> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the table `[encoders]`.
    pub fn encoders(&self) -> Arc<config::Encoders> {
        Arc::clone(&self.encoders.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns `[listeners] interval`. Takes no lock.
    pub fn interval(&self) -> Interval {
        match self.interval_us.load(Ordering::Relaxed) {
            0 => Interval::Auto,
            us => Interval::Every(Duration::from_micros(us.into())),
        }
    }

    /// Replaces the table `[listeners]`. Connected listeners follow in their interval, their allowed lag and the policy for
    /// slow listeners; their send buffer and stall timeout stay those of their start.
    pub fn set_listeners(&self, listeners: config::Listeners) {
        let interval_us = match listeners.interval {
            Interval::Auto => 0,
            // The configuration allows 1 ms to 1 s.
            Interval::Every(interval) => interval.as_micros() as u32,
        };
        self.interval_us.store(interval_us, Ordering::Relaxed);
        *self.listeners.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(listeners);
    }

    /// Replaces the table `[limits]`.
    pub fn set_limits(&self, limits: config::Limits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }

    /// Replaces the table `[encoders]`, for encoders that start from now on.
    pub fn set_encoders(&self, encoders: config::Encoders) {
        *self.encoders.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(encoders);
    }
}
