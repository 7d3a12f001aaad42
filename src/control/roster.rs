//! Who is counted where: the places of peers in [`PeerBook`], as the writer gives them out.
//!
//! A peer is the address of a VTEP within a segment, whether frames go there, come from there or both. Each segment has a place
//! for all others: senders that are no VTEPs, and VTEPs for whom there was no place.
//!
//! ```text
//!   new ──▶ counted ──▶ gone ──▶ former: its count is added to that of all before it, and its place is another's
//!              ▲─────────┘ comes back: goes on where it stopped
//! ```
//!
//! One that goes keeps its place as long as there are others that nobody has had. Then whoever has been gone for longest gives its
//! own up, but not before every worker has let go of the snapshots that named it, and [`REST`] after that. What had been counted
//! there is taken off what its successor counts, so that nothing is mixed, and a worker need not be told.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::report::{PeerReport, PeersReport};
use crate::stats::{PeerBook, PeerId, PeerTally};

/// Frames of a worker's last turn with a snapshot may be counted in the next one: those that wait to be joined
/// (`worker/joining.rs`), for some milliseconds.
const REST: Duration = Duration::from_secs(1);

/// Who is counted where. Clones share what is long.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    book: Arc<PeerBook>,
    /// By the segments' numbers.
    segments: Vec<Arc<Members>>,
    /// Whoever has gone last is at the end.
    gone: Arc<VecDeque<Gone>>,
    /// What those have counted, by segment, whose places are others'.
    former: Arc<Vec<PeerTally>>,
    /// The first place that nobody has had.
    fresh: usize,
}

/// The peers of a segment.
#[derive(Debug, Default)]
struct Members {
    /// Sorted by address.
    counted: Vec<Member>,
    /// Sorted.
    uncounted: Vec<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    addr: IpAddr,
    id: PeerId,
    /// What had been counted at its place before it came.
    base: PeerTally,
}

#[derive(Debug, Clone, Copy)]
struct Gone {
    segment: usize,
    member: Member,
    /// When no worker could count it any more.
    since: Option<Instant>,
}

impl Roster {
    /// Of so many segments without peers, counted in this book.
    pub(super) fn new(book: Arc<PeerBook>, segments: usize) -> Self {
        Self {
            book,
            segments: vec![Arc::default(); segments],
            gone: Arc::default(),
            former: Arc::new(vec![PeerTally::default(); segments]),
            fresh: segments,
        }
    }

    /// Takes down who the peers of a segment are from now on: sorted, each once.
    pub(super) fn enrol(&mut self, segment: usize, addrs: &[IpAddr], now: Instant) {
        let Some(members) = self.segments.get(segment).map(Arc::clone) else {
            return;
        };
        let same = members.counted.iter().map(|member| &member.addr).eq(addrs);
        if same && members.uncounted.is_empty() {
            return;
        }
        let (stay, go): (Vec<_>, Vec<_>) = members
            .counted
            .iter()
            .partition(|member| addrs.binary_search(&member.addr).is_ok());
        if !go.is_empty() {
            let gone = go.into_iter().map(|member| Gone {
                segment,
                member,
                since: None,
            });
            Arc::make_mut(&mut self.gone).extend(gone);
        }
        let mut next = Members {
            counted: stay,
            uncounted: Vec::new(),
        };
        let known = next.counted.len();
        for addr in addrs {
            let stays = &next.counted[..known];
            if stays.binary_search_by_key(addr, |one| one.addr).is_ok() {
                continue;
            }
            match self.place(segment, *addr, now) {
                Some(member) => next.counted.push(member),
                None => next.uncounted.push(*addr),
            }
        }
        next.counted.sort_unstable_by_key(|member| member.addr);
        if let Some(place) = self.segments.get_mut(segment) {
            *place = Arc::new(next);
        }
    }

    /// Where a peer of a segment is counted.
    pub(super) fn id(&self, segment: usize, addr: IpAddr) -> PeerId {
        let members = self.segments.get(segment);
        let member = members.and_then(|members| members.find(addr));
        member.map_or(other(segment), |member| member.id)
    }

    /// Takes note that no worker looks at a snapshot any more in which anybody who is gone has a place. To be called only when all
    /// that was enrolled has been published.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.gone.iter().any(|gone| gone.since.is_none()) {
            for gone in Arc::make_mut(&mut self.gone) {
                gone.since.get_or_insert(now);
            }
        }
    }

    /// What has been counted in a segment, now.
    pub(super) fn report(&self, segment: usize) -> PeersReport {
        let Some(members) = self.segments.get(segment) else {
            return PeersReport::default();
        };
        let count = |member: &Member| self.book.total(member.id).since(member.base);
        let mut former = self.former.get(segment).copied().unwrap_or_default();
        let gone = self.gone.iter().filter(|gone| gone.segment == segment);
        gone.for_each(|gone| former += count(&gone.member));
        let peer = |member: &Member| PeerReport {
            addr: member.addr,
            tally: count(member),
        };
        PeersReport {
            peers: members.counted.iter().map(peer).collect(),
            other: self.book.total(other(segment)),
            former,
            uncounted: members.uncounted.clone(),
        }
    }

    /// Who has which place now, of those that have one of their own.
    pub(super) fn names(&self) -> impl Iterator<Item = (PeerId, IpAddr)> + '_ {
        let members = self.segments.iter().flat_map(|segment| &segment.counted);
        let gone = self.gone.iter().map(|gone| &gone.member);
        members.chain(gone).map(|member| (member.id, member.addr))
    }

    /// A place for a peer: the one that it had, one that nobody has had, or one of somebody who is gone.
    fn place(&mut self, segment: usize, addr: IpAddr, now: Instant) -> Option<Member> {
        let mut gone = self.gone.iter();
        let back = gone.position(|gone| gone.segment == segment && gone.member.addr == addr);
        if let Some(back) = back {
            let gone = Arc::make_mut(&mut self.gone).remove(back)?;
            return Some(gone.member);
        }
        if self.fresh < self.book.places() {
            let id = PeerId(u16::try_from(self.fresh).ok()?);
            self.fresh += 1;
            let base = PeerTally::default();
            return Some(Member { addr, id, base });
        }
        let rested = |gone: &Gone| gone.since.is_some_and(|since| now >= since + REST);
        // Whoever has gone first has rested for longest.
        self.gone.front().filter(|gone| rested(gone))?;
        let Gone {
            segment: was_in,
            member: Member { id, base, .. },
            ..
        } = Arc::make_mut(&mut self.gone).pop_front()?;
        let total = self.book.total(id);
        if let Some(former) = Arc::make_mut(&mut self.former).get_mut(was_in) {
            *former += total.since(base);
        }
        Some(Member {
            addr,
            id,
            base: total,
        })
    }
}

impl Members {
    fn find(&self, addr: IpAddr) -> Option<&Member> {
        let position = self.counted.binary_search_by_key(&addr, |one| one.addr);
        self.counted.get(position.ok()?)
    }
}

/// The place of all others in a segment. There are no more segments than numbers.
fn other(segment: usize) -> PeerId {
    PeerId::other(u16::try_from(segment).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> IpAddr {
        [10, 9, 0, last].into()
    }

    fn addrs(last: &[u8]) -> Vec<IpAddr> {
        last.iter().copied().map(addr).collect()
    }

    /// Two segments, and three places for peers.
    fn roster() -> (Roster, Arc<PeerBook>) {
        let book = Arc::new(PeerBook::with_places(2, 5));
        (Roster::new(Arc::clone(&book), 2), book)
    }

    fn receive(book: &PeerBook, worker: usize, id: PeerId, frames: u64) {
        book.received(worker).count(id, frames, 100 * frames);
    }

    /// Who has received how many frames; then the others, and those that are no longer there.
    fn received(roster: &Roster, segment: usize) -> (Vec<(IpAddr, u64)>, u64, u64) {
        let report = roster.report(segment);
        let peers = report.peers.iter();
        (
            peers
                .map(|peer| (peer.addr, peer.tally.received.frames))
                .collect(),
            report.other.received.frames,
            report.former.received.frames,
        )
    }

    #[test]
    fn everyone_has_a_place_and_one_address_has_one_in_each_segment() {
        let (mut roster, book) = roster();
        let now = Instant::now();
        roster.enrol(0, &addrs(&[2, 3]), now);
        roster.enrol(1, &addrs(&[2]), now);
        let ids = [(0, 2), (0, 3), (1, 2)].map(|(segment, last)| roster.id(segment, addr(last)));
        assert_eq!(ids, [PeerId(2), PeerId(3), PeerId(4)]);
        assert_eq!(roster.id(1, addr(3)), PeerId(1), "no peer there");
        for (worker, id) in [(0, ids[0]), (1, ids[0]), (1, ids[2])] {
            receive(&book, worker, id, 10);
        }
        receive(&book, 0, PeerId(1), 7);
        assert_eq!(
            received(&roster, 0),
            (vec![(addr(2), 20), (addr(3), 0)], 0, 0)
        );
        assert_eq!(received(&roster, 1), (vec![(addr(2), 10)], 7, 0));
    }

    #[test]
    fn beyond_the_bound_there_is_no_place_and_that_is_said() {
        let (mut roster, _) = roster();
        let now = Instant::now();
        roster.enrol(0, &addrs(&[2, 3, 4, 5]), now);
        assert_eq!(roster.id(0, addr(5)), PeerId(0));
        assert_eq!(roster.report(0).uncounted, addrs(&[5]));
        // Enrolled again, it is the same.
        roster.enrol(0, &addrs(&[2, 3, 4, 5]), now);
        assert_eq!(roster.report(0).uncounted, addrs(&[5]));
    }

    #[test]
    fn one_that_comes_back_goes_on_where_it_stopped() {
        let (mut roster, book) = roster();
        let now = Instant::now();
        roster.enrol(0, &addrs(&[2, 3]), now);
        let id = roster.id(0, addr(2));
        receive(&book, 0, id, 5);
        roster.enrol(0, &addrs(&[3]), now);
        assert_eq!(received(&roster, 0), (vec![(addr(3), 0)], 0, 5));
        roster.settle(now);
        roster.enrol(0, &addrs(&[2, 3]), now + 9 * REST);
        assert_eq!(roster.id(0, addr(2)), id);
        assert_eq!(
            received(&roster, 0),
            (vec![(addr(2), 5), (addr(3), 0)], 0, 0)
        );
    }

    #[test]
    fn a_place_is_anothers_only_after_a_rest_and_its_counts_are_not() {
        let (mut roster, book) = roster();
        let start = Instant::now();
        roster.enrol(0, &addrs(&[2, 3, 4]), start);
        let id = roster.id(0, addr(3));
        receive(&book, 0, id, 5);
        roster.enrol(0, &addrs(&[2, 4]), start);
        // In a snapshot that somebody may look at.
        roster.enrol(1, &addrs(&[9]), start + 9 * REST);
        assert_eq!(roster.report(1).uncounted, addrs(&[9]));
        // Still counted by a worker's last turn with it.
        receive(&book, 1, id, 1);
        roster.settle(start);
        roster.enrol(1, &addrs(&[9]), start + REST / 2);
        assert_eq!(roster.report(1).uncounted, addrs(&[9]));
        roster.enrol(1, &addrs(&[9]), start + REST);
        assert_eq!(roster.id(1, addr(9)), id);
        assert_eq!(received(&roster, 1), (vec![(addr(9), 0)], 0, 0));
        receive(&book, 1, id, 2);
        assert_eq!(received(&roster, 1), (vec![(addr(9), 2)], 0, 0));
        assert_eq!(
            received(&roster, 0),
            (vec![(addr(2), 0), (addr(4), 0)], 0, 6)
        );
        // Nothing is lost, whoever has which place.
        let all = [0, 1].map(|segment| {
            let (peers, other, former) = received(&roster, segment);
            peers.iter().map(|(_, frames)| frames).sum::<u64>() + other + former
        });
        assert_eq!(all.iter().sum::<u64>(), 8);
    }

    #[test]
    fn without_a_book_nobody_has_a_place() {
        let mut roster = Roster::new(Arc::default(), 1);
        roster.enrol(0, &addrs(&[2]), Instant::now());
        assert_eq!(roster.id(0, addr(2)), PeerId(0));
        assert_eq!(roster.report(0).uncounted, addrs(&[2]));
    }
}
