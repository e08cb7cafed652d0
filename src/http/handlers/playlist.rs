//! Playlists, for players that would rather open a file.

use std::net::SocketAddr;

use tiny_http::Request;

/// The server's address as the client knows it: its Host header, or else the machine's own.
pub fn base(request: &Request, address: SocketAddr) -> String {
    let host = request
        .headers()
        .iter()
        .find(|header| header.field.equiv("Host"))
        .map(|header| header.value.as_str())
        .filter(|host| is_host(host));
    match host {
        Some(host) => format!("http://{host}"),
        None => format!("http://localhost:{}", address.port()),
    }
}

/// Whether it can stand in an address: what else somebody sends must not come back in a file.
fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

/// `NAME.m3u`
pub fn m3u(base: &str, name: &str) -> String {
    format!("#EXTM3U\n#EXTINF:-1,{name}\n{base}/{name}.wav\n")
}

/// `NAME.pls`
pub fn pls(base: &str, name: &str) -> String {
    format!("[playlist]\nNumberOfEntries=1\nFile1={base}/{name}.wav\nTitle1={name}\nLength1=-1\nVersion=2\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_a_host_goes_into_a_playlist() {
        for host in ["pi", "pi.local:4410", "192.168.1.5", "[fe80::1]:4410"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["", "a b", "pi/evil", "pi\"", "pi\n", "p%69"] {
            assert!(!is_host(host), "{host}");
        }
    }

    #[test]
    fn playlists_name_the_endless_stream() {
        assert!(m3u("http://pi:4410", "live").ends_with("\nhttp://pi:4410/live.wav\n"));
        assert!(pls("http://pi:4410", "live").contains("\nFile1=http://pi:4410/live.wav\n"));
    }
}
