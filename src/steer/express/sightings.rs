//! What the programs saw of flows at the pods' devices: `struct sighting`.

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::super::Error;
use super::super::copy::Copy;
use crate::flows::{AtPods, FlowKey, PodSide, Seed};
use crate::wire::MacAddr;

/// What was seen each way, by the flow's name.
pub struct Sightings {
    from_pods: MapHandle,
    to_pods: MapHandle,
}

impl Sightings {
    /// Those of this object.
    pub fn of(object: &Copy) -> Result<Self, Error> {
        Ok(Self {
            from_pods: object.map("from_pods")?,
            to_pods: object.map("to_pods")?,
        })
    }

    /// What was seen of a flow in this generation.
    pub fn at_pods(&self, key: &FlowKey, seed: &Seed, generation: u32) -> AtPods {
        AtPods {
            sender: side(&self.from_pods, key, seed, generation),
            receiver: side(&self.to_pods, key, seed, generation),
        }
    }

    /// The same where one way alone counts for nothing: then nobody looks for the other.
    pub fn both_ways(&self, key: &FlowKey, seed: &Seed, generation: u32) -> AtPods {
        let sender = side(&self.from_pods, key, seed, generation);
        let receiver = sender.and_then(|_| side(&self.to_pods, key, seed, generation));
        AtPods { sender, receiver }
    }
}

fn side(map: &MapHandle, key: &FlowKey, seed: &Seed, generation: u32) -> Option<PodSide> {
    let seen = Sighting::read(map, key, seed)?;
    (seen.generation == generation).then_some(seen.side)
}

struct Sighting {
    generation: u32,
    side: PodSide,
}

impl Sighting {
    /// None when it is of another flow with the same name.
    fn read(map: &MapHandle, key: &FlowKey, seed: &Seed) -> Option<Self> {
        let bytes = map.lookup(&key.bytes(seed), MapFlags::ANY).ok()??;
        let (generation, rest) = bytes.split_first_chunk::<4>()?;
        let (pod, rest) = rest.split_first_chunk::<4>()?;
        let (pod_mac, rest) = rest.split_first_chunk::<6>()?;
        let (gateway_mac, ends) = rest.split_first_chunk::<6>()?;
        ends.starts_with(&key.ends()).then_some(Self {
            generation: u32::from_ne_bytes(*generation),
            side: PodSide {
                pod: u32::from_ne_bytes(*pod),
                pod_mac: MacAddr(*pod_mac),
                gateway_mac: MacAddr(*gateway_mac),
            },
        })
    }
}
