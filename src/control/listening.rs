//! From the kernel's announcements to the mirror, in the order that keeps it true (the first rule of `control`).

use std::io;

use super::mirror::Mirror;
use crate::netlink::{self, Received, Subscription};

/// Notifications taken before looking at the clock again.
const LISTEN_MAX: usize = 4096;
/// Notifications thrown away at once: many times what the queue holds. A writer who is faster than that is waited for.
const DRAIN_MAX: usize = 1 << 20;
/// How often a dump is repeated at once because announcements were lost again meanwhile.
const RESYNC_ATTEMPTS: u32 = 3;

/// What [`listen`] heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) events: u64,
    pub(super) overruns: u64,
}

/// Dumps everything, as often as announcements are lost meanwhile, up to a limit: under a storm without end the mirror is
/// where the last dump was, and still in doubt.
pub(super) fn catch_up(
    subscription: &mut Subscription,
    mirror: &mut Mirror,
) -> Result<Heard, netlink::Error> {
    let io = |source| netlink::Error::Io {
        doing: "listening to changes",
        source,
    };
    let mut heard = Heard::default();
    for _ in 0..RESYNC_ATTEMPTS {
        // What waits now is older than the dump, and after a loss nothing in the queue makes up for that.
        let drained = subscription.drain(DRAIN_MAX).map_err(io)?;
        mirror.resync()?;
        if !drained {
            mirror.doubt_everything();
        }
        let more = listen(subscription, mirror).map_err(io)?;
        heard.events += more.events;
        heard.overruns += more.overruns;
        if !mirror.doubts_everything() {
            break;
        }
    }
    Ok(heard)
}

/// Takes what the kernel announced, up to a limit. After a loss all of it is thrown away: applied to a later dump it would
/// bring back what has changed since, and the announcement of that change may be among the lost ones.
pub(super) fn listen(subscription: &mut Subscription, mirror: &mut Mirror) -> io::Result<Heard> {
    let mut heard = Heard::default();
    for _ in 0..LISTEN_MAX {
        let received = subscription.receive(|message| {
            heard.events += 1;
            mirror.hear(message);
        })?;
        match received {
            Received::Messages => {}
            Received::Nothing => {
                mirror.heard_all();
                break;
            }
            Received::Overrun => {
                heard.overruns += 1;
                mirror.doubt_everything();
                subscription.drain(DRAIN_MAX)?;
                break;
            }
        }
    }
    Ok(heard)
}
