//! Deflates the page, in the zlib format (RFC 1950) that `Content-Encoding: deflate` means. The files that a browser gets are
//! those in `src/page`.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src/page");
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    for file in fs::read_dir("src/page")? {
        let file = file?;
        let deflated = miniz_oxide::deflate::compress_to_vec_zlib(&fs::read(file.path())?, 10);
        fs::write(Path::new(&out).join(file.file_name()), deflated)?;
    }
    Ok(())
}
