//! All findings together: text and JSON from the same value.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::finding::{Finding, Verdict, command_line};

/// The schema of the JSON answer; keys are added, never renamed.
pub const SCHEMA: &str = "vxgate-doctor/1";

/// Everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The worst result.
    pub state: Verdict,
    /// How many there are of each result.
    pub counts: Counts,
    /// In the order in which they were looked at.
    pub findings: Vec<Finding>,
    /// The commands that were run to mend something, before all this was looked at.
    pub mended: Vec<Mended>,
}

/// How many findings there are of each result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Of [`Verdict::Ok`].
    pub ok: u64,
    /// Of [`Verdict::NotApplicable`].
    pub not_applicable: u64,
    /// Of [`Verdict::Warning`].
    pub warnings: u64,
    /// Of [`Verdict::Fault`].
    pub faults: u64,
}

/// A command that was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mended {
    /// Word by word.
    pub command: Vec<String>,
    /// Why it failed; none when it did not.
    pub error: Option<String>,
}

impl Report {
    /// Counts the findings.
    pub(super) fn new(findings: Vec<Finding>, mended: Vec<Mended>) -> Self {
        let mut counts = Counts::default();
        for finding in &findings {
            *match finding.result {
                Verdict::Ok => &mut counts.ok,
                Verdict::NotApplicable => &mut counts.not_applicable,
                Verdict::Warning => &mut counts.warnings,
                Verdict::Fault => &mut counts.faults,
            } += 1;
        }
        // Where there was nothing to judge, nothing is wrong.
        let worst = findings.iter().map(|finding| finding.result).max();
        let state = match worst {
            Some(worst @ (Verdict::Warning | Verdict::Fault)) => worst,
            _ => Verdict::Ok,
        };
        Self {
            schema: SCHEMA.to_owned(),
            state,
            counts,
            findings,
            mended,
        }
    }

    /// The commands that `--fix` would run, each once.
    pub fn mends(&self) -> Vec<Vec<String>> {
        let mut mends: Vec<Vec<String>> = Vec::new();
        for mend in self.findings.iter().filter_map(Finding::mend) {
            if !mends.iter().any(|known| known == mend) {
                mends.push(mend.to_vec());
            }
        }
        mends
    }

    /// Without the findings that are as they should be, or cannot be judged.
    #[must_use]
    pub fn without_the_good(mut self) -> Self {
        self.findings
            .retain(|finding| finding.result >= Verdict::Warning);
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mended in &self.mended {
            writeln!(f, "ran    {}", command_line(&mended.command))?;
            if let Some(error) = &mended.error {
                writeln!(f, "       which failed: {error}")?;
            }
        }
        for finding in &self.findings {
            write!(f, "{finding}")?;
        }
        let Counts {
            ok,
            not_applicable,
            warnings,
            faults,
        } = self.counts;
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        write!(
            f,
            "{ok} ok, {not_applicable} not applicable, {warnings} warning{}, {faults} fault{}",
            plural(warnings),
            plural(faults)
        )?;
        match self.mends().len() as u64 {
            0 => writeln!(f),
            count => writeln!(
                f,
                "; `vxgate doctor --fix` runs {count} command{} of these",
                plural(count)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn finding(result: Verdict) -> Finding {
        let finding = Finding::fault("x", Fault::ForwardingOff, "seen").because("so");
        Finding {
            result,
            ..finding.mended_by(["sysctl", "-w", "a=1"])
        }
    }

    #[test]
    fn the_worst_finding_is_the_state_and_a_command_is_told_once() {
        use Verdict::{Fault, NotApplicable, Ok, Warning};
        let state = |results: &[Verdict]| {
            let findings = results.iter().copied().map(finding).collect();
            Report::new(findings, Vec::new()).state
        };
        assert_eq!(state(&[]), Ok);
        assert_eq!(state(&[Ok, NotApplicable]), Ok);
        assert_eq!(state(&[Warning, Ok]), Warning);
        assert_eq!(state(&[Warning, Fault, Ok]), Fault);
        let both = Report::new(vec![finding(Fault), finding(Fault)], Vec::new());
        assert_eq!(both.mends().len(), 1);
    }

    #[test]
    fn the_text_ends_with_the_numbers_and_begins_with_what_was_run() {
        let run = |error: Option<&str>| Mended {
            command: vec!["sysctl".into(), "-w".into(), "a=1".into()],
            error: error.map(str::to_owned),
        };
        let findings = vec![finding(Verdict::Warning), Finding::ok("y", "well")];
        let report = Report::new(findings, vec![run(None), run(Some("no such key"))]);
        insta::assert_snapshot!(report.to_string(), @r"
        ran    sysctl -w a=1
        ran    sysctl -w a=1
               which failed: no such key
        [warn] seen  VXG-0321
               why  so
               fix  sysctl -w a=1
        [ ok ] well
        1 ok, 0 not applicable, 1 warning, 0 faults; `vxgate doctor --fix` runs 1 command of these
        ");
        let quiet = report.without_the_good().to_string();
        assert!(
            !quiet.contains("well") && quiet.contains("1 ok,"),
            "{quiet}"
        );
    }
}
