//! The README, followed command by command by somebody who has nothing else: on a fresh Debian 13, at a terminal, as a
//! user whose sudo asks for a password, from `apt install` to a stream with a password, a picked channel and an upgrade.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::support::http::{self, Response};
use super::support::machine::{Machine, fresh_debian};
use super::support::wait_for;
use super::{PORT, native, newer_package, package, plugin};

const README: &str = include_str!("../../README.md");
/// The password of the user `pi`, for sudo.
const OWN: &str = "own secret";
/// The password of the listener `anna`.
const ANNA: &str = "correct horse";
/// `anna` and her password, as a player sends them.
const CREDENTIALS: &str = "Basic YW5uYTpjb3JyZWN0IGhvcnNl";

#[test]
#[ignore = "takes minutes, and root: scripts/test package"]
fn the_readme_alone_leads_to_a_password_a_picked_channel_and_an_upgrade() {
    let libraries =
        ["libasound2t64", "avahi-daemon", "avahi-utils", "libmp3lame0", "libopus0", "passwd", "sudo", "nano"];
    let archive = fresh_debian("trixie", native(), &libraries);
    let pi = Newcomer::on(Machine::boot(&archive, &plugin(native())));

    let here = format!("http://{}/", pi.machine.at(PORT));
    fs::copy(package(native()), pi.machine.path(&format!("/home/pi/{}", deb()))).expect("a copy");
    let output = pi.types(&readme("sudo apt install ./wavecast_0.1.0_arm64.deb").replace("arm64", native()));
    assert!(output.contains(&format!("wavecast is on the air: open  {here}")), "{output}");
    assert!(output.contains("To change that, edit /etc/wavecast.toml"), "{output}");
    assert_eq!(pi.channels(None), Ok(2));

    // A password.
    let output = pi.types(readme("sudo wavecast password anna"));
    assert!(output.contains("The user anna was added to /etc/wavecast.passwords."), "{output}");
    assert!(!output.contains(ANNA) && !output.contains(OWN), "{output}");
    let line = readme("passwords = \"/etc/wavecast.passwords\"");
    pi.edits(readme("# passwords = \"\""), line);
    pi.types(readme("sudo wavecast check && sudo systemctl reload wavecast"));
    wait_for("the password to be asked for", || (pi.channels(None) == Err(401)).then_some(()));
    assert_eq!(pi.channels(Some(CREDENTIALS)), Ok(2));

    // A channel.
    pi.edits("[input.live]", &format!("[input.live]\\n{}", readme("pick = \"left\"")));
    pi.types(readme("sudo wavecast check && sudo systemctl reload wavecast"));
    wait_for("the picked channel", || (pi.channels(Some(CREDENTIALS)) == Ok(1)).then_some(()));

    let status = pi.types("systemctl status --no-pager wavecast");
    assert!(status.contains("stereo, S16_LE, channel 1 of the card"), "{status}");

    // A newer version.
    readme("`sudo apt install ./` and the new package. The configuration stays.");
    fs::copy(newer_package(native()), pi.machine.path("/home/pi/newer.deb")).expect("a copy");
    let output = pi.types("sudo apt install ./newer.deb");
    assert!(output.contains("wavecast is on the air"), "{output}");
    assert!(!output.contains("onfiguration file '"), "{output}");
    assert!(pi.machine.sh("dpkg-query --show wavecast").contains("+newer"));
    assert_eq!(pi.channels(None), Err(401));
    assert_eq!(pi.channels(Some(CREDENTIALS)), Ok(1));

    // The end.
    pi.types(readme("sudo apt purge wavecast"));
    for file in ["/etc/wavecast.toml", "/etc/wavecast.d", "/etc/wavecast.passwords"] {
        readme(file);
        assert!(!pi.machine.path(file).exists(), "{file}");
    }
}

/// Returns a text of the README.
///
/// # Panics
///
/// If the README does not have it.
fn readme(words: &'static str) -> &'static str {
    // Lines are wrapped.
    let unwrapped = README.replace('\n', " ");
    assert!(unwrapped.contains(words), "the README does not say: {words}");
    words
}

fn deb() -> String {
    format!("wavecast_{}_{}.deb", env!("CARGO_PKG_VERSION"), native())
}

/// The user `pi` of a machine, who may use sudo and is asked for a password.
struct Newcomer {
    machine: Machine,
}

impl Newcomer {
    fn on(machine: Machine) -> Newcomer {
        machine.sh("apt-get install --yes passwd sudo nano </dev/null");
        machine.sh("useradd --create-home --shell /bin/bash --groups sudo pi");
        machine.sh(&format!("echo pi:{OWN} | chpasswd"));
        Newcomer { machine }
    }

    /// Types a command at a terminal, in the home folder, and the answers to what is asked. Returns all that is shown.
    ///
    /// # Panics
    ///
    /// If the command fails.
    fn types(&self, command: &str) -> String {
        let mut child = self
            .machine
            .command("pi", &["script", "-qec", &format!("cd ~ && {command}"), "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nsenter runs");
        let (mut keys, mut screen) =
            (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (mut shown, mut byte, mut answered) = (Vec::new(), [0], 0);
        while screen.read(&mut byte).is_ok_and(|count| count == 1) {
            shown.push(byte[0]);
            let asked = |prompt: &str| shown[answered..].ends_with(prompt.as_bytes());
            let (answer, is_secret) = if asked("[sudo] password for pi: ") {
                (OWN, true)
            } else if asked("Password for anna: ") || asked("Repeat password: ") {
                (ANNA, true)
            } else if asked("[Y/n] ") {
                ("y", false)
            } else {
                continue;
            };
            answered = shown.len();
            if is_secret {
                // A prompt is printed before the echo is turned off.
                wait_for("the end of the echo", || self.has_no_echo().then_some(()));
            }
            keys.write_all(format!("{answer}\n").as_bytes()).expect("the terminal reads");
        }
        drop(keys);
        let shown = String::from_utf8_lossy(&shown).replace("\r\n", "\n");
        println!("$ {command}\n{shown}");
        assert!(child.wait().expect("it ends").success(), "{command}:\n{shown}");
        shown
    }

    /// Returns `true` if no terminal of the machine shows what is typed.
    fn has_no_echo(&self) -> bool {
        let all = self.machine.try_sh("for tty in /dev/pts/[0-9]*; do stty --all --file $tty; done").1;
        let terminals = all.matches("speed ").count();
        terminals > 0 && all.matches(" -echo ").count() == terminals
    }

    /// Replaces a line of the configuration, as with an editor.
    fn edits(&self, line: &str, by: &str) {
        let editor = self.machine.path("/home/pi/editor");
        fs::write(
            &editor,
            format!("#!/bin/sh\nexec sed -i 's|^{}$|{by}|' \"$1\"\n", line.replace('[', "\\[")),
        )
        .expect("root writes it");
        fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let before = self.machine.sh("cat /etc/wavecast.toml");
        self.types(&format!("EDITOR=/home/pi/editor {}", readme("sudoedit /etc/wavecast.toml")));
        assert_ne!(self.machine.sh("cat /etc/wavecast.toml"), before, "the line is there");
    }

    /// Returns the number of channels of the stream, or the status of the answer where there is none.
    fn channels(&self, credentials: Option<&str>) -> Result<u16, u16> {
        let fields: Vec<_> = credentials.iter().map(|credentials| ("Authorization", *credentials)).collect();
        let mut response: Response = wait_for("an answer", || {
            let response = http::request(self.machine.at(PORT), "GET", "/live.wav", "1.1", &fields);
            // 503 while the card is opened.
            (response.status != 503).then_some(response)
        });
        match response.status {
            200 => Ok(u16::from_le_bytes(response.bytes(44)[22..24].try_into().expect("two bytes"))),
            status => Err(status),
        }
    }
}
