//! The pods' devices, and the programs at them.

use std::os::fd::AsFd;

use super::super::hooks::{self, Hook, Side};
use super::super::{Error, attach_error, ethtool};
use super::Express;

/// A pod's device that is looked after.
pub(super) struct Pod {
    pub name: String,
    /// Offloads that it had before the programs were attached, and had no more afterwards.
    offloads_lost: Vec<String>,
    hooks: [Hook; 2],
    /// Takes frames from programs on other devices.
    pub by_xdp: bool,
    /// In bytes.
    pub mtu: u32,
    /// Takes what the pod sends, where that is wanted.
    pub xdp: Option<Hook>,
    /// Why there is none, where it is wanted.
    pub why_not_xdp: Option<String>,
    /// What that takes from the pod's end.
    pub lost_to_xdp: Vec<String>,
}

/// What there is to say of a pod's device that is looked after.
#[derive(Debug)]
pub struct Attended<'a> {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: &'a str,
    /// Whether it takes frames from programs on other devices.
    pub by_xdp: bool,
    /// Whether XDP takes what the pod sends.
    pub sends_by_xdp: bool,
    /// Why not, where it should.
    pub why_not_xdp: Option<&'a str>,
    /// How long the packets are that it takes, in bytes.
    pub mtu: u32,
    /// Offloads that it, or its pod's end, had before programs were attached to it, and has had no more since.
    pub offloads_lost: Vec<&'a str>,
}

impl Express {
    /// The pods' devices that programs are attached to, by index.
    pub fn pods(&self) -> impl Iterator<Item = u32> + '_ {
        self.pods.keys().copied()
    }

    /// Attaches the programs to a pod's device on the host's side.
    ///
    /// # Errors
    /// When the kernel refuses. The device may be gone again.
    pub fn attach_pod(&mut self, ifindex: u32, name: &str) -> Result<(), Error> {
        let attach = |program, side| {
            let fd = self.object.program(program)?;
            hooks::attach_tcx(fd.as_fd(), ifindex, side)
                .map_err(|source| attach_error(program, name, source))
        };
        // A device that does not tell has none to lose.
        let mut offloads_lost = ethtool::offloads(name).unwrap_or_default();
        let hooks = [
            attach("vxgate_to_pod", Side::Egress)?,
            attach("vxgate_from_pod", Side::Ingress)?,
        ];
        let kept = ethtool::offloads(name).unwrap_or_default();
        offloads_lost.retain(|offload| !kept.contains(offload));
        let pod = Pod {
            name: name.to_owned(),
            offloads_lost,
            hooks,
            by_xdp: false,
            mtu: u32::MAX,
            xdp: None,
            why_not_xdp: None,
            lost_to_xdp: Vec::new(),
        };
        self.pods.insert(ifindex, pod);
        Ok(())
    }

    /// Says whether a pod's device takes frames from programs on other devices: of flows that are promoted from now on.
    pub fn set_by_xdp(&mut self, ifindex: u32, by_xdp: bool) {
        if let Some(pod) = self.pods.get_mut(&ifindex) {
            pod.by_xdp = by_xdp;
        }
    }

    /// Says what a pod's device is called now.
    pub fn set_name(&mut self, ifindex: u32, name: &str) {
        if let Some(pod) = self.pods.get_mut(&ifindex)
            && pod.name != name
        {
            name.clone_into(&mut pod.name);
        }
    }

    /// Says how long the packets are that a pod's device takes, in bytes: of flows that are promoted from now on.
    pub fn set_mtu(&mut self, ifindex: u32, mtu: u32) {
        if let Some(pod) = self.pods.get_mut(&ifindex) {
            pod.mtu = mtu;
        }
    }

    /// The pods' devices that are looked after.
    pub fn attended(&self) -> impl Iterator<Item = Attended<'_>> {
        self.pods.iter().map(|(ifindex, pod)| {
            let lost = pod.offloads_lost.iter().chain(&pod.lost_to_xdp);
            Attended {
                ifindex: *ifindex,
                name: &pod.name,
                by_xdp: pod.by_xdp,
                sends_by_xdp: pod.xdp.is_some(),
                why_not_xdp: pod.why_not_xdp.as_deref(),
                mtu: pod.mtu,
                offloads_lost: lost.map(String::as_str).collect(),
            }
        })
    }

    /// How many pods' devices take frames from programs on other devices.
    pub fn pods_by_xdp(&self) -> usize {
        self.pods.values().filter(|pod| pod.by_xdp).count()
    }

    /// Lets those go whose devices are gone, though another may have the index of one by now.
    pub fn detach_gone(&mut self) {
        self.pods
            .retain(|_, pod| pod.hooks.iter().all(Hook::is_attached));
    }

    /// Lets a pod's device go; one that is gone has taken its programs along.
    pub fn detach_pod(&mut self, ifindex: u32) {
        self.pods.remove(&ifindex);
    }
}
