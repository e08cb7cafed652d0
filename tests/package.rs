//! The package, a program of its own because it needs root and minutes: built, installed by apt on a fresh Debian,
//! heard, upgraded, removed.
//!
//! The machines are real but for the sound card: systemd-nspawn boots them, apt installs the package of
//! `scripts/package`, systemd runs it, and its stream comes over a network. The tests run on request only:
//! `scripts/test package`, or `cargo test --test package -- --ignored`. With `WAVECAST_PACKAGE=built` they use the
//! packages that are in `target/package` already. `package.packages` lists the packages to install.
//!
//! Tests begin in the order of their names. Those that build or run lintian in the chroot of `scripts/package` wait for
//! each other, so another test stands between them.

#[path = "package/newcomer.rs"]
mod newcomer;
mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use std::{env, fs, thread};

use serde_json::Value;
use support::card::CardFormat;
use support::flac::FlacReader;
use support::http::{self, Response};
use support::machine::{self, Emulation, Machine, fresh_debian, run, text};
use support::ramp::RampReader;
use support::{mp3, ogg, wait_for};

/// The largest Installed-Size of dpkg on a board, in KiB. dpkg counts each file in whole KiB, and each folder as one.
const MOST_KILOBYTES: u32 = 2000;

const PORT: u16 = 4410;

/// The architecture of most boards. The other one is that of this machine.
const FOREIGN: &str = "arm64";

fn native() -> &'static str {
    static ARCH: OnceLock<String> = OnceLock::new();
    ARCH.get_or_init(|| run("dpkg", &["--print-architecture"]).trim().to_owned())
}

/// Returns `true` if the packages in `target/package` are the ones to test.
fn built_already() -> bool {
    env::var_os("WAVECAST_PACKAGE").is_some_and(|value| value == "built")
}

/// Returns the package for an architecture, built if necessary.
fn package(arch: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        if !built_already() {
            run("scripts/package", &[native(), FOREIGN]);
        }
    });
    let version = env!("CARGO_PKG_VERSION");
    fs::canonicalize(format!("target/package/wavecast_{version}_{arch}.deb")).expect("it was built")
}

/// Returns the package with a higher version.
fn newer_package(arch: &str) -> PathBuf {
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("newer-{arch}-{}", std::process::id()));
    let newer = folder.with_extension("deb");
    run("dpkg-deb", &["--raw-extract", text(&package(arch)), text(&folder)]);
    let control = folder.join("DEBIAN/control");
    let fields = fs::read_to_string(&control).expect("it has one");
    let version = format!("Version: {}\n", env!("CARGO_PKG_VERSION"));
    assert!(fields.contains(&version));
    fs::write(&control, fields.replace(&version, &format!("{}+newer\n", version.trim())))
        .expect("it is ours");
    run("dpkg-deb", &["--root-owner-group", "--build", text(&folder), text(&newer)]);
    fs::remove_dir_all(&folder).expect("it is ours");
    newer
}

/// Returns the fake card's plugin for an architecture, built where the package is built.
fn plugin(arch: &str) -> PathBuf {
    // Tests that run side by side need the same file.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    let gcc = match arch {
        "amd64" => "x86_64-linux-gnu-gcc",
        "arm64" => "aarch64-linux-gnu-gcc",
        _ => "arm-linux-gnueabihf-gcc",
    };
    let name = format!("fakecard-{arch}.so");
    let plugin = PathBuf::from("target/package").join(&name);
    let written = |file: &Path| fs::metadata(file).and_then(|meta| meta.modified()).ok();
    if built_already() && written(&plugin) > written(Path::new("tests/support/fakecard.c")) {
        return fs::canonicalize(plugin).expect("it exists");
    }
    let compile = format!("{gcc} -shared -fPIC -DPIC -O2 -o $OUT/{name} tests/support/fakecard.c -lasound");
    run("scripts/package", &["--in-chroot", "sh", "-c", &compile]);
    fs::canonicalize(plugin).expect("it was built")
}

#[test]
#[ignore = "takes minutes, and root: scripts/test package"]
fn the_package_is_small_on_boards() {
    for arch in [native(), FOREIGN] {
        let deb = package(arch);
        let size = run("dpkg-deb", &["--field", text(&deb), "Installed-Size"]);
        let size: u32 = size.trim().parse().expect("a number");
        println!("{arch}: installed size {size} kB");
        assert!(size < MOST_KILOBYTES || arch != FOREIGN, "{arch}: {size} kB");
    }
}

#[test]
#[ignore = "takes minutes, and root: scripts/test package"]
fn the_packages_pass_lintian() {
    for arch in [native(), FOREIGN] {
        let deb = package(arch);
        let name = deb.file_name().and_then(|name| name.to_str()).expect("a name");
        // Rust keeps its texts without separators, so lintian sees misspelt words that are none. The package comes by
        // standard input, because target/ is not in the tree that goes into the chroot.
        let lintian = "lintian --display-info --display-experimental --pedantic --allow-root \
                       --suppress-tags spelling-error-in-binary \
                       --fail-on error,warning,info,pedantic,experimental";
        let inside = format!("cat >{name} && {lintian} {name}");
        let (success, output) = machine::try_run(
            "sh",
            &["-c", "exec scripts/package --in-chroot sh -c \"$0\" <\"$1\"", &inside, text(&deb)],
        );
        println!("{arch}: {output}");
        assert!(success, "{output}");
        let overrides = fs::read_to_string("debian/wavecast.lintian-overrides").unwrap_or_default();
        assert!(overrides.lines().filter(|line| line.starts_with("wavecast")).count() <= 2);
    }
}

#[test]
#[ignore = "takes minutes, and root: scripts/test package"]
fn piuparts_finds_nothing_that_a_purge_leaves_behind() {
    let deb = package(native());
    for (suite, alsa) in [("bookworm", "libasound2"), ("trixie", "libasound2t64")] {
        let archive =
            fresh_debian(suite, native(), &[alsa, "avahi-daemon", "avahi-utils", "libmp3lame0", "libopus0"]);
        let root = machine::unpack(&archive, &format!("piuparts-{suite}"));
        // This happens before piuparts starts, which removes the packages that apt has at hand, and there is no
        // network.
        let apart = ["--mount", "--net"];
        let install = ["chroot", text(&root), "apt-get", "install", "--yes", "--no-install-recommends", alsa];
        run("unshare", &[&apart[..], &install].concat());
        let piuparts = ["piuparts", "--distribution", suite, "--keep-sources-list", "--no-eatmydata"];
        let of_ours = ["--existing-chroot", text(&root), text(&deb)];
        let (success, output) = machine::try_run("unshare", &[&apart[..], &piuparts, &of_ours].concat());
        machine::remove(&root);
        // piuparts prints each command that it runs.
        let found: Vec<&str> = output.lines().filter(|line| !line.contains(" DEBUG: ")).collect();
        assert!(success, "{suite}: {}", found.join("\n"));
        assert!(output.contains("PASS: Installation and purging test."), "{suite}: {}", found.join("\n"));
        println!("{suite}: piuparts passed");
    }
}

#[test]
#[ignore = "takes minutes, and root: scripts/test package"]
fn it_is_built_a_second_time_bit_for_bit() {
    package(native());
    println!("{}", run("scripts/package", &["--reproduce", native()]));
}

#[test]
#[ignore = "takes minutes, and root: scripts/test package"]
fn a_fresh_debian_12_is_on_the_air_with_one_command() {
    let archive = fresh_debian(
        "bookworm",
        native(),
        &["libasound2", "avahi-daemon", "avahi-utils", "libmp3lame0", "libopus0"],
    );
    let machine = on_the_air(&archive, native());
    wait_for("the name that Avahi gives it", || {
        machine
            .sh("systemctl status --no-pager wavecast")
            .contains(" or http://raspberrypi.local:4410/")
            .then_some(())
    });
    the_sandbox_holds(&machine);
    life_of_a_package(&machine, native());
}

#[test]
#[ignore = "takes minutes, and root: scripts/test package"]
fn a_fresh_debian_13_is_on_the_air_with_one_command() {
    let archive = fresh_debian(
        "trixie",
        native(),
        &["libasound2t64", "avahi-daemon", "avahi-utils", "libmp3lame0", "libopus0"],
    );
    let machine = on_the_air(&archive, native());
    the_sandbox_holds(&machine);
    life_of_a_package(&machine, native());
}

#[test]
#[ignore = "takes minutes, and root: scripts/test package"]
fn a_fresh_debian_12_on_arm64_installs_it_and_it_runs_there() {
    let _emulation = Emulation::of(FOREIGN);
    let archive = fresh_debian(
        "bookworm",
        FOREIGN,
        &["libasound2", "avahi-daemon", "avahi-utils", "libmp3lame0", "libopus0"],
    );
    let machine = Machine::boot(&archive, &plugin(FOREIGN));
    fs::copy(package(FOREIGN), machine.path("/root/wavecast.deb")).expect("a copy");
    let output = machine.sh("apt-get install --yes ~/wavecast.deb </dev/null");
    println!("{output}");
    // The service cannot serve here: emulated processes get no user namespace, because they have threads before their
    // first instruction, and not every socket option. scripts/device-test has a kernel of its own and shows the rest.
    assert!(output.contains("wavecast is installed, but it does not run:\n    "), "{output}");
    assert!(output.contains("\nMore:  journalctl -u wavecast -n 20\n"), "{output}");
    assert!(machine.sh("wavecast --version").starts_with(concat!("wavecast ", env!("CARGO_PKG_VERSION"))));
    assert!(machine.sh("wavecast check").contains("/etc/wavecast.toml is good."));
    machine.sh("printf 'secret\\n' | wavecast password --write anna");
    let owner = machine.sh("stat --format '%U:%G %a' /etc/wavecast.passwords");
    assert_eq!(owner.trim(), "root:wavecast 640");
    machine.sh("apt-get purge --yes --autoremove wavecast </dev/null");
    machine.sh("getent passwd wavecast");
    assert!(!machine.path("/etc/wavecast.passwords").exists());
    assert!(!machine.try_sh("systemctl cat wavecast").0, "systemd has forgotten it");
}

#[test]
#[ignore = "takes minutes, and root: scripts/test package"]
fn without_systemd_it_is_installed_and_removed_all_the_same() {
    let archive = fresh_debian(
        "trixie",
        native(),
        &["libasound2t64", "avahi-daemon", "avahi-utils", "libmp3lame0", "libopus0"],
    );
    let root = machine::unpack(&archive, "chroot");
    fs::copy(package(native()), root.join("wavecast.deb")).expect("a copy");
    let output = run(
        "unshare",
        &[
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-euc",
            "mount -t proc proc $0/proc; mount --rbind /dev $0/dev
             chroot $0 apt-get install --yes --no-install-recommends /wavecast.deb
             chroot $0 wavecast check
             chroot $0 apt-get purge --yes wavecast
             mv $0/usr/lib/systemd/systemd $0/systemd
             chroot $0 apt-get install --yes --no-install-recommends /wavecast.deb
             mv $0/systemd $0/usr/lib/systemd/systemd
             chroot $0 apt-get purge --yes wavecast",
            text(&root),
        ],
    );
    println!("{output}");
    let later = "wavecast is installed. systemd does not run now; it will start wavecast when it does.";
    assert!(output.contains(later), "{output}");
    assert!(
        output.contains("wavecast is installed. There is no systemd here that could start it"),
        "{output}"
    );
    assert!(output.contains("/etc/wavecast.toml is good."), "{output}");
    machine::remove(&root);
}

/// Returns a package that holds what matters of 0.1.0: its configuration files, as conffiles.
fn first_package(arch: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("first-{}", std::process::id()));
    let deb = folder.with_extension("deb");
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it is ours");
        fs::write(path, text).expect("it is ours");
    };
    write("etc/wavecast.toml", FIRST_CONFIGURATION);
    write("etc/avahi/services/wavecast.service", "<service-group></service-group>\n");
    write("DEBIAN/conffiles", "/etc/avahi/services/wavecast.service\n/etc/wavecast.toml\n");
    let control = "Package: wavecast\nVersion: 0.1.0~first\nMaintainer: Nobody <nobody@example.org>\n\
                   Description: the first package\n";
    write("DEBIAN/control", &format!("{control}Architecture: {arch}\n"));
    run("dpkg-deb", &["--root-owner-group", "--build", text(&folder), text(&deb)]);
    fs::remove_dir_all(&folder).expect("it is ours");
    deb
}

const FIRST_CONFIGURATION: &str = "# The configuration of 0.1.0.\n[input.live]\n# rate = 44100\n";

#[test]
#[ignore = "takes minutes, and root: scripts/test package"]
fn an_upgrade_from_the_first_package_asks_nothing_and_keeps_what_was_written() {
    let archive = fresh_debian(
        "bookworm",
        native(),
        &["libasound2", "avahi-daemon", "avahi-utils", "libmp3lame0", "libopus0"],
    );
    for edited in [true, false] {
        let root = machine::unpack(&archive, "upgrade");
        let inside = |command: &str| {
            let script = "mount -t proc proc $0/proc; mount --rbind /dev $0/dev; exec chroot $0 env -i LC_ALL=C \
                          DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -euc \"$1\"";
            let apart = ["--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", script];
            run("unshare", &[&apart[..], &[text(&root), command]].concat())
        };
        let repository = root.join("repository");
        fs::create_dir(&repository).expect("a folder");
        fs::copy(newer_package(native()), repository.join("newer.deb")).expect("a copy");
        let index = "cd \"$0\" && dpkg-scanpackages . >Packages 2>/dev/null";
        run("sh", &["-c", index, text(&repository)]);
        fs::write(root.join("etc/apt/sources.list.d/ours.list"), "deb [trusted=yes] file:/repository ./\n")
            .expect("it is ours");
        fs::copy(first_package(native()), root.join("first.deb")).expect("a copy");
        // `apt-get upgrade` installs no new packages, as `apt upgrade` does: the recommendations that 0.1.0 did not have would
        // keep the package back.
        inside(
            "apt-get -y --no-install-recommends install /first.deb libasound2 avahi-daemon libmp3lame0 libopus0",
        );
        let conf = root.join("etc/wavecast.toml");
        if edited {
            fs::write(&conf, "[input.live]\nrate = 48000\n").expect("it is ours");
            fs::write(root.join("etc/avahi/services/wavecast.service"), "<!-- mine -->\n")
                .expect("it is ours");
        }
        let before = fs::read_to_string(&conf).expect("it is there");
        let only_ours = "-o Dir::Etc::sourcelist=/etc/apt/sources.list.d/ours.list -o Dir::Etc::sourceparts=- \
                         -o APT::Get::List-Cleanup=0";
        let output = inside(&format!("apt-get {only_ours} update; apt-get -y upgrade </dev/null"));
        println!("{output}");
        assert!(!output.contains("onfiguration file '"), "{output}");
        assert_eq!(fs::read_to_string(&conf).expect("it is there"), before);
        let services: Vec<_> =
            fs::read_dir(root.join("etc/avahi/services")).expect("a folder").flatten().collect();
        assert!(services.iter().all(|file| !file.path().ends_with("wavecast.service")), "{services:?}");
        assert!(inside("wavecast check").contains("/etc/wavecast.toml is good."));
        assert!(inside("dpkg-query --show wavecast").contains("+newer"));
        // The file that its owner deletes stays deleted.
        fs::remove_file(&conf).expect("it is there");
        inside("apt-get -y --reinstall install wavecast");
        assert!(!conf.exists());
        fs::write(&conf, &before).expect("it is ours");
        inside("apt-get -y purge wavecast");
        let etc = fs::read_dir(root.join("etc")).expect("a folder").flatten();
        let left: Vec<_> =
            etc.filter(|file| file.file_name().to_string_lossy().contains("wavecast")).collect();
        assert!(left.is_empty(), "{left:?}");
        machine::remove(&root);
    }
}

/// Boots a fresh machine, installs the package on it with apt and nothing else, and checks the stream.
fn on_the_air(archive: &std::path::Path, arch: &str) -> Machine {
    let deb = package(arch);
    let machine = Machine::boot(archive, &plugin(arch));
    fs::write(machine.path("/root/files-before"), files(&machine)).expect("a file");
    fs::copy(deb, machine.path("/root/wavecast.deb")).expect("a copy");

    let output = machine.sh("apt-get install --yes ~/wavecast.deb </dev/null");
    println!("{output}");
    let audience = "\nEverybody on the local network can now hear this microphone, without a password.\n\
                    To change that, edit /etc/wavecast.toml, then  sudo systemctl reload wavecast\n";
    assert!(output.contains(audience), "{output}");
    let here = format!(
        "wavecast is on the air: open  http://{}/ or http://raspberrypi.local:{PORT}/\n    live: fake: 44100 Hz, ",
        machine.at(PORT)
    );
    assert!(output.contains(&here), "{output}\n{}", machine.journal());
    machine.sh("systemctl is-active wavecast");
    machine.sh("systemctl is-enabled wavecast");
    assert!(!machine.try_sh("systemctl is-active wavecast.socket").0, "it is an offer");
    println!("{}", machine.sh("systemctl status --no-pager wavecast"));
    hear(&machine, 44_100);
    hear_compressed(&machine);
    machine
}

/// Checks that each compressed stream plays: apt has installed the libraries beside the package, and the sandbox lets the
/// service open them.
fn hear_compressed(machine: &Machine) {
    let status: Value =
        serde_json::from_str(&get(machine, "/status.json").text()).expect("the status is JSON");
    assert_eq!(status["inputs"][0]["codecs"], serde_json::json!(["flac", "mp3", "opus"]), "{status:#}");
    let stream = |codec: &str, bytes| {
        let mut response = get(machine, &format!("/live.{codec}"));
        assert_eq!(response.status, 200, "{codec}");
        response.bytes(bytes)
    };
    let mut ramp = RampReader::new(CardFormat::S16, 2);
    ramp.feed(&FlacReader::default().feed(&stream("flac", 100_000)));
    assert!(ramp.is_whole() && ramp.frames() > 10_000, "{}", ramp.shown());
    assert!(mp3::frames(&stream("mp3", 10_000)).0.len() > 10);
    assert!(ogg::pages(&stream("opus", 10_000)).0.len() > 10);
    println!("{}", get(machine, "/status.json").text());
}

/// Checks two seconds of the stream: the card's ramp at this rate, without a hole.
fn hear(machine: &Machine, rate: u32) {
    // A service that has just been started is opening its card.
    let mut response = wait_for("a stream", || {
        let response = get(machine, "/live.wav");
        (response.status == 200).then_some(response)
    });
    let header = response.bytes(44);
    assert_eq!(u32::from_le_bytes(header[24..28].try_into().expect("four bytes")), rate);
    let mut ramp = RampReader::new(CardFormat::S16, 2);
    ramp.feed(&response.bytes(4 * rate as usize * 2));
    assert!(ramp.is_whole(), "{}", ramp.shown());
}

fn get(machine: &Machine, target: &str) -> Response {
    http::request(machine.at(PORT), "GET", target, "1.1", &[])
}

fn rate(machine: &Machine) -> Option<u64> {
    let status: Value =
        serde_json::from_str(&get(machine, "/status.json").text()).expect("the status is JSON");
    status["inputs"][0]["format"]["rate"].as_u64()
}

fn main_pid(machine: &Machine) -> String {
    machine.sh("systemctl show --property MainPID --value wavecast").trim().to_owned()
}

/// Returns the list of all files on the machine, but for those that change by themselves.
fn files(machine: &Machine) -> String {
    machine.sh(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp \
         -o -path /var/log -o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /root -o -path /opt \\) -prune \
         -o -printf '%p %y %m %u %g %l\\n' | sort",
    )
}

/// Reloads, restarts, upgrades, removes and purges the package. Clients that connect meanwhile are served.
fn life_of_a_package(machine: &Machine, arch: &str) {
    // The owner edits the configuration and reloads it.
    let pid = main_pid(machine);
    let conf = machine.path("/etc/wavecast.toml");
    let edited = fs::read_to_string(&conf).expect("it is there").replace("# rate = 44100", "rate = 48000");
    assert!(edited.contains("\nrate = 48000\n"), "the file documents it");
    fs::write(&conf, &edited).expect("root writes it");
    machine.sh("systemctl reload wavecast");
    wait_for("the new rate", || (rate(machine) == Some(48_000)).then_some(()));
    assert_eq!(main_pid(machine), pid, "a reload is no restart");
    // A reload of a mistake fails, says why and changes nothing.
    let drop_in = machine.path("/etc/wavecast.d/10-mistake.toml");
    fs::write(&drop_in, "[input.live]\nrate = 9\n").expect("root writes it");
    let (success, output) = machine.try_sh("systemctl reload wavecast");
    assert!(!success, "{output}");
    let journal = machine.journal();
    assert!(
        journal.contains("/etc/wavecast.d/10-mistake.toml:2: input.live.rate: 9 is outside"),
        "{journal}"
    );
    assert_eq!((rate(machine), main_pid(machine)), (Some(48_000), pid.clone()));
    fs::remove_file(&drop_in).expect("it is there");
    it_is_announced_while_it_runs(machine);

    // The package is upgraded and the service restarted while clients connect.
    fs::copy(newer_package(arch), machine.path("/root/newer.deb")).expect("a copy");
    let connecting = Connecting::to(machine.at(PORT));
    let output = machine.sh("apt-get install --yes ~/newer.deb </dev/null");
    println!("{output}");
    assert!(output.contains("wavecast is on the air: open  http://"), "{output}");
    assert_ne!(main_pid(machine), pid, "it was restarted");
    assert!(machine.sh("dpkg-query --show wavecast").contains("+newer"));
    assert_eq!(fs::read_to_string(&conf).expect("it is there"), edited);
    machine.sh("systemctl restart wavecast");
    let served = connecting.end();
    println!("{served} connections while it was upgraded and restarted, none refused");
    assert!(served >= 10);
    hear(machine, 48_000);

    // Without a card the epilogue of apt says so.
    fs::remove_file(machine.path("/etc/systemd/system/wavecast.service.d/card.conf")).expect("it is there");
    machine.sh("systemctl daemon-reload");
    let output = machine.sh("apt-get install --yes --reinstall ~/newer.deb </dev/null");
    println!("{output}");
    assert!(output.contains("\nwavecast runs, but hears nothing yet. Open  http://"), "{output}");
    assert!(output.contains("\n    live: no sound: device = \"auto\" waits for a card"), "{output}");

    // With a mistake in the configuration it does not run, and the epilogue has the mistake.
    let drop_in = machine.path("/etc/wavecast.d/10-mistake.toml");
    fs::write(&drop_in, "[input.live]\nrate = 9\n").expect("root writes it");
    let output = machine.sh("apt-get install --yes --reinstall ~/newer.deb </dev/null");
    println!("{output}");
    let says = "wavecast is installed, but it does not run:\n    /etc/wavecast.d/10-mistake.toml:2: input.live.rate: 9 is \
                outside 4000 to 384000\n";
    assert!(output.contains(says), "{output}");
    assert!(output.contains("\nMore:  journalctl -u wavecast -n 20\n"), "{output}");
    fs::remove_file(drop_in).expect("it is there");
    machine.sh("systemctl restart wavecast");
    fs::write(machine.path("/etc/wavecast.passwords"), "anna:x\n").expect("root writes it");

    // The package is removed and purged.
    machine.sh("apt-get remove --yes wavecast </dev/null");
    wait_for("the end of the announcement", || announced(machine)?.is_empty().then_some(()));
    assert!(!machine.sh("ls /etc/avahi/services").contains("wavecast"));
    assert!(TcpStream::connect_timeout(&machine.at(PORT), Duration::from_secs(5)).is_err(), "it was stopped");
    assert_eq!(fs::read_to_string(&conf).expect("only purge takes it"), edited);
    let output = machine.sh("apt-get purge --yes --autoremove wavecast </dev/null");
    assert!(!output.to_lowercase().contains("warning"), "{output}");
    let before = fs::read_to_string(machine.path("/root/files-before")).expect("it was written");
    let before: BTreeSet<&str> = before.lines().collect();
    let after = files(machine);
    let more: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
    println!("new after a purge: {more:#?}");
    assert!(!more.iter().any(|line| line.contains("wavecast")), "{more:#?}");
    machine.sh("getent passwd wavecast");
    assert!(!machine.try_sh("systemctl cat wavecast").0, "systemd has forgotten it");
}

/// Returns the lines of avahi-browse about wavecast: "=;interface;protocol;name;type;domain;host;address;port;txt".
/// `None` if it did not end: it waits for the address of a service that has gone meanwhile.
fn announced(machine: &Machine) -> Option<Vec<String>> {
    let output = machine.sh(
        "timeout 5 avahi-browse --parsable --resolve --terminate --all --no-db-lookup || { [ $? = 124 ] && echo late; }",
    );
    let mut lines: Vec<_> = output.lines().map(str::to_owned).collect();
    let complete = lines.last().is_none_or(|line| line != "late");
    lines.retain(|line| line.starts_with('=') && line.contains("wavecast"));
    complete.then_some(lines)
}

/// Checks the announcement on the local network, its port after a change, and that there is none where only the machine
/// itself can listen.
fn it_is_announced_while_it_runs(machine: &Machine) {
    let drop_in = machine.path("/etc/wavecast.d/50-listen.toml");
    let listen = |address: &str| {
        fs::write(&drop_in, format!("[http]\nlisten = \"{address}\"\n")).expect("root writes it");
        machine.sh("systemctl reload wavecast");
    };
    let wait_for_port = |port: &str| {
        wait_for(&format!("the announcement of port {port}"), || {
            let lines = announced(machine)?;
            let has = |kind: &str, path: &str| {
                let end = format!(";{port};\"path={path}\"");
                lines.iter().any(|line| line.contains(kind) && line.ends_with(&end))
            };
            let all = has(";_http._tcp;", "/") && has(";_vlc-http._tcp;", "/live.wav");
            (all && lines.iter().all(|line| line.contains(&format!(";{port};")))).then_some(())
        });
    };
    machine.sh("apt-get install --yes --no-install-recommends avahi-utils </dev/null");
    wait_for_port("4410");
    listen("[::]:4411");
    wait_for_port("4411");
    listen("127.0.0.1:4410");
    wait_for("the end of the announcement", || announced(machine)?.is_empty().then_some(()));
    fs::remove_file(&drop_in).expect("it is there");
    machine.sh("systemctl reload wavecast");
    wait_for_port("4410");
}

/// A thread that opens one connection after the other, each with a request that must be answered.
struct Connecting {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<usize>,
}

impl Connecting {
    fn to(address: SocketAddr) -> Connecting {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut served = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut stream = TcpStream::connect_timeout(&address, support::PATIENCE)
                    .unwrap_or_else(|error| panic!("connection {served} was refused: {error}"));
                stream.set_read_timeout(Some(support::PATIENCE)).expect("a timeout");
                stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("the question is sent");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("an answer");
                assert!(answer.starts_with("HTTP/1."), "{answer}");
                served += 1;
                // Below the limit of requests per second, beyond which new connections are reset.
                support::let_pass(Duration::from_millis(60));
            }
            served
        });
        Connecting { stop, thread }
    }

    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("everybody was served")
    }
}

/// Checks from within the sandbox which actions the service may do and which it may not.
fn the_sandbox_holds(machine: &Machine) {
    println!(
        "{}",
        machine.sh("systemd-analyze security --no-pager --threshold=16 wavecast.service | tail -n 1")
    );
    a_shared_card_is_shared_with_other_users(machine);

    let pid = main_pid(machine);
    let status = machine.sh(&format!("cat /proc/{pid}/status"));
    for expected in
        ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"]
    {
        assert!(status.contains(expected), "{expected}: {status}");
    }
    real_time(machine, &pid);

    // Every user may open the first device, but no service may. Every service may open the second one.
    machine.sh("mknod -m 666 /dev/probe-tun c 10 200; mknod -m 666 /dev/probe-zero c 1 5");
    machine.sh("setpriv --reuid nobody --clear-groups head -c 0 /dev/probe-tun");
    let kernel_can = !machine
        .try_sh("systemd-run --quiet --wait --property DevicePolicy=closed head -c 0 /dev/probe-tun")
        .0;
    if !kernel_can {
        println!(
            "devices are not kept from services here, from none of them: this kernel or container cannot"
        );
    }
    fs::write(machine.path("/opt/probe"), PROBE).expect("a file");
    machine.sh("install -m 640 -g wavecast /etc/hostname /etc/probe-passwords");
    fs::write(
        machine.path("/etc/systemd/system/wavecast.service.d/probe.conf"),
        "[Service]\nExecStartPre=/bin/sh /opt/probe\n",
    )
    .expect("a file");
    machine.sh("systemctl daemon-reload; systemctl restart wavecast");
    let journal = machine.journal();
    let probes: Vec<&str> = journal.lines().filter(|line| line.starts_with("probe: ")).collect();
    println!("{probes:#?}");
    assert_eq!(probes.len(), PROBE.lines().filter(|line| line.starts_with("may ")).count());
    for probe in probes {
        let device = probe.contains("open another device");
        assert!(probe.ends_with("as it should be") || device && !kernel_can, "{probe}");
    }
    // The service has a /tmp of its own.
    assert!(!machine.path("/tmp/probe").exists());
    fs::remove_file(machine.path("/etc/systemd/system/wavecast.service.d/probe.conf")).expect("it is there");
    fs::remove_file(machine.path("/etc/probe-passwords")).expect("it is there");
    machine.sh("systemctl daemon-reload; systemctl restart wavecast");
    hear(machine, 44_100);
}

/// Does in the sandbox with System V objects what ALSA's dsnoop does, and lets another user of the group audio attach. dsnoop
/// itself needs a card of the kernel; tests/device has one.
fn a_shared_card_is_shared_with_other_users(machine: &Machine) {
    // IPC_CREAT is 01000, IPC_STAT is 2, IPC_SET is 1; the group is the third word of struct ipc64_perm.
    let create = "my $id = semget(0x56a4d5, 2, 01000 | 0660) // die \"semget: $!\";";
    let script = format!(
        "{create} semctl($id, 0, 2, my $buf) // die \"stat: $!\";
         substr($buf, 8, 4) = pack('I', scalar getgrnam('audio'));
         semctl($id, 0, 1, $buf) // die \"set: $!\"; print \"probe-ipc: good\\n\";"
    );
    fs::write(machine.path("/opt/ipc.pl"), script).expect("a file");
    let drop_in = machine.path("/etc/systemd/system/wavecast.service.d/ipc.conf");
    fs::write(&drop_in, "[Service]\nExecStartPre=/usr/bin/perl /opt/ipc.pl\n").expect("a file");
    machine.sh("systemctl daemon-reload; systemctl restart wavecast");
    assert!(machine.journal().contains("probe-ipc: good"), "{}", machine.journal());
    fs::write(machine.path("/opt/attach.pl"), create).expect("a file");
    machine.sh("setpriv --reuid nobody --regid nogroup --groups audio perl /opt/attach.pl");
    assert!(!machine.try_sh("setpriv --reuid nobody --regid nogroup --clear-groups perl /opt/attach.pl").0);
    // The announcement outlives a restart of the service.
    fs::remove_file(drop_in).expect("it is there");
    machine.sh("systemctl daemon-reload; systemctl stop wavecast");
    machine.sh("grep -w 5678293 /proc/sysvipc/sem");
    machine.sh("systemctl start wavecast");
}

/// `may NOT|ALSO action command…`
const PROBE: &str = r#"
may() {
    wanted=$1 action=$2
    shift 2
    if "$@" >/dev/null 2>&1; then got=ALSO; else got=NOT; fi
    if [ $got = $wanted ]; then judged="as it should be"; else judged=WRONG; fi
    echo "probe: may $got $action: $judged"
}
may NOT "write to /etc" sh -c ': >/etc/probe'
may NOT "write its configuration" sh -c ': >>/etc/wavecast.toml'
may NOT "write to /usr" sh -c ': >/usr/bin/probe'
may NOT "write to /var" sh -c ': >/var/lib/probe'
may NOT "look into homes" ls /root
may ALSO "write to a /tmp of its own" sh -c ': >/tmp/probe'
may ALSO "read a device that every service may" head -c 1 /dev/probe-zero
may NOT "open another device" head -c 0 /dev/probe-tun
may NOT "make a device" mknod /tmp/null c 1 3
may NOT "make a program that runs as its owner" sh -c ': >/tmp/suid; chmod u+s /tmp/suid'
may NOT "mount" mount -t tmpfs none /tmp
may NOT "have a user namespace" unshare --user true
may NOT "have a raw socket" perl -e 'socket(my $s, 2, 3, 1) or exit 1'
may NOT "have a packet socket" perl -e 'socket(my $s, 17, 3, 0) or exit 1'
may NOT "change the clock" date -s @0
may NOT "set the host's name" hostname probe
may NOT "see others' processes" sh -c 'ls -d /proc/1'
may NOT "change the kernel's settings" sh -c 'echo 1 >/proc/sys/kernel/printk'
may ALSO "read its password file" head -c 1 /etc/probe-passwords
may ALSO "see the network's settings" cat /proc/self/net/route
"#;

/// Checks the capture thread's real-time priority, where the machine allows a service to have one.
fn real_time(machine: &Machine, pid: &str) {
    let limits = machine.sh(&format!("cat /proc/{pid}/limits"));
    let limit = limits.lines().find(|line| line.starts_with("Max realtime priority")).expect("a limit");
    // Field 41 of proc_pid_stat(5) is the policy. A thread's name may contain spaces, and ends with a parenthesis.
    let policies =
        machine.sh(&format!("sed 's/.*) //' /proc/{pid}/task/*/stat | cut -d ' ' -f 39 | sort | uniq -c"));
    if limit.split_whitespace().nth(3) == Some("49") {
        let fifo: Vec<&str> = policies.lines().filter(|line| line.trim().ends_with(" 1")).collect();
        assert_eq!(fifo.len(), 1, "one thread of SCHED_FIFO, the capture thread: {policies}");
        assert!(fifo[0].trim().starts_with("1 "), "{policies}");
    } else {
        println!("real-time priority is not seen here: this machine's own limit is lower: {limit}");
    }
}
