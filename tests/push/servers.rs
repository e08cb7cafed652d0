//! Servers for pushes: Debian's Icecast and Liquidsoap's harbor as child processes, and servers of the test's own that
//! answer as no real one does on request.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::geteuid;

use crate::support::http;
pub(crate) use crate::support::programs::{free_ports, installed};
use crate::support::{PATIENCE, wait_for};

/// The password of sources at each server.
pub(crate) const PASSWORD: &str = "hackme-it-is-secret";

/// The more elements of an Icecast's configuration.
#[derive(Clone, Copy)]
pub(crate) struct Extra<'a> {
    /// Elements before the end of `<icecast>`.
    pub(crate) elements: &'a str,
    /// Elements in the first `<listen-socket>`.
    pub(crate) socket: &'a str,
    /// A file with certificate and key: TLS on the first socket.
    pub(crate) certificate: Option<&'a Path>,
    /// The address to listen on; the loopback without one.
    pub(crate) address: Option<&'a str>,
    /// The seconds after which a silent source is gone.
    pub(crate) source_timeout: u32,
    /// A folder whose files listeners can get like mounts.
    pub(crate) files: Option<&'a Path>,
}

impl Default for Extra<'_> {
    fn default() -> Self {
        // Icecast's own timeout.
        Extra { elements: "", socket: "", certificate: None, address: None, source_timeout: 10, files: None }
    }
}

/// A running Icecast. It is killed on drop.
pub(crate) struct Icecast {
    child: Option<Child>,
    folder: PathBuf,
    pub(crate) address: SocketAddr,
    /// The words before its own command: `ip netns exec …`.
    through: Vec<String>,
}

impl Icecast {
    pub(crate) fn start() -> Icecast {
        Icecast::with(Extra::default())
    }

    pub(crate) fn with(extra: Extra<'_>) -> Icecast {
        Icecast::through(&[], extra)
    }

    /// Starts an Icecast through another program.
    pub(crate) fn through(through: &[&str], extra: Extra<'_>) -> Icecast {
        let folder = folder("icecast");
        let host = extra.address.unwrap_or("127.0.0.1");
        let port = free_ports();
        let owner = match geteuid().is_root() {
            true => "<changeowner><user>nobody</user><group>nogroup</group></changeowner>",
            false => "",
        };
        let (tls, certificate) = match extra.certificate {
            Some(file) => ("<ssl>1</ssl>", format!("<ssl-certificate>{}</ssl-certificate>", file.display())),
            None => ("", String::new()),
        };
        let files = extra.files.unwrap_or(Path::new("/usr/share/icecast2/web"));
        let text = format!(
            "<icecast><location>test</location><admin>a@localhost</admin><hostname>127.0.0.1</hostname>\n\
             <limits><clients>100</clients><sources>10</sources><queue-size>4194304</queue-size>\
             <client-timeout>30</client-timeout><header-timeout>15</header-timeout><source-timeout>{}</source-timeout>\
             <burst-on-connect>1</burst-on-connect><burst-size>262144</burst-size></limits>\n\
             <authentication><source-password>{PASSWORD}</source-password><relay-password>relay</relay-password>\
             <admin-user>admin</admin-user><admin-password>admin</admin-password></authentication>\n\
             <listen-socket><port>{port}</port><bind-address>{host}</bind-address>{tls}{}</listen-socket>\n\
             {}\n<fileserve>{}</fileserve><paths><basedir>/usr/share/icecast2</basedir><logdir>{}</logdir>\
             <webroot>{}</webroot><adminroot>/usr/share/icecast2/admin</adminroot>\
             <pidfile>{}/pid</pidfile>{certificate}</paths>\n\
             <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>3</loglevel></logging>\n\
             <security><chroot>0</chroot>{owner}</security></icecast>\n",
            extra.source_timeout,
            extra.socket,
            extra.elements,
            u8::from(extra.files.is_some()),
            folder.display(),
            files.display(),
            folder.display()
        );
        fs::write(folder.join("icecast.xml"), text).expect("written");
        let address = format!("{host}:{port}").parse().expect("an address");
        let through = through.iter().map(|word| (*word).to_owned()).collect();
        let mut icecast = Icecast { child: None, folder, address, through };
        icecast.run();
        icecast
    }

    /// Starts it, at first or again after [`kill`](Self::kill).
    pub(crate) fn run(&mut self) {
        let mut words = self.through.iter().map(String::as_str).chain(["icecast2"]);
        let mut command = Command::new(words.next().unwrap_or("icecast2"));
        command.args(words).arg("-c").arg(self.folder.join("icecast.xml"));
        let output = fs::File::create(self.folder.join("output")).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let child = self.child.insert(command.spawn().expect("icecast2 runs"));
        let log = self.folder.join("output");
        let is_here = self.through.is_empty();
        wait_for("Icecast to listen", || {
            let ended = child.try_wait().expect("it is our child");
            let text = || fs::read_to_string(&log).unwrap_or_default();
            if ended.is_some_and(|ended| ended.signal().is_some()) {
                // A crash at its start is Icecast's own.
                *child = command.spawn().expect("icecast2 runs");
                return None;
            }
            assert!(ended.is_none(), "icecast2 ended: {ended:?}: {}", text());
            if !have_all_threads_slept(child.id()) {
                return None;
            }
            match is_here {
                true => TcpStream::connect(self.address).ok().map(drop),
                // Another network: it tells by its log.
                false => {
                    fs::metadata(self.folder.join("error.log")).ok().filter(|log| log.len() > 0).map(drop)
                }
            }
        });
    }

    /// Kills it, so that its connections are reset.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Returns the URL of a mount for listeners.
    pub(crate) fn url(&self, mount: &str) -> String {
        format!("http://{}{mount}", self.address)
    }

    /// Returns the status of the mounts.
    pub(crate) fn status(&self) -> serde_json::Value {
        let text = http::request(self.address, "GET", "/status-json.xsl", "1.0", &[]).text();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Returns the source of the status that has this mount.
    pub(crate) fn source(&self, mount: &str) -> Option<serde_json::Value> {
        let status = self.status();
        let sources = match &status["icestats"]["source"] {
            serde_json::Value::Array(sources) => sources.clone(),
            source => vec![source.clone()],
        };
        sources
            .into_iter()
            .find(|source| source["listenurl"].as_str().is_some_and(|url| url.ends_with(mount)))
    }

    /// Returns its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("error.log")).unwrap_or_default()
    }
}

impl Drop for Icecast {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- Icecast's log:\n{}\n---", self.log());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns `true` once every thread of a process has come so far that it waits for something. Icecast 2.4.4 listens before
/// its thread for statistics has begun, and ends in a crash if a source comes earlier than that.
fn have_all_threads_slept(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let sleeps = |status: &str| -> Option<u64> {
        status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
    };
    let mut statuses =
        threads.map(|thread| fs::read_to_string(thread.path().join("status")).unwrap_or_default());
    statuses.all(|status| sleeps(&status) > Some(0))
}

/// A running Liquidsoap with a harbor. It is killed on drop.
pub(crate) struct Harbor {
    child: Child,
    folder: PathBuf,
    pub(crate) port: u16,
}

impl Harbor {
    /// Starts a Liquidsoap whose harbor takes sources on `/live`, and waits until it listens.
    pub(crate) fn start() -> Harbor {
        let (folder, port) = (folder("harbor"), free_ports());
        let script = format!(
            "settings.init.allow_root.set(true)\nsettings.harbor.bind_addrs.set([\"127.0.0.1\"])\n\
             s = input.harbor(\"live\", port={port}, password=\"{PASSWORD}\")\noutput.dummy(fallible=true, s)\n"
        );
        let file = folder.join("harbor.liq");
        fs::write(&file, script).expect("written");
        let output = fs::File::create(folder.join("output")).expect("a file");
        let mut child = Command::new("liquidsoap")
            .arg(&file)
            .env("HOME", &folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a descriptor"))
            .stderr(output)
            .spawn()
            .expect("liquidsoap runs");
        // Liquidsoap compiles its library first.
        crate::support::wait_within(PATIENCE * 4, Duration::from_millis(50), "the harbor to listen", || {
            let ended = child.try_wait().expect("it is our child");
            let text = || fs::read_to_string(folder.join("output")).unwrap_or_default();
            assert!(ended.is_none(), "liquidsoap ended: {ended:?}: {}", text());
            TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
        });
        Harbor { child, folder, port }
    }
}

impl Drop for Harbor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = fs::read_to_string(self.folder.join("output"));
            eprintln!("--- Liquidsoap's output:\n{}\n---", text.unwrap_or_default());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Starts a server of the test's own, which treats each connection with `serve` in the order in which they come. It gets the
/// connection after the request's head, the head, and the connection's number from 0. It ends with the test program.
pub(crate) fn fake(serve: impl Fn(TcpStream, &str, usize) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for (number, connection) in listener.incoming().enumerate() {
            let Ok(mut connection) = connection else { return };
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).is_ok_and(|count| count == 1) {
                head.push(byte[0]);
            }
            serve(connection, &String::from_utf8_lossy(&head), number);
        }
    });
    port
}

/// Reads all that comes, as a server does that takes the stream.
pub(crate) fn swallow(mut connection: TcpStream) {
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while connection.read(&mut bytes).is_ok_and(|count| count > 0) {}
    });
}

/// Sends an answer.
pub(crate) fn answer(connection: &mut TcpStream, text: &str) {
    let _ = connection.write_all(text.as_bytes());
}

/// Returns a new folder that every user may write to: servers run as another user than root.
pub(crate) fn folder(name: &str) -> PathBuf {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("wavecast-push-{name}-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("it is ours");
    folder
}
