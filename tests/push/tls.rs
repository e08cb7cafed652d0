//! Pushes over TLS to a real Icecast: a certificate of an authority, a self-signed one, and those that are not trusted.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::servers::{Extra, Icecast, fake, folder, installed};
use crate::support::daemon::Daemon;
use crate::support::wait_for;
use crate::{find_push, push, wait_for_push};

const TONE: &str = "[input.live]\ndevice = \"synth:tone\"\nrate = 48000\nbuffer_ms = 10000\n";

fn openssl(arguments: &[&str], folder: &Path) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Certificates of a folder: `ca.pem` is an authority, `server.pem` has key and certificate of 127.0.0.1 by it, `self.pem` has
/// those of a self-signed one for another name.
fn certificates() -> PathBuf {
    let folder = folder("tls");
    let run = |words: &str| openssl(&words.split(' ').collect::<Vec<_>>(), &folder);
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    run(&format!("{new} -keyout ca.key -out ca.pem -subj /CN=authority"));
    let name =
        "-subj /CN=server -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
    run(&format!("{new} -keyout server.key -out server.crt {name} -CA ca.pem -CAkey ca.key"));
    run(&format!("{new} -keyout self.key -out self.crt -subj /CN=radio.example.org"));
    for name in ["server", "self"] {
        let read =
            |ending: &str| std::fs::read(folder.join(format!("{name}.{ending}"))).expect("it was made");
        std::fs::write(folder.join(format!("{name}.pem")), [read("crt"), read("key")].concat())
            .expect("written");
    }
    folder
}

/// Returns the fingerprint of a certificate.
fn fingerprint(folder: &Path, file: &str) -> String {
    let text = openssl(&["x509", "-in", file, "-noout", "-fingerprint", "-sha256"], folder);
    text.trim().rsplit('=').next().expect("a fingerprint").to_owned()
}

fn detail(status: &Value) -> &str {
    status["detail"].as_str().expect("a text")
}

#[test]
fn certificates_are_trusted_as_configured_and_refused_with_their_fingerprint() {
    if !installed(&["icecast2", "openssl"]) {
        return;
    }
    let folder = certificates();
    let file = |name: &str| folder.join(name);
    let good = file("server.pem");
    let signed = Icecast::with(Extra { certificate: Some(&good), ..Extra::default() });
    let to_signed = format!("icecasts://{}/a.mp3", signed.address);
    let config =
        |to: &str, lines: &str| TONE.to_owned() + &push("radio", to, &format!("format = \"mp3\"\n{lines}"));
    let ca = format!("tls_ca = \"{}\"", file("ca.pem").display());
    let daemon = Daemon::start(None, &config(&to_signed, &ca));
    wait_for_push(&daemon, "on the air");

    // The system's authorities do not know it.
    daemon.reload(&config(&to_signed, ""));
    let status = wait_for_push(&daemon, "refused");
    let seen = fingerprint(&folder, "server.crt");
    assert!(detail(&status).contains("has signed") && detail(&status).contains(&seen), "{status}");
    daemon.reload(&config(&to_signed, &format!("tls_fingerprint = \"{seen}\"")));
    wait_for_push(&daemon, "on the air");
    daemon.reload(&config(
        &to_signed,
        &format!("tls_fingerprint = \"{}\"", "00:".repeat(32).trim_end_matches(':')),
    ));
    let status = wait_for_push(&daemon, "refused");
    assert!(detail(&status).contains("another one than that of `tls_fingerprint`"), "{status}");

    // A certificate that is its own authority, for another name.
    let own = file("self.pem");
    let selfsigned = Icecast::with(Extra { certificate: Some(&own), ..Extra::default() });
    let to_self = format!("icecasts://{}/a.mp3", selfsigned.address);
    daemon.reload(&config(&to_self, &ca));
    let status = wait_for("a refusal of the other server", || {
        find_push(&daemon, "radio").filter(|push| push["to"] == to_self && push["state"] == "refused")
    });
    assert!(detail(&status).contains("certificate"), "{status}");
    daemon.reload(&config(&to_self, &format!("tls_ca = \"{}\"", file("self.crt").display())));
    wait_for_push(&daemon, "on the air");

    // The right authority, and another name.
    let host = format!("icecasts://localhost:{}/a.mp3", signed.address.port());
    daemon.reload(&config(&host, &ca));
    let status = wait_for_push(&daemon, "refused");
    assert!(detail(&status).contains("another name"), "{status}");
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn a_port_without_tls_is_told() {
    if !installed(&["icecast2"]) {
        return;
    }
    let any = format!("tls_fingerprint = \"{}\"", "ab".repeat(32));
    // Icecast waits for the end of the header; this server answers in plain text.
    let port =
        fake(|mut connection, _, _| crate::servers::answer(&mut connection, "HTTP/1.0 400 Bad\r\n\r\n"));
    let icecast = Icecast::start();
    for port in [icecast.address.port(), port] {
        let to = format!("icecasts://127.0.0.1:{port}/a.ogg");
        let daemon = Daemon::start(None, &(TONE.to_owned() + &push("radio", &to, &any)));
        let status = wait_for_push(&daemon, "unreachable");
        assert!(detail(&status).contains("is this port for icecasts://?"), "{status}");
    }
}
