//! The command that disturbs: started, waited for, and ended if it takes too long.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::failure::Failure;
use crate::loadgen::report::Outcome;

/// How long a command may take to end after SIGTERM, before it is killed.
pub(super) const KILL_AFTER: Duration = Duration::from_secs(2);

/// A command that was started. Dropping it kills what is left of it.
pub(super) struct Disturber {
    started: Instant,
    limit: Duration,
    /// Of the command and of all that it starts and leaves there.
    group: Pid,
    waiter: Option<JoinHandle<(io::Result<ExitStatus>, Instant)>>,
    /// When it was asked to end, and whether that was because it took too long.
    asked: Option<(Instant, bool)>,
}

impl Disturber {
    /// Starts it, in a process group of its own. What it prints goes to standard error: standard output is for the result.
    pub(super) fn start(words: &[String], limit: Duration) -> Result<Self, Failure> {
        let (program, arguments) = words.split_first().ok_or(Failure::NoCommand)?;
        let started = Instant::now();
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .process_group(0)
            .spawn();
        let mut child = child.map_err(|source| Failure::Command {
            program: program.clone(),
            source,
        })?;
        Ok(Self {
            started,
            limit,
            group: Pid::from_raw(child.id() as i32),
            waiter: Some(thread::spawn(move || (child.wait(), Instant::now()))),
            asked: None,
        })
    }

    /// How it ended, if it has; once.
    pub(super) fn outcome(&mut self) -> Result<Option<Outcome>, Failure> {
        if !self.waiter.as_ref().is_some_and(JoinHandle::is_finished) {
            self.insist();
            return Ok(None);
        }
        let Some(waiter) = self.waiter.take() else {
            return Ok(None);
        };
        let (status, ended) = waiter
            .join()
            .unwrap_or_else(|cause| std::panic::resume_unwind(cause));
        let status = status.map_err(Failure::Wait)?;
        Ok(Some(Outcome {
            exit_code: status.code(),
            signal: status.signal(),
            timed_out: self.asked.is_some_and(|(_, late)| late),
            duration_ns: ended.saturating_duration_since(self.started).as_nanos() as u64,
        }))
    }

    /// Asks it to end, and the second time, after a while, does not ask any more.
    pub(super) fn end(&mut self) {
        if self.asked.is_none() {
            self.ask_to_end(false);
        }
    }

    fn insist(&mut self) {
        match self.asked {
            None if self.started.elapsed() >= self.limit => self.ask_to_end(true),
            Some((when, _)) if when.elapsed() >= KILL_AFTER => self.signal(Signal::SIGKILL),
            _ => {}
        }
    }

    fn ask_to_end(&mut self, late: bool) {
        self.signal(Signal::SIGTERM);
        self.asked = Some((Instant::now(), late));
    }

    fn signal(&self, signal: Signal) {
        // A group that has just ended cannot be told any more, and need not be.
        killpg(self.group, signal).ok();
    }
}

impl Drop for Disturber {
    fn drop(&mut self) {
        if self
            .waiter
            .as_ref()
            .is_some_and(|waiter| !waiter.is_finished())
        {
            self.signal(Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(line: &str, limit: Duration) -> Disturber {
        let words = ["sh", "-c", line].map(str::to_owned);
        Disturber::start(&words, limit).unwrap()
    }

    fn ended(disturber: &mut Disturber) -> Outcome {
        loop {
            if let Some(outcome) = disturber.outcome().unwrap() {
                return outcome;
            }
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_command_says_how_it_ended() {
        let outcome = ended(&mut start("exit 7", LONG));
        assert_eq!((outcome.exit_code, outcome.signal), (Some(7), None));
        let outcome = ended(&mut start("kill -9 $$", LONG));
        assert_eq!((outcome.exit_code, outcome.signal), (None, Some(9)));
        assert!(!outcome.timed_out);
    }

    #[test]
    fn one_that_takes_too_long_is_ended_with_all_that_it_started() {
        let limit = Duration::from_millis(50);
        let outcome = ended(&mut start("sleep 1000 & wait; sleep 1000", limit));
        assert_eq!((outcome.signal, outcome.timed_out), (Some(15), true));
        assert!(outcome.duration_ns >= 50_000_000);
    }

    #[test]
    fn one_that_does_not_listen_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let deaf = folder.path().join("deaf");
        let line = format!("trap '' TERM; touch {}; sleep 1000", deaf.display());
        let mut disturber = start(&line, LONG);
        while !deaf.exists() {
            assert_eq!(disturber.outcome().unwrap(), None);
            thread::park_timeout(Duration::from_millis(1));
        }
        disturber.end();
        let outcome = ended(&mut disturber);
        assert_eq!((outcome.signal, outcome.timed_out), (Some(9), false));
        assert!(u128::from(outcome.duration_ns) >= KILL_AFTER.as_nanos());
    }

    #[test]
    fn one_that_is_not_there_is_named() {
        let words = ["no-such-command".to_owned()];
        let Err(failure) = Disturber::start(&words, LONG) else {
            panic!("it was started");
        };
        assert!(failure.to_string().contains("no-such-command"), "{failure}");
    }
}
