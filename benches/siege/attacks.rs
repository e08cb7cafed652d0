//! The attacks, in the order of the table.
//!
//! Every loop ends with the time of the attack, and every connect, send and receive has a timeout of one second.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::attacker::{Attacker, Random, is_reset, reset};
use crate::http;

/// The definition of an attack.
pub(crate) struct Attack {
    /// The name for `--attack`.
    pub(crate) name: &'static str,
    /// The description in the table.
    pub(crate) title: &'static str,
    /// The duration as a multiple of the ordinary one (10 s).
    pub(crate) duration: u32,
    /// The daemon's limit of open files, where the attack needs one.
    pub(crate) open_files: Option<u32>,
    /// Resident memory that the daemon may use above idle, in MB.
    pub(crate) memory_mb: f64,
    /// Streams that the attackers ask for at once. The daemon may use a thread for each stream that falls behind.
    pub(crate) streams: u64,
    /// The unit of what the attackers count as sent.
    pub(crate) sent: &'static str,
    pub(crate) run: fn(&Attacker),
}

/// The values of most attacks.
const ORDINARY: Attack = Attack {
    name: "idle",
    title: "none",
    duration: 1,
    open_files: None,
    memory_mb: 16.0,
    streams: 0,
    sent: "requests",
    run: idle,
};

pub(crate) const ATTACKS: [Attack; 11] = [
    ORDINARY,
    Attack {
        name: "header-bomb",
        title: "a header line of 200 MB, 3 at once, repeated",
        sent: "pieces of 64 KiB",
        run: header_bomb,
        ..ORDINARY
    },
    Attack {
        name: "few-descriptors",
        title: "400 half requests held, daemon at `ulimit -n 256`",
        open_files: Some(256),
        run: half_requests,
        ..ORDINARY
    },
    Attack {
        name: "slow-heads",
        title: "1000 slow heads",
        sent: "header lines",
        run: slow_heads,
        ..ORDINARY
    },
    Attack {
        name: "pipeline",
        title: "60 addresses pipeline `GET /live.wav` without pause",
        streams: 60,
        run: pipeline,
        ..ORDINARY
    },
    Attack {
        name: "healthz",
        title: "60 addresses, `GET /healthz` in a row, answers read",
        run: healthz,
        ..ORDINARY
    },
    Attack {
        name: "connects",
        title: "5000 connections a second: nothing, half, whole, read; closed or reset",
        duration: 2,
        streams: 64,
        run: connects,
        ..ORDINARY
    },
    Attack {
        name: "never-readers",
        title: "800 never-readers from 40 addresses, half of them come again each 1.5 s",
        sent: "streams, 8 pages or 8 status requests",
        memory_mb: 32.0,
        streams: 400,
        run: never_readers,
        ..ORDINARY
    },
    Attack { name: "bodies", title: "100 addresses announce bodies of 100 GB", run: bodies, ..ORDINARY },
    Attack {
        name: "gone-senders",
        title: "1200 queued requests whose senders have gone, each second",
        sent: "connections with requests",
        run: gone_senders,
        ..ORDINARY
    },
    Attack {
        name: "random",
        title: "random bytes",
        streams: 16,
        sent: "messages",
        run: random_bytes,
        ..ORDINARY
    },
];

fn idle(attacker: &Attacker) {
    attacker.sleep(Duration::MAX);
}

fn header_bomb(attacker: &Attacker) {
    const PIECE: usize = 64 * 1024;
    let piece = vec![b'x'; PIECE];
    attacker.repeat_in_parallel(3, |address| {
        let Some(mut stream) = attacker.connect(address) else { return };
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nX: ");
        let pieces =
            (0..200_000_000 / PIECE).take_while(|_| !attacker.is_over() && stream.write_all(&piece).is_ok());
        attacker.count_sent(pieces.count() as u64);
        attacker.read_answer(&mut BufReader::new(stream));
    });
}

fn half_requests(attacker: &Attacker) {
    let half = b"GET /live.wav HTTP/1.1\r\nHost: 127.0.0.1\r\n";
    let open = |address, _| {
        let mut stream = attacker.connect(address)?;
        stream.write_all(half).ok()?;
        Some(stream)
    };
    attacker.hold(40, 10, Duration::from_millis(250), open, |stream| attacker.is_open(stream));
}

fn slow_heads(attacker: &Attacker) {
    let open = |address, _| {
        let mut stream = attacker.connect(address)?;
        stream.write_all(b"GET /live.wav HTTP/1.1\r\nHost: 127.0.0.1\r\n").ok()?;
        Some(stream)
    };
    let keep = |mut stream: &TcpStream| {
        let is_open = attacker.is_open(stream) && stream.write_all(b"X: y\r\n").is_ok();
        attacker.count_sent(is_open.into());
        is_open
    };
    attacker.hold(25, 40, Duration::from_secs(1), open, keep);
}

fn pipeline(attacker: &Attacker) {
    let request = attacker.get("/live.wav");
    let requests = request.repeat(20_000);
    attacker.repeat_in_parallel(60, |address| {
        let Some(mut stream) = attacker.connect(address) else { return };
        let mut sent = 0;
        while sent < requests.len() && !attacker.is_over() {
            match stream.write(&requests.as_bytes()[sent..]) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        attacker.count_sent((sent / request.len()) as u64);
    });
}

fn healthz(attacker: &Attacker) {
    let request = attacker.get("/healthz");
    attacker.repeat_in_parallel(60, |address| {
        let Some(stream) = attacker.connect(address) else { return };
        let mut stream = BufReader::new(stream);
        while !attacker.is_over() && stream.get_mut().write_all(request.as_bytes()).is_ok() {
            attacker.count_sent(1);
            if !attacker.read_answer(&mut stream) {
                break;
            }
        }
    });
}

fn connects(attacker: &Attacker) {
    const THREADS: u32 = 20;
    const ADDRESSES: usize = 200;
    let interval = Duration::from_secs(1) * THREADS / 5000;
    let paths = ["/", "/healthz", "/status.json", "/live.wav"];
    attacker.in_parallel(THREADS as usize, |thread| {
        let mut random = Random(0x5EED + thread as u64);
        let mut due = Instant::now();
        while !attacker.is_over() {
            let now = Instant::now();
            // After a stall the rate goes on; the stall is not made up for.
            due = (due + interval).max(now - Duration::from_millis(100));
            thread::sleep(due.saturating_duration_since(now));
            let Some(mut stream) = attacker.connect(random.below(ADDRESSES)) else { continue };
            let request = attacker.get(paths[random.below(paths.len())]);
            match random.below(4) {
                0 => {}
                1 => drop(stream.write(&request.as_bytes()[..request.len() / 2])),
                2 => drop(stream.write(request.as_bytes())),
                _ => {
                    let _ = stream.write(request.as_bytes());
                    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                    let mut answer = [0; 1024];
                    let count = stream.read(&mut answer).unwrap_or(0);
                    let status = http::status_of(&answer[..count]);
                    status.iter().for_each(|status| attacker.count_answer(*status));
                }
            }
            if random.below(2) == 0 {
                reset(stream);
            }
        }
    });
}

fn never_readers(attacker: &Attacker) {
    const EACH: usize = 20;
    // Half of the connections ask for a stream, a quarter for pages, a quarter for the status, whose length grows
    // with the number of listeners. Eight requests ahead of their answers are permitted; more is another attack.
    let stream = attacker.get("/live.wav");
    let pages = attacker.get("/").repeat(8);
    let status = attacker.get("/status.json").repeat(8);
    let texts = [&stream, &pages, &stream, &status];
    let open = |address, number: usize| {
        let mut connection = attacker.connect_narrow(address)?;
        connection.write_all(texts[number % texts.len()].as_bytes()).ok()?;
        attacker.count_sent(1);
        Some(connection)
    };
    thread::scope(|scope| {
        // Half of the addresses stay, the others leave after 1.5 s and come again.
        scope.spawn(|| {
            attacker.hold(20, EACH, Duration::from_millis(250), open, |stream| !is_reset(stream));
        });
        attacker.repeat_in_parallel(20, |address| {
            let numbers = (0..EACH).take_while(|_| !attacker.is_over());
            let held: Vec<_> = numbers.map(|number| open(20 + address, number)).collect();
            attacker.sleep(Duration::from_millis(1500));
            drop(held);
        });
    });
}

fn bodies(attacker: &Attacker) {
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 100000000000\r\n\r\nthe beginning of a body",
        attacker.target
    );
    attacker.repeat_in_parallel(100, |address| {
        let Some(mut stream) = attacker.connect(address) else { return };
        attacker.count_sent(stream.write_all(request.as_bytes()).is_ok().into());
        attacker.read_answer(&mut BufReader::new(stream));
    });
}

fn gone_senders(attacker: &Attacker) {
    // Four requests a connection, so that more wait than the daemon answers before their senders are gone.
    let requests = ["/status.json", "/", "/healthz", "/status.json"].map(|path| attacker.get(path)).concat();
    attacker.in_parallel(40, |address| {
        while !attacker.is_over() {
            let round = Instant::now();
            let connections =
                (0..30).map_while(|_| attacker.connect(address)).take_while(|_| !attacker.is_over());
            let mut connections: Vec<TcpStream> = connections.collect();
            for stream in &mut connections {
                attacker.count_sent(stream.write_all(requests.as_bytes()).is_ok().into());
            }
            for (number, stream) in connections.into_iter().enumerate() {
                if number % 2 == 0 {
                    reset(stream);
                }
            }
            attacker.sleep(Duration::from_secs(1).saturating_sub(round.elapsed()));
        }
    });
}

fn random_bytes(attacker: &Attacker) {
    let mut random = Random(0xD1CE);
    while !attacker.is_over() {
        let mut bytes: Vec<u8> = (0..1 + random.below(3000)).map(|_| random.number() as u8).collect();
        let kind = random.number();
        // Half of them consist of the characters of a request, and half of them begin or end like one.
        if kind & 1 == 0 {
            let characters = b"GET /live.wav HTTP1?=&%:,;-\"\r\n\0\xff";
            bytes.iter_mut().for_each(|byte| *byte = characters[usize::from(*byte) % characters.len()]);
        }
        if kind & 2 == 0 {
            bytes.splice(..0, *b"GET /live.wav HTTP/1.1\r\n");
        }
        if kind & 4 == 0 {
            bytes.extend(b"\r\n\r\n");
        }
        let Some(mut stream) = attacker.connect(random.below(250)) else { continue };
        attacker.count_sent(stream.write_all(&bytes).is_ok().into());
        if kind & 8 == 0 {
            reset(stream);
        }
    }
}
