//! Prepares the page (`src/page`) for the program: deflates each file in the zlib format (RFC 1950), which is what
//! `Content-Encoding: deflate` means, puts the version of the page into the addresses in its first file, and lists the
//! others (`page.rs` in the output folder).
//!
//! The version is a hash of all files. So a browser may keep every file but the first one for ever.

use std::path::Path;
use std::{env, fs, io};

use miniz_oxide::deflate::compress_to_vec_zlib;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src/page");
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let mut files = Vec::new();
    for file in fs::read_dir("src/page")? {
        let file = file?;
        files.push((file.file_name(), fs::read(file.path())?));
    }
    files.sort();
    let version = version(files.iter().map(|(_, content)| content.as_slice()));
    println!("cargo::rustc-env=PAGE_VERSION={version}");
    let others = files.iter().map(|(name, _)| name.to_string_lossy()).filter(|name| name != "index.html");
    let others: Vec<String> =
        others.map(|name| Ok(format!("asset!({name:?}, {:?})", kind(&name)?))).collect::<io::Result<_>>()?;
    fs::write(Path::new(&out).join("page.rs"), format!("&[{}]", others.join(", ")))?;
    for (name, content) in files {
        let content = match name == "index.html" {
            true => String::from_utf8_lossy(&content)
                .replace("\"@page/", &format!("\"@page/{version}/"))
                .into_bytes(),
            false => content,
        };
        fs::write(Path::new(&out).join(name), compress_to_vec_zlib(&content, 10))?;
    }
    Ok(())
}

/// Returns the value of `Content-Type` for a file.
fn kind(name: &str) -> io::Result<&'static str> {
    Ok(match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => return Err(io::Error::other(format!("of what kind is {name}?"))),
    })
}

/// Returns a hash of the files: FNV-1a, 64 bits, in hexadecimal digits. It is against accidents, not against attackers.
fn version<'a>(files: impl Iterator<Item = &'a [u8]>) -> String {
    let hash = files.flatten().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
