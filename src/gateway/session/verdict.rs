//! Whether a session is healthy, by what was seen of it.

use std::net::IpAddr;

use crate::gateway::observe::{Observation, VtepState};
use crate::table::{OUTER_IPV4_LEN, OUTER_IPV6_LEN};

/// Draws conclusions: what makes the gateway unhealthy, and what deserves a look.
pub(super) fn judge(seen: &mut Observation) {
    for worker in seen.workers.iter().filter(|worker| !worker.alive) {
        let age = worker.heartbeat_age_ms;
        seen.reasons.push(format!(
            "worker {} stored no heartbeat for {age} ms: the kernel carries its frames",
            worker.worker
        ));
    }
    for port in &seen.ports {
        if !port.balance_ok {
            seen.reasons.push(format!(
                "{}: {} frames have no known fate",
                port.name, port.in_flight
            ));
        }
        if port.xdp_mode == "generic" {
            seen.warnings
                .push(format!("{}: generic XDP, slower than native", port.name));
        }
    }
    if let Some(direct) = &seen.direct {
        for (way, name) in direct.ways() {
            if !way.balance_ok {
                let count = way.in_flight;
                seen.reasons.push(format!(
                    "direct path {name}: {count} frames have no known fate"
                ));
            }
        }
        let troubles = direct.why_not.iter();
        let troubles = troubles.map(|why| format!("no direct path: {why}"));
        let tcp = direct.why_not_tcp.iter();
        let tcp = tcp.map(|why| format!("no direct path for TCP: {why}"));
        seen.warnings.extend(troubles.chain(tcp));
    }
    let vteps = seen.vteps.iter();
    let narrow = vteps.filter(|vtep| !vtep.is_kernels());
    let narrow: Vec<_> = narrow.filter_map(|vtep| narrow_path(seen, vtep)).collect();
    seen.warnings.extend(narrow);
    let vteps = seen.vteps.iter();
    let unresolved = vteps.filter(|vtep| !vtep.is_kernels() && vtep.state != "resolved");
    let words =
        unresolved.map(|vtep| format!("VTEP {} on {}: {}", vtep.addr, vtep.device, vtep.state));
    seen.warnings.extend(words.collect::<Vec<_>>());
}

/// What to say of a VTEP to which the device's largest frames do not get in one piece.
fn narrow_path(seen: &Observation, vtep: &VtepState) -> Option<String> {
    let device = seen
        .devices
        .iter()
        .find(|device| device.name == vtep.device)?;
    let outer = match vtep.addr {
        IpAddr::V4(_) => OUTER_IPV4_LEN,
        IpAddr::V6(_) => OUTER_IPV6_LEN,
    };
    // The outer Ethernet header does not count, but the inner one does: as long.
    let needed = device.mtu.saturating_add(outer as u32);
    (u32::from(vtep.path_mtu) < needed).then(|| {
        format!(
            "VTEP {} on {}: the path takes {} bytes, the device's MTU {} needs {needed}; \
             longer frames are left to the kernel",
            vtep.addr, vtep.device, vtep.path_mtu, device.mtu
        )
    })
}
