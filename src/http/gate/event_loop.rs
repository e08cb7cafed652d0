//! The gate's thread: waits, and gives each event to the code for it.

use std::io;
use std::net::TcpListener;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event};

use super::connection::{Client, Message};
use super::listen::ListenerId;
use super::state::{LINK, LISTENER, State, WAKE};

/// A client that connected so recently and has not asked is about to ask.
const ABOUT_TO_ASK: Duration = Duration::from_millis(500);
/// A pause after a panic, so that one that comes again at once does not take a processor.
const PANIC_PAUSE: Duration = Duration::from_millis(20);
/// Events of one turn.
const EVENTS: usize = 256;

/// The loop of the gate's thread.
pub(super) struct EventLoop {
    state: State,
    /// Something of this turn has ended in a panic.
    has_panicked: bool,
}

impl EventLoop {
    /// Starts tiny_http for the gate of that state.
    ///
    /// # Errors
    ///
    /// When the operating system has no descriptor or no thread left.
    pub(super) fn new(mut state: State) -> io::Result<EventLoop> {
        state.start_inner(Instant::now())?;
        Ok(EventLoop { state, has_panicked: false })
    }

    /// Runs until the process ends.
    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            self.turn(&mut events);
            if self.has_panicked {
                thread::sleep(PANIC_PAUSE);
            }
            self.state.mailbox.connections.store(self.state.shares.total(), Ordering::Relaxed);
            self.state.mailbox.turns.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn turn(&mut self, events: &mut Vec<Event>) {
        let timeout = match self.has_panicked {
            // The panic may have left a request queued that nothing else would wake the thread for.
            true => Some(Duration::ZERO),
            false => self.state.next_event().map(|time| time.saturating_duration_since(Instant::now())),
        };
        self.has_panicked = false;
        let timeout = timeout.and_then(|time| rustix::time::Timespec::try_from(time).ok());
        events.clear();
        // EINTR is a turn without events.
        let _ = epoll::wait(&self.state.mailbox.epoll, spare_capacity(events), timeout.as_ref());
        let now = Instant::now();
        let mut is_woken = false;
        for event in events.iter() {
            let Event { data, flags } = *event;
            match data.u64() {
                WAKE => is_woken = true,
                token if token & LISTENER != 0 => {
                    self.catch_panic(|gate| gate.accept(ListenerId(token & !LISTENER), now));
                }
                token if token & LINK != 0 => self.catch_panic(|gate| gate.progress_link(token & !LINK)),
                id => self.catch_panic(|gate| gate.on_event(id, flags, now)),
            }
        }
        if is_woken {
            for message in self.state.mailbox.receive() {
                self.catch_panic(|gate| gate.on_message(message, now));
            }
        }
        self.catch_panic(|gate| {
            gate.resume_accept(now);
            gate.end_overdue(now);
            gate.shares.resume(now);
            gate.pass_on(now);
        });
    }

    /// Does one thing, and goes on after a panic. The panic hook has logged it.
    ///
    /// A connection that is changed at that moment is dropped, and gives its place back. Everything else is
    /// consistent between two operations on the table. No other event or message is lost: an edge-triggered
    /// event does not come again.
    fn catch_panic(&mut self, work: impl FnOnce(&mut State)) {
        self.has_panicked |= panic::catch_unwind(AssertUnwindSafe(|| work(&mut self.state))).is_err();
    }
}

impl State {
    /// Returns the time of the next thing to do without an event.
    fn next_event(&self) -> Option<Instant> {
        let times =
            [self.table.next_deadline(), self.shares.next_token(), self.accept_pause, self.restart_time()];
        times.into_iter().flatten().min()
    }

    /// Opens a listening socket, and closes it again if nobody waits for its number any more.
    fn open_for(&mut self, listener: TcpListener, reply: &Sender<io::Result<ListenerId>>, now: Instant) {
        if let Err(unsent) = reply.send(self.open(listener)) {
            if let Ok(id) = unsent.0 {
                self.close(id, now);
            }
        }
    }

    /// Does what a message asks for.
    fn on_message(&mut self, message: Message, now: Instant) {
        match message {
            Message::Answered(connection, unsent) => self.on_answered(connection, unsent, now),
            Message::Released(released) => self.apply(released, now),
            Message::Open(listener, reply) => self.open_for(listener, &reply, now),
            Message::Close(id, reply) => {
                self.close(id, now);
                let _ = reply.send(());
            }
            Message::HandOver(id, reply) => {
                self.hand_over(id);
                let _ = reply.send(());
            }
            Message::IsIdle(reply) => drop(reply.send(self.is_idle(now))),
            Message::SetPolicy(policy, reply) => {
                self.policy = policy;
                let _ = reply.send(());
            }
            Message::Ping => {}
            #[cfg(test)]
            Message::BreakLink => self.inner.iter().for_each(|inner| inner.break_link()),
            #[cfg(test)]
            Message::Panic => panic!("a panic of the gate's thread, as a test"),
        }
    }

    /// Returns `true` if no client waits for an answer, or is about to ask.
    fn is_idle(&self, now: Instant) -> bool {
        let is_about_to_ask =
            |client: &Client| !client.has_asked && now < client.quiet_since + ABOUT_TO_ASK && !client.closes;
        self.with_handlers == 0
            && self.shares.queued() == 0
            && self.table.writing() == 0
            && self.table.find(is_about_to_ask).is_empty()
    }
}
