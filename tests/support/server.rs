//! What a running wavecast says over HTTP, wherever it runs.

use std::net::SocketAddr;

use serde_json::Value;

use super::http::{self, Response};
use super::wait_for;

/// A wavecast that listens at that address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    address: SocketAddr,
}

impl Server {
    /// The one that listens there.
    pub(crate) fn at(address: SocketAddr) -> Server {
        Server { address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT` and that target.
    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// Sends a GET and returns once the head of the answer is there.
    pub(crate) fn get(&self, target: &str) -> Response {
        self.get_with(target, &[])
    }

    /// The same with more headers.
    pub(crate) fn get_with(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        http::request(self.address, "GET", target, "1.1", headers)
    }

    /// `/status.json`.
    pub(crate) fn status(&self) -> Value {
        let text = self.get("/status.json").text();
        serde_json::from_str(&text).expect("the status is JSON")
    }

    /// The state of an input.
    pub(crate) fn input(&self, name: &str) -> Value {
        let status = self.status();
        let inputs = status["inputs"].as_array().expect("inputs");
        inputs.iter().find(|input| input["name"] == name).unwrap_or_else(|| panic!("no input {name}")).clone()
    }

    /// The listeners in the status.
    pub(crate) fn listeners(&self) -> Vec<Value> {
        self.status()["listeners"].as_array().expect("listeners").clone()
    }

    /// Waits until an input is in that state (`waiting`, `capturing`, `lost`), and returns its status.
    pub(crate) fn wait_for_state(&self, name: &str, state: &str) -> Value {
        wait_for(&format!("{name} to be {state}"), || {
            // The source is open a moment before the first listener can be served.
            Some(self.input(name)).filter(|input| {
                input["state"] == state && (state != "capturing" || input["format"].is_object())
            })
        })
    }

    /// Frames that came from the source of `live`: the index of the next one.
    pub(crate) fn edge(&self) -> u64 {
        self.input("live")["frames"].as_u64().expect("a number")
    }

    /// Waits until the source of `live` has brought so many frames.
    pub(crate) fn wait_for_edge(&self, frames: u64) {
        wait_for(&format!("{frames} frames"), || (self.edge() >= frames).then_some(()));
    }
}
