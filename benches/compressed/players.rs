//! Players that read and count bytes, all in one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// The time limit for the first player to hear something.
const PATIENCE: Duration = Duration::from_secs(30);

/// Players that listen to one server.
pub(crate) struct Players {
    epoll: std::os::fd::OwnedFd,
    sockets: Vec<TcpStream>,
    first_sound: Duration,
    buffer: Vec<u8>,
}

impl Players {
    /// Connects one player and waits for its first sound, then connects the others.
    pub(crate) fn connect(address: SocketAddr, target: &str, count: usize) -> Players {
        let mut players = Players {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll"),
            sockets: Vec::new(),
            first_sound: Duration::ZERO,
            buffer: vec![0; 64 * 1024],
        };
        let began = Instant::now();
        let mut first = request(address, target);
        let mut head = Vec::new();
        first.set_read_timeout(Some(PATIENCE)).expect("a socket");
        // The head may come together with the first sound, or alone.
        while head.windows(4).position(|four| four == b"\r\n\r\n").is_none_or(|end| end + 4 == head.len()) {
            let read = first.read(&mut players.buffer).expect("an answer");
            assert!(read > 0, "the server ended the connection: {}", String::from_utf8_lossy(&head));
            head.extend_from_slice(&players.buffer[..read]);
        }
        assert!(head.starts_with(b"HTTP/1.") && head[8..].starts_with(b" 200"), "{:?}", head.get(..40));
        players.first_sound = began.elapsed();
        players.add(first);
        for _ in 1..count {
            let socket = request(address, target);
            players.add(socket);
        }
        players
    }

    /// Returns the time from the first player's connection to its first byte of sound.
    pub(crate) fn first_sound(&self) -> Duration {
        self.first_sound
    }

    /// Reads what all players get within that time, and returns the number of bytes.
    pub(crate) fn listen(&mut self, time: Duration) -> u64 {
        let (began, mut bytes) = (Instant::now(), 0);
        let mut events = Vec::with_capacity(256);
        while let Some(left) = time.checked_sub(began.elapsed()) {
            events.clear();
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("{error}"),
            }
            for event in &events {
                let mut socket = &self.sockets[event.data.u64() as usize];
                match socket.read(&mut self.buffer) {
                    Ok(0) => panic!("a stream ended"),
                    Ok(read) => bytes += read as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        bytes
    }

    fn add(&mut self, socket: TcpStream) {
        socket.set_nonblocking(true).expect("a socket");
        let data = epoll::EventData::new_u64(self.sockets.len() as u64);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).expect("a socket");
        self.sockets.push(socket);
    }
}

fn request(address: SocketAddr, target: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).expect("the server listens");
    socket
        .write_all(
            format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n\r\n").as_bytes(),
        )
        .expect("a request");
    socket
}
