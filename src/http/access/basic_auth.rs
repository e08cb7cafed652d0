//! The `Authorization: Basic …` header (RFC 7617).

use base64ct::{Base64, Encoding};

/// A user and a password as a client sent them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Has no colon.
    pub(crate) user: String,
    /// May have colons.
    pub(crate) password: String,
}

impl Credentials {
    /// Reads the value of an `Authorization` header. `None` for another scheme and for what is no Base64 of
    /// UTF-8 with a colon.
    pub(crate) fn parse(header: &str) -> Option<Credentials> {
        let (scheme, encoded) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(Base64::decode_vec(encoded.trim()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Credentials { user: user.to_owned(), password: password.to_owned() })
    }
}

/// Hides the password: a debug line must not hold it.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_as_the_standard_says() {
        for (header, user, password) in [
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin", "open sesame"),
            ("basic dGVzdDoxMjPCow==", "test", "123£"),
            ("Basic YTpiOmM=", "a", "b:c"),
        ] {
            let expected = Credentials { user: user.to_owned(), password: password.to_owned() };
            assert_eq!(Credentials::parse(header), Some(expected), "{header}");
        }
        for header in ["", "Basic", "Basic !", "Bearer YTpi", "Basic YWI=", "Basic /w==", "Basic YTpi extra"]
        {
            assert_eq!(Credentials::parse(header), None, "{header}");
        }
    }

    #[test]
    fn a_debug_line_holds_no_password() {
        let credentials = Credentials::parse("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{credentials:?}").contains("sesame"));
    }
}
