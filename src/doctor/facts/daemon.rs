//! The daemon, as its control socket shows it; and the kernel's tables of the same moment.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::control::{self, SegmentReport};
use crate::doctor::checks::differences;
use crate::gateway::FdbEntryState;
use crate::show::{Fdb, SocketError, Status, ask_within};

/// How long an answer may take: it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a difference between the daemon's tables and the kernel's may last: it follows within milliseconds.
const SETTLING: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// What there is of a daemon.
#[derive(Debug, Clone)]
pub enum Daemon {
    /// No socket.
    Absent,
    /// A socket's file, and nobody behind it.
    Stale,
    /// A file of that name which is no socket.
    NoSocket,
    /// Somebody has the socket open, and does not answer.
    Silent {
        /// The process, where the kernel tells.
        pid: Option<i32>,
        /// It is stopped (SIGSTOP).
        stopped: bool,
    },
    /// We may not ask, or the answer makes no sense.
    Unknown(String),
    /// It answers.
    Answers(Box<Status>),
}

impl Daemon {
    /// What it says of itself, if it does.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Answers(status) => Some(status),
            _ => None,
        }
    }

    fn silent(pid: Option<i32>) -> Self {
        Self::Silent {
            pid,
            stopped: pid.is_some_and(is_stopped),
        }
    }

    fn find(path: &Path) -> Self {
        match fs::symlink_metadata(path) {
            Ok(file) if !file.file_type().is_socket() => return Self::NoSocket,
            _ => {}
        }
        match ask_within(path, PATIENCE) {
            Ok(status) => Self::Answers(Box::new(status)),
            Err(SocketError::NotRunning { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Self::Absent
            }
            Err(SocketError::NotRunning { source, .. })
                if source.kind() == io::ErrorKind::ConnectionRefused =>
            {
                Self::Stale
            }
            Err(SocketError::Silent { pid, .. }) => Self::silent(pid),
            Err(error) => Self::Unknown(error.to_string()),
        }
    }
}

/// The daemon, and the kernel's tables beside its own.
pub(super) struct Compared {
    pub(super) daemon: Daemon,
    pub(super) surveys: Vec<SegmentReport>,
    pub(super) unlike: Vec<FdbEntryState>,
}

/// Asks the daemon, and surveys the kernel's tables. Where both differ, they are asked again until they do not, or until that
/// can be no matter of time.
pub(super) fn gather(
    path: &Path,
    mut survey: impl FnMut() -> Result<Vec<SegmentReport>, control::Error>,
) -> Result<Compared, control::Error> {
    let began = Instant::now();
    loop {
        let (mut daemon, surveys) = (Daemon::find(path), survey()?);
        let unlike = match daemon.status().map(|_| unlike(path)) {
            // It was stopped between the two questions.
            Some(Err(SocketError::Silent { pid, .. })) => {
                daemon = Daemon::silent(pid);
                Vec::new()
            }
            // One that does not tell, because it is older or has just gone, tells of none.
            None | Some(Err(_)) => Vec::new(),
            Some(Ok(unlike)) => unlike,
        };
        let status = daemon.status();
        let same = unlike.is_empty()
            && status.is_none_or(|status| differences(&surveys, &status.observation).is_empty());
        if same || began.elapsed() >= SETTLING {
            return Ok(Compared {
                daemon,
                surveys,
                unlike,
            });
        }
        thread::sleep(PAUSE);
    }
}

/// The FDB entries that only one of the workers and the kernel has.
fn unlike(path: &Path) -> Result<Vec<FdbEntryState>, SocketError> {
    let mut unlike = Vec::new();
    Fdb::ask_by_parts(path, None, |part| {
        let entries = part.entries.into_iter();
        unlike.extend(entries.filter(|entry| !entry.in_kernel || !entry.published));
        true
    })?;
    Ok(unlike)
}

/// Whether a process is stopped: the state `T` of `/proc/PID/stat`.
fn is_stopped(pid: i32) -> bool {
    let bytes = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything.
    let text = String::from_utf8_lossy(&bytes);
    let state = text.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|rest| rest.starts_with(['T', 't']))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_at_the_path_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert!(matches!(Daemon::find(&path), Daemon::Absent));
        fs::write(&path, "text").unwrap();
        assert!(matches!(Daemon::find(&path), Daemon::NoSocket));
        fs::remove_file(&path).unwrap();
        // What a killed process leaves.
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(Daemon::find(&path), Daemon::Stale));
    }

    #[test]
    fn a_process_that_runs_is_not_stopped() {
        assert!(!is_stopped(i32::try_from(std::process::id()).unwrap()));
        assert!(!is_stopped(i32::MAX));
    }
}
