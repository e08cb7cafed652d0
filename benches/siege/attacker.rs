//! The attacking side: connections from many addresses, and the counts of an attack.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::exit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{self, sockopt};
use serde::{Deserialize, Serialize};

use crate::http;

/// Time that one connect, send or receive may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause after a connect that the system refused at once, so that a refused attacker is no busy loop.
const REFUSED_PAUSE: Duration = Duration::from_millis(1);

/// The counts of an attack.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Connections that were established.
    pub(crate) connections: u64,
    /// Connects that failed or took longer than a second.
    pub(crate) failed_connects: u64,
    /// Requests, or units of other data (`Attack::sent`), that the kernel took for sending.
    pub(crate) sent: u64,
    /// Answers that were read, by status.
    pub(crate) answers: BTreeMap<u16, u64>,
}

/// An attack while it runs, shared by its threads. The threads write the counts, which are read at the end.
pub(crate) struct Attacker {
    pub(crate) target: SocketAddr,
    pub(crate) end: Instant,
    connections: AtomicU64,
    failed_connects: AtomicU64,
    sent: AtomicU64,
    /// Answers by status.
    answers: Mutex<BTreeMap<u16, u64>>,
}

impl Attacker {
    /// Returns an attacker of the daemon at `target` whose attack begins now.
    pub(crate) fn new(target: SocketAddr, time: Duration) -> Attacker {
        Attacker {
            target,
            end: Instant::now() + time,
            connections: AtomicU64::new(0),
            failed_connects: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            answers: Mutex::default(),
        }
    }

    /// Returns whether the time of the attack is over.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Sleeps for this time, or until the attack is over.
    pub(crate) fn sleep(&self, time: Duration) {
        thread::sleep(time.min(self.end.saturating_duration_since(Instant::now())));
    }

    /// Runs `body` in this number of threads at once, with the number of the thread.
    pub(crate) fn in_parallel(&self, threads: usize, body: impl Fn(usize) + Sync) {
        let body = &body;
        thread::scope(|scope| {
            for number in 0..threads {
                scope.spawn(move || body(number));
            }
        });
    }

    /// Runs `body` in this number of threads, again and again until the attack is over.
    pub(crate) fn repeat_in_parallel(&self, threads: usize, body: impl Fn(usize) + Sync) {
        self.in_parallel(threads, |number| {
            while !self.is_over() {
                body(number);
            }
        });
    }

    /// Connects from the attackers' address with this number. `None` when the connect fails or takes too long.
    pub(crate) fn connect(&self, address: usize) -> Option<TcpStream> {
        self.connect_with(address, None)
    }

    /// Connects with the smallest receive buffer there is, so that the server soon cannot send any more.
    pub(crate) fn connect_narrow(&self, address: usize) -> Option<TcpStream> {
        self.connect_with(address, Some(1))
    }

    fn connect_with(&self, address: usize, receive_buffer: Option<usize>) -> Option<TcpStream> {
        match connect(address, self.target, receive_buffer) {
            Ok(stream) => {
                self.connections.fetch_add(1, Ordering::Relaxed);
                Some(stream)
            }
            Err(_) => {
                self.failed_connects.fetch_add(1, Ordering::Relaxed);
                thread::sleep(REFUSED_PAUSE);
                None
            }
        }
    }

    /// Returns a GET request as text.
    pub(crate) fn get(&self, path: &str) -> String {
        http::get(self.target, path)
    }

    /// Counts requests or pieces of other data that were sent.
    pub(crate) fn count_sent(&self, count: u64) {
        self.sent.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts an answer.
    pub(crate) fn count_answer(&self, status: u16) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
    }

    /// Reads one answer and counts it. Returns whether there was one.
    pub(crate) fn read_answer(&self, stream: &mut BufReader<TcpStream>) -> bool {
        let status = http::read_answer(stream);
        status.iter().for_each(|status| self.count_answer(*status));
        status.is_ok()
    }

    /// Holds `each` connections from each of the addresses until the attack is over. `open` prepares a new
    /// connection; `keep` is called once in each `interval` and returns whether the connection is still of use. A
    /// connection that is not is replaced in the next interval.
    pub(crate) fn hold(
        &self,
        addresses: usize,
        each: usize,
        interval: Duration,
        open: impl Fn(usize, usize) -> Option<TcpStream> + Sync,
        keep: impl Fn(&TcpStream) -> bool + Sync,
    ) {
        // A thread for each address: a blocked address must not delay the others.
        self.in_parallel(addresses, |address| {
            let mut held: Vec<Option<TcpStream>> = (0..each).map(|_| None).collect();
            while !self.is_over() {
                for (number, connection) in held.iter_mut().enumerate() {
                    match connection {
                        Some(stream) if keep(stream) => {}
                        Some(_) => *connection = None,
                        None if self.is_over() => break,
                        None => *connection = open(address, number),
                    }
                }
                self.sleep(interval);
            }
        });
    }

    /// Returns whether the server still holds this connection open, without waiting. Counts an answer that came.
    pub(crate) fn is_open(&self, stream: &TcpStream) -> bool {
        let mut answer = [0; 512];
        let received = net::recv(stream, &mut answer[..], net::RecvFlags::DONTWAIT);
        match received {
            Ok((0, _)) => false,
            Ok((count, _)) => {
                http::status_of(&answer[..count]).iter().for_each(|status| self.count_answer(*status));
                false
            }
            Err(error) => error == rustix::io::Errno::AGAIN,
        }
    }

    /// Prints the counts for the parent process and ends this one.
    pub(crate) fn report_and_exit(&self) -> ! {
        let counts = Counts {
            connections: self.connections.load(Ordering::Relaxed),
            failed_connects: self.failed_connects.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            answers: self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        println!("{}", serde_json::to_string(&counts).expect("numbers are JSON"));
        exit(0)
    }
}

/// Returns whether the server has reset the connection. Reads nothing.
pub(crate) fn is_reset(stream: &TcpStream) -> bool {
    let mut descriptor = [PollFd::new(stream, PollFlags::empty())];
    let now = rustix::time::Timespec::default();
    matches!(poll(&mut descriptor, Some(&now)), Ok(1..))
}

/// Closes the connection with a reset (RST) instead of an end (FIN).
pub(crate) fn reset(stream: TcpStream) {
    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
}

/// Connects from 127.0.0.2 + `address`.
fn connect(address: usize, target: SocketAddr, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 0, 2)) + address as u32);
    http::connect_from(source, target, receive_buffer, PATIENCE)
}

/// Random numbers (xorshift, 64 bits).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Returns the next number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit as u64) as usize
    }
}
