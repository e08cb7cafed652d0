//! The report: the figures as a table, in the terminal or in Markdown, and a comparison with the targets.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use super::{FORMAT, FloorServed, HISTORY, Options, PERIOD, PeerServed, Served, Step};
use crate::crowd::{Gap, Start};
use crate::peers::Peer;
use crate::plot::{self, Line};

/// All results of the benchmark.
pub(crate) struct Report<'a> {
    pub(crate) machine: String,
    /// The start of the measurements.
    pub(crate) began: Instant,
    /// The number of cores that other processes kept busy meanwhile.
    pub(crate) busy: f64,
    /// Stalls of the machine itself; `None` if they cannot be measured.
    pub(crate) stalls: Option<Vec<Gap>>,
    pub(crate) options: &'a Options,
    /// The time to measure the levels of one block.
    pub(crate) levels: Duration,
    pub(crate) starts: Starts,
    pub(crate) rows: Vec<Row>,
    pub(crate) others: Vec<PeerRow>,
}

/// A peer at one number of listeners.
pub(crate) struct PeerRow {
    pub(crate) peer: Peer,
    pub(crate) listeners: usize,
    pub(crate) served: Vec<PeerServed>,
}

/// The waiting times of players for their first sound.
#[derive(Default)]
pub(crate) struct Starts {
    /// Players that get a burst of the last half second.
    pub(crate) ordinary: Vec<Start>,
    /// Players with `latency=low`, which start with the next block.
    pub(crate) low_latency: Vec<Start>,
}

/// A step and the measurements of its rounds.
pub(crate) struct Row {
    pub(crate) step: Step,
    pub(crate) served: Vec<Served>,
    pub(crate) floor: Vec<FloorServed>,
}

impl Row {
    pub(crate) fn new(step: Step) -> Row {
        Row { step, served: Vec::new(), floor: Vec::new() }
    }

    fn served(&self, figure: impl Fn(&Served) -> f64) -> Figure {
        Figure::of(self.served.iter().map(figure))
    }

    fn floor(&self, figure: impl Fn(&FloorServed) -> f64) -> Figure {
        Figure::of(self.floor.iter().map(figure))
    }

    /// Returns whether the step uses the default interval and latency.
    fn is_default(&self) -> bool {
        self.step.interval_ms.is_none() && !self.step.low_latency
    }

    /// Converts CPU time per second to µs for each listener and second.
    fn micros(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.step.listeners as f64
    }

    /// Returns the interval between two sends to a listener, in ms.
    fn interval(&self) -> f64 {
        self.served(|served| ms(FORMAT.duration_of((served.blocks * PERIOD) as u64))).median
    }

    /// Returns the CPU time as a multiple of the floor's in the same round.
    fn ratio(&self) -> Figure {
        let rounds = self.served.iter().zip(&self.floor);
        Figure::of(rounds.map(|(served, floor)| served.cpu.as_secs_f64() / floor.cpu.as_secs_f64()))
    }

    /// Returns the latency from capture to the kernel over the listeners of all rounds: medians and 99th percentiles.
    fn latency(&self) -> (Figure, Figure) {
        let all = || self.served.iter().flat_map(|served| &served.status.latency);
        (Figure::of(all().map(|latency| latency.0)), Figure::of(all().map(|latency| latency.1)))
    }

    /// Returns the resident memory that one listener adds, in KB.
    fn memory_of_one(&self, nobody: &Row) -> f64 {
        (self.served(|s| s.size.rss).median - nobody.served(|s| s.size.rss).median)
            / self.step.listeners as f64
    }

    /// Returns the sum of lost and wrong frames, frames that the server reports as skipped, and ended streams.
    fn missing(&self) -> u64 {
        self.served
            .iter()
            .map(|served| served.heard.lost + served.heard.wrong + served.status.skipped + served.heard.ended)
            .sum()
    }
}

/// A figure over several rounds: median and range.
#[derive(Clone, Copy)]
struct Figure {
    median: f64,
    least: f64,
    most: f64,
}

impl Figure {
    fn of(values: impl Iterator<Item = f64>) -> Figure {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (values.first().copied(), values.last().copied());
        Figure {
            median: quantile(&values, 0.5),
            least: least.unwrap_or(f64::NAN),
            most: most.unwrap_or(f64::NAN),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        if self.median.is_nan() {
            return Ok(());
        }
        write!(f, "{:.digits$}", self.median)?;
        let shown = |value: f64| format!("{value:.digits$}");
        if shown(self.least) != shown(self.most) {
            write!(f, " ({:.digits$}–{:.digits$})", self.least, self.most)?;
        }
        Ok(())
    }
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.max(1) - 1).copied().unwrap_or(f64::NAN)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Report<'_> {
    /// Renders the report for a terminal.
    pub(crate) fn text(&self) -> String {
        self.render(Style::Text)
    }

    /// Renders the report for a README.
    pub(crate) fn markdown(&self) -> String {
        self.render(Style::Markdown)
    }

    fn render(&self, style: Style) -> String {
        let gap = if style == Style::Markdown { "\n\n" } else { "\n" };
        let mut out = format!("{}{gap}", self.machine);
        let _ = write!(
            out,
            "{FORMAT}, periods of {} ms, loopback; {} × {} s for each line, medians and (ranges); \
             others kept {:.2} cores busy meanwhile",
            ms(FORMAT.duration_of(PERIOD as u64)),
            self.options.rounds,
            self.options.time.as_secs(),
            self.busy
        );
        if let Some(stalls) = &self.stalls {
            let longest = stalls.iter().map(Gap::length).max().unwrap_or_default();
            let _ = write!(out, "; the machine stood still for up to {:.0} ms", ms(longest));
        }
        out.push_str("\n\n");
        if !self.options.endurance {
            let _ = writeln!(
                out,
                "Levels of a block: {:.2} µs, {:.4} of a core\n",
                self.levels.as_secs_f64() * 1e6,
                self.levels.as_secs_f64() / FORMAT.duration_of(PERIOD as u64).as_secs_f64()
            );
            let head = ["Start of a player, from before it connects", "median ms", "p99 ms"];
            out += &table(style, &head, self.starts());
            out += "\n";
        }
        out += &table(style, &SERVING, self.serving());
        out += "\n";
        if !self.others.is_empty() {
            out += &table(style, &OTHERS, self.compared());
            let versions: Vec<String> = self.options.peers.iter().filter_map(|peer| peer.version()).collect();
            let _ = writeln!(out, "\n{}\n", versions.join(", "));
        }
        if self.options.endurance {
            out += &self.gaps();
        }
        if style == Style::Text {
            out += NOTES;
        }
        for (met, target) in self.targets() {
            let bullet = if style == Style::Markdown { "- " } else { "" };
            let _ = writeln!(out, "{bullet}{}: {target}", if met { "met" } else { "NOT met" });
        }
        out
    }

    fn starts(&self) -> Vec<Vec<String>> {
        let row = |label: &str, times: Vec<f64>| {
            vec![
                label.to_owned(),
                format!("{:.2}", quantile(&times, 0.5)),
                format!("{:.2}", quantile(&times, 0.99)),
            ]
        };
        let Starts { ordinary, low_latency } = &self.starts;
        vec![
            row("first sound, from the burst", sorted(ordinary, |start| start.sound)),
            row("latency=low: WAV header", sorted(low_latency, |start| start.header)),
            row(
                "latency=low: first sound, which is the next block",
                sorted(low_latency, |start| start.sound),
            ),
        ]
    }

    fn serving(&self) -> Vec<Vec<String>> {
        let nobody = self.nobody();
        self.rows
            .iter()
            .map(|row| {
                let mut cells = vec![
                    row.step.to_string(),
                    String::new(),
                    format!("{:.2}", row.served(|served| served.cpu.as_secs_f64() * 100.0)),
                ];
                if row.step.listeners > 0 {
                    cells[1] = format!("{:.0} ms", row.interval());
                    let (median, p99) = row.latency();
                    let late = |share| row.served(|served| ms(served.heard.lateness(share)));
                    let floor_late = row.floor(|floor| ms(floor.heard.lateness(0.99)));
                    cells.extend([
                        format!("{:.0}", row.served(|served| row.micros(served.cpu))),
                        format!("{:.0}", row.floor(|floor| row.micros(floor.cpu))),
                        format!("{:.2}", row.ratio()),
                        format!("{:.2}", median.median),
                        format!("{:.2} / {:.2}", p99.median, p99.most),
                        format!("{:.2}", late(0.5).median),
                        format!("{:.2}", late(0.99).median),
                        format!("{:.2}", floor_late.median),
                        format!("{:.0}", row.served(|served| ms(served.heard.largest_gap)).most),
                        row.missing().to_string(),
                    ]);
                }
                cells.resize(SERVING.len() - 5, String::new());
                let blocks = 1.0 / FORMAT.duration_of(PERIOD as u64).as_secs_f64();
                cells.push(format!("{:.0}", row.served(|s| s.capture.as_secs_f64() * 1e6 / blocks).median));
                // A share of ticks of 10 ms is undefined if no tick was counted.
                let system = row.served(|s| s.system * 100.0).median;
                cells.push(if system.is_nan() { String::new() } else { format!("{system:.0} %") });
                cells.push(format!("{:.1}", row.served(|served| served.size.rss).median / 1000.0));
                cells.push(match (row.step.listeners, nobody) {
                    // With fewer listeners a page or two more or less would dominate the figure.
                    (10.., Some(nobody)) => format!("{:.1}", row.memory_of_one(nobody)),
                    _ => String::new(),
                });
                cells.push(format!("{:.0}", row.served(|served| served.size.threads).median));
                cells
            })
            .collect()
    }

    /// Returns the rows of the comparison between the daemon and the peers.
    fn compared(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        let micros = |cpu: Duration, listeners: usize| cpu.as_secs_f64() * 1e6 / listeners as f64;
        let first = quantile(&sorted(&self.starts.ordinary, |start| start.sound), 0.5);
        for row in self.rows.iter().filter(|row| row.is_default() && row.step.listeners > 0) {
            rows.push((
                row.step.listeners,
                vec![
                    "wavecast".to_owned(),
                    row.step.listeners.to_string(),
                    format!("{:.0}", row.served(|served| row.micros(served.cpu))),
                    format!("{:.0} ms", row.interval()),
                    format!("{:.1}", row.served(|served| served.size.rss).median / 1000.0),
                    format!("{:.0}", row.served(|served| served.size.threads).median),
                    format!("{first:.1}"),
                    format!("{:.0}", row.served(|served| ms(served.heard.largest_gap)).most),
                    row.missing().to_string(),
                ],
            ));
        }
        for PeerRow { peer, listeners, served } in &self.others {
            let figure = |of: &dyn Fn(&PeerServed) -> f64| Figure::of(served.iter().map(of));
            let reads = figure(&|served| served.heard.reads as f64).median / *listeners as f64;
            let missing: u64 = served.iter().map(|s| s.heard.lost + s.heard.wrong + s.heard.ended).sum();
            rows.push((
                *listeners,
                vec![
                    peer.to_string(),
                    listeners.to_string(),
                    format!("{:.0}", figure(&|served| micros(served.cpu, *listeners))),
                    format!("{:.0} ms", ms(self.options.time) / reads),
                    format!("{:.1}", figure(&|served| served.size.rss).median / 1000.0),
                    format!("{:.0}", figure(&|served| served.size.threads).median),
                    format!("{:.1}", figure(&|served| ms(served.start.sound)).median),
                    format!("{:.0}", figure(&|served| ms(served.heard.largest_gap)).most),
                    missing.to_string(),
                ],
            ));
        }
        rows.sort_by_key(|(listeners, _)| *listeners);
        rows.into_iter().map(|(_, cells)| cells).collect()
    }

    /// Plots CPU against listeners, for all servers.
    pub(crate) fn plot(&self) -> Option<String> {
        let rows: Vec<&Row> =
            self.rows.iter().filter(|row| row.is_default() && row.step.listeners > 0).collect();
        let percent = |cpu: Duration| cpu.as_secs_f64() * 100.0;
        let points = |of: &dyn Fn(&Row) -> f64| {
            rows.iter().map(|row| (row.step.listeners as f64, of(row))).collect::<Vec<_>>()
        };
        let mut lines = vec![
            Line {
                name: "wavecast".to_owned(),
                points: points(&|row| row.served(|served| percent(served.cpu)).median),
                ours: true,
            },
            Line {
                name: "(the floor)".to_owned(),
                points: points(&|row| row.floor(|floor| percent(floor.cpu)).median),
                ours: false,
            },
        ];
        for peer in &self.options.peers {
            let of_peer = self.others.iter().filter(|row| row.peer == *peer);
            let points = of_peer.map(|row| {
                let cpu = Figure::of(row.served.iter().map(|served| percent(served.cpu)));
                (row.listeners as f64, cpu.median)
            });
            lines.push(Line { name: peer.to_string(), points: points.collect(), ours: false });
        }
        plot::svg("CPU of the server, % of one core", &lines)
    }

    fn nobody(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.step.listeners == 0)
    }

    /// Lists the longest gaps of the listeners: time, number of listeners, and simultaneous stalls.
    fn gaps(&self) -> String {
        const MOST: usize = 10;
        let heard = || self.rows.iter().flat_map(|row| &row.served).map(|served| &served.heard);
        let mut gaps: Vec<Gap> = heard().flat_map(|heard| heard.gaps.iter().copied()).collect();
        gaps.sort_by_key(|gap| gap.ended);
        let rounds: Vec<Gap> = heard().flat_map(|heard| heard.rounds.iter().copied()).collect();
        let stalls = self.stalls.as_deref().unwrap_or_default();
        let mut events: Vec<(Duration, String)> = gaps
            .chunk_by(|one, next| next.began <= one.ended)
            .map(|gaps| {
                let longest = gaps.iter().map(Gap::length).max().unwrap_or_default();
                let began = gaps.iter().map(|gap| gap.began).min().unwrap_or(self.began);
                let ended = gaps.iter().map(|gap| gap.ended).max().unwrap_or(self.began);
                let meanwhile = |others: &[Gap]| {
                    let those = others.iter().filter(|other| other.began < ended && began < other.ended);
                    let each: Vec<String> = those.map(|other| format!("{:.0}", ms(other.length()))).collect();
                    if each.is_empty() { "0".to_owned() } else { each.join(" + ") }
                };
                let event = format!(
                    "at {:.1} s {} listeners heard nothing for up to {:.0} ms; the machine stood still for {} ms, \
                     this side was at work for {} ms",
                    (began - self.began).as_secs_f64(),
                    gaps.len(),
                    ms(longest),
                    meanwhile(stalls),
                    meanwhile(&rounds)
                );
                (longest, event)
            })
            .collect();
        events.sort_by_key(|(longest, _)| std::cmp::Reverse(*longest));
        let mut out = format!("{} times somebody heard nothing for 150 ms or more", events.len());
        out += if events.len() > MOST { "; the longest of them:\n" } else { "\n" };
        for (_, event) in events.iter().take(MOST) {
            let _ = writeln!(out, "{event}");
        }
        out + "\n"
    }

    /// Returns each target of the project that these figures cover, and whether the target is met.
    fn targets(&self) -> Vec<(bool, String)> {
        let mut targets = Vec::new();
        if !self.options.endurance {
            let first = quantile(&sorted(&self.starts.ordinary, |start| start.sound), 0.5);
            targets.push((first < 5.0, format!("first sound under 5 ms at the median: {first:.2} ms")));
        }
        let default = |step: &Step| step.interval_ms.is_none();
        for row in self.rows.iter().filter(|row| row.step.listeners > 0 && default(&row.step)) {
            let p99 = row.latency().1.median;
            let target = format!(
                "at most 1 ms from capture to socket at the 99th percentile, {}: {p99:.2} ms",
                row.step
            );
            targets.push((p99 <= 1.0, target));
        }
        if let Some(nobody) = self.nobody() {
            let percent = nobody.served(|served| served.capture.as_secs_f64() * 100.0).median;
            let target = format!("the capture thread under 0.2 % of a core with nobody: {percent:.2} %");
            targets.push((percent < 0.2, target));
        }
        if let Some(row) = self.rows.iter().find(|row| row.step.listeners == 1 && row.is_default()) {
            let percent = row.served(|served| served.cpu.as_secs_f64() * 100.0).median;
            targets.push((percent < 0.5, format!("one listener under 0.5 % of a core: {percent:.2} %")));
        }
        let compared = self.options.compared();
        for row in self.rows.iter().filter(|row| row.step.listeners == compared && !row.step.low_latency) {
            let (ratio, interval) = (row.ratio().median, row.interval());
            if row.floor.is_empty() {
                let gap = row.served(|served| ms(served.heard.largest_gap)).most;
                targets.push((gap <= 200.0, format!("no gap over 200 ms, {}: {gap:.0} ms", row.step)));
                continue;
            }
            let target = format!(
                "at most 1.5 × the floor at {compared} listeners, every {interval:.0} ms: {ratio:.2}"
            );
            targets.push((ratio <= 1.5, target));
        }
        if let Some(nobody) = self.nobody() {
            let history = FORMAT.frames_in(HISTORY) as f64 * FORMAT.frame_bytes() as f64 / 1e6;
            let megabytes = nobody.served(|served| served.size.rss).median / 1000.0;
            targets.push((
                megabytes <= 4.0 + history,
                format!("at most 4 MB and the history's {history:.1} MB of memory: {megabytes:.1} MB"),
            ));
            if let Some(row) = self
                .rows
                .iter()
                .find(|row| compared >= 10 && row.step.listeners == compared && default(&row.step))
            {
                let one = row.memory_of_one(nobody);
                targets
                    .push((one <= 24.0, format!("at most 24 KB more per listener, {compared}: {one:.1} KB")));
            }
        }
        for peer in self.others.iter().filter(|row| row.listeners == compared) {
            let theirs =
                Figure::of(peer.served.iter().map(|s| s.cpu.as_secs_f64() * 1e6 / compared as f64)).median;
            if let Some(row) = self.rows.iter().find(|row| row.step.listeners == compared && row.is_default())
            {
                let ours = row.served(|served| row.micros(served.cpu)).median;
                let target = format!(
                    "less CPU than {} for {compared} listeners: {:.2} of it",
                    peer.peer,
                    ours / theirs
                );
                targets.push((ours < theirs, target));
            }
        }
        let missing: u64 = self.rows.iter().map(Row::missing).sum();
        let overruns: u64 =
            self.rows.iter().flat_map(|row| &row.served).map(|served| served.status.overruns).sum();
        let target = format!("nobody misses a frame: {missing} missing, {overruns} overruns of the source");
        targets.push((missing == 0, target));
        targets
    }
}

fn sorted(starts: &[Start], time: impl Fn(&Start) -> Duration) -> Vec<f64> {
    let mut times: Vec<f64> = starts.iter().map(|start| ms(time(start))).collect();
    times.sort_by(f64::total_cmp);
    times
}

const SERVING: [&str; 18] = [
    "listeners",
    "served every",
    "% of a core",
    "µs/listener·s",
    "floor's",
    "ratio",
    "added ms",
    "p99 / worst",
    "late ms",
    "p99",
    "floor's p99",
    "gap ms",
    "missing",
    "capture µs",
    "system",
    "RSS MB",
    "KB/listener",
    "threads",
];

const OTHERS: [&str; 9] = [
    "server",
    "listeners",
    "µs/listener·s",
    "served every",
    "RSS MB",
    "threads",
    "first sound ms",
    "gap ms",
    "missing",
];

const NOTES: &str = "\
µs/listener·s  CPU time of the server, user and system, for each listener and second; then the floor's for the
       same work at the same interval, right after it, and what the one is of the other
added  from capture to the kernel, from the blocks' own times, as status.json has it: the middle listener's median
       and 99th percentile, and the worst listener's; up to a quarter octave too high, and from a listener's start on
late   the same from the other end: later at the listener than the fastest of all blocks, with the listeners' own work
gap    the longest that any listener got nothing
missing  frames lost, replaced or left out, and streams that ended
capture  CPU time of the capture thread for each block
system  how much of the CPU time was the kernel's

";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Text,
    Markdown,
}

/// Renders a table with the first column left-aligned and the other columns right-aligned.
fn table(style: Style, head: &[&str], rows: Vec<Vec<String>>) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let (start, between, end) = match style {
        Style::Text => ("", "  ", ""),
        Style::Markdown => ("| ", " | ", " |"),
    };
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("{start}{}{end}\n", cells.collect::<Vec<_>>().join(between))
    };
    let mut out = line(head.to_vec());
    let rule = |(column, width): (usize, &usize)| match (style, column) {
        (Style::Markdown, 1..) => "-".repeat(width - 1) + ":",
        _ => "-".repeat(*width),
    };
    let rules: Vec<String> = widths.iter().enumerate().map(rule).collect();
    out += &line(rules.iter().map(String::as_str).collect());
    for row in &rows {
        out += &line(row.iter().map(String::as_str).collect());
    }
    out
}
