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
    let (mut quiet, mut over) = (0_u32, false);
    loop {
        let pause = match quiet {
            0 => Duration::ZERO,
            1..=PATIENT => SHORT,
            _ => LONG,
        };
        // Asked also where there is always more: who wants no more would be sent frames for as long as they come.
        if !over && wants_no_more(client, pause)? {
            over = true;
            capture.end();
        }
        out.clear();
        let mut frames = Vec::new();
        let read = capture.read(|seen| stream::put_frame(&seen, &mut frames));
        for port in capture.ports() {
            if told.insert((port.ifindex, port.name.clone())) {
                stream::put_port(port, &mut out);
            }
        }
        out.append(&mut frames);
        counts.seen += read as u64;
        let lost = capture.lost();
        let is_last = over && read == 0;
        if lost != counts.lost || is_last {
            counts.lost = lost;
            stream::put_counts(&counts, &mut out);
        }
        (&*client).write_all(&out)?;
        if is_last {
            return Ok(());
        }
        quiet = if read == 0 {
            quiet.saturating_add(1)
        } else {
            0
        };
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

#[cfg(test)]
mod tests {
    use std::iter;
    use std::net::Shutdown;
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::gateway::{Asked, Captures};
    use crate::stats::PeerId;
    use crate::stats::tap::{Fate, Point, PortTap, Tap};

    #[test]
    fn who_wants_no_more_is_heard_while_there_is_more_all_the_time() {
        const FRAMES: usize = 4096;
        let tap = Arc::new(Tap::new(0));
        let captures = Captures::tapped(vec![Arc::clone(&tap)]);
        let asked = Asked {
            points: Point::ALL.into_iter().collect(),
            ports: Vec::new(),
            snaplen: 1024,
            buffer: 16 << 20,
            pid: None,
        };
        let capture = captures.start(asked).unwrap();
        // Many times what the sockets hold, and what is read at once.
        let port = PortTap::new(tap, 4);
        for _ in 0..FRAMES {
            let mut staged = port.stage(Point::AccessRx, 0);
            staged.add(Fate::Encap, PeerId(0), 1024, iter::once(&[7; 1024][..]));
            staged.commit(1);
        }
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let serves = thread::spawn(move || stream(&ours, capture));
        let mut bytes = vec![0; 1 << 20];
        // When it has begun.
        theirs.read_exact(bytes.split_at_mut(1).0).unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        theirs.read_exact(bytes.split_at_mut(1).1).unwrap();
        assert_eq!(captures.states(), [], "workers still have to write");
        theirs.read_to_end(&mut bytes).unwrap();
        serves.join().unwrap().unwrap();
        // What had been seen by then has come.
        assert!(bytes.len() > FRAMES * 1024);
        let last = format!("{{\"seen\":{FRAMES},\"lost\":0}}");
        assert!(bytes.ends_with(last.as_bytes()));
    }
}
