//! The title of a stream: a request of its own to the server, from a thread of its own, once for a connection.
//!
//! Ogg carries its title in the header of the stream, and servers ignore this request for it.

use std::sync::Arc;
use std::thread;

use log::warn;

use super::connection::{Connection, Resolver, STEP};
use super::control::Control;
use super::problem::{End, Problem};
use super::{icecast, shoutcast};
use crate::config::{Protocol, Push, PushFormat};

/// The send buffer for a request, in bytes.
const REQUEST_BYTES: usize = 8192;

/// Sets the title of the push, if it has one that its format does not carry. Does not wait for the server.
pub(super) fn set(push: &Push, password: &str, control: &Arc<Control>) {
    let Some(title) = push.title.clone().filter(|_| push.format == PushFormat::Mp3) else { return };
    let (push, password, control) = (push.clone(), password.to_owned(), Arc::clone(control));
    let name = push.name.clone();
    let send = move || {
        if let Err(End::Problem(problem)) = request(&push, &title, &password, &control) {
            warn!("push {}: the title was not set: {}", push.name, problem.detail);
        }
    };
    if let Err(error) = thread::Builder::new().name("push title".to_owned()).spawn(send) {
        warn!("push {name}: the title was not set: no thread for it: {error}");
    }
}

fn request(push: &Push, title: &str, password: &str, control: &Arc<Control>) -> Result<(), End> {
    let addresses = Resolver::default().resolve(&push.to.host, push.to.port, control)?;
    let connection = Connection::open(&addresses, REQUEST_BYTES, STEP, control)?;
    let (mut connection, text) = match push.to.protocol {
        Protocol::Icecast => (connection, icecast::title_request(push, title, password)),
        Protocol::IcecastTls => (connection.encrypted(push)?, icecast::title_request(push, title, password)),
        Protocol::Shoutcast => (connection, shoutcast::title_request(title, password)),
    };
    connection.send_all(text.as_bytes())?;
    let answer = connection.answer(STEP, |text| text.contains("\r\n\r\n"))?;
    match icecast::status(&answer) {
        Some(200..=299) => Ok(()),
        status => {
            let status = status.map_or("no answer".to_owned(), |status| status.to_string());
            Err(Problem::unreachable(format!("the server says {status}")).with_words(&answer).into())
        }
    }
}
