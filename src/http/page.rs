//! The page: what it is made of, as it lies in `src/page`, within the program.
//!
//! It is the same for everybody and changes with the program alone; what it shows comes from
//! [`levels`](super::levels). There is no build step: these are the files that a browser gets.

/// A file of the page.
pub struct Asset {
    name: &'static str,
    /// Its Content-Type.
    pub kind: &'static str,
    /// What is in it.
    pub text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// `/`
pub static INDEX: Asset =
    Asset { name: "index.html", kind: "text/html; charset=utf-8", text: include_str!("../page/index.html") };

macro_rules! scripts {
    ($($name:literal),*) => {
        [$(Asset { name: $name, kind: SCRIPT, text: include_str!(concat!("../page/", $name)) }),*]
    };
}

static STYLE: Asset =
    Asset { name: "style.css", kind: "text/css; charset=utf-8", text: include_str!("../page/style.css") };

static SCRIPTS: [Asset; 10] = scripts![
    "app.js",
    "events.js",
    "live.js",
    "meters.js",
    "qr.js",
    "sound.js",
    "spectrogram.js",
    "steady.js",
    "texts.js",
    "worklet.js"
];

/// The file of that name under `/@page/`.
pub fn asset(name: &str) -> Option<&'static Asset> {
    if name == STYLE.name {
        return Some(&STYLE);
    }
    SCRIPTS.iter().find(|asset| asset.name == name)
}

impl Asset {
    /// Its ETag: another one for every other content.
    pub fn tag(&self) -> String {
        // FNV-1a, 64 bits: nobody has a reason to make two that are alike.
        let hash = self.text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("\"{hash:016x}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = &'static Asset> {
        [&INDEX, &STYLE].into_iter().chain(&SCRIPTS)
    }

    #[test]
    fn the_page_is_small() {
        let bytes: usize = all().map(|asset| asset.text.len()).sum();
        assert!(bytes < 60 * 1024, "{bytes} bytes");
    }

    #[test]
    fn nothing_in_it_comes_from_elsewhere_and_nothing_is_inline() {
        for asset in all() {
            for mark in ["http://", "https://", "<style", "style=\"", "onclick=\"", "javascript:", "eval("] {
                // The one exception is the name of SVG.
                let text = asset.text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(mark), "{}: {mark}", asset.name);
            }
        }
    }

    #[test]
    fn every_file_that_is_referred_to_is_there() {
        for asset in all() {
            for part in asset.text.split("\"@page/").skip(1).chain(asset.text.split("from './").skip(1)) {
                let name: String = part.chars().take_while(|c| !matches!(c, '"' | '\'' | '`')).collect();
                assert!(super::asset(&name).is_some(), "{}: {name}", asset.name);
            }
        }
    }

    #[test]
    fn each_content_has_its_own_tag() {
        let mut tags: Vec<String> = all().map(Asset::tag).collect();
        let count = tags.len();
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), count);
    }
}
