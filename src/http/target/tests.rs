//! Targets by tables, and whatever a stranger may send.

use proptest::prelude::*;

use super::*;

fn wav(query: &str) -> Result<StreamQuery, BadRequest> {
    match Target::parse(&format!("/live.wav{query}")) {
        Ok(Target::Stream(name, None, query)) if name == "live" => Ok(query),
        Ok(other) => panic!("{other:?}"),
        Err(bad) => Err(bad),
    }
}

fn live(query: StreamQuery) -> Target {
    Target::Stream("live".to_owned(), None, query)
}

fn some(name: &str) -> Option<String> {
    Some(name.to_owned())
}

fn encoded(codec: Codec, query: StreamQuery) -> Target {
    Target::Stream("live".to_owned(), Some(codec), query)
}

#[test]
fn codecs_and_bit_rates_that_do_not_exist_are_refused() {
    for (target, why) in [
        ("/live.m3u?codec=aac", "codec is wav, flac, mp3 or opus, as in codec=mp3."),
        ("/live.wav?bitrate=128", "bitrate is for MP3 and Opus."),
        ("/live.flac?bitrate=128", "bitrate is for MP3 and Opus."),
        ("/live.opus?bitrate=320", "bitrate is one of 16, 24, 32, 48, 64, 96, 128, 160, 192, 256."),
        ("/live.mp3?bitrate=x", "bitrate is one of 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320."),
    ] {
        assert_eq!(Target::parse(target), Err(BadRequest(why.to_owned())), "{target}");
    }
}

#[test]
fn paths_lead_where_the_readme_says() {
    for (target, meaning) in [
        ("/", Target::Page),
        ("/?x=1", Target::Page),
        ("/index.html", Target::Page),
        ("/status.json", Target::Status),
        ("/healthz", Target::Health(None)),
        ("/healthz/bird-box", Target::Health(some("bird-box"))),
        ("/favicon.ico", Target::Asset("icon-192.png".to_owned())),
        ("/apple-touch-icon.png", Target::Asset("icon-192.png".to_owned())),
        ("/live.m3u", Target::M3u("live".to_owned(), None)),
        ("/bird-box.pls", Target::Pls("bird-box".to_owned(), None)),
        ("/live.wav", live(StreamQuery::default())),
        ("/%6Cive.wav?t=1699", live(StreamQuery::default())),
        ("http://pi:4410/live.wav", live(StreamQuery::default())),
        ("http://pi:4410", Target::Page),
        ("/@page/app.js", Target::Asset("app.js".to_owned())),
        ("/@page/app.js?x", Target::Asset("app.js".to_owned())),
        ("/@page/levels", Target::Asset("levels".to_owned())),
        ("/live/levels", Target::Levels(some("live"), LEVELS_INTERVAL)),
        ("/a/b/levels", Target::Levels(some("a/b"), LEVELS_INTERVAL)),
        ("/levels", Target::Levels(None, LEVELS_INTERVAL)),
        ("/levels?interval=100", Target::Levels(None, 2 * LEVELS_INTERVAL)),
        ("/live", Target::Unknown),
        ("/live.mp3", encoded(Codec::Mp3, StreamQuery::default())),
        ("/live.flac?t=1", encoded(Codec::Flac, StreamQuery::default())),
        (
            "/live.opus?bitrate=64",
            encoded(Codec::Opus, StreamQuery { bitrate: Some(64), ..StreamQuery::default() }),
        ),
        ("/live.m3u?codec=mp3", Target::M3u("live".to_owned(), Some(Codec::Mp3))),
        ("/live.pls?codec=wav", Target::Pls("live".to_owned(), None)),
        ("/live.aac", Target::Unknown),
        ("/index.html/", Target::Unknown),
        ("/%zz", Target::Unknown),
        ("/%ff.wav", Target::Unknown),
        ("*", Target::Unknown),
        ("", Target::Unknown),
    ] {
        assert_eq!(Target::parse(target), Ok(meaning), "{target}");
    }
}

#[test]
fn a_path_that_is_written_strangely_is_still_the_stream() {
    let slash = StreamQuery { has_trailing_slash: true, ..StreamQuery::default() };
    for (target, meaning) in [
        ("//live.wav", live(StreamQuery::default())),
        ("///live.wav", live(StreamQuery::default())),
        ("/live.wav;", live(StreamQuery::default())),
        ("/live.wav;stream.nsv", live(StreamQuery::default())),
        ("/live.wav/", live(slash)),
        ("/live.wav//", live(slash)),
        ("//live.wav/;", live(slash)),
        ("//", Target::Page),
        ("/;", Target::Page),
        ("//status.json/", Target::Status),
        ("/healthz/", Target::Health(None)),
        ("//live/levels/", Target::Levels(some("live"), LEVELS_INTERVAL)),
    ] {
        assert_eq!(Target::parse(target), Ok(meaning), "{target}");
    }
    let query = wav(";?back=5").expect("it makes sense");
    assert_eq!(query.back, Some(Duration::from_secs(5)));
}

#[test]
fn back_and_for_are_seconds() {
    let query = wav("?back=2.5&for=10").expect("it makes sense");
    assert_eq!(query.back, Some(Duration::from_millis(2500)));
    assert_eq!(query.length, Some(Duration::from_secs(10)));
    assert!(wav("?latency=low").expect("it makes sense").low_latency);
    assert!(wav("?framing=identity").expect("it makes sense").identity);
}

#[test]
fn keys_and_values_are_decoded() {
    for query in
        ["?b%61ck=%35&%66or=1%30", "?back=5&amp;for=10", "?&back=5&&for=10&", "?x=%ff&%ff=1&back=5&for=10"]
    {
        let parsed = wav(query).expect("it makes sense");
        assert_eq!(parsed.back, Some(Duration::from_secs(5)), "{query}");
        assert_eq!(parsed.length, Some(Duration::from_secs(10)), "{query}");
    }
    assert!(wav("?back=%zz").is_err());
    assert!(wav("?back=%ff").is_err());
}

#[test]
fn a_mistyped_key_is_refused_with_a_suggestion() {
    for (query, suggestion) in [
        ("fro=60", "for=60 or from=60?"),
        ("form=60", "for=60 or from=60?"),
        ("FOR=60", "for=60?"),
        ("fr=60", "for=60?"),
        ("bakc=5", "back=5?"),
        ("lastt=5", "last=5?"),
        ("lat=low", "latency=low or last=low?"),
        ("latenyc=low", "latency=low?"),
        ("b%61k=5", "back=5?"),
        ("utcc=<script>", "utc=script?"),
        ("t=1&las=5", "last=5?"),
    ] {
        let BadRequest(text) = wav(&format!("?{query}")).expect_err(query);
        assert!(text.ends_with(&format!("Did you mean {suggestion}")), "{text}");
    }
    let bad = Target::parse("/levels?intervall=100").expect_err("a slip");
    assert_eq!(bad.0, "There is no key intervall. Did you mean interval=100?");
}

#[test]
fn keys_that_only_get_around_caches_are_ignored() {
    for query in [
        "t=1",
        "ts=1",
        "_=1",
        "v=2",
        "cb=3",
        "x",
        "nocache",
        "time=4",
        "rnd=5",
        "format=wav",
        "tt=1",
        "token=abc",
    ] {
        assert_eq!(wav(&format!("?{query}")), Ok(StreamQuery::default()), "{query}");
    }
}

#[test]
fn levels_come_as_often_as_is_asked_but_not_at_any_rate() {
    for (query, ms) in [
        ("interval=50", 50),
        ("interval=199", 100),
        ("interval=999", 500),
        ("t=1&interval=1000", 1000),
        ("t=1", 50),
        ("", 50),
    ] {
        let target = Target::parse(&format!("/levels?{query}"));
        assert_eq!(target, Ok(Target::Levels(None, Duration::from_millis(ms))), "{query}");
    }
    for wrong in ["", "49", "1001", "-50", "5e1", "x", "18446744073709551616"] {
        let bad = Target::parse(&format!("/live/levels?interval={wrong}")).expect_err(wrong);
        assert!(bad.0.contains("50 to 1000") || bad.0.contains("whole number"), "{bad:?}");
    }
}

#[test]
fn a_part_of_the_past_is_named_by_its_frames() {
    let query = wav("?stream=1763640000123&from=10&to=20&utc=-300").expect("it makes sense");
    assert_eq!(query.frames, Some(FrameRange { stream: 1_763_640_000_123, from: 10, to: 20 }));
    assert_eq!(query.utc, Some(-300));
    assert_eq!(wav("?last=30").expect("it makes sense").last, Some(Duration::from_secs(30)));
}

#[test]
fn a_value_that_makes_no_sense_is_refused_with_a_hint() {
    for query in [
        "back=",
        "back",
        "back=-1",
        "back=x",
        "back=inf",
        "back=NaN",
        "back=1e3",
        "back=1.2.3",
        "for=0",
        "for=99999999999",
        "for=0x10",
        "latency=high",
        "framing=chunked",
        "last=0",
        "last=-5",
        "stream=1&from=2",
        "stream=1&from=2&to=2",
        "stream=1&from=+1&to=2",
        "stream=&from=1&to=2",
        "utc=841",
        "utc=-841",
        "utc=-2147483648",
        "utc=2147483648",
        "utc=x",
    ] {
        assert!(wav(&format!("?{query}")).is_err(), "{query}");
    }
    assert_eq!(wav("?utc=-840").expect("it is the last one").utc, Some(-840));
    let BadRequest(text) = wav("?back=soon").expect_err("soon is no number");
    assert_eq!(text, "back is a number of seconds, as in back=10 or back=2.5.");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_target_panics(target in ".{0,60}", utc in any::<i32>()) {
        let _ = Target::parse(&target);
        let _ = Target::parse(&format!("/live.wav?{target}"));
        let _ = Target::parse(&format!("/live.wav?utc={utc}"));
        let _ = crate::http::players::product(&target);
    }

    #[test]
    fn a_refusal_holds_no_markup(key in ".{0,8}", value in ".{0,60}") {
        if let Err(BadRequest(text)) = wav(&format!("?{key}={value}")) {
            prop_assert!(text.len() < 400 && !text.contains(['<', '"', '\r', '\n']), "{}", text);
        }
    }
}

#[test]
fn a_token_is_read_from_any_address_and_changes_no_target() {
    let text = |target: &str| token(target).map(|token| token.reveal().to_owned());
    for (target, expected) in [
        ("/live.wav?token=a-_Z", Some("a-_Z")),
        ("http://pi/?input=a&token=b", Some("b")),
        ("/live.wav?back=1&amp;token=c&token=d", Some("c")),
        ("/?%74oken=%61%62", Some("ab")),
        ("/?token=", Some("")),
        ("/?token", Some("")),
        ("/?token=%ff", Some("")),
        ("/live.wav", None),
        ("/token=a", None),
        ("/#?token=a", None),
        ("/?Token=a&tokens=b", None),
    ] {
        assert_eq!(text(target), expected.map(str::to_owned), "{target}");
    }
    for target in
        ["/", "/live.wav", "/live.m3u", "/live.pls", "/levels", "/live/levels", "/status.json", "/healthz"]
    {
        assert_eq!(Target::parse(&format!("{target}?token=abc")), Target::parse(target), "{target}");
    }
    assert!(Target::parse("/live.wav?tokn=a").is_err(), "a slip");
}
