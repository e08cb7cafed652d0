//! A listening socket, and that somebody accepts there.
//!
//! tiny_http's acceptor dies of what it should not (see `acceptor.rs`), and of what there is too little of. It is begun
//! anew on the same socket until it lives, for as few of those who wait as there is room for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tiny_http::Request;

use crate::http::tiny::acceptor::{self, Acceptor, Take};
use crate::sys::{socket, tiny};

/// An acceptor is looked after again this long after somebody came: it may take its time to die.
pub(super) const AFTERWARDS: Duration = Duration::from_millis(300);
/// The acceptor may take so many times 2 ms to end.
const HANDING_OVER: u32 = 250;
/// So many of those who wait, at the most, are thought of at such an attempt;
const MOST_THOUGHT_OF: usize = 16;
/// and half as many after each so many attempts, and the others are refused: what they would take is not to be had.
const PERSISTENCE: u32 = 4;
/// From one attempt to have an acceptor again to the next.
const RETRY: Duration = Duration::from_millis(20);

/// A listening socket.
pub(crate) struct Door {
    pub(super) id: u64,
    /// Where it is.
    pub(in crate::http) address: SocketAddr,
    /// The socket; the acceptor has another descriptor of it.
    pub(in crate::http) listener: TcpListener,
    phase: AtomicU8,
    take: Take,
    accepting: Mutex<Accepting>,
}

/// The acceptor, and the attempts to have one that lives.
struct Accepting {
    /// `None` before the first.
    acceptor: Option<Acceptor>,
    died: Option<Instant>,
    /// Not before this it is tried again.
    again: Option<Instant>,
    /// Attempts since it died for which there was too little of something.
    failed: u32,
}

/// Connections are accepted.
pub(super) const OPEN: u8 = 0;
/// Another process accepts from now on.
const HANDED_OVER: u8 = 1;
/// Nobody does any more.
pub(super) const CLOSED: u8 = 2;

impl Door {
    /// A socket of which nobody accepts yet. Requests go to `take`.
    ///
    /// # Errors
    ///
    /// When it has no address.
    pub(super) fn new(
        id: u64,
        listener: TcpListener,
        take: impl Fn(&Arc<Door>, Request) + Send + Sync + 'static,
    ) -> io::Result<Arc<Door>> {
        let address = listener.local_addr()?;
        Ok(Arc::new_cyclic(|door: &Weak<Door>| {
            let weak = Weak::clone(door);
            Door {
                id,
                address,
                listener,
                phase: AtomicU8::new(OPEN),
                take: Arc::new(move |request| {
                    // It is there as long as its acceptor.
                    if let Some(door) = weak.upgrade() {
                        take(&door, request);
                    }
                }),
                accepting: Mutex::new(Accepting { acceptor: None, died: None, again: None, failed: 0 }),
            }
        }))
    }

    /// Has somebody accept.
    ///
    /// # Errors
    ///
    /// When the operating system has no thread or no descriptor for it.
    pub(super) fn accept(&self) -> io::Result<()> {
        self.accepting().acceptor = Some(Acceptor::start(&self.listener, Arc::clone(&self.take))?);
        Ok(())
    }

    /// Accepts no more; who connects from now on waits for another process that has the socket.
    pub(in crate::http) fn hand_over(&self) {
        self.phase.store(HANDED_OVER, Ordering::Relaxed);
        // tiny_http's acceptor ends at an accept that would have to wait. It waits in one already, which one
        // more connection ends; it may as well be a real one, which is then answered here.
        let _ = self.listener.set_nonblocking(true);
        nudge(self.address);
        // So many looks, not so long: a machine that stands still takes nothing of its time.
        for _ in 0..HANDING_OVER {
            if !self.accepting().acceptor.as_ref().is_some_and(Acceptor::lives) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        debug!("{}: still accepts", self.address);
    }

    /// Accepts no more, and lets nobody wait.
    pub(super) fn shut(&self) {
        let open = self.phase.compare_exchange(OPEN, HANDED_OVER, Ordering::Relaxed, Ordering::Relaxed);
        if open.is_ok() {
            let _ = self.listener.set_nonblocking(true);
            nudge(self.address);
            // tiny_http accepts all who wait before it ends. There are to be no more of them.
            if let Err(error) = tiny::drop_all_packets(&self.listener) {
                debug!("{}: packets cannot be dropped: {error}", self.address);
            }
        }
    }

    /// Accepts no more; the address is free after this. Connections that ask for nothing are closed.
    pub(in crate::http) fn close(&self) {
        self.phase.store(CLOSED, Ordering::Relaxed);
        // tiny_http closes its socket some time later. One that does not listen any more does not keep others
        // from its address. The guard hears of it too.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = &self.accepting().acceptor {
            acceptor.close();
        }
    }

    /// Whether connections are to be accepted.
    pub(in crate::http) fn is_open(&self) -> bool {
        self.phase() == OPEN
    }

    /// Whether a connection to that local address came through this.
    pub(super) fn is_at(&self, local: SocketAddr) -> bool {
        let ip = self.address.ip();
        let is_here = ip.is_unspecified() || ip.to_canonical() == local.ip().to_canonical();
        self.address.port() == local.port() && is_here
    }

    pub(super) fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }

    fn accepting(&self) -> MutexGuard<'_, Accepting> {
        self.accepting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that somebody accepts, where there is room for so many; when to look again if that is not sure.
    pub(super) fn keep_open(&self, now: Instant, room: usize) -> Opening {
        let mut accepting = self.accepting();
        let Accepting { acceptor, died, again, failed } = &mut *accepting;
        let Some(acceptor) = acceptor.as_ref().filter(|_| self.phase() == OPEN) else {
            return Opening::Sure;
        };
        let lives = acceptor.lives();
        match (lives, *died) {
            (true, None) => return Opening::Sure,
            (true, Some(since)) => {
                // It may die at its first accept: it is as good as before only after a while.
                let sure = again.map_or(now, |again| again + AFTERWARDS);
                if now < sure {
                    return Opening::Tried(sure.min(now + RETRY));
                }
                let seconds = (now - since).as_secs_f64();
                info!("{}: connections are accepted again, after {seconds:.1} s", self.address);
                (*died, *again, *failed) = (None, None, 0);
                return Opening::Sure;
            }
            (false, None) => {
                *died = Some(now);
                warn!(
                    "{}: nobody can connect: {}; tried again until it works",
                    self.address,
                    acceptor.problem()
                );
            }
            (false, Some(_)) => {}
        }
        if let Some(again) = again.filter(|again| *again > now) {
            return Opening::Tried(again);
        }
        *again = Some(now + RETRY);
        let waiting = socket::waiting_connections(&self.listener) as usize;
        let most = MOST_THOUGHT_OF >> (*failed / PERSISTENCE).min(usize::BITS - 1);
        let room = if *failed < PERSISTENCE { room } else { room.min(most) };
        let thought_of = waiting.min(room).min(most);
        // With too little of everything it would only die again.
        match acceptor::is_worth_it(thought_of + 1).and_then(|()| acceptor.again(&self.listener)) {
            Ok(()) => Opening::Tried(now + RETRY),
            Err(error) => {
                debug!("{}: no acceptor for {thought_of} of {waiting}: {error}", self.address);
                *failed += 1;
                Opening::Starved {
                    again: now + RETRY,
                    wanted: thought_of,
                    excess: waiting.saturating_sub(room),
                }
            }
        }
    }
}

/// Whether somebody accepts.
pub(super) enum Opening {
    Sure,
    /// It is seen then whether it lives.
    Tried(Instant),
    /// It is tried again then, and there has to be room for so many; so many others wait for whom there is none.
    Starved {
        again: Instant,
        wanted: usize,
        excess: usize,
    },
}

/// Connects and ends at once, without waiting for anything.
pub(super) fn nudge(address: SocketAddr) {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // The end of what it sends is what makes the kernel hand it over. An error means that nothing can be
    // reached there now; then nothing is waiting either.
    if let Ok(socket) = rustix::net::socket_with(family, SocketType::STREAM, flags, None) {
        let _ = rustix::net::connect(socket.as_fd(), &SocketAddr::new(ip, address.port()));
        let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Write);
    }
}
