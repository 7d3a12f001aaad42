//! The daemon's side of a capture.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::stream::{self, Counts};
use crate::gateway::Capture;

/// How long to wait for more when there was something lately; a ring of a megabyte holds what comes meanwhile.
const SHORT: Duration = Duration::from_millis(2);
/// How long when there was nothing.
const LONG: Duration = Duration::from_millis(20);
/// Looks without a frame before the wait is long.
const PATIENT: u32 = 50;

/// Sends what a capture sees, until the other side wants no more or is gone. The answer has been given.
///
/// # Errors
/// When the other side is gone.
pub(in crate::show) fn stream(client: &UnixStream, mut capture: Capture) -> io::Result<()> {
    // One that is stopped for a while costs nothing but what is lost meanwhile.
    client.set_write_timeout(None)?;
    let (mut out, mut told, mut counts) = (Vec::new(), BTreeSet::new(), Counts::default());
    let mut quiet = 0;
    loop {
        let pause = if quiet < PATIENT { SHORT } else { LONG };
        let over = wants_no_more(client, pause)?;
        if over {
            capture.end();
        }
        loop {
            out.clear();
            let mut frames = Vec::new();
            let read = capture.read(|seen| stream::put_frame(&seen, &mut frames));
            for port in capture.ports() {
                if told.insert((port.ifindex, port.name.clone())) {
                    stream::put_port(port, &mut out);
                }
            }
            out.append(&mut frames);
            let lost = capture.lost();
            if lost != counts.lost {
                counts = Counts {
                    seen: counts.seen + read as u64,
                    lost,
                };
                stream::put_counts(&counts, &mut out);
            } else {
                counts.seen += read as u64;
            }
            (&*client).write_all(&out)?;
            if read == 0 {
                quiet += 1;
                break;
            }
            quiet = 0;
        }
        if over {
            out.clear();
            stream::put_counts(&counts, &mut out);
            return (&*client).write_all(&out);
        }
    }
}

/// Waits so long; whether the other side has closed its own, or is gone.
fn wants_no_more(client: &UnixStream, pause: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(client, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: pause.subsec_nanos().into(),
    };
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(false),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    // It has nothing more to say; but what it says is read, or it would never be waited again.
    match (&*client).read(&mut [0; 64]) {
        Ok(0) => Ok(true),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}
