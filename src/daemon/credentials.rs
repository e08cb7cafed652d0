//! The file of passwords and tokens as a reload compares it: is an entry new, gone, or another one?

use std::collections::BTreeSet;
use std::fs;

use crate::config::Config;

/// The lines of the file. Listeners are not known by their users and tokens, so a line that is gone or another one ends all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials(Option<BTreeSet<String>>);

impl Credentials {
    /// Reads the password file of `config`, which `Access::new` has checked.
    pub(super) fn read(config: &Config) -> Credentials {
        let Some(file) = &config.access.passwords else { return Credentials(None) };
        let text = fs::read_to_string(file).unwrap_or_default();
        Credentials(Some(text.lines().map(|line| line.trim().to_owned()).collect()))
    }

    /// Returns `true` if a listener that `old` let in might not be let in now: passwords are new, or an entry is
    /// gone.
    pub(super) fn narrows(&self, old: &Credentials) -> bool {
        match (&self.0, &old.0) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(new), Some(old)) => {
                old.difference(new).any(|line| !line.is_empty() && !line.starts_with('#'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_cut_when_a_password_is_new_or_gone() {
        let file = |lines: &[&str]| Credentials(Some(lines.iter().map(|line| (*line).to_owned()).collect()));
        let open = Credentials(None);
        for (old, new, expected) in [
            (&open, &open, false),
            (&open, &file(&["anna:x"]), true),
            (&file(&["anna:x"]), &open, false),
            (&file(&["anna:x"]), &file(&["anna:x", "ben:y"]), false),
            (&file(&["anna:x", "# a comment", ""]), &file(&["anna:x"]), false),
            (&file(&["anna:x", "ben:y"]), &file(&["anna:x"]), true),
            (&file(&["anna:x"]), &file(&["anna:z"]), true),
            (&file(&["anna:x"]), &file(&["anna:x", "radio:$blake2b$y"]), false),
            (&file(&["anna:x", "radio:$blake2b$y"]), &file(&["anna:x"]), true),
        ] {
            assert_eq!(new.narrows(old), expected, "{old:?} to {new:?}");
        }
    }
}
