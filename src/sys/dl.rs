//! Shared libraries that are opened on first use, and their functions (dlopen(3), dlsym(3)).

#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::fmt;
use std::ptr::NonNull;
use std::sync::OnceLock;

/// A library that is not installed or not usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingLibrary {
    /// The Debian package that holds the library.
    pub package: &'static str,
    /// The dynamic linker's message.
    pub reason: String,
}

impl fmt::Display for MissingLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MissingLibrary { package, reason } = self;
        write!(f, "the package {package} is needed: `sudo apt install {package}` ({reason})")
    }
}

impl std::error::Error for MissingLibrary {}

/// A shared library of the distribution, opened for the life of the process.
pub(super) struct Library {
    handle: NonNull<c_void>,
    package: &'static str,
}

impl Library {
    /// Opens the library of that soname, which that Debian package holds.
    ///
    /// # Errors
    ///
    /// The dynamic linker does not find the library or cannot load it.
    pub(super) fn open(soname: &CStr, package: &'static str) -> Result<Library, MissingLibrary> {
        // SAFETY: the name is a C string that lives until after the call. Loading runs the library's
        // initialisers; it is found on the system's own path, as if this program were linked to it.
        let handle = unsafe { libc::dlopen(soname.as_ptr(), libc::RTLD_NOW) };
        NonNull::new(handle)
            .map(|handle| Library { handle, package })
            .ok_or_else(|| MissingLibrary { package, reason: last_error() })
    }

    /// Returns the library's function of that name.
    ///
    /// # Errors
    ///
    /// The library has no such function.
    ///
    /// # Safety
    ///
    /// `F` is the type of a pointer to exactly this function: `unsafe extern "C" fn(…) -> …`.
    pub(super) unsafe fn function<F: Copy>(&self, name: &CStr) -> Result<F, MissingLibrary> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: the handle is open and is never closed; the name is a C string that lives until after the
        // call.
        let symbol = unsafe { libc::dlsym(self.handle.as_ptr(), name.as_ptr()) };
        if symbol.is_null() {
            return Err(MissingLibrary { package: self.package, reason: last_error() });
        }
        // SAFETY: `F` has the size of a pointer (asserted above) and is the type of this function (the
        // caller's promise). The pointer is not null, and it stays valid, because the library is never
        // closed.
        Ok(unsafe { std::mem::transmute_copy(&symbol) })
    }
}

/// The functions of a library that is opened on first use. The first outcome is remembered.
pub(super) struct OnFirstUse<F>(OnceLock<Result<F, MissingLibrary>>);

impl<F> OnFirstUse<F> {
    pub(super) const fn new() -> OnFirstUse<F> {
        OnFirstUse(OnceLock::new())
    }

    /// Returns the functions, which `load` takes from the library at the first call.
    ///
    /// # Errors
    ///
    /// The library is not installed or lacks a function.
    pub(super) fn get(&self, load: fn() -> Result<F, MissingLibrary>) -> Result<&F, MissingLibrary> {
        self.0.get_or_init(load).as_ref().map_err(Clone::clone)
    }
}

/// Returns the message of this thread's last failed call.
fn last_error() -> String {
    // SAFETY: dlerror takes nothing. It returns null or a C string that is this thread's until its next call
    // of these functions; it is copied before.
    let message = unsafe {
        let message = libc::dlerror();
        if message.is_null() { None } else { Some(CStr::from_ptr(message).to_string_lossy().into_owned()) }
    };
    message.unwrap_or_else(|| "no reason was given".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_an_error_that_names_the_package() {
        let error =
            Library::open(c"libwavecast-has-no-such.so.7", "libnothing7").err().expect("it is missing");
        assert_eq!(error.package, "libnothing7");
        let text = error.to_string();
        assert!(text.contains("sudo apt install libnothing7"), "{text}");
        assert!(text.contains("libwavecast-has-no-such.so.7"), "{text}");
    }

    #[test]
    fn functions_are_found_and_missing_ones_are_errors() {
        let library = Library::open(c"libc.so.6", "libc6").expect("this program runs on it");
        // SAFETY: the type is that of getpid(2) in the C library.
        let getpid = unsafe { library.function::<unsafe extern "C" fn() -> i32>(c"getpid") };
        // SAFETY: getpid takes nothing and never fails.
        assert_eq!(unsafe { getpid.expect("it is there")() }, std::process::id() as i32);
        // SAFETY: there is no function of this name whose type could be wrong.
        let missing = unsafe { library.function::<unsafe extern "C" fn()>(c"wavecast_has_no_such") };
        assert!(missing.expect_err("it is missing").reason.contains("wavecast_has_no_such"));
    }
}
