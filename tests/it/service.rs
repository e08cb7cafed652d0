//! The messages between the daemon and systemd, and the sockets that pass between the two.
//!
//! The tests play systemd's part of its protocols, sd_notify(3) and sd_listen_fds(3). tests/package.rs has the real
//! systemd.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::card::{Card, CardFormat, CardOptions, Order};
use crate::support::http::{self, Response};
use crate::support::listening::{Listener, number};
use crate::support::ramp::RampReader;
use crate::support::server::Server;
use crate::support::stopwatch::{Span, Stopwatch, assert_span_within};
use crate::support::{let_pass, strace, wait_for};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// A message to the service manager, with the descriptor that came with it.
#[derive(Clone, Debug)]
struct Message {
    text: String,
    socket: Option<Arc<OwnedFd>>,
}

/// The service manager.
struct Manager {
    folder: PathBuf,
    messages: Arc<Mutex<Vec<Message>>>,
}

impl Manager {
    fn new() -> Manager {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("wavecast-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let socket = UnixDatagram::bind(folder.join("notify")).expect("bound");
        let messages: Arc<Mutex<Vec<Message>>> = Arc::default();
        let received = Arc::clone(&messages);
        thread::spawn(move || {
            loop {
                let message = receive(&socket);
                received.lock().expect("no test panics holding it").push(message);
            }
        });
        Manager { folder, messages }
    }

    /// Starts the daemon with a configuration, environment variables and inherited sockets (at most two).
    fn start(&self, config: &str, env: &[(&str, OsString)], sockets: Vec<(&str, OwnedFd)>) -> Service {
        self.start_through(&[], config, env, sockets)
    }

    /// Starts the daemon like [`Manager::start`], through another program (with its arguments) that executes it.
    fn start_through(
        &self,
        through: &[String],
        config: &str,
        env: &[(&str, OsString)],
        sockets: Vec<(&str, OwnedFd)>,
    ) -> Service {
        let file = self.folder.join("wavecast.toml");
        fs::write(&file, config).expect("written");
        let log = self.folder.join("log");
        // LISTEN_PID has to be the daemon's process ID. A shell keeps its own when it executes the daemon.
        let mut command = Command::new("sh");
        let script = match sockets.len() {
            0 => "unset LISTEN_PID; exec \"$0\" \"$@\"",
            1 => "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"",
            _ => "exec 3<&0 4>&1 0</dev/null 1>&2; LISTEN_PID=$$ exec \"$0\" \"$@\"",
        };
        let mut words =
            through.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_wavecast"), "--config"]);
        command.args(["-c", script]).args(&mut words).arg(&file);
        command.env_remove("RUST_LOG").env_remove("JOURNAL_STREAM").stdin(Stdio::null());
        command.env("NOTIFY_SOCKET", self.folder.join("notify")).envs(env.iter().cloned());
        command.stderr(File::options().create(true).append(true).open(&log).expect("a log"));
        let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
        if !names.is_empty() {
            command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        }
        let mut sockets = sockets.into_iter().map(|(_, socket)| socket);
        if let Some(socket) = sockets.next() {
            command.stdin(socket);
        }
        if let Some(socket) = sockets.next() {
            command.stdout(socket);
        }
        self.messages.lock().expect("no test panics holding it").clear();
        Service { child: command.spawn().expect("it starts"), log }
    }

    /// Returns the messages of the running daemon until now.
    fn messages(&self) -> Vec<Message> {
        self.messages.lock().expect("no test panics holding it").clone()
    }

    /// Returns the number of messages that contain `text`.
    fn count(&self, text: &str) -> usize {
        self.messages().iter().filter(|message| message.text.contains(text)).count()
    }

    /// Waits for a message that contains `text`, and returns it.
    fn wait_for(&self, text: &str) -> Message {
        wait_for(&format!("a message with {text:?}"), || {
            self.messages().into_iter().find(|message| message.text.contains(text))
        })
    }

    /// Returns the address in the daemon's status.
    fn address(&self) -> SocketAddr {
        let status = self.wait_for("STATUS=http://").text;
        let host = status.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("a host");
        host.parse().expect("an address")
    }

    /// Returns the socket that the daemon has put into the store, with its name.
    fn stored(&self) -> (String, OwnedFd) {
        let message = self.wait_for("FDSTORE=1");
        let name = message.text.lines().find_map(|line| line.strip_prefix("FDNAME=")).expect("a name");
        let socket = message.socket.expect("a descriptor");
        (name.to_owned(), socket.try_clone().expect("a descriptor"))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- messages: {:#?}", self.messages());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Receives a message. CLOEXEC: the daemons that other tests start meanwhile must not inherit its socket.
fn receive(socket: &UnixDatagram) -> Message {
    let mut text = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
    let bytes = got.expect("a message").bytes;
    let mut sockets = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            sockets.extend(rights);
        }
    }
    let text = String::from_utf8(text[..bytes].to_vec()).expect("text");
    Message { text, socket: sockets.pop().map(Arc::new) }
}

/// The daemon as a child of the manager. It is killed on drop.
struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill runs").success());
    }

    fn wait(&mut self) -> Option<i32> {
        wait_for("it to end", || self.child.try_wait().expect("our child")).code()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the daemon's log:\n{}---", self.log());
        }
    }
}

/// Opens a listening socket, as a socket unit has one.
fn listening() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    (listener.into(), address)
}

/// Returns the number of connections that wait in a listening socket of 127.0.0.1 to be accepted.
fn waiting_connections(address: SocketAddr) -> u64 {
    // "sl local_address rem_address st tx_queue:rx_queue ...": state 0A is LISTEN, and the receive queue of a listening
    // socket counts connections, see proc_net_tcp(5).
    let text = fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let local = format!("0100007F:{:04X}", address.port());
    let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let queue = fields
        .filter(|fields| fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"0A"))
        .find_map(|fields| u64::from_str_radix(fields.get(4)?.split_once(':')?.1, 16).ok());
    queue.expect("a listening socket")
}

fn config(listen: &str, device: &str) -> String {
    format!("[http]\nlisten = \"{listen}\"\n[input.live]\ndevice = \"{device}\"\nbuffer_ms = 500\n")
}

fn tone() -> String {
    config("127.0.0.1:0", "synth:tone")
}

fn get(address: SocketAddr, target: &str) -> http::Response {
    http::request(address, "GET", target, "1.1", &[])
}

#[test]
fn the_daemon_is_ready_once_its_port_is_open() {
    let manager = Manager::new();
    let mut service = manager.start(&tone(), &[], vec![]);
    manager.wait_for("READY=1");
    let order = |text: &str| manager.messages().iter().position(|message| message.text.contains(text));
    assert!(order("STATUS=") < order("READY=1"), "the status line is there by then");
    assert!(TcpStream::connect(manager.address()).is_ok());
    service.signal("TERM");
    assert_eq!(service.wait(), Some(0));
    manager.wait_for("STOPPING=1");
}

#[test]
fn a_daemon_that_listens_nowhere_is_not_ready_until_it_can() {
    let manager = Manager::new();
    let (taken, address) = listening();
    let mut service = manager.start(&config(&address.to_string(), "synth:tone"), &[], vec![]);
    manager.wait_for(&format!("STATUS=cannot listen on {address}"));
    assert_eq!(manager.count("READY"), 0);
    drop(taken);
    manager.wait_for("READY=1");
    assert_eq!(get(address, "/healthz").status, 200);
    service.signal("TERM");
    assert_eq!(service.wait(), Some(0));
}

/// The bytes of the calls, by connection.
type Calls = Arc<Mutex<Vec<(u32, Vec<u8>)>>>;

/// The system bus with Avahi: answers every method call. tests/package.rs has the real ones.
struct FakeAvahi {
    /// The calls of each connection that is open.
    connections: Calls,
    path: PathBuf,
}

impl FakeAvahi {
    fn new(path: PathBuf) -> FakeAvahi {
        let listener = UnixListener::bind(&path).expect("bound");
        let connections = Calls::default();
        let shared = Arc::clone(&connections);
        thread::spawn(move || {
            for (number, stream) in (0..).zip(listener.incoming().flatten()) {
                let shared = Arc::clone(&shared);
                shared.lock().expect("no panic").push((number, Vec::new()));
                thread::spawn(move || {
                    let keep = |message: &[u8]| {
                        let mut all = shared.lock().expect("no panic");
                        let (_, calls) = all.iter_mut().find(|(it, _)| *it == number).expect("it is open");
                        calls.extend(message);
                    };
                    let _ = serve_bus(stream, keep);
                    shared.lock().expect("no panic").retain(|(it, _)| *it != number);
                });
            }
        });
        FakeAvahi { connections, path }
    }

    /// Waits until the calls of the open connections are so.
    fn wait_until(&self, event: &str, wanted: impl Fn(&[(u32, Vec<u8>)]) -> bool) {
        wait_for(event, || wanted(&self.connections.lock().expect("no panic")).then_some(()));
    }
}

/// Plays the bus on one connection until it is closed.
fn serve_bus(mut stream: UnixStream, keep: impl Fn(&[u8])) -> std::io::Result<()> {
    let mut line = Vec::new();
    for (end, answer) in [("\r\n", "OK 0123\r\n"), ("BEGIN\r\n", "")] {
        while !line.ends_with(end.as_bytes()) {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            line.extend(byte);
        }
        assert!(line.starts_with(b"\0AUTH EXTERNAL "), "{line:?}");
        stream.write_all(answer.as_bytes())?;
    }
    loop {
        let mut start = [0; 16];
        stream.read_exact(&mut start)?;
        let number =
            |at: usize| u32::from_le_bytes(start[at..at + 4].try_into().expect("four bytes")) as usize;
        let mut rest = vec![0; number(12).next_multiple_of(8) + number(4)];
        stream.read_exact(&mut rest)?;
        // Before the calls are kept, so that who waits for one finds that it is answered. First a signal, which is to be skipped.
        let mut answer = vec![b'l', 4, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        // The body is a string for EntryGroupNew; GetState reads its length as a state, 2: established.
        let body = match contains(&rest, b"GetHostNameFqdn") {
            true => &b"\x0c\0\0\0bird-2.local\0"[..],
            false => b"\x02\0\0\0/g\0",
        };
        answer.extend([b'l', 2, 0, 1, body.len() as u8, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 5, 1, b'u', 0]);
        answer.extend(&start[8..12]);
        answer.extend(body);
        stream.write_all(&answer)?;
        keep(&rest);
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[test]
fn a_daemon_that_other_machines_reach_is_announced_with_its_true_port_while_it_runs() {
    let manager = Manager::new();
    let avahi = FakeAvahi::new(manager.folder.join("bus"));
    let station = "[station]\ntitle = \"Bird box\"\n";
    let public = format!("{station}{}", config("0.0.0.0:0", "synth:tone"));
    let address = format!("unix:path={}", avahi.path.display());
    // The watchdog's timeout makes the daemon report, and look at the announcement, every second.
    let env = [("DBUS_SYSTEM_BUS_ADDRESS", address.into()), ("WATCHDOG_USEC", "3000000".into())];
    let mut service = manager.start(&public, &env, vec![]);
    let port = manager.address().port();
    let announced = |calls: &[u8], port: u16| {
        // The name, the type, two empty texts and the port, each where D-Bus aligns it.
        [("_http._tcp", "path=/"), ("_vlc-http._tcp", "path=/live.wav")].iter().all(|(kind, path)| {
            let service =
                [b"Bird box\0\0\0\0", &(kind.len() as u32).to_le_bytes()[..], kind.as_bytes()].concat();
            contains(calls, &service) && contains(calls, path.as_bytes())
        }) && contains(calls, &port.to_le_bytes())
            && contains(calls, b"Commit")
    };
    avahi.wait_until("the announcement", |open| open.len() == 1 && announced(&open[0].1, port));
    // The announcement stays, and the daemon checks it.
    avahi.wait_until("a look", |open| contains(&open[0].1, b"GetState"));
    avahi.wait_until("one connection", |open| open.len() == 1 && open[0].0 == 0);
    // The name that Avahi has for this machine, since another one has its name, is told to people.
    wait_for("the name", || {
        let named = format!("http://bird-2.local:{port}/");
        service.log().contains(&named).then_some(())
    });

    // Only this machine listens: not announced.
    fs::write(manager.folder.join("wavecast.toml"), format!("{station}{}", tone())).expect("written");
    service.signal("HUP");
    avahi.wait_until("the end of the announcement", <[_]>::is_empty);
    fs::write(manager.folder.join("wavecast.toml"), &public).expect("written");
    service.signal("HUP");
    avahi.wait_until("the announcement", |open| open.len() == 1 && contains(&open[0].1, b"Commit"));
    service.signal("TERM");
    assert_eq!(service.wait(), Some(0));
    avahi.wait_until("the end of the announcement", <[_]>::is_empty);
}

#[test]
fn the_status_line_has_address_listeners_and_inputs() {
    let manager = Manager::new();
    let card = Card::new("live", CardOptions::default());
    let (key, value) = card.env();
    let env = [(key, value.into_os_string()), ("WATCHDOG_USEC", "3000000".into())];
    let _service = manager.start(&config("127.0.0.1:0", card.device()), &env, vec![]);
    let status = manager.wait_for("live: live: ").text;
    let address = manager.address();
    assert!(
        status.starts_with(&format!("STATUS=http://{address}/; nobody listens; live: live: ")),
        "{status}"
    );
    assert!(status.contains("44100 Hz, stereo, S16_LE"), "{status}");

    let listener = get(address, "/live.wav");
    manager.wait_for("; 1 listener; ");
    card.command(Order::Unplug);
    let status = manager.wait_for("unplugged").text;
    assert!(status.contains("; live: no sound: the sound card was unplugged"), "{status}");
    drop(listener);

    // An unchanged status is not sent again, and the status is one line.
    for pair in manager.messages().iter().filter(|m| m.text.contains("STATUS")).collect::<Vec<_>>().windows(2)
    {
        assert_ne!(pair[0].text, pair[1].text);
        assert_eq!(pair[0].text.trim_end().lines().count(), 1);
    }
}

#[test]
fn a_reload_is_reported_and_a_refused_one_is_not() {
    let manager = Manager::new();
    let service = manager.start(&tone(), &[], vec![]);
    manager.wait_for("READY=1");
    service.signal("HUP");
    wait_for("it to be ready again", || (manager.count("READY=1") == 2).then_some(()));
    let reloading = manager.wait_for("RELOADING=1").text;
    assert!(reloading.contains("MONOTONIC_USEC="), "systemd 253 and newer want it");

    fs::write(manager.folder.join("wavecast.toml"), "unknown = 1").expect("written");
    service.signal("HUP");
    wait_for("the mistake to be logged", || service.log().contains("stays as it was").then_some(()));
    assert_eq!(manager.count("RELOADING=1"), 1);
}

#[test]
fn the_watchdog_is_fed_while_there_is_sound_and_while_a_card_is_only_waited_for() {
    for device in ["synth:tone", "hw:CARD=NotThere"] {
        let manager = Manager::new();
        let _service =
            manager.start(&config("127.0.0.1:0", device), &[("WATCHDOG_USEC", "3000000".into())], vec![]);
        wait_for("the watchdog to be fed", || (manager.count("WATCHDOG=1") >= 3).then_some(()));
    }
}

#[test]
fn without_a_watchdog_none_is_fed() {
    let manager = Manager::new();
    let _service = manager.start(&tone(), &[], vec![]);
    let address = manager.address();
    let _listener = get(address, "/live.wav");
    manager.wait_for("1 listener");
    assert_eq!(manager.count("WATCHDOG"), 0);
}

#[test]
fn the_watchdog_is_not_fed_while_a_capture_thread_hangs() {
    let manager = Manager::new();
    let card = Card::new("live", CardOptions::default());
    let (key, value) = card.env();
    let env = [(key, value.into_os_string()), ("WATCHDOG_USEC", "3000000".into())];
    let service = manager.start(&config("127.0.0.1:0", card.device()), &env, vec![]);
    wait_for("the watchdog to be fed", || (manager.count("WATCHDOG=1") >= 2).then_some(()));
    card.stick();
    wait_for("it to be noticed", || {
        service.log().contains("live: its capture thread does not move").then_some(())
    });
    let fed = manager.count("WATCHDOG=1");
    // Longer than the watchdog's timeout, after which systemd ends the daemon.
    let_pass(Duration::from_millis(3200));
    assert_eq!(manager.count("WATCHDOG=1"), fed);
    // The card answers again.
    card.command(Order::Run);
    wait_for("the watchdog to be fed again", || (manager.count("WATCHDOG=1") > fed).then_some(()));
}

#[test]
fn a_process_that_was_stopped_for_20_seconds_goes_on_at_the_live_edge() {
    let manager = Manager::new();
    let card = Card::new("live", CardOptions { rates: vec![44_100], ..CardOptions::default() });
    let (key, value) = card.env();
    let env = [(key, value.into_os_string()), ("WATCHDOG_USEC", "3000000".into())];
    let service = manager.start(&config("127.0.0.1:0", card.device()), &env, vec![]);
    manager.wait_for("READY=1");
    let server = Server::at(manager.address());
    server.wait_for_state("live", "capturing");
    let listener = Listener::start(&server, "/live.wav?back=30", RampReader::new(CardFormat::S16, 2));
    let low = Listener::start(&server, "/live.wav?latency=low", RampReader::new(CardFormat::S16, 2));
    let mut events = get(server.address(), "/live/levels");
    listener.hear_more(Duration::from_secs(1));
    let before = server.input("live");

    let began = Stopwatch::start();
    service.signal("STOP");
    let_pass(Duration::from_secs(20));
    let fed = manager.count("WATCHDOG=1");
    service.signal("CONT");
    let stood_still = began.by_the_clock();
    wait_for("the watchdog to be fed again", || (manager.count("WATCHDOG=1") > fed).then_some(()));
    for _ in 0..20 {
        events.body.chunk().expect("levels go on");
    }
    // Both listeners are at the live edge again, and the frames that they did not hear are counted.
    for one in [&listener, &low] {
        one.hear_more(Duration::from_secs(1));
        assert_eq!(one.ending(), None, "it is connected");
    }
    println!("went on after {:?}", began.by_the_clock() - stood_still);
    let after = server.input("live");
    let grew = |key: &str| number(&after, key) - number(&before, key);
    // The card's buffer of half a second is heard. Silence takes the place of the rest.
    assert!(grew("overruns") >= 1, "{after}");
    let silence = Duration::from_secs_f64(grew("silence_frames") as f64 / 44_100.0);
    let most = began.by_the_clock();
    assert!(silence > Duration::from_secs(19) && silence < most, "{silence:?} of silence in {most:?}");
    let passed = (grew("frames") + grew("silence_frames")) as f64 / 44_100.0;
    assert!(passed > 20.0, "{passed} s");
    wait_for("both to be at the live edge", || {
        let mut lags = server.listeners().into_iter().map(|one| one["lag_ms"].as_f64().expect("a number"));
        lags.all(|lag_ms| lag_ms < 1000.0).then_some(())
    });
    // Frames heard and frames skipped are all frames.
    let heard = listener.look_at(RampReader::frames);
    let skipped: u64 = server.listeners().iter().map(|one| number(one, "frames_skipped")).max().unwrap_or(0);
    let all = number(&after, "frames") + number(&after, "silence_frames");
    assert!(heard + skipped + 44_100 / 2 >= all, "{heard} heard, {skipped} skipped, of {all}");
    let _fresh = get(server.address(), "/live.wav");
}

#[test]
fn a_socket_unit_says_where_to_listen() {
    let manager = Manager::new();
    let (first, one) = listening();
    let (second, two) = listening();
    let unused = listening().1;
    let sockets = vec![("wavecast.socket", first), ("other", second)];
    let service = manager.start(&config(&unused.to_string(), "synth:tone"), &[], sockets);
    manager.wait_for("READY=1");
    for address in [one, two] {
        assert_eq!(get(address, "/status.json").status, 200, "{address}");
    }
    assert!(TcpStream::connect(unused).is_err(), "in place of [http] listen");
    assert!(service.log().contains("in place of [http] listen"));
    assert_eq!(manager.count("FDSTORE"), 0, "systemd has them already");
    // A reload does not change that.
    service.signal("HUP");
    wait_for("it to be ready again", || (manager.count("READY=1") == 2).then_some(()));
    assert!(TcpStream::connect(unused).is_err());
    assert_eq!(get(one, "/status.json").status, 200);
}

#[test]
fn a_client_that_connects_while_no_daemon_runs_is_served_by_the_next_one() {
    let (socket, address) = listening();
    let same = |socket: &OwnedFd| vec![("wavecast.socket", socket.try_clone().expect("a descriptor"))];
    let manager = Manager::new();
    for signal in ["TERM", "KILL"] {
        let mut service = manager.start(&tone(), &[], same(&socket));
        manager.wait_for("READY=1");
        assert_eq!(get(address, "/status.json").status, 200);
        service.signal(signal);
        service.wait();
        let early = thread::spawn(move || get(address, "/status.json").status);
        wait_for("the client to wait in the socket", || (waiting_connections(address) == 1).then_some(()));
        assert!(!early.is_finished());
        let _service = manager.start(&tone(), &[], same(&socket));
        assert_eq!(early.join().expect("no panic"), 200);
    }
}

#[test]
fn a_player_that_waits_in_the_socket_during_a_restart_hears_sound() {
    let (socket, address) = listening();
    let same = |socket: &OwnedFd| vec![("wavecast.socket", socket.try_clone().expect("a descriptor"))];
    let manager = Manager::new();
    let card = Card::new("live", CardOptions::default());
    let (key, value) = card.env();
    let env = [(key, value.into_os_string())];
    for _ in 0..5 {
        // The player waits in the socket before the daemon runs, and so asks before the card is open.
        let player = thread::spawn(move || get(address, "/live.wav").status);
        wait_for("the player to wait in the socket", || (waiting_connections(address) == 1).then_some(()));
        let mut service = manager.start(&config("127.0.0.1:0", card.device()), &env, same(&socket));
        assert_eq!(player.join().expect("no panic"), 200);
        service.signal("TERM");
        service.wait();
    }
}

#[test]
fn a_descriptor_that_is_no_listening_tcp_socket_is_refused_and_named() {
    let cases: [(OwnedFd, &str); 3] = [
        (UdpSocket::bind("127.0.0.1:0").expect("a port").into(), "it is for datagrams"),
        (UnixDatagram::unbound().expect("a socket").into(), "it is of another address family"),
        (File::open("/dev/null").expect("it is there").into(), "Socket operation on non-socket"),
    ];
    for (given, why) in cases {
        let manager = Manager::new();
        let mut service = manager.start(&tone(), &[], vec![("wavecast.socket", given)]);
        assert_eq!(service.wait(), Some(1));
        let log = service.log();
        assert!(log.contains("systemd handed over \"wavecast.socket\"") && log.contains(why), "{log}");
    }
}

#[test]
fn listening_sockets_are_stored_with_systemd_and_used_again() {
    let manager = Manager::new();
    let (reserved, address) = listening();
    drop(reserved);
    let config = config(&address.to_string(), "synth:tone");
    let mut service = manager.start(&config, &[], vec![]);
    manager.wait_for("READY=1");
    let (name, socket) = manager.stored();
    assert_eq!(name, format!("listen {address}").replace(':', "-"));
    service.signal("TERM");
    service.wait();
    // Only this test has the socket open now, so that a bind to the address would fail.
    let service = manager.start(&config, &[], vec![(&name, socket.try_clone().expect("a descriptor"))]);
    manager.wait_for("READY=1");
    assert_eq!(get(address, "/status.json").status, 200);
    assert_eq!(manager.count("FDSTOREREMOVE"), 0);

    // The socket of an address that is not configured any more is removed, so that no client waits in it for ever.
    let elsewhere = listening().1;
    fs::write(
        manager.folder.join("wavecast.toml"),
        config.replace(&address.to_string(), &elsewhere.to_string()),
    )
    .expect("written");
    service.signal("HUP");
    let message = manager.wait_for("FDSTOREREMOVE=1").text;
    assert!(message.contains(&format!("FDNAME={name}\n")), "{message}");
    wait_for("the new address", || TcpStream::connect(elsewhere).ok());
    assert!(TcpStream::connect(address).is_err());
    drop(socket);
}

#[test]
fn a_stored_socket_of_an_address_that_is_not_configured_any_more_is_removed() {
    let manager = Manager::new();
    let (old, address) = listening();
    let name = format!("listen {address}").replace(':', "-");
    let _service = manager.start(&tone(), &[], vec![(&name, old.try_clone().expect("a descriptor"))]);
    manager.wait_for("READY=1");
    let message = manager.wait_for("FDSTOREREMOVE=1").text;
    assert!(message.contains(&format!("FDNAME={name}\n")), "{message}");
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(get(manager.address(), "/status.json").status, 200);
}

#[test]
fn an_accepted_connection_is_answered_before_the_end_however_late_its_request_is_read() {
    if !strace::can_inject() {
        return;
    }
    let manager = Manager::new();
    // A machine that is too busy reads as late as this. Each thread's first read is delayed.
    let strace = strace::around(&manager.folder.join("strace"), "recvfrom", "delay_enter=150000:when=1");
    let mut service = manager.start_through(&strace, &tone(), &[], vec![]);
    manager.wait_for("READY=1");
    let address = manager.address();
    let mut stream = http::connect(address);
    let text = http::request_text(address, "GET", "/healthz", "1.1", &[]);
    stream.write_all(text.as_bytes()).expect("the request is sent");
    wait_for("it to be accepted", || (waiting_connections(address) == 0).then_some(()));
    service.signal("TERM");
    assert_eq!(Response::read(stream, false).text(), "ok\n");
    assert_eq!(service.wait(), Some(0));
}

#[test]
fn restarts_under_load_refuse_nobody() {
    let manager = Manager::new();
    let mut service = manager.start(&tone(), &[], vec![]);
    manager.wait_for("READY=1");
    let address = manager.address();
    let (name, socket) = manager.stored();
    // The kernel chose the port for the first daemon. The others have it with the socket.
    let done = Arc::new(AtomicBool::new(false));
    // The pauses between connect and request, as clients that are far away or slow have them.
    let clients = [0, 0, 3, 30, 100, 200].map(Duration::from_millis).map(|hesitation| {
        let served: Arc<AtomicU32> = Arc::default();
        let (done, counter) = (Arc::clone(&done), Arc::clone(&served));
        let thread = thread::spawn(move || {
            let mut longest = Span::default();
            while !done.load(Ordering::Relaxed) {
                let began = Stopwatch::start();
                let mut stream = http::connect(address);
                let_pass(hesitation);
                let text = http::request_text(address, "GET", "/status.json", "1.1", &[]);
                stream.write_all(text.as_bytes()).expect("the request is sent");
                assert_eq!(Response::read(stream, false).status, 200);
                longest = longest.max(began.span());
                counter.fetch_add(1, Ordering::Relaxed);
            }
            longest
        });
        (thread, served)
    });
    for _ in 0..5 {
        for (_, served) in &clients {
            let before = served.load(Ordering::Relaxed);
            wait_for("each to be served", || (served.load(Ordering::Relaxed) > before).then_some(()));
        }
        service.signal("TERM");
        assert_eq!(service.wait(), Some(0));
        service =
            manager.start(&tone(), &[], vec![(&name, socket.as_fd().try_clone_to_owned().expect("one"))]);
        manager.wait_for("READY=1");
    }
    done.store(true, Ordering::Relaxed);
    let longest =
        clients.into_iter().map(|(client, _)| client.join().expect("every request was answered")).max();
    assert_span_within(
        longest.expect("six"),
        Duration::from_secs(15),
        "the slowest request during a restart",
    );
}
