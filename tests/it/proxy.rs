//! The example configurations of reverse proxies in `config/proxy`, with the real proxies. Sound comes through at
//! once and whole, and the proxy names the client.
//!
//! A test whose proxy is missing says so and passes, unless `WAVECAST_ALL_PLAYERS=1`. `players.packages` lists the
//! packages.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use crate::support::daemon::Daemon;
use crate::support::programs::free_ports;
use crate::support::stopwatch::{Stopwatch, assert_span_within};
use crate::support::synth::SynthRamp;
use crate::support::wait_for;

const NAME: &str = "birdbox.example.org";

/// A proxy in front of a daemon. Both end on drop.
struct Proxied {
    daemon: Daemon,
    proxy: Child,
    port: u16,
    folder: PathBuf,
}

impl Proxied {
    /// Starts the proxy with an example, which `adapt` fits to this test, and the daemon behind it.
    fn start(
        example: &str,
        adapt: impl Fn(String, &Path, u16) -> String,
        command: impl Fn(&Path) -> Command,
    ) -> Option<Proxied> {
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{example}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let port = free_ports();
        // The example itself has the tables for the daemon. Port and password are replaced.
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/proxy").join(example));
        let text = text.expect("the example");
        let advice: String = text
            .lines()
            .filter_map(|line| line.strip_prefix("#     "))
            .map(|line| line.split("   ").next().unwrap_or_default())
            .filter(|line| !line.starts_with("passwords"))
            .map(|line| format!("{line}\n"))
            .collect();
        let config =
            advice.replace(":4410", ":0") + "[input.live]\ndevice = \"synth:ramp\"\nbuffer_ms = 10000\n";
        let daemon = Daemon::start(None, &config);
        daemon.wait_for_log("capturing from");
        let text = text.replace("127.0.0.1:4410", &daemon.address().to_string());
        fs::write(folder.join("config"), adapt(text, &folder, port)).expect("written");
        let log = fs::File::create(folder.join("log")).expect("a log");
        let mut command = command(&folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let proxy = match command.spawn() {
            Ok(proxy) => proxy,
            Err(error) => {
                assert!(env::var_os("WAVECAST_ALL_PLAYERS").is_none(), "{example}: {error}");
                eprintln!("skipped: {example}: {error}");
                return None;
            }
        };
        let proxied = Proxied { daemon, proxy, port, folder };
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        wait_for("the proxy to listen", || TcpStream::connect(address).ok());
        Some(proxied)
    }

    fn curl(&self, target: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--insecure", "--no-buffer"]);
        command.arg("--resolve").arg(format!("{NAME}:{}:127.0.0.1", self.port));
        command.args(arguments).arg(format!("https://{NAME}:{}{target}", self.port));
        command
    }

    fn status_of(&self, arguments: &[&str]) -> String {
        let all = [&["--output", "/dev/null", "--write-out", "%{http_code}"], arguments].concat();
        let output = self.curl("/status.json", &all).output().expect("curl runs");
        String::from_utf8(output.stdout).expect("text")
    }

    fn passes_sound_on_at_once_and_whole(&self) {
        let mut curl = self.curl("/live.wav", &[]).stdout(Stdio::piped()).spawn().expect("curl runs");
        let mut sound = curl.stdout.take().expect("piped");
        let began = Stopwatch::start();
        let mut header = [0; 44];
        sound.read_exact(&mut header).expect("a header");
        let first = began.span();
        let mut ramp = SynthRamp::new(2, 2);
        let (mut block, mut pauses, mut got) = ([0; 4096], Vec::new(), 0);
        while got < 3 * 176_400 {
            let waited = Stopwatch::start();
            let bytes = sound.read(&mut block).expect("it goes on");
            assert_ne!(bytes, 0, "it ended");
            // The rest of a block that has come waits for nothing.
            pauses.extend(Some(waited.span()).filter(|pause| pause.clock > Duration::from_millis(2)));
            ramp.feed(&block[..bytes]);
            got += bytes;
        }
        let _ = curl.kill();
        let _ = curl.wait();
        assert!(ramp.is_whole(), "{} are missing", ramp.missing());
        assert_span_within(first, Duration::from_secs(5), "the first byte through the proxy");
        // A proxy that gathers sound sends nothing until its buffer is full. A machine that stalls makes single pauses.
        pauses.sort_unstable();
        let median = pauses.get(pauses.len() / 2).copied().unwrap_or_default();
        assert_span_within(median, Duration::from_millis(200), "half of the pauses between two bytes");
    }

    /// Checks the address in the status of a client that claims to be `198.51.100.7`.
    fn names_the_client(&self, expected: &str) {
        assert_eq!(self.status_of(&[]), "200");
        let listeners = || {
            let output = self.curl("/status.json", &[]).output().expect("curl runs");
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            status["listeners"].as_array().cloned()
        };
        // The daemon may not have noticed yet that the listener before has left.
        wait_for("nobody to listen", || listeners()?.is_empty().then_some(()));
        // The status has the address that the proxy names.
        let mut curl = self.curl("/live.wav", &["--header", "X-Forwarded-For: 198.51.100.7"]);
        let mut curl = curl.stdout(Stdio::null()).spawn().expect("curl runs");
        wait_for("the listener", || {
            let address = listeners()?.first()?["address"].as_str()?.to_owned();
            assert!(address.starts_with(expected), "{address}");
            Some(())
        });
        let _ = curl.kill();
        let _ = curl.wait();
    }
}

impl Drop for Proxied {
    fn drop(&mut self) {
        // SIGTERM ends nginx and its children. SIGKILL would leave the children.
        let _ = Command::new("kill").arg(self.proxy.id().to_string()).status();
        let _ = self.proxy.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- the proxy's log:\n{}",
                fs::read_to_string(self.folder.join("log")).unwrap_or_default()
            );
            eprintln!("--- the daemon's log:\n{}", self.daemon.log().join("\n"));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn nginx() -> Option<Proxied> {
    Proxied::start(
        "nginx.conf",
        |text, folder, port| {
            let folder = folder.display();
            let made = Command::new("openssl")
                .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"])
                .args([
                    "-keyout",
                    &format!("{folder}/privkey.pem"),
                    "-out",
                    &format!("{folder}/fullchain.pem"),
                ])
                .stderr(Stdio::null())
                .status();
            assert!(made.is_ok_and(|made| made.success()), "openssl makes a certificate");
            let text = text
                .replace("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl"))
                .replace("    listen [::]:443 ssl;\n", "")
                .replace(&format!("/etc/letsencrypt/live/{NAME}"), &folder.to_string());
            format!(
                "daemon off; pid {folder}/pid; events {{}}\nhttp {{ access_log off; \
                 client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; \
                 uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n{text}\n}}"
            )
        },
        |folder| {
            let mut command = Command::new("/usr/sbin/nginx");
            command.arg("-e").arg("stderr").arg("-c").arg(folder.join("config"));
            command
        },
    )
}

fn caddy() -> Option<Proxied> {
    Proxied::start(
        "Caddyfile",
        |text, _, port| {
            // Caddy makes its own certificate, because no authority vouches for this name.
            let text =
                text.replace(&format!("{NAME} {{"), &format!("https://{NAME}:{port} {{\n\ttls internal"));
            format!("{{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}}\n{text}")
        },
        |folder| {
            let mut command = Command::new("caddy");
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(folder.join("config"));
            command.env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder).env("HOME", folder);
            command
        },
    )
}

#[test]
fn nginx_passes_sound_on_at_once_and_whole() {
    if let Some(proxied) = nginx() {
        proxied.passes_sound_on_at_once_and_whole();
        // nginx passes the claim on and appends the client's address. Addresses before a trusted one are believed.
        proxied.names_the_client("198.51.100.7");
    }
}

#[test]
fn caddy_passes_sound_on_at_once_and_whole() {
    if let Some(proxied) = caddy() {
        proxied.passes_sound_on_at_once_and_whole();
        // Caddy does not pass on claims of clients.
        proxied.names_the_client("127.0.0.1");
    }
}
