//! Settings that cannot be, in words: which one, what it says, what it may say, and where it stands.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::fault::{Excerpt, Explained, Fault, Report};

/// A setting that cannot be, or a file of settings that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The value of a flag, or of the environment variable in its place.
    #[error("--{flag} {value}: {why}")]
    Flag {
        /// The flag's name.
        flag: &'static str,
        /// What it was given.
        value: String,
        /// What it may be.
        why: String,
    },
    /// What is to be logged from now on.
    #[error("log level '{level}': {why}")]
    LogLevel {
        /// What was said.
        level: String,
        /// What it may be.
        why: String,
    },
    /// What is wrong with the text of a file.
    #[error("{0}")]
    Text(Findings),
    /// What is wrong with the text of this file.
    #[error("{}: {findings}", path.display())]
    File {
        /// Where it is.
        path: PathBuf,
        /// All that was found.
        findings: Findings,
    },
    /// A file that cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anybody could tell us what to do.
    #[error(
        "{}: everybody may write to it (mode {mode:04o}), so anybody could decide where frames go",
        path.display()
    )]
    WorldWritable {
        /// Where it is.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The network namespace has no identity to derive the socket's path from.
    #[error("cannot read /proc/self/ns/net to place the control socket: {0}")]
    Namespace(io::Error),
}

impl Explained for ConfigError {
    fn fault(&self) -> Fault {
        match self {
            Self::Flag { .. } => Fault::FlagInvalid,
            Self::LogLevel { .. } => Fault::LogFilterInvalid,
            Self::Text(findings) | Self::File { findings, .. } => findings
                .iter()
                .next()
                .map_or(Fault::FileNotToml, |finding| finding.fault),
            Self::Read { .. } => Fault::FileUnreadable,
            Self::WorldWritable { .. } => Fault::FileWritableByAll,
            Self::Namespace(_) => Fault::NamespaceUnknown,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            Self::WorldWritable { path, .. } => {
                Some(format!("take that away: chmod o-w {}", path.display()))
            }
            _ => None,
        }
    }

    /// All that was found in a file, each by itself.
    fn reports(&self) -> Vec<Report> {
        let (place, findings) = match self {
            Self::Text(findings) => (String::new(), findings),
            Self::File { path, findings } => (format!("{}: ", path.display()), findings),
            _ => return vec![Report::whole(self)],
        };
        let report = |finding: &Finding| Report {
            excerpt: finding.excerpt.clone(),
            ..Report::new(finding.fault, format!("{place}{finding}"))
        };
        findings.iter().map(report).collect()
    }
}

/// One thing that is wrong with the text of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of fault it is.
    pub fault: Fault,
    /// The line and the part of it that is meant, where the parser tells.
    pub excerpt: Option<Excerpt>,
    /// The line it stands in, from 1; none where the parser does not tell.
    pub line: Option<usize>,
    /// The key, with its table in front: `overlay.peer_check`. Empty when the text is no TOML.
    pub key: String,
    /// What is wrong with it, and what may stand there.
    pub why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.why)
    }
}

/// All that is wrong with the text of a configuration file, in its order. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings(pub(super) Vec<Finding>);

impl Findings {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }
}

impl fmt::Display for Findings {
    /// One on a line of its own where there are several.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return write!(f, "{only}");
        }
        write!(f, "{} things are wrong:", self.0.len())?;
        self.0
            .iter()
            .try_for_each(|finding| write!(f, "\n  {finding}"))
    }
}
