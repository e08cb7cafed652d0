//! One connection: from the server's answer to its end, the sound of the ring encoded and sent.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::connection::{Connection, QUICK_STEP, STEP};
use super::control::POLL;
use super::format::codec;
use super::icecast::{self, Audio};
use super::problem::{End, Problem, broken, words};
use super::queue::Queue;
use super::thread::{Runner, random};
use super::{password, shoutcast, title};
use crate::config::{Method, Protocol, Push};
use crate::encode::{Encoder, Options, Packet, Target};
use crate::media::format::StreamFormat;
use crate::media::ring::{Read, Reader, Ring};
use crate::pushes::PushPhase;

/// The sound before the live edge with which a stream begins: it fills the server's burst buffer, so that its first listeners
/// need not wait. At most half of the push's own buffer.
const PRE_ROLL: Duration = Duration::from_secs(3);
/// The time between two sends, of which each costs a wake-up.
const INTERVAL: Duration = Duration::from_millis(100);
/// The sound that is encoded between two looks at the socket.
const ROUND: Duration = Duration::from_millis(200);
/// The time for which the server has to keep the connection before the stream counts as on the air: a harbor answers 200 and
/// ends the connection at once if its mount is in use.
const PROOF: Duration = Duration::from_secs(2);
/// The time without progress after which a connection is given up.
const STALL: Duration = Duration::from_secs(8);
/// The time that the kernel's send buffer may hold, and its bounds in bytes.
const SEND_BUFFER: Duration = Duration::from_secs(2);
const SEND_BUFFER_BYTES: std::ops::RangeInclusive<usize> = 8 * 1024..=256 * 1024;
/// The most bytes that are kept of what the server says while the stream runs.
const MOST_SAID: usize = 2048;

impl Runner {
    /// Waits for sound, connects, and sends until something ends the connection.
    pub(super) fn connect_and_send(&mut self) -> Result<Infallible, End> {
        let ring = self.wait_for_sound()?;
        let format = ring.format();
        // An encoder that does not open is no reason to disturb the server.
        let options = Options { bitrate: self.config.bitrate, target: Target::Push, ..Options::default() };
        let encoder = codec(self.config.format).open(format, &options);
        drop(encoder.map_err(|error| Problem::failed(error.to_string()))?);
        let password = password::read(&self.config.password).map_err(Problem::failed)?;
        let audio = Audio::of(&self.config, format);
        self.live.bitrate.store(audio.bitrate.unwrap_or_default().into(), Ordering::Relaxed);
        self.live.change(|state| {
            if state.phase == PushPhase::Waiting {
                (state.phase, state.detail) = (PushPhase::Connecting, String::new());
            }
        });
        let (connection, said) = self.connect(audio, format, &password)?;
        self.accepted_at = Some(Instant::now());
        self.live.change(|state| {
            state.phase = PushPhase::Connecting;
            state.detail = "the server took the stream".to_owned();
        });
        let session = Session::begin(&self.config, connection, said, &ring, audio)?;
        self.send(session, &password)
    }

    /// Returns the ring of the input, once there is one that is not closed.
    fn wait_for_sound(&self) -> Result<Ring, End> {
        let mut is_shown = false;
        loop {
            if self.control.is_stopped() {
                return Err(End::Stopped);
            }
            let ring = self.inputs.find(&self.live.input).and_then(|input| input.ring());
            if let Some(ring) = ring.filter(|ring| !ring.is_closed()) {
                return Ok(ring);
            }
            if !is_shown {
                is_shown = true;
                self.live.change(|state| {
                    state.phase = PushPhase::Waiting;
                    state.detail = format!("the input {} has no sound yet", self.live.input);
                });
            }
            self.control.begin_try();
            self.control.sleep(POLL);
        }
    }

    /// Connects to the server and has it take the stream. Returns what the server has said behind its answer, too.
    fn connect(
        &mut self,
        audio: Audio,
        format: StreamFormat,
        password: &str,
    ) -> Result<(Connection, String), End> {
        let to = &self.config.to;
        let is_icy = to.protocol == Protocol::Shoutcast;
        let port = if is_icy { to.port.saturating_add(1) } else { to.port };
        let addresses = self.resolver.resolve(&to.host, port, &self.control)?;
        let step = if self.silent_tries % 4 == 0 { STEP } else { QUICK_STEP };
        let connection = Connection::open(&addresses, send_buffer(audio, format), step, &self.control)?;
        match to.protocol {
            Protocol::Icecast => self.request(connection, audio, password),
            Protocol::IcecastTls => self.request(connection.encrypted(&self.config)?, audio, password),
            Protocol::Shoutcast => self.log_in(connection, audio, password),
        }
    }

    /// Sends the request of Icecast's protocol and reads the answer.
    fn request(
        &mut self,
        mut connection: Connection,
        audio: Audio,
        password: &str,
    ) -> Result<(Connection, String), End> {
        let head = icecast::head(&self.config, self.verb, password, audio);
        connection.send_all(head.as_bytes())?;
        let answer = connection.answer(STEP, |text| text.contains("\r\n\r\n"))?;
        let status = icecast::status(&answer);
        if matches!(status, Some(100 | 200..=299)) {
            let said = icecast::body(&answer).to_owned();
            self.has_other_verb_failed = false;
            return Ok((connection, said));
        }
        if self.config.method == Method::Auto && icecast::wants_other_verb(status) {
            let other = self.verb.other();
            let is_second = std::mem::replace(&mut self.has_other_verb_failed, status.is_some());
            if let (Some(status), false) = (status, is_second) {
                let detail = format!("the server answers {status} to {}: {} is tried", self.verb, other);
                self.verb = other;
                return Err(Problem::again(detail).into());
            }
            // Both are refused, or the connection has ended without a word, for whatever reason.
            (self.verb, self.has_other_verb_failed) = (other, false);
        }
        let Some(status) = status else {
            let detail = "the server ended the connection without an answer: is this the port for sources?";
            return Err(Problem::unreachable(detail).with_words(&answer).into());
        };
        // The reason stands behind the head, and servers end the connection after it.
        let body = connection.rest(Duration::from_secs(1));
        Err(icecast::refusal(&self.config, status, &(answer + &body), !password.is_empty()).into())
    }

    /// Logs in as a source of SHOUTcast's protocol.
    fn log_in(
        &mut self,
        mut connection: Connection,
        audio: Audio,
        password: &str,
    ) -> Result<(Connection, String), End> {
        connection.send_all(shoutcast::login(password).as_bytes())?;
        let answer = connection.answer(STEP, |text| shoutcast::accepts(text).is_some())?;
        if shoutcast::accepts(&answer) != Some(true) {
            return Err(shoutcast::refusal(&answer).into());
        }
        connection.send_all(shoutcast::head(&self.config, audio).as_bytes())?;
        Ok((connection, String::new()))
    }

    /// Sends the stream until something ends it.
    fn send(&mut self, mut session: Session, password: &str) -> Result<Infallible, End> {
        let accepted_at = Instant::now();
        let result = loop {
            match self.round(&mut session, accepted_at, password) {
                Ok(()) => {}
                Err(end) => break end,
            }
        };
        // The queue is thrown away: the next stream begins with its own headers, nearer to the live edge.
        self.live.counters.dropped_packets.fetch_add(session.queue.packets(), Ordering::Relaxed);
        Err(result)
    }

    /// Encodes what is new, sends what fits, listens to the server, and sleeps.
    fn round(&mut self, session: &mut Session, accepted_at: Instant, password: &str) -> Result<(), End> {
        if self.control.is_stopped() {
            return Err(End::Stopped);
        }
        let counters = &self.live.counters;
        let is_all = session.take_sound()?;
        let sent = session.send();
        let Counts { sent_bytes, dropped_packets, lost_frames } = std::mem::take(&mut session.counts);
        counters.sent_bytes.fetch_add(sent_bytes, Ordering::Relaxed);
        counters.dropped_packets.fetch_add(dropped_packets, Ordering::Relaxed);
        counters.lost_frames.fetch_add(lost_frames, Ordering::Relaxed);
        let queued = session.format.duration_of(session.queue.frames());
        counters.queue_ms.store(queued.as_millis() as u64, Ordering::Relaxed);
        let is_new = accepted_at.elapsed() < PROOF;
        // Before an error of sending: the server's last words say more.
        let heard = session.listen();
        let end = match (heard.err(), sent.err()) {
            // The kernel tells it once, to whoever asks first; then the connection has just ended.
            (_, Some(Some(error))) if error.kind() == io::ErrorKind::TimedOut => Some(Some(error)),
            (heard, sent) => heard.or(sent),
        };
        if let Some(error) = end {
            return Err(session.end(&self.config, error.as_ref(), is_new, !password.is_empty()).into());
        }
        if std::mem::take(&mut session.has_said) {
            let said = words(icecast::body(&session.said));
            self.live.change(|state| state.server_says = said);
        }
        if session.stalled_since.elapsed() > STALL {
            let detail = "the server or the network takes nothing: no byte in 8 s";
            return Err(Problem::unreachable(detail).into());
        }
        if !is_new && !session.is_on_the_air {
            session.is_on_the_air = true;
            self.on_the_air(&session.what);
            title::set(&self.config, password, &self.control);
        }
        if is_all {
            self.sleep(session)?;
        }
        Ok(())
    }

    /// Sleeps until there is something to do. Moves to the next ring of the input after the end of this one.
    fn sleep(&self, session: &mut Session) -> Result<(), End> {
        if session.has_ended {
            self.control.sleep(POLL);
            let ring = self.inputs.find(&self.live.input).and_then(|input| input.ring());
            if let Some(ring) = ring.filter(|ring| !ring.is_closed()) {
                if ring.format() != session.format {
                    let detail = format!("the format of the input has changed: {}", ring.format());
                    return Err(Problem::again(detail).into());
                }
                session.go_on_with(&ring);
            }
        } else if session.queue.is_empty() {
            session.wait_for_sound();
        } else {
            session.connection.wait_for_room();
        }
        Ok(())
    }
}

/// One connection on the air.
struct Session {
    connection: Connection,
    encoder: Box<dyn Encoder>,
    queue: Queue,
    reader: Reader,
    format: StreamFormat,
    /// Position of the next frame for the encoder. It goes on where the ring's own count begins again.
    position: u64,
    /// Blocks of the ring in [`INTERVAL`].
    blocks: u64,
    pcm: Vec<u8>,
    /// `true` once the ring is closed and read to its end.
    has_ended: bool,
    /// The counts since the last round.
    counts: Counts,
    /// The time since which something waits and nothing was taken.
    stalled_since: Instant,
    /// The words of the server since its answer, and `true` if some are new.
    said: String,
    has_said: bool,
    is_on_the_air: bool,
    /// The stream in words.
    what: String,
}

/// The counts of one round.
#[derive(Default)]
struct Counts {
    sent_bytes: u64,
    /// Packets that were dropped for newer ones.
    dropped_packets: u64,
    /// Frames that were overwritten, and those that were left out with them.
    lost_frames: u64,
}

impl Session {
    fn begin(
        config: &Push,
        connection: Connection,
        said: String,
        ring: &Ring,
        audio: Audio,
    ) -> Result<Session, End> {
        let format = ring.format();
        let pre_roll = PRE_ROLL.min(config.buffer / 2);
        let reader = ring.reader(format.frames_in(pre_roll));
        let options = Options {
            bitrate: audio.bitrate,
            target: Target::Push,
            title: config.title.as_deref().unwrap_or_default(),
            serial: random(),
            first_frame: reader.frame(),
        };
        let codec = codec(config.format);
        let encoder = codec.open(format, &options).map_err(|error| Problem::failed(error.to_string()))?;
        let queue = Queue::new(encoder.header(), format.frames_in(config.buffer));
        let block_frames = ring.block_frames();
        let bitrate = audio.bitrate.map(|bitrate| format!(", {bitrate} kbit/s")).unwrap_or_default();
        Ok(Session {
            connection,
            queue,
            position: reader.frame(),
            reader,
            format,
            // The ring wakes readers by the block number modulo 32.
            blocks: (format.frames_in(INTERVAL) / u64::from(block_frames)).clamp(1, 31),
            pcm: vec![0; block_frames as usize * format.frame_bytes()],
            has_ended: false,
            counts: Counts::default(),
            stalled_since: Instant::now(),
            said,
            has_said: false,
            is_on_the_air: false,
            what: format!("{codec}{bitrate}"),
            encoder,
        })
    }

    /// Encodes new sound into the queue, at most [`ROUND`] of it. Returns `true` if there is no more now.
    fn take_sound(&mut self) -> Result<bool, End> {
        let Session { encoder, queue, reader, pcm, counts, .. } = self;
        let until = reader.frame() + self.format.frames_in(ROUND);
        while reader.frame() < until {
            let mut sink = |packet: Packet<'_>| counts.dropped_packets += queue.add(packet);
            match reader.read(pcm) {
                Read::Block { frames, .. } => {
                    let bytes = frames * self.format.frame_bytes();
                    self.position += frames as u64;
                    encoder
                        .encode(&pcm[..bytes], &mut sink)
                        // Not at once: the next one may fail as soon.
                        .map_err(|error| Problem::unencoded(&error))?;
                }
                Read::Lapped { lost } => {
                    self.position += lost;
                    // Beside the lost frames, those that waited in the encoder for a complete packet.
                    counts.lost_frames += lost + encoder.skip_to(self.position, &mut sink);
                }
                Read::Nothing | Read::End if encoder.is_full() => {
                    return Err(Problem::again("the stream has no number left for another frame").into());
                }
                read => {
                    self.has_ended = read == Read::End;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Goes on with another ring of the same format.
    fn go_on_with(&mut self, ring: &Ring) {
        self.has_ended = false;
        // The next frame of the stream is the first one of the new ring, however long ago it was published.
        self.reader = ring.reader_at(0);
        let lost = self.reader.frame();
        if lost > 0 {
            self.position += lost;
            let Session { encoder, queue, counts, .. } = self;
            let mut sink = |packet: Packet<'_>| counts.dropped_packets += queue.add(packet);
            counts.lost_frames += lost + encoder.skip_to(self.position, &mut sink);
        }
    }

    /// Sends as much as the connection takes. An error comes as `Err(Some(…))`.
    fn send(&mut self) -> Result<(), Option<io::Error>> {
        loop {
            let bytes = self.queue.bytes();
            let result = if bytes.is_empty() {
                self.connection.flush().map(|()| 0)
            } else {
                self.connection.send(bytes)
            };
            match result {
                Ok(0) => {
                    self.stalled_since = Instant::now();
                    return Ok(());
                }
                Ok(count) => {
                    self.queue.advance(count);
                    self.counts.sent_bytes += count as u64;
                    self.stalled_since = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Some(error)),
            }
        }
    }

    /// Reads what the server says. `Err(None)` is the end of the connection.
    fn listen(&mut self) -> Result<(), Option<io::Error>> {
        let mut bytes = [0; 512];
        loop {
            match self.connection.receive(&mut bytes) {
                Ok(0) => return Err(None),
                Ok(count) => {
                    if self.said.len() < MOST_SAID {
                        self.said.push_str(&String::from_utf8_lossy(&bytes[..count]));
                        self.has_said = true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Some(error)),
            }
        }
    }

    /// Returns the problem of a connection that has ended: by an error, or by the server.
    fn end(&self, push: &Push, error: Option<&io::Error>, is_new: bool, has_password: bool) -> Problem {
        // Behind "100 Continue" comes "200 OK", or a refusal after all.
        let refused = self.said.match_indices("HTTP/").map(|(at, _)| &self.said[at..]);
        let refused = refused.filter_map(|text| Some((icecast::status(text)?, text)));
        if let Some((status, text)) = refused.filter(|(status, _)| *status >= 400).last() {
            return icecast::refusal(push, status, text, has_password);
        }
        let problem = match error {
            _ if is_new => icecast::closed_at_once(push),
            Some(error) => broken(error),
            None => Problem::unreachable("the server ended the connection"),
        };
        problem.with_words(icecast::body(&self.said))
    }

    fn wait_for_sound(&self) {
        self.reader.wait(self.reader.place().block + self.blocks - 1, POLL);
    }
}

/// Returns the size of the kernel's send buffer in bytes.
fn send_buffer(audio: Audio, format: StreamFormat) -> usize {
    // FLAC takes about two thirds of the bytes of the sound.
    let per_second =
        audio.bitrate.map_or(format.bytes_per_second() * 2 / 3, |bitrate| u64::from(bitrate) * 125);
    let bytes = per_second * SEND_BUFFER.as_secs();
    (bytes as usize).clamp(*SEND_BUFFER_BYTES.start(), *SEND_BUFFER_BYTES.end())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::super::control::Control;
    use super::*;
    use crate::config::Config;
    use crate::media::format::SampleFormat;
    use crate::media::ring;

    const MONO: StreamFormat = StreamFormat { rate: 8_000, channels: 1, sample: SampleFormat::S16 };
    /// The frames of a block of the ring, and of a packet of FLAC.
    const BLOCK: usize = 100;
    const PACKET: u64 = 1152;

    /// Every frame of the input is in a packet or counted as lost: also those that waited in the encoder when others were lost.
    #[test]
    fn frames_that_wait_for_a_packet_when_others_are_lost_are_counted_with_them() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let text = format!("[input.live]\n[push.radio]\nto = 'icecast://{address}/a.ogg'\nformat = 'flac'\n");
        let config = Config::parse(&text, "w.toml").expect("it is right").pushes.remove(0);
        let control = Arc::new(Control::default());
        let connection = Connection::open(&[address], 8192, STEP, &control).expect("it listens");
        let (mut writer, ring) = ring::new(MONO, BLOCK as u32, Duration::from_secs(1)).expect("memory");
        let audio = Audio::of(&config, MONO);
        let mut session = Session::begin(&config, connection, String::new(), &ring, audio).expect("it opens");

        let mut publish = |blocks: usize| (0..blocks).for_each(|_| writer.publish(&[7; 2 * BLOCK], 0));
        // A packet, and a part of the next one.
        publish(15);
        assert!(session.take_sound().is_ok_and(|is_all| is_all));
        assert_eq!((session.queue.frames(), session.counts.lost_frames), (PACKET, 0));
        // The ring goes round.
        publish(200);
        let oldest = ring.reader_at(0).frame();
        while session.take_sound().is_ok_and(|is_all| !is_all) {}
        assert_eq!(session.position, 21_500);
        assert_eq!(session.counts.lost_frames, oldest - PACKET);
    }
}
