//! Reloads, public sockets, `wavecast check`, and the names of inputs.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::card::{Card, CardOptions, Cards, Order};
use crate::support::daemon::Daemon;
use crate::support::http::{self, Response};
use crate::support::{PATIENCE, let_pass, wait_for, wait_within};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

const RAMP: &str = "[input.live]\ndevice = \"synth:ramp\"\n";
/// A time in which the daemon tries at least once more, without a line in its log, to listen on an address.
const MORE_THAN_A_RETRY: Duration = Duration::from_secs(4);

/// Returns a loopback address with a port that is free now, below the kernel's range for outgoing connections.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 8_000) as u16;
    let ports = (0..1000).map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed) % 1500);
    let is_free = |port: &u16| TcpListener::bind(("0.0.0.0", *port)).is_ok();
    let port = ports.into_iter().find(is_free).expect("a free port");
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Sends a GET from that address of this machine. Returns the response once its head is there.
fn get_from(source: [u8; 4], server: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Response {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .expect("a socket");
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::from(source), 0))).expect("a loopback address");
    rustix::net::connect(&socket, &server).expect("the server listens");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let text = http::request_text(server, "GET", target, "1.1", headers);
    stream.write_all(text.as_bytes()).expect("the request is sent");
    Response::read(stream, false)
}

/// Returns `true` once the connection of that stream ends.
fn ends(mut response: Response) -> thread::JoinHandle<()> {
    thread::spawn(move || while response.body.chunk().is_ok_and(|chunk| !chunk.is_empty()) {})
}

fn serves(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

fn count(daemon: &Daemon, text: &str) -> usize {
    daemon.log().iter().filter(|line| line.contains(text)).count()
}

/// A temporary folder that is removed when this is dropped. Every user may read it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("wavecast-check-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("permissions");
        Folder(folder)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, text).expect("a written file");
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wavecast"));
    command.args(arguments).env_remove("RUST_LOG").env_remove("JOURNAL_STREAM").stdin(Stdio::null());
    command
}

fn check(file: &Path) -> Output {
    program(&["check", "--config", file.to_str().expect("text")]).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Returns the line of the password file for a user.
fn password_line(user: &str, password: &str) -> String {
    let mut command = program(&["password", user]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program runs");
    child.stdin.take().expect("a pipe").write_all(password.as_bytes()).expect("written");
    text(&child.wait_with_output().expect("the program ends").stdout)
}

// Access rules.

#[test]
fn a_reload_that_narrows_the_rules_ends_the_listeners_that_are_not_allowed() {
    let rules = |allow: &str| format!("[access]\nallow = [\"127.0.0.1\", {allow}]\n{RAMP}");
    let daemon = Daemon::start(None, &rules("\"127.0.0.2\", \"127.0.0.3\""));
    daemon.wait_for_state("live", "capturing");
    let mut stays = get_from([127, 0, 0, 2], daemon.address(), "/live.wav", &[]);
    let goes = get_from([127, 0, 0, 3], daemon.address(), "/live.wav", &[]);
    assert_eq!((stays.status, goes.status), (200, 200));
    daemon.reload(&rules("\"127.0.0.2\""));
    daemon.wait_for_log("1 listener was disconnected, since [access] allow does not name them: 127.0.0.3");
    ends(goes).join().expect("the stream ends");
    stays.bytes(44_100 * 4);
    assert_eq!(daemon.listeners().len(), 1);
    assert_eq!(get_from([127, 0, 0, 3], daemon.address(), "/live.wav", &[]).status, 403);
}

#[test]
fn a_reload_that_narrows_the_rules_ends_the_pages_that_are_not_allowed() {
    let rules = |allow: &str| format!("[access]\nallow = [\"127.0.0.1\", {allow}]\n{RAMP}");
    let daemon = Daemon::start(None, &rules("\"127.0.0.3\""));
    daemon.wait_for_state("live", "capturing");
    let goes = get_from([127, 0, 0, 3], daemon.address(), "/live/levels", &[]);
    assert_eq!(goes.status, 200);
    daemon.reload(&rules("\"127.0.0.2\""));
    ends(goes).join().expect("the events end");
    assert_eq!(get_from([127, 0, 0, 3], daemon.address(), "/live/levels", &[]).status, 403);
}

#[test]
fn a_reload_that_changes_the_rules_ends_the_listeners_behind_a_proxy() {
    let rules = |allow: &str| {
        format!("[access]\nallow = [\"127.0.0.1\", {allow}]\ntrusted_proxies = [\"127.0.0.9\"]\n{RAMP}")
    };
    let daemon = Daemon::start(None, &rules("\"any\""));
    daemon.wait_for_state("live", "capturing");
    // A forged address beside the true one.
    let headers = [("X-Forwarded-For", "192.168.1.4"), ("X-Real-IP", "8.8.8.8")];
    let listener = get_from([127, 0, 0, 9], daemon.address(), "/live.wav", &headers);
    assert_eq!(listener.status, 200);
    daemon.reload(&rules("\"local\""));
    ends(listener).join().expect("the stream ends");
    assert_eq!(get_from([127, 0, 0, 9], daemon.address(), "/live.wav", &headers).status, 403);
}

#[test]
fn a_request_that_waits_for_its_card_is_judged_by_the_rules_of_a_reload() {
    // The open of a pipe waits for the first writer, and so does the open of this card.
    let folder = Folder::new();
    let pipe = folder.0.join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a pipe");
    let cards = Cards::with([("fake", CardOptions::default())]).and(&format!(
        "pcm.slow {{ type file slave.pcm null file /dev/null infile \"{}\" format raw }}\n",
        pipe.display()
    ));
    let rules = |allow: &str| {
        format!("[access]\nallow = [\"127.0.0.1\", {allow}]\n[input.live]\ndevice = \"slow\"\n")
    };
    let daemon = Daemon::start(Some(&cards), &rules("\"127.0.0.3\""));
    let address = daemon.address();
    let request = thread::spawn(move || get_from([127, 0, 0, 3], address, "/live.wav", &[]).status);
    let waits = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs").flatten();
        tasks
            .map(|task| fs::read_to_string(task.path().join("comm")))
            .any(|name| name.is_ok_and(|name| name.starts_with("waits")))
    };
    wait_for("a request that waits", || (waits() || request.is_finished()).then_some(()));
    daemon.reload(&rules("\"127.0.0.2\""));
    daemon.wait_for_log("the configuration was read again");
    let _writer = fs::OpenOptions::new().write(true).open(&pipe).expect("the card is its reader");
    // 503 is the answer too where the machine stood still for the 3 s that a request waits.
    assert_eq!(request.join().expect("an answer"), 503);
    assert!(daemon.listeners().is_empty());
}

#[test]
fn wider_rules_never_meet_an_input_that_is_removed() {
    let card = Card::new("secret", CardOptions::default());
    let secret = format!("[input.secret]\ndevice = \"{}\"\n", card.device());
    let (key, value) = card.env();
    let config = format!("[access]\nallow = \"127.0.0.1\"\n{RAMP}{secret}");
    let daemon = Daemon::with_env(&config, &[(key, value.as_os_str())], Stdio::piped());
    daemon.wait_for_state("secret", "capturing");
    // The end of the removed input takes as long as its card wants.
    card.stick();
    let address = daemon.address();
    let done = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(AtomicU32::new(0));
    let (end, counter) = (Arc::clone(&done), Arc::clone(&answers));
    let stranger = thread::spawn(move || {
        let mut statuses = Vec::new();
        while !end.load(Ordering::Relaxed) {
            statuses.push(get_from([127, 0, 0, 3], address, "/secret.wav", &[]).status);
            statuses.dedup();
            counter.fetch_add(1, Ordering::Relaxed);
        }
        statuses
    });
    let wait_for_answers = |more: u32| {
        let before = answers.load(Ordering::Relaxed);
        wait_for("answers", || (answers.load(Ordering::Relaxed) >= before + more).then_some(()));
    };
    wait_for_answers(1);
    daemon.reload(&format!("[access]\nallow = \"any\"\n{RAMP}"));
    daemon.wait_for_log("secret: the input was removed");
    wait_for_answers(20);
    card.command(Order::Run);
    daemon.wait_for_log("the configuration was read again");
    wait_for("the wider rules", || {
        (get_from([127, 0, 0, 3], address, "/live.wav", &[]).status == 200).then_some(())
    });
    done.store(true, Ordering::Relaxed);
    let statuses = stranger.join().expect("every request was answered");
    assert!(statuses.iter().all(|status| matches!(status, 403 | 404)), "{statuses:?}");
}

#[test]
fn a_reload_after_a_user_was_removed_ends_the_listeners() {
    let folder = Folder::new();
    let (anna, ben) = (password_line("anna", "one"), password_line("ben", "two"));
    let file = folder.file("passwords", &format!("{anna}{ben}"));
    let config = format!("[access]\npasswords = \"{}\"\n{RAMP}", file.display());
    let daemon = Daemon::start(None, &config);
    // anna:one
    let credentials = [("Authorization", "Basic YW5uYTpvbmU=")];
    let mut listener = wait_for("the stream", || {
        Some(daemon.get_with("/live.wav", &credentials)).filter(|response| response.status == 200)
    });
    // Another user more harms nobody.
    fs::write(&file, format!("{anna}{ben}{}", password_line("carl", "three"))).expect("a written file");
    daemon.signal("HUP");
    wait_for("the reload", || (count(&daemon, "was read again") == 1).then_some(()));
    listener.bytes(44_100 * 4);
    assert_eq!(count(&daemon, "disconnected, since"), 0);
    fs::write(&file, anna).expect("a written file");
    daemon.signal("HUP");
    daemon.wait_for_log("1 listener was disconnected, since the passwords or tokens have changed");
    ends(listener).join().expect("the stream ends");
}

// Public sockets.

#[test]
fn a_port_that_a_reload_cannot_have_leaves_the_old_one_and_is_tried_again() {
    let first = free_address();
    let config = |address: SocketAddr| format!("[http]\nlisten = \"{address}\"\n{RAMP}");
    let daemon = Daemon::start(None, &config(first));
    daemon.wait_for_state("live", "capturing");
    let mut listener = http::request(first, "GET", "/live.wav", "1.1", &[]);
    let second = free_address();
    let taken = TcpListener::bind(second).expect("a free port");
    daemon.reload_whole(&config(second));
    let line = daemon.wait_for_log("cannot listen on");
    assert!(line.contains("trying again every 3 s; the old addresses stay until then"), "{line}");
    daemon.wait_for_log("the configuration was read again");
    let_pass(MORE_THAN_A_RETRY);
    assert_eq!(http::request(first, "GET", "/healthz", "1.1", &[]).text(), "ok\n");
    assert_eq!(count(&daemon, "cannot listen on"), 1, "logged once");
    drop(taken);
    daemon.wait_for_log(&format!("open http://{second}/"));
    assert_eq!(http::request(second, "GET", "/healthz", "1.1", &[]).text(), "ok\n");
    wait_for("the old address to be closed", || (!serves(first)).then_some(()));
    listener.bytes(44_100 * 4);
}

#[test]
fn a_wider_address_that_cannot_be_had_gives_the_old_one_back() {
    let old = free_address();
    let daemon = Daemon::start(None, &format!("[http]\nlisten = \"{old}\"\n{RAMP}"));
    // The port on every address cannot be had while this socket has it on one.
    let taken = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), old.port())).expect("a free port");
    daemon.reload_whole(&format!("[http]\nlisten = \"0.0.0.0:{}\"\n{RAMP}", old.port()));
    daemon.wait_for_log("cannot listen on 0.0.0.0:");
    daemon.wait_for_log("the configuration was read again");
    assert_eq!(http::request(old, "GET", "/status.json", "1.1", &[]).status, 200);
    drop(taken);
    let other = SocketAddr::from(([127, 0, 0, 2], old.port()));
    wait_for("the wider address", || serves(other).then_some(()));
    assert_eq!(http::request(other, "GET", "/status.json", "1.1", &[]).status, 200);
}

#[test]
fn an_old_address_that_the_configuration_names_again_stays() {
    let first = free_address();
    let config = |address: SocketAddr| format!("[http]\nlisten = \"{address}\"\n{RAMP}");
    let daemon = Daemon::start(None, &config(first));
    let second = free_address();
    let _taken = TcpListener::bind(second).expect("a free port");
    daemon.reload_whole(&config(second));
    daemon.wait_for_log("the old addresses stay");
    daemon.reload_whole(&config(first));
    wait_for("the second reload", || (count(&daemon, "was read again") == 2).then_some(()));
    assert_eq!(http::request(first, "GET", "/status.json", "1.1", &[]).status, 200);
    assert_eq!(count(&daemon, "any more"), 0);
}

#[test]
fn a_missing_address_at_the_start_does_not_stop_the_others() {
    let address = free_address();
    // TEST-NET-1, RFC 5737: no machine has it.
    let config = format!("[http]\nlisten = [\"{address}\", \"192.0.2.55:4711\"]\n{RAMP}");
    let daemon = Daemon::start(None, &config);
    let line = daemon.wait_for_log("cannot listen on 192.0.2.55:4711");
    assert!(line.contains("this machine does not have that address; trying again every 3 s"), "{line}");
    daemon.wait_for_state("live", "capturing");
    let_pass(MORE_THAN_A_RETRY);
    assert_eq!(http::request(address, "GET", "/healthz", "1.1", &[]).text(), "ok\n");
    assert_eq!(count(&daemon, "cannot listen"), 1, "logged once");
    // A reload may remove other addresses meanwhile.
    let other = free_address();
    daemon.reload_whole(&format!("[http]\nlisten = [\"{other}\", \"192.0.2.55:4711\"]\n{RAMP}"));
    wait_for("the new address", || serves(other).then_some(()));
    wait_for("the old one to be closed", || (!serves(address)).then_some(()));
}

#[test]
fn the_only_address_that_is_served_stays_until_a_missing_one_is_there() {
    let address = free_address();
    // TEST-NET-1, RFC 5737: no machine has it.
    let missing = "192.0.2.55:4711";
    let daemon = Daemon::start(None, &format!("[http]\nlisten = [\"{address}\", \"{missing}\"]\n{RAMP}"));
    daemon.wait_for_log("cannot listen on 192.0.2.55:4711");
    daemon.reload_whole(&format!("[http]\nlisten = \"{missing}\"\n{RAMP}"));
    daemon.wait_for_log("the old addresses stay until then");
    daemon.wait_for_log("the configuration was read again");
    assert_eq!(http::request(address, "GET", "/status.json", "1.1", &[]).status, 200);
}

#[test]
fn a_service_that_listens_nowhere_is_not_ready_and_goes_on_trying() {
    let folder = Folder::new();
    let socket = UnixDatagram::bind(folder.0.join("notify")).expect("a socket");
    let messages: Arc<Mutex<Vec<String>>> = Arc::default();
    let received = Arc::clone(&messages);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = socket.recv(&mut buffer) {
            received.lock().expect("no panic").push(text(&buffer[..length]));
        }
    });
    let heard = |word: &str| messages.lock().expect("no panic").iter().any(|message| message.contains(word));
    let address = free_address();
    let taken = TcpListener::bind(address).expect("a free port");
    let notify = folder.0.join("notify");
    let env: [(&str, &OsStr); 1] = [("NOTIFY_SOCKET", notify.as_os_str())];
    let config = format!("[http]\nlisten = \"{address}\"\n{RAMP}");
    let mut daemon = Daemon::launch(&config, &[], &env, Stdio::piped());
    daemon.wait_for_log("cannot listen on");
    wait_for("the status line", || heard(&format!("STATUS=cannot listen on {address}; ")).then_some(()));
    // A reload changes nothing about that.
    daemon.signal("HUP");
    daemon.wait_for_log("was read again");
    assert!(!heard("READY=1") && !heard("RELOADING=1"));
    drop(taken);
    wait_for("readiness", || heard("READY=1").then_some(()));
    assert_eq!(http::request(address, "GET", "/healthz", "1.1", &[]).text(), "ok\n");
    daemon.signal("TERM");
    assert_eq!(daemon.wait().0.code(), Some(0));
}

// wavecast check.

#[test]
fn check_refuses_a_history_larger_than_the_memory_and_the_daemon_shortens_it() {
    let folder = Folder::new();
    let address = free_address();
    let config = format!(
        "[http]\nlisten = \"{address}\"\n[input.live]\ndevice = \"synth:tone\"\nhistory_seconds = 3600\n"
    );
    let file = folder.file("hour.toml", &config);
    let limited = |arguments: &str| {
        let script = format!("ulimit -v 400000; exec \"$0\" {arguments} --config \"$1\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_wavecast")]).arg(&file);
        command.env_remove("RUST_LOG").env_remove("JOURNAL_STREAM").stdin(Stdio::null());
        command
    };
    let output = limited("check").output().expect("the program runs");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let message = text(&output.stderr);
    let start = format!("{}:5: input.live.history_seconds: it takes 635 MB, but ", file.display());
    assert!(message.starts_with(&start) && message.contains("ulimit -v"), "{message}");

    let log = folder.0.join("log");
    let stderr = fs::File::create(&log).expect("a file");
    let mut child = limited("").stderr(stderr).spawn().expect("the program runs");
    wait_for("sound", || {
        let connected = TcpStream::connect(address).is_ok();
        (connected && http::request(address, "GET", "/healthz", "1.1", &[]).status == 200).then_some(())
    });
    let status = http::request(address, "GET", "/status.json", "1.1", &[]).text();
    let _ = child.kill();
    let _ = child.wait();
    let log = fs::read_to_string(&log).expect("a log");
    assert!(log.contains("live: history shortened from 3600 s to "), "{log}");
    assert!(!status.contains("\"history_seconds\": 3600"), "{status}");
}

#[test]
fn check_by_a_user_who_may_not_read_the_passwords_says_so_and_succeeds() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let folder = Folder::new();
    let passwords = folder.file("passwords", &password_line("anna", "one"));
    fs::set_permissions(&passwords, fs::Permissions::from_mode(0o600)).expect("permissions");
    let file = folder.file("w.toml", &format!("[access]\npasswords = \"{}\"\n{RAMP}", passwords.display()));
    // The build may be in a folder that other users cannot enter.
    let copy = folder.0.join("wavecast");
    fs::copy(env!("CARGO_BIN_EXE_wavecast"), &copy).expect("a copy");
    let output = Command::new(&copy)
        .args(["check", "--config"])
        .arg(&file)
        .uid(65_534)
        .gid(65_534)
        .current_dir("/")
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let summary = text(&output.stdout);
    let note = format!("may not read {}, so its contents were not checked\n", passwords.display());
    assert!(summary.starts_with(&format!("{} is good.\n", file.display())), "{summary}");
    assert!(summary.contains("Note: access.passwords: user ") && summary.ends_with(&note), "{summary}");
    // Root reads the file, and finds its mistakes.
    fs::write(&passwords, "anna\n").expect("a written file");
    let output = check(&file);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(text(&output.stderr).contains("passwords:1: access.passwords: "), "{output:?}");
}

#[test]
fn check_finds_two_names_of_one_card() {
    let folder = Folder::new();
    let file = folder.file(
        "same_card.toml",
        "[input.live]\ndevice = \"hw:1,0\"\n[input.kitchen]\ndevice = \"plughw:1,0\"\n",
    );
    let output = check(&file);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert_eq!(
        text(&output.stderr),
        format!(
            "{}:4: input.kitchen.device: \"plughw:1,0\" is the same card as \"hw:1,0\", the device of input.live (line 2)\n",
            file.display()
        )
    );
}

// Names.

#[test]
fn an_input_is_reached_by_its_aliases_and_the_first_one_as_live() {
    let config = "[input.roof]\ndevice = \"synth:ramp\"\naliases = [\"attic\"]\n\
                  [input.cellar]\ndevice = \"synth:tone\"\nrate = 8000\n";
    let daemon = Daemon::start(None, config);
    daemon.wait_for_state("roof", "capturing");
    daemon.wait_for_state("cellar", "capturing");
    let rate = |target: &str| {
        let mut response = daemon.get(target);
        assert_eq!(response.status, 200, "{target}");
        u32::from_le_bytes(response.bytes(44)[24..28].try_into().expect("four bytes"))
    };
    for (target, expected) in
        [("/roof.wav", 44_100), ("/attic.wav", 44_100), ("/live.wav", 44_100), ("/cellar.wav", 8000)]
    {
        assert_eq!(rate(target), expected, "{target}");
    }
    assert_eq!(daemon.get("/live.m3u").status, 200);
    assert_eq!(daemon.get("/garden.wav").status, 404);
    // Another name for people restarts no input.
    let mut listener = daemon.get("/roof.wav");
    let began = Instant::now();
    daemon.reload(
        &config.replace("\"attic\"", "\"loft\"").replace("rate = 8000", "rate = 8000\ntitle = \"Cellar\""),
    );
    wait_for("the new alias", || (daemon.get("/loft.wav").status == 200).then_some(()));
    assert_eq!(daemon.get("/attic.wav").status, 404);
    listener.bytes(44_100 * 4);
    assert!(count(&daemon, "capturing from") == 2, "after {:?}: {:?}", began.elapsed(), daemon.log());
}

// The log.

#[test]
fn a_burst_of_overruns_is_reported_while_another_input_overruns_all_the_time() {
    let options = || CardOptions { rates: vec![44_100], ..CardOptions::default() };
    let cards = Cards::with([("one", options()), ("two", options())]);
    let device = |name: &str| cards.card(name).device().to_owned();
    let config = ["one", "two"]
        .map(|name| format!("[input.{name}]\ndevice = \"{}\"\nbuffer_ms = 10000\n", device(name)));
    let config = config.concat();
    let daemon = Daemon::start(Some(&cards), &config);
    daemon.wait_for_state("one", "capturing");
    daemon.wait_for_state("two", "capturing");
    let overrun = |name: &str| {
        let before = daemon.input(name)["overruns"].as_u64();
        cards.card(name).command(Order::Overrun);
        wait_for("the overrun", || (daemon.input(name)["overruns"].as_u64() > before).then_some(()));
        cards.card(name).command(Order::Run);
    };
    (0..3).for_each(|_| overrun("one"));
    // Faster than once a second for longer than a burst's pause.
    wait_within(2 * PATIENCE, Duration::from_millis(100), "the end of the burst of one", || {
        overrun("two");
        (count(&daemon, "one: 3 overruns within") > 0).then_some(())
    });
    assert_eq!(count(&daemon, "one: 3 overruns within"), 1, "{:?}", daemon.log());
    assert_eq!(count(&daemon, "two: overrun"), 1, "{:?}", daemon.log());
}
