//! The log lines about clients: one for the first refusal of a burst, and one with the count when the burst is over.
//!
//! A thread of its own writes them. The gate's thread lets everybody in, so it must not wait for a blocked journal.
//! Reports reach the thread through a bounded queue, and a report that finds the queue full is dropped.

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{debug, warn};

/// Refusals of one kind that follow each other within this time are one burst.
const BURST_PAUSE: Duration = Duration::from_secs(10);
/// A burst that goes on has a line with its count this often.
const LONG_BURST: Duration = Duration::from_secs(60);
/// Reports that may wait for a log that is slow.
const QUEUE: usize = 256;

/// A handle that reports to the log thread without waiting.
#[derive(Clone)]
pub(super) struct RefusalLog(Sender<Report>);

/// A report about a client.
struct Report {
    client: Option<IpAddr>,
    text: Cow<'static, str>,
    is_warning: bool,
}

impl RefusalLog {
    /// Starts the log thread, which ends with the last handle.
    ///
    /// # Errors
    ///
    /// When the operating system has no thread left.
    pub(super) fn start() -> io::Result<RefusalLog> {
        let (sender, receiver) = bounded(QUEUE);
        thread::Builder::new().name("gate log".to_owned()).spawn(move || write_reports(&receiver))?;
        Ok(RefusalLog(sender))
    }

    /// Reports a refusal at level warn: one line per burst. `text` continues a sentence that begins with the client's address.
    pub(super) fn warn(&self, client: IpAddr, text: impl Into<Cow<'static, str>>) {
        self.send(Some(client), text.into(), true);
    }

    /// Reports a fault of the server itself at level warn: one line per burst.
    pub(super) fn fault(&self, text: impl Into<Cow<'static, str>>) {
        self.send(None, text.into(), true);
    }

    /// Reports something about a client at level debug, each time.
    pub(super) fn debug(&self, client: IpAddr, text: impl Into<Cow<'static, str>>) {
        if log::log_enabled!(log::Level::Debug) {
            self.send(Some(client), text.into(), false);
        }
    }

    fn send(&self, client: Option<IpAddr>, text: Cow<'static, str>, is_warning: bool) {
        // The queue is full, or the thread has ended: either way nobody must wait for a line in the log.
        let _ = self.0.try_send(Report { client, text, is_warning });
    }
}

fn write_reports(reports: &Receiver<Report>) {
    let mut bursts = Bursts::default();
    loop {
        let report = match bursts.next_end() {
            Some(end) => reports.recv_deadline(end),
            None => reports.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let now = Instant::now();
        match report {
            Ok(Report { client, text, is_warning: false }) => debug!("{}", sentence(client, &text)),
            Ok(Report { client, text, is_warning: true }) => {
                if let Some(line) = bursts.note(client, text, now) {
                    warn!("{line}");
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        for line in bursts.ended(now) {
            warn!("{line}");
        }
    }
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
