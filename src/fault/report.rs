//! What is said of one fault on the command line.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Explained, Fault, words};

/// One fault, with all that is said of it. Empty parts are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its kind.
    #[serde(rename = "code")]
    pub fault: Fault,
    /// What failed, on what, and what the kernel answered.
    pub what: String,
    /// The place in a file that it is about.
    pub excerpt: Option<Excerpt>,
    /// Why.
    pub cause: String,
    /// What to do.
    pub fix: String,
}

/// A line of a file, and the part of it that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// The line's number, from 1.
    pub line: usize,
    /// The line itself, or its start: no control characters.
    pub text: String,
    /// Where in `text` the part begins, in characters.
    pub from: usize,
    /// How many characters it has, at least one.
    pub len: usize,
}

impl Report {
    /// A fault whose words say all there is to say.
    pub fn new(fault: Fault, what: String) -> Self {
        Self {
            fault,
            what,
            excerpt: None,
            cause: String::new(),
            fix: String::new(),
        }
    }

    /// An error, with what the catalogue says of its kind where it says nothing itself.
    pub fn whole(error: &(impl Explained + ?Sized)) -> Self {
        let fault = error.fault();
        Self {
            cause: error.why().unwrap_or_else(|| fault.cause().into()),
            fix: error.remedy().unwrap_or_else(|| fault.fix().into()),
            ..Self::new(fault, words(error))
        }
    }

    /// An error whose own words say why and what to do.
    pub fn bare(error: &(impl Explained + ?Sized)) -> Self {
        Self::new(error.fault(), words(error))
    }

    /// The part of the first line before the words.
    pub fn label(&self) -> String {
        format!("error[{}]:", self.fault.code())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.label(), self.what)?;
        if let Some(excerpt) = &self.excerpt {
            write!(f, "{excerpt}")?;
        }
        for (name, words) in [("cause", &self.cause), ("fix", &self.fix)] {
            if !words.is_empty() {
                writeln!(f, "  {name:<7} {words}")?;
            }
        }
        writeln!(f, "  more    vxgate explain {}", self.fault.code())
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:>5} | {}", self.line, self.text)?;
        let marks = "^".repeat(self.len);
        writeln!(f, "        | {:from$}{marks}", "", from = self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_the_way_from_a_daemon_to_whoever_asked_it() {
        let mut report = Report::new(Fault::ValueInvalid, "x.toml: line 7".into());
        report.excerpt = Some(Excerpt {
            line: 7,
            text: "count = 65".into(),
            from: 8,
            len: 2,
        });
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains("\"code\":\"VXG-0602\""), "{text}");
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        let strange = text.replace("VXG-0602", "VXG-9999");
        assert!(serde_json::from_str::<Report>(&strange).is_err());
    }

    #[test]
    fn a_report_points_at_the_place_and_leaves_out_what_is_empty() {
        let mut report = Report::new(
            Fault::ValueInvalid,
            "x.toml: line 7: worker.count: 65 cannot be".into(),
        );
        report.excerpt = Some(Excerpt {
            line: 7,
            text: "count = 65".into(),
            from: 8,
            len: 2,
        });
        let code = Fault::ValueInvalid.code();
        assert_eq!(
            report.to_string(),
            format!(
                "error[{code}]: x.toml: line 7: worker.count: 65 cannot be\n      7 | count = 65\n        |         ^^\n  \
                 more    vxgate explain {code}\n"
            )
        );
        report.excerpt = None;
        report.cause = "because".into();
        report.fix = "do".into();
        assert_eq!(
            report.to_string(),
            format!(
                "error[{code}]: x.toml: line 7: worker.count: 65 cannot be\n  cause   because\n  fix     do\n  \
                 more    vxgate explain {code}\n"
            )
        );
    }
}
