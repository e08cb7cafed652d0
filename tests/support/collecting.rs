//! A client that collects the body of a response in a thread of its own, so that it is never a slow listener.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::http::Response;
use super::listening::Ending;
use super::server::Server;
use super::{PATIENCE, wait_within};

/// A client. It disconnects on drop.
pub(crate) struct Collector {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    body: Arc<Mutex<(Vec<u8>, Option<Ending>)>>,
    socket: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Sends a GET and begins to collect.
    pub(crate) fn start(server: &Server, target: &str) -> Collector {
        Collector::of(server.get(target))
    }

    /// Sends a GET with more header fields and begins to collect.
    pub(crate) fn start_with(server: &Server, target: &str, headers: &[(&str, &str)]) -> Collector {
        Collector::of(server.get_with(target, headers))
    }

    /// Collects the rest of that response.
    pub(crate) fn of(response: Response) -> Collector {
        let Response { status, headers, mut body } = response;
        let socket = body.socket().try_clone().expect("a descriptor");
        let shared = Arc::new(Mutex::new((Vec::new(), None)));
        let all = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut bytes = vec![0; 256 * 1024];
            loop {
                let read = body.read(&mut bytes);
                let (all, ending) = &mut *all.lock().expect("nobody panics holding it");
                match read {
                    Ok(0) => break *ending = Some(Ending::Complete),
                    Ok(count) => all.extend_from_slice(&bytes[..count]),
                    Err(_) => break *ending = Some(Ending::Cut),
                }
            }
        });
        Collector { status, headers, body: shared, socket, thread: Some(thread) }
    }

    /// Returns the value of a header field. `name` is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Returns the number of bytes until now.
    pub(crate) fn len(&self) -> usize {
        self.body.lock().expect("nobody panics holding it").0.len()
    }

    /// Returns the bytes until now.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_from(0)
    }

    /// Returns the bytes until now from that place on.
    pub(crate) fn bytes_from(&self, at: usize) -> Vec<u8> {
        self.body.lock().expect("nobody panics holding it").0[at..].to_vec()
    }

    /// Returns the way the body ended, if it has ended.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.body.lock().expect("nobody panics holding it").1
    }

    /// Waits until there are `count` bytes, and returns all.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<u8> {
        wait_within(PATIENCE, Duration::from_millis(5), &format!("{count} bytes"), || {
            let (enough, ended) = (self.len() >= count, self.ending());
            assert!(enough || ended.is_none(), "{ended:?} after {} of {count} bytes", self.len());
            enough.then(|| self.bytes())
        })
    }

    /// Waits for `count` bytes more than now, and returns all.
    pub(crate) fn wait_for_more(&self, count: usize) -> Vec<u8> {
        self.wait_for(self.len() + count)
    }

    /// Waits for the end of the body, and returns the way it ended and all bytes.
    pub(crate) fn wait_for_end(&self) -> (Ending, Vec<u8>) {
        self.wait_for_end_within(PATIENCE)
    }

    /// Waits for the end of the body like [`Collector::wait_for_end`], for at most `patience`.
    pub(crate) fn wait_for_end_within(&self, patience: Duration) -> (Ending, Vec<u8>) {
        let ending = wait_within(patience, Duration::from_millis(5), "the end", || self.ending());
        (ending, self.bytes())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
