//! The messages of other threads to the gate's thread.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};

/// The state that the gate's thread shares with all others: messages of type `M`, and two counters.
pub(super) struct Mailbox<M> {
    /// Wakes the gate's thread out of epoll_wait(2).
    wake: OwnedFd,
    /// The set of descriptors that the gate's thread waits for. Others only remove theirs.
    pub(super) epoll: OwnedFd,
    /// Messages that the gate's thread has not read. Written by all, emptied by the gate's thread. The lock is held
    /// for single operations, and no other lock is taken meanwhile.
    messages: Mutex<Vec<M>>,
    /// Turns of the gate's thread. Written by that thread alone.
    pub(super) turns: AtomicU64,
    /// Connections that have a place. Written by the gate's thread alone.
    pub(super) connections: AtomicUsize,
}

impl<M> Mailbox<M> {
    pub(super) fn new(wake_token: u64) -> io::Result<Arc<Mailbox<M>>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(wake_token), EventFlags::IN)?;
        Ok(Arc::new(Mailbox {
            wake,
            epoll,
            messages: Mutex::default(),
            turns: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
        }))
    }

    /// Leaves a message for the gate's thread.
    pub(super) fn send(&self, message: M) {
        let mut messages = self.lock();
        messages.push(message);
        let is_first = messages.len() == 1;
        drop(messages);
        // For a later message the thread is on its way already.
        if is_first {
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    /// Takes all messages out. To be called by the gate's thread.
    pub(super) fn receive(&self) -> Vec<M> {
        // First this, so that a message that comes after the lock is released wakes the thread again.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        std::mem::take(&mut *self.lock())
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Locks, also after a panic of another thread: each operation on the list is complete or did not happen.
    fn lock(&self) -> MutexGuard<'_, Vec<M>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
