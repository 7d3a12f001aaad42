//! The mirror of a device on an IPv6 underlay, against the real kernel.
//!
//! ```text
//!   a                                               b
//!   u0 fd09::1/64 fe80::a/64 ═══════ veth ═══════ u0 fd09::2/64, fd09::3/64, fe80::b/64
//!   vx6: VNI 1, local fd09::1, dev u0, UDP 8472, beside vx1 with the same VNI and port
//! ```

use std::net::IpAddr;
use std::time::Duration;

use vxgate::control::{Control, Event};
use vxgate::table::{FlowLabel, Inherit, NextHop, UdpChecksum};
use vxgate::wire::MacAddr;

use super::lab::{Lab, Mirror, View, addr, mac, run, until};
use super::{LOCAL_ADDRESS, NO_NEIGHBOUR, NO_ROUTE, UNSUPPORTED, b_mac};

fn lab() -> Lab {
    let lab = Lab::new();
    lab.in_b(&format!("link set u0 address {}", b_mac()));
    for ns in [&lab.a, &lab.b] {
        // No addresses of the kernel's own making: the lab says which there are.
        run(&format!(
            "ip netns exec {ns} sysctl -qw net.ipv6.conf.u0.addr_gen_mode=1 net.ipv6.conf.u0.disable_ipv6=0"
        ));
    }
    for addr in ["fd09::1/64", "fe80::a/64"] {
        lab.in_a(&format!("addr add {addr} dev u0 nodad"));
    }
    for addr in ["fd09::2/64", "fd09::3/64", "fe80::b/64"] {
        lab.in_b(&format!("addr add {addr} dev u0 nodad"));
    }
    lab.in_a("link add vx6 type vxlan id 1 local fd09::1 dev u0 dstport 8472 nolearning");
    lab.in_a("link set vx6 up");
    lab
}

fn mirror(lab: &Lab, name: &str) -> Mirror {
    Mirror::start(Control::open(&[lab.found(name)], &[]).unwrap())
}

#[test]
fn a_device_of_flannels_second_stack_is_taken_beside_the_first() {
    let lab = lab();
    let [four, six] = ["vx1", "vx6"].map(|name| lab.found(name));
    assert_eq!((&four.refusal, &six.refusal), (&None, &None));
    assert_eq!(
        (four.device.vni, four.device.port),
        (six.device.vni, six.device.port)
    );
    assert_eq!((four.device.mtu, six.device.mtu), (1450, 1430));
    assert_eq!(six.device.udp_checksum, UdpChecksum::Compute);
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    lab.fdb("add 02:00:00:00:00:01 dev vx6 dst fd09::2 self permanent");
    let mut both = Mirror::start(Control::open(&[four, six], &[]).unwrap());
    until("each segment has its own VTEP, resolved", || {
        let snapshot = both.reader.snapshot();
        snapshot
            .segments
            .iter()
            .zip(["10.9.0.2", "fd09::2"])
            .all(|(segment, vtep)| {
                segment.peers[..] == [addr(vtep)]
                    && matches!(&segment.vteps[..], [only] if only.key.addr == addr(vtep)
                    && matches!(only.next_hop, vxgate::table::NextHop::Resolved(_)))
            })
    });
    let snapshot = both.reader.snapshot();
    let id = |local| snapshot.find(addr(local), 8472, snapshot.segments[0].config.vni);
    assert_eq!(id("10.9.0.1").map(|id| id.0), Some(0));
    assert_eq!(id("fd09::1").map(|id| id.0), Some(1));
}

#[test]
fn entries_with_their_own_port_and_vni_and_the_all_zero_list() {
    let lab = lab();
    let mut mirror = mirror(&lab, "vx6");
    lab.fdb("add 02:00:00:00:00:01 dev vx6 dst fd09::2 self permanent");
    lab.fdb("add 02:00:00:00:00:02 dev vx6 dst fd09::3 port 4790 vni 77 self permanent");
    lab.fdb("append 00:00:00:00:00:00 dev vx6 dst fd09::2 self permanent");
    lab.fdb("append 00:00:00:00:00:00 dev vx6 dst fd09::4 self permanent");
    mirror.until("all entries", |view| {
        view.to(1) == Some(addr("fd09::2"))
            && view.fdb.get(&mac(2)) == Some(&(addr("fd09::3"), 4790, 77))
            && view.flood == [addr("fd09::2"), addr("fd09::4")].into()
            && view.peers == [addr("fd09::2"), addr("fd09::3"), addr("fd09::4")]
    });
    mirror.until("the kernel resolves what it is asked for", |view| {
        view.next_hop("fd09::2") == Some(Ok(b_mac())) && view.next_hop("fd09::4") == NO_NEIGHBOUR
    });
    assert!(
        lab.neighbour("fd09::2").contains("managed"),
        "{}",
        lab.neighbour("fd09::2")
    );
    lab.fdb("del 00:00:00:00:00:00 dev vx6 dst fd09::4 self");
    lab.fdb("del 02:00:00:00:00:02 dev vx6 self");
    mirror.until("two are gone", |view| view.peers == [addr("fd09::2")]);
    let fresh = View::of(&Control::open(&[lab.found("vx6")], &[]).unwrap().snapshot());
    mirror.until("as after a fresh start", |view| *view == fresh);
}

#[test]
fn a_remote_given_to_the_device_is_the_default_destination_of_both_families() {
    let lab = lab();
    for (index, (local, remote)) in [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")]
        .into_iter()
        .enumerate()
    {
        let name = format!("r{index}");
        lab.in_a(&format!(
            "link add {name} type vxlan id {} local {local} remote {remote} dev u0 dstport 8472 nolearning",
            20 + index
        ));
        lab.in_a(&format!("link set {name} up"));
        assert_eq!(lab.found(&name).refusal, None);
        let mut mirror = mirror(&lab, &name);
        mirror.until("the default destination, resolved", |view| {
            let vtep = view.vteps.get(&(addr(remote), 8472, 20 + index as u32));
            view.flood == [addr(remote)].into()
                && view.peers == [addr(remote)]
                && vtep == Some(&Ok(b_mac()))
        });
        mirror.running.stop();
    }
}

#[test]
fn the_way_follows_ipv6_routes_with_global_and_link_local_routers() {
    let lab = lab();
    lab.fdb("add 02:00:00:00:00:01 dev vx6 dst fd77::1 self permanent");
    let mut mirror = mirror(&lab, "vx6");
    mirror.until("no route yet", |view| view.next_hop("fd77::1") == NO_ROUTE);
    lab.in_a("-6 route add fd77::/64 via fd09::2");
    mirror.until("routed", |view| {
        view.next_hop("fd77::1") == Some(Ok(b_mac()))
    });
    lab.in_a("-6 route replace fd77::/64 via fe80::99 dev u0");
    mirror.until("a router that does not answer", |view| {
        view.next_hop("fd77::1") == NO_NEIGHBOUR
    });
    lab.in_a("-6 route replace fd77::/64 via fe80::b dev u0");
    mirror.until("by the router's link-local address", |view| {
        view.next_hop("fd77::1") == Some(Ok(b_mac()))
    });
    lab.in_a("link add d0 type veth peer name d1");
    lab.in_a("link set d1 up");
    lab.in_a("link set d0 up");
    run(&format!(
        "ip netns exec {} sysctl -qw net.ipv6.conf.d0.disable_ipv6=0",
        lab.a
    ));
    lab.in_a("-6 route add fd77::1/128 dev d0");
    mirror.until("out of a link that is not the underlay", |view| {
        view.next_hop("fd77::1") == UNSUPPORTED
    });
    lab.in_a("-6 route replace unreachable fd77::1/128");
    mirror.until("unreachable", |view| view.next_hop("fd77::1") == NO_ROUTE);
    lab.in_a("-6 route del unreachable fd77::1/128");
    mirror.until("back", |view| view.next_hop("fd77::1") == Some(Ok(b_mac())));
    lab.in_a("addr add fd77::1/128 dev u0 nodad");
    mirror.until("an address of our own", |view| {
        view.next_hop("fd77::1") == LOCAL_ADDRESS
    });
    lab.in_a("addr del fd77::1/128 dev u0");
    mirror.until("of others again", |view| {
        view.next_hop("fd77::1") == Some(Ok(b_mac()))
    });
    lab.in_a("link set u0 down");
    mirror.until("down", |view| view.next_hop("fd77::1") != Some(Ok(b_mac())));
    // The kernel drops a link's IPv6 addresses with it.
    lab.in_a("link set u0 up");
    for addr in ["fd09::1/64", "fe80::a/64"] {
        lab.in_a(&format!("addr add {addr} dev u0 nodad"));
    }
    lab.in_a("-6 route replace fd77::/64 via fe80::b dev u0");
    mirror.until("up again", |view| {
        view.next_hop("fd77::1") == Some(Ok(b_mac()))
    });
}

#[test]
fn link_local_vteps_are_reached_on_their_own_link() {
    let lab = lab();
    lab.in_a("link add vl type vxlan id 7 local fe80::a dev u0 dstport 8472 nolearning");
    lab.in_a("link set vl up");
    assert_eq!(lab.found("vl").refusal, None);
    lab.fdb("add 02:00:00:00:00:01 dev vl dst fe80::b via u0 self permanent");
    let mut mirror = mirror(&lab, "vl");
    mirror.until("resolved on the link", |view| {
        view.vteps.get(&(addr("fe80::b"), 8472, 7)) == Some(&Ok(b_mac()))
    });
}

#[test]
fn attributes_of_ipv6_are_followed() {
    let lab = lab();
    lab.in_a("link add zero type vxlan id 9 local fd09::1 dev u0 dstport 8472 nolearning udp6zerocsumtx udp6zerocsumrx");
    let zero = lab.found("zero").device;
    assert_eq!(zero.udp_checksum, UdpChecksum::Zero);
    assert!(zero.accept_udp6_zero_checksum);
    assert!(!lab.found("vx6").device.accept_udp6_zero_checksum);

    let mut mirror = mirror(&lab, "vx6");
    let config = |mirror: &mut Mirror| mirror.reader.snapshot().segments[0].config.clone();
    assert_eq!(
        (config(&mut mirror).ttl, config(&mut mirror).ttl_default),
        (Inherit::Fixed(0), 64)
    );
    lab.in_a("link set vx6 type vxlan id 1 flowlabel 0xabcde ttl 9 tos 0x28");
    until("flow label, hop limit and traffic class", || {
        let config = config(&mut mirror);
        config.flow_label == FlowLabel::Fixed(0xabcde)
            && config.ttl == Inherit::Fixed(9)
            && config.tos == Inherit::Fixed(0x28)
    });
    run(&format!(
        "ip netns exec {} sysctl -qw net.ipv6.conf.u0.hop_limit=33",
        lab.a
    ));
    lab.in_a("link set vx6 type vxlan id 1 ttl auto tos inherit");
    until("the underlay's own hop limit", || {
        let config = config(&mut mirror);
        config.ttl == Inherit::Fixed(0) && config.ttl_default == 33 && config.tos == Inherit::Inner
    });
    assert_eq!(mirror.events.try_recv().ok(), None, "no new assembly");
    lab.in_a("link set vx6 type vxlan id 1 learning");
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::Topology)
    );
}

#[test]
fn a_multicast_group_of_either_family_needs_no_neighbour_and_is_followed() {
    let lab = lab();
    for (name, id, local, group, other, mac) in [
        (
            "g4",
            30,
            "10.9.0.1",
            "239.129.1.1",
            "239.1.1.2",
            [1, 0, 0x5e, 1, 1, 1],
        ),
        (
            "g6",
            31,
            "fd09::1",
            "ff05::1:2",
            "ff05::3",
            [0x33, 0x33, 0, 1, 0, 2],
        ),
    ] {
        lab.in_a(&format!(
            "link add {name} type vxlan id {id} local {local} group {group} dev u0 dstport 8472 nolearning"
        ));
        lab.in_a(&format!("link set {name} up"));
        let mut mirror = mirror(&lab, name);
        let found = lab.found(name);
        assert_eq!(found.refusal, None);
        assert_eq!(found.device.group, Some(group.parse().unwrap()));
        until("the group is resolved", || {
            let segment = &mirror.reader.snapshot().segments[0];
            let [vtep] = &segment.vteps[..] else {
                return false;
            };
            assert_eq!(vtep.key.addr, group.parse::<IpAddr>().unwrap());
            assert_eq!(
                (segment.flood.len(), segment.peers.len()),
                (1, 0),
                "no peer"
            );
            matches!(&vtep.next_hop, NextHop::Resolved(template) if template.next_hop_mac() == MacAddr(mac))
        });
        assert_eq!(lab.neighbour(group), "", "the kernel was asked for nothing");
        // Who sends to it and who hears it is decided together: a new assembly.
        lab.in_a(&format!(
            "link set {name} type vxlan id {id} group {other} dev u0"
        ));
        let heard = mirror.events.recv_timeout(Duration::from_secs(20));
        assert_eq!(heard, Ok(Event::Topology), "{name}");
        assert_eq!(lab.found(name).device.group, Some(other.parse().unwrap()));
    }
}
