//! Networks that lose packets and tell nobody: board, router and server are network namespaces of this machine. The router
//! stops forwarding, or the board gets another address and the server keeps the dead half of its connection.
//!
//! Only root can make namespaces: without it the tests say so and pass.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::geteuid;

use crate::servers::{Extra, Icecast, PASSWORD, installed};
use crate::support::daemon::Daemon;
use crate::support::stopwatch::Stopwatch;
use crate::wait_within;

/// The line of Icecast's log at the end of a source that has sent nothing for the source timeout.
const FREE: &str = "Disconnecting source due to socket timeout";

/// The time that a test waits for a line of the log.
const PATIENCE: Duration = Duration::from_secs(90);

/// Three namespaces in a row: board, router, server. They are removed on drop.
pub(crate) struct Network {
    /// Differs from that of every other network.
    tag: String,
}

/// The addresses of the board and of the server.
const BOARD: &str = "10.79.1.2";
pub(crate) const SERVER: &str = "10.79.2.2";
/// The addresses of the router, on either side.
const ROUTER: [&str; 2] = ["10.79.1.1", "10.79.2.1"];

impl Network {
    /// Makes the namespaces. Where that is not allowed, says so and returns `None`.
    pub(crate) fn new() -> Option<Network> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        if !geteuid().is_root() {
            println!("not tested: only root can make network namespaces");
            return None;
        }
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let network = Network { tag: format!("{}-{number}", std::process::id() % 100_000) };
        let names = ["b", "r", "s"].map(|name| network.name(name));
        let [board, router, server] = &names;
        for name in &names {
            if !run(&format!("ip netns add {name}")) {
                println!("not tested: no network namespaces here");
                return None;
            }
            assert!(run(&format!("ip -n {name} link set lo up")));
        }
        for (end, own, gateway, other) in [(board, BOARD, ROUTER[0], "r0"), (server, SERVER, ROUTER[1], "r1")]
        {
            for command in [
                format!("ip -n {end} link add e0 type veth peer name {other} netns {router}"),
                format!("ip -n {end} addr add {own}/24 dev e0"),
                format!("ip -n {router} addr add {gateway}/24 dev {other}"),
                format!("ip -n {end} link set e0 up"),
                format!("ip -n {router} link set {other} up"),
                format!("ip -n {end} route add default via {gateway}"),
            ] {
                assert!(run(&command), "{command}");
            }
        }
        network.forward(true);
        Some(network)
    }

    fn name(&self, name: &str) -> String {
        format!("wavecast-{}-{name}", self.tag)
    }

    /// Returns the words before a command that run it on the board.
    pub(crate) fn on_the_board(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name("b")].map(str::to_owned).to_vec()
    }

    /// Starts an Icecast on the server.
    pub(crate) fn icecast(&self, extra: Extra<'_>) -> Icecast {
        let server = self.name("s");
        Icecast::through(&["ip", "netns", "exec", &server], Extra { address: Some(SERVER), ..extra })
    }

    /// Starts the daemon on the board.
    fn daemon(&self, config: &str) -> Daemon {
        let words = self.on_the_board();
        Daemon::through(&words.iter().map(String::as_str).collect::<Vec<_>>(), config)
    }

    /// Gives the board another address: nobody answers any more for the connections of the old one, not even with a reset.
    fn move_the_board(&self) {
        let board = self.name("b");
        for command in [
            format!("ip -n {board} addr del {BOARD}/24 dev e0"),
            format!("ip -n {board} addr add 10.79.1.3/24 dev e0"),
            format!("ip -n {board} route add default via {}", ROUTER[0]),
        ] {
            assert!(run(&command), "{command}");
        }
    }

    /// Has the router forward packets, or drop them all.
    pub(crate) fn forward(&self, is_on: bool) {
        let value = i32::from(is_on);
        let script = format!("echo {value} > /proc/sys/net/ipv4/ip_forward");
        let status =
            Command::new("ip").args(["netns", "exec", &self.name("r"), "sh", "-c", &script]).status();
        assert!(status.expect("ip runs").success());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in ["b", "r", "s"] {
            let _ = run(&format!("ip netns del {}", self.name(name)));
        }
    }
}

fn run(command: &str) -> bool {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    Command::new(program).args(words).status().expect("it runs").success()
}

/// Returns the configuration of a push to an Icecast.
fn config(icecast: &Icecast) -> String {
    format!(
        "[input.live]\ndevice = \"synth:tone\"\nrate = 48000\nbuffer_ms = 10000\n[push.radio]\n\
         to = \"icecast://{}/a.ogg\"\npassword = \"{PASSWORD}\"\nformat = \"opus\"\n",
        icecast.address
    )
}

/// Waits until the log has `count` lines with that text.
fn wait_for_lines(daemon: &Daemon, text: &str, count: usize) {
    wait_within(PATIENCE, Duration::from_millis(20), text, || {
        (daemon.count_log(text) >= count).then_some(())
    });
}

/// A hole in the network of 20 s and one of 60 s: each is told, and the stream is back by itself.
#[test]
fn a_network_that_swallows_everything_for_20_and_60_seconds_ends_nothing() {
    if !installed(&["icecast2", "ip"]) {
        return;
    }
    let Some(network) = Network::new() else { return };
    let icecast = network.icecast(Extra::default());
    let daemon = network.daemon(&config(&icecast));
    wait_for_lines(&daemon, "push radio: on the air at", 1);
    for (number, seconds) in [(1, 20), (2, 60)] {
        network.forward(false);
        let began = Stopwatch::start();
        wait_for_lines(&daemon, "push radio: not on the air", number);
        println!("a hole of {seconds} s was noticed after {:?}", began.elapsed());
        // The hole is as long as it is said to be: its length is what is tested.
        std::thread::sleep(Duration::from_secs(seconds).saturating_sub(began.elapsed()));
        network.forward(true);
        let ended = Stopwatch::start();
        wait_for_lines(&daemon, "push radio: on the air again at", number);
        println!("back on the air {:?} after the hole, 2 s of it to see that it lasts", ended.elapsed());
    }
}

/// The board gets another address. The server holds the dead connection, and with it the mount, up to its source timeout:
/// until then the mount is in use, and as soon as it is free the stream is back.
#[test]
fn a_mount_that_a_dead_connection_holds_is_taken_once_it_is_free() {
    if !installed(&["icecast2", "ip"]) {
        return;
    }
    let Some(network) = Network::new() else { return };
    // Long enough for the push to find the connection dead, which takes 8 s, and the mount in use.
    let icecast = network.icecast(Extra { source_timeout: 25, ..Extra::default() });
    let daemon = network.daemon(&config(&icecast));
    wait_for_lines(&daemon, "push radio: on the air at", 1);
    network.move_the_board();
    wait_for_lines(&daemon, "still has a source on /a.ogg", 1);
    assert!(!icecast.log().contains(FREE), "it is in use because of the dead connection");
    wait_within(PATIENCE, Duration::from_millis(20), "the server to free the mount", || {
        icecast.log().contains(FREE).then_some(())
    });
    let free = Stopwatch::start();
    wait_for_lines(&daemon, "push radio: on the air again at", 1);
    println!("back on the air {:?} after the mount was free, 2 s of it to see that it lasts", free.elapsed());
    // Nobody was asked to do anything: the mount in use is one line of the log, whatever the number of tries.
    assert_eq!(daemon.count_log("still has a source on /a.ogg"), 1);
}
