//! Access: host names, addresses, proxies, passwords and pages of other origins.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::http::{self, Response};
use crate::support::{PATIENCE, wait_for};

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

/// Runs a command of wavecast with this configuration and standard input, and returns success, output and messages.
fn command(config: &Passwords, arguments: &[&str], input: &str) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wavecast"));
    command.arg("--config").arg(&config.0).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
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
    // Two seconds bring four tries more; on a slow machine the refusals take longer.
    while refused <= 20 || began.elapsed() < Duration::from_secs(2) {
        match get(&daemon, "/status.json", &[("Authorization", WRONG)]).status {
            401 => wrong += 1,
            429 => refused += 1,
            other => panic!("{other}"),
        }
        assert!(began.elapsed() < 2 * PATIENCE, "{wrong} were checked, {refused} were refused");
    }
    // Five at once and then two a second.
    let most = 6.0 + 2.0 * began.elapsed().as_secs_f64();
    assert!(wrong >= 5 && f64::from(wrong) <= most, "{wrong} were checked, {refused} were refused");
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
    daemon.wait_for_log(":1: access.passwords: has no hash behind its name");
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
        let expected =
            "access.passwords: /nonexistent/passwords cannot be read: No such file or directory (os error 2)";
        assert_eq!(error, format!("{}:2: {expected}\n", config.0.display()));
    }
}

#[test]
fn commands_write_the_file_that_the_configuration_names() {
    let file = Passwords::of("written", "# ours\n");
    let config = Passwords::of("written.toml", &format!("[access]\n{}\n", file.key()));
    let path = file.0.display().to_string();
    let run = |arguments: &[&str], input| {
        let (success, output, messages) = command(&config, arguments, input);
        assert!(success, "{arguments:?}: {messages}");
        (output, messages)
    };
    let (output, messages) = run(&["password", "--write", "anna"], "secret\n");
    assert_eq!(output, "");
    let added =
        format!("The user anna was added to {path}.\nTo apply this: sudo systemctl reload wavecast\n");
    assert_eq!(messages, added);
    let mode = fs::metadata(&file.0).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
    let first = fs::read_to_string(&file.0).expect("text");
    let (_, messages) = run(&["password", "--write", "anna"], "another\n");
    assert!(messages.starts_with("The password of anna was changed in "), "{messages}");
    let second = fs::read_to_string(&file.0).expect("text");
    assert!(first != second && second.starts_with("# ours\nanna:$argon2id$") && second.lines().count() == 2);

    let (token, messages) = run(&["token", "--write", "anna"], "");
    assert!(messages.contains("The token anna was added to "), "{messages}");
    let stored = fs::read_to_string(&file.0).expect("text");
    assert!(token.trim().len() == 22 && !stored.contains(token.trim()) && !messages.contains(token.trim()));
    assert_eq!(run(&["password", "--list"], "").0, "anna\n");
    assert_eq!(run(&["token", "--list"], "").0, "anna\n");
    let (_, messages) = run(&["token", "--delete", "anna"], "");
    assert!(messages.starts_with("The token anna was removed from "), "{messages}");
    assert_eq!(fs::read_to_string(&file.0).expect("text"), second);
    let (success, _, messages) = command(&config, &["token", "--delete", "anna"], "");
    assert!(!success && messages.starts_with("There is no token \"anna\" in "), "{messages}");

    // A pipe gets the line, and the file stays as it is.
    for arguments in [&["password", "ben"][..], &["password", "--print", "ben"]] {
        let (output, _) = run(arguments, "x");
        assert!(output.starts_with("ben:$argon2id$") && output.lines().count() == 1, "{output}");
    }
    assert_eq!(fs::read_to_string(&file.0).expect("text"), second);
    let (_, messages) = run(&["password", "--delete", "anna"], "");
    assert!(messages.contains("The file has no user and no token now."), "{messages}");
    let (success, _, messages) = command(&config, &["check"], "");
    let expected = format!("{}:2: access.passwords: {path} has no user and no token", config.0.display());
    assert!(!success && messages.starts_with(&expected), "{messages}");
}

#[test]
fn a_password_file_that_others_can_read_is_a_warning() {
    let file = Passwords::of("exposed", &password_line("anna", "secret"));
    let config = Passwords::of("exposed.toml", &format!("[access]\n{}\n", file.key()));
    let set = |mode| fs::set_permissions(&file.0, fs::Permissions::from_mode(mode)).expect("set");
    set(0o644);
    let warning =
        format!("access.passwords: every user of this machine may read {} (mode 0644): ", file.0.display());
    let (success, output, _) = command(&config, &["check"], "");
    assert!(success && output.contains(&format!("Warning: {}:2: {warning}", config.0.display())), "{output}");
    let daemon = daemon(&file.key());
    daemon.wait_for_log(&warning);
    daemon.reload(&format!("[access]\n{}\n{INPUT}", file.key()));
    wait_for("the warning again", || (daemon.count_log(&warning) == 2).then_some(()));
    set(0o600);
    let (success, output, _) = command(&config, &["check"], "");
    assert!(success && !output.contains(&warning), "{output}");
}

/// A file with the user anna and a token, and the token.
fn with_token(name: &str) -> (Passwords, String) {
    let file = Passwords::of(name, &password_line("anna", "secret"));
    let config = Passwords::of(&format!("{name}.toml"), &format!("[access]\n{}\n", file.key()));
    let (success, token, messages) = command(&config, &["token", "--write", "radio"], "");
    assert!(success, "{messages}");
    (file, token.trim().to_owned())
}

#[test]
fn a_token_in_the_address_is_let_in_everywhere_and_shown_nowhere() {
    let (file, token) = with_token("token");
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"trace\"\n[access]\n{}\n{INPUT}",
        file.key()
    );
    let daemon = Daemon::start(None, &config);
    daemon.wait_for_log("capturing from");
    let mut listener = get(&daemon, &format!("/live.wav?token={token}"), &[("User-Agent", "Radio/1")]);
    assert_eq!(listener.status, 200);
    listener.bytes(44 + 17_640);
    for target in [
        "/?",
        "/?input=live&",
        "/live.wav?for=1&",
        "/live.m3u?",
        "/live.pls?",
        "/live/levels?interval=100&",
        "/levels?",
        "/status.json?",
        "/healthz?",
    ] {
        assert_eq!(get(&daemon, &format!("{target}token={token}"), &[]).status, 200, "{target}");
        assert_eq!(get(&daemon, &format!("{target}input=live"), &[]).status, 401, "{target}");
    }
    assert_eq!(get(&daemon, &format!("/nothing?token={token}"), &[]).status, 404);
    // Addresses to which a player is sent on have the token too.
    let redirect = get(&daemon, &format!("/live.wav?last=1&token={token}"), &[]);
    assert_eq!(redirect.status, 307);
    let location = redirect.header("location").expect("an address").to_owned();
    assert!(location.ends_with(&format!("&token={token}")), "{location}");
    assert_eq!(get(&daemon, &format!("/{location}"), &[]).status, 200);
    for list in ["/live.m3u", "/live.pls"] {
        let text = get(&daemon, &format!("{list}?token={token}"), &[]).text();
        assert!(text.contains(&format!("live.wav?token={token}\n")), "{text}");
    }
    let status = get(&daemon, "/status.json", &[("Authorization", ANNA)]).text();
    assert!(status.contains("Radio/1") && !status.contains(&token), "{status}");

    let wrong = get(&daemon, &format!("/live.wav?token={token}x"), &[]);
    assert_eq!(wrong.status, 401);
    assert!(wrong.header("www-authenticate").is_some() && !wrong.text().contains(&token));
    let later: Vec<u16> = (0..9).map(|_| get(&daemon, "/live.wav?token=x", &[]).status).collect();
    assert!(later.contains(&429) && later.iter().all(|status| [401, 429].contains(status)), "{later:?}");
    drop(listener);
    daemon.wait_for_log("Radio/1");
    let log = daemon.log();
    assert!(log.iter().any(|line| line.contains("DEBUG")), "the filter is in force");
    assert!(!log.iter().any(|line| line.contains(&token)), "the token is in the log");
}

#[test]
fn a_token_that_is_removed_ends_its_listener_at_the_reload() {
    let (file, token) = with_token("revoked");
    let config = format!("[http]\nlisten = \"127.0.0.1:0\"\n[access]\n{}\n{INPUT}", file.key());
    let daemon = Daemon::start(None, &config);
    daemon.wait_for_log("capturing from");
    let mut listener = get(&daemon, &format!("/live.wav?token={token}"), &[]);
    let mut events = get(&daemon, &format!("/live/levels?token={token}"), &[]);
    listener.bytes(44);
    let editor = Passwords::of("revoked-editor.toml", &format!("[access]\n{}\n", file.key()));
    let (success, _, messages) = command(&editor, &["token", "--delete", "radio"], "");
    assert!(success, "{messages}");
    daemon.reload_whole(&config);
    daemon.wait_for_log("1 listener was disconnected, since the passwords or tokens have changed");
    for ended in [&mut listener, &mut events] {
        let _ = ended.body.read_to_end(&mut Vec::new());
    }
    assert_eq!(get(&daemon, &format!("/live.wav?token={token}"), &[]).status, 401);
    assert_eq!(get(&daemon, "/live.wav", &[("Authorization", ANNA)]).status, 200);
}

#[test]
fn the_parts_of_the_page_that_are_the_same_everywhere_need_no_password() {
    let file = Passwords::of("assets", &password_line("anna", "secret"));
    let daemon = daemon(&file.key());
    for (target, status) in [
        ("/@page/app.js", 200),
        ("/@page/style.css", 200),
        ("/@page/other.js", 401),
        ("/@page/../live.wav", 401),
    ] {
        assert_eq!(get(&daemon, target, &[]).status, status, "{target}");
    }
    let evil = get(&daemon, "/@page/app.js", &[("Host", "evil.example")]);
    assert_eq!(evil.status, 403, "the other rules apply");
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
            // The page's files also depend on the compression that the browser takes.
            let varies = answer.headers.iter().any(|(name, value)| name == "vary" && value == "Origin");
            assert!(varies, "{method} {target}");
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
        let depends_on_origin = |name: &str, value: &str| {
            name.starts_with("access-control") || (name == "vary" && value == "Origin")
        };
        assert!(!answer.headers.iter().any(|(name, value)| depends_on_origin(name, value)), "{target}");
        let question = ask(&daemon, "OPTIONS", target, &[PAGE, ("Access-Control-Request-Method", "GET")]);
        assert_eq!(question.status, 405, "{target}");
        assert!(!question.headers.iter().any(|(name, _)| name.starts_with("access-control")));
    }
}

/// A terminal for `wavecast password`, as root has it: the prompts are asked twice, and the file is written.
#[test]
fn at_a_terminal_root_is_asked_twice_and_the_file_is_written() {
    // `script` of util-linux makes the terminal.
    if !rustix::process::geteuid().is_root() || Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: this takes root, and script(1)");
        return;
    }
    let file = Passwords::of("terminal", "");
    let config = Passwords::of("terminal.toml", &format!("[access]\n{}\n", file.key()));
    let run = |answers: [&str; 2]| {
        let program = env!("CARGO_BIN_EXE_wavecast");
        let command = format!("tty; exec {program} --config {} password anna", config.0.display());
        let mut child = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let (mut input, mut output) =
            (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (mut tty, mut text) = (String::new(), Vec::new());
        BufReader::with_capacity(1, &mut output).read_line(&mut tty).expect("the terminal's name");
        for (prompt, answer) in ["Password for anna: ", "Repeat password: "].iter().zip(answers) {
            while !text.ends_with(prompt.as_bytes()) {
                let mut byte = [0];
                output.read_exact(&mut byte).expect("a prompt");
                text.push(byte[0]);
            }
            // The prompt is printed before the echo is turned off. What is typed between the two is shown, and lost.
            wait_for("the end of the echo", || {
                let stty = Command::new("stty").args(["-a", "-F", tty.trim()]).output().expect("stty runs");
                String::from_utf8_lossy(&stty.stdout).contains(" -echo ").then_some(())
            });
            input.write_all(format!("{answer}\n").as_bytes()).expect("written");
        }
        output.read_to_end(&mut text).expect("read");
        assert!(child.wait().is_ok());
        String::from_utf8(text).expect("text")
    };
    let differing = run(["secret", "secrte"]);
    assert!(differing.contains("The passwords do not match; nothing was written."), "{differing}");
    assert_eq!(fs::read_to_string(&file.0).expect("text"), "");
    let same = run(["secret", "secret"]);
    assert!(same.contains("The user anna was added to ") && !same.contains("secret"), "{same}");
    assert!(fs::read_to_string(&file.0).expect("text").starts_with("anna:$argon2id$"));
}
