//! Workers that hang come last.
//!
//! A worker that comes before all other threads of its core (`worker/standing.rs` says why) and hangs in a loop would keep
//! the core from the kernel's own threads, which are to carry its frames now: threaded NAPI, `ksoftirqd`. At the nice value
//! -20 they get one part in 87 of the time. So whoever uses its core and stores no heartbeat comes after everybody else,
//! until it stores one again. The worker cannot do this itself; it is looked at from outside, as often as its thread is.
//!
//! One that stores no heartbeat because it does not run (stopped, or others have the core) keeps nobody from anything.

use std::fs;

use super::autogroup;
use super::books::{HEARTBEAT_STALE_MS, WorkerBook};
use crate::worker::Standing;

/// The nice value of a worker that hangs.
const LAST: i32 = 19;

/// The workers that store no heartbeat, as far as they have been looked at.
#[derive(Debug, Default)]
pub(super) struct Hung(Vec<Suspect>);

/// A worker that stores no heartbeat.
#[derive(Debug)]
struct Suspect {
    number: u32,
    /// When it was looked at the last time, and the processor time that it had used by then, in nanoseconds.
    looked_ns: u64,
    used_ns: u64,
    /// Whether it has been put last.
    last: bool,
}

impl Hung {
    /// Looks at a worker at `now_ns` (`CLOCK_MONOTONIC`), and puts it where it belongs.
    pub fn look(&mut self, book: &WorkerBook, standing: &Standing, now_ns: u64) {
        // One that does not come first takes no more than its share; and it might not be allowed to rise again.
        if book.nice >= 0 || book.nice_refused.is_some() {
            return;
        }
        let known = self.0.iter().position(|one| one.number == book.number);
        let silent = book.heartbeat_age_ms(now_ns) > HEARTBEAT_STALE_MS;
        match (silent, known) {
            (true, None) => self.0.push(Suspect {
                number: book.number,
                looked_ns: now_ns,
                used_ns: used_ns(standing),
                last: false,
            }),
            (true, Some(index)) => {
                if let Some(suspect) = self.0.get_mut(index) {
                    suspect.look(book, standing, now_ns);
                }
            }
            (false, Some(index)) => {
                let was_last = self.0.swap_remove(index).last;
                if was_last {
                    tracing::info!(worker = book.number, "stores heartbeats again");
                    let others = self.0.iter().any(|one| one.last);
                    renice(book, standing, book.nice, (!others).then_some(book.nice));
                }
            }
            (false, None) => {}
        }
    }
}

impl Suspect {
    fn look(&mut self, book: &WorkerBook, standing: &Standing, now_ns: u64) {
        let used_ns = used_ns(standing);
        let used = used_ns.saturating_sub(self.used_ns);
        // It may share its core with others that come first. A turn that is merely slow does not last for two looks.
        let busy = used >= now_ns.saturating_sub(self.looked_ns) / 8;
        (self.used_ns, self.looked_ns) = (used_ns, now_ns);
        if busy && !self.last {
            self.last = true;
            let age_ms = book.heartbeat_age_ms(now_ns);
            tracing::warn!(
                worker = book.number,
                age_ms,
                "runs, and stores no heartbeat: its frames are the kernel's, and it comes after all other threads"
            );
            renice(book, standing, LAST, Some(0));
        }
    }
}

/// Gives a worker and the session a nice value.
fn renice(book: &WorkerBook, standing: &Standing, nice: i32, session: Option<i32>) {
    let session = session.map_or(Ok(false), autogroup::set_nice).map(drop);
    if let Err(error) = standing.set_nice(nice).and(session) {
        tracing::warn!(worker = book.number, nice, %error, "cannot change its nice value");
    }
}

/// The processor time that the worker's thread has used (`schedstat`: the first number); 0 when it has ended.
fn used_ns(standing: &Standing) -> u64 {
    let file = format!("/proc/self/task/{}/schedstat", standing.thread_id());
    let text = fs::read_to_string(file).unwrap_or_default();
    let used = text.split(' ').next().map(str::parse);
    used.and_then(Result::ok).unwrap_or(0)
}
