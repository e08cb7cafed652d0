//! What all threads share: the inputs that run, the listeners there are, the settings of the hour.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use crate::audio::input::LiveInput;
use crate::config;
use crate::http::listeners::Listeners;

/// Shared by the main thread, which changes it, and every handler of a request, which reads it. No capture
/// thread knows it.
pub struct Hub {
    /// When the program began.
    pub started: Instant,
    /// Who listens.
    pub listeners: Arc<Listeners>,
    inputs: RwLock<Vec<Arc<LiveInput>>>,
    settings: RwLock<Arc<config::Listeners>>,
}

impl Hub {
    /// A hub without inputs.
    pub fn new(settings: config::Listeners) -> Hub {
        Hub {
            started: Instant::now(),
            listeners: Arc::default(),
            inputs: RwLock::default(),
            settings: RwLock::new(Arc::new(settings)),
        }
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

    /// Puts other inputs in place.
    pub fn set_inputs(&self, inputs: Vec<Arc<LiveInput>>) {
        *self.inputs.write().unwrap_or_else(PoisonError::into_inner) = inputs;
    }

    /// Puts other settings in place; listeners that are there take them on as they go.
    pub fn set_settings(&self, settings: config::Listeners) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}
