//! Users and their passwords, and the tokens of the same [file](super::credential_file): the check of a request's password or
//! token.
//!
//! A password's hash is Argon2id's (RFC 9106) with its own salt and cost. [`tokens`](super::tokens) says why a token's is not.
//!
//! Argon2 is slow and takes 12 MiB, on purpose. So the check has two halves:
//!
//! - [`Passwords::look_up`] takes microseconds: a keyed digest of each pair that was right is remembered for
//!   as long as the file is in use. It also counts tries: each client has only a few per second.
//! - [`Passwords::verify`] hashes. It takes 50 ms to a second and belongs on one thread of its own, one check
//!   at a time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::{Output, PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use blake2::{Blake2b512, Digest};

use super::basic_auth::Credentials;
use super::credential_file::{self, Entry, check_name};
use super::tokens::{Token, Tokens, random};
use crate::sys::client_key::ClientKey;

/// Memory in KiB, passes, lanes: one of the settings that OWASP's password storage cheat sheet calls equally
/// good, the one that suits a board with little memory.
const COST: (u32, u32, u32) = (12 * 1024, 3, 1);
/// Passwords and tokens that one client may try at once.
const TRIES_AT_ONCE: f64 = 5.0;
/// Passwords and tokens that one client may try per second after that.
const TRIES_PER_SECOND: f64 = 2.0;
/// Limit of the clients whose tries are counted, and of the pairs that are remembered as right. Beyond it,
/// new clients may not try until the count of an old one has expired (2.5 s), and new pairs are hashed each
/// time.
const MAX_REMEMBERED: usize = 1024;

/// The users and the tokens of a file.
pub struct Passwords {
    /// User and hash.
    users: Vec<(String, String)>,
    tokens: Tokens,
    /// Key of the digests in `right`, so that they mean nothing elsewhere.
    key: [u8; 16],
    /// Digests of the pairs that were right. Written after a hash, read at each request.
    right: Mutex<Vec<Output>>,
    tries: Mutex<HashMap<ClientKey, Tries>>,
}

/// The tries that a client has left.
struct Tries {
    left: f64,
    since: Instant,
}

/// The result of the fast half of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookUp {
    /// The password was right before.
    Right,
    /// The client has tried too many passwords.
    TooManyTries,
    /// Only [`Passwords::verify`] can tell.
    NeedsHash,
}

/// Returns the line of the file for a user.
///
/// # Errors
///
/// A sentence about the user or the password that cannot be used.
pub fn line(user: &str, password: &str) -> Result<String, String> {
    check_name(user)?;
    if password.is_empty() {
        return Err("the password is empty".to_owned());
    }
    if password.chars().any(char::is_control) {
        return Err("a password has no control characters".to_owned());
    }
    let salt = SaltString::encode_b64(&random()?).map_err(|error| error.to_string())?;
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).map_err(|error| error.to_string())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(password.as_bytes(), &salt).map_err(|error| error.to_string())?;
    Ok(format!("{user}:{hash}"))
}

impl Passwords {
    /// Reads the file of passwords and tokens.
    ///
    /// # Errors
    ///
    /// A line with file, line and key for a mistake of the file. A sentence that begins with the key if the file cannot be
    /// read or has no entry; its place is that of the key in the configuration.
    pub fn load(path: &Path) -> Result<Passwords, String> {
        Passwords::parse(&credential_file::read(path)?, &path.display().to_string())
    }

    /// Reads the text of the file that is called `file`.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn parse(text: &str, file: &str) -> Result<Passwords, String> {
        let entries = credential_file::parse(text, file)?;
        let key_name = credential_file::KEY;
        if entries.is_empty() {
            return Err(format!(
                "{key_name}: {file} has no user and no token; `wavecast password USER` adds a user"
            ));
        }
        let (mut users, mut tokens) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                Entry::User(name, hash) => users.push((name, hash)),
                Entry::Token(_, digest) => tokens.push(digest),
            }
        }
        let key = random().map_err(|error| format!("{key_name}: {error}"))?;
        let tokens = Tokens::new(tokens);
        Ok(Passwords { users, tokens, key, right: Mutex::default(), tries: Mutex::default() })
    }

    /// Returns `true` if every user and every token of `other` is here too, with the same password.
    pub(super) fn has_all_of(&self, other: &Passwords) -> bool {
        other.users.iter().all(|user| self.users.contains(user)) && self.tokens.have_all_of(&other.tokens)
    }

    /// Returns `true` if the file has this token. Takes a microsecond.
    pub(super) fn has_token(&self, token: &Token) -> bool {
        self.tokens.contain(token)
    }

    /// Takes one try from every client in `clients`, for a token that was wrong. Returns `false` if one of them has none left.
    pub(super) fn take_tries(&self, clients: &[ClientKey]) -> bool {
        clients.iter().all(|client| self.take_try(*client))
    }

    /// Looks whether this pair was right before, and takes one try from every client in `clients` if it was
    /// not. Never hashes.
    pub(super) fn look_up(&self, credentials: &Credentials, clients: &[ClientKey]) -> LookUp {
        if self.is_remembered(&self.digest(credentials)) {
            LookUp::Right
        } else if self.take_tries(clients) {
            LookUp::NeedsHash
        } else {
            LookUp::TooManyTries
        }
    }

    /// Returns `true` if the password is that of the user, and remembers the pair. Takes 50 ms to a second
    /// and 12 MiB, unless the pair was right meanwhile.
    pub(super) fn verify(&self, credentials: &Credentials) -> bool {
        let digest = self.digest(credentials);
        // A browser sends several requests at once; the hash for the first one serves all.
        if self.is_remembered(&digest) {
            return true;
        }
        let known = self.users.iter().find(|(name, _)| *name == credentials.user);
        // A user who does not exist takes as long as one who does: the time must not tell which users there
        // are.
        let Some((_, hash)) = known.or(self.users.first()) else { return false };
        let matches = PasswordHash::new(hash).is_ok_and(|hash| {
            Argon2::default().verify_password(credentials.password.as_bytes(), &hash).is_ok()
        });
        if !matches || known.is_none() {
            return false;
        }
        let mut remembered = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() < MAX_REMEMBERED && !remembered.contains(&digest) {
            remembered.push(digest);
        }
        true
    }

    fn is_remembered(&self, digest: &Output) -> bool {
        self.right.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    /// Returns the keyed digest of a pair. `Output` compares in constant time.
    fn digest(&self, credentials: &Credentials) -> Output {
        // The function that Argon2 is made of, so that the program has only one.
        let mut digest = Blake2b512::new_with_prefix(self.key);
        // No user has a colon, so no other pair has the same bytes.
        digest.update(&credentials.user);
        digest.update(b":");
        digest.update(&credentials.password);
        // 64 bytes are within the limits of `Output`.
        Output::new(&digest.finalize()).unwrap_or_else(|_| unreachable!())
    }

    /// Takes one try from a client. Returns `false` if it has none left.
    fn take_try(&self, client: ClientKey) -> bool {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.len() >= MAX_REMEMBERED && !tries.contains_key(&client) {
            let until_full = Duration::from_secs_f64(TRIES_AT_ONCE / TRIES_PER_SECOND);
            tries.retain(|_, tries| tries.since.elapsed() < until_full);
            if tries.len() >= MAX_REMEMBERED {
                return false;
            }
        }
        let now = Instant::now();
        let tries = tries.entry(client).or_insert(Tries { left: TRIES_AT_ONCE, since: now });
        let earned = now.duration_since(tries.since).as_secs_f64() * TRIES_PER_SECOND;
        (tries.left, tries.since) = ((tries.left + earned).min(TRIES_AT_ONCE), now);
        let has_one = tries.left >= 1.0;
        if has_one {
            tries.left -= 1.0;
        }
        has_one
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn passwords(pairs: &[(&str, &str)]) -> Passwords {
        let lines: Vec<String> = pairs.iter().map(|(user, password)| line(user, password).unwrap()).collect();
        Passwords::parse(&lines.join("\n"), "w").unwrap()
    }

    fn pair(user: &str, password: &str) -> Credentials {
        Credentials { user: user.to_owned(), password: password.to_owned() }
    }

    fn client(ip: &str) -> ClientKey {
        ClientKey::of(ip.parse().unwrap(), None)
    }

    #[test]
    fn only_the_right_password_of_the_right_user_is_accepted() {
        let passwords = passwords(&[("anna", "süß und lang"), ("ben", "x")]);
        for (user, password, right) in [
            ("anna", "süß und lang", true),
            ("ben", "x", true),
            ("anna", "x", false),
            ("carl", "x", false),
            ("", "", false),
        ] {
            assert_eq!(passwords.verify(&pair(user, password)), right, "{user}");
        }
    }

    #[test]
    fn two_lines_of_one_password_differ() {
        assert_ne!(line("anna", "secret").unwrap(), line("anna", "secret").unwrap());
    }

    #[test]
    fn unusable_users_and_passwords_are_refused() {
        for (user, password) in [("", "x"), ("a:b", "x"), ("a\n", "x"), ("a", ""), ("a", "x\ty")] {
            assert!(line(user, password).is_err(), "{user:?} {password:?}");
        }
    }

    #[test]
    fn a_mistake_in_the_file_is_named_by_its_line() {
        let error = |text: &str| Passwords::parse(text, "w").err().unwrap();
        let good = line("anna", "x").unwrap();
        for (text, start) in [
            ("", "access.passwords: w has no user and no token;"),
            ("# nobody\n\n", "access.passwords: w has no user and no token;"),
            (&format!("{good}\nben"), "w:2: access.passwords: is not NAME:HASH;"),
            (&good.replace("argon2id", "argon2i"), "w:1: access.passwords: has a hash that is not Argon2id;"),
        ] {
            assert!(error(text).starts_with(start), "{}", error(text));
        }
    }

    #[test]
    fn a_right_pair_is_hashed_once() {
        let passwords = passwords(&[("anna", "secret")]);
        let (right, wrong) = (pair("anna", "secret"), pair("anna", "guess"));
        let home = [client("192.168.1.7")];
        assert_eq!(passwords.look_up(&right, &home), LookUp::NeedsHash);
        assert!(passwords.verify(&right));
        assert_eq!(passwords.look_up(&right, &home), LookUp::Right);
        assert!(!passwords.verify(&wrong));
        assert_eq!(passwords.look_up(&wrong, &home), LookUp::NeedsHash);
    }

    #[test]
    fn each_client_has_a_few_tries_of_its_own() {
        let passwords = passwords(&[("anna", "secret")]);
        let guess = pair("anna", "guess");
        let tries = |clients: &[ClientKey]| {
            (0..20).filter(|_| passwords.look_up(&guess, clients) == LookUp::NeedsHash).count()
        };
        assert_eq!(tries(&[client("192.168.1.7")]), 5);
        assert_eq!(tries(&[client("192.168.1.8")]), 5, "another client has its own");
        // A forged header that changes with each try does not help where another header stays the same.
        let forged = (0..20).filter(|n| {
            let clients = [client(&format!("10.0.0.{n}")), client("8.8.8.8")];
            passwords.look_up(&guess, &clients) == LookUp::NeedsHash
        });
        assert_eq!(forged.count(), 5);
        assert!(passwords.verify(&pair("anna", "secret")));
        assert_eq!(
            passwords.look_up(&pair("anna", "secret"), &[client("192.168.1.7")]),
            LookUp::Right,
            "a remembered pair is not held up by a guesser at the same address"
        );
    }

    #[test]
    fn neighbours_in_one_ipv6_network_do_not_use_up_each_others_tries() {
        let passwords = passwords(&[("anna", "secret")]);
        let guess = pair("anna", "guess");
        let local: IpAddr = "2001:db8:1:2::1".parse().unwrap();
        for (one, other) in
            [("fe80::1", "fe80::2"), ("fd00::1", "fd00::2"), ("2001:db8:1:2::7", "2001:db8:1:2::8")]
        {
            let key = |ip: &str| ClientKey::of(ip.parse().unwrap(), Some(local));
            while passwords.look_up(&guess, &[key(one)]) == LookUp::NeedsHash {}
            assert_eq!(passwords.look_up(&guess, &[key(other)]), LookUp::NeedsHash, "{other}");
        }
        // Elsewhere, 64 bits are one client's to choose.
        while passwords.look_up(&guess, &[client("2001:db8:5::1")]) == LookUp::NeedsHash {}
        assert_eq!(passwords.look_up(&guess, &[client("2001:db8:5::2")]), LookUp::TooManyTries);
    }

    #[test]
    fn a_flood_of_addresses_takes_a_bounded_amount_of_memory() {
        let passwords = passwords(&[("anna", "secret")]);
        for n in 0..5000_u32 {
            passwords.take_try(ClientKey::of(Ipv4Addr::from(0x0A00_0000 + n).into(), None));
        }
        assert!(passwords.tries.lock().unwrap().len() <= MAX_REMEMBERED);
    }
}
