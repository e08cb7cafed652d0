//! Users and their passwords: the file that `wavecast password` makes lines for, and how one is checked.
//!
//! A line of the file is `USER:HASH`; the hash is Argon2id's (RFC 9106), with its own salt and its cost, in the
//! form that other programs use too (`$argon2id$…`). Empty lines and lines that begin with `#` mean nothing.
//!
//! Checking one is slow and takes memory, as it must. So what was right once is remembered for as long as the file
//! is, by a keyed digest; one check runs at a time; and an address has only a few tries a second.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::{Output, PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use blake2::{Blake2b512, Digest};

/// In KiB, passes, lanes: one of the settings that OWASP's password storage cheat sheet gives as equally good,
/// the one that suits a board with little memory.
const COST: (u32, u32, u32) = (12 * 1024, 3, 1);
/// A file of them is small.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// An address may try so many at once, and then so many a second.
const TRIES_AT_ONCE: f64 = 5.0;
const TRIES_A_SECOND: f64 = 2.0;
/// Addresses that are remembered for that, and pairs of user and password that were right.
const MOST_REMEMBERED: usize = 1024;
/// Checks that may wait for each other, over all addresses.
const MOST_WAITING: usize = 4;

/// The users of a file.
pub struct Passwords {
    users: Vec<(String, String)>,
    /// Keys the digests of what was right, so that they mean nothing elsewhere.
    key: [u8; 16],
    right: Mutex<Vec<Output>>,
    tries: Mutex<HashMap<IpAddr, Tries>>,
    waiting: AtomicUsize,
    checking: Mutex<()>,
}

/// What an address has left.
struct Tries {
    left: f64,
    since: Instant,
}

/// What comes of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is that user's password.
    Right,
    /// It is not, or there is no such user.
    Wrong,
    /// Not looked at: too many were tried.
    TooMany,
}

/// The file's line for a user.
///
/// # Errors
///
/// What is wrong with the name or the password.
pub fn line(user: &str, password: &str) -> Result<String, String> {
    check_user(user)?;
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

fn check_user(user: &str) -> Result<(), String> {
    if user.is_empty() || user.len() > 64 {
        return Err("a user's name has 1 to 64 bytes".to_owned());
    }
    match user.chars().find(|char| char.is_control() || *char == ':') {
        Some(char) => Err(format!("a user's name has no {char:?} in it")),
        None => Ok(()),
    }
}

fn random() -> Result<[u8; 16], String> {
    let mut bytes = [0; 16];
    // Early in the boot it waits; so few always come whole.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(16) => Ok(bytes),
        Ok(_) => Err("the kernel gave too few random bytes".to_owned()),
        Err(error) => Err(format!("the kernel gives no random bytes: {error}")),
    }
}

impl Passwords {
    /// Reads a file of them.
    ///
    /// # Errors
    ///
    /// It cannot be read, or a line is no `USER:HASH`; with file and line.
    pub fn load(path: &Path) -> Result<Passwords, String> {
        let name = path.display();
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
            .map_err(|error| format!("{name}: cannot be read: {error}"))?;
        Passwords::parse(&text).map_err(|problem| format!("{name}{problem}"))
    }

    /// The same of its text. The error begins with the line: `:3: …`.
    ///
    /// # Errors
    ///
    /// See [`load`](Self::load).
    pub fn parse(text: &str) -> Result<Passwords, String> {
        let mut users: Vec<(String, String)> = Vec::new();
        for (number, line) in (1..).zip(text.lines()).map(|(number, line)| (number, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| format!(":{number}: {why}; `wavecast password USER` makes such a line");
            let (user, hash) = line.split_once(':').ok_or_else(|| wrong("is not USER:HASH"))?;
            check_user(user).map_err(|why| wrong(&why))?;
            let parsed = PasswordHash::new(hash).map_err(|_| wrong("has no hash behind its user"))?;
            if parsed.algorithm != Algorithm::Argon2id.ident() || Params::try_from(&parsed).is_err() {
                return Err(wrong("has a hash that is not Argon2id's"));
            }
            if users.iter().any(|(other, _)| other == user) {
                return Err(wrong("has a user that is there already"));
            }
            users.push((user.to_owned(), hash.to_owned()));
        }
        if users.is_empty() {
            return Err(": has no user in it; `wavecast password USER` makes a line for one".to_owned());
        }
        Ok(Passwords {
            users,
            key: random().map_err(|error| format!(": {error}"))?,
            right: Mutex::default(),
            tries: Mutex::default(),
            waiting: AtomicUsize::new(0),
            checking: Mutex::default(),
        })
    }

    /// Whether that is the password of that user, tried from that address.
    pub fn check(&self, user: &str, password: &str, from: IpAddr) -> Verdict {
        let digest = self.digest(user, password);
        if self.right.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest) {
            return Verdict::Right;
        }
        if !self.may_try(from) {
            return Verdict::TooMany;
        }
        let right = (self.waiting.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then(|| {
            let _one_at_a_time = self.checking.lock().unwrap_or_else(PoisonError::into_inner);
            self.verify(user, password)
        });
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        match right {
            None => return Verdict::TooMany,
            Some(false) => return Verdict::Wrong,
            Some(true) => {}
        }
        let mut remembered = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() < MOST_REMEMBERED && !remembered.contains(&digest) {
            remembered.push(digest);
        }
        Verdict::Right
    }

    fn verify(&self, user: &str, password: &str) -> bool {
        let known = self.users.iter().find(|(name, _)| name == user);
        // One who does not exist takes as long as one who does.
        let Some((_, hash)) = known.or(self.users.first()) else { return false };
        let right = PasswordHash::new(hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
        right && known.is_some()
    }

    /// Compared in constant time, as `Output` is.
    fn digest(&self, user: &str, password: &str) -> Output {
        // The same function that Argon2 is made of, so that the program has one.
        let mut digest = Blake2b512::new_with_prefix(self.key);
        // No user has a colon, so nothing else has the same bytes.
        digest.update(user);
        digest.update(b":");
        digest.update(password);
        // 64 bytes are within an Output's limits.
        Output::new(&digest.finalize()).unwrap_or_else(|_| unreachable!())
    }

    fn may_try(&self, from: IpAddr) -> bool {
        let from = household(from);
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.len() >= MOST_REMEMBERED && !tries.contains_key(&from) {
            let whole = Duration::from_secs_f64(TRIES_AT_ONCE / TRIES_A_SECOND);
            tries.retain(|_, tries| tries.since.elapsed() < whole);
            if tries.len() >= MOST_REMEMBERED {
                return false;
            }
        }
        let now = Instant::now();
        let tries = tries.entry(from).or_insert(Tries { left: TRIES_AT_ONCE, since: now });
        let more = now.duration_since(tries.since).as_secs_f64() * TRIES_A_SECOND;
        (tries.left, tries.since) = ((tries.left + more).min(TRIES_AT_ONCE), now);
        let may = tries.left >= 1.0;
        if may {
            tries.left -= 1.0;
        }
        may
    }
}

/// One who has an IPv6 address has 2^64 of them.
fn household(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        ip => ip,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn passwords(pairs: &[(&str, &str)]) -> Passwords {
        let lines: Vec<String> = pairs.iter().map(|(user, password)| line(user, password).unwrap()).collect();
        Passwords::parse(&lines.join("\n")).unwrap()
    }

    #[test]
    fn the_right_password_of_the_right_user_is_right() {
        let passwords = passwords(&[("anna", "süß und lang"), ("ben", "x")]);
        assert_eq!(passwords.check("anna", "süß und lang", HOME), Verdict::Right);
        assert_eq!(passwords.check("ben", "x", HOME), Verdict::Right);
        assert_eq!(passwords.check("anna", "x", HOME), Verdict::Wrong);
        assert_eq!(passwords.check("carl", "x", HOME), Verdict::Wrong);
        assert_eq!(passwords.check("", "", HOME), Verdict::Wrong);
    }

    #[test]
    fn two_lines_of_one_password_differ() {
        assert_ne!(line("anna", "secret").unwrap(), line("anna", "secret").unwrap());
    }

    #[test]
    fn what_cannot_be_a_user_or_a_password_is_refused() {
        for (user, password) in [("", "x"), ("a:b", "x"), ("a\n", "x"), ("a", ""), ("a", "x\ty")] {
            assert!(line(user, password).is_err(), "{user:?} {password:?}");
        }
    }

    #[test]
    fn a_mistake_in_the_file_is_named_by_its_line() {
        let error = |text: &str| Passwords::parse(text).err().unwrap();
        let good = line("anna", "x").unwrap();
        assert!(error("").starts_with(": has no user in it"));
        assert!(error("# nobody\n\n").starts_with(": has no user in it"));
        assert!(error(&format!("{good}\nben")).starts_with(":2: is not USER:HASH"));
        assert!(error("ben:secret").starts_with(":1: has no hash behind its user"));
        assert!(error(&format!("{good}\n\n{good}")).starts_with(":3: has a user that is there already"));
        assert!(
            error(&good.replace("argon2id", "argon2i")).starts_with(":1: has a hash that is not Argon2id's")
        );
    }

    #[test]
    fn an_address_has_few_tries_and_others_have_theirs() {
        let passwords = passwords(&[("anna", "secret")]);
        let phone: IpAddr = "192.168.1.7".parse().unwrap();
        let verdicts: Vec<_> = (0..20).map(|_| passwords.check("anna", "guess", phone)).collect();
        let tried = verdicts.iter().filter(|verdict| **verdict == Verdict::Wrong).count();
        assert!((5..15).contains(&tried), "{verdicts:?}");
        assert_eq!(passwords.check("anna", "secret", HOME), Verdict::Right);
        // Who was right once is not held up by one who guesses from the same address.
        assert_eq!(passwords.check("anna", "secret", phone), Verdict::Right);
    }

    #[test]
    fn the_many_addresses_of_one_network_are_one() {
        let household = |ip: &str| household(ip.parse().unwrap());
        assert_eq!(household("2001:db8:1:2:3::4"), household("2001:db8:1:2:ffff::"));
        assert_ne!(household("2001:db8:1:2::1"), household("2001:db8:1:3::1"));
        assert_eq!(household("::ffff:10.0.0.1"), household("10.0.0.1"));
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_memory() {
        let passwords = passwords(&[("anna", "secret")]);
        for n in 0..5000_u32 {
            passwords.may_try(IpAddr::V4((0x0A00_0000 + n).into()));
        }
        assert!(passwords.tries.lock().unwrap().len() <= MOST_REMEMBERED);
    }
}
