//! What all threads share: the inputs that run, the listeners there are, the settings of the hour.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::audio::input::LiveInput;
use crate::config::{self, Interval};
use crate::http::access::Access;
use crate::http::fanout::Fanouts;
use crate::http::levels::Pages;
use crate::http::listeners::Listeners;
use crate::http::stuck::Stuck;

/// Shared by the main thread, which changes it, and every handler of a request, which reads it. No capture
/// thread knows it.
pub struct Hub {
    /// When the program began.
    pub started: Instant,
    /// Who listens.
    pub listeners: Arc<Listeners>,
    /// Those of them that keep up.
    pub fanouts: Fanouts,
    /// Who looks at the page.
    pub pages: Pages,
    /// Requests that stay for ever.
    pub stuck: Stuck,
    inputs: RwLock<Vec<Arc<LiveInput>>>,
    settings: RwLock<Arc<config::Listeners>>,
    access: RwLock<Arc<Access>>,
    limits: RwLock<Arc<config::Limits>>,
    /// The settings' interval in µs, 0 for `auto`: asked for at every wake-up of every listener.
    interval_us: AtomicU32,
}

impl Hub {
    /// A hub without inputs.
    pub fn new(settings: config::Listeners, limits: config::Limits, access: Access) -> Hub {
        let hub = Hub {
            started: Instant::now(),
            listeners: Arc::default(),
            fanouts: Fanouts::default(),
            pages: Pages::default(),
            stuck: Stuck::default(),
            inputs: RwLock::default(),
            settings: RwLock::default(),
            access: RwLock::new(Arc::new(access)),
            limits: RwLock::new(Arc::new(limits)),
            interval_us: AtomicU32::new(0),
        };
        hub.set_settings(settings);
        hub
    }

    /// The inputs in the order of the configuration; the first is the default one.
    pub fn inputs(&self) -> Vec<Arc<LiveInput>> {
        self.inputs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The input of that name.
    pub fn input(&self, name: &str) -> Option<Arc<LiveInput>> {
        self.inputs().into_iter().find(|input| input.name == name)
    }

    /// How listeners are served now.
    pub fn settings(&self) -> Arc<config::Listeners> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who may listen now.
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What strangers may take of the machine now.
    pub fn limits(&self) -> Arc<config::Limits> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often listeners are served now. Takes no lock.
    pub fn interval(&self) -> Interval {
        match self.interval_us.load(Ordering::Relaxed) {
            0 => Interval::Auto,
            us => Interval::Every(Duration::from_micros(us.into())),
        }
    }

    /// Puts other inputs in place.
    pub fn set_inputs(&self, inputs: Vec<Arc<LiveInput>>) {
        *self.inputs.write().unwrap_or_else(PoisonError::into_inner) = inputs;
    }

    /// Puts other rules in place, for those who ask from now on.
    pub fn set_access(&self, access: Access) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }

    /// Puts other limits in place, for those who are there too.
    pub fn set_limits(&self, limits: config::Limits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }

    /// Puts other settings in place; listeners that are there take them on as they go.
    pub fn set_settings(&self, settings: config::Listeners) {
        let interval_us = match settings.interval {
            Interval::Auto => 0,
            // At least 1 ms and at most 1 s, says the configuration.
            Interval::Every(interval) => interval.as_micros() as u32,
        };
        self.interval_us.store(interval_us, Ordering::Relaxed);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}
