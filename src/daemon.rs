//! The daemon's life: start, signals, what the capture threads report, the end.
//!
//! The main thread is the only one that changes what runs. It hears of everything through channels, keeps
//! each input's state in words, and writes the log: one line for each change of state.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, tick};
use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::audio::capture::{Capture, Event, Feed, What};
use crate::audio::input::{LiveInput, Phase};
use crate::audio::source::Info;
use crate::config::{self, Config, ListenAddr};
use crate::http::server::{self, Server};
use crate::hub::Hub;
use crate::os;

/// Overruns that follow each other within this are one burst, and one line in the log.
const BURST: Duration = Duration::from_secs(10);
/// How long listeners have to take what is left when the daemon ends.
const FAREWELL: Duration = Duration::from_millis(1200);
/// A ring keeps this much more than is promised, for listeners at its very end.
const MARGIN: Duration = Duration::from_secs(1);

/// Why the daemon could not start.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs until a signal ends it. `reload` reads the configuration again.
///
/// # Errors
///
/// When an address cannot be listened on, or the operating system gives no thread or signal handler.
pub fn run(config: Config, reload: impl Fn() -> Result<Config, String>) -> Result<(), StartError> {
    os::raise_open_files();
    let signals = signals().map_err(|e| StartError(format!("no signal handler: {e}")))?;
    let (sender, events) = bounded(1024);
    let hub = Arc::new(Hub::new(config.listeners.clone()));
    let mut daemon = Daemon { hub, sender, servers: Vec::new(), inputs: Vec::new() };
    for address in &config.http.listen {
        daemon.listen(*address)?;
    }
    daemon.set_inputs(&config.inputs, &config.listeners);
    daemon.say_where(&config, 0);
    daemon.live(&signals, &events, config, reload);
    daemon.end();
    Ok(())
}

fn signals() -> io::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, receiver) = bounded(16);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

struct Daemon {
    hub: Arc<Hub>,
    /// For capture threads.
    sender: Sender<Event>,
    servers: Vec<(ListenAddr, Server)>,
    inputs: Vec<Running>,
}

/// An input and the thread that captures it.
struct Running {
    config: config::Input,
    /// How much its ring keeps.
    keep: Duration,
    live: Arc<LiveInput>,
    capture: Option<Capture>,
    /// Why it was lost, and the last reason why it did not open: each is logged once.
    lost: String,
    refused: String,
    burst: Option<Burst>,
}

/// A row of overruns.
struct Burst {
    began: Instant,
    last: Instant,
    count: u32,
}

impl Daemon {
    fn live(
        &mut self,
        signals: &Receiver<i32>,
        events: &Receiver<Event>,
        mut config: Config,
        reload: impl Fn() -> Result<Config, String>,
    ) {
        loop {
            // A clock only while there is something to wait for: an idle board is left alone.
            let bursts = self.inputs.iter().any(|input| input.burst.is_some());
            let clock = if bursts { tick(Duration::from_secs(1)) } else { never() };
            select! {
                recv(signals) -> signal => match signal {
                    Ok(SIGHUP) => match reload() {
                        Ok(new) => {
                            self.apply(&config, &new);
                            config = new;
                        }
                        Err(problem) => error!("the configuration stays as it was:\n{problem}"),
                    },
                    Ok(signal) => {
                        info!("ending on {}", if signal == SIGINT { "SIGINT" } else { "SIGTERM" });
                        return;
                    }
                    // The signal thread is gone, which does not happen; without it nobody could end this.
                    Err(_) => return,
                },
                recv(events) -> event => if let Ok(event) = event {
                    self.note(event);
                },
                recv(clock) -> _ => self.end_bursts(),
            }
        }
    }

    fn listen(&mut self, address: ListenAddr) -> Result<(), StartError> {
        let listener = server::bind(address).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => ": another program listens there (is wavecast running already?)",
                io::ErrorKind::AddrNotAvailable => ": this machine does not have that address",
                io::ErrorKind::PermissionDenied => ": ports below 1024 are for root",
                _ => "",
            };
            StartError(format!("cannot listen on {address}: {error}{hint}"))
        })?;
        let server = Server::start(listener, Arc::clone(&self.hub))
            .map_err(|error| StartError(format!("cannot serve on {address}: {error}")))?;
        self.servers.push((address, server));
        Ok(())
    }

    /// Tells a person which addresses to open, from that server on.
    fn say_where(&self, config: &Config, first: usize) {
        for (_, server) in &self.servers[first..] {
            let (ip, port) = (server.address().ip(), server.address().port());
            let host = match ip {
                ip if !ip.is_unspecified() => SocketHost(ip).to_string(),
                _ => os::own_address().map_or("localhost".to_owned(), |ip| SocketHost(ip).to_string()),
            };
            let name = &config.inputs[0].name;
            info!("open http://{host}:{port}/ in a browser, or http://{host}:{port}/{name}.wav in a player");
        }
    }

    /// Takes on a new configuration, changing only what differs.
    fn apply(&mut self, old: &Config, new: &Config) {
        self.hub.set_settings(new.listeners.clone());
        self.set_inputs(&new.inputs, &new.listeners);
        let (keep, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.servers)
            .into_iter()
            .partition(|(address, _)| new.http.listen.contains(address));
        self.servers = keep;
        for (_, server) in gone {
            server.stop();
        }
        // One that could not be had the last time is tried again.
        for address in &new.http.listen {
            if self.servers.iter().any(|(served, _)| served == address) {
                continue;
            }
            match self.listen(*address) {
                Ok(()) => self.say_where(new, self.servers.len() - 1),
                Err(error) => error!("{error}"),
            }
        }
        if old.log != new.log {
            warn!("the log filter changes at the next start");
        }
        info!("the configuration was read again");
    }

    /// Starts, restarts and ends inputs until they are those. All that end do so before any starts: two may
    /// have changed their cards.
    fn set_inputs(&mut self, wanted: &[config::Input], settings: &config::Listeners) {
        let keep = |config: &config::Input| config.history.max(settings.max_lag) + MARGIN;
        let mut old: Vec<(Running, Option<Feed>)> = Vec::new();
        let mut running = Vec::new();
        for mut input in std::mem::take(&mut self.inputs) {
            match wanted.iter().find(|config| config.name == input.config.name) {
                Some(config) if *config == input.config && keep(config) == input.keep => running.push(input),
                Some(_) => {
                    let feed = input.capture.take().and_then(Capture::stop);
                    old.push((input, feed));
                }
                None => {
                    info!("{}: is no input any more", input.config.name);
                    if let Some(ring) = input.live.ring() {
                        ring.close();
                    }
                    input.capture.take().map(Capture::stop);
                }
            }
        }
        for config in wanted {
            if running.iter().any(|input| input.config.name == config.name) {
                continue;
            }
            let device = config.device.to_string();
            let (live, feed) = match old.iter().position(|(input, _)| input.config.name == config.name) {
                Some(at) => {
                    let (input, feed) = old.swap_remove(at);
                    input.live.change(|state| {
                        state.phase = Phase::Waiting;
                        state.device = device;
                        state.problem = String::new();
                    });
                    (input.live, feed)
                }
                None => (Arc::new(LiveInput::new(&config.name, &device)), None),
            };
            live.set_history(config.history);
            let keep = keep(config);
            let capture = Capture::start(config.clone(), keep, Arc::clone(&live), self.sender.clone(), feed);
            if let Err(error) = &capture {
                error!("{}: no thread to capture it: {error}", config.name);
            }
            running.push(Running {
                config: config.clone(),
                keep,
                live,
                capture: capture.ok(),
                lost: String::new(),
                refused: String::new(),
                burst: None,
            });
        }
        running.sort_by_key(|input| wanted.iter().position(|config| config.name == input.config.name));
        self.hub.set_inputs(running.iter().map(|input| Arc::clone(&input.live)).collect());
        self.inputs = running;
    }

    /// Takes in what a capture thread has to say.
    fn note(&mut self, event: Event) {
        // One that was ended meanwhile has nothing to say any more.
        let Some(input) = self.inputs.iter_mut().find(|input| Arc::ptr_eq(&input.live, &event.input)) else {
            return;
        };
        let name = &input.config.name;
        match event.what {
            What::Opened(source) => {
                let state = input.live.state();
                let back = match state.phase {
                    Phase::Lost => format!("back after {:.1} s: ", state.since.elapsed().as_secs_f64()),
                    _ => String::new(),
                };
                info!("{name}: {back}{}", Opened { source: &source, config: &input.config });
                input.live.change(|state| {
                    state.phase = Phase::Capturing;
                    state.source = Some(source);
                    state.problem = String::new();
                });
                (input.lost, input.refused) = (String::new(), String::new());
            }
            What::OpenFailed(refusal) => {
                if input.refused != refusal.advice {
                    warn!("{name}: {}", refusal.advice);
                }
                let problem = match input.lost.is_empty() {
                    true => refusal.advice.clone(),
                    false => format!("{}; {}", input.lost, refusal.advice),
                };
                input.refused = refusal.advice;
                input.live.change(|state| state.problem = problem);
            }
            What::Lost(loss) => {
                let why = loss.to_string();
                if input.lost != why {
                    warn!("{name}: {why}; listeners hear silence until it is back");
                }
                input.lost = why;
                input.live.change(|state| {
                    state.phase = Phase::Lost;
                    state.problem = input.lost.clone();
                });
            }
            What::Overrun => {
                let now = Instant::now();
                match &mut input.burst {
                    Some(burst) => (burst.last, burst.count) = (now, burst.count + 1),
                    None => {
                        warn!("{name}: overrun: the sound card dropped sound that was not read in time");
                        input.burst = Some(Burst { began: now, last: now, count: 1 });
                    }
                }
            }
            What::RealtimeRefused(error) => {
                info!("{name}: captured without real-time priority ({error}); a busy machine may lose sound");
            }
        }
    }

    fn end_bursts(&mut self) {
        for input in &mut self.inputs {
            if let Some(burst) = input.burst.take_if(|burst| burst.last.elapsed() > BURST) {
                if burst.count > 1 {
                    let time = burst.last.duration_since(burst.began).as_secs_f64();
                    warn!("{}: {} overruns within {time:.1} s, none since", input.config.name, burst.count);
                }
            }
        }
    }

    /// Ends every stream with its last byte, as far as listeners take it in time.
    fn end(self) {
        for (_, server) in self.servers {
            server.stop();
        }
        for input in &self.inputs {
            if let Some(ring) = input.live.ring() {
                ring.close();
            }
        }
        self.hub.pages.end();
        let began = Instant::now();
        while self.hub.listeners.count() > 0 && began.elapsed() < FAREWELL {
            thread::sleep(Duration::from_millis(5));
        }
        for listener in self.hub.listeners.all() {
            listener.cut();
        }
        while self.hub.listeners.count() > 0 && began.elapsed() < FAREWELL + Duration::from_millis(300) {
            thread::sleep(Duration::from_millis(5));
        }
        info!("ended");
    }
}

/// What was opened, and how it differs from what was asked for.
struct Opened<'a> {
    source: &'a Info,
    config: &'a config::Input,
}

impl fmt::Display for Opened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Opened { source, config } = self;
        write!(f, "capturing from {}", source.device)?;
        if let Some(card) = &source.card {
            write!(f, " ({card})")?;
        }
        let channels = |channels| match channels {
            1 => "mono".to_owned(),
            2 => "stereo".to_owned(),
            n => format!("{n} channels"),
        };
        write!(f, ": {} Hz, {}, {}", source.rate, channels(source.channels), source.sample)?;
        let ms = |frames: u32| f64::from(frames) * 1e3 / f64::from(source.rate);
        write!(f, ", period {:.1} ms, buffer {:.0} ms", ms(source.block_frames), ms(source.buffer_frames))?;
        if source.rate != config.rate {
            write!(f, "; asked for {} Hz, this is the nearest it offers", config.rate)?;
        }
        if source.channels != config.channels {
            write!(f, "; asked for {}, this is the nearest it offers", channels(config.channels))?;
        }
        Ok(())
    }
}

/// An address as it stands in a URL.
struct SocketHost(IpAddr);

impl fmt::Display for SocketHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "[{ip}]"),
        }
    }
}
