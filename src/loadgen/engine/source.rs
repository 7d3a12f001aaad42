//! Where a sender that writes frames itself has them from: a load, or a recording.

use super::frame::{Tag, write_flow};
use super::layout::header_check;
use super::load::{Plan, Position};
use super::pace::{Pacer, Turn};

/// Frames and their intended times.
pub(super) trait Source {
    /// How many streams it has.
    fn streams(&self) -> usize;
    /// Its longest frame, in bytes without FCS.
    fn len_max(&self) -> usize;
    /// The run starts now.
    fn start(&mut self, now_ns: u64);
    /// What to do at this time; a frame that it says is to be sent is taken for sent.
    fn turn(&mut self, now_ns: u64) -> Turn;
    /// Writes that frame; the place of its stream, and how many bytes it has.
    fn write(&mut self, intended_ns: u64, frame: &mut [u8]) -> Option<(usize, usize)>;
    /// Ends the run.
    fn stop(&mut self);
    /// Frames that were given up.
    fn late(&self) -> u64;
}

/// Frames of a load.
pub(super) struct Planned<'a> {
    plan: &'a Plan<'a>,
    pacer: Pacer,
    positions: Vec<Position>,
    /// By stream and flow.
    checks: Vec<Vec<u16>>,
    turn: usize,
}

impl<'a> Planned<'a> {
    pub fn new(plan: &'a Plan<'a>) -> Self {
        let checks = plan.streams.iter().map(|stream| {
            let shape = stream.layout.shape;
            let flows = stream.flows.iter();
            flows.map(|flow| header_check(shape, flow)).collect()
        });
        Self {
            plan,
            pacer: Pacer::new(plan, 0),
            positions: vec![Position::default(); plan.streams.len()],
            checks: checks.collect(),
            turn: 0,
        }
    }
}

impl Source for Planned<'_> {
    fn streams(&self) -> usize {
        self.plan.streams.len()
    }

    fn len_max(&self) -> usize {
        self.plan.len_max()
    }

    fn start(&mut self, now_ns: u64) {
        self.pacer = Pacer::new(self.plan, now_ns);
    }

    fn turn(&mut self, now_ns: u64) -> Turn {
        self.pacer.turn(now_ns)
    }

    fn write(&mut self, intended_ns: u64, frame: &mut [u8]) -> Option<(usize, usize)> {
        let place = *self.plan.turns.get(self.turn)? as usize;
        self.turn = if self.turn + 1 < self.plan.turns.len() {
            self.turn + 1
        } else {
            0
        };
        let stream = self.plan.streams.get(place)?;
        let position = self.positions.get_mut(place)?;
        let check = *self.checks.get(place)?.get(position.flow)?;
        let headers = stream.flows.get(position.flow)?;
        let len = *stream.sizes.get(position.size)? as usize;
        let tag = Tag {
            stream: stream.id,
            sequence: position.sequence,
            intended_ns,
        };
        position.advance(stream);
        let frame = frame.get_mut(..len)?;
        write_flow(&stream.layout, headers, check, tag, frame).then_some((place, len))
    }

    fn stop(&mut self) {
        self.pacer.stop();
    }

    fn late(&self) -> u64 {
        self.pacer.late
    }
}
