//! Programs that tests start.
#![allow(unsafe_code)] // WHY: what a child does before its program begins has no safe form.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// A command whose process has no descriptor of this one but what it is given. Tests run side by side in one process, and
/// some libraries open sockets that children inherit: a neighbour's daemon would hold their queues.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    // SAFETY: a system call, and nothing else, between fork and exec. What the standard library opens itself is closed at
    // exec anyhow.
    unsafe { command.pre_exec(close_others_at_exec) };
    command
}

/// Copies a program that is to be run. Another process does: nobody can run a file that somebody may write to (ETXTBSY), and had
/// this one opened it, whatever a neighbour starts meanwhile would have it open, too, until its own program begins.
pub fn copy(program: &str, to: &Path) {
    let status = command("cp").arg(program).arg(to).status();
    assert!(status.expect("coreutils are installed").success());
}

fn close_others_at_exec() -> std::io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: it touches no memory.
    let failed = unsafe {
        libc::close_range(
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
        )
    };
    match failed {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
