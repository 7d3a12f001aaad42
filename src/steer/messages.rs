//! Where libbpf's own messages go: to the log. By itself it prints them to standard error.

use std::sync::Once;

use libbpf_rs::{PrintLevel, set_print};

static ONCE: Once = Once::new();

/// Sends them to the log from now on. What went wrong is in the error that a call returns; these are its details, hence
/// no louder than `debug`.
pub(super) fn to_log() {
    ONCE.call_once(|| {
        set_print(Some((PrintLevel::Debug, log)));
    });
}

fn log(level: PrintLevel, message: String) {
    let message = message.trim_end();
    match level {
        PrintLevel::Warn | PrintLevel::Info => tracing::debug!("libbpf: {message}"),
        PrintLevel::Debug => tracing::trace!("libbpf: {message}"),
    }
}
