//! Servers of the distribution for comparison: child processes with a folder and a port of their own.
//!
//! Each benchmark uses some of it.
#![allow(dead_code)]

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::time::Duration;
use std::{env, thread};

use crate::support::programs::as_nobody;
use crate::support::server::Server;
use crate::support::wait_within;

/// The time limit for a server to serve.
const PATIENCE: Duration = Duration::from_secs(20);

/// The processes of a server. They end on drop.
pub(crate) struct Processes {
    /// The serving process comes first, then those that feed it.
    processes: Vec<Child>,
    address: SocketAddr,
    folder: PathBuf,
}

impl Processes {
    /// Makes a folder and finds a free port. Nothing runs yet.
    pub(crate) fn new(name: &str) -> Processes {
        let folder = env::temp_dir().join(format!("wavecast-{name}-{}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        // Programs that refuse to run as root write to it as another user.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("it is ours");
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("it is bound");
        Processes { processes: Vec::new(), address, folder }
    }

    /// Returns the address at which the server is to listen.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the folder of configurations and logs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the process IDs, the serving process first.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.processes.iter().map(Child::id)
    }

    /// Writes a file into the folder.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, content).expect("written");
        path
    }

    /// Starts a process, whose output goes to a log in the folder.
    pub(crate) fn spawn(&mut self, command: &mut Command) {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log")).expect("a log");
        let same = log.try_clone().expect("a descriptor");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(same).spawn();
        self.processes.push(child.expect("it is installed"));
    }

    /// Starts an Icecast that takes sources with the password `bench`, and waits until it listens.
    pub(crate) fn icecast(&mut self) {
        let (port, folder) = (self.address.port(), self.folder.display());
        let text = format!(
            "<icecast><limits><clients>5000</clients><sources>2</sources><burst-on-connect>0</burst-on-connect>\
             </limits><authentication><source-password>bench</source-password><admin-user>admin</admin-user>\
             <admin-password>bench</admin-password></authentication><hostname>localhost</hostname>\
             <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>\
             <paths><logdir>{folder}</logdir><webroot>/usr/share/icecast2/web</webroot>\
             <adminroot>/usr/share/icecast2/admin</adminroot></paths>\
             <logging><accesslog>access</accesslog><errorlog>error</errorlog><loglevel>1</loglevel></logging></icecast>"
        );
        let config = self.write("icecast.xml", text);
        self.spawn(as_nobody("icecast2").arg("-c").arg(config));
        self.wait_until_it_listens();
    }

    /// Starts an MPD that plays a file again and again into an HTTP server of its own, in a format as MPD writes it.
    /// `encoder` has the lines about the encoder.
    pub(crate) fn mpd(&mut self, encoder: &str, format: &str, file: &Path) {
        let (port, folder) = (self.address.port(), self.folder.display());
        let text = format!(
            "bind_to_address \"{folder}/socket\"\nzeroconf_enabled \"no\"\naudio_output {{\n type \"httpd\"\n \
             name \"http\"\n {encoder}\n port \"{port}\"\n bind_to_address \"127.0.0.1\"\n format \"{format}\"\n \
             max_clients \"0\"\n}}\n"
        );
        let config = self.write("mpd.conf", text);
        self.spawn(Command::new("mpd").args(["--no-daemon", "--stderr"]).arg(config));
        let host = format!("--host={}", self.folder.join("socket").display());
        let mpc = |arguments: &[&str]| {
            let mut command = Command::new("mpc");
            command.arg("--quiet").arg(&host).args(arguments).stderr(Stdio::null());
            command.status().expect("mpc runs").success()
        };
        self.wait("MPD", || mpc(&["status"]));
        for arguments in [&["add", &format!("file://{}", file.display())][..], &["repeat", "on"], &["play"]] {
            assert!(mpc(arguments), "mpc {arguments:?}");
        }
        self.wait_for_stream("/");
    }

    /// Waits until the server listens.
    pub(crate) fn wait_until_it_listens(&mut self) {
        let address = self.address;
        self.wait("the server to listen", || listens(address));
    }

    /// Waits until the server sends a stream.
    pub(crate) fn wait_for_stream(&mut self, target: &str) {
        let address = self.address;
        self.wait("the stream", || {
            listens(address) && {
                let mut response = Server::at(address).get(target);
                response.status == 200 && response.body.chunk().is_ok_and(|chunk| !chunk.is_empty())
            }
        });
    }

    fn wait(&mut self, event: &str, mut has_come: impl FnMut() -> bool) {
        let serving = &mut self.processes[0];
        wait_within(PATIENCE, Duration::from_millis(20), event, || {
            let ended = serving.try_wait().expect("it is our child");
            assert!(ended.is_none(), "the server ended: {ended:?}");
            has_come().then_some(())
        });
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.folder.join("log")).unwrap_or_default());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns `true` if a program listens on that address. Before, a connection to a local port may connect to itself.
fn listens(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok_and(|socket| socket.local_addr().is_ok_and(|own| own != address))
}
