//! SHOUTcast's protocol for sources, version 1: the password alone on a line, `OK2`, a few headers, MP3.

use super::format::codec;
use super::icecast::{Audio, escaped};
use super::problem::Problem;
use crate::config::Push;

/// Returns the first line of a connection.
pub(super) fn login(password: &str) -> String {
    format!("{password}\r\n")
}

/// Returns the headers that follow the server's `OK2`.
pub(super) fn head(push: &Push, audio: Audio) -> String {
    let public = if push.public { "1" } else { "0" };
    let bitrate = audio.bitrate.unwrap_or_default().to_string();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let name = push.stream_name.clone().unwrap_or_else(|| "wavecast".to_owned());
    let headers = [
        ("icy-name", name),
        ("icy-genre", text(&push.genre)),
        ("icy-url", text(&push.url)),
        ("icy-pub", public.to_owned()),
        ("icy-br", bitrate),
        ("content-type", codec(push.format).push_content_type().to_owned()),
    ];
    let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
    lines.concat() + "\r\n"
}

/// Returns whether an answer lets the stream begin; `None` while it is not complete.
pub(super) fn accepts(answer: &str) -> Option<bool> {
    let (line, _) = answer.split_once('\n')?;
    Some(line.trim_end().eq_ignore_ascii_case("OK2") || line.trim_end().eq_ignore_ascii_case("OK"))
}

/// Returns the problem that an answer means which does not let the stream begin. Icecast ends the connection without a
/// word for a wrong password.
pub(super) fn refusal(answer: &str) -> Problem {
    let problem = match answer.to_ascii_lowercase() {
        answer if answer.contains("in use") => Problem::in_use(
            "the server still has a source: often our last connection, or somebody else sends there",
        ),
        answer if answer.contains("mountpoint") => Problem::refused(
            "the server takes SHOUTcast sources on its mount / only: write an icecast:// address",
        ),
        _ => Problem::refused(
            "the server does not accept the password, or the port is not the one before that of SHOUTcast sources",
        ),
    };
    problem.with_words(answer)
}

/// Returns the request that sets the title, for the port in the address.
pub(super) fn title_request(title: &str, password: &str) -> String {
    format!(
        "GET /admin.cgi?mode=updinfo&pass={}&song={} HTTP/1.0\r\nUser-Agent: wavecast/{} (Mozilla)\r\n\r\n",
        escaped(password),
        escaped(title),
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PushFormat;
    use crate::push::backoff::Failure;

    #[test]
    fn a_stream_begins_after_ok2() {
        assert_eq!(accepts("OK2"), None);
        assert_eq!(accepts("OK2\r\nicy-caps:11\r\n\r\n"), Some(true));
        assert_eq!(accepts("Invalid password\r\n"), Some(false));
    }

    #[test]
    fn the_headers_have_the_texts_of_the_configuration() {
        let to = "shoutcast://a:8000".parse().expect("an address");
        let push =
            Push { format: PushFormat::Mp3, genre: Some("Birds".to_owned()), ..Push::new("radio", to) };
        let audio = Audio { rate: 44_100, channels: 2, bitrate: Some(128) };
        assert_eq!(
            head(&push, audio),
            "icy-name:wavecast\r\nicy-genre:Birds\r\nicy-url:\r\nicy-pub:0\r\nicy-br:128\r\n\
             content-type:audio/mpeg\r\n\r\n"
        );
    }

    #[test]
    fn refusals_are_told_apart() {
        assert_eq!(refusal("Stream in use").failure, Failure::InUse);
        assert!(refusal("No / mountpoint").detail.contains("icecast://"));
        let wrong = refusal("Invalid password\r\n\r\n");
        assert!(wrong.detail.contains("password") && wrong.said == "Invalid password");
    }
}
