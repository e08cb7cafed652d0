//! Every format, heard by late joiners of each kind; FLAC exact to the frame over three servers.

use crate::players::{Player, is_loud, is_silent};
use crate::servers::{Extra, Harbor, Icecast, PASSWORD, folder, free_ports, installed};
use crate::support::daemon::Daemon;
use crate::support::synth::SynthRamp;
use crate::support::wait_for;
use crate::{LONG, push, push_status, wait_for_named, wait_for_push, wait_within};
use std::process::Command;
use std::time::Duration;

/// Two seconds of stereo of 16 bits.
const SOUND: usize = 2 * 48_000 * 4;

const TONE: &str = "[input.live]\ndevice = \"synth:tone\"\nrate = 48000\nbuffer_ms = 10000\n";
const RAMP: &str = "[input.live]\ndevice = \"synth:ramp\"\nrate = 48000\nbuffer_ms = 10000\n";

/// Plays a mount in every player and looks for sound.
fn heard_by_all(icecast: &Icecast, mount: &str) {
    for start in [Player::ffmpeg, Player::mpv, Player::vlc] {
        let mut player = start(&icecast.url(mount));
        // VLC plays as fast as it gets the sound, and begins quietly.
        let sound = player.hear(SOUND);
        assert!(is_loud(&sound[SOUND / 2..]), "{mount}");
    }
}

#[test]
fn every_format_is_heard_by_late_joiners_in_every_player() {
    if !installed(&["icecast2", "ffmpeg", "mpv", "vlc"]) {
        return;
    }
    // Without this, Icecast takes the texts for ISO 8859-1.
    let elements = "<mount type=\"default\"><charset>UTF-8</charset></mount>";
    let icecast = Icecast::with(Extra { elements, ..Extra::default() });
    let to = |mount: &str| format!("icecast://{}{mount}", icecast.address);
    let about = "name = \"Dächer\"\ndescription = \"Tits\"\ngenre = \"Nature\"\nurl = \"https://example.org/\"\ntitle = \"Live\"\n";
    let config = [
        TONE.to_owned(),
        push("flac", &to("/flac.ogg"), about),
        push("opus", &to("/opus.ogg"), &format!("format = \"opus\"\n{about}")),
        push("mp3", &to("/mp3.mp3"), &format!("format = \"mp3\"\n{about}")),
    ];
    let daemon = Daemon::start(None, &config.concat());
    for name in ["flac", "opus", "mp3"] {
        wait_for_named(&daemon, name, "on the air");
    }
    for mount in ["/flac.ogg", "/opus.ogg", "/mp3.mp3"] {
        heard_by_all(&icecast, mount);
        let source = icecast.source(mount).unwrap_or_else(|| panic!("no {mount}"));
        assert_eq!(source["server_name"], "Dächer");
        assert_eq!(source["genre"], "Nature");
    }
    wait_for("the title of the MP3", || (icecast.source("/mp3.mp3")?["title"] == "Live").then_some(()));
    let status = push_status(&daemon, "mp3");
    assert_eq!((&status["bitrate"], &status["format"]), (&128.into(), &"mp3".into()));
    assert!(push_status(&daemon, "flac")["bitrate"].is_null());
    assert_eq!(daemon.get("/healthz/push/opus").text(), "ok\n");
    assert_eq!(daemon.get("/healthz/push/other").status, 404);
    // The page gets them with the state of the input.
    let mut events = daemon.get("/live/levels");
    let mut text = String::new();
    wait_for("the pushes in an event", || {
        text.push_str(&String::from_utf8_lossy(&events.body.chunk().expect("an event")));
        text.contains("\"pushes\":[{\"name\":\"flac\",\"state\":\"on the air\",\"detail\":\"\"}")
            .then_some(())
    });
    // Nothing of the daemon has ever shown the password.
    assert!(!daemon.log().join("\n").contains(PASSWORD) && !daemon.status().to_string().contains(PASSWORD));
}

#[test]
fn flac_is_exact_behind_a_master_a_relay_and_a_slave() {
    if !installed(&["icecast2", "ffmpeg"]) {
        return;
    }
    let master = Icecast::start();
    let (host, port) = (master.address.ip(), master.address.port());
    let relay = Icecast::with(Extra {
        elements: &format!(
            "<master-update-interval>5</master-update-interval><relay><server>{host}</server><port>{port}</port>\
             <mount>/ramp.ogg</mount><local-mount>/ramp.ogg</local-mount><on-demand>1</on-demand></relay>"
        ),
        ..Extra::default()
    });
    let slave = Icecast::with(Extra {
        elements: &format!(
            "<master-server>{host}</master-server><master-server-port>{port}</master-server-port>\
             <master-update-interval>5</master-update-interval><master-password>relay</master-password>"
        ),
        ..Extra::default()
    });
    let to = format!("icecast://{}/ramp.ogg", master.address);
    let daemon = Daemon::start(None, &(RAMP.to_owned() + &push("radio", &to, "buffer_seconds = 60")));
    wait_for_push(&daemon, "on the air");
    wait_within(LONG, Duration::from_millis(100), "the slave to know the mount", || {
        slave.source("/ramp.ogg").map(drop)
    });
    for server in [&master, &relay, &slave] {
        let mut player = Player::ffmpeg(&server.url("/ramp.ogg"));
        let mut ramp = SynthRamp::new(2, 2);
        ramp.feed(&player.hear(5 * 48_000 * 4));
        assert!(ramp.is_whole() && ramp.frames == 5 * 48_000, "{:?}", ramp.holes);
    }
}

/// The master of an on-demand relay loses its source: the relay's listener hears a file instead of being cut, and the stream
/// again once it is back, all on one connection.
#[test]
fn a_relay_with_a_fallback_keeps_its_listeners_while_the_source_is_away() {
    if !installed(&["icecast2", "ffmpeg"]) {
        return;
    }
    // The format, rate and channels of the stream.
    let web = folder("web");
    let silence =
        ["-v", "error", "-f", "lavfi", "-i", "anullsrc=r=48000:cl=stereo", "-t", "10", "-b:a", "128k"];
    let bare = ["-id3v2_version", "0", "-write_xing", "0"];
    let made = Command::new("ffmpeg").args(silence).args(bare).arg(web.join("silence.mp3")).status();
    assert!(made.is_ok_and(|status| status.success()));
    let master = Icecast::start();
    let (host, port) = (master.address.ip(), master.address.port());
    let relay = Icecast::with(Extra {
        files: Some(&web),
        elements: &format!(
            "<master-update-interval>5</master-update-interval><relay><server>{host}</server><port>{port}</port>\
             <mount>/live.mp3</mount><local-mount>/live.mp3</local-mount><on-demand>1</on-demand></relay>\
             <mount type=\"normal\"><mount-name>/live.mp3</mount-name><fallback-mount>/silence.mp3</fallback-mount>\
             <fallback-override>1</fallback-override></mount>"
        ),
        ..Extra::default()
    });
    let config = TONE.to_owned()
        + &push("radio", &format!("icecast://{}/live.mp3", master.address), "format = \"mp3\"");
    let daemon = Daemon::start(None, &config);
    wait_for_push(&daemon, "on the air");
    let mut player = Player::ffmpeg(&relay.url("/live.mp3"));
    assert!(is_loud(&player.hear(SOUND)));
    drop(daemon);
    wait_within(LONG, Duration::ZERO, "silence", || is_silent(&player.hear(SOUND / 4)).then_some(()));
    let daemon = Daemon::start(None, &config);
    wait_for_push(&daemon, "on the air");
    wait_within(LONG, Duration::ZERO, "the stream", || is_loud(&player.hear(SOUND / 4)).then_some(()));
    let _ = std::fs::remove_dir_all(&web);
}

#[test]
fn a_harbor_takes_each_format() {
    if !installed(&["liquidsoap"]) {
        return;
    }
    let harbor = Harbor::start();
    for format in ["flac", "opus", "mp3"] {
        let to = format!("icecast://127.0.0.1:{}/live", harbor.port);
        let config = TONE.to_owned() + &push("radio", &to, &format!("format = \"{format}\""));
        let daemon = Daemon::start(None, &config);
        let status = wait_for_push(&daemon, "on the air");
        assert_eq!(status["detail"], "", "{format}");
    }
}

#[test]
fn shoutcast_carries_mp3() {
    if !installed(&["icecast2", "ffmpeg"]) {
        return;
    }
    // Icecast takes SHOUTcast sources on the port after its own.
    let icecast =
        Icecast::with(Extra { socket: "<shoutcast-mount>/sc.mp3</shoutcast-mount>", ..Extra::default() });
    let to = format!("shoutcast://{}", icecast.address);
    let config = TONE.to_owned() + &push("radio", &to, "format = \"mp3\"\nname = \"Shout\"");
    let daemon = Daemon::start(None, &config);
    wait_for_push(&daemon, "on the air");
    assert!(is_loud(&Player::ffmpeg(&icecast.url("/sc.mp3")).hear(SOUND)));
    assert_eq!(icecast.source("/sc.mp3").map(|source| source["server_name"].clone()), Some("Shout".into()));

    let wrong = config
        .replace(PASSWORD, "wrong-one")
        .replace(&to, &format!("shoutcast://127.0.0.1:{}", free_ports()));
    daemon.reload(&wrong);
    wait_for_push(&daemon, "unreachable");
    daemon.reload(&config.replace(PASSWORD, "wrong-one"));
    let status = wait_for_push(&daemon, "refused");
    assert!(status["detail"].as_str().is_some_and(|text| text.contains("password")), "{status}");
}
