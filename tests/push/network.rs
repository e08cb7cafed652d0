//! Networks that swallow every packet for a while and tell nobody: board, router and server are network namespaces of this
//! machine, and the router stops forwarding.
//!
//! Only root can make namespaces: without it the test says so and passes.

use std::process::Command;
use std::time::Duration;

use rustix::process::geteuid;

use crate::servers::{Extra, Icecast, PASSWORD, installed};
use crate::support::daemon::Daemon;
use crate::support::stopwatch::Stopwatch;
use crate::wait_within;

/// The time that a test waits for a line of the log.
const PATIENCE: Duration = Duration::from_secs(90);

/// Three namespaces in a row. They are removed on drop.
struct Network {
    /// Differs from that of every other run.
    tag: u32,
}

const ADDRESSES: [&str; 2] = ["10.79.1.2", "10.79.2.2"];

impl Network {
    /// Makes the namespaces; `None` where that is not allowed.
    fn new() -> Option<Network> {
        let network = Network { tag: std::process::id() % 100_000 };
        let names = ["b", "r", "s"].map(|name| network.name(name));
        let [board, router, server] = &names;
        for name in &names {
            if !run(&format!("ip netns add {name}")) {
                return None;
            }
            assert!(run(&format!("ip -n {name} link set lo up")));
        }
        for (end, own, gateway, other) in
            [(board, ADDRESSES[0], "10.79.1.1", "r0"), (server, ADDRESSES[1], "10.79.2.1", "r1")]
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

    /// Has the router forward packets, or drop them all.
    fn forward(&self, is_on: bool) {
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

/// A hole in the network of 20 s and one of 60 s: each is told, and the stream is back by itself.
#[test]
fn a_network_that_swallows_everything_for_20_and_60_seconds_ends_nothing() {
    if !geteuid().is_root() || !installed(&["icecast2", "ip"]) {
        return;
    }
    let Some(network) = Network::new() else {
        println!("not tested: no network namespaces here");
        return;
    };
    let (board, server) = (network.name("b"), network.name("s"));
    let inside = |name| ["ip", "netns", "exec", name];
    let icecast =
        Icecast::through(&inside(&server), Extra { address: Some(ADDRESSES[1]), ..Extra::default() });
    let config = format!(
        "[input.live]\ndevice = \"synth:tone\"\nrate = 48000\nbuffer_ms = 10000\n[push.radio]\n\
         to = \"icecast://{}/a.ogg\"\npassword = \"{PASSWORD}\"\nformat = \"opus\"\n",
        icecast.address
    );
    let daemon = Daemon::through(&inside(&board), &config);
    let wait_for_lines = |text: &str, count: usize| {
        wait_within(PATIENCE, Duration::from_millis(20), text, || {
            (daemon.count_log(text) >= count).then_some(())
        });
    };
    wait_for_lines("push radio: on the air at", 1);
    for (number, seconds) in [(1, 20), (2, 60)] {
        network.forward(false);
        let began = Stopwatch::start();
        wait_for_lines("push radio: not on the air", number);
        println!("a hole of {seconds} s was noticed after {:?}", began.elapsed());
        // The hole is as long as it is said to be: its length is what is tested.
        std::thread::sleep(Duration::from_secs(seconds).saturating_sub(began.elapsed()));
        network.forward(true);
        let ended = Stopwatch::start();
        wait_for_lines("push radio: on the air again at", number);
        println!("back on the air {:?} after the hole, 2 s of it to see that it lasts", ended.elapsed());
    }
}
