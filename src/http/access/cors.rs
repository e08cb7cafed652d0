//! Cross-origin resource sharing (Fetch Standard, § 3.3): which pages from elsewhere may read the responses.
//!
//! A browser lets a page of another origin read a response only if the response says so. No response does,
//! unless the configuration names the page's origin. The access rules stay the same: address, `Host` and
//! password count as ever. The browser adds no credentials of its own: a page that wants a protected response
//! sends the `Authorization` header itself.

/// Response headers that a page could not read otherwise.
const EXPOSED_HEADERS: &str =
    "Accept-Ranges, Content-Disposition, Content-Range, ETag, Retry-After, Wavecast-Frame";
/// Request headers that a page may set.
const ALLOWED_HEADERS: &str = "Authorization, Cache-Control, If-None-Match, If-Range, Last-Event-ID, Range";
/// Time for which a browser may remember the answer to a preflight request, in seconds.
const MAX_AGE: &str = "600";

/// The CORS headers of one response.
pub(crate) struct Cors {
    headers: Vec<(&'static str, String)>,
    is_granted: bool,
}

impl Cors {
    /// Returns no headers.
    pub(crate) fn none() -> Cors {
        Cors { headers: Vec::new(), is_granted: false }
    }

    /// Returns the headers for a request with this `Origin`, where pages of `origins` may read (`*` is all).
    pub(crate) fn of(origins: &[String], origin: Option<&str>) -> Cors {
        if origins.is_empty() {
            return Cors::none();
        }
        let any = origins.iter().any(|one| one == "*");
        let granted = origin.filter(|origin| any || origins.iter().any(|one| one == origin));
        let mut headers = Vec::new();
        if !any {
            // Also where nothing is granted: a cache must not give the response for one page to another page.
            headers.push(("Vary", "Origin".to_owned()));
        }
        if let Some(origin) = granted {
            let reader = if any { "*" } else { origin };
            headers.push(("Access-Control-Allow-Origin", reader.to_owned()));
            headers.push(("Access-Control-Expose-Headers", EXPOSED_HEADERS.to_owned()));
        }
        Cors { headers, is_granted: granted.is_some() }
    }

    /// Returns the headers of the answer to a preflight request, `None` if the page may not read.
    pub(crate) fn preflight(mut self) -> Option<Cors> {
        self.headers.retain(|(name, _)| *name != "Access-Control-Expose-Headers");
        self.headers.extend([
            ("Access-Control-Allow-Methods", "GET, HEAD".to_owned()),
            ("Access-Control-Allow-Headers", ALLOWED_HEADERS.to_owned()),
            ("Access-Control-Max-Age", MAX_AGE.to_owned()),
        ]);
        self.is_granted.then_some(self)
    }

    /// Returns the headers as a [`ResponseHead`](crate::http::response_head::ResponseHead) has them.
    pub(crate) fn pairs(&self) -> &[(&'static str, String)] {
        &self.headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(cors: &Cors) -> Option<&str> {
        let allowed = cors.pairs().iter().find(|(name, _)| *name == "Access-Control-Allow-Origin");
        allowed.map(|(_, value)| value.as_str())
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
            assert_eq!(cors.pairs(), [("Vary", "Origin".to_owned())]);
            assert!(cors.preflight().is_none());
        }
        assert_eq!(allowed(&Cors::of(&named, None)), None);
    }

    #[test]
    fn a_star_grants_all_origins_and_an_empty_list_none() {
        let any = Cors::of(&["*".to_owned()], Some("https://example.org"));
        assert_eq!(allowed(&any), Some("*"));
        assert!(any.pairs().iter().all(|(name, _)| *name != "Vary"), "the response is the same for all");
        assert_eq!(Cors::of(&[], Some("https://example.org")).pairs().len(), 0);
    }
}
