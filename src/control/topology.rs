//! What of the devices decides how the process is put together: a change of it needs another assembly, not another snapshot.

use std::net::IpAddr;

use super::Found;
use crate::wire::{MacAddr, Vni};

/// One device's part in the assembly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    ifindex: u32,
    mtu: u32,
    vni: Vni,
    local: Option<IpAddr>,
    group: Option<IpAddr>,
    port: u16,
    gbp: bool,
    /// Index and queues of the underlay link.
    underlay: Option<(u32, u32, u32)>,
    /// Its Ethernet address, by which steering tells frames for this host.
    underlay_mac: Option<MacAddr>,
    /// The attribute for which it is left to the kernel.
    refused_for: Option<String>,
}

impl Identity {
    /// The part of this device.
    pub(super) fn of(found: &Found) -> Self {
        let device = &found.device;
        Self {
            ifindex: device.ifindex,
            mtu: device.mtu,
            vni: device.vni,
            local: device.local,
            group: device.group,
            port: device.port,
            gbp: device.gbp,
            underlay: found
                .underlay
                .as_ref()
                .map(|link| (link.ifindex, link.rx_queues, link.tx_queues)),
            underlay_mac: found.underlay.as_ref().map(|link| link.mac),
            refused_for: found
                .refusal
                .as_ref()
                .map(|refusal| refusal.attribute.clone()),
        }
    }

    /// Whether one segment serves both. It follows the underlay's address, whatever becomes of the assembly.
    pub(super) fn same_segment(&self, other: &Self) -> bool {
        let with_its_address = Self {
            underlay_mac: other.underlay_mac,
            ..self.clone()
        };
        with_its_address == *other
    }
}

/// The assembly's view of the namespace: the chosen devices as they were chosen, the others as they are now.
pub(super) fn baseline(chosen: &[Found], now: &[Found]) -> Vec<Identity> {
    let is_chosen = |found: &Found| {
        chosen
            .iter()
            .any(|other| other.device.ifindex == found.device.ifindex)
    };
    let others = now.iter().filter(|found| !is_chosen(found));
    let mut all: Vec<_> = chosen.iter().chain(others).map(Identity::of).collect();
    all.sort_by_key(|identity| identity.ifindex);
    all
}
