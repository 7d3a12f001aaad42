//! What a worker asks of the scheduler: to stay on one core, and to come first there.
//!
//! Where the kernel receives in threads (threaded NAPI, `ksoftirqd`), these share a core with the worker that is to carry what
//! they bring. Under overload they never rest: as equals, they would fill rings that nobody empties, and the gateway would
//! carry less the more it is offered (receive livelock). A worker that comes first empties its rings, and what is too much
//! is lost in the first ring, where it has cost least. It sleeps when there is no work, so nobody is kept from the core.

use std::io;

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
}

impl Standing {
    /// Asks for the calling thread.
    pub(super) fn take(core: Option<usize>, nice: i32) -> Self {
        Self {
            pinning: pin(core),
            // Of this thread alone: the kernel has a nice value for each (`setpriority(2)`, differences between C library
            // and kernel).
            nice_refused: rustix::process::setpriority_process(None, nice)
                .err()
                .map(io::Error::from),
        }
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

    #[test]
    fn one_thread_rises_and_the_others_stay() {
        let before = rustix::process::getpriority_process(None).unwrap();
        let (standing, risen) = std::thread::spawn(move || {
            let standing = Standing::take(None, before + 1);
            (
                standing,
                rustix::process::getpriority_process(None).unwrap(),
            )
        })
        .join()
        .unwrap();
        assert!(standing.nice_refused.is_none());
        assert_eq!(standing.pinning, Pinning::Free);
        assert_eq!(risen, before + 1);
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
    }

    #[test]
    fn a_core_that_does_not_exist_is_refused() {
        for core in [1023, 1024, usize::MAX] {
            assert_eq!(pin(Some(core)), Pinning::Refused(core));
        }
    }
}
