//! What a session says of itself: the books of all its parts, put together.

use std::time::Duration;

use super::Session;
use super::verdict::judge;
use crate::control::{Found, Report, SegmentReport};
use crate::gateway::books::{Lately, RingDrops};
use crate::gateway::crew::LINK_HEADERS;
use crate::gateway::direct::Direct;
use crate::gateway::observe::{
    self, AccessState, DeviceState, GroupState, MemberState, MirrorState, Observation, PortState,
    SuperframesState, VtepState, WorkerState,
};
use crate::gateway::plan::{Nic, access_mtu};
use crate::gateway::{kernel_share, peers};
use crate::port::now_ns;
use crate::state::{self, State};
use crate::steer::{self, AccessPair, Departures, Tap};
use crate::table::{Segment, VtepKey};

/// How far the marks of rings look back that the books tell.
const LATELY: Duration = Duration::from_secs(60);

impl Session {
    /// The books, now.
    pub fn observe(&self) -> Observation {
        let mut seen = Observation::default();
        let mut trouble = None;
        seen.ports = self.ports(&mut trouble);
        for (place, nic) in self.plan.nics.iter().enumerate() {
            let mut ports = seen.ports.iter_mut();
            if let Some((way, why)) = self.lanes.way(place)
                && let Some(port) = ports.find(|port| port.ifindex == nic.ifindex)
            {
                port.superframes_leave = Some(way.to_owned());
                port.why_cut = why.map(str::to_owned);
            }
        }
        seen.reasons.extend(trouble.map(|error| error.to_string()));
        let now_ns = now_ns();
        seen.drops = self.recent.states(&seen.ports, now_ns);
        seen.offenders = self.books.offenders(now_ns);
        seen.workers = self.workers(LATELY);
        let report = self.control.report();
        let shares = self.steering.kernel_shares();
        seen.devices = self
            .plan
            .devices
            .iter()
            .zip(&self.accesses)
            .enumerate()
            .map(|(place, (found, pair))| DeviceState {
                kernel_keeps: shares.words(found.device.ifindex).unwrap_or_default(),
                superframes: Some(self.superframes(place, found)),
                ..taken_over(found, pair, &report)
            })
            .collect();
        seen.vteps = report.segments.iter().flat_map(vteps).collect();
        seen.groups = report.segments.iter().flat_map(groups).collect();
        for (segment, found) in report.segments.iter().zip(&self.plan.devices) {
            peers::add(&mut seen, segment, found.device.vni.get(), now_ns);
        }
        let partly_kernels = report.segments.iter().filter_map(kernel_share::words);
        seen.warnings.extend(partly_kernels);
        let troubles = shares.troubles();
        let troubles = troubles.iter().map(|(name, why)| format!("{name}: {why}"));
        seen.reasons.extend(troubles);
        seen.direct = self.direct.as_ref().map(Direct::state);
        seen.mirror = MirrorState {
            publications: report.publications,
            resyncs: report.resyncs,
            events: report.events,
            overruns: report.overruns,
        };
        seen.warnings.extend(self.plan.fewer_workers.clone());
        judge(&mut seen);
        seen
    }

    /// What it goes by, now: all but the segments, and those by their handles, each with its access devices. To write them down
    /// takes a while, which whoever asks has without a lock.
    pub fn state(&self) -> (State, Vec<(Segment, state::AccessState)>) {
        let segments = self.control.segments().into_iter();
        let devices = self.plan.devices.iter().zip(&self.accesses).enumerate();
        let segments = segments.zip(devices);
        let workers = self.workers(Duration::ZERO).into_iter();
        let state = State {
            generation: self.control.publications(),
            chunk_bytes: self.plan.chunk().bytes(),
            workers: workers
                .map(|worker| state::WorkerState {
                    worker: worker.worker,
                    alive: worker.alive,
                })
                .collect(),
            underlays: self.plan.nics.iter().map(underlay_state).collect(),
            ..State::idle()
        };
        let segments = segments.map(|(segment, (place, (found, pair)))| {
            let tap = self.lanes.access(place);
            (segment, access_state(found, pair, tap))
        });
        (state, segments.collect())
    }

    /// The workers, now; their marks are those of so long before.
    pub fn workers(&self, lately: Duration) -> Vec<WorkerState> {
        let now_ns = now_ns();
        let lately = u64::try_from(lately.as_nanos()).unwrap_or(u64::MAX);
        let lately = Lately {
            from_ns: now_ns.saturating_sub(lately),
            now_ns,
        };
        let books = self.books.workers.iter().zip(&self.workers);
        books
            .map(|(book, running)| WorkerState {
                queues: self.books.queues(book.number, lately),
                ..book.state(lately, running)
            })
            .collect()
    }

    /// Every port's page of the books; what kept the kernel from telling its part is put into `trouble`.
    pub(super) fn ports(&self, trouble: &mut Option<steer::Error>) -> Vec<PortState> {
        let of_tap = |tap: &Tap| tap.departures().unwrap_or_default();
        let arrivals = || {
            let mut all = self
                .steering
                .counters()
                .map_err(|error| *trouble = Some(error))
                .unwrap_or_default();
            for tap in self.lanes.accesses.iter().flatten() {
                let Departures { sent, dropped } = of_tap(tap);
                let mut all = all.iter_mut();
                if let Some(counters) = all.find(|of| of.ifindex == tap.link.ifindex) {
                    // What the kernel had to cut was sent there as one frame.
                    counters.steered = counters.steered.max(sent + dropped);
                }
            }
            all
        };
        let ring_drops = |ifindex: u32| {
            let mut devices = self.plan.devices.iter();
            let place = devices.position(|found| found.device.ifindex == ifindex);
            let pair = place.and_then(|place| self.accesses.get(place));
            let tap = place.and_then(|place| self.lanes.access(place));
            RingDrops {
                pair: pair.and_then(|pair| pair.ring_drops().ok()).unwrap_or(0),
                tap: tap.map_or(0, |tap| of_tap(tap).dropped),
            }
        };
        self.books.ports(arrivals, ring_drops)
    }

    /// The lane of a device, by its place in the plan.
    fn superframes(&self, place: usize, found: &Found) -> SuperframesState {
        let access = self.lanes.accesses.get(place);
        let wire = self
            .plan
            .wire_of(found)
            .and_then(|nic| self.lanes.wire(nic));
        match access {
            Some(Ok(access)) => SuperframesState {
                on: true,
                access_tap: Some(access.link.name.clone()),
                wire_tap: wire.map(|wire| wire.link.name.clone()),
                why_not: None,
            },
            Some(Err(why)) => SuperframesState {
                why_not: Some(why.clone()),
                ..SuperframesState::default()
            },
            None => SuperframesState::default(),
        }
    }
}

fn underlay_state(nic: &Nic) -> state::UnderlayState {
    state::UnderlayState {
        name: nic.name.clone(),
        ifindex: nic.ifindex,
        mac: nic.mac,
        mtu: nic.mtu,
        frame_len_max: nic.mtu as usize + LINK_HEADERS,
        queues: nic.queues,
    }
}

fn access_state(found: &Found, pair: &AccessPair, tap: Option<&Tap>) -> state::AccessState {
    state::AccessState {
        kernel_side: pair.kernel_side.name.clone(),
        worker_side: pair.worker_side.name.clone(),
        frame_len_max: access_mtu(found) as usize + LINK_HEADERS,
        tap: tap.map(|tap| tap.link.name.clone()),
    }
}

/// A device of the session.
fn taken_over(found: &Found, pair: &AccessPair, report: &Report) -> DeviceState {
    let known = report
        .segments
        .iter()
        .find(|segment| segment.ifindex == found.device.ifindex);
    DeviceState {
        access: Some(AccessState {
            kernel_side: pair.kernel_side.name.clone(),
            worker_side: pair.worker_side.name.clone(),
        }),
        taken_over: true,
        fdb_entries: known.map_or(0, |segment| segment.fdb_entries as u64),
        flood_entries: known.map_or(0, |segment| segment.flood_entries as u64),
        kernel_entries: known.map_or(0, |segment| segment.kernel_entries as u64),
        ..observe::device(found)
    }
}

fn vteps(segment: &SegmentReport) -> impl Iterator<Item = VtepState> {
    segment.vteps.iter().map(|vtep| VtepState {
        device: segment.device.clone(),
        vni: vtep.key.vni.get(),
        addr: vtep.key.addr,
        port: vtep.key.port,
        next_hop: vtep.next_hop,
        next_hop_mac: vtep.mac.ok().map(|mac| mac.to_string()),
        state: match vtep.mac {
            Ok(_) => "resolved".to_owned(),
            Err(reason) => reason.label().to_owned(),
        },
        path_mtu: vtep.path_mtu,
        carried_by: match vtep.mac {
            Err(reason) if reason.is_kernels() => "kernel".to_owned(),
            _ => "vxgate".to_owned(),
        },
    })
}

fn groups(segment: &SegmentReport) -> impl Iterator<Item = GroupState> {
    let member = |(key, share): &(VtepKey, f64)| MemberState {
        addr: key.addr,
        share: *share,
    };
    segment.groups.iter().map(move |group| GroupState {
        device: segment.device.clone(),
        nexthop: group.nexthop,
        members: group.members.iter().map(member).collect(),
    })
}
