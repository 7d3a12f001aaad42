//! What a worker asks of the scheduler: to stay on one core, and to come first there.
//!
//! Where the kernel receives in threads (threaded NAPI, `ksoftirqd`), these share a core with the worker that is to carry what
//! they bring. Under overload they never rest: as equals, they would fill rings that nobody empties, and the gateway would
//! carry less the more it is offered (receive livelock). A worker that comes first empties its rings, and what is too much
//! is lost in the first ring, where it has cost least. It sleeps when there is no work, so nobody is kept from the core; one
//! that hangs would keep them from it, so whoever watches it puts it last ([`Standing::set_nice`]).

use std::io;

use rustix::process::{Pid, getpriority_process, setpriority_process};

/// How a worker's wish for a core ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinning {
    /// It had none.
    Free,
    /// It stays on this core.
    Pinned(usize),
    /// The kernel did not let it: no such core, or not one of this process's. It runs all the same, on any core.
    Refused(usize),
}

/// What the scheduler granted to a worker's thread.
#[derive(Debug)]
pub struct Standing {
    /// Its core.
    pub pinning: Pinning,
    /// Why it does not have the nice value that it asked for.
    pub nice_refused: Option<io::Error>,
    thread: Pid,
}

impl Standing {
    /// Asks for the calling thread.
    pub(super) fn take(core: Option<usize>, nice: i32) -> Self {
        let mut standing = Self {
            pinning: pin(core),
            nice_refused: None,
            thread: rustix::thread::gettid(),
        };
        standing.nice_refused = standing.set_nice(nice).err();
        standing
    }

    /// The thread's number.
    pub fn thread_id(&self) -> i32 {
        self.thread.as_raw_pid()
    }

    /// The thread's nice value; none when it has ended.
    pub fn nice(&self) -> Option<i32> {
        getpriority_process(Some(self.thread)).ok()
    }

    /// Gives the thread another nice value, and no other thread: the kernel has one for each (`setpriority(2)`, differences
    /// between C library and kernel).
    ///
    /// # Errors
    /// When the process may not, or the thread has ended.
    pub fn set_nice(&self, nice: i32) -> io::Result<()> {
        Ok(setpriority_process(Some(self.thread), nice)?)
    }
}

/// Keeps the calling thread on a core.
fn pin(core: Option<usize>) -> Pinning {
    /// Bits in `cpu_set_t`, beyond which core_affinity must not be asked.
    const CORES_MAX: usize = 1024;
    match core {
        None => Pinning::Free,
        Some(id)
            if id < CORES_MAX && core_affinity::set_for_current(core_affinity::CoreId { id }) =>
        {
            Pinning::Pinned(id)
        }
        Some(id) => Pinning::Refused(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn one_thread_rises_and_the_others_stay() {
        let before = getpriority_process(None).unwrap();
        let (told, tell) = mpsc::channel();
        let (done, wait) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let standing = Standing::take(None, before + 1);
            let own = getpriority_process(None).unwrap();
            told.send((standing, own)).unwrap();
            // Until it has been looked at.
            let _ = wait.recv();
        });
        let (standing, own) = tell.recv().unwrap();
        assert!(standing.nice_refused.is_none());
        assert_eq!(standing.pinning, Pinning::Free);
        assert_eq!((own, standing.nice()), (before + 1, Some(before + 1)));
        standing.set_nice(before + 2).unwrap();
        assert_eq!(standing.nice(), Some(before + 2));
        assert_eq!(getpriority_process(None).unwrap(), before);
        drop(done);
        thread.join().unwrap();
    }

    #[test]
    fn a_core_that_does_not_exist_is_refused() {
        for core in [1023, 1024, usize::MAX] {
            assert_eq!(pin(Some(core)), Pinning::Refused(core));
        }
    }
}
