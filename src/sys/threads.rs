//! Starting threads, in few bytes.
//!
//! What the standard library starts one with is 2 kB of code for each closure.

use std::io;
use std::thread::{self, JoinHandle};

/// Does something in a thread of that name, with a stack of so many bytes or the usual one.
///
/// # Errors
///
/// Where there is no thread to be had. What was to be done is dropped then.
pub(crate) fn start(
    name: &str,
    stack: Option<usize>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    boxed(name, stack, Box::new(run))
}

fn boxed(name: &str, stack: Option<usize>, run: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    let mut thread = thread::Builder::new().name(name.to_owned());
    if let Some(bytes) = stack {
        thread = thread.stack_size(bytes);
    }
    thread.spawn(run)
}
