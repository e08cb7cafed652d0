//! Access: host names, addresses, proxies, passwords and pages of other origins.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::http::{self, Response};
use crate::support::wait_for;

const INPUT: &str = "[input.live]\ndevice = \"synth:ramp\"\n";

/// Starts a daemon with these lines in its table `[access]`, and waits for sound.
fn daemon(access: &str) -> Daemon {
    let daemon = Daemon::start(None, &format!("[access]\n{access}\n{INPUT}"));
    daemon.wait_for_log("capturing from");
    daemon
}

fn get(daemon: &Daemon, target: &str, headers: &[(&str, &str)]) -> Response {
    daemon.get_with(target, headers)
}

/// Returns the line that `wavecast password` prints.
fn password_line(user: &str, password: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wavecast"));
    command.args(["password", user]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    child.stdin.take().expect("piped").write_all(format!("{password}\n").as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

/// A file of passwords. It is removed on drop.
struct Passwords(PathBuf);

impl Passwords {
    fn of(name: &str, text: &str) -> Passwords {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("passwords-{}-{name}", std::process::id()));
        fs::write(&path, text).expect("written");
        Passwords(path)
    }

    fn key(&self) -> String {
        format!("passwords = {:?}", self.0.display().to_string())
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const ANNA: &str = "Basic YW5uYTpzZWNyZXQ="; // anna:secret
const WRONG: &str = "Basic YW5uYTp3cm9uZw=="; // anna:wrong

/// Sends a request with this Host and returns the status of the answer.
fn ask_as(daemon: &Daemon, host: &str, target: &str) -> u16 {
    let mut socket = http::connect(daemon.address());
    write!(socket, "GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("sent");
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).expect("a status line");
    line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status")
}

#[test]
fn a_web_page_from_elsewhere_gets_nothing_under_its_own_name() {
    let daemon = daemon("hosts = \"birdbox.example.org\"");
    for target in ["/", "/live.wav", "/status.json", "/healthz", "/live.m3u", "/nothing"] {
        assert_eq!(ask_as(&daemon, "evil.example", target), 403, "{target}");
        assert_eq!(ask_as(&daemon, "evil.example:4410", target), 403, "{target}");
    }
    for host in ["127.0.0.1:4410", "[::1]", "localhost", "pi.local", "birdbox.example.org"] {
        assert_eq!(ask_as(&daemon, host, "/live.wav"), 200, "{host}");
    }
    let refusal = get(&daemon, "/status.json", &[]);
    assert_eq!(refusal.header("access-control-allow-origin"), None);
}

#[test]
fn an_address_that_is_not_allowed_gets_403_with_the_reason() {
    let daemon = daemon("allow = \"192.0.2.0/24\"");
    for target in ["/", "/live.wav", "/status.json", "/nothing"] {
        let answer = get(&daemon, target, &[]);
        assert_eq!(answer.status, 403, "{target}");
        assert!(answer.text().contains("127.0.0.1 may not listen here"));
    }
}

#[test]
fn only_a_trusted_proxy_may_name_the_client() {
    let forwarded = [("X-Forwarded-For", "8.8.8.8")];
    let trusting = daemon("trusted_proxies = \"127.0.0.1\"");
    assert_eq!(get(&trusting, "/status.json", &forwarded).status, 403);
    assert_eq!(get(&trusting, "/status.json", &[("X-Forwarded-For", "192.168.1.4")]).status, 200);
    // A trusted proxy that names no client may speak for anybody.
    let unknown = get(&trusting, "/status.json", &[]);
    assert_eq!(unknown.status, 403);
    assert!(unknown.text().contains("does not say which client asks"));
    // Each kind of forwarding field names the client.
    for (header, value, status) in [
        ("X-Real-IP", "203.0.113.9", 403),
        ("Forwarded", "for=203.0.113.9", 403),
        ("CF-Connecting-IP", "203.0.113.9", 403),
        ("X-Forwarded-For", "unknown", 403),
        ("X-Real-IP", "192.168.1.4", 200),
        ("Forwarded", "for=\"[fd00::4]:99\";proto=https", 200),
        ("CF-Connecting-IP", "192.168.1.4", 200),
    ] {
        assert_eq!(get(&trusting, "/healthz", &[(header, value)]).status, status, "{header}: {value}");
    }
    let both = [("X-Forwarded-For", "192.168.1.4"), ("X-Real-IP", "203.0.113.9")];
    assert_eq!(get(&trusting, "/healthz", &both).status, 403);
    // An unnamed proxy makes the whole internet local, so its requests are refused.
    let refused = get(&daemon(""), "/status.json", &forwarded);
    assert_eq!(refused.status, 403);
    let text = refused.text();
    assert!(text.contains("trusted_proxies"), "{text}");
}

#[test]
fn with_passwords_everything_asks_for_one() {
    let file = Passwords::of("everything", &password_line("anna", "secret"));
    let daemon = daemon(&file.key());
    for target in ["/", "/live.wav", "/status.json", "/live.m3u", "/nothing"] {
        let answer = get(&daemon, target, &[]);
        assert_eq!(answer.status, 401, "{target}");
        assert!(answer.header("www-authenticate").expect("a challenge").starts_with("Basic realm="));
    }
    assert_eq!(get(&daemon, "/live.wav", &[("Authorization", WRONG)]).status, 401);
    assert_eq!(get(&daemon, "/live.wav", &[("Authorization", ANNA)]).status, 200);
    let page = get(&daemon, "/", &[("Authorization", ANNA)]);
    assert_eq!(page.status, 200);
}

#[test]
fn a_guesser_is_slowed_down_and_costs_listeners_nothing() {
    let file = Passwords::of("guesser", &password_line("anna", "secret"));
    let daemon = daemon(&file.key());
    let mut listener = get(&daemon, "/live.wav", &[("Authorization", ANNA)]);
    let (mut wrong, mut refused) = (0, 0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        match get(&daemon, "/status.json", &[("Authorization", WRONG)]).status {
            401 => wrong += 1,
            429 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!((5..=10).contains(&wrong), "{wrong} were checked, {refused} were refused");
    assert!(refused > 20, "{wrong} were checked, {refused} were refused");
    assert_eq!(
        get(&daemon, "/status.json", &[("Authorization", ANNA)]).status,
        200,
        "a right password is remembered"
    );
    // The listener was served meanwhile, with at least two seconds of sound.
    listener.bytes(44 + 2 * 176_400);
}

#[test]
fn passwords_are_read_again_on_reload_and_a_bad_file_changes_nothing() {
    let file = Passwords::of("reload", &password_line("anna", "secret"));
    let config = format!("[http]\nlisten = \"127.0.0.1:0\"\n[access]\n{}\n{INPUT}", file.key());
    let daemon = Daemon::start(None, &config);
    let status = |password: &str| get(&daemon, "/status.json", &[("Authorization", password)]).status;
    assert_eq!(status(ANNA), 200);

    fs::write(&file.0, "anna:plain").expect("written");
    daemon.reload_whole(&config);
    daemon.wait_for_log(":1: has no hash behind its user");
    assert_eq!(status(ANNA), 200);

    fs::write(&file.0, password_line("anna", "wrong")).expect("written");
    daemon.reload_whole(&config);
    wait_for("the new password", || (status(WRONG) == 200).then_some(()));
    // While the client has no try left the answer is 429, but it is never 200 again.
    wait_for("the old password to be refused", || match status(ANNA) {
        401 => Some(()),
        429 => None,
        other => panic!("{other}"),
    });
}

#[test]
fn without_its_file_of_passwords_the_daemon_does_not_start() {
    let config = Passwords::of("absent.toml", "[access]\npasswords = \"/nonexistent/passwords\"\n");
    for arguments in [&["--config"][..], &["check", "--config"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_wavecast")).args(arguments).arg(&config.0).output();
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(78));
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!(error, "/nonexistent/passwords: cannot be read: No such file or directory (os error 2)\n");
    }
}

#[test]
fn a_microphone_that_is_open_to_the_world_is_a_warning() {
    let open = daemon("allow = \"any\"");
    open.wait_for_log("everybody who can reach this machine may listen, from anywhere");
    let file = Passwords::of("open", &password_line("anna", "secret"));
    let closed = daemon(&format!("allow = \"any\"\n{}", file.key()));
    assert!(!closed.log().iter().any(|line| line.contains("from anywhere")));
}

/// Sends a request with this method and these header fields.
fn ask(daemon: &Daemon, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    http::request(daemon.address(), method, target, "1.1", headers)
}

const PAGE: (&str, &str) = ("Origin", "https://example.org");
const MAY_READ: &str = "access-control-allow-origin";

#[test]
fn a_page_from_elsewhere_may_read_if_its_origin_is_named() {
    let named = daemon("cors = [\"https://example.org\", \"http://pi:8080\"]");
    for (target, status) in [
        ("/", 200),
        ("/@page/app.js", 200),
        ("/live.wav", 200),
        ("/live.wav?latency=low", 200),
        ("/live.wav?for=1", 200),
        ("/live.wav?back=x", 400),
        ("/live.wav?stream=1&from=0&to=1", 410),
        ("/live/levels", 200),
        ("/live.m3u", 200),
        ("/live.pls", 200),
        ("/status.json", 200),
        ("/healthz", 200),
        ("/nothing", 404),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = ask(&named, method, target, &[PAGE]);
            assert_eq!(answer.status, status, "{method} {target}");
            assert_eq!(answer.header(MAY_READ), Some("https://example.org"), "{method} {target}");
            assert_eq!(answer.header("vary"), Some("Origin"), "{method} {target}");
            let exposed = answer.header("access-control-expose-headers").expect("some");
            assert!(exposed.contains("Wavecast-Frame") && exposed.contains("Content-Range"), "{exposed}");
            assert_eq!(answer.header("access-control-allow-credentials"), None);
        }
        for other in ["https://evil.example", "http://example.org", "null"] {
            let answer = ask(&named, "GET", target, &[("Origin", other)]);
            assert_eq!(answer.status, status, "{target}");
            assert_eq!(answer.header(MAY_READ), None, "{target} for {other}");
        }
        assert_eq!(ask(&named, "GET", target, &[]).header(MAY_READ), None, "{target}");
    }
    // No origin may read under a name that is not this machine's.
    let elsewhere = ask(&named, "GET", "/status.json", &[("Host", "evil.example"), PAGE]);
    assert_eq!((elsewhere.status, elsewhere.header(MAY_READ)), (403, None));

    let all = daemon("cors = \"*\"");
    assert_eq!(ask(&all, "GET", "/live.wav", &[PAGE]).header(MAY_READ), Some("*"));
    assert_eq!(ask(&all, "GET", "/live.wav", &[("Host", "evil.example"), PAGE]).status, 403);

    // A reload changes the rules for the requests that come after it.
    named.reload(INPUT);
    wait_for("nobody to be named", || {
        let answer = ask(&named, "GET", "/status.json", &[PAGE]);
        (answer.header(MAY_READ).is_none() && answer.header("vary").is_none()).then_some(())
    });
}

#[test]
fn a_browser_that_asks_first_gets_a_right_answer() {
    let file = Passwords::of("preflight", &password_line("anna", "secret"));
    let daemon = daemon(&format!("cors = \"https://example.org\"\n{}", file.key()));
    let (get, range) =
        (("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "authorization,range"));
    for target in
        ["/", "/live.wav?back=5", "/live/levels", "/levels", "/status.json", "/healthz", "/live.m3u"]
    {
        // There is no password: browsers never send one with a preflight request.
        let answer = ask(&daemon, "OPTIONS", target, &[PAGE, get, range]);
        assert_eq!(answer.status, 204, "{target}");
        assert_eq!(answer.header(MAY_READ), Some("https://example.org"));
        assert_eq!(answer.header("vary"), Some("Origin"));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET, HEAD"));
        let headers = answer.header("access-control-allow-headers").expect("some");
        assert!(headers.contains("Authorization") && headers.contains("Range"), "{headers}");
        assert_eq!(ask(&daemon, "OPTIONS", target, &[("Origin", "https://evil.example"), get]).status, 405);
    }
    assert_eq!(ask(&daemon, "OPTIONS", "/nothing", &[PAGE, get]).status, 404);
    assert_eq!(
        ask(&daemon, "OPTIONS", "/live.wav", &[PAGE]).status,
        405,
        "without a method it is no preflight request"
    );
    assert_eq!(ask(&daemon, "OPTIONS", "/live.wav", &[("Host", "evil.example"), PAGE, get]).status, 403);
    // The request that follows needs the password, and its 401 can be read by the page.
    let answer = ask(&daemon, "GET", "/status.json", &[PAGE]);
    assert_eq!((answer.status, answer.header(MAY_READ)), (401, Some("https://example.org")));
    let answer = ask(&daemon, "GET", "/status.json", &[PAGE, ("Authorization", ANNA)]);
    assert_eq!((answer.status, answer.header(MAY_READ)), (200, Some("https://example.org")));
}

#[test]
fn unless_it_is_configured_no_page_from_elsewhere_may_read_anything() {
    let daemon = daemon("");
    for target in ["/", "/live.wav", "/status.json", "/live/levels", "/nothing"] {
        let answer = ask(&daemon, "GET", target, &[PAGE]);
        assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("access-control") || name == "vary"));
        let question = ask(&daemon, "OPTIONS", target, &[PAGE, ("Access-Control-Request-Method", "GET")]);
        assert_eq!(question.status, 405, "{target}");
        assert!(!question.headers.iter().any(|(name, _)| name.starts_with("access-control")));
    }
}
