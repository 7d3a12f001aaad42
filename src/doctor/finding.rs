//! One line of the doctor's: what was looked at, what came of it, why, and what mends it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::{Fault, paragraph};

/// Columns of the text.
const WIDTH: usize = 118;
/// In front of what is said of why and what to do.
const MARGIN: &str = "            ";

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// There is nothing to judge here, or no way to know.
    NotApplicable,
    /// It works, and could be better, or might not for long.
    Warning,
    /// Frames are lost, or vxgate cannot carry them.
    Fault,
}

impl Verdict {
    /// In front of a line.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "[ ok ]",
            Self::NotApplicable => "[n/a ]",
            Self::Warning => "[warn]",
            Self::Fault => "[FAIL]",
        }
    }
}

/// One result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check: a word that does not change.
    pub check: String,
    /// The device that it is about, where it is about one.
    pub device: Option<String>,
    /// What came of it.
    pub result: Verdict,
    /// The code of what is wrong (`vxgate explain CODE`).
    pub code: Option<String>,
    /// What was seen.
    pub what: String,
    /// Why that is so, or why it matters.
    pub why: Option<String>,
    /// What to do about it.
    pub fix: Option<Fix>,
}

/// What mends a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fix {
    /// In words, where no command is enough.
    pub advice: Option<String>,
    /// The command, word by word.
    pub command: Option<Vec<String>>,
    /// Whether `--fix` runs the command.
    pub automatic: bool,
}

impl Finding {
    /// Something that is as it should be.
    pub(super) fn ok(check: &str, what: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            device: None,
            result: Verdict::Ok,
            code: None,
            what: what.into(),
            why: None,
            fix: None,
        }
    }

    /// Something that cannot be judged here; the words say why.
    pub(super) fn not_applicable(check: &str, what: impl Into<String>) -> Self {
        Self {
            result: Verdict::NotApplicable,
            ..Self::ok(check, what)
        }
    }

    /// A warning, with what the catalogue says of its kind.
    pub(super) fn warning(check: &str, fault: Fault, what: impl Into<String>) -> Self {
        Self {
            result: Verdict::Warning,
            ..Self::fault(check, fault, what)
        }
    }

    /// A fault, with what the catalogue says of its kind.
    pub(super) fn fault(check: &str, fault: Fault, what: impl Into<String>) -> Self {
        Self {
            result: Verdict::Fault,
            code: Some(fault.code().to_owned()),
            why: Some(fault.cause().to_owned()),
            fix: Some(Fix {
                advice: Some(fault.fix().to_owned()),
                command: None,
                automatic: false,
            }),
            ..Self::ok(check, what)
        }
    }

    /// About this device.
    #[must_use]
    pub(super) fn of(mut self, device: &str) -> Self {
        self.device = Some(device.to_owned());
        self
    }

    /// With a reason that is known better than the catalogue's.
    #[must_use]
    pub(super) fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// With advice that fits better than the catalogue's.
    #[must_use]
    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.fix = Some(Fix {
            advice: Some(advice.into()),
            command: None,
            automatic: false,
        });
        self
    }

    /// With a command that an operator may want to run.
    #[must_use]
    pub(super) fn command<W: Into<String>>(self, command: impl IntoIterator<Item = W>) -> Self {
        self.with_command(command, false)
    }

    /// With a command that does nothing but mend this, so that `--fix` runs it.
    #[must_use]
    pub(super) fn mended_by<W: Into<String>>(self, command: impl IntoIterator<Item = W>) -> Self {
        self.with_command(command, true)
    }

    fn with_command<W: Into<String>>(
        mut self,
        command: impl IntoIterator<Item = W>,
        automatic: bool,
    ) -> Self {
        self.fix = Some(Fix {
            advice: None,
            command: Some(command.into_iter().map(Into::into).collect()),
            automatic,
        });
        self
    }

    /// The command that `--fix` runs for it, if there is one.
    pub fn mend(&self) -> Option<&[String]> {
        let fix = self.fix.as_ref().filter(|fix| fix.automatic)?;
        fix.command.as_deref()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = self.result.label();
        let device = self.device.as_ref();
        let device = device.map_or_else(String::new, |device| format!("{device}: "));
        let code = self.code.as_ref();
        let code = code.map_or_else(String::new, |code| format!("  {code}"));
        let line = format!("{device}{}{code}", self.what);
        let text = paragraph::filled("       ", &line, WIDTH);
        // The space in front of the code may end a line.
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        writeln!(f, "{label} {}", lines.join("\n").trim())?;
        if self.result < Verdict::Warning {
            return Ok(());
        }
        if let Some(why) = &self.why {
            part(f, "why", why)?;
        }
        match &self.fix {
            Some(Fix {
                command: Some(command),
                ..
            }) => writeln!(f, "       fix  {}", command_line(command)),
            Some(Fix {
                advice: Some(advice),
                ..
            }) => part(f, "fix", advice),
            _ => Ok(()),
        }
    }
}

fn part(f: &mut fmt::Formatter<'_>, name: &str, words: &str) -> fmt::Result {
    let text = paragraph::filled(MARGIN, words, WIDTH);
    writeln!(f, "       {name:<4} {}", text.trim())
}

/// A command as a shell takes it.
pub(super) fn command_line(command: &[String]) -> String {
    let harmless = |word: &String| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
        !word.is_empty() && word.bytes().all(plain)
    };
    let quoted = command.iter().map(|word| {
        if harmless(word) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_why_and_what_mends_it_and_what_is_well_is_one_line() {
        let finding = Finding::fault("mtu", Fault::MtuTooLarge, "its MTU is 1500")
            .of("vx")
            .because("1500 do not fit")
            .mended_by(["ip", "link", "set", "dev", "vx", "mtu", "1450"]);
        insta::assert_snapshot!(finding.to_string(), @r"
        [FAIL] vx: its MTU is 1500  VXG-0401
               why  1500 do not fit
               fix  ip link set dev vx mtu 1450
        ");
        assert_eq!(finding.mend().map(<[String]>::len), Some(7));
        let well = Finding::ok("mtu", "its MTU fits").of("vx").because("x");
        assert_eq!(well.to_string(), "[ ok ] vx: its MTU fits\n");
        let advised = Finding::warning("mtu", Fault::MtuTooLarge, "x").advise("do it yourself");
        assert_eq!(advised.mend(), None);
        assert!(
            advised
                .to_string()
                .ends_with("       fix  do it yourself\n")
        );
        let by_hand = advised.command(["ip", "link"]);
        assert_eq!(by_hand.mend(), None);
    }

    #[test]
    fn a_command_is_quoted_where_a_shell_would_read_it_otherwise() {
        let line = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            command_line(&words)
        };
        assert_eq!(line(&["rm", "/run/vxgate/a.sock"]), "rm /run/vxgate/a.sock");
        assert_eq!(line(&["rm", "a b"]), "rm 'a b'");
        assert_eq!(line(&["rm", "it's", ""]), r"rm 'it'\''s' ''");
    }
}
