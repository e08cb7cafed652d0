//! One request and the connection on which it is answered.

use std::net::{IpAddr, SocketAddr, TcpStream};

use tiny_http::{Method, Request};

use super::access::cors::Cors;
use super::gate::{Connection, Place};
use super::response::{Rendering, Response};

/// A request that waits for its response.
///
/// The exchange owns the connection: it is answered with [`respond`](Self::respond), taken out of the gate with
/// [`take`](Self::take), or closed by dropping the exchange, which happens when a handler panics.
pub(crate) struct Exchange {
    /// `None` only within the methods that consume the exchange.
    parts: Option<(Request, Connection)>,
    /// Headers for scripts of other origins, added to every response.
    cors: Cors,
}

impl Exchange {
    pub(crate) fn new(request: Request, connection: Connection) -> Exchange {
        Exchange { parts: Some((request, connection)), cors: Cors::none() }
    }

    /// Returns the method.
    pub(crate) fn method(&self) -> &Method {
        self.request().method()
    }

    /// Whether the request is HEAD.
    pub(crate) fn is_head(&self) -> bool {
        *self.method() == Method::Head
    }

    /// Returns path and query as the client sent them.
    pub(crate) fn url(&self) -> &str {
        self.request().url()
    }

    /// Returns the value of the first header field of that name.
    pub(crate) fn header(&self, name: &'static str) -> Option<&str> {
        self.headers(name).next()
    }

    /// Returns the values of all header fields of that name, in their order.
    pub(crate) fn headers(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &str> {
        let fields = self.request().headers().iter().filter(move |field| field.field.equiv(name));
        fields.map(|field| field.value.as_str())
    }

    /// Whether the client understands chunks: HTTP/1.1, and no `TE: identity`, which is not in RFC 9110 any more, but
    /// players that send it mean it.
    pub(crate) fn takes_chunks(&self) -> bool {
        let identity = |te: &str| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("identity"));
        *self.request().http_version() >= (1, 1) && !self.header("TE").is_some_and(identity)
    }

    /// Returns the address at the other end of the connection: the client's, or that of a proxy.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.connection().peer()
    }

    /// Returns the address of this machine to which the client connected.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.connection().local_addr().ok()
    }

    /// Returns the address of this machine to which the client connected, without the port.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        self.local_addr().map(|local| local.ip().to_canonical())
    }

    /// Sets the headers for scripts of other origins.
    pub(crate) fn set_cors(&mut self, cors: Cors) {
        self.cors = cors;
    }

    /// Returns the headers for scripts of other origins.
    pub(crate) fn cors(&self) -> &Cors {
        &self.cors
    }

    /// Lets the gate hand over another request while this one waits for something slow.
    pub(crate) fn release_in_flight(&mut self) {
        if let Some((_, connection)) = &mut self.parts {
            connection.release_in_flight();
        }
    }

    /// Sends a short response and gives the connection back to the gate.
    pub(crate) fn respond(mut self, response: Response) {
        let response = response.with_all(self.cors.headers());
        let Some((request, connection)) = self.parts.take() else { return };
        let bytes = response.render(&Rendering {
            version: request.http_version(),
            request_headers: request.headers(),
            head_only: *request.method() == Method::Head,
            closes: connection.closes(),
        });
        release(request);
        connection.answer(bytes);
    }

    /// Sends a head that was rendered elsewhere, without a body, and ends the connection.
    pub(crate) fn respond_with_head(mut self, head: Vec<u8>) {
        let Some((request, connection)) = self.parts.take() else { return };
        release(request);
        connection.answer_and_close(head);
    }

    /// Takes the connection out of the gate, for a response that lasts. The socket blocks; `Place` is its place among
    /// the connections that the limits allow, and is given back when it is dropped.
    pub(crate) fn take(mut self) -> Option<(TcpStream, Place)> {
        let (request, connection) = self.parts.take()?;
        release(request);
        Some(connection.take())
    }

    fn request(&self) -> &Request {
        // Only methods that consume the exchange take the parts out.
        &self.parts.as_ref().unwrap_or_else(|| unreachable!()).0
    }

    fn connection(&self) -> &Connection {
        // As in `request`.
        &self.parts.as_ref().unwrap_or_else(|| unreachable!()).1
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some((request, _connection)) = self.parts.take() {
            release(request);
        }
    }
}

/// Drops a request by way of its writer: otherwise tiny_http would write a response of its own into the connection to
/// the gate.
fn release(request: Request) {
    drop(request.into_writer());
}
