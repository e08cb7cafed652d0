//! The log lines about clients: one for the first refusal of a burst, and one with the count when the burst
//! is over.
//!
//! A thread of its own writes them. All clients wait for the gate's thread, so that it must not wait for a
//! blocked journal. A report counts its burst under a lock, and only the first one of a burst wakes the log
//! thread: 5000 refusals per second cost 5000 additions. A line that finds the thread's queue full is
//! dropped.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, io};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{Level, log};

/// Refusals of one kind that follow each other within this time are one burst.
const BURST_PAUSE: Duration = Duration::from_secs(10);
/// A burst that goes on has a line with its count this often.
const LONG_BURST: Duration = Duration::from_secs(60);
/// Lines that may wait for a log that is slow.
const QUEUE: usize = 64;

/// A handle that reports without waiting.
#[derive(Clone)]
pub(super) struct RefusalLog {
    /// Written by all threads that report, read by the log thread, which does not log while it holds the lock.
    bursts: Arc<Mutex<Bursts>>,
    lines: Sender<(Level, String)>,
}

impl RefusalLog {
    /// Starts the log thread, which ends with the last handle.
    ///
    /// # Errors
    ///
    /// When the operating system has no thread left.
    pub(super) fn start() -> io::Result<RefusalLog> {
        let (lines, receiver) = bounded(QUEUE);
        let bursts: Arc<Mutex<Bursts>> = Arc::default();
        let shared = Arc::clone(&bursts);
        thread::Builder::new().name("gate log".to_owned()).spawn(move || write_lines(&receiver, &shared))?;
        Ok(RefusalLog { bursts, lines })
    }

    /// Reports a refusal at level warn: one line per burst. `text` continues a sentence that begins with the
    /// client's address.
    pub(super) fn warn(&self, client: IpAddr, text: impl Into<Cow<'static, str>>) {
        self.note(Some(client), text.into());
    }

    /// Reports a fault of the server itself at level warn: one line per burst.
    pub(super) fn fault(&self, text: impl Into<Cow<'static, str>>) {
        self.note(None, text.into());
    }

    /// Reports something about a client at level debug, each time.
    pub(super) fn debug(&self, client: IpAddr, text: fmt::Arguments<'_>) {
        if log::log_enabled!(Level::Debug) {
            let _ = self.lines.try_send((Level::Debug, sentence(Some(client), &text.to_string())));
        }
    }

    fn note(&self, client: Option<IpAddr>, text: Cow<'static, str>) {
        let line = lock(&self.bursts).note(client, text, Instant::now());
        if let Some(line) = line {
            let _ = self.lines.try_send((Level::Warn, line));
        }
    }
}

fn write_lines(lines: &Receiver<(Level, String)>, bursts: &Mutex<Bursts>) {
    loop {
        // A burst that begins after this sends a line, which ends the waiting.
        let next_end = lock(bursts).next_end();
        let line = match next_end {
            Some(end) => lines.recv_deadline(end),
            None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match line {
            Ok((level, line)) => log!(level, "{line}"),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let ended = lock(bursts).ended(Instant::now());
        for line in ended {
            log!(Level::Warn, "{line}");
        }
    }
}

fn lock(bursts: &Mutex<Bursts>) -> MutexGuard<'_, Bursts> {
    bursts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sentence(client: Option<IpAddr>, text: &str) -> String {
    match client {
        Some(client) => format!("{} {text}", client.to_canonical()),
        None => text.to_owned(),
    }
}

/// The bursts that go on. There is one per text.
#[derive(Default)]
struct Bursts(Vec<Burst>);

struct Burst {
    text: Cow<'static, str>,
    is_about_client: bool,
    began: Instant,
    last: Instant,
    count: u64,
}

impl Bursts {
    /// Counts a report. Returns the line for the first one of a burst.
    fn note(&mut self, client: Option<IpAddr>, text: Cow<'static, str>, now: Instant) -> Option<String> {
        if let Some(burst) = self.0.iter_mut().find(|burst| burst.text == text) {
            (burst.last, burst.count) = (now, burst.count + 1);
            return None;
        }
        let line = sentence(client, &text);
        self.0.push(Burst { text, is_about_client: client.is_some(), began: now, last: now, count: 1 });
        Some(line)
    }

    /// Returns a line for each burst of several that is over, or that goes on for long.
    fn ended(&mut self, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        self.0.retain_mut(|burst| {
            let is_over = now >= burst.last + BURST_PAUSE;
            let is_long = now >= burst.began + LONG_BURST;
            if (is_over || is_long) && burst.count > 1 {
                let seconds = burst.last.duration_since(burst.began).as_secs();
                let subject = if burst.is_about_client { "a client " } else { "" };
                lines.push(format!("{} times within {seconds} s: {subject}{}", burst.count, burst.text));
            }
            if is_long && !is_over {
                (burst.began, burst.count) = (now, 0);
            }
            !is_over
        });
        lines
    }

    /// Returns the time at which [`ended`](Bursts::ended) may have a line.
    fn next_end(&self) -> Option<Instant> {
        self.0.iter().map(|burst| (burst.last + BURST_PAUSE).min(burst.began + LONG_BURST)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_has_one_line_at_its_start_and_one_with_its_count() {
        let mut bursts = Bursts::default();
        let client = Some(IpAddr::from([192, 168, 1, 7]));
        let start = Instant::now();
        assert_eq!(bursts.next_end(), None);
        let line = bursts.note(client, "was refused".into(), start);
        assert_eq!(line.as_deref(), Some("192.168.1.7 was refused"));
        for second in 1..=4 {
            let now = start + Duration::from_secs(second);
            assert_eq!(bursts.note(client, "was refused".into(), now), None);
            assert!(bursts.ended(now).is_empty());
        }
        assert_eq!(bursts.note(None, "no descriptor".into(), start).as_deref(), Some("no descriptor"));
        let over = start + Duration::from_secs(14);
        assert_eq!(bursts.ended(over), ["5 times within 4 s: a client was refused"]);
        assert!(bursts.ended(over).is_empty() && bursts.next_end().is_none(), "nothing is kept");
    }

    #[test]
    fn a_long_burst_has_a_line_each_minute() {
        let mut bursts = Bursts::default();
        let start = Instant::now();
        let mut lines = 0;
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            lines += usize::from(bursts.note(None, "full".into(), now).is_some());
            lines += bursts.ended(now).len();
        }
        assert_eq!(lines, 4, "one at the start, one after each of three minutes");
    }
}
