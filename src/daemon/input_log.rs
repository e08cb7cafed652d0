//! From the events of a capture thread to an input's state and the lines of the log.
//!
//! Pure: the functions here get an event and the time, and return the changes. One line is logged for each change of state,
//! however often a card is opened in vain in between. Overruns and stalls are logged as bursts.

use std::time::{Duration, Instant};

use log::Level;

use super::describe::OpenedSummary;
use crate::capture::dead_air::DeadAir;
use crate::capture::event::CaptureEventKind;
use crate::capture::source::OpenError;
use crate::config;
use crate::inputs::{Phase, SourceInfo, State, Trouble};
use crate::sys::burst::{Burst, Progress, Summary};

/// The time for which a card that has come back may refuse to open before the refusal is logged. The card belongs to root
/// until udev has set its group, so a short refusal is normal.
const UDEV_TIME: Duration = Duration::from_secs(1);

/// The advice for a device that delivers no sound.
const DEAD_AIR_ADVICE: &str = "check plug, cable and mute switch, and the capture level (alsamixer, F4)";

/// The log of one input: its condition, and the bursts that go on.
#[derive(Debug, Default)]
pub(super) struct InputLog {
    condition: Condition,
    overruns: BurstLog,
    stalls: BurstLog,
    dead_airs: BurstLog,
    /// The log has the last dead air, so it gets its end too.
    dead_air_was_logged: bool,
}

/// A line of the log, without the input's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogLine {
    pub(super) level: Level,
    pub(super) text: String,
}

/// The change of an input's state that its listeners, its page and `/status.json` see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StateChange {
    /// The source is open, and its first sound is in the ring.
    Capturing(SourceInfo),
    /// The source was lost. Listeners get silence.
    Lost {
        /// The reason.
        problem: String,
    },
    /// The phase stays, the problem is another one.
    Problem(String, Trouble),
    /// The source is open and delivers no sound.
    DeadAir {
        /// The reason.
        problem: String,
        /// The beginning.
        since: Instant,
    },
    /// The source was opened again because of dead air, which goes on.
    Reopened(SourceInfo),
    /// Sound came after dead air.
    SoundAgain,
}

impl StateChange {
    /// Changes `state`.
    pub(super) fn apply(self, state: &mut State) {
        match self {
            StateChange::Capturing(source) => {
                state.phase = Phase::Capturing;
                state.source = Some(source);
                state.problem = String::new();
                state.trouble = None;
                state.dead_air_since = None;
            }
            StateChange::Lost { problem } => {
                state.phase = Phase::Lost;
                state.problem = problem;
                state.trouble = Some(Trouble::Other);
                state.dead_air_since = None;
            }
            StateChange::Problem(problem, trouble) => {
                state.problem = problem;
                state.trouble = Some(trouble);
            }
            StateChange::DeadAir { problem, since } => {
                state.problem = problem;
                state.trouble = Some(Trouble::Other);
                state.dead_air_since = Some(since);
            }
            StateChange::Reopened(source) => state.source = Some(source),
            StateChange::SoundAgain => {
                state.problem = String::new();
                state.trouble = None;
                state.dead_air_since = None;
            }
        }
    }
}

impl InputLog {
    /// Takes in an event at `now`. `config` is the input's configuration.
    pub(super) fn event(
        &mut self,
        event: CaptureEventKind,
        now: Instant,
        config: &config::Input,
    ) -> (Vec<LogLine>, Option<StateChange>) {
        let first = match event {
            CaptureEventKind::Overrun => {
                let text = || "overrun: sound was lost that was not read in time".to_owned();
                Some(self.overruns.add(now, text))
            }
            CaptureEventKind::Silence { time } => {
                let seconds = time.as_secs_f64();
                let text = || format!("stall: no sound came for {seconds:.1} s; listeners heard silence");
                Some(self.stalls.add(now, text))
            }
            CaptureEventKind::DeadAir(dead_air) => return self.dead_air(dead_air, now),
            CaptureEventKind::SoundAgain { time } => return self.sound_again(time),
            CaptureEventKind::Reopening => {
                if self.condition == Condition::Capturing {
                    self.condition = Condition::Reopening;
                }
                return (Vec::new(), None);
            }
            _ => None,
        };
        if let Some(line) = first {
            return (line.into_iter().collect(), None);
        }
        let Outcome { condition, line, change } =
            advance(std::mem::take(&mut self.condition), event, now, config);
        self.condition = condition;
        (line.into_iter().collect(), change)
    }

    /// Returns the lines about bursts that are due at `now`.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<LogLine> {
        let logs = [
            (&mut self.overruns, "overruns"),
            (&mut self.stalls, "stalls"),
            (&mut self.dead_airs, "times of dead air"),
        ];
        logs.into_iter().filter_map(|(log, events)| log.report(now, events)).collect()
    }

    /// Returns the time at which [`tick`](Self::tick) has to be called. `None` while no burst goes on.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let bursts = [&self.overruns, &self.stalls, &self.dead_airs];
        bursts.into_iter().filter_map(|log| log.0.as_ref().map(Burst::next_report)).min()
    }

    fn dead_air(&mut self, dead_air: DeadAir, now: Instant) -> (Vec<LogLine>, Option<StateChange>) {
        let DeadAir { content, time, reopens } = dead_air;
        let line = self.dead_airs.add(now, || {
            let end = if reopens { "; it is opened again, once" } else { "" };
            format!(
                "dead air: the device has delivered {content} for {:.0} s{end}; {DEAD_AIR_ADVICE}",
                time.as_secs_f64()
            )
        });
        self.dead_air_was_logged = line.is_some();
        let problem = format!("the device delivers {content}; {DEAD_AIR_ADVICE}");
        let since = now.checked_sub(time).unwrap_or(now);
        (line.into_iter().collect(), Some(StateChange::DeadAir { problem, since }))
    }

    fn sound_again(&mut self, time: Duration) -> (Vec<LogLine>, Option<StateChange>) {
        let text = format!("sound again after {:.0} s of dead air", time.as_secs_f64());
        let line =
            std::mem::take(&mut self.dead_air_was_logged).then_some(LogLine { level: Level::Info, text });
        (line.into_iter().collect(), Some(StateChange::SoundAgain))
    }
}

/// The burst that goes on, of one kind of event.
#[derive(Debug, Default)]
struct BurstLog(Option<Burst>);

impl BurstLog {
    /// Counts an event. Returns the line for the first one of a burst.
    fn add(&mut self, now: Instant, text: impl FnOnce() -> String) -> Option<LogLine> {
        if let Some(burst) = &mut self.0 {
            burst.add(now);
            return None;
        }
        self.0 = Some(Burst::new(now));
        Some(warning(text()))
    }

    /// Returns the line that is due at `now`. `events` is the plural of the kind.
    fn report(&mut self, now: Instant, events: &str) -> Option<LogLine> {
        let progress = self.0.as_mut()?.progress(now);
        if matches!(progress, Progress::Over(_)) {
            self.0 = None;
        }
        let (summary, end) = match progress {
            Progress::Ongoing | Progress::Over(None) => return None,
            Progress::Long(summary) => (summary, "and more are coming"),
            Progress::Over(Some(summary)) => (summary, "none since"),
        };
        let Summary { count, time } = summary;
        let seconds = time.as_secs_f64();
        Some(warning(match count {
            // Of a burst that was reported while it went on.
            1 => format!("one more of the {events}, {end}"),
            _ => format!("{count} {events} within {seconds:.1} s, {end}"),
        }))
    }
}

/// The condition of an input, as the log has reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// The source was not open yet since the input started.
    Starting {
        /// The last reason why it did not open.
        refused: Option<Refused>,
    },
    /// Sound comes in.
    Capturing,
    /// The source is opened again because of dead air.
    Reopening,
    /// The source was open and is lost.
    Lost {
        loss: String,
        since: Instant,
        /// The last reason why it did not open again, other than its absence.
        refused: Option<Refused>,
    },
}

impl Default for Condition {
    fn default() -> Condition {
        Condition::Starting { refused: None }
    }
}

/// A reason why a source does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    advice: String,
    since: Instant,
    logged: bool,
}

/// The result of an event.
#[derive(Debug)]
struct Outcome {
    condition: Condition,
    line: Option<LogLine>,
    change: Option<StateChange>,
}

/// The state machine: `(condition, event, now)` to the next condition, a line for the log, and a change of state.
fn advance(condition: Condition, event: CaptureEventKind, now: Instant, config: &config::Input) -> Outcome {
    match event {
        CaptureEventKind::Opened(source) => opened(&condition, source, now, config),
        CaptureEventKind::OpenFailed(error) => open_failed(condition, error, now),
        CaptureEventKind::Lost(loss) => lost(condition, loss.to_string(), now),
        CaptureEventKind::RealtimeRefused(error) => {
            let text =
                format!("captured without real-time priority ({error}); a busy machine may lose sound");
            Outcome { condition, line: Some(LogLine { level: Level::Info, text }), change: None }
        }
        CaptureEventKind::HistoryShortened(shortened) => {
            Outcome { condition, line: Some(warning(shortened.to_string())), change: None }
        }
        CaptureEventKind::ClockOff { ppm } => {
            let text = format!(
                "the clock of the sound card is off by {ppm:.0} ppm: its true rate is not the one that it reports"
            );
            Outcome { condition, line: Some(warning(text)), change: None }
        }
        // Handled in `InputLog::event`.
        CaptureEventKind::Overrun
        | CaptureEventKind::Silence { .. }
        | CaptureEventKind::DeadAir(_)
        | CaptureEventKind::Reopening
        | CaptureEventKind::SoundAgain { .. } => Outcome { condition, line: None, change: None },
    }
}

fn opened(condition: &Condition, source: SourceInfo, now: Instant, config: &config::Input) -> Outcome {
    let back = match condition {
        Condition::Lost { since, .. } => {
            format!("back after {:.1} s: ", now.duration_since(*since).as_secs_f64())
        }
        Condition::Reopening => {
            return Outcome {
                condition: Condition::Capturing,
                line: None,
                change: Some(StateChange::Reopened(source)),
            };
        }
        Condition::Starting { .. } | Condition::Capturing => String::new(),
    };
    let text = format!("{back}{}", OpenedSummary { source: &source, config });
    Outcome {
        condition: Condition::Capturing,
        line: Some(LogLine { level: Level::Info, text }),
        change: Some(StateChange::Capturing(source)),
    }
}

fn open_failed(condition: Condition, error: OpenError, now: Instant) -> Outcome {
    match condition {
        // The loss says it already: listeners, log and page wait for the card to come back.
        Condition::Lost { loss, since, .. } if error.trouble == Trouble::Absent => Outcome {
            change: Some(StateChange::Problem(loss.clone(), error.trouble)),
            condition: Condition::Lost { loss, since, refused: None },
            line: None,
        },
        Condition::Lost { loss, since, refused } => {
            let (refused, is_news) = refuse(refused, error.advice, now, UDEV_TIME);
            let problem = || StateChange::Problem(format!("{loss}; {}", refused.advice), error.trouble);
            let change = is_news.then(problem);
            let line = is_news.then(|| warning(refused.advice.clone()));
            Outcome { condition: Condition::Lost { loss, since, refused: Some(refused) }, line, change }
        }
        // Only an opener that a reload has replaced can fail while another source captures. Its device does not matter now.
        Condition::Capturing => Outcome { condition, line: None, change: None },
        // The device was closed, and does not open any more.
        Condition::Reopening => lost(Condition::Capturing, error.advice, now),
        Condition::Starting { refused } => {
            let (refused, is_news) = refuse(refused, error.advice, now, Duration::ZERO);
            let change = is_news.then(|| StateChange::Problem(refused.advice.clone(), error.trouble));
            let line = is_news.then(|| warning(refused.advice.clone()));
            Outcome { condition: Condition::Starting { refused: Some(refused) }, line, change }
        }
    }
}

/// Returns the refusal with its new state, and `true` if it is to be logged now: once, when it has lasted for `patience`.
fn refuse(earlier: Option<Refused>, advice: String, now: Instant, patience: Duration) -> (Refused, bool) {
    let mut refused = match earlier {
        Some(earlier) if earlier.advice == advice => earlier,
        _ => Refused { advice, since: now, logged: false },
    };
    let lasts = now.duration_since(refused.since) >= patience;
    let is_news = lasts && !refused.logged;
    refused.logged |= lasts;
    (refused, is_news)
}

fn lost(condition: Condition, loss: String, now: Instant) -> Outcome {
    // A card that opens each time and fails at the first read is lost again and again for the same reason.
    let (since, is_news) = match condition {
        Condition::Lost { since, loss: earlier, .. } => (since, earlier != loss),
        Condition::Starting { .. } | Condition::Capturing | Condition::Reopening => (now, true),
    };
    let text = format!("{loss}; listeners hear silence, waiting for it to come back");
    Outcome {
        line: is_news.then(|| warning(text)),
        change: Some(StateChange::Lost { problem: loss.clone() }),
        condition: Condition::Lost { loss, since, refused: None },
    }
}

fn warning(text: String) -> LogLine {
    LogLine { level: Level::Warn, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::dead_air::DeadContent;
    use crate::capture::source::SourceLost;
    use crate::inputs::LiveInput;
    use crate::media::format::SourceSample;

    fn source() -> SourceInfo {
        SourceInfo {
            device: "hw:1".to_owned(),
            card: None,
            rate: 44_100,
            channels: 2,
            sample: SourceSample::S16,
            block_frames: 441,
            buffer_frames: 22_050,
        }
    }

    fn opened() -> CaptureEventKind {
        CaptureEventKind::Opened(source())
    }

    fn busy() -> CaptureEventKind {
        CaptureEventKind::OpenFailed(OpenError { advice: "busy".to_owned(), trouble: Trouble::Other })
    }

    fn absent() -> CaptureEventKind {
        CaptureEventKind::OpenFailed(OpenError { advice: "not there".to_owned(), trouble: Trouble::Absent })
    }

    fn unplugged() -> CaptureEventKind {
        CaptureEventKind::Lost(SourceLost::Unplugged)
    }

    /// The problem of a state change; `-` for a source that captures, nothing where the state stays.
    fn problem(change: Option<StateChange>) -> String {
        match change {
            None => String::new(),
            Some(StateChange::Capturing(_)) => "-".to_owned(),
            Some(StateChange::Lost { problem }) => format!("lost: {problem}"),
            Some(StateChange::Problem(problem, _)) => problem,
            Some(StateChange::DeadAir { .. }) => "dead".to_owned(),
            Some(StateChange::Reopened(_)) => "reopened".to_owned(),
            Some(StateChange::SoundAgain) => "sound".to_owned(),
        }
    }

    /// An event at a time in seconds, the beginning of the line that it logs, and the problem that it sets.
    type Step = (f64, fn() -> CaptureEventKind, &'static str, &'static str);

    fn check(steps: &[Step]) {
        let (start, config) = (Instant::now(), config::Input::default());
        let mut log = InputLog::default();
        for (at, event, line, expected) in steps {
            let now = start + Duration::from_secs_f64(*at);
            log.tick(now);
            let (lines, change) = log.event(event(), now, &config);
            let text = lines.first().map_or("", |line| line.text.as_str());
            assert!(lines.len() <= 1, "{at}: {lines:?}");
            assert!(text.starts_with(line) && text.is_empty() == line.is_empty(), "{at}: {text:?}");
            assert_eq!(problem(change), *expected, "{at}");
        }
    }

    #[test]
    fn a_card_that_comes_late_is_logged_once_and_when_it_opens() {
        check(&[
            (0.0, absent, "not there", "not there"),
            (0.1, absent, "", ""),
            (5.0, absent, "", ""),
            (6.0, busy, "busy", "busy"),
            (7.0, absent, "not there", "not there"),
            (8.0, opened, "capturing from hw:1", "-"),
        ]);
    }

    #[test]
    fn a_card_that_is_unplugged_and_comes_back_has_two_lines() {
        let lost = "lost: the sound card was unplugged";
        check(&[
            (0.0, opened, "capturing from", "-"),
            (9.0, unplugged, "the sound card was unplugged; listeners hear silence", lost),
            (9.1, absent, "", "the sound card was unplugged"),
            (9.3, absent, "", "the sound card was unplugged"),
            (12.4, opened, "back after 3.4 s: capturing from", "-"),
            (13.0, unplugged, "the sound card was unplugged; listeners", lost),
        ]);
    }

    #[test]
    fn a_refusal_of_a_card_that_came_back_is_logged_when_it_lasts() {
        let lost = "lost: the sound card was unplugged";
        check(&[
            (0.0, opened, "capturing from", "-"),
            (1.0, unplugged, "the sound card was unplugged", lost),
            (2.0, busy, "", ""),
            (2.5, busy, "", ""),
            (3.0, busy, "busy", "the sound card was unplugged; busy"),
            (3.5, busy, "", ""),
            // The card is away again: a later refusal is a new one.
            (4.0, absent, "", "the sound card was unplugged"),
            (5.0, busy, "", ""),
            (5.9, busy, "", ""),
            (6.0, busy, "busy", "the sound card was unplugged; busy"),
            (7.0, opened, "back after 6.0 s: ", "-"),
        ]);
    }

    #[test]
    fn a_card_that_fails_at_every_first_read_is_logged_once() {
        let lost = "lost: the sound card was unplugged";
        check(&[
            (0.0, unplugged, "the sound card was unplugged", lost),
            (0.1, unplugged, "", lost),
            (0.3, unplugged, "", lost),
            (9.0, opened, "back after 9.0 s", "-"),
        ]);
    }

    #[test]
    fn a_failed_open_means_nothing_while_sound_comes_in() {
        check(&[
            (0.0, opened, "capturing from", "-"),
            (1.0, busy, "", ""),
            (2.0, absent, "", ""),
            (3.0, unplugged, "the sound card was unplugged", "lost: the sound card was unplugged"),
        ]);
    }

    #[test]
    fn overruns_are_logged_as_bursts_and_a_single_one_has_no_summary() {
        let (start, config) = (Instant::now(), config::Input::default());
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut log = InputLog::default();
        let overrun =
            |log: &mut InputLog, seconds| log.event(CaptureEventKind::Overrun, at(seconds), &config).0.len();
        assert_eq!(log.next_tick(), None);
        assert_eq!(overrun(&mut log, 0.0), 1);
        assert_eq!(log.next_tick(), Some(at(10.0)));
        assert_eq!(log.tick(at(10.0)), []);
        assert_eq!(log.next_tick(), None);
        let lines: usize = (0..5).map(|n| overrun(&mut log, 20.0 + f64::from(n))).sum();
        assert_eq!(lines, 1);
        assert_eq!(log.tick(at(33.9)), []);
        let line = log.tick(at(34.0)).pop().expect("the burst is over");
        assert_eq!((line.level, line.text.as_str()), (Level::Warn, "5 overruns within 4.0 s, none since"));
        assert_eq!(log.next_tick(), None);
    }

    #[test]
    fn overruns_that_never_pause_are_logged_every_minute() {
        let (start, config) = (Instant::now(), config::Input::default());
        let mut log = InputLog::default();
        let mut lines = Vec::new();
        for event in 0..140 {
            let now = start + Duration::from_secs_f64(0.9 * f64::from(event));
            log.event(CaptureEventKind::Overrun, now, &config);
            lines.extend(log.tick(now).into_iter().map(|line| line.text));
        }
        assert_eq!(
            lines,
            [
                "68 overruns within 60.3 s, and more are coming",
                "67 overruns within 60.3 s, and more are coming"
            ]
        );
    }

    fn dead_air(reopens: bool) -> CaptureEventKind {
        CaptureEventKind::DeadAir(DeadAir {
            content: DeadContent::Zeros,
            time: Duration::from_secs(60),
            reopens,
        })
    }

    fn sound_again() -> CaptureEventKind {
        CaptureEventKind::SoundAgain { time: Duration::from_secs(75) }
    }

    #[test]
    fn dead_air_has_one_line_at_its_beginning_and_one_at_its_end() {
        check(&[
            (0.0, opened, "capturing from", "-"),
            (
                60.0,
                || dead_air(true),
                "dead air: the device has delivered zeros only for 60 s; it is",
                "dead",
            ),
            (60.0, || CaptureEventKind::Reopening, "", ""),
            (60.2, opened, "", "reopened"),
            (75.0, sound_again, "sound again after 75 s of dead air", "sound"),
            (
                200.0,
                || dead_air(false),
                "dead air: the device has delivered zeros only for 60 s; check",
                "dead",
            ),
            (205.0, sound_again, "sound again", "sound"),
            // Part of the burst that goes on.
            (206.0, || dead_air(false), "", "dead"),
            (207.0, sound_again, "", "sound"),
            (208.0, unplugged, "the sound card was unplugged", "lost: the sound card was unplugged"),
        ]);
    }

    #[test]
    fn a_device_that_does_not_open_again_after_dead_air_is_lost() {
        check(&[
            (0.0, opened, "capturing from", "-"),
            (60.0, || dead_air(true), "dead air", "dead"),
            (60.0, || CaptureEventKind::Reopening, "", ""),
            (60.2, absent, "not there; listeners hear silence", "lost: not there"),
            (60.9, absent, "", "not there"),
            (64.2, opened, "back after 4.0 s: capturing from", "-"),
        ]);
    }

    #[test]
    fn the_state_has_dead_air_until_sound_comes_or_the_source_is_lost() {
        let (start, config) = (Instant::now(), config::Input::default());
        let input = LiveInput::new("live", "hw:1");
        let mut log = InputLog::default();
        let mut event = |event| {
            let (_, change) = log.event(event, start + Duration::from_secs(90), &config);
            input.change(|state| {
                if let Some(change) = change {
                    change.apply(state);
                }
            });
            let state = input.state();
            (state.dead_air_since, state.problem)
        };
        let dead = (
            Some(start + Duration::from_secs(30)),
            format!("the device delivers zeros only; {DEAD_AIR_ADVICE}"),
        );
        event(opened());
        assert_eq!(event(dead_air(true)), dead);
        event(CaptureEventKind::Reopening);
        assert_eq!(event(opened()), dead, "opened again, and dead air still");
        assert_eq!(event(sound_again()), (None, String::new()));
        event(dead_air(false));
        assert_eq!(event(unplugged()), (None, "the sound card was unplugged".to_owned()));
    }
}
