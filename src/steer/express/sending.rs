//! XDP at the pods' devices, where the operator wants it: `bpf/pod.h`.

use std::os::fd::{AsFd, BorrowedFd};

use super::super::copy::POD_XDP;
use super::super::ethtool;
use super::super::hooks::{self, Hook, XdpMode};
use super::Express;

/// What a veth has no more while XDP is on its other end, in the words of ethtool (`veth_fix_features`: NETIF_F_GSO_SOFTWARE), as
/// far as the kernel knows it. It comes back when that goes.
const LOST_TO_XDP: [&str; 8] = [
    "tx-tcp-accecn-segmentation",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-sctp-segmentation",
    "tx-udp-segmentation",
    "tx-gso-list",
];

/// How many programs there are at a pod's device without XDP.
pub const PROGRAMS_AT_PODS: usize = 2;

const NO_NIC: &str = "no underlay device takes frames from XDP on others";

impl Express {
    /// How many programs there are at a pod's device.
    pub fn programs_at_pods(&self) -> usize {
        PROGRAMS_AT_PODS + usize::from(self.pod_xdp)
    }

    /// The underlay devices that frames go out of by XDP at pods' devices, where they can.
    pub fn nics_for_xdp(&self) -> impl Iterator<Item = u32> + '_ {
        let nics = self.nics_by_xdp.keys().copied();
        nics.filter(|_| self.pod_xdp)
    }

    /// Asks which underlay devices take frames from programs on others, and lets XDP take what pods send where one does: of flows
    /// that are promoted from now on. Where none does, it would cost the pods their offloads for nothing.
    pub fn follow_sending(&mut self, takes_redirects: impl Fn(u32) -> bool) {
        if !self.pod_xdp {
            return;
        }
        for (ifindex, by_xdp) in &mut self.nics_by_xdp {
            // Some drivers say so, and mean: while a program runs in them.
            let native = hooks::xdp_program(*ifindex).is_some_and(|(_, mode)| mode == "xdp");
            *by_xdp = native && takes_redirects(*ifindex);
        }
        let able = self.nics_by_xdp.values().any(|by_xdp| *by_xdp);
        for (ifindex, pod) in &mut self.pods {
            if !able {
                pod.xdp = None;
                pod.lost_to_xdp.clear();
                pod.why_not_xdp = Some(NO_NIC.to_owned());
            } else if pod.xdp.is_none() {
                let program = self.object.program(POD_XDP);
                let program = program.map_err(|error| error.to_string());
                match program.and_then(|program| attach(program.as_fd(), *ifindex)) {
                    Ok(hook) => {
                        let mut lost = ethtool::known_offloads(&pod.name).unwrap_or_default();
                        lost.retain(|offload| LOST_TO_XDP.contains(&offload.as_str()));
                        pod.lost_to_xdp = lost;
                        pod.xdp = Some(hook);
                        pod.why_not_xdp = None;
                    }
                    Err(why) => pod.why_not_xdp = Some(why),
                }
            }
        }
    }

    /// Whether there is a pod's device that XDP could not be attached to, for a reason of its own, which nobody announces the end of.
    pub fn lacks_xdp(&self) -> bool {
        let mut reasons = self
            .pods
            .values()
            .filter_map(|pod| pod.why_not_xdp.as_deref());
        reasons.any(|why| why != NO_NIC)
    }
}

/// Attaches it, or tells why not.
fn attach(program: BorrowedFd<'_>, ifindex: u32) -> Result<Hook, String> {
    hooks::attach_xdp(program, ifindex, XdpMode::Native).map_err(|error| {
        match hooks::xdp_program(ifindex) {
            Some((other, _)) => format!("it already runs another XDP program ({other})"),
            None => format!("the kernel refuses XDP there: {error}"),
        }
    })
}
