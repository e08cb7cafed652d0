//! The files of the page (`src/page`), which are part of the program.
//!
//! Every browser gets the same files. They change only with the program; the state that the page shows comes from the
//! [event stream](crate::http::event_stream). The program contains the files deflated (`build.rs`), and sends them so to each
//! client that accepts that: all browsers do, and it is a third of the bytes.

use miniz_oxide::inflate::decompress_to_vec_zlib;

use crate::http::exchange::Exchange;
use crate::http::response::Response;

/// A file of the page.
pub struct Asset {
    name: &'static str,
    /// The value of `Content-Type`.
    pub kind: &'static str,
    deflated: &'static [u8],
}

macro_rules! asset {
    ($name:literal, $kind:expr) => {
        Asset { name: $name, kind: $kind, deflated: include_bytes!(concat!(env!("OUT_DIR"), "/", $name)) }
    };
}

/// The file for the path `/`.
pub static INDEX: Asset = asset!("index.html", "text/html; charset=utf-8");

/// All other files of `src/page`.
static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// The version of the page, which is part of the addresses in its first file: a hash of all files.
pub const VERSION: &str = env!("PAGE_VERSION");

/// Returns the file of that name under `/@page/`. A version may precede the name, also that of another wavecast: a page that
/// was opened before an update gets its last files from the new one.
pub fn asset(name: &str) -> Option<&'static Asset> {
    let is_version =
        |text: &str| text.len() == VERSION.len() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = name.split_once('/').filter(|(version, _)| is_version(version)).map_or(name, |(_, name)| name);
    ASSETS.iter().find(|asset| asset.name == name)
}

/// The sources that the page may load: this server alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self'; \
                      img-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors ";

/// Returns the content security policy. Only pages of the origins `frames` may show this page in a frame.
fn policy(frames: &[String]) -> String {
    let frames = if frames.is_empty() { "'none'" } else { &frames.join(" ") };
    format!("{POLICY}{frames}")
}

/// Answers with a file of the page, or with 304 a browser whose `If-None-Match` names the file. Pages of the origins
/// `frames` may show it in a frame. A browser keeps a file for ever whose address has this version.
pub(crate) fn serve(exchange: Exchange, asset: &Asset, frames: &[String]) {
    let is_deflated = exchange.header("Accept-Encoding").is_some_and(accepts_deflate);
    let tag = asset.tag(is_deflated);
    let response = match (exchange.has_copy(&tag), is_deflated) {
        (true, _) => Response::not_modified(),
        (false, true) => Response::new(200, asset.kind, asset.deflated).with("Content-Encoding", "deflate"),
        (false, false) => Response::new(200, asset.kind, asset.bytes()),
    };
    let is_versioned = exchange.url().contains(&format!("/@page/{VERSION}/"));
    let lifetime = if is_versioned { "max-age=31536000, immutable" } else { "no-cache" };
    let response = response
        .with("Cache-Control", lifetime)
        .with("ETag", &tag)
        .with("Vary", "Accept-Encoding")
        .with("Content-Security-Policy", &policy(frames))
        .with("Referrer-Policy", "no-referrer")
        .with("Cross-Origin-Resource-Policy", "same-origin");
    exchange.respond(response);
}

/// Returns `true` if `Accept-Encoding` names deflate and does not forbid it (RFC 9110 §12.5.3).
fn accepts_deflate(accepted: &str) -> bool {
    let mut codings = accepted.split(',').map(|coding| coding.split(';').map(str::trim));
    codings.any(|mut coding| {
        let is_deflate = coding.next().is_some_and(|name| name.eq_ignore_ascii_case("deflate"));
        let is_forbidden = coding.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        is_deflate && !is_forbidden
    })
}

impl Asset {
    /// Returns the content of the file.
    pub fn bytes(&self) -> Vec<u8> {
        // The build has deflated it, so that this does not fail.
        decompress_to_vec_zlib(self.deflated).unwrap_or_default()
    }

    /// Returns the ETag of the file, deflated or not, which differs when the content differs.
    pub fn tag(&self, is_deflated: bool) -> String {
        // FNV-1a, 64 bits. No attacker can choose the content, so that a hash against accidents is enough.
        let hash = self.deflated.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let suffix = if is_deflated { "-z" } else { "" };
        format!("\"{hash:016x}{suffix}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = &'static Asset> {
        [&INDEX].into_iter().chain(ASSETS)
    }

    /// Returns the text of a file; nothing for a picture.
    fn text(asset: &Asset) -> String {
        String::from_utf8(asset.bytes()).unwrap_or_default()
    }

    #[test]
    fn a_browser_gets_the_files_as_they_are_in_the_tree() {
        for asset in all() {
            let served = match asset.name {
                "index.html" => text(asset).replace(&format!("@page/{VERSION}/"), "@page/").into_bytes(),
                _ => asset.bytes(),
            };
            let file = format!("src/page/{}", asset.name);
            assert_eq!(served, std::fs::read(&file).expect("a file"), "{file}");
        }
        assert_eq!(std::fs::read_dir("src/page").expect("the page").count(), all().count());
    }

    #[test]
    fn deflate_is_sent_to_those_who_accept_it() {
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", true),
            ("Deflate;q=0.5", true),
            ("gzip", false),
            ("", false),
            ("gzip, deflate;q=0", false),
            ("deflate; q=0.000", false),
            ("*", false),
        ] {
            assert_eq!(accepts_deflate(accepted), expected, "{accepted}");
        }
    }

    #[test]
    fn the_page_is_small() {
        let deflated: usize = all().map(|asset| asset.deflated.len()).sum();
        assert!(deflated <= 64 * 1024, "{deflated} bytes on the way");
        let bytes: usize = all().map(|asset| asset.bytes().len()).sum();
        assert!(bytes <= 120 * 1024, "{bytes} bytes");
    }

    /// A script that the browser hears of from another script only costs a round trip more.
    #[test]
    fn the_first_file_names_every_script() {
        let index = text(&INDEX);
        for asset in ASSETS.iter().filter(|asset| asset.name.ends_with(".js")) {
            assert!(index.contains(&format!("@page/{VERSION}/{}\"", asset.name)), "{}", asset.name);
        }
    }

    /// A page that was opened as `http://user:pass@host/` may not request an address with user and password, and one that was
    /// opened with a token needs it in each address. `at` of address.js does both.
    #[test]
    fn every_address_that_the_scripts_request_is_made_by_one_function() {
        let scripts = ASSETS.iter().filter(|asset| asset.name.ends_with(".js"));
        let text: String = scripts.map(text).collect();
        for request in ["fetch(", "new EventSource(", ".src = "] {
            let requests: Vec<&str> = text.split(request).skip(1).collect();
            assert!(!requests.is_empty(), "{request}");
            let comments = [") to the loudspeaker", ") refuses"];
            for made in requests.iter().filter(|made| !comments.iter().any(|words| made.starts_with(words))) {
                assert!(made.starts_with("at("), "{request}{}", &made[..40]);
            }
        }
        assert_eq!(text.matches("new URL(").count(), 2, "in address.js, and for the address bar");
    }

    #[test]
    fn nothing_in_it_comes_from_elsewhere_and_nothing_is_inline() {
        for asset in all() {
            for mark in ["http://", "https://", "<style", "style=\"", "onclick=\"", "javascript:", "eval("] {
                // The one exception is the name of SVG.
                let text = text(asset).replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(mark), "{}: {mark}", asset.name);
            }
        }
    }

    #[test]
    fn every_file_that_is_referred_to_is_there() {
        for asset in all() {
            let text = text(asset);
            for part in text.split("\"@page/").skip(1).chain(text.split("from './").skip(1)) {
                let name: String = part.chars().take_while(|c| !matches!(c, '"' | '\'' | '`')).collect();
                assert!(super::asset(&name).is_some(), "{}: {name}", asset.name);
            }
        }
    }

    #[test]
    fn a_file_is_found_with_any_version_and_without() {
        for name in ["app.js", &format!("{VERSION}/app.js"), "0123456789abcdef/app.js"] {
            assert_eq!(asset(name).map(|asset| asset.name), Some("app.js"), "{name}");
        }
        for name in ["", "app", "x/app.js", &format!("{VERSION}/"), &format!("{VERSION}/{VERSION}/app.js")] {
            assert!(asset(name).is_none(), "{name}");
        }
    }

    #[test]
    fn each_content_has_its_own_tag() {
        let mut tags: Vec<String> = all().flat_map(|asset| [asset.tag(false), asset.tag(true)]).collect();
        let count = tags.len();
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), count);
    }
}
