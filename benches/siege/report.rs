//! The figures as Markdown tables, and the goals that they meet or miss.

use std::fmt::Write as _;
use std::time::Duration;

use crate::attacker::Counts;
use crate::attacks::Attack;
use crate::measure::{IdleCost, Noise, Siege};
use crate::short::{KINDS, Times};

/// The longest wait of a newcomer on a quiet machine.
const NEWCOMER_SERVED: Duration = Duration::from_millis(100);
/// Threads above idle, besides one for each stream that the attackers ask for at once.
const THREADS_ABOVE_IDLE: u64 = 32;
/// Share of a core that the gate thread may use with 1000 listeners and nobody new.
const GATE_SHARE: f64 = 0.001;
/// Time of a short request as a multiple of the first program's. The margin is for noise.
const SHORT_RATIO: f64 = 1.1;
/// A machine is quiet when others use less than this number of cores, and the host takes less than this time.
const QUIET: (f64, Duration) = (0.1, Duration::from_millis(50));

/// All figures of a run.
pub(crate) struct Report {
    pub(crate) machine: String,
    /// The names of the programs, in the order of all lists below.
    pub(crate) programs: Vec<String>,
    pub(crate) sieges: Vec<AttackRow>,
    /// One for each program, where measured.
    pub(crate) idle_costs: Vec<Result<IdleCost, String>>,
    pub(crate) short: Option<Result<Vec<Times>, String>>,
}

/// One attack on all programs.
pub(crate) struct AttackRow {
    pub(crate) attack: &'static Attack,
    pub(crate) results: Vec<Result<Siege, String>>,
}

/// A goal with the figure that decides it.
pub(crate) struct Goal {
    pub(crate) is_met: bool,
    pub(crate) text: String,
}

impl Report {
    /// Returns the tables and the goals as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("{}\n\n", self.machine);
        if !self.sieges.is_empty() {
            out += &table(&SIEGE, self.siege_rows());
            out += "\n";
        }
        if !self.idle_costs.is_empty() {
            out += &table(&IDLE_COST, self.idle_cost_rows());
            out += "\n";
        }
        if let Some(Ok(times)) = &self.short {
            let names = self.programs.iter().map(|name| format!("{name}: median µs (p99)"));
            let head: Vec<String> = ["request".to_owned()].into_iter().chain(names).collect();
            let head: Vec<&str> = head.iter().map(String::as_str).collect();
            out += &table(&head, short_rows(times));
            out += "\n";
        }
        for goal in self.goals() {
            let verdict = if goal.is_met { "met" } else { "MISSED" };
            let _ = writeln!(out, "- {verdict}: {}", goal.text);
        }
        out
    }

    /// Returns all goals that this run says something about.
    pub(crate) fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for (program, name) in self.programs.iter().enumerate() {
            let mut of_program = self.siege_goals(program);
            match self.idle_costs.get(program) {
                None => {}
                Some(Ok(cost)) => of_program.extend(idle_cost_goals(cost)),
                Some(Err(error)) => of_program.push(Goal::missed(format!("idle cost: {error}"))),
            }
            if self.programs.len() > 1 {
                of_program.iter_mut().for_each(|goal| goal.text = format!("{name}: {}", goal.text));
            }
            goals.append(&mut of_program);
        }
        match &self.short {
            None => {}
            Some(Ok(times)) => goals.extend(short_goals(times, &self.programs)),
            Some(Err(error)) => goals.push(Goal::missed(format!("short requests: {error}"))),
        }
        goals
    }

    fn siege_rows(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for AttackRow { attack, results } in &self.sieges {
            for (result, name) in results.iter().zip(&self.programs) {
                let title = match self.programs.len() {
                    1 => attack.title.to_owned(),
                    _ => format!("{} ({name})", attack.title),
                };
                let mut cells = vec![title];
                match result {
                    Ok(siege) => cells.extend(siege_cells(attack, siege)),
                    Err(_) => cells.push("failed".to_owned()),
                }
                cells.resize(SIEGE.len(), String::new());
                rows.push(cells);
            }
        }
        rows
    }

    fn idle_cost_rows(&self) -> Vec<Vec<String>> {
        let row = |(result, name): (&Result<IdleCost, String>, &String)| {
            let mut cells = vec![name.clone()];
            match result {
                Ok(cost) => cells.extend(idle_cost_cells(cost)),
                Err(_) => cells.push("failed".to_owned()),
            }
            cells.resize(IDLE_COST.len(), String::new());
            cells
        };
        self.idle_costs.iter().zip(&self.programs).map(row).collect()
    }

    /// Returns the goals of all attacks on one program. An attack that misses a goal is named.
    fn siege_goals(&self, program: usize) -> Vec<Goal> {
        let failures = self.sieges.iter().filter_map(|AttackRow { attack, results }| {
            let error = results.get(program)?.as_ref().err()?;
            Some(Goal::missed(format!("{}: {error}", attack.name)))
        });
        let mut goals: Vec<Goal> = failures.collect();
        if goals.len() == self.sieges.len() {
            return goals;
        }
        let measured = || {
            self.sieges.iter().filter_map(|row| Some((row.attack, row.results.get(program)?.as_ref().ok()?)))
        };
        // A goal over all attacks: `excess` names the figure where an attack misses the goal.
        let goal = |text: &str, excess: &dyn Fn(&Attack, &Siege) -> Option<String>| {
            let misses = measured().filter_map(|(attack, siege)| {
                excess(attack, siege).map(|excess| format!("{}: {excess}", attack.name))
            });
            let misses: Vec<String> = misses.collect();
            let separator = if misses.is_empty() { "" } else { "; " };
            Goal { is_met: misses.is_empty(), text: format!("{text}{separator}{}", misses.join("; ")) }
        };
        goals.extend([
            goal("no frame lost", &|_, siege| {
                (siege.heard.lost > 0).then(|| format!("{}{}", grouped(siege.heard.lost), siege.noise.note()))
            }),
            goal("no listener disconnected", &|_, siege| {
                (siege.heard.disconnected > 0)
                    .then(|| format!("{}{}", siege.heard.disconnected, siege.noise.note()))
            }),
            goal("each newcomer served within 100 ms", &|_, siege| newcomer_excess(siege)),
            goal("at most 16 MB above idle, 32 MB with never-readers", &|attack, siege| {
                let above = siege.peak.rss - siege.idle.rss;
                (above > attack.memory_mb).then(|| format!("{above:.1} MB"))
            }),
            goal("at most 32 threads above idle, and one for each stream asked for", &|attack, siege| {
                let above = siege.peak.threads.saturating_sub(siege.idle.threads);
                (above > THREADS_ABOVE_IDLE + attack.streams).then(|| format!("{above} threads"))
            }),
            goal("the daemon survives", &|_, siege| (!siege.survived).then(|| "it ended".to_owned())),
        ]);
        goals
    }
}

impl Goal {
    fn missed(text: String) -> Goal {
        Goal { is_met: false, text }
    }
}

impl Noise {
    /// Returns a remark for a missed goal when the machine was not quiet.
    fn note(&self) -> String {
        let (others, steal) = QUIET;
        match self.others > others || self.steal > steal {
            true => format!(" (not quiet: others {:.2} cores, steal {:.0} ms)", self.others, ms(self.steal)),
            false => String::new(),
        }
    }
}

const SIEGE: [&str; 12] = [
    "attack",
    "newcomers: median / p99 / worst ms",
    "served",
    "frames lost",
    "disconnected",
    "gap ms",
    "RSS MB: idle → peak (anonymous)",
    "threads",
    "descriptors",
    "CPU ms/s",
    "got through",
    "others, steal",
];

fn siege_cells(attack: &Attack, siege: &Siege) -> Vec<String> {
    let Siege { heard, waits, idle, peak, .. } = siege;
    let wait =
        |share| waits.quantile(share).map_or("–".to_owned(), |wait| format!("{:.1}", ms(wait.total)));
    let worst = waits.worst().map_or("–".to_owned(), |worst| match ms(worst.own) {
        0.0..1.0 => format!("{:.1}", ms(worst.total)),
        own => format!("{:.1} (own {own:.0})", ms(worst.total)),
    });
    let mut served = format!("{}", waits.count() - waits.not_served.values().sum::<u64>());
    for (reason, count) in &waits.not_served {
        let _ = write!(served, ", {count} × {reason}");
    }
    vec![
        format!("{} / {} / {worst}", wait(0.5), wait(0.99)),
        served,
        grouped(heard.lost),
        heard.disconnected.to_string(),
        format!("{:.0}", ms(heard.largest_gap)),
        format!("{:.1} → {:.1} (+{:.1})", idle.rss, peak.rss, peak.anonymous - idle.anonymous),
        format!("{} → {}", idle.threads, peak.threads),
        format!("{} → {}", idle.descriptors, peak.descriptors),
        format!("{:.0}", ms(siege.cpu)),
        counts_text(&siege.counts, attack.sent, siege.time),
        noise_text(&siege.noise),
    ]
}

/// Returns the attackers' counts as text: connections, requests or what `sent` names, answers by status.
fn counts_text(counts: &Counts, sent: &str, time: Duration) -> String {
    let mut parts = Vec::new();
    if counts.connections > 0 {
        let rate = counts.connections as f64 / time.as_secs_f64();
        parts.push(format!("{} connections ({rate:.0}/s)", grouped(counts.connections)));
    }
    if counts.failed_connects > 0 {
        parts.push(format!("{} not connected", grouped(counts.failed_connects)));
    }
    if counts.sent > 0 {
        parts.push(format!("{} {sent}", grouped(counts.sent)));
    }
    parts.extend(counts.answers.iter().map(|(status, count)| format!("{} × {status}", grouped(*count))));
    parts.join(", ")
}

fn noise_text(noise: &Noise) -> String {
    format!("{:.2} cores, {:.0} ms", noise.others, ms(noise.steal))
}

/// Returns why the newcomers' goal is missed, if it is.
fn newcomer_excess(siege: &Siege) -> Option<String> {
    let mut excess = Vec::new();
    if let Some(worst) = siege.waits.worst().filter(|worst| worst.total > NEWCOMER_SERVED) {
        excess.push(format!("{:.0} ms (own wait {:.0} ms)", ms(worst.total), ms(worst.own)));
    }
    let not_served = siege.waits.not_served.values().sum::<u64>();
    if not_served > 0 {
        excess.push(format!("{not_served} of {} not served", siege.waits.count()));
    }
    (!excess.is_empty()).then(|| excess.join(", ") + &siege.noise.note())
}

const IDLE_COST: [&str; 9] = [
    "1000 listeners, nobody new",
    "gate, % of a core",
    "all threads, %",
    "frames lost",
    "disconnected",
    "gap ms",
    "RSS MB",
    "threads / descriptors",
    "others, steal",
];

fn idle_cost_cells(cost: &IdleCost) -> Vec<String> {
    let mut threads: Vec<(&String, &f64)> = cost.threads.iter().collect();
    threads.sort_by(|a, b| b.1.total_cmp(a.1));
    let shown = threads.iter().filter(|(_, share)| **share >= 0.00005);
    let shown: Vec<String> = shown.map(|(name, share)| format!("{name} {:.2}", *share * 100.0)).collect();
    vec![
        gate(cost).map_or("no such thread".to_owned(), |share| format!("{:.3}", share * 100.0)),
        shown.join(", "),
        grouped(cost.heard.lost),
        cost.heard.disconnected.to_string(),
        format!("{:.0}", ms(cost.heard.largest_gap)),
        format!("{:.1}", cost.usage.rss),
        format!("{} / {}", cost.usage.threads, cost.usage.descriptors),
        noise_text(&cost.noise),
    ]
}

/// Returns the share of a core that the gate thread used.
fn gate(cost: &IdleCost) -> Option<f64> {
    cost.threads.get("gate").copied()
}

fn idle_cost_goals(cost: &IdleCost) -> Vec<Goal> {
    let gate = gate(cost);
    let figure = gate.map_or("there is no such thread".to_owned(), |share| format!("{:.3} %", share * 100.0));
    vec![
        Goal {
            is_met: gate.is_some_and(|share| share <= GATE_SHARE),
            text: format!("the gate thread at most 0.1 % of a core with 1000 listeners: {figure}"),
        },
        Goal {
            is_met: cost.heard.lost == 0 && cost.heard.disconnected == 0,
            text: format!(
                "1000 listeners: {} frames lost, {} disconnected{}",
                cost.heard.lost,
                cost.heard.disconnected,
                cost.noise.note()
            ),
        },
    ]
}

fn short_rows(times: &[Times]) -> Vec<Vec<String>> {
    let row = |(kind, name): (usize, &&str)| {
        let cells = times.iter().map(|times| {
            let micros = |share| quantile(&times[kind], share).as_secs_f64() * 1e6;
            format!("{:.0} ({:.0})", micros(0.5), micros(0.99))
        });
        [(*name).to_owned()].into_iter().chain(cells).collect()
    };
    KINDS.iter().enumerate().map(row).collect()
}

/// Compares each further program with the first one.
fn short_goals(times: &[Times], programs: &[String]) -> Vec<Goal> {
    let [first, others @ ..] = times else { return Vec::new() };
    let mut goals = Vec::new();
    for (other, name) in others.iter().zip(&programs[1..]) {
        for (kind, text) in KINDS.iter().enumerate() {
            let median = |times: &Times| quantile(&times[kind], 0.5).as_secs_f64();
            let ratio = median(other) / median(first);
            let text = format!("{name}: {text}, no slower than {}: {ratio:.2} of it", programs[0]);
            goals.push(Goal { is_met: ratio <= SHORT_RATIO, text });
        }
    }
    goals
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns a number with a comma after each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a Markdown table with the first column to the left and the others to the right, padded so that a terminal
/// shows it as well.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count(), 3]).max().unwrap_or(3)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rules = widths.iter().enumerate().map(|(column, width)| match column {
        0 => "-".repeat(*width),
        _ => "-".repeat(width - 1) + ":",
    });
    let rules: Vec<String> = rules.collect();
    let mut out = line(head.to_vec());
    out += &line(rules.iter().map(String::as_str).collect());
    rows.iter().for_each(|row| out += &line(row.iter().map(String::as_str).collect()));
    out
}
