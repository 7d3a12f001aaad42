//! Every kind of fault that an operator can meet: its code, what it means, why it happens and what to do. The list is data
//! (`catalogue.rs`), and the errors of all layers point into it, each by a `match` that must name every variant: an error
//! without a code does not compile.
//!
//! ```text
//!   error of a layer ── Explained ──▶ Report ──▶ the command line (four lines) or the log (one)
//!                           │
//!                           └──▶ Fault ──▶ `vxgate explain VXG-nnnn`
//! ```
//!
//! An error's own words (`Display`) say what failed, on what, and what the kernel answered. Why, and what to do, it says only
//! where it knows better than the catalogue.

mod catalogue;
mod code;
pub mod paragraph;
mod report;

pub use catalogue::Fault;
pub use report::{Excerpt, Report};

/// What a fault does to the command that met it: the exit code, by meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An operation failed.
    Failed,
    /// No daemon answers.
    NotRunning,
    /// What was named is not there.
    NotFound,
    /// A permission is missing.
    Denied,
    /// The kernel or the device lacks a feature.
    Unsupported,
    /// Somebody else holds what is needed.
    Busy,
    /// A setting cannot be.
    Invalid,
}

/// An error that an operator may see.
pub trait Explained: std::error::Error {
    /// Its kind.
    fn fault(&self) -> Fault;

    /// The error that this one only passes on, if it does: that one says all there is to say.
    fn passed_on(&self) -> Option<&dyn Explained> {
        None
    }

    /// Why it happened this time, where that is known.
    fn why(&self) -> Option<String> {
        self.passed_on()?.why()
    }

    /// What to do about it this time, where that is known.
    fn remedy(&self) -> Option<String> {
        self.passed_on()?.remedy()
    }

    /// All that it has to say: more than one thing where it gathers several.
    fn reports(&self) -> Vec<Report> {
        match self.passed_on() {
            Some(error) => error.reports(),
            None => vec![Report::whole(self)],
        }
    }
}

/// An error on one line, for the log and `status`: what failed, why where that is known, what to do, and the code.
pub fn line(error: &(impl Explained + ?Sized)) -> String {
    let cause = error
        .why()
        .map_or_else(String::new, |cause| format!("; {cause}"));
    let fix = error.remedy().unwrap_or_else(|| error.fault().fix().into());
    let fix = fix.trim_end_matches('.');
    format!("{}{cause}; {fix} ({})", words(error), error.fault().code())
}

/// An error's words, with those of its causes that it does not repeat itself.
fn words(error: &(impl Explained + ?Sized)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot hear")]
    struct Deaf {
        fix: Option<&'static str>,
        source: io::Error,
    }

    impl Explained for Deaf {
        fn fault(&self) -> Fault {
            Fault::SignalsRefused
        }

        fn remedy(&self) -> Option<String> {
            self.fix.map(str::to_owned)
        }
    }

    fn deaf(fix: Option<&'static str>) -> Deaf {
        let source = io::Error::other("too loud");
        Deaf { fix, source }
    }

    #[test]
    fn a_line_has_what_failed_why_what_to_do_and_the_code() {
        assert_eq!(
            line(&deaf(Some("go home"))),
            format!(
                "cannot hear: too loud; go home ({})",
                Fault::SignalsRefused.code()
            )
        );
    }

    #[test]
    fn where_an_error_knows_no_better_the_catalogue_speaks() {
        let [report] = <[Report; 1]>::try_from(deaf(None).reports()).unwrap();
        assert_eq!(report.what, "cannot hear: too loud");
        assert_eq!(report.cause, Fault::SignalsRefused.cause());
        assert_eq!(report.fix, Fault::SignalsRefused.fix());
        let [report] = <[Report; 1]>::try_from(deaf(Some("go home")).reports()).unwrap();
        assert_eq!(report.fix, "go home");
    }
}
