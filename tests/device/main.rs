//! The whole way on a whole machine, a program of its own because it needs an emulator: from `apt install` to a power
//! cut and back.
//!
//! QEMU emulates a board with Debian's own kernel, systemd and a card (`snd-aloop`). All parts are those that a user
//! has. On the board a service plays an endless ramp (`ramp.service`) into the card, and here a listener compares it
//! over HTTP.
//!
//! `scripts/device-test` builds the board's disk and the package, and runs this.

mod board;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use board::{Board, Machine};
use support::HEADER_BYTES;
use support::card::{CardFormat, ramp_bytes};
use support::listening::{Ending, Listener, number};
use support::ramp::RampReader;
use support::server::Server;
use wavecast::config::Input;

/// The board's address in its own network.
const ADDRESS: &str = "10.0.2.15";

/// The capture thread's priority after the owner has edited it.
const EDITED_PRIORITY: u8 = 17;

/// The longest time from `multi-user.target` to the first sound, in seconds.
const BACK_AFTER: f64 = 10.0;

#[test]
#[ignore = "takes a machine: scripts/device-test"]
fn from_apt_install_to_a_power_cut_and_back() {
    let board = Board::from_env();
    let began = Instant::now();
    let log = |step: &str| println!("[{:4} s] {step}", began.elapsed().as_secs());

    let machine = board.boot();
    machine.wait_until_booted();
    a_ramp_is_played_in_the_room(&machine);
    log("booted, and there is sound in the room");

    it_is_installed_with_one_command_and_says_where_to_listen(&machine);
    log("installed");
    everything_that_the_card_gave_is_heard(&machine);
    log("heard, and compared");
    only_the_capture_thread_has_real_time_priority(&machine, Input::default().realtime_priority);
    a_card_that_is_unplugged_is_silence_and_comes_back(&machine);
    log("unplugged, and plugged in again");
    a_board_that_slept_goes_on_where_the_sound_is(&machine);
    log("suspended, and resumed");
    a_person_can_read_how_it_is(&machine);
    it_is_announced_on_the_network(&machine);
    how_much_it_takes(&machine);
    another_program_records_from_the_same_card(&machine);

    the_configuration_is_edited(&machine);
    a_reboot_ends_the_stream_cleanly_and_it_comes_back(&machine);
    log("rebooted");
    let machine = after_a_power_cut_it_comes_back(&board, machine);
    log("back after a power cut");
    the_configuration_is_as_it_was_edited(&machine);
    only_the_capture_thread_has_real_time_priority(&machine, EDITED_PRIORITY);
    machine.power_off();
    log("off");
}

/// Starts the source of the sound, which is no part of the product.
fn a_ramp_is_played_in_the_room(machine: &Machine) {
    let file = env::temp_dir().join(format!("ramp-{}", std::process::id()));
    // A whole number of ramps, so that the file can be repeated.
    let ramp = ramp_bytes(CardFormat::S16, 0, 32 * 32_768, 2);
    fs::write(&file, ramp).expect("a temporary file");
    machine.copy(&file, "/var/lib/ramp");
    let _ = fs::remove_file(&file);
    machine.run("sync; systemctl start ramp");
}

fn it_is_installed_with_one_command_and_says_where_to_listen(machine: &Machine) {
    let package = &machine.board().package;
    let name = package.file_name().and_then(|name| name.to_str()).expect("a name");
    machine.copy(package, &format!("/tmp/{name}"));
    let before = Instant::now();
    let output = machine.run(&format!("cd /tmp && apt install -y ./{name}"));
    let took = before.elapsed();
    let lines: Vec<&str> = output.lines().filter(|line| !line.starts_with("(Reading database")).collect();
    println!("--- apt install, {:.1} s\n{}\n---", took.as_secs_f64(), lines.join("\n"));
    assert!(output.contains(&format!("http://{ADDRESS}:4410/")), "apt's output does not say where to listen");
    Server::at(machine.http()).wait_for_state("live", "capturing");
}

fn everything_that_the_card_gave_is_heard(machine: &Machine) {
    let server = Server::at(machine.http());
    let before = server.input("live");
    let listener = Listener::from_afar(&server, "/live.wav", ramp_reader());
    listener.hear_more(Duration::from_secs(10));
    let heard = listener.heard();
    println!("heard {} frames of the ramp, {} of silence", heard.ramp_frames(), heard.silence_frames());
    only_what_was_counted_is_missing(&server, &heard, &before, 0);
}

/// Checks the priorities of all threads. No sandbox of a test and no limit of a container is between the unit and the
/// kernel here.
fn only_the_capture_thread_has_real_time_priority(machine: &Machine, priority: u8) {
    let threads = machine.run("ps -L -o cls=,rtprio=,comm= -p $(systemctl show -p MainPID --value wavecast)");
    println!("--- the threads: class, priority, name\n{threads}\n---");
    // FF is SCHED_FIFO, TS the ordinary SCHED_OTHER.
    let (ordinary, others): (Vec<&str>, Vec<&str>) =
        threads.lines().map(str::trim).partition(|line| line.starts_with("TS "));
    let words: Vec<Vec<&str>> = others.iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words, [["FF", &priority.to_string(), "capture", "live"]]);
    assert!(ordinary.iter().any(|line| line.ends_with(" wavecast")), "{threads}");
}

fn a_card_that_is_unplugged_is_silence_and_comes_back(machine: &Machine) {
    let server = Server::at(machine.http());
    let before = server.input("live");
    let listener = Listener::from_afar(&server, "/live.wav", ramp_reader());
    listener.hear_more(Duration::from_secs(3));

    machine.run("echo snd_aloop.0 > /sys/bus/platform/drivers/snd_aloop/unbind");
    server.wait_for_state("live", "lost");
    listener.hear_silence(Duration::from_secs(3));
    assert_eq!(server.get("/healthz").status, 503);
    println!("unplugged: {}", status_line(machine));

    machine.run("echo snd_aloop.0 > /sys/bus/platform/drivers/snd_aloop/bind");
    server.wait_for_state("live", "capturing");
    listener.hear_more(Duration::from_secs(5));
    assert_eq!(listener.ending(), None, "it is still connected");
    assert_eq!(server.get("/healthz").status, 200);
    let heard = listener.heard();
    println!("plugged in again: {}", heard.shown());
    only_what_was_counted_is_missing(&server, &heard, &before, 1);
}

/// Suspends the machine. The kernel freezes everything, the card too, until an alarm wakes it. The processor decides
/// if the monotonic clock stands still meanwhile. The sound follows that clock in either case.
fn a_board_that_slept_goes_on_where_the_sound_is(machine: &Machine) {
    let server = Server::at(machine.http());
    let listener = Listener::from_afar(&server, "/live.wav", ramp_reader());
    listener.hear_more(Duration::from_secs(2));
    let clock = || -> f64 {
        let ns = machine.run("awk '/^now at/ { print $3 }' /proc/timer_list");
        ns.trim().parse::<f64>().expect("a number") / 1e9
    };
    let (before, began) = (server.input("live"), clock());

    let asleep = machine.run(
        "wake=/sys/class/rtc/rtc0/wakealarm; slept=/sys/power/suspend_stats/success; echo 0 > $wake; \
         before=\"$(cat $slept) $(date +%s)\"; echo +12 > $wake; echo freeze > /sys/power/state; \
         echo $before $(cat $slept) $(date +%s)",
    );
    let times: Vec<u64> = asleep.split_whitespace().filter_map(|time| time.parse().ok()).collect();
    assert!(times[2] == times[0] + 1 && times[3] > times[1] + 5, "it did not sleep: {asleep}");

    listener.hear_more(Duration::from_secs(5));
    assert_eq!(listener.ending(), None, "it is still connected");
    let (after, ended) = (server.input("live"), clock());
    let grew = |key: &str| number(&after, key) - number(&before, key);
    let rate = number(&after["format"], "rate") as f64;
    let (sound, passed) = ((grew("frames") + grew("silence_frames")) as f64 / rate, ended - began);
    let heard = listener.heard();
    let skipped: u64 = server.listeners().iter().map(|listener| number(listener, "frames_skipped")).sum();
    println!(
        "asleep for {} s; {sound:.1} s of sound in {passed:.1} s, {:.1} s of it silence; {skipped} frames skipped: {}",
        times[3] - times[1],
        grew("silence_frames") as f64 / rate,
        heard.shown()
    );
    // The two looks are not at the same moment as the two readings of the clock.
    assert!((sound - passed).abs() < 3.0, "the stream is not as long as the time");
    assert_eq!(grew("losses"), 0, "{after:#}");
    // One hole for each overrun, and one for the jump to the live edge.
    assert!(heard.holes().len() as u64 <= grew("overruns") + 1, "{}", heard.shown());
    assert_eq!(server.get("/healthz").status, 200);
}

/// Compares the holes with the status. An emulated machine that waits for its processor may overrun even half a
/// second of buffer. Silence then takes the place of the lost frames, and they are counted.
fn only_what_was_counted_is_missing(
    server: &Server,
    heard: &RampReader,
    before: &serde_json::Value,
    unplugged: u64,
) {
    let now = server.input("live");
    let more = |key: &str| number(&now, key) - number(before, key);
    let holes = heard.holes();
    assert_eq!(more("losses"), unplugged, "{now:#}");
    assert!(
        holes.len() as u64 <= unplugged + more("overruns"),
        "{} overruns, but {}",
        more("overruns"),
        heard.shown()
    );
    // A card that is back delivers silence until the ramp plays again.
    let replaced: u64 = holes.iter().map(|hole| hole.silence).sum();
    assert!(unplugged > 0 || replaced <= more("silence_frames"), "{}", heard.shown());
    let skipped: u64 = server.listeners().iter().map(|listener| number(listener, "frames_skipped")).sum();
    assert_eq!(skipped, 0, "a listener was skipped ahead");
}

fn a_person_can_read_how_it_is(machine: &Machine) {
    let status = machine.run("systemctl status wavecast --no-pager --lines=0");
    println!("--- systemctl status wavecast\n{status}\n---");
    let line = status_line(machine);
    assert!(line.contains("Loopback"), "systemctl status does not name the card: {line:?}");
    assert!(line.contains(ADDRESS), "systemctl status does not say where to listen: {line:?}");

    let journal = machine.run("journalctl -u wavecast --no-pager -o cat");
    println!("--- journalctl -u wavecast -o cat\n{journal}\n---");
    for expected in [
        &format!("open http://{ADDRESS}:4410/"),
        "capturing from hw:CARD=Loopback",
        "unplugged",
        "back after",
    ] {
        assert!(journal.contains(expected), "the journal does not say {expected:?}");
    }
}

fn it_is_announced_on_the_network(machine: &Machine) {
    let lines = machine.run("avahi-browse --parsable --resolve --terminate --all");
    for kind in [";_http._tcp;", ";_vlc-http._tcp;"] {
        let announced = |line: &str| line.starts_with('=') && line.contains(kind) && line.contains(";4410;");
        assert!(lines.lines().any(announced), "Avahi does not announce it:\n{lines}");
    }
}

/// Shares the card by dsnoop with a program of another user of the group audio, before and after a restart of the service.
fn another_program_records_from_the_same_card(machine: &Machine) {
    machine.run(
        "printf 'pcm.shared { type dsnoop ipc_key 5678293 ipc_perm 0660 ipc_gid audio \
         slave { pcm \"hw:Loopback,1\" rate 44100 channels 2 } }\\n' >/etc/asound.conf; \
         printf '[input.live]\\ndevice = \"shared\"\\n' >/etc/wavecast.d/20-shared.toml; \
         systemctl reload wavecast",
    );
    let server = Server::at(machine.http());
    for restart in [false, true] {
        if restart {
            machine.run("systemctl restart wavecast");
        }
        server.wait_for_state("live", "capturing");
        machine.run(
            "setpriv --reuid nobody --regid nogroup --groups audio \
             arecord -q -D shared -f S16_LE -r 44100 -c 2 -d 2 /dev/null",
        );
        server.wait_for_state("live", "capturing");
    }
    machine.run("rm /etc/asound.conf /etc/wavecast.d/20-shared.toml; systemctl reload wavecast");
    server.wait_for_state("live", "capturing");
}

/// Returns the status in `systemctl status`.
fn status_line(machine: &Machine) -> String {
    machine.run("systemctl show -p StatusText --value wavecast")
}

fn how_much_it_takes(machine: &Machine) {
    let memory = machine.run("grep VmRSS /proc/$(systemctl show -p MainPID --value wavecast)/status");
    let installed = machine.run("dpkg-query -W -f='${Installed-Size}' wavecast");
    let memory = memory.split_whitespace().nth(1).expect("a size in KiB");
    println!(
        "emulated {}: wavecast takes {memory} KiB of memory, {installed} KiB of the disk",
        machine.board().arch
    );
}

fn the_configuration_is_edited(machine: &Machine) {
    // The files are flushed, as editors do it.
    machine.run(&format!(
        "sed -i 's/^# rate = .*/history_seconds = 7/' /etc/wavecast.toml && \
         printf '[input.live]\\nrealtime_priority = {EDITED_PRIORITY}\\n' >/etc/wavecast.d/10-priority.toml && \
         sync /etc/wavecast.toml /etc/wavecast.d/10-priority.toml /etc/wavecast.d"
    ));
    machine.run("wavecast check --config /etc/wavecast.toml");
}

fn the_configuration_is_as_it_was_edited(machine: &Machine) {
    let input = Server::at(machine.http()).input("live");
    assert_eq!(input["history_seconds"], 7.0, "{input:#}");
}

fn a_reboot_ends_the_stream_cleanly_and_it_comes_back(machine: &Machine) {
    let server = Server::at(machine.http());
    let listener = Listener::from_afar(&server, "/live.wav", ramp_reader());
    listener.hear_more(Duration::from_secs(1));
    machine.reboot();
    assert_eq!(listener.ending(), Some(Ending::Complete), "the stream ended as a stream ends");

    let last = machine.run("journalctl -b -1 -u wavecast --no-pager -o cat");
    assert!(last.contains("wavecast.service: Deactivated successfully."), "it did not end cleanly:\n{last}");
    assert_eq!(machine.run("systemctl --failed --plain --no-legend"), "");
    the_configuration_is_as_it_was_edited(machine);
    let listener = Listener::from_afar(&server, "/live.wav", ramp_reader());
    listener.hear_more(Duration::from_secs(1));
}

fn after_a_power_cut_it_comes_back<'a>(board: &'a Board, machine: Machine<'a>) -> Machine<'a> {
    let server = Server::at(machine.http());
    let listener = Listener::from_afar(&server, "/live.wav", ramp_reader());
    listener.hear_more(Duration::from_secs(2));
    machine.cut_power();
    support::wait_for("the end of the stream", || listener.ending());
    assert_eq!(listener.ending(), Some(Ending::Cut));

    let machine = board.boot();
    let first_sound = first_sound(machine.http());
    machine.wait_until_booted();
    let sound = first_sound.recv_timeout(board::PATIENCE).expect("there is sound again");
    // There are two clocks, and the command that reads one of them takes time. This reading makes the sound later.
    let now = machine.uptime();
    let kernel_began = Instant::now() - Duration::from_secs_f64(now);
    let sound_after_kernel = sound.saturating_duration_since(kernel_began).as_secs_f64();
    let multi_user = machine.multi_user();
    let after = sound_after_kernel - multi_user;
    println!(
        "emulated {}, not the speed of a board: first sound by HTTP {sound_after_kernel:.1} s after the kernel's \
         start, {after:+.1} s from multi-user.target ({multi_user:.1} s); {:.1} s after power on",
        board.arch,
        (sound - machine.on).as_secs_f64(),
    );
    assert!(after < BACK_AFTER, "the sound came {after:.1} s after multi-user.target");

    let server = Server::at(machine.http());
    let listener = Listener::from_afar(&server, "/live.wav", ramp_reader());
    listener.hear_more(Duration::from_secs(5));
    // The daemon may have started before there was a network.
    let status = support::wait_for("its address in systemctl status", || {
        Some(status_line(&machine)).filter(|line| line.contains(ADDRESS))
    });
    println!("after the power cut: {status}");
    machine
}

/// Asks for the stream again and again until the ramp is in it, and sends the time at which it was.
fn first_sound(address: SocketAddr) -> Receiver<Instant> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        while !hears_sound(address).unwrap_or(false) {
            support::let_pass(Duration::from_millis(50));
        }
        let _ = send.send(Instant::now());
    });
    receive
}

/// Returns `true` if a sample that is not silence comes soon. The emulator accepts connections before the machine
/// does.
fn hears_sound(address: SocketAddr) -> io::Result<bool> {
    // The first half second may be silence, and a little more.
    const MOST: usize = 200_000;
    let soon = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&address, soon)?;
    stream.set_read_timeout(Some(soon))?;
    write!(stream, "GET /live.wav HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        let count = stream.read(&mut bytes)?;
        answer.extend_from_slice(&bytes[..count]);
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let sound = head.is_some_and(|end| answer.iter().skip(end + 4 + HEADER_BYTES).any(|byte| *byte != 0));
        if sound || count == 0 || answer.len() > MOST {
            return Ok(sound);
        }
    }
}

fn ramp_reader() -> RampReader {
    RampReader::new(CardFormat::S16, 2)
}
