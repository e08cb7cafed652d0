//! The short answers, which tiny_http writes.

use tiny_http::{Header, Request, Response};

use super::access::cors::Cors;
use super::handlers::page::Asset;

/// Answers with a line of text.
pub(crate) fn text(request: Request, cors: &Cors, status: u16, line: &str) {
    send(request, cors, status, "text/plain; charset=utf-8", format!("{line}\n"), &[]);
}

/// 503: it may be otherwise in a moment.
pub(crate) fn unavailable(request: Request, cors: &Cors, line: &str) {
    send(request, cors, 503, "text/plain; charset=utf-8", format!("{line}\n"), &[("Retry-After", "5")]);
}

/// 401: a browser asks its user, and tries again.
pub(crate) fn unauthorized(request: Request, cors: &Cors) {
    let challenge = ("WWW-Authenticate", "Basic realm=\"wavecast\", charset=\"UTF-8\"");
    send(
        request,
        cors,
        401,
        "text/plain; charset=utf-8",
        "This needs a user and a password.\n".to_owned(),
        &[challenge],
    );
}

/// 429: too much in too short a time.
pub(crate) fn too_many(request: Request, cors: &Cors, line: &str) {
    send(request, cors, 429, "text/plain; charset=utf-8", format!("{line}\n"), &[("Retry-After", "1")]);
}

/// 405, with what is allowed. The connection cannot go on: what came with the request was not read.
pub(crate) fn not_allowed(request: Request, cors: &Cors) {
    let text = format!("{} is not allowed here, only GET and HEAD.\n", request.method());
    send(request, cors, 405, "text/plain; charset=utf-8", text, &[("Allow", "GET, HEAD")]);
}

/// 204: a page from elsewhere may ask for this.
pub(crate) fn preflight(request: Request, cors: &Cors) {
    let mut response = Response::empty(204);
    for (name, value) in [("Server", super::SERVER)].into_iter().chain(cors.headers()) {
        if let Ok(header) = Header::from_bytes(name.as_bytes(), value.as_bytes()) {
            response.add_header(header);
        }
    }
    let _ = request.respond(response);
}

/// Answers with a part of the page, or with 304 to a browser that has it already.
pub(crate) fn asset(request: Request, cors: &Cors, asset: &Asset) {
    // Nothing comes from elsewhere, and nobody may put the page into a frame.
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                          media-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
                          frame-ancestors 'none'";
    let tag = asset.tag();
    let more = [
        ("Cache-Control", "no-cache"),
        ("ETag", tag.as_str()),
        ("Content-Security-Policy", POLICY),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ];
    let known = request.headers().iter().find(|header| header.field.equiv("If-None-Match"));
    let known = known.is_some_and(|known| known.value.as_str().split(',').any(|known| known.trim() == tag));
    let (status, body) = if known { (304, String::new()) } else { (200, asset.text()) };
    send(request, cors, status, asset.kind, body, &more);
}

/// 307: what is asked for is there.
pub(crate) fn redirect(request: Request, cors: &Cors, to: &str) {
    send(request, cors, 307, "text/plain; charset=utf-8", format!("{to}\n"), &[("Location", to)]);
}

/// Answers with JSON.
pub(crate) fn json(request: Request, cors: &Cors, json: String) {
    send(request, cors, 200, "application/json", json, &[]);
}

/// Answers with a playlist of that type.
pub(crate) fn playlist(request: Request, cors: &Cors, kind: &str, list: String) {
    send(request, cors, 200, kind, list, &[]);
}

fn send(
    request: Request,
    cors: &Cors,
    status: u16,
    kind: &str,
    body: impl Into<String>,
    more: &[(&str, &str)],
) {
    let common = [("Server", super::SERVER), ("Content-Type", kind), ("X-Content-Type-Options", "nosniff")];
    let fresh =
        more.iter().all(|(name, _)| *name != "Cache-Control").then_some(("Cache-Control", "no-store"));
    let mut response = Response::from_string(body).with_status_code(status);
    for (name, value) in common.into_iter().chain(fresh).chain(more.iter().copied()).chain(cors.headers()) {
        // All of these are ASCII, which is all that this asks for.
        if let Ok(header) = Header::from_bytes(name.as_bytes(), value.as_bytes()) {
            response.add_header(header);
        }
    }
    // An error is a client that is gone.
    let _ = request.respond(response);
}
