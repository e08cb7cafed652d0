//! The state that the handlers of requests share: inputs, listeners, subscribers of events, settings, access rules.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use super::access::{Access, Verdict};
use super::event_stream::EventSubscribers;
use super::exchange::Exchange;
use super::listener_log::ListenerLog;
use super::page_state::page_state;
use super::password_queue::PasswordQueue;
use super::refusal_log::RefusalLog;
use crate::config;
use crate::encode::Encodings;
use crate::inputs::{Inputs, LiveInput};
use crate::listeners::Listeners;
use crate::pushes::Pushes;
use crate::settings::Settings;

/// The state that the main thread changes and every thread that handles a request reads. No capture thread knows it.
pub struct Context {
    /// Start of the daemon.
    pub started: Instant,
    /// The inputs that run. Written by the main thread.
    pub inputs: Arc<Inputs>,
    /// The pushes that run. Written by the main thread.
    pub pushes: Arc<Pushes>,
    /// The settings that a reload replaces. Written by the main thread.
    pub settings: Arc<Settings>,
    /// The clients that listen.
    pub listeners: Arc<Listeners>,
    /// The encodings in use.
    pub encodings: Arc<Encodings>,
    /// The open pages that receive `/NAME/levels`.
    pub subscribers: Arc<EventSubscribers>,
    /// True if a listening socket is for other machines: its address is not one of the loopback. Written by the main
    /// thread.
    pub reachable: AtomicBool,
    /// Limits the log lines about new listeners.
    pub(crate) listener_log: ListenerLog,
    /// The log lines about refused clients.
    pub(crate) refusals: RefusalLog,
    /// Requests that wait for their password to be hashed.
    pub(crate) passwords: PasswordQueue,
    /// The access rules in force. Written by the main thread at a reload, read by every thread that handles a request. The
    /// lock is held to copy or to replace the pointer.
    access: RwLock<Arc<Access>>,
}

impl Context {
    /// Returns a context without inputs.
    pub fn new(listeners: config::Listeners, limits: config::Limits, access: Access) -> Context {
        let settings = Arc::new(Settings::new(listeners, limits));
        let inputs: Arc<Inputs> = Arc::default();
        let listeners = Arc::new(Listeners::new(Arc::clone(&settings)));
        let encodings = Arc::new(Encodings::new(Arc::clone(&settings)));
        let pushes: Arc<Pushes> = Arc::default();
        let state = {
            let (inputs, listeners) = (Arc::clone(&inputs), Arc::clone(&listeners));
            let (encodings, pushes) = (Arc::clone(&encodings), Arc::clone(&pushes));
            move |input: &LiveInput| Some(page_state(&inputs, &listeners, &encodings, &pushes, input))
        };
        Context {
            started: Instant::now(),
            subscribers: Arc::new(EventSubscribers::new(Arc::clone(&inputs), Box::new(state))),
            inputs,
            pushes,
            listeners,
            encodings,
            settings,
            reachable: AtomicBool::new(false),
            listener_log: ListenerLog::default(),
            refusals: RefusalLog::default(),
            passwords: PasswordQueue::default(),
            access: RwLock::new(Arc::new(access)),
        }
    }

    /// Returns the input of that name.
    pub fn input(&self, name: &str) -> Option<Arc<LiveInput>> {
        self.inputs.find(name)
    }

    /// Returns the access rules in force.
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the access rules in force, if they allow the request. Other rules may have allowed it: a request waits for a card
    /// or a password check, and a reload replaces the rules meanwhile. A password counts only if these rules have seen it.
    pub(crate) fn recheck(&self, exchange: &Exchange) -> Option<Arc<Access>> {
        let access = self.access();
        let is_allowed = exchange.is_allowed_by(&access)
            || matches!(access.check(&exchange.facts()), Ok(Verdict::Allowed(_)));
        is_allowed.then_some(access)
    }

    /// Returns `true` if these are the rules in force. A reload that comes later finds the listener on the list.
    pub(crate) fn is_in_force(&self, access: &Arc<Access>) -> bool {
        Arc::ptr_eq(access, &self.access())
    }

    /// Replaces the access rules, for requests that come from now on.
    pub fn set_access(&self, access: Access) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }
}
