//! The head of a request, as the gate reads it: in pieces, then as a whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wavecast::http::gate::head::{self, EndSearch};

fuzz_target!(|bytes: &[u8]| {
    // The first byte is the size of the pieces.
    let Some((size, bytes)) = bytes.split_first() else { return };
    let bytes = &bytes[head::leading_newlines(bytes)..];
    let whole = EndSearch::default().end(bytes);
    let mut search = EndSearch::default();
    let mut end = 0;
    let in_pieces = loop {
        end = (end + usize::from(*size).max(1)).min(bytes.len());
        match search.end(&bytes[..end]) {
            Ok(None) if end < bytes.len() => {}
            other => break other,
        }
    };
    assert_eq!(in_pieces, whole, "the pieces do not matter");

    let Ok(Some(length)) = whole else { return };
    assert!(bytes[..length].ends_with(b"\r\n\r\n"));
    let Ok(head) = head::parse(&bytes[..length], 7) else { return };
    // tiny_http must parse the checked head as exactly one request.
    let text = String::from_utf8(head.forwarded).expect("ASCII");
    assert!(text.is_ascii() && text.ends_with("\r\n\r\n"));
    let lines: Vec<&str> = text.strip_suffix("\r\n\r\n").unwrap_or_default().split("\r\n").collect();
    assert!(lines.iter().all(|line| !line.is_empty() && !line.contains(['\r', '\n'])), "{text:?}");
    let words: Vec<&str> = lines[0].split(' ').collect();
    assert!(words.len() == 3 && ["HTTP/1.0", "HTTP/1.1"].contains(&words[2]), "{text:?}");
    let count = |name: &str| {
        let is_it =
            |line: &&&str| line.split(':').next().is_some_and(|field| field.eq_ignore_ascii_case(name));
        lines[1..].iter().filter(is_it).count()
    };
    assert_eq!((count(head::CONNECTION_FIELD), count("Connection")), (1, 1), "{text:?}");
    assert!(count("Host") <= 1, "{text:?}");
    for name in ["Content-Length", "Transfer-Encoding", "Expect", "Upgrade", "Cookie"] {
        assert_eq!(count(name), 0, "{text:?}");
    }
});
