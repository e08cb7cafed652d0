//! Tokens: random secrets that stand in an address, `/live.mp3?token=…`, in place of user and password. They are for players
//! that cannot send a password.
//!
//! A token has 128 random bits. So its hash needs neither a salt nor a slow function, as a password's does: nobody can try
//! 2^128 values, however fast the function is, and there is no list of probable tokens. The file has the plain BLAKE2b digest
//! (RFC 7693, 64 bytes), which takes a microsecond to check at each request, and which `printf %s TOKEN | b2sum` prints too.
//!
//! A token is written to no log line and no response but those that send a client on: redirects and playlists.

use std::fmt;

use argon2::password_hash::Output;
use base64ct::{Base64UrlUnpadded, Encoding};
use blake2::{Blake2b512, Digest};

/// Length limit of a token that is sent on to a client, in bytes. Real ones have 22.
const MAX_SENT_ON: usize = 64;

/// A token as a client sent it, or a new one. It is not checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Makes a token of 128 random bits: 22 characters that mean themselves in an address.
    ///
    /// # Errors
    ///
    /// The kernel returns no random bytes.
    pub fn random() -> Result<Token, String> {
        // A token that began with a hyphen would look like an option where a person uses it in a command.
        loop {
            let text = Base64UrlUnpadded::encode_string(&random()?);
            if !text.starts_with('-') {
                return Ok(Token(text));
            }
        }
    }

    /// Takes the value of `token=` in an address, decoded.
    pub(crate) fn of(value: String) -> Token {
        Token(value)
    }

    /// Returns the text, for the person who asked for a new token.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns `token=…` for an address to which the client is sent on. `None` for a text that is no token: nothing else that
    /// a client sends may come back in a header or a file.
    pub(crate) fn query(&self) -> Option<String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_token = !self.0.is_empty() && self.0.len() <= MAX_SENT_ON && self.0.bytes().all(is_plain);
        is_token.then(|| format!("token={}", self.0))
    }

    /// Returns the digest as the file has it.
    pub fn digest(&self) -> TokenDigest {
        // 64 bytes are within the limits of `Output`.
        TokenDigest(Output::new(&Blake2b512::digest(&self.0)).unwrap_or_else(|_| unreachable!()))
    }
}

/// Hides the token: a debug line must not hold it.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The BLAKE2b digest of a token. `Output` compares in constant time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenDigest(Output);

impl TokenDigest {
    /// The text before the digest in the file.
    pub(super) const MARK: &'static str = "$blake2b$";

    /// Reads `$blake2b$` and 128 hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<TokenDigest> {
        let hex = text.strip_prefix(Self::MARK)?.as_bytes();
        if hex.len() != 128 {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let bytes: Option<Vec<u8>> =
            hex.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
        Output::new(&bytes?).ok().map(TokenDigest)
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::MARK)?;
        self.0.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The tokens of a file.
#[derive(Debug, Default)]
pub(super) struct Tokens(Vec<TokenDigest>);

impl Tokens {
    pub(super) fn new(digests: Vec<TokenDigest>) -> Tokens {
        Tokens(digests)
    }

    /// Returns `true` if every token of `other` is here too.
    pub(super) fn have_all_of(&self, other: &Tokens) -> bool {
        other.0.iter().all(|digest| self.0.contains(digest))
    }

    /// Returns `true` if the file has this token. Compares with all of them, so that the time does not tell which one is near.
    pub(super) fn contain(&self, token: &Token) -> bool {
        let digest = token.digest();
        self.0.iter().fold(false, |found, known| found | (*known == digest))
    }
}

/// Returns 128 random bits of the kernel.
pub(super) fn random() -> Result<[u8; 16], String> {
    let mut bytes = [0; 16];
    // Early in the boot the call waits; so short a read is always complete (getrandom(2)).
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(16) => Ok(bytes),
        Ok(_) => Err("the kernel returned too few random bytes".to_owned()),
        Err(error) => Err(format!("the kernel returned no random bytes: {error}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_128_random_bits_that_mean_themselves_in_an_address() {
        let tokens: Vec<Token> = (0..100).map(|_| Token::random().unwrap()).collect();
        for token in &tokens {
            assert_eq!(token.reveal().len(), 22);
            assert_eq!(token.query(), Some(format!("token={}", token.reveal())));
            assert!(!token.reveal().starts_with('-'));
        }
        assert!(tokens.iter().skip(1).all(|token| *token != tokens[0]));
    }

    #[test]
    fn the_digest_is_the_one_that_b2sum_prints() {
        let digest = Token::of("abc".to_owned()).digest();
        // RFC 7693, appendix A; `printf %s abc | b2sum`.
        let expected = "$blake2b$ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1\
                        7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923";
        assert_eq!(digest.to_string(), expected);
        assert_eq!(TokenDigest::parse(expected), Some(digest));
        for wrong in ["", "$blake2b$", "$blake2b$ba80", &expected.replace('b', "x"), &expected[1..]] {
            assert_eq!(TokenDigest::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_tokens_of_the_file_are_known() {
        let (anna, ben) = (Token::random().unwrap(), Token::random().unwrap());
        let tokens = Tokens::new(vec![anna.digest(), ben.digest()]);
        assert!(tokens.contain(&anna) && tokens.contain(&ben));
        assert!(!tokens.contain(&Token::random().unwrap()) && !tokens.contain(&Token::of(String::new())));
        assert!(!Tokens::default().contain(&anna));
    }

    #[test]
    fn a_token_is_hidden_and_nothing_else_is_sent_on() {
        let token = Token::random().unwrap();
        assert!(!format!("{token:?}").contains(token.reveal()));
        for text in ["", "a b", "a\r\nSet-Cookie: b", "a&b", "\u{e9}", &"a".repeat(65)] {
            assert_eq!(Token::of(text.to_owned()).query(), None, "{text:?}");
        }
    }
}
