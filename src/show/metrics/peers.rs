//! Metrics of the peers as the tables have them: how many frames can be sent to, and how wide the paths are.

use std::collections::BTreeMap;

use super::exposition::{Exposition, alone};
use super::traffic::{OTHER_VNIS, VNIS_MAX};
use crate::gateway::VtepState;

/// Writes all families.
pub(super) fn write(page: &mut Exposition<'_>, vteps: &[VtepState], peers_max: usize) {
    let mut states: BTreeMap<(u32, &str), u64> = BTreeMap::new();
    for vtep in vteps {
        let state = if vtep.is_kernels() {
            "kernel"
        } else {
            vtep.state.as_str()
        };
        *states.entry((vtep.vni, state)).or_default() += 1;
    }
    let mut vnis: Vec<_> = states.keys().map(|(vni, _)| *vni).collect();
    vnis.dedup();
    let mut shown: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for ((vni, state), count) in states {
        let named = vnis.iter().take(VNIS_MAX).any(|named| *named == vni);
        let vni = if named {
            vni.to_string()
        } else {
            OTHER_VNIS.to_owned()
        };
        *shown.entry((vni, state)).or_default() += count;
    }
    page.gauge(
        "vxgate_peers",
        "Remote VTEPs: resolved, or why frames to them die, or kernel where only the kernel reaches them.",
        shown.into_iter().map(|((vni, state), count)| {
            let labels = vec![("vni", vni), ("state", state.to_owned())];
            (labels, count as f64)
        }),
    );
    path_mtus(page, vteps, peers_max);
}

/// Of those with the narrowest paths first: where not all are shown, these are the ones to see.
fn path_mtus(page: &mut Exposition<'_>, vteps: &[VtepState], peers_max: usize) {
    let carried = vteps.iter().filter(|vtep| !vtep.is_kernels());
    let paths: BTreeMap<_, &VtepState> = carried
        .map(|vtep| {
            let key = (vtep.path_mtu, &vtep.device, vtep.vni, vtep.addr, vtep.port);
            (key, vtep)
        })
        .collect();
    let hidden = paths.len().saturating_sub(peers_max);
    let shown = paths.into_values().take(peers_max);
    page.gauge(
        "vxgate_peer_path_mtu_bytes",
        "The largest outer IP packet that the path to a VTEP takes, as far as the kernel knows.",
        shown.map(|vtep| {
            let labels = vec![
                ("device", vtep.device.clone()),
                ("vni", vtep.vni.to_string()),
                ("peer", vtep.addr.to_string()),
                ("udp_port", vtep.port.to_string()),
            ];
            (labels, f64::from(vtep.path_mtu))
        }),
    );
    page.gauge(
        "vxgate_peers_hidden",
        "VTEPs beyond metrics.max_peers, which have no series of their own.",
        [alone(hidden as f64)],
    );
}
