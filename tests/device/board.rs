//! The emulated machine: a board with a card, a network, and a power plug.
//!
//! QEMU runs Debian's own kernel from the disk that `build-guest` made. Only two ports on the loopback of this
//! machine lead into it: to the SSH server and to wavecast.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crate::support::wait_within;

/// The longest time for a boot or for a command.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until `look` finds something. Panics after [`PATIENCE`].
pub(crate) fn wait_for<T>(event: &str, look: impl FnMut() -> Option<T>) -> T {
    // Each look may go through the emulated machine, so the pause is long.
    wait_within(PATIENCE, Duration::from_millis(200), event, look)
}

/// The files that `scripts/device-test` has prepared.
pub(crate) struct Board {
    /// Debian's name for the processor.
    pub(crate) arch: String,
    /// The package to install.
    pub(crate) package: PathBuf,
    /// The folder of `vmlinuz`, `initrd.img` and the disk as it is before the first boot.
    guest: PathBuf,
    /// The private key for the root of the machine.
    key: PathBuf,
    /// A folder for this run.
    scratch: PathBuf,
}

impl Board {
    /// Reads the paths from the environment, and makes a disk for this run.
    ///
    /// The disk is an overlay that behaves like a disk with a cache: data that the guest has not flushed is not all
    /// in the file when the emulator is killed.
    pub(crate) fn from_env() -> Board {
        let var = |name: &str| {
            let value = env::var(name);
            value.unwrap_or_else(|_| panic!("{name} is not set: scripts/device-test runs this"))
        };
        let path = |name: &str| PathBuf::from(var(name));
        let board = Board {
            arch: var("WAVECAST_DEVICE_ARCH"),
            package: path("WAVECAST_DEVICE_PACKAGE"),
            guest: path("WAVECAST_DEVICE_GUEST"),
            key: path("WAVECAST_DEVICE_KEY"),
            scratch: path("WAVECAST_DEVICE_SCRATCH"),
        };
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .args([board.guest.join("disk.img"), board.disk()])
            .status();
        assert!(made.expect("qemu-img runs").success());
        board
    }

    /// Turns the machine on.
    pub(crate) fn boot(&self) -> Machine<'_> {
        Machine::boot(self)
    }

    fn disk(&self) -> PathBuf {
        self.scratch.join("disk.qcow2")
    }

    /// Returns the output of the serial port since the machine was turned on.
    fn console(&self) -> PathBuf {
        self.scratch.join("console")
    }

    /// Returns the emulator, the board that it emulates, and the kernel's name of the serial port. The processors are
    /// those of a Raspberry Pi 3 and 2, and for a PC whatever can be emulated.
    fn emulator(&self) -> (&'static str, &'static [&'static str], &'static str) {
        match self.arch.as_str() {
            "arm64" => {
                ("qemu-system-aarch64", &["-M", "virt,gic-version=3", "-cpu", "cortex-a53"], "ttyAMA0")
            }
            "armhf" => ("qemu-system-arm", &["-M", "virt,highmem=off", "-cpu", "cortex-a7"], "ttyAMA0"),
            "amd64" => ("qemu-system-x86_64", &["-M", "q35", "-cpu", "max"], "ttyS0"),
            other => panic!("no board with {other} is known here"),
        }
    }
}

/// A machine that is on. Its power is cut on drop.
pub(crate) struct Machine<'a> {
    board: &'a Board,
    qemu: Child,
    ssh: SocketAddr,
    http: SocketAddr,
    /// The time at which it was turned on.
    pub(crate) on: Instant,
}

impl<'a> Machine<'a> {
    fn boot(board: &'a Board) -> Machine<'a> {
        let (program, model, serial) = board.emulator();
        let on = Instant::now();
        // The emulator ends with this test, however the test ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]);
        command.args(model).args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "512"]);
        command.args(["-nodefaults", "-display", "none", "-monitor", "stdio"]);
        command.arg("-serial").arg(format!("file:{}", board.console().display()));
        command.arg("-kernel").arg(board.guest.join("vmlinuz"));
        command.arg("-initrd").arg(board.guest.join("initrd.img"));
        command.arg("-append").arg(format!("root=/dev/vda rw console={serial} net.ifnames=0 quiet panic=-1"));
        // Data that the guest flushes is written. Other data may be lost.
        command.arg("-drive");
        command.arg(format!("file={},format=qcow2,if=none,id=disk,cache=writeback", board.disk().display()));
        command.args(["-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"]);
        // Port 0 is a port that the kernel chooses.
        let ports = "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22,hostfwd=tcp:127.0.0.1:0-:4410";
        command.args(["-netdev", ports, "-device", "virtio-net-pci,netdev=net,romfile="]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut qemu = command.spawn().expect("QEMU starts");
        let ports = forwarded_ports(&mut qemu);
        let [ssh, http] = ports.unwrap_or_else(|| {
            let _ = qemu.kill();
            panic!("QEMU does not run: {:?}", qemu.wait());
        });
        Machine { board, qemu, ssh, http, on }
    }

    /// Returns the board that is emulated.
    pub(crate) fn board(&self) -> &Board {
        self.board
    }

    /// Returns the address of the machine's wavecast.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// Runs a command as root, and returns its standard output and standard error.
    ///
    /// # Panics
    ///
    /// If the command fails.
    pub(crate) fn run(&self, command: &str) -> String {
        match self.try_run(command, PATIENCE) {
            (true, output) => output,
            (false, output) => panic!("on the device, this failed: {command}\n{output}"),
        }
    }

    /// Runs a command for at most `limit`. Returns `true` if it succeeded, and its output.
    pub(crate) fn try_run(&self, command: &str, limit: Duration) -> (bool, String) {
        let output =
            self.remote("ssh", limit, "-p").args(["root@127.0.0.1", &format!("{command} 2>&1")]).output();
        let output = output.expect("ssh runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).trim_end().to_owned())
    }

    /// Copies a file to a path on the machine.
    pub(crate) fn copy(&self, file: &Path, to: &str) {
        let mut command = self.remote("scp", PATIENCE, "-P");
        let copied = command.arg("-q").arg(file).arg(format!("root@127.0.0.1:{to}")).status();
        assert!(copied.expect("scp runs").success(), "{} was not copied", file.display());
    }

    /// Waits until the machine has booted, which is when `multi-user.target` is reached.
    pub(crate) fn wait_until_booted(&self) {
        let up = "systemctl is-active -q multi-user.target";
        wait_for("multi-user.target", || self.try_run(up, Duration::from_secs(20)).0.then_some(()));
    }

    /// Returns the seconds since the kernel started.
    pub(crate) fn uptime(&self) -> f64 {
        let uptime = self.run("cat /proc/uptime");
        uptime.split(' ').next().and_then(|seconds| seconds.parse().ok()).expect("an uptime")
    }

    /// Returns the time at which `multi-user.target` was reached, in seconds since the kernel started.
    pub(crate) fn multi_user(&self) -> f64 {
        let time = self.run("systemctl show -p ActiveEnterTimestampMonotonic --value multi-user.target");
        time.parse::<f64>().expect("a time") / 1e6
    }

    /// Returns an ID that each boot has a new one of.
    pub(crate) fn boot_id(&self) -> String {
        self.run("cat /proc/sys/kernel/random/boot_id")
    }

    /// Reboots the machine as its owner would, and waits until it is up.
    pub(crate) fn reboot(&self) {
        let before = self.boot_id();
        // The connection may end before the command does.
        let _ = self.try_run("systemctl reboot", Duration::from_secs(30));
        wait_for("another boot", || {
            let (answered, id) = self.try_run("cat /proc/sys/kernel/random/boot_id", Duration::from_secs(20));
            (answered && id != before).then_some(())
        });
        self.wait_until_booted();
    }

    /// Cuts the power.
    pub(crate) fn cut_power(self) {
        drop(self);
    }

    /// Turns the machine off as its owner would.
    pub(crate) fn power_off(mut self) {
        let _ = self.try_run("systemctl poweroff", Duration::from_secs(30));
        let status = wait_for("the machine to turn itself off", || self.qemu.try_wait().expect("our child"));
        assert!(status.success(), "QEMU: {status}");
    }

    /// Returns ssh or scp with a time limit and its options. `port` is the name of the option for the port.
    fn remote(&self, program: &str, limit: Duration, port: &str) -> Command {
        let mut command = Command::new("timeout");
        command.arg(limit.as_secs().to_string()).arg(program).args(["-F", "none", "-i"]).arg(&self.board.key);
        command.args([port, &self.ssh.port().to_string()]);
        for option in [
            "BatchMode=yes",
            "ConnectTimeout=15",
            "IdentitiesOnly=yes",
            "LogLevel=ERROR",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
        ] {
            command.args(["-o", option]);
        }
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let (_, journal) = self.try_run(
                "journalctl -u wavecast --no-pager -n 40 -o short-monotonic",
                Duration::from_secs(30),
            );
            let console = fs::read(self.board.console()).unwrap_or_default();
            let console = String::from_utf8_lossy(&console);
            let lines: Vec<&str> = console.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("--- the serial console:\n{tail}\n--- the journal of wavecast:\n{journal}\n---");
        }
        // SIGKILL: the guest and the emulator write nothing more.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Returns the two ports that the kernel chose, from QEMU's monitor: SSH and HTTP. `None` if QEMU has ended or prints
/// nothing.
fn forwarded_ports(qemu: &mut Child) -> Option<[SocketAddr; 2]> {
    let monitor = qemu.stdin.as_mut().expect("piped");
    let mut output = BufReader::new(qemu.stdout.take().expect("piped"));
    let (send, lines) = mpsc::channel();
    // The thread reads to the end, so that QEMU never waits for a reader.
    thread::spawn(move || {
        let mut line = String::new();
        while output.read_line(&mut line).is_ok_and(|count| count > 0) {
            let _ = send.send(std::mem::take(&mut line));
        }
    });
    monitor.write_all(b"info usernet\n").ok()?;
    let port_to = |guest: &str, line: &str| {
        // Protocol[State]  descriptor  source address, port  destination address, port …
        let words: Vec<&str> = line.split_whitespace().collect();
        let forwarded = words.first()?.contains("HOST_FORWARD") && *words.get(5)? == guest;
        forwarded.then(|| words[3].parse().ok().map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port))))?
    };
    let (mut ssh, mut http) = (None, None);
    while ssh.is_none() || http.is_none() {
        let line = lines.recv_timeout(Duration::from_secs(30)).ok()?;
        ssh = ssh.or(port_to("22", &line));
        http = http.or(port_to("4410", &line));
    }
    Some([ssh?, http?])
}
