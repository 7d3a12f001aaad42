//! What a worker says of the flows whose frames it carries: each once, and then ever more rarely.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;

use super::{FlowKey, Seed, Way};
use crate::stats::PeerId;
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;
use crate::wire::{MacAddr, Vni, vxlan};

/// Outer Ethernet, IPv6, UDP and VXLAN headers, and the inner Ethernet header: over IPv4, they are shorter.
pub const HEADERS_LEN: usize = 84;
/// Where the outer EtherType stands in these.
const AT_ETHER_TYPE: usize = 12;
/// And, over IPv4 and over IPv6, source and destination of the IP header, the destination port, the VXLAN header, and the inner
/// Ethernet header.
const PLACES4: [usize; 5] = [26, 30, 36, 42, 50];
const PLACES6: [usize; 5] = [22, 38, 56, 62, 70];
/// Flows that a lookout remembers: 64 KB, which is what a worker may lose of its cache.
const PLACES: usize = 8192;
/// After so many frames a flow is told of again, however long it has been there: a slow one that was missed must not wait for ever.
const AGAIN: u32 = 128;
/// Between two turns of a worker that is not held up lies less: it sleeps 25 ms at most. What had waited for one that was is gone when
/// as much time again is over. Together it is less than nothing must have changed for before another generation begins.
const HELD_UP_NS: u64 = 100_000_000;
/// Sightings that wait for the judge. More than that are lost, and made again later.
pub(super) const QUEUE: usize = 4096;

/// What a worker saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Of which flow.
    pub key: FlowKey,
    /// In which generation.
    pub generation: u32,
    /// And what.
    pub seen: Seen,
}

/// Which of both directions it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A frame of a pod was sent to a VTEP.
    Out(Departure),
    /// A frame of a VTEP was delivered to the vxlan device.
    In(Arrival),
}

/// How a flow's frames leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// The headers that this frame was given; over IPv4, zeros follow.
    pub headers: [u8; HEADERS_LEN],
    /// The index of the vxlan device.
    pub device: u32,
    /// The index of the underlay device.
    pub nic: u32,
    /// The longest inner frame that the path takes, in bytes, Ethernet header included.
    pub frame_max: u32,
    /// Which inner ECN bits the outer header gets, of those that are not CE.
    pub ecn: u8,
    /// Whether there is an outer UDP checksum.
    pub checksum: bool,
    /// Whether that of what arrives is verified.
    pub verify: bool,
    /// Where the VTEP is counted.
    pub peer: PeerId,
    /// Whether the kernel's own vxlan device sends the flow's frames alike, and to the same VTEP.
    pub as_kernel: bool,
}

impl Departure {
    /// Whether the outer headers are of IPv6.
    pub fn is_over_ipv6(&self) -> bool {
        let ethernet = EthernetHeader::parse(&self.headers);
        ethernet.is_some_and(|(ethernet, _)| ethernet.ether_type() == ethernet::IPV6)
    }

    /// The VTEP that the flow's frames go to.
    pub fn destination(&self) -> Option<IpAddr> {
        let (_, packet) = EthernetHeader::parse(&self.headers)?;
        if self.is_over_ipv6() {
            let header = Ipv6Header::parse(packet)?;
            return Some(header.destination().into());
        }
        let header = Ipv4Header::parse(packet)?;
        Some(header.destination().into())
    }
}

/// How a flow's frames arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The VTEP that sent it.
    pub source: IpAddr,
    /// The index of the vxlan device.
    pub device: u32,
    /// The index of the underlay device.
    pub nic: u32,
    /// Where the VTEP is counted.
    pub peer: PeerId,
    /// The address that it sends to: the vxlan device's own.
    pub local: IpAddr,
    /// The port.
    pub port: u16,
    /// The VNI.
    pub vni: Vni,
    /// The inner Ethernet addresses: the far vxlan device's, and that of ours.
    pub macs: [MacAddr; 2],
    /// The inner Ethernet type.
    pub ether_type: u16,
    /// Whether its outer UDP checksum is verified.
    pub verify: bool,
}

impl Arrival {
    /// What is known by it of how frames leave: whom what arrives is from, and to whom it is.
    pub fn departure(&self) -> Departure {
        let mut headers = [0; HEADERS_LEN];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = headers.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        let (ether_type, places) = match self.source {
            IpAddr::V4(_) => (ethernet::IPV4, PLACES4),
            IpAddr::V6(_) => (ethernet::IPV6, PLACES6),
        };
        let [local, remote, port, vxlan, inner] = places;
        put(AT_ETHER_TYPE, &ether_type.to_be_bytes());
        for (at, address) in [(local, self.local), (remote, self.source)] {
            match address {
                IpAddr::V4(address) => put(at, &address.octets()),
                IpAddr::V6(address) => put(at, &address.octets()),
            }
        }
        put(port, &self.port.to_be_bytes());
        put(vxlan, &vxlan::header(self.vni));
        let [far, own] = self.macs;
        put(inner, &far.0);
        put(inner + far.0.len(), &own.0);
        put(inner + 2 * far.0.len(), &self.ether_type.to_be_bytes());
        Departure {
            headers,
            device: self.device,
            nic: self.nic,
            frame_max: 0,
            ecn: 0,
            checksum: false,
            verify: self.verify,
            peer: self.peer,
            as_kernel: false,
        }
    }
}

/// The number of the present generation, shared by all that look out and the one that judges.
#[derive(Debug, Clone, Default)]
pub struct Generation(Arc<AtomicU32>);

impl Generation {
    /// While nothing that is seen counts.
    pub const NONE: u32 = 0;

    /// The present one.
    #[inline]
    pub fn now(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Makes another one the present one.
    pub fn set(&self, generation: u32) {
        self.0.store(generation, Ordering::Release);
    }
}

/// The way from the workers to the judge.
#[derive(Debug, Clone)]
pub struct Sightings {
    queue: Arc<ArrayQueue<Sighting>>,
    /// Those that found no room in it.
    lost: Arc<AtomicU64>,
    generation: Generation,
    seed: Seed,
}

impl Sightings {
    /// An empty one. `seed` is that of the flows' hashes.
    pub fn new(generation: Generation, seed: Seed) -> Self {
        let queue = Arc::new(ArrayQueue::new(QUEUE));
        Self {
            queue,
            lost: Arc::default(),
            generation,
            seed,
        }
    }

    /// Takes those that wait now, the oldest first. Not those that come meanwhile: workers may tell of flows faster than anybody hears of
    /// them, and then there would be no end.
    pub fn waiting(&self) -> impl Iterator<Item = Sighting> {
        (0..self.queue.len()).map_while(|_| self.queue.pop())
    }

    /// How many have been lost, because too many waited.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// A worker's end of it.
    pub fn lookout(&self) -> Lookout {
        Lookout {
            places: vec![Place::default(); PLACES].into(),
            sightings: self.clone(),
            present: Generation::NONE,
            turn_ns: 0,
            deaf_until_ns: 0,
        }
    }
}

/// A worker's own.
#[derive(Debug)]
pub struct Lookout {
    /// By the flow's hash and its direction; a flow takes the place of another.
    places: Box<[Place]>,
    sightings: Sightings,
    /// The generation of this turn.
    present: u32,
    /// When this turn began.
    turn_ns: u64,
    /// Nothing is told until then.
    deaf_until_ns: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Of the flow, its direction and the generation.
    mark: u32,
    /// Frames since it has this place.
    frames: u32,
}

impl Lookout {
    /// Begins a turn, in which nothing has been looked at yet, and looks at the clock for it.
    ///
    /// What is seen in it is of the generation that holds now: should the worker be held up in the midst of the turn, and another one
    /// begin, it would tell of frames that were judged before whatever has changed. So it would of those that waited while it was
    /// held up between two turns: after that it tells of nothing for a while.
    #[inline]
    pub fn begin_turn(&mut self, clock: impl FnOnce() -> u64) -> u64 {
        let present = self.sightings.generation.now();
        let now_ns = clock();
        if now_ns.saturating_sub(self.turn_ns) > HELD_UP_NS {
            self.deaf_until_ns = now_ns + HELD_UP_NS;
        }
        self.turn_ns = now_ns;
        self.present = if now_ns < self.deaf_until_ns {
            Generation::NONE
        } else {
            present
        };
        now_ns
    }

    /// The generation that this turn's batches are seen in; `None` when nothing counts now.
    #[inline]
    pub fn generation(&self) -> Option<u32> {
        Some(self.present).filter(|present| *present != Generation::NONE)
    }

    /// Notes a frame of a flow, and tells of it when it is the first, the second, the fourth, … that came this way in this
    /// generation, and every [`AGAIN`]th: the judge may not have known enough the last time. `seen` is asked only then, and may decline.
    #[inline]
    pub fn note(
        &mut self,
        key: &FlowKey,
        way: Way,
        generation: u32,
        seen: impl FnOnce() -> Option<Seen>,
    ) {
        let hash = key.hash(&self.sightings.seed);
        // The directions of a flow that one worker carries must not take each other's place.
        let place = (hash << 1 | (way == Way::In) as u32) as usize & (PLACES - 1);
        let mark = hash.rotate_left(16) ^ generation.wrapping_mul(0x9e37_79b9);
        let Some(place) = self.places.get_mut(place) else {
            return;
        };
        if place.mark != mark {
            *place = Place { mark, frames: 0 };
        }
        place.frames = place.frames.saturating_add(1);
        if (place.frames.is_power_of_two() || place.frames.is_multiple_of(AGAIN))
            && let Some(seen) = seen()
        {
            let sighting = Sighting {
                key: *key,
                generation,
                seen,
            };
            // Nobody waits for the judge: what finds no room is told later.
            if self.sightings.queue.push(sighting).is_err() {
                self.sightings.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::tests::{key, seed};
    use super::*;

    fn arrival() -> Option<Seen> {
        Some(Seen::In(Arrival {
            source: [10, 0, 0, 11].into(),
            device: 4,
            nic: 3,
            peer: PeerId(1),
            local: [10, 0, 0, 10].into(),
            port: 8472,
            vni: Vni::new(1).unwrap(),
            macs: [MacAddr([6; 6]), MacAddr([8; 6])],
            ether_type: ethernet::IPV4,
            verify: true,
        }))
    }

    #[test]
    fn what_arrives_says_of_what_leaves_whom_it_is_for() {
        let Some(Seen::In(arrival)) = arrival() else {
            panic!("it arrived");
        };
        let departure = arrival.departure();
        let headers = departure.headers;
        assert_eq!(departure.destination(), Some(arrival.source));
        assert_eq!(headers[26..34], [10, 0, 0, 10, 10, 0, 0, 11]);
        assert_eq!(headers[36..38], [0x21, 0x18]);
        assert_eq!(headers[42..50], [8, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(headers[50..62], [6, 6, 6, 6, 6, 6, 8, 8, 8, 8, 8, 8]);
        assert!(departure.meets(&arrival));
        let over_ipv6 = Arrival {
            source: "2001:db8::2".parse().unwrap(),
            local: "2001:db8::1".parse().unwrap(),
            ..arrival
        };
        let departure = over_ipv6.departure();
        let headers = departure.headers;
        assert!(departure.is_over_ipv6() && departure.meets(&over_ipv6));
        assert_eq!((headers[37], headers[53]), (1, 2));
        assert_eq!(headers[56..58], [0x21, 0x18]);
        assert_eq!(headers[62..70], [8, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(headers[70..82], [6, 6, 6, 6, 6, 6, 8, 8, 8, 8, 8, 8]);
    }

    #[test]
    fn a_flow_is_told_of_once_and_then_ever_more_rarely_and_anew_in_each_generation() {
        let generation = Generation::default();
        let sightings = Sightings::new(generation.clone(), seed(1));
        let mut lookout = sightings.lookout();
        assert_eq!(lookout.generation(), None);
        generation.set(5);
        assert_eq!(lookout.generation(), None, "not in this turn");
        awake(&mut lookout);
        assert_eq!(lookout.generation(), Some(5));
        for _ in 0..1000 {
            lookout.note(&key(1, 1), Way::In, 5, arrival);
        }
        let told: Vec<_> = sightings.waiting().collect();
        // 1, 2, 4, … 128, 256, 384, … 896.
        assert_eq!(told.len(), 8 + 6);
        assert!(
            told.iter()
                .all(|told| told.key == key(1, 1) && told.generation == 5)
        );
        lookout.note(&key(1, 1), Way::In, 6, arrival);
        assert_eq!(
            sightings.waiting().next().map(|told| told.generation),
            Some(6)
        );
    }

    #[test]
    fn what_comes_while_others_are_heard_waits_for_the_next_time() {
        let sightings = Sightings::new(Generation::default(), seed(1));
        let mut lookout = sightings.lookout();
        for port in 0..9 {
            lookout.note(&key(1, port), Way::In, 1, arrival);
        }
        let heard = sightings.waiting().enumerate().take(100);
        let heard = heard.inspect(|(at, _)| {
            lookout.note(&key(2, *at as u16), Way::In, 1, arrival);
        });
        assert_eq!(heard.count(), 9);
        assert_eq!(sightings.waiting().count(), 9);
    }

    /// Has taken turns for a while.
    fn awake(lookout: &mut Lookout) {
        for turn in 1..10 {
            lookout.begin_turn(|| turn * HELD_UP_NS / 2);
        }
    }

    #[test]
    fn who_was_held_up_tells_of_nothing_that_waited_meanwhile() {
        const MS: u64 = 1_000_000;
        let generation = Generation::default();
        let mut lookout = Sightings::new(generation.clone(), seed(1)).lookout();
        generation.set(5);
        let mut turn = |now_ns: u64, meanwhile: u32| {
            let began = lookout.begin_turn(|| {
                generation.set(meanwhile);
                now_ns
            });
            assert_eq!(began, now_ns);
            lookout.generation()
        };
        assert_eq!(turn(1000 * MS, 5), None, "nobody knows since when");
        assert_eq!(turn(1050 * MS, 5), None);
        assert_eq!(turn(1100 * MS, 5), Some(5));
        assert_eq!(turn(1200 * MS, 5), Some(5));
        // In the midst of one, before it looks at anything.
        assert_eq!(turn(1300 * MS, 6), Some(5));
        assert_eq!(turn(1301 * MS, 6), Some(6));
        // Between two.
        assert_eq!(turn(1402 * MS, 6), None);
        assert_eq!(turn(1501 * MS, 6), None);
        assert_eq!(turn(1502 * MS, 6), Some(6));
    }

    #[test]
    fn what_finds_no_room_is_lost_and_nobody_waits() {
        let sightings = Sightings::new(Generation::default(), seed(1));
        let mut lookout = sightings.lookout();
        for port in 0..u16::MAX {
            lookout.note(&key(1, port), Way::In, 1, arrival);
        }
        assert_eq!(sightings.waiting().count(), QUEUE);
        assert_eq!(sightings.lost(), u64::from(u16::MAX) - QUEUE as u64);
        lookout.note(&key(2, 2), Way::In, 1, || None);
        assert_eq!(sightings.waiting().next(), None);
    }
}
