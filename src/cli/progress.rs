//! Progress on a terminal: what is waited for, in one line of standard error that is written over and over.

use std::io::{self, IsTerminal};

use super::output::harmless;

/// The line; it goes when dropped. Where standard error is no terminal, there is none.
pub(super) struct Progress {
    shows: bool,
    told: String,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            shows: io::stderr().is_terminal(),
            told: String::new(),
        }
    }

    /// Writes the line anew, unless it says this already.
    pub(super) fn tell(&mut self, words: impl FnOnce() -> String) {
        if !self.shows {
            return;
        }
        let words = words();
        if words != self.told {
            eprint!("\r\x1b[K{}", harmless(&words));
            self.told = words;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if !self.told.is_empty() {
            eprint!("\r\x1b[K");
        }
    }
}
