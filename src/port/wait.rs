//! How a worker rests, and how it tells the time.
#![allow(unsafe_code)] // WHY: `poll(2)` without building a list at every call, and the clock without a conversion.

use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

/// Sleeps until one of its file descriptors is readable. The list is built once: sleeping allocates nothing.
#[derive(Debug)]
pub struct Sleeper {
    fds: Vec<libc::pollfd>,
}

impl Sleeper {
    /// For these descriptors, which must stay open as long as it is used; one that is closed is left out from then on.
    pub fn new(fds: impl IntoIterator<Item = RawFd>) -> Self {
        let fds = fds
            .into_iter()
            .map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        Self { fds }
    }

    /// Sleeps until a descriptor is readable (`true`), or the time is over or a signal came (`false`). Note that `poll(2)`
    /// on an AF_XDP socket in copy mode also sends what is in its transmit ring.
    pub fn sleep(&mut self, timeout: Duration) -> bool {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let count = self.fds.len() as libc::nfds_t;
        // SAFETY: the first pointer and the count are those of the vector, the second is to a local, and the third says
        // that no signal mask is given.
        let ready = unsafe {
            libc::ppoll(
                self.fds.as_mut_ptr(),
                count,
                &raw const timeout,
                ptr::null(),
            )
        };
        ready > 0 && self.judge()
    }

    /// Whether the descriptor at this place of the list was readable when the last sleep ended.
    pub fn ready(&self, place: usize) -> bool {
        self.fds
            .get(place)
            .is_some_and(|entry| entry.revents & libc::POLLIN != 0)
    }

    /// Whether anything is readable. Errors are conditions that stay, and would end every further sleep at once: a pending
    /// socket error is fetched, which clears it, and a descriptor that is closed or hung up is left out.
    fn judge(&mut self) -> bool {
        let mut readable = false;
        for entry in &mut self.fds {
            if entry.revents & libc::POLLIN != 0 {
                readable = true;
            } else if entry.revents & (libc::POLLNVAL | libc::POLLHUP) != 0
                || (entry.revents & libc::POLLERR != 0 && !clear_error(entry.fd))
            {
                // `poll(2)` ignores negative descriptors.
                entry.fd = -1;
            }
        }
        readable
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds: one call a turn, also the value of the heartbeat (`bpf_ktime_get_ns` is the same clock).
#[inline]
pub fn now_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a local. The clock exists on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Fetches a socket's pending error; `false` when there is none or it is no socket.
fn clear_error(fd: RawFd) -> bool {
    let mut error: libc::c_int = 0;
    let mut len = size_of_val(&error) as libc::socklen_t;
    // SAFETY: the pointers are to locals, and `len` is the size of the first.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut error).cast(),
            &raw mut len,
        )
    };
    result == 0 && error != 0
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_readable_descriptor_ends_the_sleep() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let (other, _other_far) = UnixStream::pair().unwrap();
        let mut sleeper = Sleeper::new([other.as_raw_fd(), near.as_raw_fd()]);
        assert!(!sleeper.sleep(Duration::ZERO));
        far.write_all(b"x").unwrap();
        assert!(sleeper.sleep(Duration::from_secs(60)));
        assert!(!sleeper.ready(0) && sleeper.ready(1) && !sleeper.ready(2));
        near.read_exact(&mut [0]).unwrap();
        assert!(!sleeper.sleep(Duration::ZERO));
    }

    #[test]
    fn the_time_is_kept_below_a_millisecond() {
        let start = Instant::now();
        assert!(!Sleeper::new([]).sleep(Duration::from_micros(300)));
        assert!(start.elapsed() >= Duration::from_micros(300));
    }

    #[test]
    fn a_closed_descriptor_does_not_end_every_sleep() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut sleeper = Sleeper::new([near.as_raw_fd()]);
        drop(far);
        // The end of the stream is readable, and stays so until the descriptor is closed.
        assert!(sleeper.sleep(Duration::from_secs(60)));
        let mut nowhere = Sleeper::new([-1, 1 << 20]);
        assert!(!nowhere.sleep(Duration::from_secs(60)));
        let start = Instant::now();
        assert!(!nowhere.sleep(Duration::from_millis(5)));
        assert!(start.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn the_clock_goes_forward() {
        let first = now_ns();
        assert!(first > 0);
        assert!(now_ns() >= first);
    }
}
