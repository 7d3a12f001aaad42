//! A look at the gateway from other threads.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::session::Session;
use super::{
    Captures, DroppedFrame, FdbPage, FdbQuery, FlowsState, Observation, State, WorkerState, fdb,
    lock, observe,
};
use crate::netlink;
use crate::port::now_ns;
use crate::state::{SegmentState, State as Dump};

/// The reason that is given while the operator has handed the traffic to the kernel.
pub const DRAINED: &str = "drained: the kernel carries all traffic; vxgate resume takes it back";

/// A look at the gateway from other threads.
#[derive(Clone)]
pub struct View {
    pub(super) shared: Arc<Mutex<State>>,
    pub(super) captures: Captures,
}

impl View {
    /// A part of the forwarding database that the workers go by; nothing without a session.
    ///
    /// # Errors
    /// When the kernel does not tell its own, which stands beside it.
    pub fn fdb(&self, query: &FdbQuery) -> Result<FdbPage, netlink::Error> {
        let state = lock(&self.shared);
        let session = state.session.as_ref();
        let segments = session.map_or_else(Vec::new, Session::segments);
        drop(state);
        fdb::page(&segments, query)
    }

    /// The last frames that died of each reason in each direction, the latest of each first; none without a session.
    pub fn dropped_frames(&self) -> Vec<DroppedFrame> {
        let state = lock(&self.shared);
        let session = state.session.as_ref();
        session.map_or_else(Vec::new, Session::dropped_frames)
    }

    /// The workers, now, and how full their rings were in the time before that is asked for; with the number of the takeover.
    pub fn workers(&self, lately: Duration) -> (Vec<WorkerState>, u64) {
        let state = lock(&self.shared);
        let workers = state.session.as_ref();
        let workers = workers.map_or_else(Vec::new, |session| session.workers(lately));
        (workers, state.takeovers)
    }

    /// Has the workers measure the stages of their turns for a while.
    pub fn measure_stages(&self) {
        lock(&self.shared).stages.measure(now_ns());
    }

    /// The flows that the direct path knows; `None` without one.
    pub fn flows(&self) -> Option<FlowsState> {
        let desk = lock(&self.shared).session.as_ref()?.flows()?;
        // Not under the lock: the answer takes a moment.
        Some(desk.flows())
    }

    /// The books, now.
    pub fn observe(&self) -> Observation {
        let state = lock(&self.shared);
        let mut seen = match &state.session {
            Some(session) => session.observe(),
            None => Observation::default(),
        };
        seen.captures = self.captures.states();
        seen.capture_lost = self.captures.lost();
        seen.policy = (&state.policy).into();
        seen.takeovers = state.takeovers;
        seen.drained = state.drained;
        if state.drained {
            seen.reasons.insert(0, DRAINED.to_owned());
        }
        seen.devices
            .extend(state.left.iter().map(observe::left_to_the_kernel));
        if state.session.is_none() {
            let why = state
                .trouble
                .as_deref()
                .unwrap_or("there is no vxlan device to take over");
            seen.reasons
                .push(format!("the kernel carries all traffic: {why}"));
        }
        let carried = |name: &String| {
            seen.devices
                .iter()
                .any(|device| device.taken_over && device.name == *name)
        };
        let missing: Vec<_> = state.named.iter().filter(|name| !carried(name)).collect();
        let reasons = missing
            .into_iter()
            .map(|name| format!("{name} was asked for, and is with the kernel"));
        seen.reasons.extend(reasons.collect::<Vec<_>>());
        seen
    }

    /// What the gateway goes by, now: its table, and what steering is told.
    pub fn state(&self) -> Dump {
        let state = lock(&self.shared);
        let session = state.session.as_ref().map(Session::state);
        let drained = state.drained;
        drop(state);
        // Not under the lock, for which those wait who look after the workers: a table of a million entries is copied and sorted.
        let (state, segments) = session.unwrap_or_else(|| (Dump::idle(), Vec::new()));
        let segments = segments.into_iter();
        Dump {
            drained,
            segments: segments
                .map(|(segment, access)| SegmentState::of(&segment, access))
                .collect(),
            ..state
        }
    }
}
