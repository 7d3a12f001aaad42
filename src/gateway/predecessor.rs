//! Patience with a predecessor that is on its way out.
//!
//! A process that was killed holds what it held until the kernel has released it: some tens of milliseconds, in which its
//! BPF links wait for grace periods of RCU. Its supervisor starts the next one at once. So whoever finds something taken
//! asks again for a moment, and for longer where the holder is dying.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How long to ask again what a living process holds: it may be about to be killed, and between the signal and the death
/// there is a moment in which `/proc` tells nothing.
const LIVING: Duration = Duration::from_millis(50);
/// How long to ask again what a dying process holds, or one that we know nothing of. A busy machine takes seconds for what
/// another does in milliseconds.
const DYING: Duration = Duration::from_secs(5);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(5);

/// `PF_EXITING` (`linux/sched.h`), among the flags of `/proc/PID/stat`.
const PF_EXITING: u64 = 4;
/// SIGKILL's bit in the masks of `/proc/PID/status`.
const SIGKILL_BIT: u64 = 1 << (libc::SIGKILL - 1);

/// How long somebody has been waited for.
#[derive(Debug)]
pub struct Patience {
    began: Instant,
    dying: bool,
}

impl Patience {
    /// Begins to wait.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            dying: false,
        }
    }

    /// Whether to ask once more, after a pause that this takes. `holder` is the process that holds what is wanted; none
    /// where the kernel does not tell, as of another PID namespace.
    pub fn again(&mut self, holder: Option<i32>) -> bool {
        self.dying |= holder.is_none_or(is_dying);
        let limit = if self.dying { DYING } else { LIVING };
        if self.began.elapsed() >= limit {
            return false;
        }
        thread::sleep(PAUSE);
        true
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a process has been killed, is exiting, or is gone.
fn is_dying(pid: i32) -> bool {
    // The process's name in it may be any bytes.
    let read = |what: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{what}"))?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    match (read("stat"), read("status")) {
        (Ok(stat), Ok(status)) => exits(&stat) || is_killed(&status),
        // Gone between two looks, or before the first.
        _ => true,
    }
}

/// Whether `/proc/PID/stat` tells of a process that exits, or of one whose end nobody has asked for yet.
fn exits(stat: &str) -> bool {
    // The name in parentheses may hold anything.
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return false;
    };
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next();
    // proc(5): state, then ppid, pgrp, session, tty_nr, tpgid, flags.
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok());
    matches!(state, Some("Z" | "X")) || flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

/// Whether `/proc/PID/status` tells of a SIGKILL that the process has not obeyed yet.
fn is_killed(status: &str) -> bool {
    let masks = status.lines().filter_map(|line| {
        let mask = line
            .strip_prefix("SigPnd:")
            .or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    masks.fold(0, |all, mask| all | mask) & SIGKILL_BIT != 0
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_lives_until_it_is_killed_and_dies_until_it_is_gone() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(!is_dying(pid));
        assert!(!is_dying(i32::try_from(std::process::id()).unwrap()));
        child.kill().unwrap();
        // Killed, exiting, a zombie that nobody has asked for, or in the moment between these of which `/proc` tells nothing.
        let mut patience = Patience::new();
        assert!(patience.again(Some(pid)) && is_dying(pid));
        child.wait().unwrap();
        assert!(is_dying(pid));
    }

    #[test]
    fn the_patience_with_the_living_is_short_and_with_the_dying_longer() {
        let own = i32::try_from(std::process::id()).ok();
        let mut patience = Patience::new();
        while patience.again(own) {}
        assert!(patience.began.elapsed() >= LIVING);
        // It was killed meanwhile.
        assert!(patience.again(None));
        // Once dying, always dying.
        assert!(patience.again(own));
    }

    #[test]
    fn proc_tells_who_exits() {
        for (stat, expected) in [
            ("7 (a) S 1 7 7 0 -1 4194560 0", false),
            ("7 (a) S 1 7 7 0 -1 4194564 0", true),
            ("7 (a) Z 1 7 7 0 -1 4194560 0", true),
            ("7 (Z ) X) S 1 7 7 0 -1 4194560 0", false),
            ("7 (a) S", false),
            ("", false),
        ] {
            assert_eq!(exits(stat), expected, "{stat}");
        }
    }

    #[test]
    fn proc_tells_who_is_killed() {
        let masks = |own: &str, shared: &str| {
            is_killed(&format!("Name:\ta\nSigPnd:\t{own}\nShdPnd:\t{shared}\n"))
        };
        assert!(masks("0000000000000100", "0000000000000000"));
        assert!(masks("0000000000000000", "0000000000004100"));
        assert!(!masks("0000000000004000", "0000000000004000"));
        assert!(!is_killed("SigBlk:\t0000000000000100\n"));
    }
}
