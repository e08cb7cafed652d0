//! `/NAME/levels`: how loud it is and how it is, as server-sent events, for the pages that are open.
//!
//! Two kinds of events, both JSON:
//!
//! ```text
//! data: {"frame":4410000,"time":98765.43,"now":98767.01,"levels":[[-18.1,-21.2,0],[-18.3,-21.2,0]]}
//!
//! event: state
//! data: {"input":"live","phase":"capturing","seconds":12.3, …}
//! ```
//!
//! `levels` has peak and RMS (dBFS, `null` for digital silence) of the time since the event before, and the number
//! of samples at full scale since the stream began, for each channel. `frame` is the last frame captured, `time`
//! when that was and `now` when this was sent, in ms of the server's clock: by these the page knows how far it is
//! behind the room. `state` comes first, and whenever something in it changes.
//!
//! They come 20 times a second, or as `interval=MS` says: each event wakes a browser, so who draws less often asks
//! for fewer. Whoever asks for the same gets the same events.
//!
//! However many pages there are, one thread sends to all of them, without ever waiting for one: a page that does
//! not take an event whole is disconnected, and comes back by itself. With more than a hundred pages each gets
//! fewer events. While nobody looks, there is no thread.

use std::fmt::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::net::{SendFlags, send, sockopt};
use serde::Serialize;

use super::handlers::status;
use crate::http::context::Context;
use crate::inputs::LiveInput;
use crate::listeners::chunked::{self, Chunk};
use crate::sys::clock::monotonic_ns;
use crate::sys::host;
use crate::sys::threads;

/// So many events for all pages together.
const EVENTS_PER_SECOND: u32 = 2000;
/// What the kernel holds for a page: a second or two of events.
const SEND_BUFFER: usize = 64 * 1024;
/// An event is no longer than this.
const LARGEST: usize = 16 * 1024;

/// The pages that are open.
#[derive(Default)]
pub struct EventSubscribers {
    count: AtomicUsize,
    open: Mutex<Open>,
    /// Told of every page that joins: it is not to wait for the others' next event.
    joined: Condvar,
}

#[derive(Default)]
struct Open {
    pages: Vec<Page>,
    /// Whether there is a thread that sends.
    served: bool,
    /// Whether the program ends.
    ended: bool,
}

struct Page {
    topic: Topic,
    socket: TcpStream,
    chunked: bool,
    /// Which state it knows.
    knows: Option<u64>,
    /// Its end is the signal that this page is served no more.
    _served: Sender<()>,
}

/// What a page wants to hear, and how often.
#[derive(Clone, PartialEq)]
struct Topic {
    input: String,
    interval: Duration,
}

/// A page's place among those that may be open.
pub struct Admitted<'a>(&'a EventSubscribers);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EventSubscribers {
    /// How many are open.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts one more, unless there are `max` already; until the guard is dropped.
    pub fn admit(&self, max: u32) -> Option<Admitted<'_>> {
        let more = |count| (count < max as usize).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Admitted(self))
    }

    /// Sends events of that input to a socket, to which the head of the answer was sent already, at that interval.
    /// They end when the receiver does.
    pub fn join(
        &self,
        context: &Arc<Context>,
        input: &str,
        interval: Duration,
        socket: TcpStream,
        chunked: bool,
    ) -> Receiver<()> {
        // Errors can only come from a socket that is gone, which the first event finds out.
        let _ = sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER);
        let (sender, served) = bounded(0);
        let mut open = self.lock();
        if open.ended {
            return served;
        }
        let topic = Topic { input: input.to_owned(), interval };
        open.pages.push(Page { topic, socket, chunked, knows: None, _served: sender });
        self.joined.notify_one();
        if !open.served {
            let context = Arc::clone(context);
            match threads::start("levels", Some(128 * 1024), move || serve(&context)) {
                Ok(_) => open.served = true,
                // They come back, and it is tried again.
                Err(_) => open.pages.clear(),
            }
        }
        served
    }

    /// Ends all of them, each with its last byte.
    pub fn end(&self) {
        let mut open = self.lock();
        open.ended = true;
        for page in open.pages.drain(..) {
            page.end();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page {
    /// Sends all of it at once, or not everything: then this page is lost.
    fn send(&self, bytes: &[u8]) -> bool {
        send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) == Ok(bytes.len())
    }

    fn end(self) {
        if self.chunked {
            self.send(chunked::LAST);
        }
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Sends to all pages until there are none.
fn serve(context: &Context) {
    let mut news: Vec<News> = Vec::new();
    let mut open = context.subscribers.lock();
    loop {
        let now = Instant::now();
        round(context, now, &mut open.pages, &mut news);
        let Some(due) = news.iter().map(|news| news.due).min() else {
            open.served = false;
            return;
        };
        let early = due.saturating_duration_since(Instant::now());
        if early.is_zero() {
            // So many pages that there is no pause; but somebody may want to join or to end them.
            drop(open);
            open = context.subscribers.lock();
        } else {
            let waited = context.subscribers.joined.wait_timeout(open, early);
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Sends to all pages that are due.
fn round(context: &Context, now: Instant, pages: &mut Vec<Page>, news: &mut Vec<News>) {
    for page in pages.iter() {
        if !news.iter().any(|news| news.topic == page.topic) {
            news.push(News::of(&page.topic, now));
        }
    }
    let fewest = Duration::from_secs(1) / EVENTS_PER_SECOND * pages.len() as u32;
    for news in news.iter_mut() {
        news.is_due = news.due <= now;
        // Who has just come hears of the state at once.
        if news.is_due || pages.iter().any(|page| page.knows.is_none() && page.topic == news.topic) {
            news.gather_state(context);
        }
        if news.is_due {
            news.gather_levels(context);
            // What was missed is not made up for.
            news.due = (news.due + news.topic.interval.max(fewest)).max(now);
        }
    }
    for mut page in std::mem::take(pages) {
        // Everything that a page wants to hear was gathered above.
        let Some(news) = news.iter_mut().find(|news| news.topic == page.topic) else { continue };
        if news.over {
            page.end();
            continue;
        }
        if !news.is_due && page.knows.is_some() {
            pages.push(page);
            continue;
        }
        let knew = page.knows.replace(news.version);
        let told = (knew == Some(news.version) || page.send(news.state.bytes(page.chunked)))
            && (!news.is_due || page.send(news.levels.bytes(page.chunked)));
        match told {
            true => pages.push(page),
            // Framing that was cut cannot be mended; and it may be gone.
            false => drop(page.socket.shutdown(Shutdown::Both)),
        }
    }
    news.retain(|news| pages.iter().any(|page| page.topic == news.topic));
}

/// What there is to say of one input, ready to go.
struct News {
    topic: Topic,
    /// When the next event is; and whether it is now.
    due: Instant,
    is_due: bool,
    levels: Chunk,
    state: Chunk,
    /// Counts the states; and the one that is in `state`, without what changes all the time.
    version: u64,
    known: String,
    /// The stream whose levels were sent, and the block that comes next.
    seen: (u64, u64),
    /// Whether there is no such input any more.
    over: bool,
}

impl News {
    fn of(topic: &Topic, now: Instant) -> News {
        News {
            topic: topic.clone(),
            due: now,
            is_due: false,
            levels: Chunk::new(LARGEST),
            state: Chunk::new(LARGEST),
            version: 0,
            known: String::new(),
            seen: (0, 0),
            over: false,
        }
    }

    fn gather_state(&mut self, context: &Context) {
        let Some(input) = context.input(&self.topic.input) else {
            self.over = true;
            return;
        };
        let state = status::page_state(context, &input);
        let known = json(&state.at(0.0));
        if known != self.known {
            self.version += 1;
            self.known = known;
            fill(&mut self.state, &format!("event: state\ndata: {}\n\n", json(&state)));
        }
    }

    fn gather_levels(&mut self, context: &Context) {
        if let Some(input) = context.input(&self.topic.input) {
            let text = self.levels_of(&input);
            fill(&mut self.levels, &text);
        }
    }

    fn levels_of(&mut self, input: &LiveInput) -> String {
        // Without sound there is nothing to say, but a connection that says nothing may be thought dead.
        let Some((ring, levels)) = input.sound() else { return ":\n\n".to_owned() };
        let Some((frame, captured_at)) = ring.edge() else { return ":\n\n".to_owned() };
        if self.seen.0 != ring.id() {
            self.seen = (ring.id(), levels.next_block().saturating_sub(1));
        }
        let next = levels.next_block();
        // At least one block, where they are longer than an event.
        let found = levels.since(self.seen.1.min(next.saturating_sub(1)));
        self.seen.1 = next;
        let ms = |ns: u64| ns as f64 / 1e6;
        let mut text = format!(
            "data: {{\"frame\":{frame},\"time\":{:.2},\"now\":{:.2},\"levels\":[",
            ms(captured_at),
            ms(monotonic_ns())
        );
        for (channel, level) in found.iter().enumerate() {
            let comma = if channel == 0 { "" } else { "," };
            let (peak, rms) = (Decibels(level.peak_dbfs()), Decibels(level.rms_dbfs()));
            let _ = write!(text, "{comma}[{peak},{rms},{}]", level.clipped);
        }
        text.push_str("]}\n\n");
        text
    }
}

/// A level as JSON has it.
struct Decibels(Option<f64>);

impl std::fmt::Display for Decibels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(level) => write!(f, "{level:.1}"),
            None => f.write_str("null"),
        }
    }
}

fn fill(chunk: &mut Chunk, text: &str) {
    chunk.clear();
    // Its words come from the configuration and from drivers; an event that does not fit is left out.
    if text.len() <= chunk.capacity() {
        chunk.push(text.as_bytes());
    }
}

fn json(value: &impl Serialize) -> String {
    // It has only strings as keys and no other way to fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// What a page is told once, at the beginning: who speaks, and the addresses under which others find this
/// machine, for a connection that came to `local`.
pub fn hello(local: Option<SocketAddr>, listens_everywhere: bool) -> String {
    #[derive(Serialize)]
    struct Hello<'a> {
        version: &'a str,
        /// `NAME.local`, as mDNS has it.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<String>,
    }
    let local = local.map(|local| SocketAddr::new(local.ip().to_canonical(), local.port()));
    let others = local.filter(|local| listens_everywhere || !local.ip().is_loopback());
    let address = others.and_then(|local| match local.ip().is_loopback() {
        true => host::reachable_addresses().into_iter().next().map(|ip| SocketAddr::new(ip, local.port())),
        false => Some(local),
    });
    let name = others.and_then(|local| Some(format!("{}:{}", host::local_name()?, local.port())));
    let hello = Hello {
        version: env!("CARGO_PKG_VERSION"),
        name,
        address: address.map(|address| address.to_string()),
    };
    format!("retry: 1000\nevent: hello\ndata: {}\n\n", json(&hello))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_on_the_loopback_alone_has_no_address_for_others() {
        let local = Some("127.0.0.1:4410".parse().expect("an address"));
        let hello = hello(local, false);
        assert!(!hello.contains("address") && !hello.contains("name"), "{hello}");
        let lan = Some("[::ffff:192.168.1.20]:4410".parse().expect("an address"));
        assert!(super::hello(lan, true).contains("\"address\":\"192.168.1.20:4410\""));
    }

    #[test]
    fn no_more_pages_than_may_be_are_admitted() {
        let pages = EventSubscribers::default();
        let first = pages.admit(2).expect("there is room");
        let second = pages.admit(2).expect("there is room");
        assert!(pages.admit(2).is_none());
        drop(first);
        assert!(pages.admit(2).is_some());
        drop(second);
        assert_eq!(pages.count(), 0);
    }
}
