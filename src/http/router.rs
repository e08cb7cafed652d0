//! From a request to the handler of its target, past the access rules.

use std::net::IpAddr;
use std::sync::Arc;

use log::debug;
use tiny_http::Method;

use super::access::{self, Access, Asking};
use super::context::Context;
use super::exchange::Exchange;
use super::handlers::{events, health, page, playlist, status, stream};
use super::response::Response;
use super::target::{BadRequest, Target};

/// Answers one request.
pub(crate) fn route(context: &Arc<Context>, mut exchange: Exchange) {
    let access = context.access();
    let origin = access.cors(exchange.header("Origin"));
    let asks_for_permission = exchange.header("Access-Control-Request-Method").is_some();
    match exchange.method() {
        Method::Options if asks_for_permission => return preflight(context, exchange, &access),
        Method::Get | Method::Head => {}
        method => {
            let response = Response::not_allowed(method.as_str());
            return exchange.respond(response);
        }
    }
    let verdict = access.check(&asking(&exchange));
    match verdict {
        Ok(client) => {
            exchange.set_cors(origin);
            dispatch(context, exchange, client);
        }
        Err(refusal) => refuse(exchange, refusal, origin),
    }
}

/// Hands a request to the handler of its target. `client` may listen.
pub(crate) fn dispatch(context: &Arc<Context>, exchange: Exchange, client: IpAddr) {
    match Target::parse(exchange.url()) {
        Err(BadRequest(why)) => exchange.respond(Response::text(400, &why)),
        Ok(Target::Page) => page::serve(exchange, &page::INDEX),
        Ok(Target::Asset(name)) => match page::asset(&name) {
            Some(asset) => page::serve(exchange, asset),
            None => not_found(context, exchange),
        },
        Ok(Target::Levels(name, interval)) => events::serve(context, exchange, name.as_deref(), interval),
        Ok(Target::Status) => status::serve(context, exchange),
        Ok(Target::Health) => health::serve(context, exchange),
        Ok(Target::M3u(name)) => playlist::serve_m3u(context, exchange, &name),
        Ok(Target::Pls(name)) => playlist::serve_pls(context, exchange, &name),
        Ok(Target::Wav(name, query)) => stream::serve(context, exchange, client, &name, query),
        Ok(Target::Unknown) => not_found(context, exchange),
    }
}

/// Tells a browser whether a page of another origin may ask for the target. Such a request carries no password.
fn preflight(context: &Arc<Context>, mut exchange: Exchange, access: &Access) {
    if let Err(refusal) = access.admit(&asking(&exchange)) {
        return refuse(exchange, refusal, Cors::none());
    }
    match access.cors(exchange.header("Origin")).preflight() {
        Some(cors) if is_there(context, exchange.url()) => {
            exchange.set_cors(cors);
            exchange.respond(Response::no_content());
        }
        Some(_) => not_found(context, exchange),
        None => exchange.respond(Response::not_allowed("OPTIONS")),
    }
}

/// Whether there is something under that target.
fn is_there(context: &Context, url: &str) -> bool {
    match Target::parse(url) {
        Ok(Target::Page | Target::Status | Target::Health) => true,
        Ok(Target::Asset(name)) => page::asset(&name).is_some(),
        Ok(Target::Levels(None, _)) => !context.inputs.all().is_empty(),
        Ok(Target::Levels(Some(name), _) | Target::M3u(name) | Target::Pls(name) | Target::Wav(name, _)) => {
            context.input(&name).is_some()
        }
        Ok(Target::Unknown) | Err(BadRequest(_)) => false,
    }
}

fn asking(exchange: &Exchange) -> Asking<'_> {
    Asking {
        peer: exchange.peer().ip().to_canonical(),
        local: exchange.local_ip(),
        host: exchange.header("Host"),
        forwarded: exchange.headers("X-Forwarded-For").collect(),
        authorization: exchange.header("Authorization"),
    }
}

/// Answers a request that the access rules refuse. `cors` is for a page that may ask its user for a password.
fn refuse(mut exchange: Exchange, refusal: access::Refusal, cors: Cors) {
    debug!("{}: {refusal:?}", exchange.peer());
    let response = match refusal {
        access::Refusal::Address(ip) => Response::text(
            403,
            &format!("{ip} may not listen here: it is not among the addresses that [access] allow names."),
        ),
        access::Refusal::Host(host) => {
            let host: String = host.chars().filter(|char| !char.is_control()).take(100).collect();
            let why = format!("{host:?} is not known as a name of this machine: [access] hosts may name it.");
            Response::text(403, &why)
        }
        access::Refusal::Password => {
            exchange.set_cors(cors);
            Response::unauthorized()
        }
        access::Refusal::TooManyTries => {
            exchange.set_cors(cors);
            Response::too_many("Too many passwords were tried.")
        }
    };
    exchange.respond(response);
}

/// 404, with the addresses of the streams.
pub(crate) fn not_found(context: &Context, exchange: Exchange) {
    let streams: Vec<String> =
        context.inputs.all().iter().map(|input| format!("/{}.wav", input.name)).collect();
    exchange.respond(Response::text(404, &format!("There is nothing here. To listen: {}", streams.join("  "))));
}
