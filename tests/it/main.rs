//! The integration tests that can share one program: each starts the daemons that it needs as child processes.
//!
//! The test files beside this folder are programs of their own; each says why in its first line.

mod access;
mod capture;
mod checkers;
mod encoded;
mod encoded_http;
mod exact;
mod faults;
mod hostile;
mod http;
mod lifecycle;
mod listeners;
mod page;
mod proxy;
mod reload;
mod requests;
mod service;
mod stopwatch;
mod structure;
#[path = "../support/mod.rs"]
mod support;
