//! The daemon's life: start, signals, what the capture threads report, the end.
//!
//! The main thread is the only one that changes what runs. It hears of everything through channels, keeps
//! each input's state in words, and writes the log: one line for each change of state.

mod capacity;
mod describe;
pub mod reexec;
pub mod systemd;

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select, tick};
use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::capture::event::{CaptureEvent, CaptureEventKind};
use crate::capture::{Capture, Timeline};
use crate::config::{self, Config, ListenAddr, Network};
use crate::http::access::Access;
use crate::http::context::Context;
use crate::http::server::{self, Server};
use crate::http::tiny::guard::Guard;
use crate::inputs::{LiveInput, Phase};
use crate::sys::sort::sort_few;
use crate::sys::{host, limits, panics, threads};
use capacity::Room;
use describe::{Opened, Sounding};
pub use reexec::Anew;
use systemd::{Handed, Service};

/// Overruns that follow each other within this are one burst, and one line in the log.
const BURST: Duration = Duration::from_secs(10);
/// A card that comes back may be refused for so long without that being said.
const MOMENT: Duration = Duration::from_secs(1);
/// How long listeners have to take what is left when the daemon ends.
const FAREWELL: Duration = Duration::from_millis(1200);
/// It begins anew no more often.
const BETWEEN_BEGINNINGS: Duration = Duration::from_secs(180);
/// A ring keeps this much more than is promised, for listeners at its very end. A machine that stalls for longer loses
/// sound of the card too.
const MARGIN: Duration = Duration::from_millis(500);

/// Why the daemon could not start.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs until a signal ends it, or until the same program has to take its place in this process. `reload` reads the
/// configuration again.
///
/// # Errors
///
/// When an address cannot be listened on, or the operating system gives no thread or signal handler.
pub fn run(
    config: Config,
    access: Access,
    reload: impl Fn() -> Result<(Config, Access), String>,
) -> Result<Option<Anew>, StartError> {
    panics::install();
    let room = Room::with(limits::raise_open_files());
    let signals = signals().map_err(|e| StartError(format!("no signal handler: {e}")))?;
    let (sender, events) = bounded(1024);
    let (limits, listeners) = room.fit(&config.limits, &config.listeners);
    let context = Arc::new(Context::new(listeners, limits, access));
    context.stuck.set_room(room.connections());
    let guard = Guard::start(Arc::clone(&context)).map_err(|e| StartError(format!("no guard: {e}")))?;
    guard.set_banned_for_long(reexec::banned().into_iter());
    let service = Service::find();
    let mut daemon =
        Daemon { context, guard, room, sender, servers: Vec::new(), inputs: Vec::new(), service };
    // A port that is taken is known before a card is opened; but nobody is let in before there is something to hear:
    // players that come back to a daemon that was started again must not be told that it is not there.
    let sockets = daemon.bind_at_first(&config.http)?;
    daemon.set_inputs(&config.inputs, &config.listeners);
    for (origin, listener) in sockets {
        daemon.serve(origin, listener)?;
    }
    daemon.say_where(&config, 0);
    say_who(&config);
    daemon.report(&config);
    daemon.service.ready();
    let anew = daemon.live(&signals, &events, config, reload).then(|| daemon.listening());
    daemon.end(anew.is_some());
    Ok(anew)
}

fn signals() -> io::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, receiver) = bounded(16);
    threads::start("signals", None, move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn bind(address: ListenAddr) -> Result<TcpListener, StartError> {
    server::bind(address).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => ": another program listens there (is wavecast running already?)",
            io::ErrorKind::AddrNotAvailable => ": this machine does not have that address",
            io::ErrorKind::PermissionDenied => ": ports below 1024 are for root",
            _ => "",
        };
        StartError(format!("cannot listen on {address}: {error}{hint}"))
    })
}

/// Says so if a microphone is open to the world.
fn say_who(config: &Config) {
    if config.access.passwords.is_none() && config.access.allow.contains(&Network::Any) {
        warn!("everybody who can reach this machine may listen, from anywhere: [access] allow has \"any\"");
    }
}

struct Daemon {
    context: Arc<Context>,
    guard: Arc<Guard>,
    room: Room,
    /// For capture threads.
    sender: Sender<CaptureEvent>,
    servers: Vec<Listening>,
    inputs: Vec<Running>,
    service: Service,
}

/// A server, and who said where.
struct Listening {
    origin: Origin,
    server: Server,
    /// Where it was said to be reached.
    urls: Vec<String>,
}

/// Where a listening socket comes from.
#[derive(Clone, Copy, PartialEq)]
enum Origin {
    /// The configuration names its address.
    Configured(ListenAddr),
    /// A socket unit of systemd.
    Given,
}

/// An input and the thread that captures it.
struct Running {
    config: config::Input,
    /// How much its ring keeps.
    keep: Duration,
    live: Arc<LiveInput>,
    capture: Option<Capture>,
    /// How far the capture thread was when it was last looked at.
    turns: u64,
    /// Why it was lost; logged once.
    lost: String,
    /// The last reason why it did not open.
    refused: Option<Refused>,
    burst: Option<Burst>,
    last_stall: Option<Instant>,
}

/// Why an input does not open.
struct Refused {
    why: String,
    since: Instant,
    said: bool,
}

/// A row of overruns.
struct Burst {
    began: Instant,
    last: Instant,
    count: u32,
}

impl Daemon {
    /// Lives; whether it has to begin anew.
    fn live(
        &mut self,
        signals: &Receiver<i32>,
        events: &Receiver<CaptureEvent>,
        mut config: Config,
        reload: impl Fn() -> Result<(Config, Access), String>,
    ) -> bool {
        // Without a service manager there is nobody to report to: an idle board is left alone.
        let reports = self.service.rhythm().map_or_else(never, tick);
        let stuck = self.context.stuck.too_many().clone();
        let mut anew = never();
        loop {
            // A clock only while there is something to wait for.
            let bursts = self.inputs.iter().any(|input| input.burst.is_some());
            let clock = if bursts { tick(Duration::from_secs(1)) } else { never() };
            select! {
                recv(signals) -> signal => match signal {
                    Ok(SIGHUP) => match reload() {
                        Ok((new, access)) => {
                            self.service.reloading();
                            self.context.set_access(access);
                            self.apply(&config, &new);
                            config = new;
                            say_who(&config);
                            self.service.ready();
                            self.report(&config);
                        }
                        Err(problem) => error!("the configuration stays as it was:\n{problem}"),
                    },
                    Ok(signal) => {
                        info!("ending on {}", if signal == SIGINT { "SIGINT" } else { "SIGTERM" });
                        return false;
                    }
                    // The signal thread is gone, which does not happen; without it nobody could end this.
                    Err(_) => return false,
                },
                recv(events) -> event => if let Ok(event) = event {
                    self.note(event);
                    self.service.status(self.line());
                },
                recv(clock) -> _ => self.end_bursts(),
                recv(stuck) -> _ => {
                    let wait = reexec::since_last().map_or(Duration::ZERO, |ago| BETWEEN_BEGINNINGS.saturating_sub(ago));
                    warn!(
                        "{} requests hold a thread and two descriptors each, for good: nobody is let in, and \
                         wavecast begins anew in {:.0} s",
                        self.context.stuck.count(),
                        wait.as_secs_f64()
                    );
                    anew = after(wait);
                },
                recv(anew) -> _ => {
                    info!("beginning anew");
                    return true;
                },
                recv(reports) -> _ => {
                    self.report(&config);
                    if self.gets_on() {
                        self.service.alive();
                    }
                }
            }
        }
    }

    /// Sockets where systemd says, or else where the configuration does.
    fn bind_at_first(&self, http: &config::Http) -> Result<Vec<(Origin, TcpListener)>, StartError> {
        let mut handed = Handed::take().map_err(StartError)?;
        let given = std::mem::take(&mut handed.given);
        let mut sockets: Vec<_> = given.into_iter().map(|listener| (Origin::Given, listener)).collect();
        if sockets.is_empty() {
            for address in &http.listen {
                let listener = handed.reclaim(*address).map_or_else(|| bind(*address), Ok)?;
                sockets.push((Origin::Configured(*address), listener));
            }
        } else {
            info!("listening on the sockets of systemd, in place of [http] listen");
        }
        handed.drop_the_rest(&self.service);
        Ok(sockets)
    }

    fn listen(&mut self, address: ListenAddr) -> Result<(), StartError> {
        self.serve(Origin::Configured(address), bind(address)?)
    }

    fn serve(&mut self, origin: Origin, listener: TcpListener) -> Result<(), StartError> {
        let at = listener.local_addr().map_or_else(|_| "a socket".to_owned(), |address| address.to_string());
        let failed = |error| StartError(format!("cannot serve on {at}: {error}"));
        server::prepare(&listener).map_err(failed)?;
        let server = Server::start(listener, Arc::clone(&self.context), &self.guard).map_err(failed)?;
        if let Origin::Configured(address) = origin {
            self.service.keep(address, server.listener());
        }
        self.servers.push(Listening { origin, server, urls: Vec::new() });
        Ok(())
    }

    /// Tells a person which addresses to open, from that server on.
    fn say_where(&mut self, config: &Config, first: usize) {
        let name = &config.inputs[0].name;
        for listening in &mut self.servers[first..] {
            let urls = host::urls(listening.server.address());
            if listening.urls == urls {
                continue;
            }
            let also = match &urls[1..] {
                [] => String::new(),
                others => format!("; also at {}/", others.join("/, ")),
            };
            info!("open {0}/ in a browser, or {0}/{name}.wav in a player{also}", urls[0]);
            listening.urls = urls;
        }
    }

    /// Tells systemd how it is.
    fn report(&mut self, config: &Config) {
        if self.service.is_there() {
            // The network may have come up since.
            self.say_where(config, 0);
            self.service.status(self.line());
        }
    }

    /// Whether everything has moved since this was asked last: every capture thread, every server.
    fn gets_on(&mut self) -> bool {
        let mut all = true;
        for input in &mut self.inputs {
            let turns = input.live.counters.heartbeats.load(Ordering::Relaxed);
            if turns == input.turns {
                warn!("{}: its capture thread does not move", input.config.name);
                all = false;
            }
            input.turns = turns;
        }
        for listening in &mut self.servers {
            if !listening.server.gets_on() {
                warn!("{}: nobody is let in", listening.server.address());
                all = false;
            }
        }
        all
    }

    /// How it is, in one line.
    fn line(&self) -> String {
        let urls: Vec<String> =
            self.servers.iter().flat_map(|listening| &listening.urls).map(|url| format!("{url}/")).collect();
        let listeners = match self.context.listeners.count() {
            0 => "nobody listens".to_owned(),
            1 => "1 listener".to_owned(),
            n => format!("{n} listeners"),
        };
        let inputs = self.inputs.iter().map(|input| {
            let state = input.live.state();
            let name = &input.config.name;
            match (state.phase, &state.source) {
                (Phase::Capturing, Some(source)) => format!("{name}: {}", Sounding(source)),
                _ => format!("{name}: no sound: {}", state.why()),
            }
        });
        format!("{}; {listeners}; {}", urls.join(" or "), inputs.collect::<Vec<_>>().join("; "))
    }

    /// Takes on a new configuration, changing only what differs.
    fn apply(&mut self, old: &Config, new: &Config) {
        let (limits, listeners) = self.room.fit(&new.limits, &new.listeners);
        self.context.settings.set_limits(limits);
        self.context.settings.set_listeners(listeners);
        self.set_inputs(&new.inputs, &new.listeners);
        self.listen_anew(new);
        if old.log != new.log {
            warn!("the log filter changes at the next start");
        }
        info!("the configuration was read again");
    }

    /// Listens at other addresses.
    fn listen_anew(&mut self, new: &Config) {
        if self.servers.iter().any(|listening| listening.origin == Origin::Given) {
            // Where it listens is not for the configuration to say.
            return;
        }
        let (keep, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.servers).into_iter().partition(
            |listening| matches!(listening.origin, Origin::Configured(address) if new.http.listen.contains(&address)),
        );
        self.servers = keep;
        for listening in gone {
            if let Origin::Configured(address) = listening.origin {
                self.service.forget(address);
            }
            listening.server.stop();
        }
        // One that could not be had the last time is tried again.
        for address in &new.http.listen {
            if self.servers.iter().any(|listening| listening.origin == Origin::Configured(*address)) {
                continue;
            }
            match self.listen(*address) {
                Ok(()) => self.say_where(new, self.servers.len() - 1),
                Err(error) => error!("{error}"),
            }
        }
    }

    /// Starts, restarts and ends inputs until they are those. All that end do so before any starts: two may
    /// have changed their cards.
    fn set_inputs(&mut self, wanted: &[config::Input], settings: &config::Listeners) {
        let keep = |config: &config::Input| config.history.max(settings.max_lag) + MARGIN;
        let mut old: Vec<(Running, Option<Timeline>)> = Vec::new();
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
                turns: u64::MAX,
                lost: String::new(),
                refused: None,
                burst: None,
                last_stall: None,
            });
        }
        sort_few(&mut running, |input| wanted.iter().position(|config| config.name == input.config.name));
        self.context.inputs.set(running.iter().map(|input| Arc::clone(&input.live)).collect());
        self.inputs = running;
    }

    /// Takes in what a capture thread has to say.
    fn note(&mut self, event: CaptureEvent) {
        if event.is_stale() {
            return;
        }
        // One that was ended meanwhile has nothing to say any more.
        let Some(input) = self.inputs.iter_mut().find(|input| Arc::ptr_eq(&input.live, &event.input)) else {
            return;
        };
        let name = &input.config.name;
        match event.kind {
            CaptureEventKind::Opened(source) => {
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
                (input.lost, input.refused) = (String::new(), None);
            }
            // That it was lost says it all: listeners, log and page wait for it to come back.
            CaptureEventKind::OpenFailed(refusal) if refusal.absent && !input.lost.is_empty() => {
                input.refused = None;
                input.live.change(|state| state.problem = input.lost.clone());
            }
            CaptureEventKind::OpenFailed(refusal) => {
                let refused = match &mut input.refused {
                    Some(refused) if refused.why == refusal.advice => refused,
                    other => {
                        other.insert(Refused { why: refusal.advice, since: Instant::now(), said: false })
                    }
                };
                // A card that has come back belongs to nobody until udev has seen it: what is in the way for a
                // moment only is no news.
                let lasts = input.lost.is_empty() || refused.since.elapsed() >= MOMENT;
                if lasts && !std::mem::replace(&mut refused.said, true) {
                    warn!("{name}: {}", refused.why);
                    let problem = match input.lost.is_empty() {
                        true => refused.why.clone(),
                        false => format!("{}; {}", input.lost, refused.why),
                    };
                    input.live.change(|state| state.problem = problem);
                }
            }
            CaptureEventKind::Lost(loss) => {
                let why = loss.to_string();
                if input.lost != why {
                    warn!("{name}: {why}; listeners hear silence, waiting for it to come back");
                }
                input.lost = why;
                input.live.change(|state| {
                    state.phase = Phase::Lost;
                    state.problem = input.lost.clone();
                });
            }
            CaptureEventKind::Overrun => {
                let now = Instant::now();
                match &mut input.burst {
                    Some(burst) => (burst.last, burst.count) = (now, burst.count + 1),
                    None => {
                        warn!("{name}: overrun: sound was lost that was not read in time");
                        input.burst = Some(Burst { began: now, last: now, count: 1 });
                    }
                }
            }
            // For input_log: bursts, as for overruns.
            CaptureEventKind::Silence { frames } => {
                let rate = input.live.ring().map_or(1, |ring| ring.format().rate);
                let time = frames as f64 / f64::from(rate);
                let is_first = input.last_stall.replace(Instant::now()).is_none_or(|at| at.elapsed() > BURST);
                if is_first {
                    warn!("{name}: stall: no sound came for {time:.1} s; listeners heard silence");
                }
            }
            CaptureEventKind::HistoryShortened(shortened) => warn!("{name}: {shortened}"),
            CaptureEventKind::ClockOff { ppm } => warn!(
                "{name}: the clock of the sound card is off by {ppm:.0} ppm: its true rate is not the one it reports"
            ),
            CaptureEventKind::RealtimeRefused(error) => {
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

    /// The listening sockets, for the one that begins anew.
    fn listening(&self) -> Anew {
        let listeners = self.servers.iter().filter_map(|listening| {
            let name = match listening.origin {
                Origin::Configured(address) => systemd::stored_name(address),
                Origin::Given => systemd::GIVEN.to_owned(),
            };
            // One that cannot be had is bound again.
            Some((name, listening.server.listener().try_clone().ok()?))
        });
        Anew { sockets: listeners.collect(), banned: self.guard.banned_for_long() }
    }

    /// Ends every stream with its last byte, as far as listeners take it in time.
    fn end(self, anew: bool) {
        match anew {
            true => self.service.reloading(),
            false => self.service.stopping(),
        }
        let mut servers = Vec::new();
        for Listening { server, origin, .. } in self.servers {
            // What is held by systemd, or by the next one, another run goes on with: who connects now waits for that.
            if anew {
                server.hand_over_anew();
                servers.push(server);
            } else if origin == Origin::Given || self.service.is_there() {
                server.hand_over();
                servers.push(server);
            } else {
                server.stop();
            }
        }
        for input in &self.inputs {
            if let Some(ring) = input.live.ring() {
                ring.close();
            }
        }
        self.context.subscribers.end();
        let began = Instant::now();
        let wait = |limit: Duration| {
            let busy = || self.context.listeners.count() > 0 || !servers.iter().all(Server::is_idle);
            while busy() && began.elapsed() < limit {
                thread::sleep(Duration::from_millis(5));
            }
        };
        wait(FAREWELL);
        for listener in self.context.listeners.all() {
            listener.cut();
        }
        wait(FAREWELL + Duration::from_millis(300));
        info!("ended");
    }
}
