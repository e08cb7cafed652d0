//! The floor: the least that a server of many can do. One thread; for each block and listener one blocking
//! `send` on a plain socket; no HTTP but a head that is always the same.
//!
//! Nobody is protected from anybody here, nothing is configurable, and a single player that stops reading stops
//! all. It is what the others' cost is measured against.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, process, thread};

use wavecast::media::wav::{self, Sizes};

use crate::{FORMAT, FRAME_BYTES, RAMP_FRAMES, ramp};

/// The first argument of the process that is the floor.
pub(crate) const ARGUMENT: &str = "floor";

/// The floor as a process of its own, so that its CPU time is.
pub(crate) struct Floor {
    child: Child,
    address: SocketAddr,
}

impl Floor {
    /// Starts one that waits for so many listeners and then sends each of them so many frames at a time.
    pub(crate) fn start(listeners: usize, frames: usize) -> Floor {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args([ARGUMENT, &listeners.to_string(), &frames.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let mut port = [0; 2];
        child.stdout.as_mut().expect("it is piped").read_exact(&mut port).expect("its port");
        Floor { child, address: ([127, 0, 0, 1], u16::from_ne_bytes(port)).into() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What that process does until it is killed: its arguments are those of [`Floor::start`].
pub(crate) fn run(arguments: &[String]) -> ! {
    let [listeners, frames] = arguments else { panic!("LISTENERS and FRAMES") };
    let (listeners, frames): (usize, usize) =
        (listeners.parse().expect("a number"), frames.parse().expect("a number"));
    wavecast::sys::limits::raise_open_files();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("it is bound").port();
    std::io::stdout().write_all(&port.to_ne_bytes()).expect("the bench reads it");
    std::io::stdout().flush().expect("the bench reads it");

    let mut head = b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nConnection: close\r\n\r\n".to_vec();
    head.extend_from_slice(&wav::header(FORMAT, Sizes::Unknown));
    let mut players: Vec<TcpStream> = Vec::with_capacity(listeners);
    while players.len() < listeners {
        let (mut player, _) = socket.accept().expect("a player");
        player.set_nodelay(true).expect("a socket of our own");
        // The request, whatever it says.
        let _ = player.read(&mut [0; 1024]).expect("a request");
        player.write_all(&head).expect("it is there");
        players.push(player);
    }

    // Made before: sound costs the floor nothing.
    let ramp = ramp(0, RAMP_FRAMES + frames);
    let (began, mut sent) = (Instant::now(), 0);
    loop {
        let due = began + FORMAT.duration_of((sent + frames) as u64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let block = &ramp[sent % RAMP_FRAMES * FRAME_BYTES..][..frames * FRAME_BYTES];
        for player in &mut players {
            if player.write_all(block).is_err() {
                process::exit(0);
            }
        }
        sent += frames;
    }
}
