//! What systemd hears of the daemon, and the sockets that pass between the two.
//!
//! The tests stand at systemd's end of its protocols, sd_notify(3) and sd_listen_fds(3). That the real one takes it
//! all as it is meant is shown in tests/package.rs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
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
use crate::support::stopwatch::Stopwatch;
use crate::support::strace;
use crate::support::wait_for;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use wavecast::sys::socket;

/// A message to the service manager, and the descriptor that came with it.
#[derive(Clone, Debug)]
struct Message {
    text: String,
    socket: Option<Arc<OwnedFd>>,
}

/// The service manager.
struct Manager {
    folder: PathBuf,
    heard: Arc<Mutex<Vec<Message>>>,
}

impl Manager {
    fn new() -> Manager {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("wavecast-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let socket = UnixDatagram::bind(folder.join("notify")).expect("bound");
        let heard: Arc<Mutex<Vec<Message>>> = Arc::default();
        let notes = Arc::clone(&heard);
        thread::spawn(move || {
            loop {
                let message = receive(&socket);
                notes.lock().expect("no test panics holding it").push(message);
            }
        });
        Manager { folder, heard }
    }

    /// Starts the daemon with that configuration, environment and inherited sockets (at most two).
    fn start(&self, config: &str, env: &[(&str, OsString)], sockets: Vec<(&str, OwnedFd)>) -> Service {
        self.start_through(&[], config, env, sockets)
    }

    /// The same, started by another program (with its arguments) that becomes the daemon.
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
        // A shell keeps its process number when it becomes the daemon, which is what LISTEN_PID has to be.
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
        self.heard.lock().expect("no test panics holding it").clear();
        Service { child: command.spawn().expect("it starts"), log }
    }

    fn heard(&self) -> Vec<Message> {
        self.heard.lock().expect("no test panics holding it").clone()
    }

    fn count(&self, text: &str) -> usize {
        self.heard().iter().filter(|message| message.text.contains(text)).count()
    }

    fn wait_for(&self, text: &str) -> Message {
        wait_for(&format!("{text:?} to be told"), || {
            self.heard().into_iter().find(|message| message.text.contains(text))
        })
    }

    /// Where the daemon says that it can be reached.
    fn address(&self) -> SocketAddr {
        let status = self.wait_for("STATUS=http://").text;
        let host = status.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("a host");
        host.parse().expect("an address")
    }

    /// What the daemon left in the store.
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
            eprintln!("--- told: {:#?}", self.heard());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn receive(socket: &UnixDatagram) -> Message {
    let mut text = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::empty());
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

/// The daemon as the manager's child.
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

/// A listening socket of the test's own, as a socket unit has one.
fn listening() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    (listener.into(), address)
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
fn it_is_ready_once_its_port_is_open() {
    let manager = Manager::new();
    let mut service = manager.start(&tone(), &[], vec![]);
    manager.wait_for("READY=1");
    let order = |text: &str| manager.heard().iter().position(|message| message.text.contains(text));
    assert!(order("STATUS=") < order("READY=1"), "what a person reads is there by then");
    assert!(TcpStream::connect(manager.address()).is_ok());
    service.signal("TERM");
    assert_eq!(service.wait(), Some(0));
    manager.wait_for("STOPPING=1");
}

#[test]
fn one_that_cannot_start_is_never_ready() {
    let manager = Manager::new();
    let (_taken, address) = listening();
    let mut service = manager.start(&config(&address.to_string(), "synth:tone"), &[], vec![]);
    assert_eq!(service.wait(), Some(1));
    assert_eq!(manager.count("READY"), 0);
}

#[test]
fn one_line_tells_a_person_where_who_and_what() {
    let manager = Manager::new();
    let card = Card::new("live", CardOptions::default());
    let (key, value) = card.env();
    let env = [(key, value.into_os_string()), ("WATCHDOG_USEC", "3000000".into())];
    let _service = manager.start(&config("127.0.0.1:0", card.device()), &env, vec![]);
    let heard = manager.wait_for("live: live: ").text;
    let address = manager.address();
    assert!(heard.starts_with(&format!("STATUS=http://{address}/; nobody listens; live: live: ")), "{heard}");
    assert!(heard.contains("44100 Hz, stereo, S16_LE"), "{heard}");

    let listener = get(address, "/live.wav");
    manager.wait_for("; 1 listener; ");
    card.command(Order::Unplug);
    let heard = manager.wait_for("unplugged").text;
    assert!(heard.contains("; live: no sound: the sound card was unplugged"), "{heard}");
    drop(listener);

    // What has not changed is not told again, and a line is one line.
    for pair in manager.heard().iter().filter(|m| m.text.contains("STATUS")).collect::<Vec<_>>().windows(2) {
        assert_ne!(pair[0].text, pair[1].text);
        assert_eq!(pair[0].text.trim_end().lines().count(), 1);
    }
}

#[test]
fn a_reload_is_told_and_a_bad_one_is_none() {
    let manager = Manager::new();
    let service = manager.start(&tone(), &[], vec![]);
    manager.wait_for("READY=1");
    service.signal("HUP");
    wait_for("it to be ready again", || (manager.count("READY=1") == 2).then_some(()));
    let reloading = manager.wait_for("RELOADING=1").text;
    assert!(reloading.contains("MONOTONIC_USEC="), "what systemd 253 and newer want with it");

    fs::write(manager.folder.join("wavecast.toml"), "what = 1").expect("written");
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
fn nobody_who_was_not_asked_for_a_watchdog_feeds_one() {
    let manager = Manager::new();
    let _service = manager.start(&tone(), &[], vec![]);
    let address = manager.address();
    let _listener = get(address, "/live.wav");
    manager.wait_for("1 listener");
    assert_eq!(manager.count("WATCHDOG"), 0);
}

#[test]
fn a_capture_thread_that_does_not_come_back_is_not_covered_up() {
    let manager = Manager::new();
    let card = Card::new("live", CardOptions::default());
    let (key, value) = card.env();
    let env = [(key, value.into_os_string()), ("WATCHDOG_USEC", "3000000".into())];
    let service = manager.start(&config("127.0.0.1:0", card.device()), &env, vec![]);
    wait_for("the watchdog to be fed", || (manager.count("WATCHDOG=1") >= 2).then_some(()));
    card.command(Order::Stuck);
    wait_for("it to be noticed", || {
        service.log().contains("live: its capture thread does not move").then_some(())
    });
    let fed = manager.count("WATCHDOG=1");
    // Longer than the watchdog's patience: systemd would have ended it by now.
    thread::sleep(Duration::from_millis(3200));
    assert_eq!(manager.count("WATCHDOG=1"), fed);
    // It comes back, and all is well.
    card.command(Order::Run);
    wait_for("the watchdog to be fed again", || (manager.count("WATCHDOG=1") > fed).then_some(()));
}

#[test]
fn a_process_that_stood_still_for_20_seconds_goes_on_where_the_time_is() {
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
    thread::sleep(Duration::from_secs(20));
    let fed = manager.count("WATCHDOG=1");
    service.signal("CONT");
    let stood_still = began.by_the_clock();
    wait_for("the watchdog to be fed again", || (manager.count("WATCHDOG=1") > fed).then_some(()));
    for _ in 0..20 {
        events.body.chunk().expect("levels go on");
    }
    // Both are at the live edge again, and what they did not hear is counted.
    for one in [&listener, &low] {
        one.hear_more(Duration::from_secs(1));
        assert_eq!(one.ending(), None, "it is connected");
    }
    println!("went on after {:?}", began.by_the_clock() - stood_still);
    let after = server.input("live");
    let grew = |key: &str| number(&after, key) - number(&before, key);
    // The card's buffer, half a second, was kept; the rest is silence, as long as it lasted.
    assert!(grew("overruns") >= 1, "{after}");
    let silence = Duration::from_secs_f64(grew("silence_frames") as f64 / 44_100.0);
    let most = stood_still + began.stolen() + Duration::from_millis(500);
    assert!(silence > Duration::from_secs(19) && silence < most, "{silence:?} of silence");
    let passed = (grew("frames") + grew("silence_frames")) as f64 / 44_100.0;
    assert!(passed > 20.0, "{passed} s");
    for status in server.listeners() {
        assert!(status["lag_ms"].as_f64().expect("a number") < 1000.0, "{status}");
    }
    // Nobody heard less than there was without being told of it.
    let heard = listener.look_at(RampReader::frames);
    let skipped: u64 = server.listeners().iter().map(|one| number(one, "frames_skipped")).max().unwrap_or(0);
    let all = number(&after, "frames") + number(&after, "silence_frames");
    assert!(heard + skipped + 44_100 / 2 >= all, "{heard} heard, {skipped} skipped, of {all}");
    let _fresh = get(server.address(), "/live.wav");
}

#[test]
fn one_that_begins_anew_is_the_same_to_the_manager() {
    let manager = Manager::new();
    let mut service = manager.start(&tone(), &[("WATCHDOG_USEC", "3000000".into())], vec![]);
    manager.wait_for("READY=1");
    let address = manager.address();
    let text = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", 1_u64 << 62);
    wait_for("it to begin anew", || {
        for _ in 0..50 {
            let Ok(mut stream) = TcpStream::connect(address) else { continue };
            let _ = stream.write_all(text.as_bytes());
        }
        service.log().contains("beginning anew").then_some(())
    });
    wait_for("it to be ready again", || (manager.count("READY=1") == 2).then_some(()));
    assert_eq!(get(address, "/status.json").status, 200, "the same socket");
    assert_eq!((manager.count("STOPPING=1"), manager.count("RELOADING=1")), (0, 1));
    let fed = manager.count("WATCHDOG=1");
    wait_for("the watchdog to be fed", || (manager.count("WATCHDOG=1") > fed + 2).then_some(()));
    assert!(service.child.try_wait().expect("our child").is_none(), "it is the same process");
    service.signal("TERM");
    assert_eq!(service.wait(), Some(0));
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
    // Nor does a reload change that.
    service.signal("HUP");
    wait_for("it to be ready again", || (manager.count("READY=1") == 2).then_some(()));
    assert!(TcpStream::connect(unused).is_err());
    assert_eq!(get(one, "/status.json").status, 200);
}

#[test]
fn who_connects_while_nothing_runs_is_served_by_the_next_run() {
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
        thread::sleep(Duration::from_millis(100));
        assert!(!early.is_finished(), "it waits");
        let _service = manager.start(&tone(), &[], same(&socket));
        assert_eq!(early.join().expect("no panic"), 200);
    }
}

#[test]
fn a_player_that_comes_back_at_once_after_a_restart_hears_something() {
    let (socket, address) = listening();
    let same = |socket: &OwnedFd| vec![("wavecast.socket", socket.try_clone().expect("a descriptor"))];
    let manager = Manager::new();
    let card = Card::new("live", CardOptions::default());
    let (key, value) = card.env();
    let env = [(key, value.into_os_string())];
    for _ in 0..5 {
        // It waits in the socket before anything runs, and so asks before there is a card.
        let player = thread::spawn(move || get(address, "/live.wav").status);
        thread::sleep(Duration::from_millis(20));
        let mut service = manager.start(&config("127.0.0.1:0", card.device()), &env, same(&socket));
        assert_eq!(player.join().expect("no panic"), 200);
        service.signal("TERM");
        service.wait();
    }
}

#[test]
fn what_is_no_listening_tcp_socket_is_refused_and_named() {
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
fn listening_sockets_are_left_with_systemd_and_taken_up_again() {
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
    // Nobody but this test has it open now, so binding anew would fail.
    let service = manager.start(&config, &[], vec![(&name, socket.try_clone().expect("a descriptor"))]);
    manager.wait_for("READY=1");
    assert_eq!(get(address, "/status.json").status, 200);
    assert_eq!(manager.count("FDSTOREREMOVE"), 0);

    // An address that is listened on no more is given up: nobody shall wait there for ever.
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
fn a_stored_socket_that_the_configuration_does_not_name_any_more_is_given_up() {
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
fn who_was_let_in_is_answered_before_it_ends_however_late_the_request_is_read() {
    if !strace::can_inject() {
        return;
    }
    let manager = Manager::new();
    // As on a machine that has no time for the thread that is to read it. Each reads for the first time.
    let strace = strace::around(&manager.folder.join("strace"), "recvfrom", "delay_enter=150000:when=1");
    let mut service = manager.start_through(&strace, &tone(), &[], vec![]);
    manager.wait_for("READY=1");
    let address = manager.address();
    let (_, socket) = manager.stored();
    let mut stream = http::connect(address);
    let text = http::request_text(address, "GET", "/healthz", "1.1", &[]);
    stream.write_all(text.as_bytes()).expect("the request is sent");
    // Nobody waits for it any more: it was accepted.
    wait_for("it to be let in", || (socket::waiting_connections(&socket) == 0).then_some(()));
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
    // The port was the kernel's choice; from now on it is that of the socket.
    let done = Arc::new(AtomicBool::new(false));
    // Each takes so long to ask, as if it were far away, or on a machine that does not get on.
    let clients = [0, 0, 3, 30, 100, 200].map(Duration::from_millis).map(|hesitation| {
        let served: Arc<AtomicU32> = Arc::default();
        let (done, counter) = (Arc::clone(&done), Arc::clone(&served));
        let thread = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let began = Stopwatch::start();
                let mut stream = http::connect(address);
                thread::sleep(hesitation);
                let text = http::request_text(address, "GET", "/status.json", "1.1", &[]);
                stream.write_all(text.as_bytes()).expect("the request is sent");
                assert_eq!(Response::read(stream, false).status, 200);
                longest = longest.max(began.elapsed());
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
    for (client, _) in clients {
        let longest = client.join().expect("every request was answered");
        assert!(longest < Duration::from_secs(5), "{longest:?}");
    }
}
