//! The log lines about refused clients: one for the first refusal of a burst, and one with the count when the burst is over.
//!
//! A thread of its own writes them. The gate's thread lets everybody in, so it must not wait for a blocked journal. A
//! report counts its burst under a lock, and only the first one of a burst wakes the log thread: 5000 refusals per second cost
//! 5000 additions. A line that finds the thread's queue full is dropped.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{Level, log};

use crate::sys::burst::{Burst, Progress};

/// Lines that may wait for a log that is slow.
const QUEUE: usize = 64;

/// A handle that reports without waiting. All clones share one thread, which starts with the first line.
#[derive(Clone, Default)]
pub(crate) struct RefusalLog(Arc<Mutex<State>>);

/// Written by the threads that report, read by the log thread, which does not log while it holds the lock.
#[derive(Default)]
struct State {
    /// The bursts that go on, one per text.
    bursts: Vec<TextBurst>,
    /// Leads to the log thread; `None` before the first line.
    lines: Option<Sender<(Level, String)>>,
}

/// A burst of reports with the same text.
struct TextBurst {
    text: Cow<'static, str>,
    is_about_client: bool,
    burst: Burst,
}

impl RefusalLog {
    /// Reports a refusal at level warn: one line per burst. `text` continues a sentence that begins with the client's
    /// address. There are few different texts, since each one is a burst of its own.
    pub(crate) fn warn(&self, client: IpAddr, text: impl Into<Cow<'static, str>>) {
        self.note(Some(client), text.into());
    }

    /// Reports a fault of the server itself at level warn: one line per burst.
    pub(crate) fn fault(&self, text: impl Into<Cow<'static, str>>) {
        self.note(None, text.into());
    }

    /// Reports something about a client at level debug, each time.
    pub(crate) fn debug(&self, client: IpAddr, text: impl Display) {
        if log::log_enabled!(Level::Debug) {
            self.write(&mut self.lock(), Level::Debug, sentence(Some(client), &text.to_string()));
        }
    }

    fn note(&self, client: Option<IpAddr>, text: Cow<'static, str>) {
        let mut state = self.lock();
        if let Some(line) = note(&mut state.bursts, client, text, Instant::now()) {
            self.write(&mut state, Level::Warn, line);
        }
    }

    /// Passes a line to the log thread. A line is lost if the queue is full, or if there is no thread to be had.
    fn write(&self, state: &mut State, level: Level, line: String) {
        if state.lines.is_none() {
            let (lines, receiver) = bounded(QUEUE);
            let log = self.clone();
            let thread = thread::Builder::new().name("refusal log".to_owned());
            state.lines = thread.spawn(move || log.run(&receiver)).ok().map(|_| lines);
        }
        if let Some(lines) = &state.lines {
            let _ = lines.try_send((level, line));
        }
    }

    fn run(&self, lines: &Receiver<(Level, String)>) {
        loop {
            // A burst that begins after this sends a line, which ends the waiting.
            let next_report = self.lock().bursts.iter().map(|burst| burst.burst.next_report()).min();
            let line = match next_report {
                Some(time) => lines.recv_deadline(time),
                None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match line {
                Ok((level, line)) => log!(level, "{line}"),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let reports = reports(&mut self.lock().bursts, Instant::now());
            for line in reports {
                log!(Level::Warn, "{line}");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sentence(client: Option<IpAddr>, text: &str) -> String {
    match client {
        Some(client) => format!("{} {text}", client.to_canonical()),
        None => text.to_owned(),
    }
}

/// Counts a report. Returns the line for the first one of a burst.
fn note(
    bursts: &mut Vec<TextBurst>,
    client: Option<IpAddr>,
    text: Cow<'static, str>,
    now: Instant,
) -> Option<String> {
    if let Some(known) = bursts.iter_mut().find(|burst| burst.text == text) {
        known.burst.add(now);
        return None;
    }
    let line = sentence(client, &text);
    bursts.push(TextBurst { text, is_about_client: client.is_some(), burst: Burst::new(now) });
    Some(line)
}

/// Returns a line for each burst of several reports that is over, or that goes on for long, and drops those that are over.
fn reports(bursts: &mut Vec<TextBurst>, now: Instant) -> Vec<String> {
    let mut lines = Vec::new();
    bursts.retain_mut(|TextBurst { text, is_about_client, burst }| {
        let (summary, goes_on) = match burst.progress(now) {
            Progress::Ongoing => (None, true),
            Progress::Long(summary) => (Some(summary), true),
            Progress::Over(summary) => (summary, false),
        };
        if let Some(summary) = summary {
            let subject = if *is_about_client { "a client " } else { "" };
            lines.push(format!(
                "{} times within {} s: {subject}{text}",
                summary.count,
                summary.time.as_secs()
            ));
        }
        goes_on
    });
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_has_one_line_at_its_start_and_one_with_its_count() {
        let mut bursts = Vec::new();
        let client = Some(IpAddr::from([192, 168, 1, 7]));
        let start = Instant::now();
        let line = note(&mut bursts, client, "was refused".into(), start);
        assert_eq!(line.as_deref(), Some("192.168.1.7 was refused"));
        for second in 1..=4 {
            let now = start + Duration::from_secs(second);
            assert_eq!(note(&mut bursts, client, "was refused".into(), now), None);
            assert!(reports(&mut bursts, now).is_empty());
        }
        let line = note(&mut bursts, None, "no descriptor".into(), start);
        assert_eq!(line.as_deref(), Some("no descriptor"));
        let over = start + Duration::from_secs(14);
        assert_eq!(reports(&mut bursts, over), ["5 times within 4 s: a client was refused"]);
        assert!(bursts.is_empty(), "nothing is kept");
    }
}
