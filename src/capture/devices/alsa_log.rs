//! libasound's own messages, kept off stderr.
//!
//! libasound prints a line or five to stderr whenever something does not open. It looks for a *thread-local*
//! handler first (`snd_lib_error_set_local`), and the alsa crate has a safe one that writes into a buffer. Three
//! things to know about it:
//! - It is per thread, and stays for the life of the thread; there is no way back to stderr.
//! - The buffer only grows, so somebody has to fetch it: after each open, not once a year.
//! - It panics, and thereby aborts, when ALSA speaks after the thread-locals are gone: keep no ALSA handle in one.
//!
//! What plugins write to stderr by themselves (JACK's client library does) passes by it.

use std::cell::RefCell;
use std::rc::Rc;

use alsa::Output;

thread_local! {
    static SAID: RefCell<Option<Rc<RefCell<Output>>>> = const { RefCell::new(None) };
}

/// From here on, nothing that ALSA says on this thread goes to stderr; [`alsa_said`] has it.
pub fn quiet_alsa() {
    if SAID.with_borrow(Option::is_none) {
        listen();
    }
}

/// What ALSA has said on this thread since the last call, line by line.
///
/// Includes [`quiet_alsa`].
pub fn alsa_said() -> Vec<String> {
    let Some(output) = listen() else { return Vec::new() };
    let text = output.borrow().to_string();
    text.lines().map(super::clean).filter(|line| !line.is_empty()).collect()
}

/// Does some work with ALSA, and puts what ALSA says about it into the log at level debug.
///
/// Includes [`quiet_alsa`], so that the thread stays quiet afterwards.
pub fn quietly<T>(work: impl FnOnce() -> T) -> T {
    quiet_alsa();
    let result = work();
    for line in alsa_said() {
        log::debug!("ALSA: {line}");
    }
    result
}

/// Starts an empty buffer for this thread and returns the one until now, if there was one.
fn listen() -> Option<Rc<RefCell<Output>>> {
    // Fails only for want of memory; then ALSA goes on as before, which is no harm.
    let fresh = Output::local_error_handler().ok()?;
    SAID.replace(Some(fresh))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alsa::{Direction, PCM};

    #[test]
    fn what_alsa_says_of_a_failed_open_is_kept_once_and_not_printed() {
        quiet_alsa();
        assert!(PCM::new("no_such_pcm_at_all", Direction::Capture, true).is_err());
        let said = alsa_said();
        assert!(said.iter().any(|line| line.contains("no_such_pcm_at_all")), "{said:?}");
        assert_eq!(alsa_said(), Vec::<String>::new());
    }

    #[test]
    fn quiet_work_returns_its_result_and_leaves_nothing_behind() {
        let error = quietly(|| PCM::new("no_such_pcm_either", Direction::Capture, true).err());
        assert_eq!(error.map(|error| error.errno()), Some(libc::ENOENT));
        assert_eq!(alsa_said(), Vec::<String>::new());
    }
}
