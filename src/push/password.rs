//! The password at the server. It is read at each try, so that a corrected file is enough.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::{MOST_PASSWORD_BYTES, Password, Secret};

/// The variable in which systemd passes the folder of the credentials (systemd.exec(5)).
const FOLDER: &str = "CREDENTIALS_DIRECTORY";

/// Returns the password; an empty one where the configuration has none.
///
/// # Errors
///
/// A sentence about a file that cannot be read or that holds no password. It shows nothing of the file.
pub(super) fn read(password: &Password) -> Result<String, String> {
    match password {
        Password::None => Ok(String::new()),
        Password::Inline(Secret(password)) => Ok(password.clone()),
        Password::File(path) => read_file(path),
        Password::Credential(name) => {
            let folder = std::env::var_os(FOLDER).map(PathBuf::from).ok_or_else(|| {
                format!(
                    "systemd passes no credentials: add LoadCredential={name}:/path/to/the/file to the unit (systemctl edit \
                     wavecast)"
                )
            })?;
            read_file(&folder.join(name))
        }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let problem = |error: io::Error| format!("the password file {shown} cannot be read: {error}");
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(problem)?;
    file.take(MOST_PASSWORD_BYTES as u64 + 2).read_to_end(&mut bytes).map_err(problem)?;
    let text =
        String::from_utf8(bytes).map_err(|_| format!("the password file {shown} is no text in UTF-8"))?;
    let line = text.lines().next().unwrap_or_default().trim_end();
    match line {
        "" => Err(format!("the first line of the password file {shown} is empty")),
        line if line.len() > MOST_PASSWORD_BYTES || line.contains(char::is_control) => Err(format!(
            "the first line of the password file {shown} is no password: it is longer than \
                         {MOST_PASSWORD_BYTES} bytes or has control characters"
        )),
        line => Ok(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of_file(text: &[u8]) -> Result<String, String> {
        static LAST: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wavecast-password-{}-{number}", std::process::id()));
        fs::write(&path, text).expect("written");
        let read = read(&Password::File(path.clone()));
        fs::remove_file(path).expect("it is ours");
        read
    }

    #[test]
    fn the_password_is_the_first_line() {
        for text in ["hackme", "hackme\n", "hackme\r\n", "hackme\nmore\n"] {
            assert_eq!(of_file(text.as_bytes()).as_deref(), Ok("hackme"), "{text:?}");
        }
        assert_eq!(read(&Password::None).as_deref(), Ok(""));
        assert_eq!(read(&Password::Inline(Secret("x".to_owned()))).as_deref(), Ok("x"));
    }

    #[test]
    fn a_file_without_a_password_is_explained_without_its_contents() {
        for text in [&b""[..], b"\nsecret", &[b's'; 1000], b"secret\x01", b"\xff\xfe"] {
            let problem = of_file(text).expect_err("no password");
            assert!(problem.contains("wavecast-password") && !problem.contains("secret"), "{problem}");
        }
        let missing = Password::File("/nonexistent/x".into());
        assert!(read(&missing).expect_err("no file").contains("cannot be read: No such file"));
    }
}
