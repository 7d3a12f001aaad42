//! The pods' devices: which there are, what is attached to them, and what there is to say of each.

use super::super::lock;
use super::Keeper;
use crate::control::{Changes, Pods, pods};
use crate::gateway::observe::PodState;
use crate::netlink::{self, XdpFeatures};
use crate::steer;

impl Keeper {
    /// Attaches to the pods' devices that came, and lets go of those that went.
    pub fn follow_pods(&mut self) {
        for ifindex in self.changes.take_gone() {
            self.express.detach_pod(ifindex);
        }
        let found = match self.find_pods() {
            Ok(found) => found,
            Err(error) => {
                self.pods_due = true;
                return tracing::warn!(%error, "cannot list the pods' devices; trying again");
            }
        };
        self.pods_due = false;
        let Pods {
            ports,
            mut left_out,
        } = found;
        self.express.detach_gone();
        let known: Vec<u32> = self.express.pods().collect();
        let gone = known
            .iter()
            .filter(|ifindex| !ports.iter().any(|port| port.ifindex == **ifindex));
        gone.for_each(|ifindex| self.express.detach_pod(*ifindex));
        for port in ports {
            if known.contains(&port.ifindex) {
                self.express.set_name(port.ifindex, &port.name);
                self.express.set_mtu(port.ifindex, port.mtu);
                continue;
            }
            match self.express.attach_pod(port.ifindex, &port.name) {
                Ok(()) => self.express.set_mtu(port.ifindex, port.mtu),
                Err(error) => {
                    tracing::debug!(%error, pod = port.name, "not looked after");
                    left_out.push((port, error.to_string()));
                }
            }
        }
        for ifindex in self.express.pods().collect::<Vec<_>>() {
            let by_xdp = takes_redirects(&self.changes, ifindex);
            self.express.set_by_xdp(ifindex, by_xdp);
        }
        self.follow_sending();
        let mut shared = lock(&self.shared);
        shared.pods = self.express.pods().count();
        shared.pods_by_xdp = self.express.pods_by_xdp();
        let left_out = left_out.into_iter().map(|(port, why)| (port.name, why));
        shared.left_out = left_out.collect();
        drop(shared);
        self.tell_of_pods();
    }

    /// Has XDP take what pods send, where that is wanted and can be.
    pub fn follow_sending(&mut self) {
        let changes = &self.changes;
        self.express
            .follow_sending(|ifindex| takes_redirects(changes, ifindex));
    }

    /// Tells of the pods' devices that are looked after.
    pub fn tell_of_pods(&self) {
        let mut shared = lock(&self.shared);
        let before = std::mem::take(&mut shared.pod_devices);
        let programs = |xdp: bool| ["classifier", "xdp"][usize::from(xdp)].to_owned();
        let attended = self.express.attended().map(|pod| {
            let was = before.get(pod.name);
            let was = was.filter(|was| was.ifindex == pod.ifindex);
            let lost = pod.offloads_lost.iter();
            let state = PodState {
                ifindex: pod.ifindex,
                delivery: programs(pod.by_xdp),
                sending: programs(pod.sends_by_xdp),
                why_not_xdp: pod.why_not_xdp.map(str::to_owned),
                mtu: pod.mtu,
                offloads_lost: lost.map(|offload| (*offload).to_owned()).collect(),
                express_flows: was.map_or(0, |was| was.express_flows),
            };
            (pod.name.to_owned(), state)
        });
        shared.pod_devices = attended.collect();
    }

    fn find_pods(&mut self) -> Result<Pods, netlink::Error> {
        let links = netlink::links_with_kind(&mut self.netlink)?;
        let with_clsact = steer::devices_with_clsact(&mut self.netlink)?;
        Ok(pods(&links, &with_clsact, self.pods_max))
    }
}

/// Whether a device takes frames from programs on others. One that is gone takes nothing, nor one that could stop taking it unheard.
fn takes_redirects(changes: &Changes, ifindex: u32) -> bool {
    !changes.is_deaf_to_features()
        && netlink::xdp_features(ifindex)
            .is_ok_and(|features| features.is_some_and(XdpFeatures::takes_redirects))
}
