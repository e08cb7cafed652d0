//! The file of passwords and tokens: its format, and the changes that `wavecast password` and `wavecast token` make to it.
//!
//! A line is `USER:$argon2id$…` for a user, with the hash in the format that other programs use too, or `NAME:$blake2b$…` for
//! a token. A user and a token may have the same name. Empty lines and lines that begin with `#` are ignored.
//!
//! One file for both means one key in the configuration, one set of permissions, and one thing to back up and to remove.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use argon2::password_hash::PasswordHash;
use argon2::{Algorithm, Params};

use super::tokens::TokenDigest;

/// Size limit of the file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The key of the configuration that names the file, as messages have it.
pub const KEY: &str = "access.passwords";

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A user with a password.
    User,
    /// A token.
    Token,
}

impl Kind {
    /// Returns the kind of an entry by the text behind its name.
    fn of(secret: &str) -> Kind {
        if secret.starts_with(TokenDigest::MARK) { Kind::Token } else { Kind::User }
    }
}

/// An entry of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A user, and the Argon2id hash of the password.
    User(String, String),
    /// A token's name and digest.
    Token(String, TokenDigest),
}

impl Entry {
    fn kind(&self) -> Kind {
        match self {
            Entry::User(..) => Kind::User,
            Entry::Token(..) => Kind::Token,
        }
    }

    fn name(&self) -> &str {
        match self {
            Entry::User(name, _) | Entry::Token(name, _) => name,
        }
    }
}

/// Reads the text of the file at `path`.
///
/// # Errors
///
/// A sentence that begins with the key of the configuration: the file cannot be read, or is too large.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| format!("{KEY}: {} cannot be read: {error}", path.display()))?;
    // A command that changes the file would lose the rest of a longer one.
    match text.len() as u64 > MAX_FILE_BYTES {
        true => Err(format!("{KEY}: {} is larger than 1 MiB", path.display())),
        false => Ok(text),
    }
}

/// Reads the entries of a text. There may be none.
///
/// # Errors
///
/// One line with file, line and key, as for other mistakes of the configuration: `FILE:3: access.passwords: …`.
pub(super) fn parse(text: &str, file: &str) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    for (number, line) in (1..).zip(text.lines()).map(|(number, line)| (number, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: &str| {
            format!(
                "{file}:{number}: {KEY}: {why}; `wavecast password USER` and `wavecast token NAME` write such lines"
            )
        };
        let (name, secret) = line.split_once(':').ok_or_else(|| wrong("is not NAME:HASH"))?;
        check_name(name).map_err(|why| wrong(&why))?;
        let entry = match Kind::of(secret) {
            Kind::Token => {
                let digest =
                    TokenDigest::parse(secret).ok_or_else(|| wrong("has a token that is not BLAKE2b"))?;
                Entry::Token(name.to_owned(), digest)
            }
            Kind::User => {
                let parsed = PasswordHash::new(secret).map_err(|_| wrong("has no hash behind its name"))?;
                if parsed.algorithm != Algorithm::Argon2id.ident() || Params::try_from(&parsed).is_err() {
                    return Err(wrong("has a hash that is not Argon2id"));
                }
                Entry::User(name.to_owned(), secret.to_owned())
            }
        };
        if entries.iter().any(|other| other.kind() == entry.kind() && other.name() == name) {
            return Err(wrong(match entry.kind() {
                Kind::User => "names a user that an earlier line names already",
                Kind::Token => "names a token that an earlier line names already",
            }));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Checks the name of a user or a token.
///
/// # Errors
///
/// A sentence about the name.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > 64 {
        return Err("a name has 1 to 64 bytes".to_owned());
    }
    // The file is read line by line, without the spaces around a line.
    if name.trim_start() != name || name.starts_with('#') {
        return Err("a name does not begin with a space or with #".to_owned());
    }
    match name.chars().find(|char| char.is_control() || *char == ':') {
        Some(char) => Err(format!("a name has no {char:?} in it")),
        None => Ok(()),
    }
}

/// The result of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There was no such entry before.
    Added,
    /// The entry was there, and was replaced.
    Replaced,
    /// The entry was removed.
    Removed,
}

/// The file as a command reads and changes it.
#[derive(Debug)]
pub struct CredentialFile {
    path: PathBuf,
    text: String,
}

impl CredentialFile {
    /// Reads the file at `path`. An absent file is an empty one.
    ///
    /// # Errors
    ///
    /// A sentence: the file cannot be read.
    pub fn open(path: &Path) -> Result<CredentialFile, String> {
        let text = match path.try_exists() {
            Ok(false) => String::new(),
            _ => read(path)?,
        };
        Ok(CredentialFile { path: path.to_owned(), text })
    }

    /// Returns the names of the users, or of the tokens, in the order of the file.
    ///
    /// # Errors
    ///
    /// A mistake of the file, with its line.
    pub fn names(&self, kind: Kind) -> Result<Vec<String>, String> {
        let entries = parse(&self.text, &self.path.display().to_string())?;
        Ok(entries.iter().filter(|entry| entry.kind() == kind).map(|entry| entry.name().to_owned()).collect())
    }

    /// Returns `true` if the file has neither a user nor a token.
    pub fn is_empty(&self) -> bool {
        parse(&self.text, "").is_ok_and(|entries| entries.is_empty())
    }

    /// Puts a line in place of the one with the same name and kind, or at the end. All other lines stay as they are.
    pub fn set(&mut self, line: &str) -> Change {
        let Some((name, secret)) = line.split_once(':') else { return Change::Added };
        let kind = Kind::of(secret);
        let mut lines: Vec<&str> = self.text.lines().collect();
        let change = match lines.iter().position(|other| is_of(other, name, kind)) {
            Some(at) => {
                lines[at] = line;
                Change::Replaced
            }
            None => {
                lines.push(line);
                Change::Added
            }
        };
        self.text = lines.join("\n") + "\n";
        change
    }

    /// Removes the lines with that name and kind. `None` if there is none.
    pub fn remove(&mut self, name: &str, kind: Kind) -> Option<Change> {
        let rest: String = self.text.lines().filter(|line| !is_of(line, name, kind)).fold(
            String::new(),
            |mut text, line| {
                text.push_str(line);
                text.push('\n');
                text
            },
        );
        let has_changed = rest.lines().count() < self.text.lines().count();
        has_changed.then(|| {
            self.text = rest;
            Change::Removed
        })
    }

    /// Writes the file: a new file in the same folder takes the place of the old one, so that no reader and no power cut
    /// meets half of it.
    ///
    /// As root, the file belongs to root and to the group `group`, which may read it: 0640. Without that group, and for
    /// another user, only the writer may read it: 0600.
    ///
    /// # Errors
    ///
    /// A mistake in another line of the file, or a sentence about a call that failed. Nothing has changed then.
    pub fn write(&self, group: Option<u32>) -> Result<(), String> {
        parse(&self.text, &self.path.display().to_string())?;
        let failed = |error: io::Error| format!("{} cannot be written: {error}", self.path.display());
        // A link stays a link.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let written = write_new(&temporary, &self.text, group).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            failed(error)
        })?;
        // The new name is on the disk with its folder. A file system that cannot do that has done all that it can.
        if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

/// Returns `true` if a line of the file is the entry of that name and kind.
fn is_of(line: &str, name: &str, kind: Kind) -> bool {
    line.trim().split_once(':').is_some_and(|(other, secret)| other == name && Kind::of(secret) == kind)
}

/// Writes a file that nobody else can have opened, to the disk.
fn write_new(path: &Path, text: &str, group: Option<u32>) -> io::Result<()> {
    // A file of a process that had the same ID and was killed.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    if let Some(group) = group {
        fchown(&file, Some(0), Some(group))?;
        file.set_permissions(Permissions::from_mode(0o640))?;
    }
    file.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::http::access::passwords;
    use crate::http::access::tokens::Token;

    fn token_line(name: &str) -> String {
        format!("{name}:{}", Token::random().unwrap().digest())
    }

    fn file(text: &str) -> CredentialFile {
        CredentialFile { path: "/etc/w.passwords".into(), text: text.to_owned() }
    }

    #[test]
    fn a_change_leaves_all_other_lines_as_they_are() {
        let (anna, kitchen) = (passwords::line("anna", "one").unwrap(), token_line("kitchen"));
        let mut file = file(&format!("# ours\n\n{anna}\n  {kitchen}  "));
        let ben = passwords::line("ben", "two").unwrap();
        assert_eq!(file.set(&ben), Change::Added);
        assert_eq!(file.text, format!("# ours\n\n{anna}\n  {kitchen}  \n{ben}\n"));
        // A token with the name of a user is another entry.
        let token = token_line("anna");
        assert_eq!(file.set(&token), Change::Added);
        let anna_2 = passwords::line("anna", "three").unwrap();
        assert_eq!(file.set(&anna_2), Change::Replaced);
        assert_eq!(file.text, format!("# ours\n\n{anna_2}\n  {kitchen}  \n{ben}\n{token}\n"));
        assert_eq!(file.names(Kind::User).unwrap(), ["anna", "ben"]);
        assert_eq!(file.names(Kind::Token).unwrap(), ["kitchen", "anna"]);

        assert_eq!(file.remove("kitchen", Kind::User), None);
        assert_eq!(file.remove("kitchen", Kind::Token), Some(Change::Removed));
        assert_eq!(file.remove("anna", Kind::User), Some(Change::Removed));
        assert_eq!(file.text, format!("# ours\n\n{ben}\n{token}\n"));
        assert!(!file.is_empty());
        file.remove("ben", Kind::User);
        file.remove("anna", Kind::Token);
        assert!(file.is_empty() && file.text == "# ours\n\n", "{}", file.text);
    }

    #[test]
    fn mistakes_have_file_line_and_key() {
        let anna = passwords::line("anna", "one").unwrap();
        let error = |text: &str| parse(text, "/etc/w.passwords").unwrap_err();
        for (text, start) in [
            ("\nanna", ":2: access.passwords: is not NAME:HASH;"),
            ("anna:plain", ":1: access.passwords: has no hash behind its name;"),
            ("kitchen:$blake2b$12", ":1: access.passwords: has a token that is not BLAKE2b;"),
            (
                &format!("{anna}\n{anna}"),
                ":2: access.passwords: names a user that an earlier line names already;",
            ),
        ] {
            let error = error(text);
            assert!(error.starts_with(&format!("/etc/w.passwords{start}")), "{error}");
        }
    }

    #[test]
    fn names_that_a_line_cannot_hold_are_refused() {
        for name in ["", "a:b", "a\nb", " a", "#a", &"a".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["anna", "Radio in the kitchen", "\u{e4}nne", "a#b"] {
            assert_eq!(check_name(name), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn the_file_is_replaced_whole_and_closed_to_others() {
        let folder = std::env::temp_dir().join(format!("wavecast-credentials-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (path, link) = (folder.join("passwords"), folder.join("link"));
        let mut file = CredentialFile::open(&path).unwrap();
        file.set(&passwords::line("anna", "one").unwrap());
        file.write(None).unwrap();
        let before = fs::metadata(&path).unwrap();
        assert_eq!(before.mode() & 0o777, 0o600);
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut file = CredentialFile::open(&link).unwrap();
        file.set(&token_line("kitchen"));
        file.write(None).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_ne!(fs::metadata(&path).unwrap().ino(), before.ino(), "another file took its place");
        if rustix::process::geteuid().is_root() {
            file.write(Some(1_000_001)).unwrap();
            let after = fs::metadata(&path).unwrap();
            assert_eq!((after.mode() & 0o777, after.uid(), after.gid()), (0o640, 0, 1_000_001));
        }
        assert_eq!(CredentialFile::open(&path).unwrap().names(Kind::Token).unwrap(), ["kitchen"]);
        // Only the file and the link are left, also after a failure.
        file.text.push_str("a mistake\n");
        assert!(file.write(None).unwrap_err().contains("link:3: access.passwords: is not NAME:HASH"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        assert_eq!(CredentialFile::open(&path).unwrap().text.lines().count(), 2);
        fs::remove_dir_all(&folder).unwrap();
    }
}
