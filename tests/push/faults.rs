//! Servers that go away, refuse, lie, stall or are slow: the push tells, comes back, and costs nobody else anything.

use std::fs;
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::players::{Player, is_loud};
use crate::servers::{Harbor, Icecast, PASSWORD, answer, fake, folder, installed, swallow};
use crate::support::daemon::Daemon;
use crate::support::synth::SynthRamp;
use crate::support::{HEADER_BYTES, let_pass, wait_for};
use crate::{LONG, number, push, push_status, wait_for_named, wait_for_push, wait_within};

const TONE: &str = "[input.live]\ndevice = \"synth:tone\"\nrate = 48000\nbuffer_ms = 10000\n";

/// Returns the detail of a status.
fn detail(status: &Value) -> &str {
    status["detail"].as_str().expect("a text")
}

#[test]
fn a_server_that_is_killed_gets_the_stream_again() {
    if !installed(&["icecast2", "ffmpeg"]) {
        return;
    }
    let mut icecast = Icecast::start();
    let to = format!("icecast://{}/a.ogg", icecast.address);
    let daemon = Daemon::start(None, &(TONE.to_owned() + &push("radio", &to, "")));
    wait_for_push(&daemon, "on the air");
    icecast.kill();
    let status = wait_for_push(&daemon, "unreachable");
    assert!(!detail(&status).is_empty());
    assert_eq!(daemon.get("/healthz/push/radio").status, 503);
    assert_eq!(daemon.get("/healthz").status, 200, "a push is no part of the health of the inputs");
    icecast.run();
    let status = wait_for_push(&daemon, "on the air");
    assert_eq!(number(&status, "reconnects"), 1);
    assert!(is_loud(&Player::ffmpeg(&icecast.url("/a.ogg")).hear(48_000 * 4)));
    assert_eq!(daemon.count_log("push radio: on the air at"), 1);
    assert_eq!(daemon.count_log("push radio: on the air again at"), 1);
}

#[test]
fn a_wrong_password_is_told_and_a_corrected_file_is_enough() {
    if !installed(&["icecast2"]) {
        return;
    }
    let icecast = Icecast::start();
    let file = folder("password").join("password");
    fs::write(&file, "wrong-one\n").expect("written");
    let config = format!(
        "{TONE}[push.radio]\nto = \"icecast://{}/a.ogg\"\npassword_file = \"{}\"\n",
        icecast.address,
        file.display()
    );
    let daemon = Daemon::start(None, &config);
    let status = wait_for_push(&daemon, "refused");
    assert!(detail(&status).contains("user \"source\"") && detail(&status).contains("password"), "{status}");
    assert!(status["server_says"].as_str().is_some_and(|text| !text.is_empty()), "{status}");
    assert!(status["next_try_seconds"].as_f64().is_some_and(|seconds| seconds > 20.0), "{status}");
    assert_eq!(daemon.count_log("push radio: not on the air"), 1);
    fs::write(&file, format!("{PASSWORD}\n")).expect("written");
    daemon.reload(&config);
    wait_for_push(&daemon, "on the air");
    fs::remove_dir_all(file.parent().expect("a folder")).expect("it is ours");
    daemon.reload(&config.replace("/a.ogg", "/b.ogg"));
    let status = wait_for_push(&daemon, "failed");
    assert!(detail(&status).contains("cannot be read: No such file"), "{status}");
    assert!(!daemon.log().join("\n").contains("wrong-one"));
}

#[test]
fn a_mount_in_use_is_taken_once_it_is_free() {
    if !installed(&["icecast2"]) {
        return;
    }
    let icecast = Icecast::start();
    let to = format!("icecast://{}/a.mp3", icecast.address);
    let config = TONE.to_owned() + &push("radio", &to, "format = \"mp3\"");
    let first = Daemon::start(None, &config);
    wait_for_push(&first, "on the air");
    let second = Daemon::start(None, &config);
    let status = wait_for_push(&second, "mount in use");
    assert!(detail(&status).contains("still has a source on /a.mp3"), "{status}");
    assert!(status["server_says"].as_str().is_some_and(|text| text.contains("in use")), "{status}");
    drop(first);
    wait_for_push(&second, "on the air");
    assert_eq!(second.count_log("push radio: not on the air"), 1, "one line for all tries");
}

#[test]
fn a_harbor_that_says_200_and_ends_is_a_mount_in_use() {
    if !installed(&["liquidsoap"]) {
        return;
    }
    let harbor = Harbor::start();
    let to = format!("icecast://127.0.0.1:{}/live", harbor.port);
    let config = TONE.to_owned() + &push("radio", &to, "format = \"mp3\"");
    let first = Daemon::start(None, &config);
    wait_for_push(&first, "on the air");
    let second = Daemon::start(None, &config);
    wait_for_push(&second, "mount in use");
    drop(first);
    wait_for_push(&second, "on the air");
    // Of the mounts of a harbor, the script names each.
    let wrong = config.replace("/live", "/other");
    second.reload(&wrong);
    let status = wait_for_push(&second, "refused");
    assert!(detail(&status).contains("/other"), "{status}");
}

#[test]
fn every_answer_has_words_and_a_next_step() {
    for (text, state, words) in [
        ("HTTP/1.1 409 Conflict\r\n\r\n", "mount in use", "source-timeout"),
        ("HTTP/1.1 415 Unsupported Media Type\r\n\r\n", "refused", "`format`"),
        ("HTTP/1.0 404 Not Found\r\n\r\n", "refused", "correct `to`"),
        ("HTTP/1.0 403 Forbidden\r\n\r\ntoo many sources connected", "refused", "<sources>"),
        ("HTTP/1.0 403 Forbidden\r\n\r\nno", "refused", "forbids"),
        ("HTTP/1.0 503 Service Unavailable\r\n\r\n", "unreachable", "503"),
        ("", "unreachable", "without an answer"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "unreachable", "without an answer"),
    ] {
        let port = fake(move |mut connection, _, _| answer(&mut connection, text));
        let daemon = Daemon::start(
            None,
            &(TONE.to_owned() + &push("radio", &format!("icecast://127.0.0.1:{port}/a"), "")),
        );
        let status = wait_for_push(&daemon, state);
        assert!(detail(&status).contains(words), "{text:?}: {status}");
    }
}

#[test]
fn a_refusal_on_a_connection_that_stays_open_has_its_reason() {
    let port = fake(|mut connection, _, _| {
        answer(&mut connection, "HTTP/1.1 403 Forbidden\r\nContent-Length: 17\r\n\r\nMountpoint in use");
        std::mem::forget(connection);
    });
    let to = format!("icecast://127.0.0.1:{port}/a");
    let daemon = Daemon::start(None, &(TONE.to_owned() + &push("radio", &to, "")));
    wait_for_push(&daemon, "mount in use");
}

#[test]
fn a_server_that_does_not_answer_is_left_after_a_while() {
    let port = fake(|connection, _, _| std::mem::forget(connection));
    let to = format!("icecast://127.0.0.1:{port}/a");
    let mut daemon = Daemon::start(None, &(TONE.to_owned() + &push("radio", &to, "")));
    let status = wait_for_push(&daemon, "unreachable");
    assert!(detail(&status).contains("does not answer"), "{status}");
    daemon.signal("TERM");
    assert!(daemon.wait().0.success());
}

#[test]
fn a_name_that_is_unknown_is_told() {
    let config = TONE.to_owned() + &push("radio", "icecast://nowhere.invalid:8000/a", "");
    let daemon = Daemon::start(None, &config);
    let status = wait_for_push(&daemon, "unreachable");
    assert!(detail(&status).contains("nowhere.invalid"), "{status}");
}

#[test]
fn a_server_without_put_gets_source_and_later_source_at_once() {
    // The tries of the push come here in their order.
    let (sender, methods) = crossbeam_channel::unbounded();
    let port = fake(move |mut connection, head, number| {
        let method = head.split(' ').next().unwrap_or_default().to_owned();
        let is_source = method == "SOURCE";
        let _ = sender.send(method);
        if is_source {
            answer(&mut connection, "HTTP/1.0 200 OK\r\n\r\n");
            // The first stream ends after a moment on the air.
            if number < 2 {
                thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    let began = std::time::Instant::now();
                    while began.elapsed() < Duration::from_secs(3) && connection.read(&mut bytes).is_ok() {}
                });
            } else {
                swallow(connection);
            }
        }
    });
    let to = format!("icecast://127.0.0.1:{port}/a");
    let daemon = Daemon::start(None, &(TONE.to_owned() + &push("radio", &to, "")));
    let next = || methods.recv_timeout(LONG).expect("a try");
    assert_eq!([next(), next(), next()], ["PUT", "SOURCE", "SOURCE"]);
    wait_for_push(&daemon, "on the air");
}

/// A server that refuses PUT as unknown gets SOURCE without a pause; one that refuses both is asked again later.
#[test]
fn a_server_that_refuses_put_gets_source_at_once() {
    let (sender, methods) = crossbeam_channel::unbounded();
    let port = fake(move |mut connection, head, _| {
        let method = head.split(' ').next().unwrap_or_default().to_owned();
        let is_source = method == "SOURCE";
        let _ = sender.send(method);
        match is_source {
            true => {
                answer(&mut connection, "HTTP/1.0 200 OK\r\n\r\n");
                swallow(connection);
            }
            false => answer(&mut connection, "HTTP/1.1 405 Method Not Allowed\r\n\r\n"),
        }
    });
    let to = format!("icecast://127.0.0.1:{port}/a");
    let daemon = Daemon::start(None, &(TONE.to_owned() + &push("radio", &to, "")));
    wait_for_push(&daemon, "on the air");
    assert_eq!(methods.try_iter().collect::<Vec<_>>(), ["PUT", "SOURCE"]);
    assert_eq!(daemon.count_log("it asks every minute"), 0);

    let (sender, methods) = crossbeam_channel::unbounded();
    let port = fake(move |mut connection, head, _| {
        let _ = sender.send(head.split(' ').next().unwrap_or_default().to_owned());
        answer(&mut connection, "HTTP/1.1 501 Not Implemented\r\n\r\n");
    });
    let to = format!("icecast://127.0.0.1:{port}/a");
    let daemon = Daemon::start(None, &(TONE.to_owned() + &push("radio", &to, "")));
    let status = wait_for_push(&daemon, "refused");
    assert!(detail(&status).contains("does not understand the request (501)"), "{status}");
    assert_eq!(methods.try_iter().collect::<Vec<_>>(), ["PUT", "SOURCE"]);
}

/// A reload while the stream is on the air does not take away the pause after its end.
#[test]
fn a_reload_long_before_a_failure_shortens_no_pause() {
    let (sender, times) = crossbeam_channel::unbounded();
    let (end, ended) = crossbeam_channel::bounded::<()>(1);
    let port = fake(move |mut connection, _, number| {
        let _ = sender.send(Instant::now());
        answer(&mut connection, "HTTP/1.0 200 OK\r\n\r\n");
        if number == 0 {
            let ended = ended.clone();
            let own = connection.try_clone().expect("a descriptor");
            thread::spawn(move || {
                let _ = ended.recv();
                let _ = own.shutdown(std::net::Shutdown::Both);
            });
        }
        swallow(connection);
    });
    let config = TONE.to_owned() + &push("radio", &format!("icecast://127.0.0.1:{port}/a"), "");
    let daemon = Daemon::start(None, &config);
    wait_for_push(&daemon, "on the air");
    let _ = times.recv_timeout(LONG).expect("a connection");
    daemon.reload(&config);
    daemon.wait_for_log("the configuration was read again");
    let closed = Instant::now();
    end.send(()).expect("the server runs");
    let again = times.recv_timeout(LONG).expect("another connection");
    // 80 % of a second at least.
    assert!(again - closed > Duration::from_millis(700), "after {:?}", again - closed);
}

#[test]
fn a_server_that_says_100_only_and_one_that_says_both_get_the_stream() {
    for text in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\nHTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ] {
        let port = fake(move |mut connection, head, _| {
            assert!(head.contains("Expect: 100-continue") && !head.contains("chunked"), "{head}");
            answer(&mut connection, text);
            swallow(connection);
        });
        let to = format!("icecast://127.0.0.1:{port}/a");
        let daemon = Daemon::start(None, &(TONE.to_owned() + &push("radio", &to, "")));
        wait_for_push(&daemon, "on the air");
    }
}

#[test]
fn a_refusal_behind_100_continue_is_a_refusal() {
    let port = fake(|mut connection, _, _| {
        answer(&mut connection, "HTTP/1.1 100 Continue\r\n\r\n");
        answer(&mut connection, "HTTP/1.0 403 Forbidden\r\n\r\nMountpoint in use");
        // Unread bytes would make the kernel reset the connection and drop the words.
        let _ = connection.shutdown(std::net::Shutdown::Write);
        swallow(connection);
    });
    let to = format!("icecast://127.0.0.1:{port}/a");
    let daemon = Daemon::start(None, &(TONE.to_owned() + &push("radio", &to, "")));
    let status = wait_for_push(&daemon, "mount in use");
    assert!(detail(&status).contains("still has a source"), "{status}");
}

/// A server that takes a quarter of the stream: whole packets are dropped and counted, the connection stays, the queue keeps
/// its bound; and a listener of the daemon gets every frame.
#[test]
fn a_slow_server_loses_whole_packets_and_costs_nobody_else_anything() {
    let (sender, pieces) = crossbeam_channel::unbounded();
    let port = fake(move |mut connection, _, _| {
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&connection, 4096);
        answer(&mut connection, "HTTP/1.0 200 OK\r\n\r\n");
        let sender = sender.clone();
        thread::spawn(move || {
            // 320 kbit/s are 40 kB a second; this server takes 10 kB.
            let mut bytes = [0; 1000];
            while let Ok(count @ 1..) = connection.read(&mut bytes) {
                let _ = sender.send(bytes[..count].to_vec());
                let_pass(Duration::from_millis(100));
            }
        });
    });
    let to = format!("icecast://127.0.0.1:{port}/a.mp3");
    // A listener that this machine keeps waiting is not skipped.
    let ramp = "[listeners]\nmax_lag_ms = 30000\n[input.live]\ndevice = \"synth:ramp\"\nrate = 48000\n\
                buffer_ms = 10000\n";
    let lines = "format = \"mp3\"\nbitrate = 320\nbuffer_seconds = 2";
    let daemon = Daemon::start(None, &(ramp.to_owned() + &push("radio", &to, lines)));
    daemon.wait_for_state("live", "capturing");
    let mut listener = daemon.get("/live.wav");
    let _ = listener.bytes(HEADER_BYTES);
    let mut heard = SynthRamp::new(2, 2);
    let status = wait_within(LONG, Duration::from_millis(50), "dropped packets", || {
        heard.feed(&listener.bytes(48_000));
        Some(push_status(&daemon, "radio")).filter(|status| number(status, "dropped_packets") > 50)
    });
    assert!(number(&status, "queue_ms") <= 2100, "{status}");
    assert_eq!((&status["state"], number(&status, "reconnects")), (&"on the air".into(), 0), "{status}");
    assert_eq!(number(&status, "lost_frames"), 0);
    assert!(heard.is_whole(), "{:?}", heard.holes);
    // All that came are whole MP3 frames of 960 bytes, of which the server may have the last in part.
    let stream: Vec<u8> = pieces.try_iter().flatten().collect();
    assert!(stream.len() > 9600, "{} bytes", stream.len());
    for frame in stream.chunks_exact(960) {
        assert_eq!((frame[0], frame[1] & 0xe0), (0xff, 0xe0), "a frame was cut");
    }
}

/// A server that stops reading: the connection is given up, and made again.
#[test]
fn a_server_that_takes_nothing_is_left() {
    let port = fake(|mut connection, _, number| {
        answer(&mut connection, "HTTP/1.0 200 OK\r\n\r\n");
        match number {
            0 => std::mem::forget(connection),
            _ => swallow(connection),
        }
    });
    let to = format!("icecast://127.0.0.1:{port}/a.ogg");
    let noise = "[input.live]\ndevice = \"synth:noise\"\nrate = 192000\nbuffer_ms = 10000\n";
    let daemon = Daemon::start(None, &(noise.to_owned() + &push("radio", &to, "")));
    wait_within(LONG, Duration::from_millis(20), "the end of the first connection", || {
        (daemon.count_log("push radio: not on the air") > 0).then_some(())
    });
    let status = wait_for_push(&daemon, "on the air");
    assert!(number(&status, "dropped_packets") > 0, "{status}");
}

#[test]
fn a_reload_touches_only_the_pushes_that_change() {
    let (sender, heads) = crossbeam_channel::unbounded();
    let port = fake(move |mut connection, head, _| {
        let _ = sender.send(head.lines().next().unwrap_or_default().to_owned());
        answer(&mut connection, "HTTP/1.0 200 OK\r\n\r\n");
        swallow(connection);
    });
    let to = |mount: &str| format!("icecast://127.0.0.1:{port}{mount}");
    let (a, b) = (push("a", &to("/a"), ""), push("b", &to("/b"), ""));
    let daemon = Daemon::start(None, &[TONE, &a, &b].concat());
    for name in ["a", "b"] {
        wait_for_named(&daemon, name, "on the air");
    }
    let sent = number(&push_status(&daemon, "a"), "sent_bytes");
    daemon.reload(&[TONE, &a, &push("c", &to("/c"), "")].concat());
    wait_for_named(&daemon, "c", "on the air");
    let names: Vec<Value> = daemon.status()["pushes"]
        .as_array()
        .expect("pushes")
        .iter()
        .map(|push| push["name"].clone())
        .collect();
    assert_eq!(names, ["a", "c"]);
    let status = push_status(&daemon, "a");
    assert_eq!((&status["state"], number(&status, "reconnects")), (&"on the air".into(), 0));
    assert!(number(&status, "sent_bytes") > sent);
    let mut lines: Vec<String> = heads.try_iter().collect();
    lines.sort();
    assert_eq!(lines, ["PUT /a HTTP/1.1", "PUT /b HTTP/1.1", "PUT /c HTTP/1.1"]);
}

#[test]
fn another_format_of_the_input_is_another_connection_and_another_period_is_none() {
    let (sender, heads) = crossbeam_channel::unbounded();
    let port = fake(move |mut connection, head, _| {
        let _ = sender.send(head.to_owned());
        answer(&mut connection, "HTTP/1.0 200 OK\r\n\r\n");
        swallow(connection);
    });
    let push = push("radio", &format!("icecast://127.0.0.1:{port}/a"), "");
    let daemon = Daemon::start(None, &(TONE.to_owned() + &push));
    wait_for_push(&daemon, "on the air");
    assert!(heads.recv_timeout(LONG).expect("a head").contains("samplerate=48000;channels=2"));
    let sent = number(&push_status(&daemon, "radio"), "sent_bytes");
    // Another ring of the same format.
    daemon.reload(&(TONE.replace("buffer_ms", "period_ms = 20\nbuffer_ms") + &push));
    daemon.wait_for_log("the configuration was read again");
    wait_for("the stream to go on", || {
        (number(&push_status(&daemon, "radio"), "sent_bytes") > sent + 100_000).then_some(())
    });
    assert!(heads.try_recv().is_err(), "the connection has stayed");
    daemon.reload(&(TONE.replace("48000", "44100") + &push));
    assert!(heads.recv_timeout(LONG).expect("a head").contains("samplerate=44100;channels=2"));
    wait_for_push(&daemon, "on the air");
}

#[test]
fn an_input_without_sound_makes_no_connection() {
    let (sender, connections) = crossbeam_channel::unbounded();
    let port = fake(move |_, head, _| drop(sender.send(head.to_owned())));
    let push = push("radio", &format!("icecast://127.0.0.1:{port}/a"), "");
    let daemon = Daemon::start(None, &format!("[input.live]\ndevice = \"hw:CARD=Nowhere\"\n{push}"));
    let status = wait_for_push(&daemon, "waiting for sound");
    wait_for("the reason", || (!detail(&push_status(&daemon, "radio")).is_empty()).then_some(()));
    assert_eq!(number(&status, "sent_bytes"), 0);
    assert!(connections.try_recv().is_err(), "nobody connects");
}

/// An end of the daemon ends each stream without a reset.
#[test]
fn the_end_of_the_daemon_ends_the_stream() {
    let (sender, ends) = crossbeam_channel::unbounded();
    let port = fake(move |mut connection, _, _| {
        answer(&mut connection, "HTTP/1.0 200 OK\r\n\r\n");
        let sender = sender.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            let end = loop {
                match connection.read(&mut bytes) {
                    Ok(1..) => {}
                    end => break end.map_err(|error| error.kind()),
                }
            };
            let _ = sender.send(end);
        });
    });
    let push = push("radio", &format!("icecast://127.0.0.1:{port}/a"), "");
    let mut daemon = Daemon::start(None, &(TONE.to_owned() + &push));
    wait_for_push(&daemon, "on the air");
    daemon.signal("TERM");
    assert!(daemon.wait().0.success());
    assert_eq!(ends.recv_timeout(LONG), Ok(Ok(0)));
    daemon.wait_for_log("push radio: ended");
}
