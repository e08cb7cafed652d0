//! The messages of other threads to the gate's thread, and the connections that are on their way to a handler.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};

use super::connection::{Connection, Released};
use super::{ListenerId, Policy};

/// The state that the gate's thread shares with all others.
///
/// The two locks are held for single operations on the collection inside, and never together.
pub(super) struct Mailbox {
    /// Wakes the gate's thread out of epoll_wait(2).
    wake: OwnedFd,
    /// The set of descriptors that the gate's thread waits for. Others only remove theirs.
    pub(super) epoll: OwnedFd,
    /// Messages that the gate's thread has not read. Written by all, emptied by the gate's thread.
    messages: Mutex<Vec<Message>>,
    /// The connections whose request is inside tiny_http, by their number. The gate's thread adds, workers
    /// remove.
    parsing: Mutex<HashMap<u64, Connection>>,
    /// Turns of the gate's thread. Written by that thread alone.
    pub(super) turns: AtomicU64,
    /// Connections that have a place. Written by the gate's thread alone.
    pub(super) connections: AtomicUsize,
}

/// A message to the gate's thread.
pub(super) enum Message {
    /// A connection whose answer was sent except for these bytes.
    Answered(Connection, Vec<u8>),
    /// Something that a handler or a listener held and gives back.
    Released(Released),
    Open(TcpListener, Sender<io::Result<ListenerId>>),
    Close(ListenerId, Sender<()>),
    HandOver(ListenerId, Sender<()>),
    IsIdle(Sender<bool>),
    SetPolicy(Policy, Sender<()>),
    /// Nothing but a turn of the thread.
    Ping,
    /// Ends a connection to tiny_http, as a bug there would.
    #[cfg(test)]
    BreakLink,
    /// Panics in the gate's thread.
    #[cfg(test)]
    Panic,
}

impl Mailbox {
    pub(super) fn new(wake_token: u64) -> io::Result<Arc<Mailbox>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(wake_token), EventFlags::IN)?;
        Ok(Arc::new(Mailbox {
            wake,
            epoll,
            messages: Mutex::default(),
            parsing: Mutex::default(),
            turns: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
        }))
    }

    /// Leaves a message for the gate's thread.
    pub(super) fn send(&self, message: Message) {
        let mut messages = lock(&self.messages);
        messages.push(message);
        let is_first = messages.len() == 1;
        drop(messages);
        // For a later message the thread is on its way already.
        if is_first {
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    /// Takes all messages out. To be called by the gate's thread.
    pub(super) fn receive(&self) -> Vec<Message> {
        // First this, so that a message that comes after the lock is released wakes the thread again.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        std::mem::take(&mut *lock(&self.messages))
    }

    /// Keeps a connection while tiny_http parses its request.
    pub(super) fn put_parsing(&self, connection: Connection) {
        lock(&self.parsing).insert(connection.id(), connection);
    }

    /// Takes the connection of a parsed request out. `None` after tiny_http was started again.
    pub(super) fn claim_parsed(&self, id: u64) -> Option<Connection> {
        lock(&self.parsing).remove(&id)
    }

    /// Takes all connections out whose request is inside tiny_http.
    pub(super) fn drain_parsing(&self) -> Vec<Connection> {
        lock(&self.parsing).drain().map(|(_, connection)| connection).collect()
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
}

/// Locks, also after a panic of another thread: each operation on these collections is complete or did not
/// happen.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
