//! One request and the connection on which it is answered.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use tiny_http::Method;

use super::access::cors::Cors;
use super::access::forwarded::ForwardingHeaders;
use super::access::tokens::Token;
use super::access::{Access, RequestFacts};
use super::gate::{Connection, Place, Request};
use super::players::accepts_chunks;
use super::response::{Rendering, Response};
use super::response_head::ResponseHead;
use super::target;

/// A request that waits for its response.
///
/// The exchange owns the connection: it is answered with [`respond`](Self::respond), taken out of the gate with
/// [`into_stream`](Self::into_stream), or closed by dropping the exchange, as a handler that panics does.
pub(crate) struct Exchange {
    request: Request,
    connection: Connection,
    /// Headers for scripts of other origins, added to every response.
    cors: Cors,
    /// The access rules that have allowed the request.
    allowed_by: Option<Arc<Access>>,
}

impl Exchange {
    pub(crate) fn new(request: Request, connection: Connection) -> Exchange {
        Exchange { request, connection, cors: Cors::none(), allowed_by: None }
    }

    /// Returns the method.
    pub(crate) fn method(&self) -> &Method {
        self.request.method()
    }

    /// Returns `true` if the method is HEAD.
    pub(crate) fn is_head(&self) -> bool {
        *self.method() == Method::Head
    }

    /// Returns path and query as the client sent them.
    pub(crate) fn url(&self) -> &str {
        self.request.url()
    }

    /// Returns the token in the query. It is not checked.
    pub(crate) fn token(&self) -> Option<Token> {
        target::token(self.url())
    }

    /// Returns the value of the first header field of that name.
    pub(crate) fn header(&self, name: &'static str) -> Option<&str> {
        self.headers(name).next()
    }

    /// Returns the values of all header fields of that name, in their order.
    pub(crate) fn headers(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &str> {
        let fields = self.request.headers().iter().filter(move |field| field.field.equiv(name));
        fields.map(|field| field.value.as_str())
    }

    /// Returns `true` if `If-None-Match` says that the client has the content with that tag. The tag may be a weak one there: a
    /// proxy that changes the coding makes it so (RFC 9110 §13.1.2).
    pub(crate) fn has_copy(&self, tag: &str) -> bool {
        let is_it = |known: &str| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag;
        self.headers("If-None-Match").flat_map(|known| known.split(',')).any(|known| is_it(known.trim()))
    }

    /// Returns `true` if the client [accepts a body in chunks](accepts_chunks).
    pub(crate) fn takes_chunks(&self) -> bool {
        accepts_chunks(*self.request.http_version() >= (1, 1), self.header("TE"))
    }

    /// Returns the address at the other end of the connection: the client's, or that of a proxy.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.connection.peer()
    }

    /// Returns the address of this machine to which the client connected.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.connection.local_addr().ok()
    }

    /// Returns the address of [`local_addr`](Self::local_addr) without the port.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        self.local_addr().map(|local| local.ip().to_canonical())
    }

    /// Returns the parts of the request that decide about access.
    pub(crate) fn facts(&self) -> RequestFacts<'_> {
        let mut forwarding = ForwardingHeaders::default();
        for field in self.request.headers() {
            forwarding.add(field.field.as_str().as_str(), field.value.as_str());
        }
        RequestFacts {
            peer: self.peer().ip().to_canonical(),
            local: self.local_ip(),
            host: self.header("Host"),
            forwarding,
            authorization: self.header("Authorization"),
            token: self.token(),
        }
    }

    /// Sets the headers for scripts of other origins.
    pub(crate) fn set_cors(&mut self, cors: Cors) {
        self.cors = cors;
    }

    /// Notes that these access rules have allowed the request.
    pub(crate) fn set_allowed_by(&mut self, access: &Arc<Access>) {
        self.allowed_by = Some(Arc::clone(access));
    }

    /// Returns `true` if these access rules have allowed the request.
    pub(crate) fn is_allowed_by(&self, access: &Arc<Access>) -> bool {
        self.allowed_by.as_ref().is_some_and(|allowed_by| Arc::ptr_eq(allowed_by, access))
    }

    /// Returns the headers for scripts of other origins.
    pub(crate) fn cors(&self) -> &Cors {
        &self.cors
    }

    /// Lets the gate hand over another request while this one waits for something slow.
    pub(crate) fn release_in_flight(&mut self) {
        self.connection.release_in_flight();
    }

    /// Sends a short response and gives the connection back to the gate.
    pub(crate) fn respond(self, response: Response) {
        let Exchange { request, connection, cors, .. } = self;
        let response = response.with_all(cors.pairs());
        let bytes = response.render(&Rendering {
            version: request.http_version(),
            head_only: *request.method() == Method::Head,
        });
        connection.answer(bytes);
    }

    /// Answers HEAD with the head of an endless response, and ends the connection.
    pub(crate) fn respond_with_head(self, head: &ResponseHead) {
        self.connection.answer_and_close(head.render());
    }

    /// Takes the connection out of the gate, for an endless response. The socket is blocking. The connection counts against
    /// the limits until the [`Place`] is dropped.
    pub(crate) fn into_stream(self) -> (TcpStream, Place) {
        self.connection.into_stream()
    }
}
