//! Asks the kernel what there is, and plans with it.

use std::collections::BTreeMap;

use super::plan::{needs_chains, receive_queues, refusal_words, refuse_chains};
use super::{Plan, StartError, crew};
use crate::config::{Config, WORKERS_MAX};
use crate::control::{self, Refusal};
use crate::netlink::{self, Socket};
use crate::port::takes_chains;

/// What a gateway with these settings would take over now, and what not. Nothing is touched.
///
/// # Errors
/// When the kernel does not tell its devices.
pub fn plan(config: &Config, netlink: &mut Socket) -> Result<Plan, StartError> {
    make_plan(config, netlink, &mut BTreeMap::new())
}

/// The memory for frames that the workers of a plan take, in bytes. It is locked.
pub fn frame_memory(plan: &Plan) -> u64 {
    let frames = (0..plan.workers).map(|number| u64::from(crew::frames(plan, number)));
    frames.sum::<u64>() * u64::from(plan.chunk().bytes())
}

/// Plans with what the kernel has now. A device that is gone is forgiven: another with its index is another device.
pub(super) fn make_plan(
    config: &Config,
    netlink: &mut Socket,
    unfit: &mut BTreeMap<u32, String>,
) -> Result<Plan, StartError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = u32::try_from(cores).unwrap_or(u32::MAX).min(WORKERS_MAX);
    let mut found = control::discover(netlink)?;
    unfit.retain(|ifindex, _| found.iter().any(|found| found.device.ifindex == *ifindex));
    for found in &mut found {
        if let Some(why) = unfit.get(&found.device.ifindex) {
            let attribute = "takeover".to_owned();
            found.refusal = Some(Refusal {
                attribute,
                why: why.clone(),
            });
        }
    }
    if found.iter().any(needs_chains) && !takes_chains() {
        found.iter_mut().for_each(refuse_chains);
    }
    let mut plan = Plan::new(found, config, cores, receive_queues);
    for nic in &mut plan.nics {
        // Before Linux 6.3 the kernel does not tell.
        let features = netlink::xdp_features(nic.ifindex).ok().flatten();
        nic.zero_copy = features.is_none_or(|features| features.has_zero_copy());
    }
    Ok(plan)
}

pub(super) fn log_plan(plan: &Plan) {
    if let Some(why) = &plan.fewer_workers {
        tracing::warn!("{why}");
    }
    if let Some(release) = crate::steer::running_may_panic() {
        tracing::warn!(
            release,
            "this kernel may panic when AF_XDP sends: see vxgate doctor"
        );
    }
    for found in &plan.left {
        let (attribute, why) = refusal_words(found);
        tracing::warn!(
            device = found.device.name,
            attribute,
            why,
            "left to the kernel"
        );
    }
    for found in &plan.devices {
        let underlay = found
            .underlay
            .as_ref()
            .map_or("", |link| link.name.as_str());
        tracing::info!(
            device = found.device.name,
            vni = found.device.vni.get(),
            underlay,
            "taking over"
        );
    }
}
