//! Who brings together what was seen of a flow, and says when it may go the direct path.
//!
//! Four things have to have been seen in one generation, under one key:
//!
//! ```text
//!   a frame from the pod, at its device           and the same flow's, leaving to a VTEP       (Seen::Out)
//!   a frame of that VTEP's that was delivered     and the same flow's, on its way to the pod   (Seen::In)
//! ```
//!
//! by the same pod's device and with the same two Ethernet addresses both ways. Then the kernel has routed, filtered and
//! bridged the flow in both directions and changed nothing in it but its TTL. What it does with the next frame of the flow is
//! what it did with these, until something changes that it decides by: then there is another generation. Where filters do not
//! matter, one line of the two will do (`evidence.rs`); the other is added when it is seen.
//!
//! The judge sees no device and no program. It is told what was seen, asks for the pod's side, and says what to write where.

#[cfg(test)]
pub(super) mod tests;

use std::collections::VecDeque;

use super::known::{Going, Known};
use super::{
    Arrival, AtPods, Departure, Evidence, FlowKey, FlowTable, Generation, Hitch, PodSide, Seed,
    Seen, Sighting, Slot, Standing, Ways,
};

/// How long a flow of which not everything was seen is kept in mind where nobody wants its place.
const MEMORY_NS: u64 = 60_000_000_000;
/// A flow without a frame for so long is demoted: longer than the kernel is shown one; and with the time until it is looked at again
/// (seconds, of many flows), shorter than it forgets.
const IDLE_NS: u64 = 20_000_000_000;
/// The same while the table is crowded: one that has said all it had to say leaves its place to others.
const CROWDED_IDLE_NS: u64 = 3_000_000_000;
/// So many flows' pods' sides are asked for at a time; the others' turn comes later. A flow that is translated on its way is never
/// seen there, and of thousands of those nobody is to be kept from listening.
const ASKED_AT_ONCE: usize = 1000;
/// When a flow is asked for again whose pod's side was not there: twice as long each time.
const AGAIN_NS: u64 = 10_000_000;
/// So many times at most: then it is 320 ms.
const PACES: usize = 6;
/// How long the place of a promoted flow rests: many times what a program may be held up in which still reads it.
pub const REST_NS: u64 = 1_000_000_000;

/// A flow that may go the direct path from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promoted {
    /// Its place.
    pub slot: Slot,
    /// Its name.
    pub key: FlowKey,
    /// How its frames leave; of one that goes direct to its pod only, what is known of it.
    pub departure: Departure,
    /// How they arrive, where that was seen.
    pub arrival: Option<Arrival>,
    /// Where its pod is.
    pub pod: PodSide,
    /// Which of its frames go direct.
    pub ways: Ways,
    /// Whether some do already: it was promoted one way before.
    pub more: bool,
    /// How long packets may be that are routed to its ends, in bytes, the remote one first; where anything says so.
    pub packet_max: [Option<u32>; 2],
}

/// What becomes of a promoted flow that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has had so many frames so far.
    Frames(u64),
    /// It was demoted where its frames are handled.
    Demoted,
}

/// The one owner of the table.
#[derive(Debug)]
pub struct Judge {
    table: FlowTable<Known>,
    generation: u32,
    /// Flows that only the pod's side is missing of, by how often it was asked for in vain, and from when on it is asked for again.
    /// Those of services are never seen at a pod's device: they would be asked for a hundred times a second.
    waiting: [VecDeque<(u64, Slot)>; PACES + 1],
    /// By place: whether it is in one of these lists, for whatever flow. In none twice, however many flows have a place after each other.
    listed: Box<[bool]>,
    again_ns: u64,
    promoted: usize,
    /// Sightings of flows that found no place.
    refused: u64,
    /// Whether TCP may go direct.
    tcp: bool,
    evidence: Evidence,
}

impl Judge {
    /// One that knows no flow. It has room for [`super::WAYS`] flows in each of so many sets.
    pub fn new(sets: usize, seed: Seed) -> Self {
        let table = FlowTable::new(sets, seed);
        Self {
            listed: vec![false; table.places()].into(),
            table,
            generation: Generation::NONE,
            waiting: Default::default(),
            again_ns: AGAIN_NS,
            promoted: 0,
            refused: 0,
            tcp: true,
            evidence: Evidence::default(),
        }
    }

    /// The same, content with so much evidence.
    #[must_use]
    pub fn content_with(self, evidence: Evidence) -> Self {
        Self { evidence, ..self }
    }

    /// How many flows are promoted.
    pub fn promoted(&self) -> usize {
        self.promoted
    }

    /// How many sightings were of flows that found no place in the table: all that might be theirs were taken, or resting.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether TCP may be promoted from now on. What is promoted stays: whoever forbids it begins another generation.
    pub fn allow_tcp(&mut self, allowed: bool) {
        self.tcp = allowed;
    }

    /// Begins another generation at `now_ns`: nothing that was seen counts any more. Whoever calls has told the programs.
    /// The places of promoted flows rest; returns them.
    pub fn begin(&mut self, generation: u32, now_ns: u64) -> Vec<Slot> {
        self.generation = generation;
        self.waiting.iter_mut().for_each(VecDeque::clear);
        self.listed.fill(false);
        self.promoted = 0;
        let mut vacated = Vec::new();
        if !self.table.is_empty() {
            self.table.sweep(|slot, _, known| {
                let promoted = known.going.is_some();
                vacated.extend(promoted.then_some(slot));
                Some(if promoted { now_ns + REST_NS } else { 0 })
            });
        }
        vacated
    }

    /// Takes what a worker saw, at `now_ns`.
    pub fn hear(&mut self, sighting: &Sighting, now_ns: u64) {
        if sighting.generation != self.generation || self.generation == Generation::NONE {
            return;
        }
        let allowed = self.tcp || !sighting.key.is_tcp();
        let slot = match self.table.find(&sighting.key) {
            Some((slot, _)) => slot,
            None => {
                let known = Known {
                    born_ns: now_ns,
                    since_ns: now_ns,
                    ..Known::default()
                };
                let may_go = |_, known: &mut Known| known.is_stale(now_ns);
                match self.table.insert(sighting.key, known, now_ns, may_go) {
                    Ok(slot) => slot,
                    Err(_) => {
                        self.refused += 1;
                        return;
                    }
                }
            }
        };
        let Some((_, known)) = self.table.get_mut(slot) else {
            return;
        };
        if known.going.is_some_and(|going| going.ways == Ways::Both) {
            return;
        }
        match sighting.seen {
            Seen::Out(departure) => known.out = Some(departure),
            Seen::In(arrival) => known.arrived = Some(arrival),
        }
        if known.going.is_none() {
            known.since_ns = now_ns;
        }
        if allowed && known.gains(self.evidence) && !known.waits {
            (known.waits, known.in_vain) = (true, 0);
            self.list(slot, 0, 0);
        }
    }

    /// Has a place asked for from then on.
    fn list(&mut self, slot: Slot, pace: usize, from_ns: u64) {
        if let (Some(listed), Some(waiting)) =
            (self.listed.get_mut(slot.0), self.waiting.get_mut(pace))
            && !std::mem::replace(listed, true)
        {
            waiting.push_back((from_ns, slot));
        }
    }

    /// Looks at the flows that only the pod's side is missing of, for which `at_pods` is asked. Returns those that may go direct now:
    /// whoever calls promotes each, or puts it off.
    pub fn ripe(
        &mut self,
        now_ns: u64,
        mut at_pods: impl FnMut(&FlowKey) -> AtPods,
    ) -> Vec<Promoted> {
        let mut ripe = Vec::new();
        for slot in self.due(now_ns) {
            let Some((key, known)) = self.table.get_mut(slot) else {
                continue;
            };
            // Its place may have become another flow's meanwhile.
            if !known.waits || !known.gains(self.evidence) {
                known.waits = false;
                continue;
            }
            let (out, arrived) = (known.out.as_ref(), known.arrived.as_ref());
            let found = self.evidence.judge(out, arrived, &at_pods(&key));
            let (before, found) = (known.going, found.filter(|found| known.may_become(found)));
            let departure = out.copied().or(arrived.map(Arrival::departure));
            let (Some((ways, pod)), Some(departure)) = (found, departure) else {
                known.held = None;
                self.put_off(slot, now_ns);
                continue;
            };
            ripe.push(Promoted {
                slot,
                key,
                departure,
                arrival: known.arrived,
                pod,
                ways,
                more: before.is_some(),
                packet_max: [None; 2],
            });
        }
        ripe
    }

    /// Those that are to be asked for at `now_ns`, taken out of the list.
    fn due(&mut self, now_ns: u64) -> Vec<Slot> {
        let mut due = Vec::new();
        for waiting in &mut self.waiting {
            let is_due = |(from_ns, _): &&(u64, Slot)| *from_ns <= now_ns;
            let many = waiting.iter().take_while(is_due).count();
            let many = many.min(ASKED_AT_ONCE - due.len());
            due.extend(waiting.drain(..many).map(|(_, slot)| slot));
        }
        for slot in &due {
            if let Some(listed) = self.listed.get_mut(slot.0) {
                *listed = false;
            }
        }
        due
    }

    /// Takes note that a ripe flow goes direct from `now_ns` on. Not one that does already.
    pub fn promote(&mut self, flow: &Promoted, now_ns: u64) -> bool {
        let Some((_, known)) = self.table.get_mut(flow.slot) else {
            return false;
        };
        if !std::mem::take(&mut known.waits) {
            return false;
        }
        known.held = None;
        known.going = Some(Going {
            frames: known.going.map_or(0, |going| going.frames),
            ways: flow.ways,
            pod: flow.pod,
        });
        if !flow.more {
            known.since_ns = now_ns;
            self.promoted += 1;
        }
        true
    }

    /// Has a ripe flow stay with the kernel, and says why; it is asked for later on.
    pub fn hold(&mut self, slot: Slot, why: Hitch, now_ns: u64) {
        if let Some((_, known)) = self.table.get_mut(slot) {
            known.held = Some(why);
        }
        self.put_off(slot, now_ns);
    }

    /// Has a flow that waits be asked for later on: ever more rarely, while it is told of. One that goes already is looked at again
    /// when it is told of again.
    pub fn put_off(&mut self, slot: Slot, now_ns: u64) {
        let Some((_, known)) = self.table.get_mut(slot) else {
            return;
        };
        known.waits = known.waits && known.going.is_none() && !known.is_stale(now_ns);
        if known.waits {
            let pace = usize::from(known.in_vain).min(PACES - 1);
            known.in_vain = known.in_vain.saturating_add(1);
            self.list(slot, pace + 1, now_ns + (self.again_ns << pace));
        }
    }

    /// Looks at the promoted flows in one of so many parts of the table, a part after the other, and gives up those that are idle or
    /// were demoted where their frames are handled; `look` is asked of each, and `vacate` told of those that go. Flows of which not
    /// everything was seen are forgotten after a while. Whether it was the last part.
    pub fn sweep(
        &mut self,
        now_ns: u64,
        parts: usize,
        mut look: impl FnMut(Slot) -> Verdict,
        mut vacate: impl FnMut(Slot, Verdict),
    ) -> bool {
        let promoted = &mut self.promoted;
        let idle_ns = if self.table.is_crowded() {
            CROWDED_IDLE_NS
        } else {
            IDLE_NS
        };
        let places = self.table.places().div_ceil(parts);
        self.table.sweep_part(places, |slot, _, known| {
            let Some(going) = &mut known.going else {
                let silent_ns = now_ns.saturating_sub(known.since_ns);
                return (silent_ns >= MEMORY_NS).then_some(0);
            };
            let verdict = look(slot);
            match verdict {
                Verdict::Frames(now) if now != going.frames => {
                    going.frames = now;
                    known.since_ns = now_ns;
                    return None;
                }
                Verdict::Frames(_) if now_ns.saturating_sub(known.since_ns) < idle_ns => {
                    return None;
                }
                Verdict::Frames(_) | Verdict::Demoted => {}
            }
            *promoted -= 1;
            vacate(slot, verdict);
            Some(now_ns + REST_NS)
        })
    }

    /// Every flow that is known.
    pub fn flows(&self) -> impl Iterator<Item = Standing> {
        let (evidence, tcp) = (self.evidence, self.tcp);
        let flows = self.table.iter();
        flows.map(move |(slot, key, known)| Standing::of(slot, key, known, evidence, tcp))
    }
}
