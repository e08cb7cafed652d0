//! The page: its files, its events with levels, and the files of past sound.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::support::daemon::Daemon;
use crate::support::http::{self, Response};
use crate::support::synth::SynthRamp;
use crate::support::{HEADER_BYTES, wait_for};
use serde_json::Value;

const RATE: u64 = 44_100;
const FRAME_BYTES: usize = 4;

// The page's files.

#[test]
fn the_page_has_all_its_files_and_a_policy_against_all_others() {
    let daemon = Daemon::synth("synth:tone");
    let mut files = vec!["/".to_owned()];
    let mut seen = 0;
    while seen < files.len() {
        let name = files[seen].clone();
        seen += 1;
        let file = daemon.get(&name);
        assert_eq!(file.status, 200, "{name}");
        let kind = match name.rsplit('.').next() {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("json") => "application/manifest+json",
            Some("svg") => "image/svg+xml",
            Some("png") => "image/png",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(file.header("content-type"), Some(kind), "{name}");
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(file.header("referrer-policy"), Some("no-referrer"));
        let lifetime = if name == "/" { "no-cache" } else { "max-age=31536000, immutable" };
        assert_eq!(file.header("cache-control"), Some(lifetime), "{name}");
        let policy = file.header("content-security-policy").expect("a policy").to_owned();
        for rule in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(rule), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        if name.ends_with(".png") {
            continue;
        }
        let text = file.text();
        for (before, after) in [("\"@page/", '"'), ("from './", '\''), ("new URL('", '\'')] {
            for part in text.split(before).skip(1) {
                // An import is relative to its file, whose address has the version.
                let folder = if name == "/" { "/@page/" } else { &name[..=name.rfind('/').expect("a path")] };
                let file = format!("{folder}{}", part.split(after).next().expect("a name"));
                // `new URL('.', …)` is the address of the page itself.
                if !file.ends_with("/.") && !files.contains(&file) {
                    files.push(file);
                }
            }
        }
    }
    // All of the folder.
    let all = std::fs::read_dir("src/page").expect("the page").count();
    assert_eq!(files.len(), all, "{files:?}");
    for nothing in
        ["/@page/", "/@page/index.html", "/@page/../status.json", "/@page/app.js.map", "/@page/levels"]
    {
        assert_eq!(daemon.get(nothing).status, 404, "{nothing}");
    }
}

#[test]
fn only_pages_of_configured_origins_may_show_the_page_in_a_frame() {
    let config =
        |frames: &str| format!("[access]\nframes = {frames}\n[input.live]\ndevice = \"synth:tone\"\n");
    let daemon = Daemon::start(None, &config("[\"http://homeassistant.local:8123\", \"https://a.example\"]"));
    let ancestors = || {
        let policy = daemon.get("/").header("content-security-policy").expect("a policy").to_owned();
        policy.split_once("frame-ancestors ").expect("a rule for frames").1.to_owned()
    };
    assert_eq!(ancestors(), "http://homeassistant.local:8123 https://a.example");
    // The copy in the browser's cache gets the new rule with its 304.
    daemon.reload(&config("[]"));
    wait_for("the rule of the new configuration", || (ancestors() == "'none'").then_some(()));
}

#[test]
fn a_file_that_the_browser_has_is_not_sent_again() {
    let daemon = Daemon::synth("synth:tone");
    for name in ["/", "/@page/app.js", "/@page/style.css"] {
        let tag = daemon.get(name).header("etag").expect("a tag").to_owned();
        // A proxy that compresses by itself makes the tag a weak one.
        for known in [tag.clone(), format!("\"other\", {tag}"), format!("W/{tag}")] {
            let again = daemon.get_with(name, &[("If-None-Match", &known)]);
            assert_eq!((again.status, again.header("etag")), (304, Some(tag.as_str())), "{name}");
            assert_eq!((again.header("content-length"), again.header("content-type")), (None, None));
        }
        assert_eq!(daemon.get_with(name, &[("If-None-Match", "\"other\"")]).status, 200);
    }
}

#[test]
fn a_browser_gets_the_files_deflated() {
    let daemon = Daemon::synth("synth:tone");
    let plain = daemon.get("/@page/app.js");
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("Accept-Encoding")));
    let tag = plain.header("etag").map(str::to_owned);
    let text = plain.text();
    let mut packed = daemon.get_with("/@page/app.js", &[("Accept-Encoding", "gzip, deflate")]);
    assert_eq!((packed.status, packed.header("content-encoding")), (200, Some("deflate")));
    assert_ne!(packed.header("etag").map(str::to_owned), tag);
    let length = packed.header("content-length").and_then(|length| length.parse().ok()).expect("a length");
    let bytes = packed.bytes(length);
    assert!(length < text.len() / 2, "{length} of {} bytes", text.len());
    let unpacked = miniz_oxide::inflate::decompress_to_vec_zlib(&bytes).expect("zlib");
    assert_eq!(String::from_utf8(unpacked).expect("UTF-8"), text);
}

#[test]
fn an_input_with_the_name_of_a_path_does_not_hide_the_path() {
    let daemon = Daemon::start(
        None,
        "[input.page]\ndevice = \"synth:ramp\"\n[input.levels]\ndevice = \"synth:tone\"\n",
    );
    daemon.wait_for_state("levels", "capturing");
    assert_eq!(daemon.get("/@page/app.js").header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(Events::of(&daemon, "/page/levels").state()["input"], "page");
    assert_eq!(Events::of(&daemon, "/levels/levels").state()["input"], "levels");
    // Without a name the events are those of the first input.
    assert_eq!(Events::of(&daemon, "/levels").state()["input"], "page");
}

// Levels.

/// The events of `/NAME/levels`.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    fn of(daemon: &Daemon, target: &str) -> Events {
        let response = daemon.get(target);
        assert_eq!(response.status, 200, "{target}");
        assert_eq!(response.header("content-type"), Some("text/event-stream"));
        assert_eq!(response.header("cache-control"), Some("no-store, no-transform"));
        Events { response, text: String::new() }
    }

    /// Returns the next event: its name, which is empty for levels, and its data.
    fn next(&mut self) -> (String, Value) {
        loop {
            while !self.text.contains("\n\n") {
                let chunk = self.response.body.chunk().expect("it goes on");
                assert!(!chunk.is_empty(), "it ended");
                self.text += std::str::from_utf8(&chunk).expect("UTF-8");
            }
            let (event, rest) = self.text.split_once("\n\n").expect("an event");
            let field =
                |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let (name, data) = (field("event: ").to_owned(), field("data: ").to_owned());
            self.text = rest.to_owned();
            if !data.is_empty() {
                return (name, serde_json::from_str(&data).expect("JSON"));
            }
        }
    }

    /// Returns the data of the next event `wanted`.
    fn named(&mut self, wanted: &str) -> Value {
        loop {
            let (name, data) = self.next();
            if name == wanted {
                return data;
            }
        }
    }

    fn state(&mut self) -> Value {
        self.named("state")
    }

    /// Returns the next state in which the value of `key` is `value`.
    fn state_with(&mut self, key: &str, value: impl Into<Value>) -> Value {
        let value = value.into();
        loop {
            let state = self.state();
            if state[key] == value {
                return state;
            }
        }
    }
}

#[test]
fn events_have_the_version_the_state_and_the_levels() {
    let daemon = Daemon::ramp_with("", "synth:tone", "");
    let mut events = Events::of(&daemon, "/live/levels");
    let (name, hello) = events.next();
    assert_eq!((name.as_str(), &hello["version"]), ("hello", &Value::from(env!("CARGO_PKG_VERSION"))));
    // On the loopback there is no address for other machines.
    assert_eq!(hello.get("address"), None);
    let state = events.state();
    assert_eq!((&state["input"], &state["phase"]), (&"live".into(), &"capturing".into()));
    assert_eq!(state["inputs"], serde_json::json!(["live"]));
    assert_eq!(state["format"]["rate"], RATE);
    assert_eq!(state["history_seconds"], 30.0);

    let first = events.named("");
    let mut last = first.clone();
    for _ in 0..40 {
        let levels = events.named("");
        assert!(levels["frame"].as_u64() >= last["frame"].as_u64());
        let channels = levels["levels"].as_array().expect("channels");
        assert_eq!(channels.len(), 2);
        for channel in channels {
            // The tone is a sine at -18 dBFS.
            let (peak, rms) = (channel[0].as_f64().expect("dB"), channel[1].as_f64().expect("dB"));
            assert!((peak + 18.06).abs() < 0.2 && (rms + 21.07).abs() < 0.5, "{levels}");
            assert_eq!(channel[2], 0);
        }
        last = levels;
    }
    // Frame and time belong together.
    let of = |event: &Value, key: &str| event[key].as_f64().expect("a number");
    let rate = (of(&last, "frame") - of(&first, "frame")) / (of(&last, "time") - of(&first, "time"));
    assert!((rate - 44.1).abs() < 0.5, "{rate} frames in a ms");
    assert!(of(&last, "now") >= of(&last, "time"));
}

#[test]
fn every_change_of_state_is_an_event_and_the_status_has_levels_too() {
    let daemon = Daemon::start(None, "[input.roof]\ndevice = \"synth:ramp\"\n");
    daemon.wait_for_state("roof", "capturing");
    let mut events = Events::of(&daemon, "/roof/levels");
    let before = events.state();
    assert_eq!(before["listeners"], 0);
    let listener = daemon.get("/roof.wav");
    events.state_with("listeners", 1);
    drop(listener);
    events.state_with("listeners", 0);

    // The ramp reaches both ends of the scale at each turn.
    wait_for("two turns of the ramp", || {
        (daemon.input("roof")["frames"].as_u64() >= Some(2 * 65_536)).then_some(())
    });
    let levels = daemon.input("roof")["levels"].clone();
    assert_eq!(levels.as_array().map(Vec::len), Some(2), "{levels}");
    assert!(levels[0]["clipped"].as_u64() >= Some(3), "{levels}");
    assert!(levels[0]["peak_dbfs"].as_f64().is_some_and(|peak| (-60.0..=0.0).contains(&peak)), "{levels}");

    // Another format is another stream. The end of an input ends its events.
    daemon.reload("[input.roof]\ndevice = \"synth:tone\"\nchannels = 1\nrate = 48000\n");
    let state = loop {
        let state = events.state();
        if state["format"]["rate"] == 48_000 {
            break state;
        }
    };
    assert_ne!(state["stream"], before["stream"]);
    wait_for("levels of one channel", || {
        (events.named("")["levels"].as_array().map(Vec::len) == Some(1)).then_some(())
    });
    daemon.reload("[input.other]\ndevice = \"synth:tone\"\n");
    wait_for("the events to end", || {
        let mut rest = [0; 4096];
        matches!(events.response.body.read(&mut rest), Ok(0) | Err(_)).then_some(())
    });
    assert_eq!(daemon.get("/roof/levels").status, 404);
}

#[test]
fn titles_are_on_the_page_in_the_status_and_in_playlists() {
    let inputs = "[input.roof]\ndevice = \"synth:tone\"\ntitle = \"Roof & gutter\"\n\
                  [input.cellar]\ndevice = \"synth:noise\"\n";
    let named = format!("[station]\ntitle = \"Bird box\"\ndescription = \"Behind the house.\"\n{inputs}");
    let daemon = Daemon::start(None, &named);
    daemon.wait_for_state("roof", "capturing");
    let mut events = Events::of(&daemon, "/levels");
    let state = events.state();
    assert_eq!(
        (&state["station"], &state["title"]),
        (&"Bird box".into(), &"Roof & gutter".into()),
        "{state}"
    );
    assert_eq!(state["inputs"], serde_json::json!(["roof", "cellar"]));
    assert_eq!(state["titles"], serde_json::json!(["Roof & gutter", "cellar"]));
    let status: Value = serde_json::from_str(&daemon.get("/status.json").text()).expect("JSON");
    assert_eq!(
        status["station"],
        serde_json::json!({"title": "Bird box", "description": "Behind the house."})
    );
    assert_eq!(
        (&status["inputs"][0]["name"], &status["inputs"][0]["title"]),
        (&"roof".into(), &"Roof & gutter".into())
    );
    assert_eq!(status["inputs"][1]["title"], "cellar");
    assert_eq!(daemon.get("/live.m3u").text(), "#EXTM3U\n#EXTINF:-1,Roof & gutter\nroof.wav\n");
    assert!(daemon.get("/roof.pls").text().contains("\nTitle1=Roof & gutter\n"));
    // A reload changes the open page.
    daemon.reload(inputs);
    events.state_with("station", Value::Null);
}

#[test]
fn a_page_with_a_longer_interval_gets_fewer_events_and_misses_no_peak() {
    let daemon = Daemon::ramp_with("", "synth:tone", "");
    let mut frequent = Events::of(&daemon, "/live/levels");
    let mut rare = Events::of(&daemon, "/live/levels?interval=500");
    let mut more = Events::of(&daemon, "/live/levels?interval=500");
    for events in [&mut frequent, &mut rare, &mut more] {
        assert_eq!(events.next().0, "hello");
        assert_eq!(events.next().0, "state", "at once, however rare the levels come");
    }
    // The time is counted in frames.
    let count_until = |frame: u64, events: &mut Events| {
        let mut count = 0;
        while events.named("")["frame"].as_u64().expect("a number") < frame {
            count += 1;
        }
        count
    };
    // Two seconds in which this machine does not stall: a stall is one event, however long it is.
    let mut now = rare.named("")["frame"].as_u64().expect("a number");
    count_until(now, &mut frequent);
    wait_for("two seconds without a stall", || {
        now += 2 * RATE;
        let (rare_count, frequent_count) = (count_until(now, &mut rare), count_until(now, &mut frequent));
        assert!(rare_count <= 5, "{rare_count} events in two seconds");
        (rare_count >= 2 && frequent_count >= 4 * rare_count).then_some(())
    });
    // Each event covers the time since the one before, so the tone has the same level in all of them.
    let levels = more.named("");
    assert!((levels["levels"][0][0].as_f64().expect("a level") + 18.06).abs() < 0.2, "{levels}");
    let refused = daemon.get("/live/levels?interval=10");
    assert_eq!((refused.status, refused.text().as_str()), (400, "interval is milliseconds, 50 to 1000.\n"));
}

#[test]
fn pages_are_counted_and_end_with_the_daemon() {
    let mut daemon = Daemon::start(None, "[listeners]\nmax = 2\n[input.live]\ndevice = \"synth:tone\"\n");
    daemon.wait_for_state("live", "capturing");
    let mut first = Events::of(&daemon, "/live/levels");
    let second = Events::of(&daemon, "/live/levels");
    let refused = daemon.get("/live/levels");
    assert_eq!((refused.status, refused.text().as_str()), (503, "2 pages are open, no more can be.\n"));
    drop(second);
    wait_for("the other's place", || (daemon.get("/live/levels").status == 200).then_some(()));
    first.named("");
    daemon.signal("TERM");
    let mut rest = Vec::new();
    first.response.body.read_to_end(&mut rest).expect("its last chunk");
    assert!(first.response.body.is_complete());
    assert!(daemon.wait().0.success());
}

#[test]
fn events_are_for_get_and_head_and_for_old_clients_too() {
    let daemon = Daemon::synth("synth:tone");
    daemon.wait_for_state("live", "capturing");
    let head = http::request(daemon.address(), "HEAD", "/live/levels", "1.1", &[]);
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(http::request(daemon.address(), "POST", "/live/levels", "1.1", &[]).status, 405);
    assert_eq!(daemon.get("/nothing/levels").status, 404);
    let mut bare: TcpStream = http::connect(daemon.address());
    bare.write_all(b"GET /live/levels HTTP/1.0\r\n\r\n").expect("sent");
    let mut text = String::new();
    BufReader::new(&mut bare).lines().map(|line| line.expect("a line")).find(|line| {
        text += line;
        text += "\n";
        line.starts_with("data: {\"frame\"")
    });
    assert!(
        !text.contains("Transfer-Encoding") && text.contains("\n\nretry: 1000\nevent: hello\ndata: "),
        "{text}"
    );
}

#[test]
fn with_several_inputs_their_states_and_levels_are_events_too() {
    let daemon = Daemon::start(
        None,
        "[input.dead]\ndevice = \"hw:CARD=NoSuchCard\"\n[input.tone]\ndevice = \"synth:tone\"\n",
    );
    daemon.wait_for_state("tone", "capturing");
    let mut events = Events::of(&daemon, "/dead/levels");
    let tone = wait_for("the level of the tone", || {
        let inputs = events.named("inputs");
        assert_eq!(inputs[0], serde_json::json!(["waiting", null]), "{inputs}");
        (inputs[1][1].as_f64().is_some()).then(|| inputs[1].clone())
    });
    assert_eq!(tone[0], "capturing");
    assert!((tone[1].as_f64().expect("a level") + 18.06).abs() < 0.2, "{tone}");
}

// Past sound.

#[test]
fn the_history_has_a_peak_for_each_step_of_the_kept_sound() {
    let daemon = Daemon::start(
        None,
        "[input.live]\ndevice = \"synth:tone\"\nhistory_seconds = 2\n[input.dead]\ndevice = \"hw:CARD=NoSuchCard\"\n",
    );
    daemon.wait_for_state("live", "capturing");
    let history = |name: &str| -> Value {
        let answer = daemon.get(&format!("/{name}/history"));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        serde_json::from_str(&answer.text()).expect("JSON")
    };
    let full = wait_for("three seconds", || {
        let history = history("live");
        (history["first"].as_u64() >= Some(10)).then_some(history)
    });
    let stream = Events::of(&daemon, "/live/levels").state()["stream"].clone();
    assert_eq!((&full["stream"], &full["rate"], &full["step_frames"]), (&stream, &RATE.into(), &4410.into()));
    let peaks = full["peaks"].as_array().expect("peaks");
    assert_eq!(peaks.len(), 21, "two seconds, and the step that is not complete");
    for peak in peaks {
        assert!((peak.as_f64().expect("dB") + 18.06).abs() < 0.2, "{full}");
    }
    assert_eq!(history("dead")["peaks"], serde_json::json!([]));
    assert_eq!(daemon.get("/nothing/history").status, 404);
}

#[test]
fn the_spectrogram_of_the_kept_sound_shows_its_tone() {
    let daemon = Daemon::start(None, "[input.live]\ndevice = \"synth:tone\"\n");
    daemon.wait_for_state("live", "capturing");
    daemon.wait_for_edge(RATE);
    let stream = Events::of(&daemon, "/live/levels").state()["stream"].clone();
    let columns = |query: &str| -> Vec<String> {
        let answer = daemon.get(&format!("/live/bands?{query}"));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        serde_json::from_str(&answer.text()).expect("JSON")
    };
    let second = columns(&format!("stream={stream}&from=2"));
    assert!(second.len() >= 7, "{} columns", second.len());
    for column in &second {
        let levels: Vec<u32> = column.chars().map(u32::from).collect();
        let loudest = levels.iter().max().expect("bands") - u32::from('#');
        // 440 Hz; -18 dBFS is -32 dB with the window. `#` is -100 dB.
        assert_eq!((levels.len(), levels[43] - u32::from('#'), loudest), (120, 68, 68), "{column}");
    }
    assert!(columns("stream=1&from=2").is_empty(), "another stream");
    assert!(columns(&format!("stream={stream}&from=99999999")).is_empty(), "not captured yet");
    assert_eq!(daemon.get("/live/bands?stream=x").status, 400);
    assert_eq!(daemon.get("/nothing/bands").status, 404);
}

#[test]
fn the_last_seconds_are_a_file_that_stays_the_same() {
    let daemon = Daemon::ramp("");
    daemon.wait_for_edge(RATE * 3);
    let lead = daemon.get("/live.wav?last=2&utc=60");
    assert_eq!(lead.status, 307);
    let target = format!("/{}", lead.header("location").expect("a place"));
    let mut file = daemon.get(&target);
    assert_eq!(file.status, 200);
    assert_eq!(file.header("content-length"), Some("352844"));
    assert_eq!(file.header("accept-ranges"), Some("bytes"));
    let disposition = file.header("content-disposition").expect("a name").to_owned();
    assert!(disposition.starts_with("attachment; filename=\"live-20") && disposition.ends_with(".wav\""));
    let whole = file.bytes(352_844);
    assert_eq!(whole[40..44], 352_800u32.to_le_bytes());
    let mut ramp = SynthRamp::new(2, 2);
    ramp.feed(&whole[HEADER_BYTES..]);
    assert!(ramp.is_whole());
    // The first frame is the one in the address.
    let from: u64 =
        target.split("from=").nth(1).and_then(|rest| rest.split('&').next()?.parse().ok()).expect("a frame");
    assert_eq!(u16::from_le_bytes([whole[44], whole[45]]), from as u16);

    // Ranges of it, later and for several clients, have the same bytes.
    let tag = file.header("etag").expect("a tag").to_owned();
    for (first, last) in [(0, 99_999), (100_000, 100_000), (100_001, 352_843)] {
        let range = format!("bytes={first}-{last}");
        let mut part = daemon.get_with(&target, &[("Range", &range), ("If-Range", &tag)]);
        assert_eq!(part.status, 206);
        assert_eq!(part.header("content-range"), Some(format!("bytes {first}-{last}/352844").as_str()));
        assert_eq!(part.bytes(last - first + 1), whole[first..=last], "{range}");
    }
    let end = daemon.get_with(&target, &[("Range", "bytes=-4")]).bytes(4);
    assert_eq!(end, whole[352_840..]);
    let beyond = daemon.get_with(&target, &[("Range", "bytes=352844-")]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */352844")));
    let head = http::request(daemon.address(), "HEAD", &target, "1.1", &[]);
    assert_eq!((head.status, head.header("content-length")), (200, Some("352844")));
    let known = daemon.get_with(&target, &[("If-None-Match", &tag)]);
    assert_eq!((known.status, known.header("etag")), (304, Some(tag.as_str())));
}

#[test]
fn frames_that_the_history_has_lost_are_410() {
    let daemon = Daemon::ramp_with("[listeners]\nmax_lag_ms = 100\n", "synth:ramp", "history_seconds = 1");
    daemon.wait_for_edge(RATE * 2);
    // The frames of an answer can be lost before the next request on a machine that stalls for a second.
    let target = wait_for("a clip that is kept", || {
        let lead = daemon.get("/live.wav?last=1");
        // 503 where the machine stood still while the second was looked for.
        let target = format!("/{}", lead.header("location")?);
        (daemon.get(&target).status == 200).then_some(target)
    });
    // An answer whose first frame is lost before it is sent is cut.
    let request = http::request_text(daemon.address(), "GET", &target, "1.1", &[("Connection", "close")]);
    let answer = || http::answer_to(http::connect(daemon.address()), request.as_bytes());
    wait_for("it to be gone", || answer().starts_with("HTTP/1.1 410 ").then_some(()));
    let gone = daemon.get(&target);
    assert_eq!((gone.status, gone.text().as_str()), (410, "This is not kept any more.\n"));
    assert_eq!(daemon.get_with(&target, &[("Range", "bytes=0-9")]).status, 410);
    let stream: u64 =
        target.split("stream=").nth(1).and_then(|r| r.split('&').next()?.parse().ok()).expect("an ID");
    let frames = |stream: u64, from: u64, to: u64| {
        daemon.get(&format!("/live.wav?stream={stream}&from={from}&to={to}"))
    };
    let edge = daemon.edge();
    assert_eq!(frames(stream + 1, edge - 100, edge).status, 410, "another run's frames");
    assert_eq!(frames(stream, edge, edge + RATE * 100).status, 404, "still to be heard");
    assert_eq!(frames(stream, edge, edge).status, 400);
    assert_eq!(daemon.get("/live.wav?last=2").text(), "last=2 is too far: the last 1 s are kept.\n");
}

#[test]
fn a_download_that_the_history_overtakes_is_cut_and_has_no_hole() {
    let daemon =
        Daemon::ramp_with("[listeners]\nmax_lag_ms = 100\n", "synth:ramp?speed=20", "history_seconds = 20");
    daemon.wait_for_edge(RATE * 21);
    let lead = daemon.get("/live.wav?last=20");
    let target = format!("/{}", lead.header("location").expect("a place"));
    let mut slow = http::connect_narrow(daemon.address(), 4096);
    let request = http::request_text(daemon.address(), "GET", &target, "1.1", &[]);
    slow.write_all(request.as_bytes()).expect("sent");
    // All of the file but the bytes in the kernels' buffers is older than the history by then, and by more than the
    // allowed lag.
    daemon.wait_for_edge(daemon.edge() + RATE * 25);
    let mut response = Response::read(slow, false);
    let length: u64 = response.header("content-length").and_then(|text| text.parse().ok()).expect("a length");
    let mut bytes = Vec::new();
    let _ = response.body.read_to_end(&mut bytes);
    assert!((bytes.len() as u64) < length, "all {length} bytes, although most were gone");
    let mut ramp = SynthRamp::new(2, 2);
    ramp.feed(&bytes[HEADER_BYTES..HEADER_BYTES + (bytes.len() - HEADER_BYTES) / FRAME_BYTES * FRAME_BYTES]);
    assert!(ramp.is_whole());
}

#[test]
fn a_low_latency_stream_names_its_first_frame() {
    let daemon = Daemon::ramp("");
    daemon.wait_for_edge(RATE * 2);
    let mut events = Events::of(&daemon, "/live/levels");
    let stream = events.state()["stream"].as_u64().expect("an ID");
    for query in ["latency=low", "latency=low&back=1"] {
        let mut live = daemon.get(&format!("/live.wav?{query}"));
        let first = live.header("wavecast-frame").expect("a frame").to_owned();
        let (id, frame) = first.split_once('/').expect("two numbers");
        assert_eq!(id.parse(), Ok(stream));
        live.bytes(HEADER_BYTES);
        let first = live.bytes(2);
        assert_eq!(u16::from_le_bytes([first[0], first[1]]), frame.parse::<u64>().expect("a frame") as u16);
    }
    assert_eq!(daemon.get("/live.wav").header("wavecast-frame"), None);
}
