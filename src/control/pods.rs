//! The pods' devices on the host's side: which links are some.
//!
//! A pod's device is a veth whose other end is in another namespace, and a port of a bridge. Not of every bridge: one that a
//! vxlan device is a port of, too, bridges what it tunnels, and its frames are not routed here.
//!
//! A port on which the operator has put something that frames would go around on the direct path (a queueing discipline, such
//! as the limit of a pod's bandwidth, or classifiers) is left out, and said so; and so are all ports of a bridge that has it.
//! So are those of a bridge that filters VLANs: a frame for the bridge's own address may have to get there by way of another pod,
//! which joins two of them and filters what passes.

use std::collections::{HashMap, HashSet};

use crate::netlink::{LinkKind, attributes, flag_or_u8};

/// Descriptors for programs at pods' devices: with all others, as many as a process may have where nobody says otherwise.
const DESCRIPTORS: usize = 896;

/// How many pods' devices are looked after at most, with so many programs at each.
pub const fn pods_max(programs: usize) -> usize {
    DESCRIPTORS / programs
}

/// `IFLA_BR_VLAN_FILTERING`.
const VLAN_FILTERING: u16 = 7;

/// A pod's device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodPort {
    /// Its index on the host's side.
    pub ifindex: u32,
    /// Its name there.
    pub name: String,
    /// How long the packets are that reach it, in bytes: its MTU, or its bridge's where that is less.
    pub mtu: u32,
}

/// The pods' devices of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pods {
    /// Those that may be looked after.
    pub ports: Vec<PodPort>,
    /// Others, and why not.
    pub left_out: Vec<(PodPort, String)>,
}

/// Finds them among all links, `max` to be looked after at most. `with_clsact` are those that have classifiers of the older kind.
pub fn pods(links: &[LinkKind], with_clsact: &[u32], max: usize) -> Pods {
    let kind_is = |link: &LinkKind, kind: &str| link.link.kind.as_deref() == Some(kind);
    let tunnelling: HashSet<u32> = links
        .iter()
        .filter(|link| kind_is(link, "vxlan"))
        .filter_map(|link| link.link.master)
        .collect();
    let bridges: HashMap<u32, &LinkKind> = links
        .iter()
        .filter(|link| kind_is(link, "bridge") && !tunnelling.contains(&link.link.ifindex))
        .map(|link| (link.link.ifindex, link))
        .collect();
    let mut found = Pods::default();
    for link in links {
        let Some(bridge) = link.link.master.and_then(|on| bridges.get(&on)) else {
            continue;
        };
        if !(kind_is(link, "veth") && link.elsewhere && link.link.up) {
            continue;
        }
        let port = PodPort {
            ifindex: link.link.ifindex,
            name: link.link.name.clone(),
            mtu: link.link.mtu.min(bridge.link.mtu),
        };
        let around = obstacle(link, "it", with_clsact);
        let around = around.or_else(|| obstacle(bridge, &bridge.link.name, with_clsact));
        let around = around.or_else(|| between_vlans(bridge));
        if let Some(why) = around {
            found.left_out.push((port, why));
        } else if found.ports.len() == max {
            let why = format!("the limit of {max} pods' devices is reached");
            found.left_out.push((port, why));
        } else {
            found.ports.push(port);
        }
    }
    found
}

/// What frames would go around that do not pass this link, which is called so in words.
fn obstacle(link: &LinkKind, name: &str, with_clsact: &[u32]) -> Option<String> {
    if with_clsact.contains(&link.link.ifindex) {
        return Some(format!(
            "{name} has classifiers (clsact or ingress), which its frames would go around"
        ));
    }
    let qdisc = Some(link.qdisc.as_str()).filter(|qdisc| !matches!(*qdisc, "noqueue" | ""));
    qdisc.map(|qdisc| {
        format!("{name} has the queueing discipline {qdisc}, which its frames would go around")
    })
}

/// Whom frames could go around between VLANs of this bridge.
fn between_vlans(bridge: &LinkKind) -> Option<String> {
    let mut settings = attributes(&bridge.data);
    let filters = settings.any(|(number, on)| number == VLAN_FILTERING && flag_or_u8(on));
    filters.then(|| {
        let name = &bridge.link.name;
        format!("{name} filters VLANs, and its frames would go around whoever joins two of them")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Link, RequestBody};
    use crate::wire::MacAddr;

    const MAX: usize = pods_max(2);

    fn link(ifindex: u32, kind: &str, master: Option<u32>) -> LinkKind {
        LinkKind {
            link: Link {
                ifindex,
                name: format!("{kind}{ifindex}"),
                mac: MacAddr::ZERO,
                mtu: 1450,
                up: true,
                running: true,
                kind: Some(kind.to_owned()),
                alias: None,
                rx_queues: 1,
                tx_queues: 1,
                master,
                peer: None,
                parent: None,
                loopback: false,
                ethernet: true,
            },
            data: Vec::new(),
            elsewhere: kind == "veth",
            qdisc: "noqueue".to_owned(),
            group: 0,
        }
    }

    fn indexes(found: &Pods) -> Vec<u32> {
        found.ports.iter().map(|port| port.ifindex).collect()
    }

    #[test]
    fn ports_of_any_bridge_that_does_not_tunnel_are_pods() {
        let mut at_home = link(6, "veth", Some(1));
        at_home.elsewhere = false;
        let mut down = link(7, "veth", Some(1));
        down.link.up = false;
        let links = [
            link(1, "bridge", None),
            link(2, "bridge", None),
            link(3, "vxlan", Some(2)),
            link(4, "veth", Some(1)),
            link(5, "veth", Some(2)),
            at_home,
            down,
            link(8, "veth", None),
            link(9, "bridge", None),
            link(10, "veth", Some(9)),
        ];
        let found = pods(&links, &[], MAX);
        assert_eq!(indexes(&found), [4, 10]);
        assert_eq!(found.left_out, []);
    }

    #[test]
    fn a_pod_is_sent_nothing_that_its_bridge_would_not_take() {
        let mut bridge = link(1, "bridge", None);
        for (mtu, reaches) in [(1300, 1300), (1450, 1450), (9000, 1450)] {
            bridge.link.mtu = mtu;
            let found = pods(&[bridge.clone(), link(4, "veth", Some(1))], &[], MAX);
            assert_eq!(found.ports[0].mtu, reaches);
        }
    }

    #[test]
    fn what_frames_would_go_around_keeps_a_port_out() {
        let mut limited = link(4, "veth", Some(1));
        limited.qdisc = "tbf".to_owned();
        let links = [
            link(1, "bridge", None),
            limited,
            link(5, "veth", Some(1)),
            link(6, "veth", Some(1)),
        ];
        let found = pods(&links, &[5], MAX);
        assert_eq!(indexes(&found), [6]);
        let why: Vec<_> = found
            .left_out
            .iter()
            .map(|(port, why)| (port.ifindex, why))
            .collect();
        assert!(why[0].0 == 4 && why[0].1.contains("tbf"), "{why:?}");
        assert!(why[1].0 == 5 && why[1].1.contains("clsact"), "{why:?}");
    }

    #[test]
    fn what_frames_would_go_around_on_a_bridge_keeps_all_of_its_ports_out() {
        let mut limited = link(1, "bridge", None);
        limited.qdisc = "tbf".to_owned();
        let links = [
            limited,
            link(2, "bridge", None),
            link(3, "bridge", None),
            link(4, "veth", Some(1)),
            link(5, "veth", Some(2)),
            link(6, "veth", Some(3)),
        ];
        let found = pods(&links, &[2], MAX);
        assert_eq!(indexes(&found), [6]);
        let why: Vec<_> = found.left_out.iter().map(|(_, why)| why.as_str()).collect();
        assert!(
            why[0].starts_with("bridge1 has the queueing discipline tbf"),
            "{why:?}"
        );
        assert!(why[1].starts_with("bridge2 has classifiers"), "{why:?}");
    }

    /// What is between a port's VLAN and the bridge's own may be a pod that filters.
    #[test]
    fn a_bridge_that_filters_vlans_has_its_ports_left_out() {
        let filtering = |on: u8| {
            let mut bridge = link(1, "bridge", None);
            let data = RequestBody::default().with(1, &[0; 4]).with(7, &[on]);
            bridge.data = data.as_bytes().to_vec();
            pods(&[bridge, link(4, "veth", Some(1))], &[], MAX)
        };
        assert_eq!(indexes(&filtering(0)), [4]);
        let found = filtering(1);
        assert_eq!(indexes(&found), [0; 0]);
        let (_, why) = &found.left_out[0];
        assert!(why.starts_with("bridge1 filters VLANs"), "{why}");
    }

    #[test]
    fn there_is_a_limit_and_it_is_told() {
        let mut links = vec![link(1, "bridge", None)];
        links.extend((2..).take(MAX + 2).map(|at| link(at, "veth", Some(1))));
        let found = pods(&links, &[], MAX);
        assert_eq!((found.ports.len(), found.left_out.len()), (MAX, 2));
    }
}
