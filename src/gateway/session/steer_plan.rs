//! What the steering programs are told of a session.

use crate::config::PodPrograms;
use crate::gateway::direct;
use crate::gateway::lanes::Lanes;
use crate::gateway::plan::Plan;
use crate::port::ROOM;
use crate::stats::PeerBook;
use crate::steer::{AccessPair, DevicePlan, DirectPlan, NicPlan, SteerPlan};

/// Of the devices of this plan, with what was made for them.
pub(super) fn steer_plan(plan: &Plan, accesses: &[AccessPair], lanes: &Lanes) -> SteerPlan {
    let nics = plan.nics.iter().enumerate().map(|(place, nic)| NicPlan {
        ifindex: nic.ifindex,
        name: nic.name.clone(),
        mac: nic.mac,
        mtu: nic.mtu,
        wire_tap: lanes.wire(place).map(|tap| tap.link.clone()),
    });
    let devices =
        plan.devices
            .iter()
            .zip(accesses)
            .enumerate()
            .filter_map(|(place, (found, pair))| {
                let device = &found.device;
                Some(DevicePlan {
                    ifindex: device.ifindex,
                    name: device.name.clone(),
                    mtu: device.mtu,
                    vni: device.vni,
                    local: device.local?,
                    group: device.group,
                    gbp: device.gbp,
                    underlay_ifindex: device.underlay?,
                    port: device.port,
                    kernel_side: pair.kernel_side.clone(),
                    worker_side: pair.worker_side.clone(),
                    access_tap: lanes.access(place).map(|tap| tap.link.clone()),
                })
            });
    SteerPlan {
        workers: plan.workers,
        chains: plan.needs_chains(),
        direct: direct::is_wanted(plan).then(|| DirectPlan {
            flows: plan.direct_flows_max,
            peers: PeerBook::places_for(plan.devices.len()) as u32,
            pod_xdp: plan.express && plan.pod_programs == PodPrograms::Xdp,
        }),
        frame_max: plan.chunk().bytes() - ROOM as u32,
        nics: nics.collect(),
        devices: devices.collect(),
    }
}
