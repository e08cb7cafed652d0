//! Programs that check HTTP and templates: REDbot, which reads the answers as the RFCs are written, and Jinja2 with the
//! templates of the recipe for Home Assistant. Both are packages of PyPI; without a network the tests say so and pass.

use std::process::Command;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::python;

/// Jinja2 comes with it.
const REDBOT: &str = "redbot==2.7.1";

/// Checks the addresses, and prints one JSON object per line: address, status, and the notes.
const CHECK: &str = include_str!("../support/http_checker.py");

#[test]
fn redbot_finds_nothing_in_any_answer() {
    let Some(python) = python::with_package(REDBOT) else { return };
    let daemon = Daemon::ramp("");
    daemon.wait_for_state("live", "capturing");
    let clip = daemon.get("/live.wav?last=0.5").header("location").expect("an address").to_owned();
    let targets = [
        ("/", 200),
        ("/embed", 200),
        ("/@page/app.js", 200),
        ("/@page/style.css", 200),
        ("/@page/manifest.json", 200),
        ("/@page/icon.svg", 200),
        ("/favicon.ico", 200),
        ("/status.json", 200),
        ("/healthz", 200),
        ("/healthz/live", 200),
        ("/live/history", 200),
        ("/live.m3u", 200),
        ("/live.pls", 200),
        ("/live.wav?for=0.5", 200),
        ("/live.flac?for=0.5", 200),
        ("/live.wav?last=0.5", 307),
        (&format!("/{clip}"), 200),
        ("/live.wav?fro=60", 400),
        ("/nothing", 404),
        ("/live.wav?stream=1&from=1&to=2", 410),
    ];
    let mut command = Command::new(python);
    command.args(["-c", CHECK]);
    command.args(targets.map(|(target, _)| format!("http://{}{target}", daemon.address())));
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let reports: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(reports.len(), targets.len(), "{text}");
    // REDbot guesses the type of a body by its first bytes as browsers do (WHATWG MIME Sniffing), and a type that it does not
    // guess is a mismatch: of sound and playlists none is in that list under a name that players know.
    let is_guess = |note: &Value| note["note"] == "CONTENT_TYPE_MISMATCH";
    for (report, (target, status)) in reports.iter().zip(targets) {
        assert_eq!(report["status"], status, "{target}: {report:#}");
        let is_sound_or_list = target.starts_with("/live.");
        let mut found = report["found"].as_array().expect("a list").iter();
        // The request is bad on purpose.
        let is_meant = |note: &Value| note["note"] == "STATUS_BAD_REQUEST" && status == 400;
        assert!(
            found.all(|note| is_meant(note) || is_sound_or_list && is_guess(note)),
            "{target}: {report:#}"
        );
    }
}

#[test]
fn the_templates_for_home_assistant_read_the_status() {
    const RENDER: &str = "import jinja2, json, sys\n\
                          value = json.loads(sys.argv[1])\n\
                          for text in sys.argv[2:]:\n    \
                              print(jinja2.Environment().from_string(text).render(value_json=value))\n";
    let Some(python) = python::with_package(REDBOT) else { return };
    let recipes = include_str!("../../docs/recipes.md");
    let templates: Vec<&str> = recipes
        .lines()
        .filter_map(|line| line.trim().strip_prefix("value_template: \"")?.strip_suffix('"'))
        .collect();
    assert_eq!(templates.len(), 3, "{templates:?}");
    let render = |status: &str| {
        let output = Command::new(&python).args(["-c", RENDER, status]).args(&templates).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let daemon = Daemon::synth("synth:tone");
    daemon.wait_for_state("live", "capturing");
    let mut listener = daemon.get("/live.wav");
    listener.bytes(44 + 44_100 * 4);
    let tone = render(&daemon.get("/status.json").text());
    let lines: Vec<&str> = tone.lines().collect();
    let level: f64 = lines[1].parse().expect("a number");
    assert!(lines[0] == "True" && (-60.0..=0.0).contains(&level) && lines[2] == "1", "{lines:?}");
    // A card that is away, and digital silence.
    let silent = r#"{"inputs":[{"state":"lost","levels":[{"peak_dbfs":null}]}],"listeners":[]}"#;
    assert_eq!(render(silent), "False\n-120\n0\n");
}
