//! The direct path of a session: which flows go it, why others do not, and what its gears have counted.
//!
//! ```text
//!   workers ── sightings ──▶ Judge ◀── sightings of the pods' devices (BPF maps)
//!                              │ promoted flows
//!                              ▼
//!   changes of the kernel ──▶ generation ──▶ Express: the arrays that the programs read
//! ```
//!
//! All of it belongs to one thread ([`keeper`]). Whatever is heard that the kernel decides by ends the generation at once, by
//! one store: no flow is promoted any more, and no program takes a frame. The next one begins when nothing has been heard for
//! a while, so that no frame that was on its way when the change came is taken for one that was judged after it. Should the
//! thread hang, the programs find that nobody listens any more, and take no frame either.
//!
//! Before a flow is promoted, conntrack is asked what it does with it: what was seen on both sides may be of two flows that
//! have one name there.
//!
//! What cannot be heard of is looked for: filters that change without an announcement forbid the direct path ([`refused`]).
//!
//! So it is with `direct = "flows"`. With `always`, filters count for nothing: nobody listens to them, none forbids anything, and
//! having seen a flow one way is enough, where this node's neighbours and FDB say that its pod's address is at the pod that was
//! seen. Conntrack counts all the same, because the frames of a promoted flow may come back to it at any time, and what it calls
//! invalid is dropped by kube-proxy's rules, which are there without any policy.

mod keeper;
mod refused;
mod strays;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};

use super::observe::{DirectState, DirectWayState, FlowsState, PodState};
use super::plan::Plan;
use crate::config;
use crate::control::{Change, pods_max};
use crate::fault::{self, Explained};
use crate::flows::{Generation, Sightings};
use crate::stats::{PeerBook, UpReason};
use crate::steer::{self, DirectCounters, Express, Steering, WayCounters};
use keeper::Keeper;
use refused::Refused;

/// How long the thread may take to answer: many ticks.
const PATIENCE: Duration = Duration::from_secs(2);
/// Frames that may be on their way through the gear, or between two looks at its counters.
const IN_FLIGHT_MAX: i64 = 4096;

/// Whether flows of this plan may go the direct path, as far as that is known beforehand.
pub(super) fn is_wanted(plan: &Plan) -> bool {
    plan.direct != config::Direct::Off && refused::kernel().is_ok()
}

/// As many pods' devices as the operator has said, or as there are descriptors for, with so many programs at each.
fn pods_at_most(plan: &Plan, programs: usize) -> usize {
    pods_max(programs).min(plan.direct_pods_max as usize)
}

/// A direct path that is made with the session and begins when all else is in place.
pub(super) struct Prepared {
    /// None where nobody asked for it.
    gear: Option<Result<Gear, Refused>>,
    doubt: Arc<AtomicBool>,
    /// How many pods' devices would be looked after, where there is no gear.
    pods_max: usize,
    mode: config::Direct,
    pod_programs: config::PodPrograms,
    nice: i32,
}

struct Gear {
    express: Express,
    /// How many pods' devices are looked after.
    pods_max: usize,
    /// Why no flow goes express.
    why_not_express: Option<String>,
    sightings: Sightings,
    generation: Generation,
}

/// Loads what the plan asks for. A session does without it, when it cannot be had.
pub(super) fn prepare(plan: &Plan, steering: &Steering) -> Prepared {
    let wanted = plan.direct != config::Direct::Off;
    let by_xdp = plan.pod_programs == config::PodPrograms::Xdp;
    if by_xdp && !(wanted && plan.express) {
        tracing::warn!(
            "pod_programs = \"xdp\" counts for nothing: no flow goes express (direct = \"{}\", express = {})",
            plan.direct.label(),
            plan.express
        );
    }
    Prepared {
        gear: wanted.then(|| Gear::load(plan, steering)),
        pods_max: pods_at_most(plan, steer::PROGRAMS_AT_PODS),
        doubt: Arc::default(),
        mode: plan.direct,
        pod_programs: plan.pod_programs,
        nice: plan.nice,
    }
}

impl Gear {
    fn load(plan: &Plan, steering: &Steering) -> Result<Self, Refused> {
        refused::kernel()?;
        let why_not_express = why_not_express(plan);
        let highest = match why_not_express {
            None => steer::Gear::Express,
            Some(_) => steer::Gear::Ring,
        };
        let (express, generation) = (steering.express(highest)?, Generation::default());
        Ok(Self {
            pods_max: pods_at_most(plan, express.programs_at_pods()),
            sightings: Sightings::new(generation.clone(), express.seed()),
            express,
            why_not_express,
            generation,
        })
    }
}

impl Prepared {
    /// Where the workers' sightings go.
    pub fn sightings(&self) -> Option<&Sightings> {
        let gear = self.gear.as_ref()?.as_ref().ok()?;
        Some(&gear.sightings)
    }

    /// Has the book of peers read what the gear counts of them, too.
    pub fn count_in(&self, book: &PeerBook) {
        if let Some(Ok(gear)) = &self.gear {
            book.join(Box::new(gear.express.peers()));
        }
    }

    /// To be called when the workers may have been told something new.
    pub fn doubts(&self) -> impl FnMut() + Send + use<> {
        let doubt = Arc::clone(&self.doubt);
        move || doubt.store(true, Ordering::Release)
    }

    /// Begins; `None` where nobody asked for it.
    pub fn start(self) -> Option<Direct> {
        let shared = Arc::new(Mutex::new(Shared {
            pods_max: self.pods_max,
            ..Shared::default()
        }));
        let (mode, pod_programs) = (self.mode, self.pod_programs);
        let running = self.gear?.and_then(|gear| {
            lock(&shared)
                .why_not_express
                .clone_from(&gear.why_not_express);
            lock(&shared).pods_max = gear.pods_max;
            let (doubt, shared) = (self.doubt, Arc::clone(&shared));
            Keeper::start(gear, doubt, shared, mode, self.nice)
        });
        let running = match running {
            Ok(running) => Some(running),
            Err(error) => {
                tell(&error);
                lock(&shared).why_not = Some(fault::line(&error));
                None
            }
        };
        Some(Direct {
            running,
            mode,
            pod_programs,
            shared,
        })
    }
}

/// The direct path of a running session.
pub(super) struct Direct {
    running: Option<Running>,
    mode: config::Direct,
    pod_programs: config::PodPrograms,
    shared: Arc<Mutex<Shared>>,
}

struct Running {
    /// Dropped, it ends the thread.
    wake: UnixStream,
    thread: JoinHandle<Express>,
    counters: DirectCounters,
    questions: Sender<Question>,
}

/// Where to send what flows there are.
type Question = Sender<FlowsState>;

/// Asks the thread for the flows that it knows, without holding up anybody.
pub(super) struct Desk {
    questions: Option<Sender<Question>>,
    mode: config::Direct,
    shared: Arc<Mutex<Shared>>,
}

impl Desk {
    /// The flows, and why others are none.
    pub fn flows(&self) -> FlowsState {
        let answer = self.questions.as_ref().and_then(|questions| {
            let (question, answer) = bounded(1);
            // One question at a time; who finds one waiting waits, too.
            questions.send_timeout(question, PATIENCE).ok()?;
            answer.recv_timeout(PATIENCE).ok()
        });
        let shared = lock(&self.shared);
        FlowsState {
            mode: Some(self.mode.label().to_owned()),
            why_not: shared.why_not.clone(),
            why_not_tcp: shared.why_not_tcp.clone(),
            why_not_express: shared.why_not_express.clone(),
            ..answer.unwrap_or_default()
        }
    }
}

/// What the thread tells.
#[derive(Debug, Default)]
struct Shared {
    why_not: Option<String>,
    why_not_tcp: Option<String>,
    why_not_express: Option<String>,
    pods: usize,
    pods_by_xdp: usize,
    pods_max: usize,
    left_out: Vec<(String, String)>,
    pod_devices: BTreeMap<String, PodState>,
    /// In any gear, and by the last look in the ring gear.
    flows: usize,
    in_ring: usize,
    promotions: u64,
    /// Sightings that came to nothing, by the last look: too many waited, or there was no place for their flows.
    unheard: u64,
    refused: u64,
    /// Frames that were lost between the underlay and their pods' devices, by the last look.
    strayed: u64,
    changes: BTreeMap<Change, u64>,
}

impl Direct {
    /// Ends it. No program takes a frame any more; they are detached when what is returned is dropped.
    pub fn stop(self) -> Option<Express> {
        let running = self.running?;
        drop(running.wake);
        running.thread.join().ok()
    }

    /// Where to ask for its flows.
    pub fn desk(&self) -> Desk {
        let running = self.running.as_ref();
        Desk {
            questions: running.map(|running| running.questions.clone()),
            mode: self.mode,
            shared: Arc::clone(&self.shared),
        }
    }

    /// What there is to say of it.
    pub fn state(&self) -> DirectState {
        // First: what is lost by then has been taken by the look below.
        let strayed = lock(&self.shared).strayed;
        let counters = self.running.as_ref().map(|running| running.counters.read());
        let mut trouble = None;
        let [out, mut taken, delivered, ring_out, ring_in] = match counters {
            Some(Ok(ways)) => ways,
            Some(Err(error)) => {
                trouble = Some(fault::line(&error));
                Default::default()
            }
            None => Default::default(),
        };
        taken.lost += strayed;
        let shared = lock(&self.shared);
        let by_what = shared.changes.iter();
        let by_what = by_what.map(|(what, times)| (what.label().to_owned(), *times));
        DirectState {
            mode: self.mode.label().to_owned(),
            why_not: shared.why_not.clone().or(trouble),
            why_not_tcp: shared.why_not_tcp.clone(),
            why_not_express: shared.why_not_express.clone(),
            pods: shared.pods as u64,
            pods_by_xdp: shared.pods_by_xdp as u64,
            pods_left_out: shared.left_out.iter().cloned().collect(),
            pods_max: shared.pods_max as u64,
            pod_programs: self.pod_programs.label().to_owned(),
            pod_devices: shared.pod_devices.clone(),
            express_flows: shared.flows.saturating_sub(shared.in_ring) as u64,
            ring_flows: shared.in_ring.min(shared.flows) as u64,
            promotions: shared.promotions,
            sightings_lost: [("judge_busy", shared.unheard), ("no_place", shared.refused)]
                .map(|(why, count)| (why.to_owned(), count))
                .into(),
            changes: shared.changes.values().sum(),
            changes_by: by_what.collect(),
            out_by_xdp: out.by_xdp,
            out: way(&out, out.forwarded),
            into: way(&taken, delivered.forwarded),
            ring_out: way(&ring_out, ring_out.forwarded),
            ring_in: way(&ring_in, ring_in.forwarded),
        }
    }
}

/// One way, of whose frames so many got where they should.
fn way(counters: &WayCounters, forwarded: u64) -> DirectWayState {
    let up = UpReason::ALL.iter().zip(counters.up);
    let up = up.map(|(reason, count)| (reason.label().to_owned(), count));
    let handed_up: u64 = counters.up.iter().sum();
    let in_flight = counters.received.cast_signed() - counters.fates(forwarded).cast_signed();
    DirectWayState {
        received: counters.received,
        forwarded,
        forwarded_bytes: counters.bytes,
        lost: counters.lost,
        in_flight,
        balance_ok: (0..=IN_FLIGHT_MAX).contains(&in_flight),
        handed_up: up.chain([("total".to_owned(), handed_up)]).collect(),
    }
}

/// Why no flow may go express, when so.
fn why_not_express(plan: &Plan) -> Option<String> {
    if !plan.express {
        return Some("express = false".to_owned());
    }
    let error = refused::kernel_for_express().err()?;
    let code = error.fault().code();
    // Nothing has to be done about it: flows go in the ring gear.
    tracing::info!(code, %error, "no flow goes express");
    Some(format!("{error} ({code})"))
}

fn tell(error: &Refused) {
    let code = error.fault().code();
    tracing::warn!(code, error = fault::line(error), "no direct path");
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Numbers and words, of which none is half-written.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_word_of_the_operator_there_are_as_many_pods_as_descriptors() {
        assert_eq!(
            config::DIRECT_PODS as usize,
            pods_max(steer::PROGRAMS_AT_PODS)
        );
        // With XDP at the pods, as the documents say.
        assert_eq!(pods_max(steer::PROGRAMS_AT_PODS + 1), 298);
    }

    #[test]
    fn a_way_balances_when_every_frame_has_a_fate_or_may_still_get_one() {
        let mut counters = WayCounters {
            forwarded: 7,
            bytes: 700,
            lost: 1,
            received: 12,
            ..WayCounters::default()
        };
        counters.up[UpReason::Ttl as usize] = 2;
        let state = way(&counters, 7);
        assert_eq!((state.in_flight, state.balance_ok), (2, true));
        assert_eq!((state.handed_up["ttl"], state.handed_up["total"]), (2, 2));
        counters.received = 9;
        assert!(!way(&counters, 7).balance_ok, "more fates than frames");
        counters.received = 10_000;
        assert!(!way(&counters, 7).balance_ok, "no fate");
    }
}
