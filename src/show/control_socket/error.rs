//! What can go wrong with the control socket, at either end.

use std::io;
use std::path::PathBuf;

use crate::fault::{Explained, Fault, Report};

/// Why a daemon did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// In its own words.
    pub words: String,
    /// All that it has to say; empty when it did not understand.
    pub reports: Vec<Report>,
}

/// What can go wrong with the socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there already.
    #[error("control socket {path} is served by a running vxgate{holder}")]
    InUse {
        /// Where.
        path: PathBuf,
        /// What the one that answers says of itself.
        holder: String,
    },
    /// Something else has the name.
    #[error("cannot make control socket {0}: there is a file of that name that is no socket")]
    NoSocket(PathBuf),
    /// It cannot be made.
    #[error("cannot make control socket {path}: {source}")]
    Bind {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("no vxgate answers on {path}: {source}")]
    NotRunning {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It did not do what it was asked for.
    #[error("vxgate on {path} refuses: {}", .refused.words)]
    Refused {
        /// Where.
        path: PathBuf,
        /// Why.
        refused: Refused,
    },
    /// A process has the socket, and does not answer.
    #[error("vxgate on {path}{} has not answered for {waited_s} s", pid_words(*pid))]
    Silent {
        /// Where.
        path: PathBuf,
        /// The process, where the kernel tells.
        pid: Option<i32>,
        /// How long it was waited for, in seconds.
        waited_s: u64,
    },
    /// The peer answered something else.
    #[error("vxgate on {path} gave no valid answer: {why}")]
    BadAnswer {
        /// Where.
        path: PathBuf,
        /// What was wrong with it.
        why: String,
    },
}

fn pid_words(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(", pid {pid},"))
}

impl Explained for SocketError {
    fn fault(&self) -> Fault {
        match self {
            Self::InUse { .. } => Fault::SocketServed,
            Self::NoSocket(_) => Fault::SocketNameTaken,
            Self::Bind { .. } => Fault::SocketNotMade,
            Self::NotRunning { .. } => Fault::DaemonSilent,
            Self::Silent { .. } => Fault::DaemonHangs,
            Self::BadAnswer { .. } => Fault::AnswerInvalid,
            Self::Refused { refused, .. } => {
                let mut reports = refused.reports.iter();
                reports
                    .next()
                    .map_or(Fault::AnswerInvalid, |report| report.fault)
            }
        }
    }

    /// Of a refusal, what the daemon has to say: as if it had been said here.
    fn reports(&self) -> Vec<Report> {
        match self {
            Self::Refused { refused, .. } if !refused.reports.is_empty() => refused.reports.clone(),
            _ => vec![Report::whole(self)],
        }
    }
}
