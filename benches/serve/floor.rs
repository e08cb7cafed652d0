//! The floor: the least work of a server with many listeners. A single thread makes one blocking `send` on a plain
//! socket for each block and listener; the only HTTP is a constant response head.
//!
//! The floor has no configuration and does not isolate listeners: one player that stops reading stops all. The
//! benchmark measures the cost of the other servers against the floor.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, process, thread};

use wavecast::media::wav::{self, Sizes};

use crate::{FORMAT, FRAME_BYTES, RAMP_FRAMES, ramp};

/// The first command-line argument of the floor's process.
pub(crate) const ARGUMENT: &str = "floor";

/// The floor in a process of its own, so that its CPU time can be measured separately.
pub(crate) struct Floor {
    child: Child,
    address: SocketAddr,
}

impl Floor {
    /// Starts a floor that waits for `listeners` listeners and then sends each of them `frames` frames at a time.
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

/// Runs the floor's process until it is killed. The arguments are those of [`Floor::start`].
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
        // The request is read and ignored.
        let _ = player.read(&mut [0; 1024]).expect("a request");
        player.write_all(&head).expect("it is there");
        players.push(player);
    }

    // Rendered in advance, so that the sound itself costs the floor no CPU time.
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
