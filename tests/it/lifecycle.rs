//! The life of the daemon as its owner sees it: start, mistakes, signals, end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::http::{self, Response};
use crate::support::stopwatch::assert_span_within;
use crate::support::synth::SynthRamp;
use crate::support::{HEADER_BYTES, wait_for};

/// The longest time from a signal to the end of the daemon on a machine that is busy: it does not hang.
/// `tests/timing.rs` measures it.
const END: Duration = Duration::from_secs(15);

/// Runs the program to its end.
fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wavecast"));
    command.args(arguments).env_remove("RUST_LOG").env_remove("JOURNAL_STREAM").stdin(Stdio::null());
    command.output().expect("it runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// A configuration file. It is removed on drop.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn new(name: &str, text: &str) -> ConfigFile {
        let name = format!("lifecycle-{}-{name}.toml", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, text).expect("written");
        ConfigFile(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("text")
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Returns an address with a port that no program has now, below the ports that the kernel gives to clients
/// (ip_local_port_range).
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let addresses = (0..1000).map(|_| {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2000;
        SocketAddr::from(([127, 0, 0, 1], port))
    });
    let is_free = |address: &SocketAddr| TcpListener::bind(("0.0.0.0", address.port())).is_ok();
    addresses.into_iter().find(is_free).expect("a port")
}

/// Starts to listen, and reads the WAV header of the default format.
fn listen(address: SocketAddr, target: &str) -> Response {
    let mut response = http::request(address, "GET", target, "1.1", &[]);
    assert_eq!(response.status, 200);
    response.bytes(HEADER_BYTES);
    response
}

/// Reads the body until the connection ends. Returns the bytes, and `true` if they are all that the framing promised.
fn read_to_the_end(response: &mut Response) -> (Vec<u8>, bool) {
    let mut sound = Vec::new();
    let clean = response.body.read_to_end(&mut sound).is_ok();
    (sound, clean && response.body.is_complete())
}

// End.

#[test]
fn a_signal_ends_it_and_every_listener_with_its_last_byte() {
    for signal in ["TERM", "INT"] {
        let mut daemon = Daemon::ramp("");
        let healthy: Vec<_> = ["/live.wav", "/live.wav?latency=low", "/live.wav?back=1", "/live.wav"]
            .map(|target| {
                let mut response = listen(daemon.address(), target);
                thread::spawn(move || {
                    let (sound, complete) = read_to_the_end(&mut response);
                    let mut ramp = SynthRamp::new(2, 2);
                    ramp.feed(&sound);
                    (ramp, complete)
                })
            })
            .into();
        let mut old = http::request(daemon.address(), "GET", "/live.wav", "1.0", &[]);
        let old = thread::spawn(move || read_to_the_end(&mut old));
        // There is one connection of each kind that could delay the end.
        let mut stalled = http::connect_narrow(daemon.address(), 2048);
        stalled.write_all(b"GET /live.wav HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        let mut recording = listen(daemon.address(), "/live.wav?for=3600");
        let idle = http::request(daemon.address(), "GET", "/healthz", "1.1", &[]);
        let mut half = http::connect(daemon.address());
        half.write_all(b"GET / HTTP/1.1\r\n").expect("sent");
        let silent = http::connect(daemon.address());
        wait_for("all of them", || (daemon.listeners().len() == 7).then_some(()));
        let edge = daemon.edge();
        daemon.wait_for_edge(edge + 44_100);

        daemon.signal(signal);
        let (status, time) = daemon.wait();
        println!("SIG{signal}: {time:?}");
        assert_eq!(status.code(), Some(0));
        for one in healthy {
            let (ramp, complete) = one.join().expect("it read on");
            assert!(complete, "the last chunk came");
            assert!(ramp.is_whole() && ramp.frames >= 44_100, "{:?} in {}", ramp.holes, ramp.frames);
        }
        let (sound, complete) = old.join().expect("it read on");
        assert!(complete && sound.len() > 44_100 * 4);
        let (_, complete) = read_to_the_end(&mut recording);
        assert!(!complete, "its Content-Length promised more");
        let mut rest = Vec::new();
        let _ = stalled.read_to_end(&mut rest);
        drop((idle, half, silent));
        let name = format!("ending on SIG{signal}");
        assert!(daemon.log().iter().any(|line| line.contains(&name)), "{:?}", daemon.log());
        daemon.wait_for_log("INFO  ended");
        assert_span_within(time, END, "the end after a signal, with listeners");
    }
}

#[test]
fn without_listeners_the_daemon_ends_at_once_even_without_a_card() {
    for device in ["synth:noise", "hw:CARD=NoSuch,DEV=0"] {
        let mut daemon = Daemon::synth(device);
        daemon.signal("TERM");
        let (status, time) = daemon.wait();
        assert_eq!(status.code(), Some(0), "{device}");
        assert_span_within(time, END, "the end after a signal, without listeners");
    }
}

#[test]
fn two_hundred_listeners_do_not_delay_the_end() {
    let mut daemon = Daemon::ramp("");
    let listeners: Vec<_> = (0..200)
        .map(|_| {
            let mut response = listen(daemon.address(), "/live.wav");
            thread::spawn(move || read_to_the_end(&mut response).1)
        })
        .collect();
    daemon.signal("TERM");
    let (status, time) = daemon.wait();
    assert_eq!(status.code(), Some(0));
    let clean = listeners.into_iter().filter_map(|one| one.join().ok()).filter(|clean| *clean).count();
    assert_eq!(clean, 200, "all got the last chunk");
    assert_span_within(time, END, "the end after a signal, with 200 listeners");
}

// Reload.

#[test]
fn another_device_with_the_same_format_keeps_its_listeners() {
    let daemon = Daemon::ramp("history_seconds = 5");
    let mut response = listen(daemon.address(), "/live.wav");
    let id = daemon.listeners()[0]["id"].clone();
    let mut ramp = SynthRamp::new(2, 2);
    ramp.feed(&response.bytes(22_050 * 4));
    assert!(ramp.is_whole());

    daemon.reload("[input.live]\ndevice = \"synth:tone\"\nbuffer_ms = 10000\nhistory_seconds = 5\n");
    daemon.wait_for_log("the configuration was read again");
    let input = wait_for("the tone", || {
        Some(daemon.wait_for_state("live", "capturing"))
            .filter(|input| input["source"]["device"] == "synth:tone")
    });
    assert_eq!(input["device"], "synth:tone");
    // A tone at -18 dBFS for a second without a pause: it is another sound, and it goes on.
    let mut tone = 0;
    wait_for("the tone to be heard", || {
        for frame in response.bytes(441 * 4).chunks_exact(4) {
            let sample = i16::from_le_bytes([frame[0], frame[1]]);
            let next = i16::from_le_bytes([frame[2], frame[3]]);
            assert_eq!(sample, next, "both channels carry the same");
            tone = if sample.unsigned_abs() <= 4096 { tone + 1 } else { 0 };
        }
        (tone > 44_100).then_some(())
    });
    assert_eq!(daemon.listeners()[0]["id"], id, "it is the same listener");
    assert_eq!(daemon.input("live")["losses"], 0);
}

#[test]
fn another_period_and_a_longer_history_keep_listeners_too() {
    let daemon = Daemon::ramp("");
    let mut response = listen(daemon.address(), "/live.wav");
    let id = daemon.listeners()[0]["id"].clone();
    daemon.reload("[input.live]\ndevice = \"synth:ramp\"\nperiod_ms = 25\nhistory_seconds = 40\n");
    wait_for("the new period", || {
        let input = daemon.wait_for_state("live", "capturing");
        (input["source"]["period_frames"] == 1102 && input["history_seconds"] == 40.0).then_some(())
    });
    response.bytes(3 * 44_100 * 4);
    let listener = &daemon.listeners()[0];
    assert_eq!(listener["id"], id, "it is the same listener");
    assert_eq!(listener["frames_skipped"], 0);
    assert!(listener["lag_ms"].as_f64() < Some(1000.0), "{listener}");
    assert_eq!(daemon.get("/live.wav?back=40").status, 200);
}

#[test]
fn another_rate_ends_its_listeners_cleanly_and_the_next_get_it() {
    let daemon = Daemon::ramp("");
    let mut response = listen(daemon.address(), "/live.wav");
    daemon.reload("[input.live]\ndevice = \"synth:ramp\"\nrate = 48000\nchannels = 1\n");
    let (sound, complete) = read_to_the_end(&mut response);
    assert!(complete, "with its last chunk");
    // A machine that takes long to open the new source adds silence to the old stream until then.
    let end = sound.iter().rposition(|byte| *byte != 0).map_or(0, |last| last / 4 * 4 + 4);
    let mut ramp = SynthRamp::new(2, 2);
    ramp.feed(&sound[..end]);
    assert!(ramp.is_whole(), "{:?} in {}", ramp.holes, ramp.frames);
    daemon.wait_for_log("reached the end of the stream after");
    let header = daemon.get("/live.wav").bytes(HEADER_BYTES);
    assert_eq!((header[22], &header[24..28]), (1, &48_000u32.to_le_bytes()[..]));
}

#[test]
fn inputs_come_and_go_and_those_that_stay_are_not_touched() {
    let live = "[input.live]\ndevice = \"synth:ramp\"\nbuffer_ms = 10000\n";
    let daemon = Daemon::start(None, &format!("{live}[input.old]\ndevice = \"synth:ramp\"\n"));
    daemon.wait_for_state("live", "capturing");
    daemon.wait_for_state("old", "capturing");
    let mut stays = listen(daemon.address(), "/live.wav");
    let mut goes = listen(daemon.address(), "/old.wav");
    assert_eq!(daemon.get("/new.wav").status, 404);

    daemon.reload(&format!("{live}[input.new]\ndevice = \"synth:tone\"\n"));
    let (_, complete) = read_to_the_end(&mut goes);
    assert!(complete, "the end of an input is a clean one");
    daemon.wait_for_log("old: the input was removed");
    daemon.wait_for_log("the configuration was read again");
    let gone = daemon.get("/old.wav");
    assert_eq!(gone.status, 404);
    assert!(gone.text().contains("/live.wav  /new.wav"));
    daemon.wait_for_state("new", "capturing");
    listen(daemon.address(), "/new.wav").bytes(10_000);
    let mut ramp = SynthRamp::new(2, 2);
    ramp.feed(&stays.bytes(88_200 * 4));
    assert!(ramp.is_whole(), "{:?}", ramp.holes);
}

#[test]
fn a_configuration_with_mistakes_changes_nothing_and_is_named() {
    let daemon = Daemon::ramp("");
    let mut response = listen(daemon.address(), "/live.wav");
    let file = daemon.config_file().display().to_string();
    daemon.reload_whole("[input.live]\ndevice = \"synth:tone\"\nrate = 99\nperiod = 3\n");
    let line = daemon.wait_for_log("the configuration stays as it was");
    assert!(line.contains("ERROR"), "{line}");
    daemon.wait_for_log(&format!("{file}:3: input.live.rate: 99 is outside 4000 to 384000"));
    daemon.wait_for_log(&format!("{file}:4: input.live.period: no such key; did you mean `period_ms`?"));
    assert_eq!(daemon.input("live")["device"], "synth:ramp");
    let mut ramp = SynthRamp::new(2, 2);
    ramp.feed(&response.bytes(44_100 * 4));
    assert!(ramp.is_whole(), "{:?}", ramp.holes);
    // The next configuration without mistakes is used.
    daemon.reload("[input.live]\ndevice = \"synth:tone\"\n");
    wait_for("the tone", || (daemon.input("live")["device"] == "synth:tone").then_some(()));
}

#[test]
fn a_configuration_that_is_gone_changes_nothing() {
    let daemon = Daemon::ramp("");
    fs::remove_file(daemon.config_file()).expect("it was there");
    daemon.signal("HUP");
    daemon.wait_for_log("cannot be read: No such file or directory");
    assert_eq!(daemon.input("live")["state"], "capturing");
}

#[test]
fn addresses_come_and_go_and_streams_go_on() {
    let (first, second) = (free_address(), free_address());
    let live = "[input.live]\ndevice = \"synth:ramp\"\nbuffer_ms = 10000\n";
    let listen_on = |addresses: &[SocketAddr]| {
        let addresses: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
        format!("[http]\nlisten = [{}]\n{live}", addresses.join(", "))
    };
    let daemon = Daemon::start(None, &listen_on(&[first]));
    daemon.wait_for_state("live", "capturing");
    let mut response = listen(first, "/live.wav");
    let mut ramp = SynthRamp::new(2, 2);

    daemon.reload_whole(&listen_on(&[first, second]));
    wait_for("the second address", || TcpStream::connect(second).ok());
    listen(second, "/live.wav").bytes(1000);
    assert_eq!(http::request(first, "GET", "/healthz", "1.1", &[]).text(), "ok\n");

    daemon.reload_whole(&listen_on(&[second]));
    wait_for("the first address to be closed", || TcpStream::connect(first).is_err().then_some(()));
    ramp.feed(&response.bytes(44_100 * 4));

    // The first address comes back at once.
    daemon.reload_whole(&listen_on(&[first]));
    wait_for("the first address", || TcpStream::connect(first).ok());
    wait_for("the second to be closed", || TcpStream::connect(second).is_err().then_some(()));
    assert_eq!(http::request(first, "GET", "/healthz", "1.1", &[]).text(), "ok\n");
    ramp.feed(&response.bytes(44_100 * 4));
    assert!(ramp.is_whole(), "{:?}", ramp.holes);
}

#[test]
fn a_wider_address_takes_the_place_of_a_narrower_one_on_the_same_port() {
    let port = free_address().port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let with = |listen: &str| {
        format!("[http]\nlisten = \"{listen}:{port}\"\n[input.live]\ndevice = \"synth:ramp\"\n")
    };
    let daemon = Daemon::start(None, &with("127.0.0.1"));
    for (round, listen_on) in ["0.0.0.0", "127.0.0.1", "[::]", "127.0.0.1"].into_iter().enumerate() {
        daemon.reload_whole(&with(listen_on));
        wait_for("the reload", || {
            let reloads = daemon.log().iter().filter(|line| line.contains("was read again")).count();
            (reloads == round + 1).then_some(())
        });
        let trouble = daemon.log().into_iter().find(|line| line.contains("cannot listen"));
        assert_eq!(trouble, None, "{listen_on}");
        assert_eq!(http::request(address, "GET", "/live.m3u", "1.1", &[]).status, 200, "{listen_on}");
    }
}

#[test]
fn an_address_that_is_missing_on_reload_is_logged_and_the_others_go_on() {
    let daemon = Daemon::ramp("");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("bound");
    daemon.reload_whole(&format!(
        "[http]\nlisten = [\"127.0.0.1:0\", \"{}\"]\n[input.live]\ndevice = \"synth:ramp\"\nbuffer_ms = 10000\n",
        taken.1
    ));
    daemon.wait_for_log(&format!("cannot listen on {}: ", taken.1));
    assert_eq!(daemon.get("/healthz").text(), "ok\n");
    // The next reload tries the address again.
    drop(taken.0);
    daemon.signal("HUP");
    daemon.wait_for_log(&format!("open http://{}/", taken.1));
    assert_eq!(http::request(taken.1, "GET", "/healthz", "1.1", &[]).text(), "ok\n");
}

#[test]
fn the_rules_for_listeners_change_under_way() {
    let daemon = Daemon::ramp("");
    let _first = listen(daemon.address(), "/live.wav");
    let mut second = listen(daemon.address(), "/live.wav");
    daemon.reload(
        "[listeners]\nmax = 2\ninterval_ms = 70\n[input.live]\ndevice = \"synth:ramp\"\nbuffer_ms = 10000\n",
    );
    daemon.wait_for_log("the configuration was read again");
    assert_eq!(daemon.get("/live.wav").status, 503);
    second.bytes(44_100 * 4);
    assert_eq!(daemon.listeners()[1]["interval_ms"], 70.0);
}

// Mistakes.

#[test]
fn a_mistake_in_the_configuration_is_named_by_file_line_and_key() {
    for (name, text, says) in [
        (
            "unknown",
            "[input.live]\nrate = 48000\nperiod = 10\n",
            ":3: input.live.period: no such key; did you mean `period_ms`?",
        ),
        ("table", "[input.live]\n[sound]\n", ":2: sound: no such key"),
        ("value", "\n\n[input.live]\nrate = 99\n", ":4: input.live.rate: 99 is outside 4000 to 384000"),
        ("type", "[listeners]\nmax = \"many\"\n", ":2: listeners.max: must be a whole number"),
        (
            "format",
            "[input.live]\nformat = \"mp3\"\n",
            ":2: input.live.format: \"mp3\" must be one of s16, s24 or s32",
        ),
        (
            "twice",
            "[input.a]\ndevice = \"hw:CARD=Device,DEV=0\"\n[input.b]\ndevice = \"hw:CARD=Device,DEV=0\"\n",
            ":4: input.b.device: \"hw:CARD=Device,DEV=0\" is already the device of input.a (line 2)",
        ),
        ("syntax", "[input.live]\nrate == 48000\n", ":2:"),
        ("listen", "[http]\nlisten = \"here\"\n", ":2: http.listen: \"here\" is not an address"),
        ("filter", "[log]\nfilter = \"loud\"\n", ":2: log.filter: \"loud\" is not off, error"),
    ] {
        let file = ConfigFile::new(name, text);
        for arguments in [&["--config", file.path()][..], &["check", "--config", file.path()]] {
            let output = run(arguments);
            assert_eq!(output.status.code(), Some(78), "{name}: {output:?}");
            let message = stderr(&output);
            assert!(message.starts_with(&format!("{}{says}", file.path())), "{name}: {message}");
            assert_eq!(stdout(&output), "");
        }
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let file = ConfigFile::new("many", "[input.live]\nrate = 1\nchannels = 0\nformat = \"x\"\n");
    let message = stderr(&run(&["check", "-c", file.path()]));
    let keys = ["rate", "channels", "format"];
    assert_eq!(message.lines().count(), 3, "{message}");
    for (line, key) in message.lines().zip(keys) {
        assert!(line.contains(&format!("input.live.{key}: ")), "{line}");
    }
}

#[test]
fn the_file_of_config_must_exist() {
    let output = run(&["--config", "/nonexistent/wavecast.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(
        stderr(&output),
        "/nonexistent/wavecast.toml: cannot be read: No such file or directory (os error 2)\n"
    );
}

#[test]
fn a_mistake_on_the_command_line_is_reported_with_a_pointer_to_the_help() {
    for (arguments, says) in [
        (&["--frobnicate"][..], "unknown option \"--frobnicate\"\n"),
        (&["--chanels", "1"], "unknown option \"--chanels\"; did you mean --channels?\n"),
        (&["--rate", "99"], "--rate: 99 is outside 4000 to 384000\n"),
        (&["--rate"], "missing argument for option '--rate'\n"),
        (&["play"], "unknown command \"play\"; the commands are devices, check, password and token\n"),
        (&["--log", "loud"], "--log: \"loud\" is not off, error"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        let message = stderr(&output);
        assert!(message.starts_with(says) && message.ends_with("Try 'wavecast --help'\n"), "{message}");
    }
}

#[test]
fn check_prints_the_streams_and_opens_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let file = ConfigFile::new(
        "good",
        &format!(
            "[http]\nlisten = \"{address}\"\n[input.roof]\ndevice = \"hw:CARD=NoSuch,DEV=0\"\nrate = 48000\n"
        ),
    );
    let output = run(&["check", "--config", file.path(), "--channels", "1"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        stdout(&output),
        format!(
            "{} is good.\n/roof.wav  from hw:CARD=NoSuch,DEV=0, 48000 Hz, mono, s16\nListening on {address}\n\
             Only this machine can listen, without a password\n",
            file.path()
        )
    );
}

#[test]
fn check_and_reload_read_drop_ins_and_name_them() {
    let daemon = Daemon::start(None, "[input.live]\ndevice = \"synth:tone\"\n");
    let folder = daemon.config_file().with_extension("d");
    fs::create_dir(&folder).expect("a folder");
    let drop_in = folder.join("50-rate.toml");
    fs::write(&drop_in, "[input.live]\nrate = 96000\nhistory_seconds = 5\n").expect("written");
    daemon.signal("HUP");
    wait_for("the rate of the drop-in", || (rate(&daemon) == Some(96_000)).then_some(()));
    let check = || run(&["check", "--config", daemon.config_file().to_str().expect("text")]);
    let output = check();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        stdout(&output).contains(&format!("\n{} is good, and wins over", drop_in.display())),
        "{output:?}"
    );

    // A mistake changes nothing, and so does a condition of this machine in `check`.
    fs::write(&drop_in, "\n[input.live]\nrate = 9\n").expect("written");
    let says = format!("{}:3: input.live.rate: 9 is outside", drop_in.display());
    daemon.signal("HUP");
    daemon.wait_for_log(&says);
    assert_eq!(rate(&daemon), Some(96_000));
    let output = check();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(stderr(&output).starts_with(&says), "{output:?}");
    // 1 GiB each, which no machine has so often.
    let input =
        |n: u32| format!("[input.n{n}]\ndevice = 'synth:tone'\nrate = 384000\nhistory_seconds = 699\n");
    fs::write(&drop_in, (0..500).map(input).collect::<String>()).expect("written");
    let output = check();
    assert!(stderr(&output).starts_with(&format!("{}:", drop_in.display())), "{output:?}");
    assert!(stderr(&output).contains(".history_seconds: all histories together take "), "{output:?}");
    fs::remove_dir_all(&folder).expect("it is ours");
}

fn rate(daemon: &Daemon) -> Option<u64> {
    daemon.input("live")["format"]["rate"].as_u64()
}

#[test]
fn help_and_version_go_to_standard_output() {
    let help = run(&["--help"]);
    assert_eq!((help.status.code(), stderr(&help)), (Some(0), String::new()));
    for word in ["Usage:", "--device", "wavecast devices", "wavecast check", "/etc/wavecast.toml", "78"] {
        assert!(stdout(&help).contains(word), "{word}");
    }
    let version = run(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(stdout(&version), concat!("wavecast ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn the_list_of_devices_of_a_machine_without_a_card_says_what_to_do() {
    let output = run(&["devices"]);
    assert_eq!(output.status.code(), Some(0));
    let list = stdout(&output);
    // On a machine with a card the list has a line to paste instead.
    let helps = list.contains("Plug in a USB microphone") && list.contains("wavecast --device synth:tone");
    assert!(helps || list.contains("device = \""), "{list}");
    assert!(!stderr(&output).contains("ALSA lib"), "{}", stderr(&output));
}

#[test]
fn a_port_that_is_in_use_is_reported_with_the_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = run(&["--device", "synth:tone", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    let says = format!(
        "cannot listen on {address}: Address already in use (os error 98): another program listens there (is wavecast running already?)"
    );
    assert!(message.contains("ERROR") && message.contains(&says), "{message}");
}

#[test]
fn an_address_of_another_machine_is_reported_with_the_reason() {
    // TEST-NET-1 (RFC 5737) is an address that no machine has.
    let output = run(&["--device", "synth:tone", "--listen", "192.0.2.1:4410"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("this machine does not have that address"), "{}", stderr(&output));
}

#[test]
fn flags_win_over_the_file_for_the_first_input() {
    let config = "[http]\nlisten = \"192.0.2.1:1\"\n\
                  [input.live]\ndevice = \"hw:CARD=NoSuch,DEV=0\"\nrate = 96000\n\
                  [input.second]\ndevice = \"synth:tone\"\n";
    let address = free_address();
    let listen_on = address.to_string();
    let flags = [
        "--device",
        "synth:ramp",
        "--rate",
        "8000",
        "--channels",
        "1",
        "--format",
        "s24",
        "--listen",
        &listen_on,
    ];
    let daemon = Daemon::launch(config, &flags, &[], Stdio::piped());
    daemon.wait_for_log(&format!("open http://{address}/"));
    wait_for("the first input", || {
        let response = http::request(address, "GET", "/live.wav", "1.1", &[]);
        (response.status == 200).then_some(response)
    });
    let header = http::request(address, "GET", "/live.wav", "1.1", &[]).bytes(HEADER_BYTES);
    assert_eq!((header[22], &header[24..28], header[34]), (1, &8000u32.to_le_bytes()[..], 24));
    let mut second = wait_for("the second input", || {
        let response = http::request(address, "GET", "/second.wav", "1.1", &[]);
        (response.status == 200).then_some(response)
    });
    let header = second.bytes(HEADER_BYTES);
    assert_eq!((header[22], &header[24..28], header[34]), (2, &44_100u32.to_le_bytes()[..], 16));

    // The flags also win when the file is read again.
    fs::write(daemon.config_file(), config.replace("96000", "192000")).expect("written");
    daemon.signal("HUP");
    daemon.wait_for_log("the configuration was read again");
    let header = http::request(address, "GET", "/live.wav", "1.1", &[]).bytes(HEADER_BYTES);
    assert_eq!(&header[24..28], &8000u32.to_le_bytes());
}

#[test]
fn several_addresses_are_listened_on_and_each_is_logged() {
    let (first, second) = (free_address(), free_address());
    let (one, two) = (first.to_string(), second.to_string());
    let flags = ["--listen", &one, "--listen", &two];
    let daemon = Daemon::launch("[input.live]\ndevice = \"synth:tone\"\n", &flags, &[], Stdio::piped());
    for address in [first, second] {
        daemon.wait_for_log(&format!(
            "open http://{address}/ in a browser, or http://{address}/live.wav in a player"
        ));
        assert_eq!(http::request(address, "GET", "/", "1.1", &[]).status, 200);
    }
}

#[test]
fn one_port_serves_both_families_and_ipv4_addresses_look_like_ipv4() {
    let port = free_address().port().to_string();
    let flags = ["--listen", &port];
    let daemon = Daemon::launch("[input.live]\ndevice = \"synth:tone\"\n", &flags, &[], Stdio::piped());
    daemon.wait_for_log("capturing from synth:tone");
    let mut families = vec!["127.0.0.1"];
    families.extend(TcpListener::bind("[::1]:0").is_ok().then_some("[::1]"));
    for host in families {
        let address: SocketAddr = format!("{host}:{port}").parse().expect("an address");
        let response = wait_for("a stream", || {
            let response = http::request(address, "GET", "/live.wav", "1.1", &[]);
            (response.status == 200).then_some(response)
        });
        let status = http::request(address, "GET", "/status.json", "1.1", &[]).text();
        let shown = format!("\"address\": \"{}\"", host.trim_matches(['[', ']']));
        assert!(status.contains(&shown), "{status}");
        drop(response);
    }
}

// The log.

/// Returns the log of a daemon without a card, from its start to its end.
fn log_of(config: &str, arguments: &[&str], env: &[(&str, &str)]) -> Vec<String> {
    let config = format!("{config}\n[input.live]\ndevice = \"hw:CARD=NoSuch,DEV=0\"\n");
    let env: Vec<(&str, &OsStr)> = env.iter().map(|(key, value)| (*key, OsStr::new(value))).collect();
    let mut daemon = Daemon::launch(&config, arguments, &env, Stdio::piped());
    daemon.wait_for_log("NoSuch");
    daemon.signal("TERM");
    daemon.wait();
    daemon.log()
}

#[test]
fn each_log_line_has_a_time_and_a_level_and_a_problem_is_logged_once() {
    let lines = log_of("", &[], &[]);
    for line in &lines {
        let (time, rest) = line.split_once(' ').expect("a time first");
        assert!(time.len() == 20 && time.starts_with("20") && time.ends_with('Z'), "{line}");
        assert!(["INFO ", "WARN "].iter().any(|level| rest.starts_with(level)), "{line}");
    }
    assert!(lines.iter().any(|line| line.contains("open http://127.0.0.1:")));
    let count = lines.iter().filter(|line| line.contains("NoSuch")).count();
    assert_eq!(count, 1, "once, not at each try: {lines:?}");
}

#[test]
fn the_log_filter_is_the_flag_or_rust_log_or_the_file() {
    let has_info = |lines: Vec<String>| lines.iter().any(|line| line.contains("INFO"));
    let quiet = "[http]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"warn\"";
    assert!(!has_info(log_of(quiet, &[], &[])), "the file's");
    assert!(has_info(log_of(quiet, &[], &[("RUST_LOG", "info")])), "RUST_LOG wins over the file");
    assert!(!has_info(log_of("", &[], &[("RUST_LOG", "warn")])));
    assert!(has_info(log_of("", &["--log", "info"], &[("RUST_LOG", "error")])), "the flag wins over all");
    assert!(!has_info(log_of("", &["--log", "wavecast=warn"], &[])));
    let output = Command::new(env!("CARGO_BIN_EXE_wavecast"))
        .args(["--device", "synth:tone", "--listen", "127.0.0.1:0"])
        .env("RUST_LOG", "loud")
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).starts_with("RUST_LOG: \"loud\" is not off"), "{}", stderr(&output));
}

#[test]
fn the_journal_gets_priorities_and_no_time() {
    let (journal, stderr) = UnixStream::pair().expect("a pair");
    let stderr = OwnedFd::from(stderr);
    let found = File::from(stderr.try_clone().expect("a duplicate")).metadata().expect("its inode");
    let stream = format!("{}:{}", found.dev(), found.ino());
    let config = "[input.live]\ndevice = \"hw:CARD=NoSuch,DEV=0\"\n";
    let env = [("JOURNAL_STREAM", OsStr::new(&stream))];
    let mut daemon = Daemon::launch(config, &[], &env, Stdio::from(stderr));
    let mut lines = BufReader::new(journal).lines().map_while(Result::ok);
    let mut seen: Vec<String> = lines.by_ref().take_while(|line| !line.contains("NoSuch")).collect();
    daemon.signal("TERM");
    daemon.wait();
    seen.extend(lines);
    assert!(seen.iter().any(|line| line.starts_with("<6>open http://127.0.0.1:")), "{seen:?}");
    assert!(seen.iter().any(|line| line == "<6>ending on SIGTERM"), "{seen:?}");
    for line in &seen {
        assert!(line.starts_with("<6>") || line.starts_with("<4>"), "{line}");
        assert!(!line.contains("INFO") && !line.contains('\u{1b}'), "{line}");
    }
}

#[test]
fn an_inherited_journal_stream_of_another_file_is_ignored() {
    let lines = log_of("", &[], &[("JOURNAL_STREAM", "1:1")]);
    assert!(lines.iter().all(|line| line.starts_with("20")), "{lines:?}");
}
