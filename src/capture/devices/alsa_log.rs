//! libasound's own messages: kept off stderr, and passed to the log.
//!
//! libasound prints a line or five to stderr whenever something does not open. It first looks for a *thread-local*
//! handler (`snd_lib_error_set_local`), for which the alsa crate has a safe one that writes into a buffer. Three
//! properties of that handler:
//! - It is per thread and stays for the life of the thread; there is no way back to stderr.
//! - The buffer only grows, so it has to be emptied after each open.
//! - It panics, and thereby aborts, when ALSA speaks after the thread-locals are gone: keep no ALSA handle in one.
//!
//! Plugins that write to stderr by themselves bypass the handler. JACK's client library does (`check_jack`).

use std::cell::RefCell;
use std::rc::Rc;

use alsa::Output;

use super::printable::printable;

thread_local! {
    static BUFFER: RefCell<Option<Rc<RefCell<Output>>>> = const { RefCell::new(None) };
}

/// Collects ALSA's messages on this thread from now on; none of them goes to stderr. [`take_alsa_messages`] returns
/// them.
pub fn collect_alsa_messages() {
    if BUFFER.with_borrow(Option::is_none) {
        start_buffer();
    }
}

/// Returns ALSA's messages on this thread since the last call, line by line, and starts to collect them as
/// [`collect_alsa_messages`] does.
pub fn take_alsa_messages() -> Vec<String> {
    let Some(buffer) = start_buffer() else { return Vec::new() };
    let text = buffer.borrow().to_string();
    text.lines().map(printable).filter(|line| !line.is_empty()).collect()
}

/// Runs `work` and writes ALSA's messages about it to the log at level debug. None of them goes to stderr, now or later
/// on this thread.
pub fn with_alsa_log<T>(work: impl FnOnce() -> T) -> T {
    with_alsa_messages(work).0
}

/// Runs `work` as [`with_alsa_log`] does and returns the messages too.
pub fn with_alsa_messages<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    log_messages(&take_alsa_messages());
    let result = work();
    let messages = take_alsa_messages();
    log_messages(&messages);
    (result, messages)
}

fn log_messages(messages: &[String]) {
    for message in messages {
        log::debug!("ALSA: {message}");
    }
}

/// Starts an empty buffer for this thread and returns the one until now, if there was one.
fn start_buffer() -> Option<Rc<RefCell<Output>>> {
    // Fails only without memory. ALSA then goes on as before, which is no harm.
    let fresh = Output::local_error_handler().ok()?;
    BUFFER.replace(Some(fresh))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alsa::{Direction, PCM};

    #[test]
    fn messages_of_a_failed_open_are_returned_once() {
        collect_alsa_messages();
        assert!(PCM::new("no_such_pcm_at_all", Direction::Capture, true).is_err());
        let messages = take_alsa_messages();
        assert!(messages.iter().any(|line| line.contains("no_such_pcm_at_all")), "{messages:?}");
        assert_eq!(take_alsa_messages(), Vec::<String>::new());
    }

    #[test]
    fn logged_work_returns_its_result_and_its_own_messages() {
        collect_alsa_messages();
        assert!(PCM::new("no_such_pcm_before", Direction::Capture, true).is_err());
        let open = || PCM::new("no_such_pcm_either", Direction::Capture, true).err();
        let (error, messages) = with_alsa_messages(open);
        assert_eq!(error.map(|error| error.errno()), Some(libc::ENOENT));
        assert!(messages.iter().any(|line| line.contains("no_such_pcm_either")), "{messages:?}");
        assert!(!messages.iter().any(|line| line.contains("no_such_pcm_before")), "{messages:?}");
        assert_eq!(take_alsa_messages(), Vec::<String>::new());
    }
}
