//! The array of paths: `struct express_path`, what flows have in common whose frames go between the same pod and the same VTEP in the
//! same manner.
//!
//! A path is found by what is in it, and counted by the flows that go by it. One that no flow goes by any more rests, as a flow's
//! place does: a program may still read it. Until it is another's it may be had again as it is.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use super::super::Error;
use super::super::copy::Copy;
use super::super::heartbeat::Cells;
use super::super::words::{lengths, mac_word, pair, unpair};
use crate::flows::{HEADERS_LEN, Promoted, REST_NS};
use crate::wire::checksum;

/// `sizeof(struct express_path)`, in words: those in front of its `headers`, and all. The last one has `as_kernel` and `joined`.
const FIXED: usize = 5;
const WORDS: usize = 16;
const STRIDE: usize = WORDS * size_of::<u64>();
const AS_KERNEL_AT: usize = HEADERS_LEN % size_of::<u64>();
const JOINED_AT: usize = AS_KERNEL_AT + 1;

/// Of the outer headers: where the IPv4 header is, and the source port; over IPv6, where there is no sum, the port.
const IP: Range<usize> = 14..34;
const SOURCE_PORT: usize = 34;
const SOURCE_PORT6: usize = 54;

/// `CHECKSUM_SENT`, `CHECKSUM_VERIFIED`.
const CHECKSUM_SENT: u8 = 1;
const CHECKSUM_VERIFIED: u8 = 2;

/// How a flow's frames may go, by the devices at its ends.
pub struct Manner {
    /// The longest frame from its pod, in bytes.
    pub frame_max: u32,
    /// The longest frame to it.
    pub deliver_max: u32,
    /// Whether its pod's device takes frames from programs on other devices.
    pub by_xdp: bool,
    /// Whether its underlay device takes frames from programs on its pod's.
    pub nic_by_xdp: bool,
    /// Whether frames may have been joined before our program on its underlay device sees them.
    pub joined: bool,
}

/// A path's place: its number in the array, which 0 is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathId(u16);

impl PathId {
    /// As the programs read it.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// What is in a path, as the programs read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Content([u64; WORDS]);

impl Content {
    /// Of a flow's, as far as it is known how its frames leave.
    fn of(flow: &Promoted, manner: &Manner) -> Self {
        let departure = &flow.departure;
        let mut headers = departure.headers;
        let (at, ip) = if departure.is_over_ipv6() {
            (SOURCE_PORT6, None)
        } else {
            (SOURCE_PORT, headers.get(IP))
        };
        let ip_sum = ip.map_or(0, checksum::sum);
        // What differs by flow is in its own entry.
        let port = headers.iter_mut().skip(at).take(size_of::<u16>());
        port.for_each(|byte| *byte = 0);
        let frame_max = departure.frame_max.min(manner.frame_max);
        let checksum = u8::from(departure.checksum) * CHECKSUM_SENT
            + u8::from(departure.verify) * CHECKSUM_VERIFIED;
        // TCP's segments are joined on the NIC's own receive path, before the pod sees them: 4.8 Gbit/s instead of 3.8.
        let by_xdp = u8::from(!flow.key.is_tcp() && manner.by_xdp);
        let nic_by_xdp = u8::from(manner.nic_by_xdp);
        let to = departure.peer;
        let from = flow.arrival.map_or(to, |arrival| arrival.peer);
        let fixed: [u64; FIXED] = [
            pair(flow.pod.pod, departure.nic),
            pair(lengths(frame_max, manner.deliver_max), ip_sum),
            mac_word(flow.pod.pod_mac, departure.ecn, checksum),
            mac_word(flow.pod.gateway_mac, by_xdp, nic_by_xdp),
            pair(from.0.into(), to.0.into()),
        ];
        let mut rest = [0; STRIDE - FIXED * size_of::<u64>()];
        let marks = [departure.as_kernel, manner.joined].map(u8::from);
        let bytes = headers.into_iter().chain(marks);
        rest.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        let rest = rest.as_chunks().0.iter();
        let rest = rest.map(|bytes| u64::from_ne_bytes(*bytes));
        let mut words = [0; WORDS];
        let all = fixed.into_iter().chain(rest);
        words.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        Self(words)
    }
}

/// The outer source port that a flow's frames leave with, as on the wire.
pub fn source_port(flow: &Promoted) -> [u8; 2] {
    let at = if flow.departure.is_over_ipv6() {
        SOURCE_PORT6
    } else {
        SOURCE_PORT
    };
    let bytes = flow.departure.headers.get(at..);
    let port = bytes.and_then(|bytes| bytes.first_chunk());
    port.copied().unwrap_or_default()
}

/// Who has a path.
#[derive(Debug, Clone, Default)]
struct Place {
    flows: u32,
    /// Nobody's from then on, in nanoseconds.
    free_ns: u64,
    /// Is in the list of those that rest, or did when they were put there.
    listed: bool,
}

/// The array, and whose each path is.
pub struct Paths {
    cells: Cells,
    by_content: HashMap<Content, u16>,
    places: Box<[Place]>,
    /// The first place that never was anybody's.
    fresh: usize,
    /// Those that were given back, and until when they rested then.
    resting: VecDeque<(u16, u64)>,
}

impl Paths {
    /// Maps the one of this object, with so many places.
    pub fn map(object: &Copy, places: usize) -> Result<Self, Error> {
        let cells = Cells::map(object.map("express_paths")?, places, STRIDE);
        Ok(Self {
            cells: cells.map_err(Error::Heartbeat)?,
            by_content: HashMap::new(),
            places: vec![Place::default(); places].into(),
            fresh: 1,
            resting: VecDeque::new(),
        })
    }

    /// A path for one flow more, at `now_ns`; none when all are others', or rest.
    pub fn take(&mut self, flow: &Promoted, manner: &Manner, now_ns: u64) -> Option<PathId> {
        let content = Content::of(flow, manner);
        let known = self.by_content.get(&content).copied();
        let at = match known {
            Some(at) => at,
            None => {
                let at = self.make_room(now_ns)?;
                for (word, number) in content.0.into_iter().enumerate() {
                    self.cells.store_word(at.into(), word, number);
                }
                self.by_content.insert(content, at);
                at
            }
        };
        self.places.get_mut(usize::from(at))?.flows += 1;
        Some(PathId(at))
    }

    /// Takes one flow less, at `now_ns`.
    pub fn give_back(&mut self, PathId(at): PathId, now_ns: u64) {
        let Some(place) = self.places.get_mut(usize::from(at)) else {
            return;
        };
        place.flows = place.flows.saturating_sub(1);
        if place.flows == 0 {
            place.free_ns = now_ns + REST_NS;
            if !std::mem::replace(&mut place.listed, true) {
                self.resting.push_back((at, place.free_ns));
            }
        }
    }

    /// A place that is nobody's.
    fn make_room(&mut self, now_ns: u64) -> Option<u16> {
        if self.fresh < self.places.len() {
            let at = u16::try_from(self.fresh).ok()?;
            self.fresh += 1;
            return Some(at);
        }
        while let Some((at, then_ns)) = self.resting.pop_front() {
            let place = self.places.get_mut(usize::from(at))?;
            if place.flows > 0 {
                place.listed = false;
            } else if place.free_ns != then_ns {
                // It was taken, and given back once more.
                self.resting.push_back((at, place.free_ns));
            } else if place.free_ns > now_ns {
                self.resting.push_front((at, then_ns));
                return None;
            } else {
                place.listed = false;
                self.by_content.remove(&self.content(at));
                return Some(at);
            }
        }
        None
    }

    fn content(&self, at: u16) -> Content {
        let word = |word| self.cells.load_word(at.into(), word);
        Content(std::array::from_fn(word))
    }

    /// The index of the pod's device.
    pub fn pod(&self, PathId(at): PathId) -> u32 {
        let [pod, _] = unpair(self.cells.load_word(at.into(), 0));
        pod
    }

    /// Whether the kernel's own vxlan device sends its frames alike, and to the same VTEP.
    pub fn as_kernel(&self, path: PathId) -> bool {
        self.is_marked(path, AS_KERNEL_AT)
    }

    /// Whether frames to its pod may have been joined before our program sees them.
    pub fn joined(&self, path: PathId) -> bool {
        self.is_marked(path, JOINED_AT)
    }

    fn is_marked(&self, PathId(at): PathId, mark: usize) -> bool {
        let last = self.cells.load_word(at.into(), WORDS - 1).to_ne_bytes();
        last.get(mark).is_some_and(|byte| *byte != 0)
    }

    /// How many are some flow's.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        let taken = self.places.iter().filter(|place| place.flows > 0);
        taken.count()
    }
}
