//! Requests to a running wavecast, on this machine or another one.

use std::net::SocketAddr;

use serde_json::Value;

use super::http::{self, Response};
use super::wait_for;

/// The address of a running wavecast, with the requests that tests need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    address: SocketAddr,
}

impl Server {
    /// Returns the wavecast that listens on `address`.
    pub(crate) fn at(address: SocketAddr) -> Server {
        Server { address }
    }

    /// Returns the address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of `target`: `http://127.0.0.1:PORT/…`.
    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// Sends a GET and returns once the head of the answer has come.
    pub(crate) fn get(&self, target: &str) -> Response {
        self.get_with(target, &[])
    }

    /// Sends a GET with more header fields.
    pub(crate) fn get_with(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        http::request(self.address, "GET", target, "1.1", headers)
    }

    /// Returns `/status.json`.
    pub(crate) fn status(&self) -> Value {
        let text = self.get("/status.json").text();
        serde_json::from_str(&text).expect("the status is JSON")
    }

    /// Returns the status of an input.
    pub(crate) fn input(&self, name: &str) -> Value {
        let status = self.status();
        let inputs = status["inputs"].as_array().expect("inputs");
        inputs.iter().find(|input| input["name"] == name).unwrap_or_else(|| panic!("no input {name}")).clone()
    }

    /// Returns the listeners of the status.
    pub(crate) fn listeners(&self) -> Vec<Value> {
        self.status()["listeners"].as_array().expect("listeners").clone()
    }

    /// Waits until an input is in `state` (`waiting`, `capturing`, `lost`), and returns its status.
    pub(crate) fn wait_for_state(&self, name: &str, state: &str) -> Value {
        wait_for(&format!("{name} to be {state}"), || {
            // The source is open a moment before a listener can be served.
            Some(self.input(name)).filter(|input| {
                input["state"] == state && (state != "capturing" || input["format"].is_object())
            })
        })
    }

    /// Returns the number of frames that the source of `live` has delivered, which is the index of the next frame.
    pub(crate) fn edge(&self) -> u64 {
        self.input("live")["frames"].as_u64().expect("a number")
    }

    /// Waits until the source of `live` has delivered at least `frames`.
    pub(crate) fn wait_for_edge(&self, frames: u64) {
        wait_for(&format!("{frames} frames"), || (self.edge() >= frames).then_some(()));
    }
}
