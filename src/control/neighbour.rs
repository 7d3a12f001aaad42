//! The Ethernet address of each next hop: the kernel's neighbour entry, which the kernel is asked to keep resolved.
//!
//! Frames that the kernel never sees do not make it resolve or refresh anything, so every next hop in use is asked for
//! with `NTF_EXT_MANAGED`: the kernel then probes it by itself, for ever. A kernel before 5.16 ignores the flag and
//! resolves once; there the question is repeated. An entry that somebody made permanent is used as it is and never
//! touched: the kernel would turn it into an ordinary one.
//!
//! What was asked for is given back when the next hop is no longer used and when the mirror stops. An entry that someone
//! else had managed before stays managed. Ours carry a protocol number, so that the entries of a process that was killed
//! are known as ours by the next.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;

use crate::netlink::{self, Neighbour, Socket};
use crate::table::UnresolvedReason;
use crate::wire::MacAddr;

/// `NDA_PROTOCOL` of the entries that we had managed. Numbers from 1 to 255 are free to choose; none of `linux/rtnetlink.h`.
const PROTOCOL: u8 = 118;
/// `NUD_INCOMPLETE | NUD_FAILED` are the states without a usable address.
const UNUSABLE: u16 = netlink::neighbour_state::INCOMPLETE | netlink::neighbour_state::FAILED;
/// How long to wait before asking again for an entry that is not there or not managed.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// `EEXIST`: an exclusive request found an entry.
const EEXIST: i32 = 17;

/// A next hop: a link and an address on it.
pub(super) type NextHopKey = (u32, IpAddr);

/// Neighbours of the underlay links, and what was asked about them.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    entries: HashMap<NextHopKey, Neighbour, FixedState>,
    wanted: HashMap<NextHopKey, Asked, FixedState>,
}

/// What a message about an underlay link's neighbour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Heard {
    /// It is a next hop in use.
    pub in_use: bool,
    /// ... and leads to another Ethernet address, or to none any more.
    pub address_changed: bool,
}

/// What was asked about a next hop in use.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// Not before this moment again.
    next: Instant,
    /// The kernel manages it because we asked.
    ours: bool,
}

impl Neighbours {
    /// Applies one message about an underlay link.
    pub(super) fn apply(&mut self, exists: bool, entry: Neighbour) -> Heard {
        let Some(dst) = entry.dst.filter(|_| !entry.fdb) else {
            return Heard::default();
        };
        let key = (entry.ifindex, dst);
        let before = self.mac(key).ok();
        if exists {
            self.entries.insert(key, entry);
        } else {
            self.entries.remove(&key);
        }
        let Some(asked) = self.wanted.get_mut(&key) else {
            return Heard::default();
        };
        if !exists {
            // Gone, with all that was asked of it.
            asked.ours = false;
        }
        Heard {
            in_use: true,
            address_changed: self.mac(key).ok() != before,
        }
    }

    /// Puts complete dumps of these links in the place of what was known about them.
    pub(super) fn replace(&mut self, underlays: &[u32], dump: Vec<Neighbour>) -> bool {
        let before: Vec<_> = self
            .wanted
            .keys()
            .map(|key| (*key, self.mac(*key).ok()))
            .collect();
        self.entries
            .retain(|(ifindex, _), _| !underlays.contains(ifindex));
        for entry in dump {
            self.apply(true, entry);
        }
        before
            .into_iter()
            .any(|(key, mac)| self.mac(key).ok() != mac)
    }

    /// The Ethernet address of a next hop.
    pub(super) fn mac(&self, key: NextHopKey) -> Result<MacAddr, UnresolvedReason> {
        let usable = |entry: &&Neighbour| entry.state & UNUSABLE == 0;
        let mac = self
            .entries
            .get(&key)
            .filter(usable)
            .and_then(|entry| entry.mac);
        mac.filter(|mac| !mac.is_zero())
            .ok_or(UnresolvedReason::NoNeighbour)
    }

    /// Says which next hops are in use: gives back those that no longer are. New ones are asked for by [`Self::ask`].
    pub(super) fn want(
        &mut self,
        socket: &mut Socket,
        keys: &HashSet<NextHopKey, FixedState>,
        now: Instant,
    ) {
        let unwanted: Vec<_> = self
            .wanted
            .keys()
            .filter(|key| !keys.contains(key))
            .copied()
            .collect();
        for key in unwanted {
            self.give_back(socket, key);
        }
        for key in keys {
            self.wanted.entry(*key).or_insert(Asked {
                next: now,
                ours: false,
            });
        }
    }

    /// Asks the kernel to resolve what needs it. Failures are the network's state, not errors: asked again later.
    pub(super) fn ask(
        &mut self,
        socket: &mut Socket,
        now: Instant,
        usable_link: impl Fn(u32) -> bool,
    ) {
        for (key, asked) in &mut self.wanted {
            let entry = self.entries.get(key);
            match entry {
                Some(entry) if entry.is_fixed() => continue,
                Some(entry) if entry.is_managed() => {
                    asked.ours |= entry.protocol == PROTOCOL;
                    continue;
                }
                _ if asked.next > now || !usable_link(key.0) => continue,
                _ => {}
            }
            asked.next = now + ASK_AGAIN;
            // Who wrote an existing entry stays its author.
            let (flags, protocol) = entry.map_or((0, PROTOCOL), |entry| {
                (
                    entry.flags,
                    if entry.protocol == 0 {
                        PROTOCOL
                    } else {
                        entry.protocol
                    },
                )
            });
            // An entry that we do not know of may be a permanent one whose announcement is still queued.
            match socket.resolve_neighbour(key.0, key.1, entry.is_none(), flags, protocol) {
                Ok(()) => asked.ours = true,
                Err(error) if error.code() == Some(EEXIST) => {}
                Err(error) => {
                    tracing::debug!(ifindex = key.0, next_hop = %key.1, %error, "next hop not asked for")
                }
            }
        }
    }

    /// When [`Self::ask`] has something to do next.
    pub(super) fn next_ask(&self, usable_link: impl Fn(u32) -> bool) -> Option<Instant> {
        let needs_asking = |key: &NextHopKey| {
            let settled = |entry: &Neighbour| entry.is_fixed() || entry.is_managed();
            usable_link(key.0) && !self.entries.get(key).is_some_and(settled)
        };
        self.wanted
            .iter()
            .filter(|(key, _)| needs_asking(key))
            .map(|(_, asked)| asked.next)
            .min()
    }

    /// Asks again without waiting, after something happened that may have taken entries away.
    pub(super) fn hurry(&mut self, ifindex: u32, now: Instant) {
        for (_, asked) in self.wanted.iter_mut().filter(|(key, _)| key.0 == ifindex) {
            asked.next = now;
        }
    }

    /// Gives back everything that was asked for.
    pub(super) fn give_back_all(&mut self, socket: &mut Socket) {
        let keys: Vec<_> = self.wanted.keys().copied().collect();
        for key in keys {
            self.give_back(socket, key);
        }
    }

    fn give_back(&mut self, socket: &mut Socket, key: NextHopKey) {
        let ours = self.wanted.remove(&key).is_some_and(|asked| asked.ours);
        let entry = self.entries.get(&key);
        // Someone made it permanent: nothing of ours is left in it, and it must not be touched. One that we have not heard
        // of yet is the one that we asked for.
        if !ours || entry.is_some_and(Neighbour::is_fixed) {
            return;
        }
        let flags = entry.map_or(0, |entry| entry.flags);
        if let Err(error) = socket.release_neighbour(key.0, key.1, flags) {
            tracing::debug!(ifindex = key.0, next_hop = %key.1, %error, "next hop not given back: it is gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::neighbour_state;

    fn neighbour(state: u16, mac: Option<u8>) -> Neighbour {
        Neighbour {
            fdb: false,
            ifindex: 3,
            state,
            flags: 0,
            flags_ext: 0,
            mac: mac.map(|last| MacAddr([2, 0, 0, 0, 0, last])),
            dst: Some("10.9.0.2".parse().unwrap()),
            port: None,
            vni: None,
            src_vni: None,
            via_ifindex: None,
            nexthop: None,
            protocol: 0,
        }
    }

    fn key() -> NextHopKey {
        (3, "10.9.0.2".parse().unwrap())
    }

    #[test]
    fn every_state_with_an_address_but_failed_and_incomplete_is_usable() {
        let mut neighbours = Neighbours::default();
        for state in [0x02, 0x04, 0x08, 0x10, 0x40, 0x80] {
            neighbours.apply(true, neighbour(state, Some(9)));
            assert_eq!(
                neighbours.mac(key()),
                Ok(MacAddr([2, 0, 0, 0, 0, 9])),
                "state {state:#x}"
            );
        }
        for (state, mac) in [(0x01, None), (0x20, None), (0x20, Some(9)), (0x02, None)] {
            neighbours.apply(true, neighbour(state, mac));
            assert_eq!(
                neighbours.mac(key()),
                Err(UnresolvedReason::NoNeighbour),
                "state {state:#x}"
            );
        }
    }

    #[test]
    fn only_a_change_of_an_address_in_use_is_a_change() {
        let mut neighbours = Neighbours::default();
        assert!(
            !neighbours
                .apply(true, neighbour(0x02, Some(9)))
                .address_changed,
            "not in use"
        );
        neighbours.wanted.insert(
            key(),
            Asked {
                next: Instant::now(),
                ours: false,
            },
        );
        assert!(
            !neighbours
                .apply(true, neighbour(0x04, Some(9)))
                .address_changed,
            "STALE has the same address"
        );
        assert!(
            neighbours
                .apply(true, neighbour(0x02, Some(8)))
                .address_changed
        );
        assert!(
            neighbours
                .apply(true, neighbour(neighbour_state::FAILED, None))
                .address_changed
        );
        assert!(
            !neighbours
                .apply(false, neighbour(neighbour_state::FAILED, None))
                .address_changed
        );
        assert!(neighbours.replace(&[3], vec![neighbour(0x02, Some(8))]));
        assert!(
            neighbours.replace(&[3], Vec::new()),
            "what a dump does not name is gone"
        );
    }

    #[test]
    fn what_is_permanent_or_managed_needs_no_question() {
        let mut neighbours = Neighbours::default();
        let now = Instant::now();
        neighbours.wanted.insert(
            key(),
            Asked {
                next: now,
                ours: false,
            },
        );
        assert_eq!(neighbours.next_ask(|_| true), Some(now));
        assert_eq!(
            neighbours.next_ask(|_| false),
            None,
            "not while the link is down"
        );
        neighbours.apply(true, neighbour(neighbour_state::PERMANENT, Some(9)));
        assert_eq!(neighbours.next_ask(|_| true), None);
        neighbours.apply(
            true,
            Neighbour {
                flags_ext: 1,
                ..neighbour(neighbour_state::FAILED, None)
            },
        );
        assert_eq!(
            neighbours.next_ask(|_| true),
            None,
            "the kernel retries what it manages"
        );
    }
}
