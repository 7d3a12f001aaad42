//! What is written, and where: data to standard output, everything else to standard error, and colour only to terminals.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::ColorChoice;
use clap::ValueEnum;
use serde::Serialize;

use super::exit;
use crate::fault::{Explained, Fault};

/// Clears a terminal's screen, and begins at its top.
const CLEAR: &str = "\x1b[H\x1b[2J";
/// Bold and red, and back.
const LABEL: [&str; 2] = ["\x1b[1;31m", "\x1b[0m"];

/// When to write in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Colour {
    /// To a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// Makes it so for the whole process.
    pub(super) fn choose(self) {
        let choice = match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// Whether standard error takes colour.
pub(super) fn is_coloured() -> bool {
    anstream::AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// Whether something that was asked for could not be written to standard output, and somebody would have read it.
static UNWRITTEN: AtomicBool = AtomicBool::new(false);

/// The exit code of a command that ends with this one: none succeeds whose output is not whole.
pub(super) fn judged(code: ExitCode) -> ExitCode {
    if code == ExitCode::SUCCESS && UNWRITTEN.load(Ordering::Relaxed) {
        return ExitCode::from(exit::FAILED);
    }
    code
}

/// What was asked for cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {what}: {source}")]
pub(super) struct OutputError {
    what: String,
    source: io::Error,
}

impl OutputError {
    /// A failed attempt to write `what`, for `map_err`.
    pub(super) fn of(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self { what, source }
    }
}

impl OutputError {
    /// Whether it is that nobody reads any more.
    pub(super) fn is_broken_pipe(&self) -> bool {
        self.source.kind() == io::ErrorKind::BrokenPipe
    }
}

impl Explained for OutputError {
    fn fault(&self) -> Fault {
        Fault::OutputFailed
    }
}

/// Prints all that an error has to say, and turns it into an exit code.
pub(super) fn fail(error: &dyn Explained) -> ExitCode {
    let mut out = anstream::stderr().lock();
    for report in error.reports() {
        let text = report.to_string();
        let text = harmless(&text);
        let label = report.label();
        let rest = text.strip_prefix(&label).unwrap_or(&text);
        let [on, off] = LABEL;
        // Where standard error is closed, the exit code is all that is left to say.
        let _ = write!(out, "{on}{label}{off}{rest}");
    }
    exit::of(error)
}

/// Writes data to standard output. A reader that has gone away (`vxgate status | head -1`) is no failure.
pub(super) fn print(text: &str) {
    print_to_reader(text);
}

/// The same; whether there is somebody to go on writing for.
pub(super) fn print_to_reader(text: &str) -> bool {
    write_out(&harmless(text))
}

/// The same on a screen that is cleared before.
pub(super) fn print_screen(text: &str) -> bool {
    write_out(&format!("{CLEAR}{}", harmless(text)))
}

/// A text without what a terminal would obey. Names of devices and processes, and what files say, are the words of others, who may
/// have been anybody.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let is_obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(is_obeyed) {
        text.replace(is_obeyed, "\u{fffd}").into()
    } else {
        text.into()
    }
}

fn write_out(text: &str) -> bool {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => true,
        Err(error) => {
            let error = OutputError::of("to standard output")(error);
            // Said once, by whoever goes on trying.
            if !error.is_broken_pipe() && !UNWRITTEN.swap(true, Ordering::Relaxed) {
                fail(&error);
            }
            false
        }
    }
}

/// Writes one JSON document to standard output.
///
/// # Errors
/// When the value has no JSON, which none of ours brings about.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), OutputError> {
    print_text_of(serde_json::to_string_pretty(value))
}

/// The same of a value that is only made while it is written. A reader that has gone away is no failure here either.
///
/// # Errors
/// When it cannot be written.
pub(super) fn print_json_piecemeal(value: &impl Serialize) -> Result<(), OutputError> {
    let mut out = BufWriter::new(io::stdout().lock());
    let written = serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from);
    let written = written
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    match written.map_err(OutputError::of("the JSON document")) {
        Err(error) if error.is_broken_pipe() => Ok(()),
        outcome => outcome,
    }
}

/// Writes one JSON document to standard output, on one line.
///
/// # Errors
/// As [`print_json`].
pub(super) fn print_json_line(value: &impl Serialize) -> Result<(), OutputError> {
    print_text_of(serde_json::to_string(value))
}

fn print_text_of(json: serde_json::Result<String>) -> Result<(), OutputError> {
    let json = json
        .map_err(io::Error::from)
        .map_err(OutputError::of("the JSON document"))?;
    // As it is: JSON has escapes of its own.
    write_out(&format!("{json}\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_no_part_of_a_text() {
        let text = "flannel.1\t10.0.0.1 é 界\n";
        assert!(matches!(harmless(text), Cow::Borrowed(same) if same == text));
        assert_eq!(
            harmless("\u{1b}]0;mine\u{7} \u{9b}2J\u{7f}\rend\n"),
            "\u{fffd}]0;mine\u{fffd} \u{fffd}2J\u{fffd}\u{fffd}end\n"
        );
    }
}
