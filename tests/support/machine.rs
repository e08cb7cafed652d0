//! A whole machine for a test: a fresh Debian that systemd-nspawn boots, with systemd, apt and a network.
//!
//! The fake card is its sound card: `/etc/asound.conf` names it `fake`, and a drop-in of the service makes it the
//! card to capture. The machine needs root. For another architecture qemu-user runs the programs.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use super::wait_within;

/// The longest time for a boot or for a command. Foreign machines are ten times slower.
const PATIENCE: Duration = Duration::from_secs(240);

/// Runs a program of this machine to its end, and returns its standard output and standard error.
///
/// # Panics
///
/// If the program fails.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let (success, output) = try_run(program, arguments);
    assert!(success, "{program} {arguments:?}:\n{output}");
    output
}

/// Runs a program like [`run`], and returns `true` first if it succeeded.
pub(crate) fn try_run(program: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let output_text = [output.stdout, output.stderr].concat();
    // apt has dpkg write to a terminal, where lines end in CR LF.
    (output.status.success(), String::from_utf8_lossy(&output_text).replace("\r\n", "\n"))
}

/// Returns the folder in which `scripts/package` and the tests keep files that take long to make.
fn kept() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(env::var_os("HOME").expect("a home")).join(".cache");
    let kept = env::var_os("WAVECAST_BUILD").map(PathBuf::from);
    kept.unwrap_or_else(|| cache.unwrap_or_else(home).join("wavecast-build"))
}

/// Returns the archive of a fresh Debian, made if it is not there. Its apt has `packages` at hand.
pub(crate) fn fresh_debian(suite: &str, arch: &str, packages: &[&str]) -> PathBuf {
    // The name carries a hash of the recipe, so that another recipe makes another machine.
    let recipe = include_str!("../../scripts/fresh-debian")
        .bytes()
        .fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let name = format!("fresh-{suite}-{arch}-{}-{recipe:08x}.tar", packages.join("-"));
    let archive = kept().join(name);
    if !archive.exists() {
        fs::create_dir_all(kept()).expect("a folder to keep it in");
        // The archive is written under another name, so that an interrupted one is not used.
        let unfinished = archive.with_extension("part");
        let arguments = [&[suite, arch, text(&unfinished)], packages].concat();
        run("scripts/fresh-debian", &arguments);
        fs::rename(&unfinished, &archive).expect("it was made there");
    }
    archive
}

/// Unpacks the archive into a new folder.
pub(crate) fn unpack(archive: &Path, name: &str) -> PathBuf {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("machine-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    run("tar", &["-x", "-f", text(archive), "-C", text(&folder)]);
    folder
}

/// Removes a folder of [`unpack`], unless something is mounted in it.
pub(crate) fn remove(folder: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    if !mounts.contains(text(folder)) {
        let _ = fs::remove_dir_all(folder);
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// A running machine. It is switched off and removed on drop.
pub(crate) struct Machine {
    name: String,
    root: PathBuf,
    /// The machine's own cgroup. Two machines in one cgroup would end each other's services.
    cgroup: PathBuf,
    nspawn: Child,
    /// The process ID of the machine's first process, as this machine numbers it.
    leader: String,
    address: Ipv4Addr,
}

impl Machine {
    /// Boots a fresh machine, with the fake card's plugin for its architecture, and waits until it is up.
    pub(crate) fn boot(archive: &Path, plugin: &Path) -> Machine {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // An interface's name has at most 15 characters, and nspawn puts "ve-" before it.
        let name = format!("wc{number}x{}", std::process::id());
        let root = unpack(archive, &name);
        furnish(&root, plugin);
        let cgroup = own_cgroup().join(&name);
        fs::create_dir(&cgroup).expect("root may make a cgroup");
        // If this test is killed, the machine is switched off.
        let enter = format!("echo $$ >{}/cgroup.procs; exec \"$@\"", text(&cgroup));
        let nspawn = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "TERM",
                "sh",
                "-euc",
                &enter,
                "sh",
                "systemd-nspawn",
                "--quiet",
                "--boot",
                "--directory",
                text(&root),
            ])
            .args(["--register=no", "--keep-unit", "--console=pipe", "--network-veth", "--machine", &name])
            // systemd on its own machine has as much: there it keeps services from devices by BPF.
            .args(["--capability=all", "--system-call-filter=bpf"])
            // Debian 13 knows only this one.
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stdout(File::create(root.with_extension("log")).expect("a file for its console"))
            .stderr(Stdio::null())
            .spawn()
            .expect("systemd-nspawn runs");
        // Each machine has a network of two addresses. The addresses are private, because others may not listen by
        // default.
        let subnet = 4 * (number % 60);
        let address = Ipv4Addr::new(192, 168, 244, subnet + 2);
        let mut machine = Machine { name, root, cgroup, nspawn, leader: String::new(), address };
        machine.wait_until_up();
        machine.connect(Ipv4Addr::new(192, 168, 244, subnet + 1));
        machine
    }

    fn wait_until_up(&mut self) {
        let pid = self.nspawn.id().to_string();
        wait_within(PATIENCE, Duration::from_millis(200), "a machine to boot", || {
            let ended = self.nspawn.try_wait().expect("it is our child");
            assert!(ended.is_none(), "systemd-nspawn ended: {ended:?}");
            let (_, leader) = try_run("pgrep", &["--parent", &pid]);
            self.leader = leader.trim().to_owned();
            let is_up = || self.try_sh("systemctl is-active --quiet multi-user.target").0;
            (!self.leader.is_empty() && is_up()).then_some(())
        });
    }

    fn connect(&self, ours: Ipv4Addr) {
        let interface = format!("ve-{}", self.name);
        run("ip", &["address", "add", &format!("{ours}/30"), "dev", &interface]);
        run("ip", &["link", "set", &interface, "up"]);
        for arguments in [
            &["address", "add", &format!("{}/30", self.address), "dev", "host0"][..],
            &["link", "set", "host0", "up"],
            &["link", "set", "lo", "up"],
            &["route", "add", "default", "via", &ours.to_string()],
        ] {
            run("nsenter", &[&["--target", &self.leader, "--net", "ip"], arguments].concat());
        }
    }

    /// Returns the machine's address with `port`.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// Returns the path of a file of the machine, as this machine sees it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Runs a shell command on the machine as root, and returns its output.
    ///
    /// # Panics
    ///
    /// If the command fails.
    pub(crate) fn sh(&self, command: &str) -> String {
        let (success, output) = self.try_sh(command);
        assert!(success, "{command}:\n{output}\n{}", self.journal());
        output
    }

    /// Runs a command like [`Machine::run`], and returns `true` first if it succeeded.
    pub(crate) fn try_sh(&self, command: &str) -> (bool, String) {
        let patience = PATIENCE.as_secs().to_string();
        let enter = [&patience, "nsenter", "--target", &self.leader, "--all", "env", "-i", "HOME=/root"];
        let shell = ["LC_ALL=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", command];
        try_run("timeout", &[&enter[..], &shell].concat())
    }

    /// Returns a program of the machine, to be run by one of its users.
    pub(crate) fn command(&self, user: &str, program: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader, "--all", "env", "-i", "LC_ALL=C.UTF-8", "TERM=dumb"]);
        command.arg(format!("HOME=/home/{user}")).arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["runuser", "-u", user, "--"]).args(program);
        command
    }

    /// Returns the log of the service.
    pub(crate) fn journal(&self) -> String {
        self.try_sh("journalctl --unit wavecast --no-pager --output cat").1
    }

    fn console(&self) -> String {
        fs::read_to_string(self.root.with_extension("log")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the console of {}:\n{}\n---", self.name, self.console());
        }
        // All other processes end with the first one.
        let _ = try_run("kill", &["-KILL", &self.leader]);
        let end = Instant::now() + Duration::from_secs(10);
        while matches!(self.nspawn.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        remove(&self.root);
        let _ = fs::remove_file(self.root.with_extension("log"));
        let _ = try_run("find", &[text(&self.cgroup), "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
    }
}

/// Returns the folder of the cgroup of version 2 that this process is in.
fn own_cgroup() -> PathBuf {
    let ours = fs::read_to_string("/proc/self/cgroup").expect("Linux has cgroups");
    let ours = ours.lines().find_map(|line| line.strip_prefix("0::/")).expect("version 2 is mounted");
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    let all = if hybrid.exists() { hybrid } else { Path::new("/sys/fs/cgroup") };
    all.join(ours)
}

/// Gives the machine a sound card.
fn furnish(root: &Path, plugin: &Path) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    };
    write("etc/hostname", "raspberrypi\n");
    write("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 raspberrypi\n");
    // There is no Internet, and no service shall wait for it.
    write("etc/apt/apt.conf.d/offline", "Acquire::Retries 0;\n");
    // The stat file is in a folder that the service may write, with all its sandbox.
    write(
        "etc/asound.conf",
        "pcm_type.fakecard { lib \"/opt/fakecard/libasound_module_pcm_fakecard.so\" }\n\
         pcm.fake { type fakecard ctl \"/opt/fakecard/ctl\" stat \"/dev/shm/fakecard.stat\" }\n",
    );
    write("opt/fakecard/ctl", "run");
    fs::copy(plugin, root.join("opt/fakecard/libasound_module_pcm_fakecard.so"))
        .expect("the plugin is there");
    // A fake card has a name only and cannot be found in /proc, so the drop-in stands for a card that is plugged in.
    write(
        "etc/systemd/system/wavecast.service.d/card.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/wavecast --device fake\n",
    );
    // These services are slow and not tested here.
    for unit in [
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "fstrim.timer",
        "console-getty.service",
    ] {
        let _ = symlink("/dev/null", root.join("etc/systemd/system").join(unit));
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// A registration by which this machine runs programs of another architecture. It is removed on drop.
pub(crate) struct Emulation(Option<PathBuf>);

impl Emulation {
    /// Registers qemu-user for `arch`, unless this machine runs its programs anyway. The registration has a name of
    /// its own, beside any other.
    pub(crate) fn of(arch: &str) -> Emulation {
        let native = run("dpkg", &["--print-architecture"]);
        let machine = match arch {
            "arm64" => "aarch64",
            "armhf" => "arm",
            _ => "x86_64",
        };
        if native.trim() == arch {
            return Emulation(None);
        }
        let folder = Path::new("/proc/sys/fs/binfmt_misc");
        if !folder.join("register").exists() {
            run("mount", &["-t", "binfmt_misc", "binfmt_misc", text(folder)]);
        }
        // Removes the registrations of tests that were killed.
        for entry in fs::read_dir(folder).expect("it is mounted").flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let owner = name.strip_prefix("wavecast-").and_then(|rest| rest.rsplit('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::write(entry.path(), "-1");
            }
        }
        // ":qemu-aarch64:M::magic:mask:interpreter:F", where F has the kernel keep the interpreter open, so that it
        // is found in any root.
        let line = fs::read_to_string(format!("/usr/lib/binfmt.d/qemu-{machine}.conf"))
            .unwrap_or_else(|error| panic!("qemu-user-static is not installed: {error}"));
        let name = format!("wavecast-{machine}-{}", std::process::id());
        let ours = line.trim().replacen(&format!("qemu-{machine}"), &name, 1);
        let entry = folder.join(&name);
        if !entry.exists() {
            fs::write(folder.join("register"), ours).expect("root may register it");
        }
        Emulation(Some(entry))
    }
}

impl Drop for Emulation {
    fn drop(&mut self) {
        if let Some(entry) = &self.0 {
            let _ = fs::write(entry, "-1");
        }
    }
}
