//! Which pages from elsewhere may read what is here: cross-origin resource sharing (Fetch Standard, § 3.3).
//!
//! A browser lets a page of another origin read an answer only if the answer says so. Nothing says so, unless the
//! configuration names the page's origin. It changes nothing about who may ask: address, `Host` and password count
//! as ever. No credentials are shared that the page does not have itself: one that wants a password answered sends
//! the `Authorization` header of its own.

/// Headers of an answer that a page could not read otherwise.
const EXPOSED: &str = "Accept-Ranges, Content-Disposition, Content-Range, ETag, Retry-After, Wavecast-Frame";
/// Headers of a request that a page may set.
const ALLOWED: &str = "Authorization, Cache-Control, If-None-Match, If-Range, Last-Event-ID, Range";
/// How long a browser need not ask again, in seconds.
const MAX_AGE: &str = "600";

/// What an answer says of this.
pub(crate) struct Cors {
    headers: Vec<(&'static str, String)>,
    granted: bool,
}

impl Cors {
    /// Nothing.
    pub(crate) fn none() -> Cors {
        Cors { headers: Vec::new(), granted: false }
    }

    /// What one says to a request with that `Origin`, where those origins may read.
    pub(crate) fn of(origins: &[String], origin: Option<&str>) -> Cors {
        if origins.is_empty() {
            return Cors::none();
        }
        let any = origins.iter().any(|one| one == "*");
        let granted = origin.filter(|origin| any || origins.iter().any(|one| one == origin));
        let mut headers = Vec::new();
        if !any {
            // Also where nothing is granted: what a cache keeps for one page is not for another.
            headers.push(("Vary", "Origin".to_owned()));
        }
        if let Some(origin) = granted {
            let whom = if any { "*" } else { origin };
            headers.push(("Access-Control-Allow-Origin", whom.to_owned()));
            headers.push(("Access-Control-Expose-Headers", EXPOSED.to_owned()));
        }
        Cors { headers, granted: granted.is_some() }
    }

    /// The same as the answer to a question whether a page may ask, if it may.
    pub(crate) fn preflight(mut self) -> Option<Cors> {
        self.headers.retain(|(name, _)| *name != "Access-Control-Expose-Headers");
        self.headers.extend([
            ("Access-Control-Allow-Methods", "GET, HEAD".to_owned()),
            ("Access-Control-Allow-Headers", ALLOWED.to_owned()),
            ("Access-Control-Max-Age", MAX_AGE.to_owned()),
        ]);
        self.granted.then_some(self)
    }

    /// Names and values of the headers.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// A head, up to and with its empty line, with them in it.
    pub(crate) fn within(&self, head: &str) -> String {
        let end = head.strip_suffix("\r\n").unwrap_or(head);
        let lines: String = self.headers().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{end}{lines}\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(cors: &Cors) -> Option<&str> {
        cors.headers().find(|(name, _)| *name == "Access-Control-Allow-Origin").map(|(_, value)| value)
    }

    #[test]
    fn only_an_origin_that_is_named_may_read() {
        let named = ["https://example.org".to_owned(), "http://pi:8080".to_owned()];
        for origin in ["https://example.org", "http://pi:8080"] {
            assert_eq!(allowed(&Cors::of(&named, Some(origin))), Some(origin));
        }
        for origin in [
            "http://example.org",
            "https://example.org:8443",
            "https://a.example.org",
            "https://example.org.evil.example",
            "https://example.or",
            "null",
            "*",
            "",
        ] {
            let cors = Cors::of(&named, Some(origin));
            assert_eq!(allowed(&cors), None, "{origin}");
            assert_eq!(cors.headers().collect::<Vec<_>>(), [("Vary", "Origin")]);
            assert!(cors.preflight().is_none());
        }
        assert_eq!(allowed(&Cors::of(&named, None)), None);
    }

    #[test]
    fn everybody_is_everybody_and_nobody_is_nobody() {
        let any = Cors::of(&["*".to_owned()], Some("https://example.org"));
        assert_eq!(allowed(&any), Some("*"));
        assert!(any.headers().all(|(name, _)| name != "Vary"), "it is the same for all");
        assert_eq!(Cors::of(&[], Some("https://example.org")).headers().count(), 0);
    }

    #[test]
    fn a_head_gets_its_lines_before_its_end() {
        let cors = Cors::of(&["*".to_owned()], Some("http://a"));
        let head = cors.within("HTTP/1.1 200 OK\r\nA: b\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nA: b\r\nAccess-Control-Allow-Origin: *\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n") && head.matches("\r\n\r\n").count() == 1, "{head}");
        assert_eq!(Cors::none().within("A\r\n\r\n"), "A\r\n\r\n");
    }
}
