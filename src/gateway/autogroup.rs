//! The scheduler's group of our session (autogroup, `sched(7)`).
//!
//! Linux shares a core among sessions first and then among the threads of each: a nice value counts only in its own session.
//! The kernel's threads are in none, so a worker at -20 in a session at 0 gets no more of a core than one of them. A
//! session has a nice value, too; where it is ours alone, as of a service or a container, it is given the workers'. One that
//! we share with others, as of a shell, stays as it is.

use std::fs;
use std::io;

use nix::unistd::{getpid, getsid};

/// Of the calling process; any thread's would be the same.
const FILE: &str = "/proc/self/autogroup";

/// Gives the session this nice value, if it is ours. Whether it is.
///
/// # Errors
/// When the process may not.
pub(super) fn set_nice(nice: i32) -> io::Result<bool> {
    // A session that began outside of our PID namespace, as what `unshare --pid` starts is in, has the number 0.
    if getsid(None)? != getpid() {
        return Ok(false);
    }
    match fs::write(FILE, nice.to_string()) {
        // A kernel without such groups.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        outcome => outcome.map(|()| true),
    }
}
