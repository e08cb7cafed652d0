//! The time of short requests and of the first byte of a stream, on new and on kept connections.
//!
//! Several programs run at the same time and are asked in alternating rounds, so that a noisy second hits each of them.

use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, Settings};
use crate::http;

/// Requests of one kind in a round.
const REQUESTS: usize = 100;
/// Time after which a request fails the measurement.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The kinds of requests, in the order of the table.
pub(crate) const KINDS: [&str; 5] = [
    "`GET /healthz`, new connection",
    "`GET /healthz`, kept connection",
    "`GET /`, new connection",
    "`GET /`, kept connection",
    "first byte of sound, new connection",
];

/// The times of one program: for each of [`KINDS`], all times in ascending order.
pub(crate) type Times = [Vec<Duration>; KINDS.len()];

/// Measures the programs in this number of rounds, after `settle`.
pub(crate) fn measure(programs: &[PathBuf], settle: Duration, rounds: usize) -> Result<Vec<Times>, String> {
    let start = |(number, program): (usize, &PathBuf)| {
        Daemon::start(program, &format!("short-{number}"), Settings::default())
    };
    let daemons: Vec<Daemon> = programs.iter().enumerate().map(start).collect::<Result<_, _>>()?;
    // A burst needs a history.
    thread::sleep(settle);
    let mut times: Vec<Times> = daemons.iter().map(|_| Times::default()).collect();
    for _ in 0..rounds {
        for (daemon, times) in daemons.iter().zip(&mut times) {
            measure_round(daemon.address(), times)?;
        }
    }
    times.iter_mut().flatten().for_each(|times| times.sort_unstable());
    Ok(times)
}

fn measure_round(address: SocketAddr, times: &mut Times) -> Result<(), String> {
    let [health_new, health_kept, page_new, page_kept, sound] = times;
    for (path, new, kept) in [("/healthz", health_new, health_kept), ("/", page_new, page_kept)] {
        let failed = |error: io::Error| format!("GET {path}: {error}");
        for _ in 0..REQUESTS {
            new.push(on_new_connection(address, path).map_err(failed)?);
        }
        let mut connection = connect(address).map_err(failed)?;
        for _ in 0..REQUESTS {
            kept.push(request(&mut connection, address, path).map_err(failed)?);
        }
    }
    for _ in 0..REQUESTS {
        let time = http::time_to_sound(Ipv4Addr::LOCALHOST, address, 1, TIMEOUT);
        sound.push(time.map_err(|reason| format!("GET /live.wav: {reason}"))?);
        // The server notices that a listener has left when it sends the next time.
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    Ok(BufReader::new(socket))
}

/// Returns the time from before the connect to the end of the answer.
fn on_new_connection(address: SocketAddr, path: &str) -> io::Result<Duration> {
    let began = Instant::now();
    request(&mut connect(address)?, address, path)?;
    Ok(began.elapsed())
}

/// Returns the time from the request to the end of the answer.
fn request(connection: &mut BufReader<TcpStream>, address: SocketAddr, path: &str) -> io::Result<Duration> {
    let text = http::get(address, path);
    let began = Instant::now();
    connection.get_mut().write_all(text.as_bytes())?;
    match http::read_answer(connection)? {
        200 => Ok(began.elapsed()),
        status => Err(io::Error::other(format!("answered with {status}"))),
    }
}
