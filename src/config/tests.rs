//! The tests of the configuration parser.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use proptest::prelude::*;
use toml::de::{DeTable, DeValue};

use super::parse::{RESERVED_NAMES, Reader, parse};
use super::section::find;
use super::sources::Sources;
use super::*;
use crate::media::format::SampleFormat;

const DEFAULT_FILE: &str = include_str!("../../config/wavecast.toml");

/// The file that the package installs once. `DEFAULT_FILE` is the reference, in its documentation.
const INSTALLED_FILE: &str = include_str!("../../config/installed.toml");

/// Returns a file with the comment sign removed from every key and table: lines `# key = …` and `# [table]`,
/// but not prose, and not examples, which are indented further.
fn uncommented(file: &str) -> String {
    let line = |line: &str| -> String {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let is_key = bare.split_once(" = ").is_some_and(|(key, _)| {
            key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        });
        let is_table = bare.starts_with('[') && bare.ends_with(']');
        if is_key || is_table { bare.to_owned() } else { line.to_owned() }
    };
    file.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn config(text: &str) -> Config {
    Config::parse(text, "w.toml").unwrap()
}

fn parse_bytes(bytes: &[u8], file: &str) -> Result<Config, ConfigError> {
    let mut sources = Sources::default();
    sources.add_bytes(file, bytes)?;
    parse(sources)
}

/// Parses several files, as `wavecast.toml` and its drop-ins are.
fn parse_files(files: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut sources = Sources::default();
    for (name, text) in files {
        sources.add(name, text);
    }
    parse(sources)
}

fn errors(text: &str) -> Vec<String> {
    let error = Config::parse(text, "w.toml").unwrap_err();
    error.to_string().lines().map(str::to_owned).collect()
}

/// Returns the only error of an input table with this line.
fn input_error(line: &str) -> String {
    let errors = errors(&format!("[input.live]\n{line}\n"));
    assert_eq!(errors.len(), 1, "{errors:?}");
    let text = errors[0].strip_prefix("w.toml:2: input.live.").unwrap();
    text.to_owned()
}

#[test]
fn an_empty_file_and_the_installed_file_mean_the_defaults() {
    assert_eq!(config(""), Config::default());
    assert_eq!(config(DEFAULT_FILE), Config::default());
    assert_eq!(config(INSTALLED_FILE), Config::default());
}

#[test]
fn the_installed_file_documents_the_true_defaults() {
    for file in [DEFAULT_FILE, INSTALLED_FILE] {
        let mut read = config(&uncommented(file));
        // There is no push by default: the file documents one with an address, and with the defaults else.
        for push in read.pushes.drain(..) {
            assert_eq!(push, Push::new("radio", push.to.clone()));
        }
        assert_eq!(read, Config::default());
    }
    assert!(INSTALLED_FILE.lines().count() < 50, "the reference is elsewhere");
}

#[test]
fn the_installed_file_documents_every_key() {
    let mut reader = Reader::default();
    reader.config(&DeTable::new(), &Sources::default());
    assert!(!reader.problems.known.is_empty());
    let text = uncommented(DEFAULT_FILE);
    let root = DeTable::parse(&text).unwrap();
    for (head, key) in reader.problems.known {
        let mut table = root.get_ref();
        let name = if head.starts_with("[push") { "radio" } else { "live" };
        for part in head.trim_matches(['[', ']']).replace("NAME", name).split('.') {
            let DeValue::Table(found) = find(table, part).unwrap().get_ref() else { unreachable!() };
            table = found;
        }
        assert!(find(table, key).is_some(), "{head} {key} is not documented");
    }
}

#[test]
fn every_key_can_be_set() {
    let text = r#"
        [station]
        title = " Bird box "
        description = "The great tits behind the house."
        [http]
        listen = ["127.0.0.1:80", "[::1]:81"]
        [access]
        allow = ["local", "any", "100.64.0.0/10", "192.168.1.7", "fd00::/8"]
        hosts = "BirdBox.example.org"
        passwords = "/etc/wavecast.passwords"
        trusted_proxies = ["::ffff:127.0.0.1"]
        cors = ["https://Example.org:443", "http://[fd00::1]:8080"]
        frames = "http://HomeAssistant.local:8123"
        [listeners]
        max = 3
        interval_ms = 20
        send_buffer_ms = 100
        max_lag_ms = 500
        when_behind = "disconnect"
        stall_seconds = 2.5
        [limits]
        connections = 50
        connections_per_address = 5
        listeners_per_address = 4
        requests_per_second = 7
        request_burst = 30
        header_bytes = 2048
        request_seconds = 1.5
        idle_seconds = 7
        [encoders]
        max = 2
        mp3_bitrate = 192
        opus_bitrate = 64
        [log]
        filter = "warn,wavecast::media::ring=trace"
        [input.roof]
        title = "Roof & gutter"
        aliases = ["live", "old-roof"]
        device = "hw:1,0"
        rate = 48_000
        channels = 1
        pick = [3, 1]
        format = "s24"
        period_ms = 2.5
        buffer_ms = 100
        history_seconds = 0
        gain_db = 6
        quiet_seconds = 90
        quiet_dbfs = -75.5
        realtime_priority = 0
        [push.radio]
        to = "icecasts://stream.example.org:8443/roof.ogg"
        input = "roof"
        format = "opus"
        bitrate = 96
        user = "dj"
        password_file = "/etc/wavecast.d/radio.password"
        name = "Roof"
        description = "Tits"
        url = "https://example.org/"
        genre = "Nature"
        public = true
        title = "Live from the roof"
        buffer_seconds = 20
        method = "source"
        tls_ca = "/etc/ca.pem"
        tls_fingerprint = "FINGERPRINT"
    "#;
    let expected = Config {
        station: Station {
            title: Some("Bird box".to_owned()),
            description: Some("The great tits behind the house.".to_owned()),
        },
        http: Http {
            listen: vec![
                ListenAddr::Addr("127.0.0.1:80".parse().unwrap()),
                ListenAddr::Addr("[::1]:81".parse().unwrap()),
            ],
        },
        access: Access {
            allow: vec![
                Network::Local,
                Network::Any,
                Network::Net("100.64.0.0/10".parse().unwrap()),
                Network::Net("192.168.1.7/32".parse().unwrap()),
                Network::Net("fd00::/8".parse().unwrap()),
            ],
            hosts: vec!["birdbox.example.org".to_owned()],
            passwords: Some("/etc/wavecast.passwords".into()),
            trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()],
            cors: vec!["https://example.org".to_owned(), "http://[fd00::1]:8080".to_owned()],
            frames: vec!["http://homeassistant.local:8123".to_owned()],
        },
        listeners: Listeners {
            max: 3,
            interval: Interval::Every(Duration::from_millis(20)),
            send_buffer: Duration::from_millis(100),
            max_lag: Duration::from_millis(500),
            when_behind: WhenBehind::Disconnect,
            stall_timeout: Duration::from_millis(2500),
        },
        limits: Limits {
            connections: 50,
            connections_per_address: PerAddress::Most(5),
            listeners_per_address: PerAddress::Most(4),
            requests_per_second: 7,
            request_burst: 30,
            header_bytes: 2048,
            request_time: Duration::from_millis(1500),
            idle_time: Duration::from_secs(7),
        },
        encoders: Encoders { max: 2, mp3_bitrate: Some(192), opus_bitrate: Some(64) },
        log: Some("warn,wavecast::media::ring=trace".to_owned()),
        inputs: vec![Input {
            name: "roof".to_owned(),
            title: Some("Roof & gutter".to_owned()),
            aliases: vec!["live".to_owned(), "old-roof".to_owned()],
            device: Device::Alsa("hw:1,0".to_owned()),
            rate: 48_000,
            channels: 1,
            pick: Pick::Channels(vec![3, 1]),
            format: SampleFormat::S24,
            period: Duration::from_micros(2500),
            buffer: Duration::from_millis(100),
            history: Duration::ZERO,
            gain_db: 6.0,
            quiet_time: Duration::from_secs(90),
            quiet_dbfs: -75.5,
            realtime_priority: 0,
        }],
        pushes: vec![Push {
            input: Some("roof".to_owned()),
            format: PushFormat::Opus,
            bitrate: Some(96),
            user: "dj".to_owned(),
            password: Password::File("/etc/wavecast.d/radio.password".into()),
            stream_name: Some("Roof".to_owned()),
            description: Some("Tits".to_owned()),
            url: Some("https://example.org/".to_owned()),
            genre: Some("Nature".to_owned()),
            public: true,
            title: Some("Live from the roof".to_owned()),
            buffer: Duration::from_secs(20),
            method: Method::Source,
            tls_ca: Some("/etc/ca.pem".into()),
            tls_fingerprint: Some(Fingerprint([0xab; 32])),
            ..Push::new("radio", "icecasts://stream.example.org:8443/roof.ogg".parse().unwrap())
        }],
    };
    assert_eq!(config(&text.replace("FINGERPRINT", &"AB".repeat(32))), expected);
}

#[test]
fn inputs_keep_the_order_of_the_file() {
    let names = |text: &str| config(text).inputs.into_iter().map(|i| i.name).collect::<Vec<_>>();
    assert_eq!(
        names("[input.b]\ndevice='synth:tone'\n[input.a]\ndevice='synth:tone'\n[input.c]"),
        ["b", "a", "c"]
    );
    assert_eq!(names("input.z.rate = 8000\ninput.y.device = 'hw:1'"), ["z", "y"]);
    assert_eq!(names("input = { z = {}, y = { device = 'hw:1' } }"), ["z", "y"]);
}

#[test]
fn addresses_are_parsed_in_every_form() {
    let read = |text: &str| config(&format!("http.listen = {text}")).http.listen;
    for any in ["4410", "'4410'", "':4410'", "'[::]:4410'", "['4410']"] {
        assert_eq!(read(any), [ListenAddr::Any(4410)], "{any}");
    }
    let v4 = ListenAddr::Addr("0.0.0.0:80".parse().unwrap());
    assert_eq!(read("['0.0.0.0:80', '0', '0']"), [v4, ListenAddr::Any(0), ListenAddr::Any(0)]);
    for text in ["[::]:4410", "0.0.0.0:80", "[::1]:1"] {
        assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
    }
}

#[test]
fn invalid_addresses_are_refused() {
    let error = |text: &str| errors(&format!("http.listen = {text}")).join("\n");
    assert_eq!(
        error("'localhost:80'"),
        "w.toml:1: http.listen: \"localhost:80\" is not an address; write a port (\"4410\"), or an IP \
         address and a port (\"192.168.1.5:4410\", \"[::1]:4410\")"
    );
    assert_eq!(error("'70000'"), "w.toml:1: http.listen: 70000 is not a port; the last port is 65535");
    assert!(error("-1").contains("\"-1\" is not an address"));
    assert!(error("[]").contains("needs at least one address"));
    assert!(error("true").contains("must be an address in quotes, not true or false"));
    assert!(error("['80', ':80']").contains("[::]:80 is listed twice"));
    assert!(error("['1.2.3.4:80', '80']").contains("[::]:80 includes 1.2.3.4:80"));
    assert!(error("['0.0.0.0:80', '1.2.3.4:80']").contains("0.0.0.0:80 includes 1.2.3.4:80"));
}

#[test]
fn invalid_networks_and_names_are_refused() {
    let error = |line: &str| errors(&format!("[access]\n{line}")).concat();
    let network = |text: &str| error(&format!("allow = [\"local\",\n\"{text}\"]"));
    assert_eq!(
        network("192.168.1.7/24"),
        "w.toml:3: access.allow: \"192.168.1.7/24\" has bits behind its prefix; did you mean 192.168.1.0/24?; \"local\" \
         and \"any\" are allowed too"
    );
    for text in ["", "private", "192.168.1", "192.168.1.0/33", "pi.local", "all"] {
        assert!(network(text).contains("is not a network such as 192.168.1.0/24"), "{text}");
    }
    assert!(error("trusted_proxies = \"local\"").contains("is not a network such as"));
    assert!(error("hosts = \"http://pi\"").contains("is not a host name such as"));
    assert!(error("hosts = \"pi:4410\"").contains("without a port"));
    assert!(
        error("hosts = 7").contains("must be a text in quotes, or a list of such texts, not a whole number")
    );
    for text in [
        "",
        "example.org",
        "ftp://example.org",
        "https://",
        "https://example.org/",
        "https://example.org/page",
        "https://user@example.org",
        "https://example.org:",
        "https://example.org:0",
        "https://example.org:65536",
        "https://example.org:+80",
        "https://[::1",
        "https://*.example.org",
        "null",
    ] {
        for key in ["cors", "frames"] {
            let message = error(&format!("{key} = \"{text}\""));
            assert!(
                message.contains(&format!("access.{key}: ")) && message.contains("is not an origin such as"),
                "{text}: {message}"
            );
        }
    }
    assert!(error("passwords = \"file\"").contains("must begin with a slash"));
}

#[test]
fn a_mistake_in_a_list_is_named_by_its_own_line() {
    assert!(errors("[http]\nlisten = [\n  '80',\n  'x',\n]")[0].starts_with("w.toml:4: http.listen: \"x\""));
}

#[test]
fn a_value_out_of_range_is_named_with_its_limits() {
    assert_eq!(input_error("rate = 99"), "rate: 99 is outside 4000 to 384000");
    assert_eq!(input_error("rate = 0x10"), "rate: 0x10 is outside 4000 to 384000");
    assert_eq!(input_error("channels = 70000"), "channels: 70000 is outside 1 to 32");
    assert_eq!(
        input_error("channels = 99999999999999999999"),
        "channels: 99999999999999999999 is outside 1 to 32"
    );
    assert_eq!(input_error("realtime_priority = -1"), "realtime_priority: -1 is outside 0 to 99");
    assert_eq!(input_error("gain_db = -60.5"), "gain_db: -60.5 is outside -60 to 60");
    assert_eq!(input_error("gain_db = nan"), "gain_db: nan is outside -60 to 60");
    assert_eq!(input_error("gain_db = inf"), "gain_db: inf is outside -60 to 60");
    assert_eq!(
        errors("[listeners]\ninterval_ms = 'fast'"),
        ["w.toml:2: listeners.interval_ms: \"fast\" must be \"auto\" or a number from 1 to 1000"]
    );
}

#[test]
fn inputs_share_a_device_by_different_picks_and_the_same_timing() {
    let error = |second: &str| {
        errors(&format!("[input.a]\ndevice = 'hw:1'\npick = 'left'\n[input.b]\n{second}")).concat()
    };
    let shared = config(
        "[input.a]\ndevice = 'hw:1'\npick = [4]\nformat = 's24'\n\
         [input.b]\ndevice = 'hw:1'\nrealtime_priority = 50",
    );
    let [one, other] = &shared.inputs[..] else { panic!("two inputs") };
    assert!(one.shares_device(other) && other.shares_device(one));
    for inputs in [[one, other], [other, one]] {
        let card = Input::for_card(inputs.into_iter());
        assert_eq!((card.card_channels(), card.pick.least_channels()), (4, 4));
        assert_eq!((card.format, card.realtime_priority), (SampleFormat::S24, 50));
    }
    assert_eq!(
        error("device = 'hw:1'\npick = 'left'"),
        "w.toml:5: input.b.device: \"hw:1\" is already the device of input.a (line 2)"
    );
    assert_eq!(
        error("device = 'hw:1'\npick = 'right'\nrate = 48000"),
        "w.toml:5: input.b.device: \"hw:1\" is shared with input.a (line 2), so both need the same `rate`"
    );
    assert!(error("device = 'hw:1'\npick = [2]\nperiod_ms = 20").contains("the same `period_ms`"));
    // Under another name the card would be opened a second time.
    assert!(error("device = 'plughw:1'\npick = [2]").contains("is the same card as"));
}

#[test]
fn a_pick_is_a_word_or_a_list_of_channels() {
    let input = |text: &str| config(&format!("[input.a]\n{text}")).inputs.remove(0);
    for (text, channels, card, stream) in [
        ("", None, 2, 2),
        ("pick = 'all'", None, 2, 2),
        ("pick = [3]", Some(&[3][..]), 3, 1),
        ("pick = 3", Some(&[3]), 3, 1),
        ("pick = [1, 2]\nchannels = 8", Some(&[1, 2]), 8, 2),
        ("pick = 'left'", Some(&[1]), 2, 1),
        ("pick = 'right'\nchannels = 1", Some(&[2]), 2, 1),
        ("pick = 'swap'", Some(&[2, 1]), 2, 2),
        ("pick = 'mono'", None, 2, 1),
        ("pick = 'mono'\nchannels = 6", None, 6, 1),
    ] {
        let input = input(text);
        if let Some(channels) = channels {
            assert_eq!(input.pick, Pick::Channels(channels.to_vec()), "{text}");
        }
        assert_eq!((input.card_channels(), input.stream_format().channels), (card, stream), "{text}");
    }
    assert_eq!(input_error("pick = [0]"), "pick: 0 is outside 1 to 32");
    assert_eq!(input_error("pick = [1, 33]"), "pick: 33 is outside 1 to 32");
    assert_eq!(input_error("pick = []"), "pick: must name 1 to 32 channels");
    assert!(input_error("pick = [1.5]").contains("must be channels such as [3] or [1, 2], or a word, not"));
    assert_eq!(
        input_error("pick = 'both'"),
        "pick: \"both\" must be one of all, mono, left, right or swap, or a list of channels such as [3] or [1, 2]"
    );
}

#[test]
fn an_error_about_a_wrong_type_names_the_right_type() {
    assert_eq!(
        input_error("rate = '44100'"),
        "rate: must be a whole number from 4000 to 384000, not a text in quotes"
    );
    assert_eq!(
        input_error("rate = 44100.0"),
        "rate: must be a whole number from 4000 to 384000, not a number with a point"
    );
    assert_eq!(input_error("period_ms = [1]"), "period_ms: must be a number from 1 to 500, not a list");
    assert_eq!(input_error("device = 1"), "device: must be a text in quotes, not a whole number");
    assert_eq!(input_error("format = 'mp3'"), "format: \"mp3\" must be one of s16, s24 or s32");
    assert_eq!(
        errors("listeners.when_behind = 'stop'"),
        ["w.toml:1: listeners.when_behind: \"stop\" must be one of skip or disconnect"]
    );
    assert_eq!(
        errors("log.filter = 'loud'"),
        ["w.toml:1: log.filter: \"loud\" is not off, error, warn, info, debug, trace or MODULE=LEVEL"]
    );
}

#[test]
fn an_error_about_a_table_shows_its_syntax() {
    assert_eq!(errors("http = 1"), ["w.toml:1: http: is a table: write [http], not a whole number"]);
    assert_eq!(errors("[[input]]\nrate = 8000"), ["w.toml:1: input: needs a name: [input.NAME]"]);
    assert_eq!(
        errors("[input]\nrate = 8000"),
        ["w.toml:2: input.rate: an input is a table: [input.NAME], with its keys in the lines below"]
    );
}

#[test]
fn an_error_about_an_unknown_key_lists_the_keys() {
    assert_eq!(
        input_error("period = 10"),
        "period: no such key; did you mean `period_ms`? (the keys are title, aliases, device, rate, channels, \
         pick, format, period_ms, buffer_ms, history_seconds, gain_db, quiet_seconds, quiet_dbfs and realtime_priority)"
    );
    assert!(input_error("chanels = 1").starts_with("chanels: no such key; did you mean `channels`?"));
    assert!(input_error("Rate = 1").starts_with("Rate: no such key; did you mean `rate`?"));
    assert!(input_error("colour = 1").starts_with("colour: no such key (the keys are title"));
    assert!(input_error("'a\"b' = 1").starts_with("\"a\"b\": no such key (the keys are"));
    assert_eq!(
        errors("[inputs.live]"),
        ["w.toml:1: inputs: no such key; did you mean `input`? (the keys are station, http, access, \
             listeners, limits, encoders, log, input and push)"]
    );
}

#[test]
fn a_bit_rate_is_one_of_a_list() {
    assert_eq!(
        errors("[encoders]\nopus_bitrate = 100\nmp3_bitrate = \"low\""),
        [
            "w.toml:2: encoders.opus_bitrate: 100 is not \"auto\" or one of 16, 24, 32, 48, 64, 96, 128, 160, 192, 256",
            "w.toml:3: encoders.mp3_bitrate: \"low\" is not \"auto\" or one of 16, 24, 32, 48, 64, 96, 128, 160, 192, \
             256, 320",
        ]
    );
    assert_eq!(config("[encoders]\nmp3_bitrate = \"auto\"").encoders, Encoders::default());
}

#[test]
fn an_error_about_a_key_in_the_wrong_table_names_the_right_table() {
    assert!(
        errors("rate = 8000")[0]
            .starts_with("w.toml:1: rate: no such key here; it belongs below [input.NAME] (")
    );
    assert!(input_error("max = 3").starts_with("max: no such key here; it belongs below [listeners] ("));
}

#[test]
fn names_that_cannot_be_part_of_an_address_are_refused() {
    for name in ["Live", "'a b'", "'ü'", "''", "'a/b'", &"x".repeat(33)] {
        let errors = errors(&format!("[input.{name}]"));
        assert!(errors[0].contains("a name must have 1 to 32 lower-case letters"), "{errors:?}");
    }
    for name in RESERVED_NAMES {
        let errors = errors(&format!("[input.{name}]"));
        assert!(errors[0].contains("uses this name for a page of its own"), "{errors:?}");
    }
    assert_eq!(config(&format!("[input.{}]", "x".repeat(32))).inputs.len(), 1);
}

#[test]
fn two_inputs_on_one_device_are_refused_with_both_lines() {
    assert_eq!(
        errors("[input.a]\ndevice = 'hw:1'\n\n[input.b]\ndevice = 'hw:1'"),
        ["w.toml:5: input.b.device: \"hw:1\" is already the device of input.a (line 2)"]
    );
    assert_eq!(
        errors("[input.a]\nrate = 8000\n[input.b]\n"),
        ["w.toml:3: input.b.device: \"auto\" is already the device of input.a (line 1)"]
    );
    assert_eq!(errors("[input.a]\ndevice = 'usb:08bb:2902'\n[input.b]\ndevice = 'usb:08BB:2902'").len(), 1);
    assert_eq!(config("[input.a]\ndevice='synth:noise'\n[input.b]\ndevice='synth:noise'").inputs.len(), 2);
}

#[test]
fn two_inputs_on_one_card_in_other_words_are_refused() {
    for (one, other) in [("hw:1,0", "plughw:1,0"), ("hw:A", "hw:CARD=A,DEV=0"), ("hw:A", "plug:'hw:A'")] {
        let text = format!("[input.a]\ndevice = \"{one}\"\n[input.b]\ndevice = \"{other}\"");
        assert_eq!(
            errors(&text),
            [format!(
                "w.toml:4: input.b.device: \"{other}\" is the same card as \"{one}\", the device of input.a (line 2)"
            )]
        );
    }
    for (one, other) in [("hw:A,0", "hw:A,1"), ("dsnoop:CARD=A", "dsnoop:CARD=A,DEV=0"), ("hw:A", "hw:B")] {
        let text = format!("[input.a]\ndevice = \"{one}\"\n[input.b]\ndevice = \"{other}\"");
        assert_eq!(config(&text).inputs.len(), 2, "{one} {other}");
    }
}

#[test]
fn titles_and_aliases_are_checked() {
    assert_eq!(input_error("title = 'a\tb'"), "title: must be one line of text");
    assert_eq!(
        input_error(&format!("title = '{}'", "x".repeat(61))),
        "title: must have at most 60 characters"
    );
    assert_eq!(config("[input.a]\ntitle = ' '").inputs[0].shown_name(), "a");
    assert_eq!(config("[input.a]\ntitle = 'Küche'").inputs[0].shown_name(), "Küche");
    assert!(
        input_error("aliases = ['Live room']")
            .starts_with("aliases: \"Live room\": a name must have 1 to 32")
    );
    let message = |text: &str| errors(text).join("\n");
    assert_eq!(
        message("[input.a]\n[input.b]\ndevice = 'hw:1'\naliases = ['c', 'a']"),
        "w.toml:4: input.b.aliases: \"a\" is already a name of an input"
    );
    assert_eq!(
        message("[input.a]\naliases = ['c']\n[input.b]\ndevice = 'hw:1'\naliases = 'c'"),
        "w.toml:5: input.b.aliases: \"c\" is already a name of an input"
    );
}

#[test]
fn a_text_without_quotes_is_shown_with_its_quotes() {
    for (line, corrected) in [
        ("device = hw:CARD=Device,DEV=0", "device = \"hw:CARD=Device,DEV=0\""),
        ("device=synth:tone?hz=50 # a tone", "device = \"synth:tone?hz=50\""),
        ("title = Living room", "title = \"Living room\""),
        ("  format = s24", "format = \"s24\""),
        // The message stands in the journal.
        ("password = hunter2", "password = \"…\""),
    ] {
        let message = &errors(&format!("[input.live]\n{line}\nrate = 8000\n"))[0];
        assert!(message.starts_with("w.toml:2:"), "{message}");
        assert!(message.ends_with(&format!(": a text needs quotes: {corrected}")), "{line}: {message}");
    }
    let listen = &errors("[http]\nlisten = 127.0.0.1:4410")[0];
    assert!(listen.ends_with("a text needs quotes: listen = \"127.0.0.1:4410\""), "{listen}");
    let password = &errors("[push.radio]\nto = 'icecast://a:8000/b'\npassword = hunter2")[0];
    assert!(password.ends_with("a text needs quotes: password = \"…\""), "{password}");
    for line in ["rate == 48000", "rate = 44 100", "device = 'hw:1", "rate = ", "[input.live", "a b = c"] {
        assert!(!errors(line)[0].contains("needs quotes"), "{line}");
    }
}

#[test]
fn a_port_is_a_part_of_listen() {
    assert_eq!(
        errors("[http]\nport = 80"),
        ["w.toml:2: http.port: no such key; the key for addresses and ports is `listen`: listen = \"80\""]
    );
    assert_eq!(
        errors("port = '8080'"),
        [
            "w.toml:1: port: no such key; the key for addresses and ports is `listen`: listen = \"8080\", below [http]"
        ]
    );
    assert!(errors("[http]\nbind = '::1'")[0].ends_with("listen = \"::1\""));
}

#[test]
fn a_buffer_holds_two_periods() {
    assert_eq!(
        input_error("period_ms = 300"),
        "buffer_ms: 500 ms are less than two periods of 300 ms; the card fills one period while wavecast \
         reads the other"
    );
    assert_eq!(
        errors("[input.a]\nperiod_ms = 50\nbuffer_ms = 99.5")[0],
        "w.toml:3: input.a.buffer_ms: 99.5 ms are less than two periods of 50 ms; the card fills one period \
         while wavecast reads the other"
    );
    assert_eq!(config("[input.a]\nperiod_ms = 250").inputs[0].period, Duration::from_millis(250));
}

#[test]
fn a_history_takes_a_gibibyte_at_most() {
    assert_eq!(
        errors("[input.a]\nrate = 192000\nformat = 's24'\nhistory_seconds = 3600"),
        ["w.toml:4: input.a.history_seconds: 3600 seconds of 192000 Hz, stereo, s24 take 3.9 GiB of \
             memory, more than 1 GiB; at most 932 seconds fit"]
    );
    assert_eq!(config("[input.a]\nhistory_seconds = 3600").inputs[0].history, Duration::from_secs(3600));
    assert!(
        errors("[input.a]\nformat = 's32'\nrate = 384000\nchannels = 32")[0]
            .starts_with("w.toml:3: input.a.history")
    );
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let text =
        "[input.b]\nrate = 1\ncolour = 2\n[log]\nfilter = 3\n[http]\nlisten = 'x'\n[input.a]\nrate = 4";
    let places: Vec<_> = errors(text).iter().map(|l| l.split(": ").next().unwrap().to_owned()).collect();
    // Line 8: both inputs have the device "auto".
    assert_eq!(places, ["w.toml:2", "w.toml:3", "w.toml:5", "w.toml:7", "w.toml:8", "w.toml:9"]);
}

#[test]
fn an_error_stays_on_one_short_line_whatever_it_quotes() {
    let text = format!("[input.live]\nformat = \"{}\\n\\u001b[2J\"\n", "x".repeat(10));
    assert_eq!(
        errors(&text),
        ["w.toml:2: input.live.format: \"xxxxxxxxxx\\n\\u{1b}[2J\" must be one of s16, s24 or s32"]
    );
    assert!(input_error(&format!("format = '{}'", "x".repeat(9999))).len() < 200);
    assert!(errors(&format!("[input.'{}']", "x".repeat(9999)))[0].len() < 250);
}

#[test]
fn a_syntax_error_has_line_and_column() {
    assert_eq!(errors("[http]\nlisten = \n").len(), 1);
    assert!(errors("[http]\nlisten = \n")[0].starts_with("w.toml:2:10: "));
    assert!(errors("# ü\nü = 1")[0].starts_with("w.toml:2:1: "));
    assert!(errors("[log]\n[log]")[0].starts_with("w.toml:2:"));
}

#[test]
fn a_table_that_stands_there_twice_is_named_with_the_line_of_the_first() {
    let installed = include_str!("../../config/installed.toml");
    let line = 1 + installed.lines().position(|line| line == "[access]").expect("a table");
    let error = &errors(&format!("{installed}\n[access]\npasswords = '/etc/wavecast.passwords'\n"))[0];
    let says = format!(
        ": [access] stands in line {line} already: the keys of a table stand together, below one head"
    );
    assert!(error.ends_with(&says), "{error}");
    // A key that stands there twice is another mistake.
    assert!(!errors("[log]\nfilter = 'info'\nfilter = 'info'")[0].contains("stands in line"));
}

#[test]
fn a_file_that_is_not_utf_8_is_named_by_line_and_byte() {
    let error = parse_bytes(b"# one\n# caf\xe9\n", "w.toml").unwrap_err();
    assert_eq!(error.to_string(), "w.toml:2:6: byte 0xE9 is not UTF-8 text; save the file as UTF-8");
}

#[test]
fn a_byte_order_mark_is_ignored() {
    assert_eq!(config("\u{feff}[input.live]\n"), Config::default());
    assert!(errors("\u{feff}[input.live]\nrate = 1")[0].starts_with("w.toml:2: "));
}

#[test]
fn an_absent_file_means_the_defaults_unless_the_user_named_it() {
    let absent = Path::new("/nonexistent/wavecast.toml");
    assert_eq!(Config::load(absent, false), Ok(Config::default()));
    let error = Config::load(absent, true).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/wavecast.toml: cannot be read: No such file"), "{error}");
}

#[test]
fn an_unreadable_file_is_an_error_even_where_the_user_named_none() {
    let error = Config::load(Path::new("/"), false).unwrap_err().to_string();
    assert!(error.starts_with("/: cannot be read: Is a directory"), "{error}");
    let error = Config::load(Path::new("/dev/zero"), false).unwrap_err().to_string();
    assert!(error.contains("larger than 1 MiB"), "{error}");
}

#[test]
fn a_later_file_wins_key_by_key() {
    let main = "[http]\nlisten = 80\n[input.live]\nrate = 48000\nchannels = 1\n";
    let card = "\u{feff}[input.live]\nrate = 96000\n[access]\nhosts = ['a.example', 'b.example']\n";
    let more = "access.hosts = 'c.example'\n[input.roof]\ndevice = 'hw:1'\n";
    let one = "[http]\nlisten = 80\n[access]\nhosts = 'c.example'\n\
               [input.live]\nrate = 96000\nchannels = 1\n[input.roof]\ndevice = 'hw:1'\n";
    let files = [("w.toml", main), ("10-card.toml", card), ("20-more.toml", more)];
    assert_eq!(parse_files(&files).unwrap(), config(one));
    assert_eq!(parse_files(&[]).unwrap(), Config::default());
    // A value with a mistake does not matter where a later file replaces it.
    assert!(parse_files(&[("w.toml", "log = 1"), ("d.toml", "[log]\nfilter = 'warn'")]).is_ok());
}

#[test]
fn a_mistake_names_its_file() {
    let errors = |files: &[(&str, &str)]| -> Vec<String> {
        parse_files(files).unwrap_err().to_string().lines().map(str::to_owned).collect()
    };
    let main = "[input.live]\nrate = 1\ndevice = 'hw:1'";
    let first = "\n\n[input.live]\nchannels = [99]\n[access]\nhosts = ['a.example', 7]\n";
    let second = "# two\n[input.roof]\ndevice = 'hw:1'\nrat = 1\n";
    let found = errors(&[("w.toml", main), ("10.toml", first), ("20.toml", second)]);
    assert_eq!(
        found[..4],
        [
            "w.toml:2: input.live.rate: 1 is outside 4000 to 384000",
            "10.toml:4: input.live.channels: must be a whole number from 1 to 32, not a list",
            "10.toml:6: access.hosts: must be a text in quotes, or a list of such texts, not a whole number",
            "20.toml:3: input.roof.device: \"hw:1\" is already the device of input.live (w.toml:3)",
        ]
    );
    assert!(
        found[4].starts_with("20.toml:4: input.roof.rat: no such key; did you mean `rate`?"),
        "{found:?}"
    );
    assert_eq!(found.len(), 5, "{found:?}");
    // A file that is not TOML does not hide that another one is none either.
    let broken = errors(&[("w.toml", "[log"), ("10.toml", "[log]\n"), ("20.toml", "\ndevice = hw:1\n")]);
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert!(broken[0].starts_with("w.toml:1:5: "), "{broken:?}");
    assert!(broken[1].starts_with("20.toml:2:"), "{broken:?}");
    assert!(broken[1].ends_with("a text needs quotes: device = \"hw:1\""), "{broken:?}");
}

#[test]
fn drop_ins_are_read_in_the_order_of_their_names() {
    let folder = std::env::temp_dir().join(format!("wavecast-drop-ins-{}", std::process::id()));
    let main = folder.join("w.toml");
    let drop_in_folder = folder.join("w.d");
    std::fs::create_dir_all(&drop_in_folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(drop_in_folder.join(name), text).unwrap();
    write("20.toml", "[input.live]\nrate = 96000\n");
    write("10.toml", "[input.live]\nrate = 48000\nchannels = 1\n");
    for no_drop_in in [".30.toml", "30.toml~", "30.toml.dpkg-old", "README"] {
        write(no_drop_in, "this is no TOML\n");
    }

    // Drop-ins count where there is no main file, too.
    let config = Config::load(&main, false).unwrap();
    assert_eq!((config.inputs[0].rate, config.inputs[0].channels), (96_000, 1));
    assert!(Config::load(&main, true).is_err());
    std::fs::write(&main, "[input.live]\nrate = 8000\nperiod_ms = 20\n").unwrap();
    let config = Config::load(&main, true).unwrap();
    assert_eq!((config.inputs[0].rate, config.inputs[0].period.as_millis()), (96_000, 20));
    let file_of = |key: &str| file_of(&main, key).file_name().unwrap().to_owned();
    for (key, file) in [
        ("input.live.rate", "20.toml"),
        ("input.live.channels", "10.toml"),
        ("input.live.period_ms", "w.toml"),
        ("access.passwords", "w.toml"),
    ] {
        assert_eq!(file_of(key), file, "{key}");
    }
    // The folder belongs to a name that ends with .toml.
    std::fs::copy(&main, folder.join("w")).unwrap();
    assert_eq!(Config::load(&folder.join("w"), true).unwrap().inputs[0].rate, 8000);

    // Every file that cannot be read is reported.
    write("15.toml", "\n[log]\nfilter = 1\n");
    let error = Config::load(&main, true).unwrap_err().to_string();
    let expected =
        format!("{}:3: log.filter: must be a text in quotes", drop_in_folder.join("15.toml").display());
    assert!(error.starts_with(&expected), "{error}");
    std::fs::create_dir(drop_in_folder.join("40.toml")).unwrap();
    std::fs::write(drop_in_folder.join("15.toml"), b"\n\xff").unwrap();
    let error = Config::load(&main, true).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("15.toml:2:1: byte 0xFF"), "{error}");
    assert!(lines[1].contains("40.toml: cannot be read: Is a directory"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn options_change_the_first_input_only() {
    let mut config = config("[input.a]\n[input.b]\ndevice = 'hw:1'");
    let overrides = Overrides {
        device: Some(Device::Alsa("hw:2".to_owned())),
        rate: Some(48_000),
        channels: Some(1),
        format: Some(SampleFormat::S32),
        listen: Some(vec![ListenAddr::Any(80)]),
        log: Some("debug".to_owned()),
    };
    let second = config.inputs[1].clone();
    config.apply(&overrides).unwrap();
    let first = &config.inputs[0];
    assert_eq!(first.device, Device::Alsa("hw:2".to_owned()));
    assert_eq!((first.rate, first.channels, first.format), (48_000, 1, SampleFormat::S32));
    assert_eq!(config.inputs[1], second);
    assert_eq!(config.http.listen, [ListenAddr::Any(80)]);
    assert_eq!(config.log.as_deref(), Some("debug"));
}

#[test]
fn an_error_about_an_option_names_it_and_changes_nothing() {
    let before = config("[input.a]\nhistory_seconds = 3600\n[input.b]\ndevice = 'hw:1'");
    let error = |overrides: Overrides| {
        let mut config = before.clone();
        let error = config.apply(&overrides).unwrap_err().to_string();
        assert_eq!(config, before);
        error
    };
    let none = Overrides::default;
    assert_eq!(
        error(Overrides { rate: Some(99), channels: Some(0), ..none() }),
        "--rate: 99 is outside 4000 to 384000\n--channels: 0 is outside 1 to 32"
    );
    assert_eq!(
        error(Overrides { device: Some(Device::Alsa("hw:1".to_owned())), ..none() }),
        "--device: \"hw:1\" is already the device of input.b"
    );
    assert_eq!(error(Overrides { listen: Some(vec![]), ..none() }), "--listen: needs at least one address");
    assert!(error(Overrides { log: Some("loud".to_owned()), ..none() }).starts_with("--log: \"loud\" is"));
    assert!(
        error(Overrides { rate: Some(96_000), format: Some(SampleFormat::S24), ..none() })
            .starts_with("--rate, --format: input.a.history_seconds: 3600 seconds of 96000 Hz")
    );
}

#[test]
fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
    assert!(!errors(&format!("a = {}", "[".repeat(100_000))).is_empty());
    assert!(!errors(&format!("a = {}{}", "[".repeat(500), "]".repeat(500))).is_empty());
    assert!(!errors(&format!("[{}a]", "a.".repeat(10_000))).is_empty());
}

/// Checks that every line of an error names a line of the file.
fn check_error_lines(bytes: &[u8]) {
    let Err(error) = parse_bytes(bytes, "w.toml") else { return };
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    for message in error.to_string().lines() {
        let place = message.strip_prefix("w.toml:").unwrap().split(':').next().unwrap();
        assert!((1..=lines).contains(&place.parse().unwrap()), "{message}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_error_lines(&bytes);
    }

    #[test]
    fn no_damage_to_the_installed_file_makes_the_parser_panic(
        damages in proptest::collection::vec(
            (any::<usize>(), 0..20_usize, proptest::collection::vec(
                prop_oneof![
                    any::<u8>(),
                    proptest::sample::select(&b"[]{}=.,'\"\n#-_ 0129ae\xff"[..]),
                ],
                0..6,
            )),
            1..6,
        ),
    ) {
        let mut bytes = uncommented(DEFAULT_FILE).into_bytes();
        for (at, gone, added) in damages {
            let at = at % (bytes.len() + 1);
            let end = (at + gone).min(bytes.len());
            bytes.splice(at..end, added);
        }
        check_error_lines(&bytes);
    }
}
