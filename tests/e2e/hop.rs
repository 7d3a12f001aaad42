//! A bad stretch of the wire between the two nodes of a lab, each way: frames are lost, come late, or come twice.
//!
//! ```text
//!   n1 eth1 ════ p1 ─ tc ingress ─▶ p2 ════ eth1 n2      and the same from p2 to p1, with fates of its own
//!                in the namespace sw
//! ```
//!
//! Which frames it happens to is a function of their number and a seed; what is in them depends on who was faster. Frames on
//! such a wire are as long as its MTU allows: the nodes' devices cut what is longer, and finish every checksum.

use std::os::fd::AsFd;

use libbpf_rs::{MapCore, MapFlags, Object, ObjectBuilder, TC_INGRESS, TcHookBuilder};

use crate::support::lab::{Lab, Node};
use crate::support::netns::Netns;

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lossy.bpf.o"));
/// The nodes' ports of the switch, in the order in which the hop has its directions.
const PORTS: [&str; 2] = ["p1", "p2"];

/// What a hop does; each to one frame in so many, on average, and to none where it is 0.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub seed: u32,
    pub drop_in: u32,
    pub delay_in: u32,
    /// A frame that is late comes behind one of so many others, or shortly after.
    pub delay_max: u32,
    pub copy_in: u32,
}

/// What it did, one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub seen: u64,
    pub dropped: u64,
    pub delayed: u64,
    pub copied: u64,
    /// Superframes: more than any wire could carry.
    pub uncut: u64,
    /// Frames lost for want of memory.
    pub failed: u64,
}

/// The hop, in force until the lab is taken down.
#[derive(Debug)]
pub struct Hop([Object; 2]);

impl Hop {
    /// Puts it between the nodes of a lab, whose wires become like real ones.
    pub fn between(lab: &Lab, weather: Weather) -> Self {
        for node in [Node::Master, Node::Worker] {
            lab.node(node)
                .run("ethtool -K eth1 tx off gso off tso off gro off");
        }
        let switch = lab.netns("sw");
        let ports = PORTS.map(|port| ifindex(&switch, port));
        let way = |from: usize| {
            let seed = weather.seed + from as u32;
            switch.enter(|| load(Weather { seed, ..weather }, ports[from], ports[1 - from]))
        };
        Self([way(0), way(1)])
    }

    /// From the master, and from the worker.
    pub fn tallies(&self) -> [Tally; 2] {
        self.0.each_ref().map(|object| {
            let map = object.maps().find(|map| map.name() == "tally").unwrap();
            let value = map.lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap();
            let (words, _) = value.as_chunks::<8>();
            let [seen, dropped, delayed, copied, uncut, failed] = *words else {
                panic!("six counts: {words:?}");
            };
            let count = u64::from_ne_bytes;
            Tally {
                seen: count(seen),
                dropped: count(dropped),
                delayed: count(delayed),
                copied: count(copied),
                uncut: count(uncut),
                failed: count(failed),
            }
        })
    }
}

fn load(weather: Weather, input: u32, output: u32) -> Object {
    let settings: Vec<u8> = [
        output,
        weather.seed,
        weather.drop_in,
        weather.delay_in,
        weather.delay_max,
        weather.copy_in,
    ]
    .into_iter()
    .flat_map(u32::to_ne_bytes)
    .collect();
    let mut open = ObjectBuilder::default().open_memory(OBJECT).unwrap();
    for mut map in open.maps_mut() {
        if map.name().to_string_lossy().ends_with(".rodata") {
            map.set_initial_value(&settings).unwrap();
        }
    }
    let object = open.load().unwrap();
    let program = object.progs().find(|program| program.name() == "lossy");
    let mut hook = TcHookBuilder::new(program.unwrap().as_fd())
        .ifindex(input.cast_signed())
        .replace(true)
        .handle(1)
        .priority(1)
        .hook(TC_INGRESS);
    hook.create().unwrap();
    hook.attach().unwrap();
    object
}

fn ifindex(netns: &Netns, device: &str) -> u32 {
    let text = netns.run(&format!("ip -json link show dev {device}"));
    let links: serde_json::Value = serde_json::from_str(&text).expect("ip prints JSON");
    let index = links[0]["ifindex"].as_u64().expect("a link has an index");
    u32::try_from(index).expect("an index fits")
}
