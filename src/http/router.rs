//! Checks a request against the access rules, and calls the handler of its target.

use std::net::IpAddr;
use std::sync::Arc;

use log::debug;
use tiny_http::Method;

use super::access::cors::Cors;
use super::access::{Access, Refusal, Verdict};
use super::context::Context;
use super::exchange::Exchange;
use super::handlers::not_found::not_found;
use super::handlers::{bands, events, health, history, page, playlist, status, stream};
use super::response::Response;
use super::target::{BadRequest, Target};

/// Answers one request.
pub(crate) fn route(context: &Arc<Context>, mut exchange: Exchange) {
    let access = context.access();
    let cors = access.cors(exchange.header("Origin"));
    match exchange.method() {
        Method::Options if exchange.header("Access-Control-Request-Method").is_some() => {
            return preflight(context, exchange, &access);
        }
        Method::Get | Method::Head => {}
        method => {
            let response = Response::not_allowed(method.as_str());
            return exchange.respond(response);
        }
    }
    let verdict = match is_public(exchange.url()) {
        true => access.admit(&exchange.facts()).map(Verdict::Allowed),
        false => access.check(&exchange.facts()),
    };
    match verdict {
        Ok(Verdict::Allowed(client)) => {
            exchange.set_cors(cors);
            exchange.set_allowed_by(&access);
            dispatch(context, exchange, client);
        }
        Ok(Verdict::NeedsHash(password)) => {
            let context_of_check = Arc::clone(context);
            context.passwords.submit(exchange, move |mut exchange| match access.verify_slow(&password) {
                Ok(client) => {
                    exchange.set_cors(cors);
                    exchange.set_allowed_by(&access);
                    dispatch(&context_of_check, exchange, client);
                }
                Err(refusal) => refuse(&access, exchange, &refusal, cors),
            });
        }
        Err(refusal) => refuse(&access, exchange, &refusal, cors),
    }
}

/// Calls the handler of the request's target. The access rules have allowed `client`.
fn dispatch(context: &Arc<Context>, exchange: Exchange, client: IpAddr) {
    match Target::parse(exchange.url()) {
        Err(BadRequest(why)) => exchange.respond(Response::text(400, &why)),
        Ok(Target::Page) => page::serve(exchange, &page::INDEX, context.access().frames()),
        Ok(Target::Asset(name)) => match page::asset(&name) {
            Some(asset) => page::serve(exchange, asset, context.access().frames()),
            None => not_found(context, exchange),
        },
        Ok(Target::Levels(name, interval)) => events::serve(context, exchange, name.as_deref(), interval),
        Ok(Target::History(name)) => history::serve(context, exchange, &name),
        Ok(Target::Bands(name, query)) => bands::serve(context, exchange, &name, query),
        Ok(Target::Status) => status::serve(context, exchange),
        Ok(Target::Health(name)) => health::serve(context, exchange, name.as_deref()),
        Ok(Target::M3u(name, codec)) => playlist::serve_m3u(context, exchange, &name, codec),
        Ok(Target::Pls(name, codec)) => playlist::serve_pls(context, exchange, &name, codec),
        Ok(Target::Stream(name, codec, query)) => {
            stream::serve(context, exchange, client, &name, stream::StreamTarget { codec, query });
        }
        Ok(Target::PushHealth(name)) => health::serve_push(context, exchange, &name),
        Ok(Target::Unknown) => not_found(context, exchange),
    }
}

/// Returns `true` for a part of the page that is the same in every wavecast: its scripts and its style. They need no password,
/// since they hold nothing of this machine, and an import in a script has no way to carry a token.
fn is_public(url: &str) -> bool {
    matches!(Target::parse(url), Ok(Target::Asset(name)) if page::asset(&name).is_some())
}

/// Answers a CORS preflight: a browser asks if a page of another origin may request the target. A preflight carries no
/// password.
fn preflight(context: &Arc<Context>, mut exchange: Exchange, access: &Access) {
    if let Err(refusal) = access.admit(&exchange.facts()) {
        return refuse(access, exchange, &refusal, Cors::none());
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

/// Returns `true` if there is something under that target.
fn is_there(context: &Context, url: &str) -> bool {
    match Target::parse(url) {
        Ok(Target::Page | Target::Status | Target::Health(None)) => true,
        Ok(Target::Asset(name)) => page::asset(&name).is_some(),
        Ok(Target::PushHealth(name)) => context.pushes.find(&name).is_some(),
        Ok(Target::Levels(None, _)) => !context.inputs.all().is_empty(),
        Ok(
            Target::Levels(Some(name), _)
            | Target::History(name)
            | Target::Bands(name, _)
            | Target::Health(Some(name))
            | Target::M3u(name, _)
            | Target::Pls(name, _)
            | Target::Stream(name, ..),
        ) => context.input(&name).is_some(),
        Ok(Target::Unknown) | Err(BadRequest(_)) => false,
    }
}

/// Answers a request that the access rules refuse. `cors` lets a page of another origin see a 401, so that the page can
/// ask its user for a password.
fn refuse(access: &Access, mut exchange: Exchange, refusal: &Refusal, cors: Cors) {
    debug!("{}: {refusal:?}", exchange.peer());
    let why = access.explain(refusal);
    let response = match refusal {
        Refusal::Password | Refusal::Token => Response::unauthorized(&why),
        Refusal::TooManyTries => Response::too_many(&why),
        _ => return exchange.respond(Response::text(403, &why)),
    };
    exchange.set_cors(cors);
    exchange.respond(response);
}
