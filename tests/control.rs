//! The mirror against the real kernel: every known trap of its announcements, each a command and what the data path must
//! then see. Needs root and iproute2; works only in network namespaces of its own.

#[path = "control/groups.rs"]
mod groups;
#[path = "control/ipv6.rs"]
mod ipv6;
#[path = "control/kernel_share.rs"]
mod kernel_share;
#[path = "control/lab.rs"]
mod lab;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use lab::{FdbWriter, Lab, Mirror, View, addr, context_switches, mac, resident_kib, run, until};
use vxgate::control::{Control, Event, discover};
use vxgate::netlink::{Group, Received, RequestBody, Socket, Subscription};
use vxgate::table::{Df, Inherit, UnresolvedReason};
use vxgate::wire::MacAddr;

const NO_NEIGHBOUR: Option<Result<MacAddr, UnresolvedReason>> =
    Some(Err(UnresolvedReason::NoNeighbour));
const NO_ROUTE: Option<Result<MacAddr, UnresolvedReason>> = Some(Err(UnresolvedReason::NoRoute));
const LINK_DOWN: Option<Result<MacAddr, UnresolvedReason>> = Some(Err(UnresolvedReason::LinkDown));
const LOCAL_ADDRESS: Option<Result<MacAddr, UnresolvedReason>> =
    Some(Err(UnresolvedReason::LocalAddress));
const UNSUPPORTED: Option<Result<MacAddr, UnresolvedReason>> =
    Some(Err(UnresolvedReason::Unsupported));

fn b_mac() -> MacAddr {
    MacAddr([2, 0, 0, 0, 0xb, 0])
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.in_b(&format!("link set u0 address {}", b_mac()));
    lab
}

#[test]
fn the_first_snapshot_holds_every_kind_of_entry() {
    let lab = lab();
    lab.in_a("link add br0 type bridge");
    lab.in_a("link set vx1 master br0");
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    FdbWriter::new(lab.found("vx1").device.ifindex).set(mac(2), Some(Ipv4Addr::new(10, 9, 0, 3)));
    lab.fdb("add 02:00:00:00:00:03 dev vx1 dst 10.9.0.3 self static");
    lab.fdb("add 02:00:00:00:00:04 dev vx1 dst 10.9.0.3 self dynamic");
    lab.fdb("add 02:00:00:00:00:05 dev vx1 dst 10.9.0.3 self extern_learn");
    lab.fdb("add 02:00:00:00:00:06 dev vx1 dst 10.9.0.3 port 4790 vni 77 via u0 self permanent");
    lab.fdb("add 02:00:00:00:00:07 dev vx1 dst 10.9.0.3 via br0 self permanent");
    lab.fdb("add 02:00:00:00:00:09 dev vx1 master static");
    lab.fdb("append 00:00:00:00:00:00 dev vx1 dst 10.9.0.2 self permanent");
    lab.fdb("append 00:00:00:00:00:00 dev vx1 dst 10.9.0.4 self permanent");
    let mut mirror = lab.mirror();
    let view = mirror.view();
    assert_eq!(view.to(1), Some(addr("10.9.0.2")));
    for last in 2..=5 {
        assert_eq!(view.to(last), Some(addr("10.9.0.3")), "entry {last}");
    }
    assert_eq!(view.fdb.get(&mac(6)), Some(&(addr("10.9.0.3"), 4790, 77)));
    assert_eq!(
        view.to(7),
        Some(addr("0.0.0.0")),
        "an entry of another underlay device is the kernel's"
    );
    assert_eq!(view.to(9), None, "the bridge's own entry");
    assert_eq!(view.flood, [addr("10.9.0.2"), addr("10.9.0.4")].into());
    assert_eq!(
        view.peers,
        [addr("10.9.0.2"), addr("10.9.0.3"), addr("10.9.0.4")]
    );
    mirror.until("the kernel resolves what it is asked for", |view| {
        view.next_hop("10.9.0.2") == Some(Ok(b_mac())) && view.next_hop("10.9.0.4") == NO_NEIGHBOUR
    });
    let report = mirror.running.report();
    let [segment] = &report.segments[..] else {
        panic!("one segment")
    };
    assert_eq!(
        (
            segment.fdb_entries,
            segment.flood_entries,
            segment.kernel_entries,
        ),
        (7, 2, 1)
    );
    assert_eq!(segment.device, "vx1");
}

#[test]
fn flannels_leases_come_and_go() {
    let lab = lab();
    let ifindex = lab.found("vx1").device.ifindex;
    let mut mirror = lab.mirror();
    assert_eq!(mirror.view().fdb.len(), 0);
    lab.in_a("neigh add 10.244.1.0 lladdr 02:00:00:00:00:01 dev vx1 nud permanent");
    let mut fdb = FdbWriter::new(ifindex);
    fdb.set(mac(1), Some(Ipv4Addr::new(10, 9, 0, 2)));
    lab.in_a("route add 10.244.1.0/24 via 10.244.1.0 dev vx1 onlink");
    mirror.until("the lease is there", |view| {
        view.to(1) == Some(addr("10.9.0.2")) && view.next_hop("10.9.0.2") == Some(Ok(b_mac()))
    });
    // The peer's public address changes: replaced in place. Its MAC changes: the old entry stays.
    fdb.set(mac(1), Some(Ipv4Addr::new(10, 9, 0, 3)));
    fdb.set(mac(2), Some(Ipv4Addr::new(10, 9, 0, 3)));
    mirror.until("replaced, with no announcement of a deletion", |view| {
        view.to(1) == Some(addr("10.9.0.3"))
            && view.to(2) == view.to(1)
            && view.peers == [addr("10.9.0.3")]
    });
    lab.in_a("neigh del 10.244.1.0 dev vx1");
    fdb.set(mac(1), None);
    fdb.set(mac(2), None);
    lab.in_a("route del 10.244.1.0/24");
    mirror.until("the lease is gone", |view| {
        view.fdb.is_empty() && view.vteps.is_empty() && view.peers.is_empty()
    });
    mirror.until_fresh(&lab);
}

#[test]
fn all_zero_entries_are_a_list_and_others_are_not() {
    let lab = lab();
    lab.in_a("link set vx1 down");
    let mut mirror = lab.mirror();
    // `remote`: the new one is announced before the old one goes, and a device that is down says nothing else.
    lab.in_a("link set vx1 type vxlan id 1 remote 10.9.0.98");
    mirror.until("a default destination", |view| {
        view.flood == [addr("10.9.0.98")].into()
    });
    lab.in_a("link set vx1 type vxlan id 1 remote 10.9.0.99");
    mirror.until("replaced", |view| view.flood == [addr("10.9.0.99")].into());
    lab.fdb("append 00:00:00:00:00:00 dev vx1 dst 10.9.0.2 self permanent");
    lab.fdb("append 00:00:00:00:00:00 dev vx1 dst 10.9.0.3 self permanent");
    lab.fdb("del 00:00:00:00:00:00 dev vx1 dst 10.9.0.99 via u0 self");
    mirror.until("one more, one less", |view| {
        view.flood == [addr("10.9.0.2"), addr("10.9.0.3")].into()
    });
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    lab.fdb("append 02:00:00:00:00:01 dev vx1 dst 10.9.0.3 self permanent");
    lab.fdb("replace 02:00:00:00:00:02 dev vx1 dst 10.9.0.3 self permanent");
    mirror.until("appending to a unicast address changes nothing", |view| {
        view.to(2) == Some(addr("10.9.0.3")) && view.to(1) == Some(addr("10.9.0.2"))
    });
    lab.fdb("flush dev vx1");
    mirror.until("flushed", |view| {
        view.fdb.is_empty() && view.flood.is_empty()
    });
    mirror.until_fresh(&lab);
}

#[test]
fn the_way_follows_routes_rules_and_nexthop_objects() {
    let lab = lab();
    for (last, gateway) in [
        (0x51, "10.20.0.5"),
        (0x53, "10.9.0.253"),
        (0x54, "10.9.0.254"),
    ] {
        lab.in_a(&format!(
            "neigh add {gateway} lladdr {} dev u0 nud permanent",
            mac(last)
        ));
    }
    lab.in_a("link add other type veth peer name other1");
    lab.in_a("link set other up");
    lab.in_a("link set other1 up");
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.20.0.5 self permanent");
    let mut mirror = lab.mirror();
    let mut expect =
        |what: &str, next_hop| mirror.until(what, |view| view.next_hop("10.20.0.5") == next_hop);
    expect("no route", NO_ROUTE);
    lab.in_a("route add 10.20.0.0/24 dev u0");
    expect("on the link", Some(Ok(mac(0x51))));
    lab.in_a("route replace 10.20.0.0/24 via 10.9.0.253");
    expect("through a gateway", Some(Ok(mac(0x53))));
    lab.in_a("route replace 10.20.0.0/24 via 10.9.0.254");
    expect("through another gateway", Some(Ok(mac(0x54))));
    lab.in_a("route add table 100 default via 10.9.0.253");
    lab.in_a("rule add to 10.20.0.0/24 ipproto udp dport 8472 lookup 100");
    expect("by a rule for the tunnel's port", Some(Ok(mac(0x53))));
    lab.in_a("rule del to 10.20.0.0/24 ipproto udp dport 8472 lookup 100");
    expect("by the main table again", Some(Ok(mac(0x54))));
    lab.in_a("nexthop add id 5 via 10.9.0.253 dev u0");
    lab.in_a("route add 10.20.0.5/32 nhid 5");
    expect("by a nexthop object", Some(Ok(mac(0x53))));
    lab.in_a("nexthop del id 5");
    expect("its route vanished without a word", Some(Ok(mac(0x54))));
    lab.in_a("route add 10.20.0.5/32 dev other");
    expect("out of another device", UNSUPPORTED);
    lab.in_a("link set other down");
    expect(
        "whose route vanishes with the link, without a word",
        Some(Ok(mac(0x54))),
    );
    lab.in_a("route add blackhole 10.20.0.5/32");
    expect("a black hole", NO_ROUTE);
    lab.in_a("route del blackhole 10.20.0.5/32");
    expect("open again", Some(Ok(mac(0x54))));
    lab.in_a("addr add 10.20.0.5/32 dev lo");
    expect("an address of our own", LOCAL_ADDRESS);
    lab.in_a("addr del 10.20.0.5/32 dev lo");
    expect("of others again", Some(Ok(mac(0x54))));
    lab.in_a("addr add 10.9.0.9/24 dev u0");
    lab.in_a("addr del 10.9.0.1/24 dev u0");
    expect("our own address is gone", NO_ROUTE);
    mirror.until_fresh(&lab);
}

#[test]
fn next_hops_change_fail_and_come_back() {
    let lab = lab();
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    for setting in [
        "base_reachable_time_ms=500",
        "interval_probe_time_ms=200",
        "delay_first_probe_time=1",
        "retrans_time_ms=50",
    ] {
        lab::run(&format!(
            "ip netns exec {} sysctl -qw net.ipv4.neigh.u0.{setting}",
            lab.a
        ));
    }
    let mut mirror = lab.mirror();
    mirror.until("resolved by the kernel", |view| {
        view.next_hop("10.9.0.2") == Some(Ok(b_mac()))
    });
    until("managed", || lab.neighbour("10.9.0.2").contains("managed"));
    // The peer gets another address and says so, as a machine that takes over does.
    lab.in_b("link set u0 address 02:00:00:00:0b:01");
    let new = MacAddr([2, 0, 0, 0, 0xb, 1]);
    lab.in_a("neigh replace 10.9.0.2 lladdr 02:00:00:00:0b:01 dev u0 nud reachable");
    mirror.until("the new address", |view| {
        view.next_hop("10.9.0.2") == Some(Ok(new))
    });
    until(
        "asked for again: the writer had taken the flag away",
        || lab.neighbour("10.9.0.2").contains("managed"),
    );
    lab.in_b("addr del 10.9.0.2/24 dev u0");
    mirror.until("nobody answers the kernel's probes", |view| {
        view.next_hop("10.9.0.2") == NO_NEIGHBOUR
    });
    lab.in_b("addr add 10.9.0.2/24 dev u0");
    mirror.until("back, found by the kernel itself", |view| {
        view.next_hop("10.9.0.2") == Some(Ok(new))
    });
    lab.in_a("neigh del 10.9.0.2 dev u0");
    until("deleted by someone, asked for again", || {
        lab.neighbour("10.9.0.2").contains("managed")
    });
    mirror.until("and resolved", |view| {
        view.next_hop("10.9.0.2") == Some(Ok(new))
    });
}

#[test]
fn a_permanent_neighbour_is_used_and_never_touched() {
    let lab = lab();
    lab.in_a("neigh add 10.9.0.2 lladdr 02:00:00:00:00:77 dev u0 nud permanent");
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    lab.fdb("add 02:00:00:00:00:02 dev vx1 dst 10.9.0.3 self permanent");
    let before = lab.neighbour("10.9.0.2");
    let mut mirror = lab.mirror();
    mirror.until("both known", |view| {
        view.next_hop("10.9.0.2") == Some(Ok(mac(0x77)))
            && view.next_hop("10.9.0.3") == Some(Ok(b_mac()))
    });
    // One that was ours becomes someone's.
    lab.in_a("neigh replace 10.9.0.3 lladdr 02:00:00:00:00:78 dev u0 nud permanent");
    mirror.until("taken over", |view| {
        view.next_hop("10.9.0.3") == Some(Ok(mac(0x78)))
    });
    assert_eq!(lab.neighbour("10.9.0.2"), before);
    let taken = lab.neighbour("10.9.0.3");
    assert!(
        taken.contains("PERMANENT") && !taken.contains("managed"),
        "{taken}"
    );
    mirror.running.stop();
    assert_eq!(lab.neighbour("10.9.0.2"), before);
    assert_eq!(lab.neighbour("10.9.0.3"), taken);
}

/// Its announcement may still be queued when the mirror asks for a next hop that it does not know.
#[test]
fn an_exclusive_request_leaves_an_unknown_permanent_neighbour_as_it_is() {
    let lab = lab();
    lab.in_a("neigh add 10.9.0.2 lladdr 02:00:00:00:00:77 dev u0 nud permanent");
    let underlay = lab.found("vx1").underlay.unwrap().ifindex;
    let mut socket = Socket::open().unwrap();
    let refused = socket.resolve_neighbour(underlay, addr("10.9.0.2"), true, 0, 1);
    assert_eq!(refused.unwrap_err().code(), Some(17));
    let entry = lab.neighbour("10.9.0.2");
    assert!(
        entry.contains("PERMANENT") && !entry.contains("managed"),
        "{entry}"
    );
}

#[test]
fn what_was_asked_of_the_kernel_is_given_back() {
    let lab = lab();
    lab.in_a("neigh add 10.9.0.3 dev u0 managed");
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    lab.fdb("add 02:00:00:00:00:02 dev vx1 dst 10.9.0.3 self permanent");
    lab.fdb("add 02:00:00:00:00:03 dev vx1 dst 10.9.0.4 self permanent");
    let mut mirror = lab.mirror();
    mirror.until("resolved", |view| {
        view.next_hop("10.9.0.2") == Some(Ok(b_mac()))
    });
    until("all are managed", || {
        ["2", "3", "4"]
            .iter()
            .all(|last| lab.neighbour(&format!("10.9.0.{last}")).contains("managed"))
    });
    lab.fdb("del 02:00:00:00:00:03 dev vx1 self");
    until("no longer in use: given back", || {
        !lab.neighbour("10.9.0.4").contains("managed")
    });
    mirror.running.stop();
    let ordinary = lab.neighbour("10.9.0.2");
    assert!(
        ordinary.contains("lladdr") && !ordinary.contains("managed"),
        "{ordinary}"
    );
    assert!(
        lab.neighbour("10.9.0.3").contains("managed"),
        "someone else's request stands"
    );
    // A process that is killed gives nothing back; the next one does.
    std::mem::forget(Control::open(&[lab.found("vx1")], &[]).unwrap());
    until("left behind", || {
        lab.neighbour("10.9.0.2").contains("managed")
    });
    let next = lab.mirror();
    next.running.stop();
    until("given back by the next", || {
        !lab.neighbour("10.9.0.2").contains("managed")
    });
    assert!(lab.neighbour("10.9.0.3").contains("managed"));
}

#[test]
fn the_underlay_goes_down_and_comes_back() {
    let lab = lab();
    lab.in_a("route add 10.20.0.0/24 via 10.9.0.2");
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.20.0.5 self permanent");
    lab.fdb("add 02:00:00:00:00:02 dev vx1 dst 10.9.0.2 self permanent");
    let mut mirror = lab.mirror();
    mirror.until("both reachable", |view| {
        view.next_hop("10.20.0.5") == Some(Ok(b_mac()))
            && view.next_hop("10.9.0.2") == Some(Ok(b_mac()))
    });
    lab.in_b("link set u0 down");
    mirror.until("carrier lost", |view| {
        view.next_hop("10.20.0.5") == LINK_DOWN
    });
    lab.in_b("link set u0 up");
    mirror.until("carrier back, the route had stayed", |view| {
        view.next_hop("10.20.0.5") == Some(Ok(b_mac()))
    });
    lab.in_a("link set u0 down");
    mirror.until("down", |view| {
        view.next_hop("10.20.0.5") == LINK_DOWN && view.next_hop("10.9.0.2") == LINK_DOWN
    });
    lab.in_a("link set u0 up");
    mirror.until(
        "up: the connected route came back, the other one vanished without a word",
        |view| {
            view.next_hop("10.9.0.2") == Some(Ok(b_mac())) && view.next_hop("10.20.0.5") == NO_ROUTE
        },
    );
    assert_eq!(
        mirror.view().fdb.len(),
        2,
        "the FDB is not touched by any of it"
    );
    mirror.until_fresh(&lab);
    assert!(
        mirror
            .events
            .try_iter()
            .all(|event| event != Event::Topology),
        "nothing of this needs another assembly"
    );
}

#[test]
fn the_device_goes_down_and_comes_back() {
    let lab = lab();
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    lab.fdb("add 02:00:00:00:00:02 dev vx1 dst 10.9.0.2 self dynamic");
    let mut mirror = lab.mirror();
    assert_eq!(mirror.view().fdb.len(), 2);
    lab.in_a("link set vx1 down");
    mirror.until("the dynamic entry goes, the permanent one stays", |view| {
        view.to(1).is_some() && view.to(2).is_none()
    });
    lab.in_a("link set vx1 address 02:00:00:00:00:f1");
    lab.in_a("link set vx1 name vx1b");
    lab.in_a("link set vx1b name vx1");
    lab.in_a("link set vx1 up");
    mirror.until("its new address", |view| {
        view.config.contains("02:00:00:00:00:f1")
    });
    mirror.until_fresh(&lab);
}

#[test]
fn attributes_are_followed_and_what_decides_the_assembly_is_told() {
    let lab = lab();
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    let mut mirror = lab.mirror();
    mirror.until("resolved", |view| {
        view.next_hop("10.9.0.2") == Some(Ok(b_mac()))
    });
    let shared =
        |mirror: &mut Mirror| std::sync::Arc::as_ptr(&mirror.reader.snapshot().segments[0].fdb);
    let fdb = shared(&mut mirror);
    lab.in_a("link set vx1 type vxlan id 1 ttl 9 tos inherit df set");
    let config = |mirror: &mut Mirror| mirror.reader.snapshot().segments[0].config.clone();
    until("ttl, tos and df", || {
        let config = config(&mut mirror);
        config.ttl == Inherit::Fixed(9) && config.tos == Inherit::Inner && config.df == Df::Set
    });
    assert_eq!(shared(&mut mirror), fdb, "what did not change is shared");
    lab.in_a("link set u0 mtu 1400");
    until("the underlay's MTU", || {
        config(&mut mirror).underlay_mtu == 1400
    });
    assert_eq!(mirror.events.try_recv().ok(), None);
    lab.in_a("link set vx1 type vxlan id 1 learning");
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::Topology)
    );
    assert_eq!(lab.found("vx1").refusal.unwrap().attribute, "learning");
    lab.in_a("link set vx1 type vxlan id 1 nolearning");
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::Topology)
    );
    assert_eq!(lab.found("vx1").refusal, None);
    lab.in_a("link add vx2 type vxlan id 2 local 10.9.0.1 dev u0 dstport 8472 nolearning");
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::Topology),
        "a new device"
    );
}

#[test]
fn another_address_of_the_underlay_is_followed_and_told() {
    let lab = lab();
    lab.fdb("add 02:00:00:00:00:02 dev vx1 dst 10.9.0.2 self permanent");
    let mut mirror = lab.mirror();
    lab.in_a("link set u0 address 02:00:00:00:0a:07");
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::Topology)
    );
    mirror.until_fresh(&lab);
}

#[test]
fn a_device_made_again_is_told_and_seen_as_another() {
    let lab = lab();
    lab.in_a("link add w0 type veth peer name w1");
    lab.in_a("link set w0 up");
    lab.in_a("link add w2 type veth peer name w3");
    let w0 = lab.ifindex("w0");
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    let before = lab.found("vx1");
    let mirror = lab.mirror_watching(&[w0]);
    lab.in_a("link del w2");
    lab.in_a("link del w0");
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::LinkGone(w0)),
        "and not the other one"
    );
    lab.in_a("link del vx1");
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::Topology)
    );
    lab.in_a("link add vx1 address 02:00:00:00:00:f2 type vxlan id 1 local 10.9.0.1 dev u0 dstport 8472 nolearning");
    lab.in_a("link set vx1 up");
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::Topology)
    );
    let after = lab.found("vx1");
    assert_ne!(before.device.ifindex, after.device.ifindex);
    assert_eq!(after.device.mac, mac(0xf2));
    mirror.running.stop();
    let mut again = lab.mirror();
    assert_eq!(again.view().fdb.len(), 0);
    lab.fdb("add 02:00:00:00:00:02 dev vx1 dst 10.9.0.2 self permanent");
    again.until("the new one is mirrored", |view| view.to(2).is_some());
}

#[test]
fn the_underlay_deleted_takes_the_device_along() {
    let lab = lab();
    let mirror = lab.mirror();
    lab.in_a("link del u0");
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::Topology)
    );
    assert!(discover(&mut Socket::open().unwrap()).unwrap().is_empty());
}

#[test]
fn every_attribute_that_is_not_done_is_refused_by_name() {
    let lab = lab();
    let plain = "local 10.9.0.1 dev u0 nolearning";
    let cases = [
        ("local 10.9.0.1 dev u0 learning", "learning"),
        ("dev u0 nolearning", "local"),
        (&format!("{plain} proxy"), "proxy"),
        (&format!("{plain} rsc"), "rsc"),
        (&format!("{plain} l2miss"), "l2miss"),
        (&format!("{plain} l3miss"), "l3miss"),
        (&format!("{plain} remcsumtx"), "remcsumtx"),
        ("local 127.0.0.1 nolearning", "dev"),
        ("local 10.77.0.1 nolearning", "dev"),
    ];
    lab.in_a("link set lo up");
    for (index, (attributes, name)) in cases.iter().enumerate() {
        lab.in_a(&format!(
            "link add t{index} type vxlan id {} dstport {} {attributes}",
            100 + index,
            5000 + index
        ));
        let refusal = lab.found(&format!("t{index}")).refusal;
        let refusal = refusal.unwrap_or_else(|| panic!("{attributes}: not refused"));
        assert_eq!(
            (refusal.attribute.as_str(), refusal.why.is_empty()),
            (*name, false),
            "{attributes}"
        );
    }
    lab.in_a("link add ext type vxlan external dstport 6000");
    assert_eq!(lab.found("ext").refusal.unwrap().attribute, "external");
    let refused = Control::open(&[lab.found("t0")], &[])
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("t0") && refused.contains("learning"),
        "{refused}"
    );
    lab.in_b("link add moved type vxlan id 98 local 10.9.0.2 dev u0 dstport 4788 nolearning");
    lab.in_b(&format!("link set moved netns {}", lab.a));
    assert_eq!(lab.found("moved").refusal.unwrap().attribute, "netns");
    // By address instead of by name.
    lab.in_a("link add good type vxlan id 99 local 10.9.0.1 srcport 5000 5100 noudpcsum dstport 4789 nolearning");
    let good = lab.found("good");
    assert_eq!(good.refusal, None);
    assert_eq!(good.underlay.unwrap().name, "u0");
    assert_eq!(
        (good.device.source_ports.low, good.device.source_ports.high),
        (5000, 5099)
    );
    lab.in_a("link set u0 mtu 9216");
    assert_eq!(lab.found("good").refusal, None);
    lab.in_a("link set u0 mtu 9217");
    assert_eq!(lab.found("good").refusal.unwrap().attribute, "mtu");
}

#[test]
fn a_device_with_a_multicast_database_of_its_own_is_refused_as_long_as_there_is_one() {
    const RTM_NEWMDB: u16 = 84;
    const RTM_DELMDB: u16 = 85;
    const NLM_F_CREATE: u16 = 0x400;
    const NLA_F_NESTED: u16 = 0x8000;
    let lab = lab();
    let mirror = lab.mirror();
    let ifindex = lab.ifindex("vx1").to_ne_bytes();
    // Frames to 239.1.1.1 go to 10.9.0.2: struct br_mdb_entry, and MDBE_ATTR_DST.
    let mut entry = [0; 28];
    entry[..4].copy_from_slice(&ifindex);
    entry[4] = 1; // MDB_PERMANENT
    entry[8..12].copy_from_slice(&[239, 1, 1, 1]);
    entry[24..26].copy_from_slice(&[8, 0]);
    let destination = [8, 0, 5, 0, 10, 9, 0, 2];
    let body = RequestBody::new(&[[7, 0, 0, 0], ifindex].concat())
        .with(1, &entry)
        .with(2 | NLA_F_NESTED, &destination);
    let mut socket = Socket::open().unwrap();
    let mut change = |kind, flags| {
        let outcome = socket.exchange(kind, flags, body.as_bytes(), |_| {});
        outcome.expect("the kernel knows vxlan devices' multicast databases");
    };
    assert_eq!(lab.found("vx1").refusal, None);
    change(RTM_NEWMDB, NLM_F_CREATE);
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::Topology)
    );
    assert_eq!(lab.found("vx1").refusal.unwrap().attribute, "mdb");
    change(RTM_DELMDB, 0);
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::Topology)
    );
    assert_eq!(lab.found("vx1").refusal, None);
}

#[test]
fn after_lost_announcements_the_exact_state_returns() {
    let lab = lab();
    let ifindex = lab.found("vx1").device.ifindex;
    let mut fdb = FdbWriter::new(ifindex);
    for last in 0..100 {
        fdb.set(mac(last), Some(Ipv4Addr::new(10, 9, 0, 2)));
    }
    // The queue is full long before anyone listens.
    let control = Control::open_with_queue(&[lab.found("vx1")], &[], 4096).unwrap();
    assert_eq!(View::of(&control.snapshot()).fdb.len(), 100);
    for number in 0..20_000u32 {
        let [_, a, b, c] = number.to_be_bytes();
        fdb.set(
            MacAddr([2, 99, 0, a, b, c]),
            Some(Ipv4Addr::from(0x0a63_0000 + number % 7)),
        );
    }
    for last in 0..100 {
        fdb.set(mac(last), None);
    }
    let mut mirror = Mirror::start(control);
    mirror.until("20,000 new entries, the old ones gone", |view| {
        view.fdb.len() == 20_000 && view.to(5).is_none()
    });
    let report = mirror.running.report();
    assert!(report.overruns > 0 && report.resyncs > 0, "{report:?}");
    mirror.until_fresh(&lab);
}

/// The queue holds additions only: their deletions, and nothing else, are lost.
#[test]
fn what_queued_up_before_a_loss_does_not_undo_the_dump() {
    const QUEUE_BYTES: usize = 4 << 20;
    const COUNT: u32 = 20_000;
    let lab = lab();
    let mut fdb = FdbWriter::new(lab.found("vx1").device.ifindex);
    fdb.set(mac(1), Some(Ipv4Addr::new(10, 9, 0, 2)));
    let control = Control::open_with_queue(&[lab.found("vx1")], &[], QUEUE_BYTES).unwrap();
    let mut twin = Subscription::open(&[Group::Neighbour], QUEUE_BYTES).unwrap();
    let numbered = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        MacAddr([2, 99, 0, a, b, c])
    };
    for number in 0..COUNT {
        fdb.set(
            numbered(number),
            Some(Ipv4Addr::from(0x0a63_0000 + number % 7)),
        );
    }
    for number in 0..COUNT {
        fdb.set(numbered(number), None);
    }
    let mut mirror = Mirror::start(control);
    assert_eq!(twin.receive(|_| {}).unwrap(), Received::Overrun);
    let mut queued = 0;
    while twin.receive(|_| queued += 1).unwrap() == Received::Messages {}
    assert!(
        (4097..COUNT).contains(&queued),
        "more than is taken at once, and no deletion: {queued}"
    );
    until("dumped again", || mirror.running.report().resyncs > 0);
    // Whatever is announced from here on is heard, after all that waited before it.
    fdb.set(mac(2), Some(Ipv4Addr::new(10, 9, 0, 2)));
    mirror.until("the last change", |view| view.to(2).is_some());
    assert_eq!(mirror.view().fdb.len(), 2);
    mirror.until_fresh(&lab);
    assert!(mirror.running.report().overruns > 0);
}

/// Losses while dumping, over and over: the queue holds a few announcements, the writer does not wait.
#[test]
fn a_storm_against_a_short_queue_ends_in_the_exact_state() {
    let lab = lab();
    let mut fdb = FdbWriter::new(lab.found("vx1").device.ifindex);
    let control = Control::open_with_queue(&[lab.found("vx1")], &[], 16 << 10).unwrap();
    let mut mirror = Mirror::start(control);
    for round in 0..8_u8 {
        for number in 0..4000_u32 {
            let [_, _, b, c] = (number / 2).to_be_bytes();
            let dst = (number % 2 == 0).then_some(Ipv4Addr::new(10, 99, 0, round));
            fdb.set(MacAddr([2, 97, 0, 0, b, c]), dst);
        }
        mirror.until("all came and went", |view| view.fdb.is_empty());
    }
    mirror.until_fresh(&lab);
    assert!(mirror.running.report().overruns > 0);
}

#[test]
fn a_watched_link_that_goes_down_is_gone() {
    let lab = lab();
    lab.in_a("link add w0 type veth peer name w1");
    lab.in_a("link set w0 up");
    lab.in_a("link set w1 up");
    let (w0, w1) = (lab.ifindex("w0"), lab.ifindex("w1"));
    let mirror = lab.mirror_watching(&[w0, w1]);
    lab.in_a("link set w0 mtu 1400");
    lab.in_a("link set w0 down");
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::LinkGone(w0))
    );
    lab.in_a("link set w0 up");
    lab.in_a("link set w0 down");
    lab.in_a("link del w1");
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::LinkGone(w1)),
        "each is told once"
    );
    // Down before anyone listened.
    lab.in_a("link add w0 type veth peer name w1");
    let w0 = lab.ifindex("w0");
    let mirror = lab.mirror_watching(&[w0]);
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::LinkGone(w0))
    );
}

#[test]
fn a_watched_link_whose_deletion_was_lost_is_found_missing() {
    let lab = lab();
    let mut fdb = FdbWriter::new(lab.found("vx1").device.ifindex);
    for name in ["w0", "w2", "w4"] {
        lab.in_a(&format!("link add {name} type veth peer name {name}p"));
        lab.in_a(&format!("link set {name} up"));
    }
    let [w0, w2, w4] = ["w0", "w2", "w4"].map(|name| lab.ifindex(name));
    let control = Control::open_with_queue(&[lab.found("vx1")], &[w0, w2, w4], 4096).unwrap();
    for last in 0..=255 {
        fdb.set(mac(last), Some(Ipv4Addr::new(10, 9, 0, 2)));
    }
    lab.in_a("link del w0");
    lab.in_a("link set w4 down");
    let mirror = Mirror::start(control);
    for gone in [w0, w4] {
        assert_eq!(
            mirror.events.recv_timeout(Duration::from_secs(20)),
            Ok(Event::LinkGone(gone))
        );
    }
    until("dumped again", || mirror.running.report().resyncs > 0);
    assert!(mirror.running.report().overruns > 0);
    assert_eq!(mirror.events.try_recv().ok(), None, "and not the other one");
}

/// Both are announced before the mirror starts, so that it hears them together. Who is told late never sees the table of
/// before; who is told in time does, unless kept from the processor for a whole build.
#[test]
fn an_event_does_not_wait_for_the_table() {
    let lab = lab();
    let mut fdb = FdbWriter::new(lab.found("vx1").device.ifindex);
    for number in 0..3000_u32 {
        let [_, _, b, c] = number.to_be_bytes();
        fdb.set(
            MacAddr([2, 96, 0, 0, b, c]),
            Some(Ipv4Addr::from(0x0a63_0000 + number)),
        );
    }
    lab.in_a("link add w0 type veth peer name w1");
    let w0 = lab.ifindex("w0");
    let in_time = (0..20).any(|round| {
        lab.in_a("link set w0 up");
        let control = Control::open(&[lab.found("vx1")], &[w0]).unwrap();
        fdb.set(mac(round), Some(Ipv4Addr::new(10, 9, 0, 2)));
        lab.in_a("link set w0 down");
        let mut mirror = Mirror::start(control);
        assert_eq!(
            mirror.events.recv_timeout(Duration::from_secs(20)),
            Ok(Event::LinkGone(w0))
        );
        let before_the_table = mirror.running.report().publications == 0;
        mirror.until("the new entry", |view| view.to(round).is_some());
        before_the_table
    });
    assert!(in_time, "never told before the table was published");
}

#[test]
fn a_hundred_thousand_entries() {
    const COUNT: u32 = 100_000;
    let lab = lab();
    let ifindex = lab.found("vx1").device.ifindex;
    let mut fdb = FdbWriter::new(ifindex);
    let mut mirror = lab.mirror();
    let before = resident_kib();
    let write = |fdb: &mut FdbWriter, from: u32, to: u32, vtep: u32| {
        let start = Instant::now();
        for number in from..to {
            let [_, a, b, c] = number.to_be_bytes();
            fdb.set(
                MacAddr([2, 98, 0, a, b, c]),
                Some(Ipv4Addr::from(0x0a63_0000 + vtep + number % 256)),
            );
        }
        start.elapsed()
    };
    let wrote = write(&mut fdb, 0, COUNT, 0);
    let start = Instant::now();
    until("all mirrored", || {
        mirror.reader.snapshot().segments[0].fdb.len() == COUNT as usize
    });
    let lag = start.elapsed();
    let loaded = mirror.running.report();
    // As many changes as the kernel takes, on top of a full table.
    let changed = write(&mut fdb, 0, 20_000, 256);
    let start = Instant::now();
    until("all changes mirrored", || {
        let segment = &mirror.reader.snapshot().segments[0];
        let moved = Ipv4Addr::from(0x0a63_0000 + 256 + 19_999 % 256);
        segment.is_behind(MacAddr([2, 98, 0, 0, 0x4e, 0x1f]), moved.into())
    });
    let lag_of_changes = start.elapsed();
    let report = mirror.running.report();
    let start = Instant::now();
    let control = Control::open(&[lab.found("vx1")], &[]).unwrap();
    let opened = start.elapsed();
    assert_eq!(fdb.count(), COUNT as usize);
    assert_eq!(View::of(&control.snapshot()), mirror.view());
    println!(
        "{COUNT} entries written in {wrote:.2?}, mirrored {lag:.2?} later ({} publications, {} overruns); 20000 changes in \
         {changed:.2?}, mirrored {lag_of_changes:.2?} later ({} publications); one build {:.2?}; a fresh start {opened:.2?}; \
         {} KiB more resident",
        loaded.publications,
        report.overruns,
        report.publications - loaded.publications,
        report.last_build,
        resident_kib().saturating_sub(before),
    );
}

#[test]
fn an_idle_mirror_sleeps() {
    let lab = lab();
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    let mut mirror = lab.mirror();
    mirror.until("resolved", |view| {
        view.next_hop("10.9.0.2") == Some(Ok(b_mac()))
    });
    mirror.reader.offline();
    until("quiet", || {
        let before = context_switches();
        std::thread::sleep(Duration::from_millis(400));
        context_switches() - before <= 2
    });
}

/// The MTU of a path, from a route's metric, is followed like the route itself; the narrowest path limits the segment, and a
/// limit that shrinks is told before the snapshot says so.
#[test]
fn p01_the_mtu_of_a_route_is_the_mtu_of_the_path() {
    let lab = lab();
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    lab.fdb("add 02:00:00:00:00:02 dev vx1 dst 10.9.0.3 self permanent");
    let (mut mirror, told) = limited(&lab);
    let ifindex = lab.found("vx1").device.ifindex;
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(ifindex, 1464)]);
    assert_eq!(path_mtu(&mut mirror, "10.9.0.2"), Some(1500));
    for (command, mtu) in [
        ("route add 10.9.0.2/32 dev u0 mtu lock 1300", 1300),
        ("route replace 10.9.0.2/32 dev u0 mtu 1400", 1400),
        ("route replace 10.9.0.2/32 dev u0 mtu 9000", 1500),
        ("route replace 10.9.0.2/32 dev u0 mtu 1200", 1200),
        ("route del 10.9.0.2/32 dev u0", 1500),
    ] {
        lab.in_a(command);
        until(command, || path_mtu(&mut mirror, "10.9.0.2") == Some(mtu));
        assert_eq!(path_mtu(&mut mirror, "10.9.0.3"), Some(1500));
        let limit = told.recv_timeout(Duration::from_secs(20));
        assert_eq!(limit, Ok((ifindex, u32::from(mtu) - 36)), "{command}");
    }
    lab.in_a("link set u0 mtu 1280");
    until("the link's own MTU", || {
        path_mtu(&mut mirror, "10.9.0.3") == Some(1280)
    });
    assert_eq!(
        told.recv_timeout(Duration::from_secs(20)),
        Ok((ifindex, 1280 - 36))
    );
    let report = mirror.running.report();
    assert!(
        report.segments[0]
            .vteps
            .iter()
            .all(|vtep| vtep.path_mtu == 1280)
    );
}

/// What the kernel learns of a path it tells nobody: it is found out, and so is that it was forgotten.
#[test]
fn p08_a_learned_exception_is_found_out() {
    let lab = lab();
    // Two hops away, behind b, with a narrow link in between.
    lab.in_a("route add 10.99.0.0/24 via 10.9.0.2");
    lab.in_b("link add narrow mtu 1300 type veth peer name beyond");
    lab.in_b("addr add 10.99.0.1/24 dev narrow");
    lab.in_b("link set narrow up");
    lab.in_b("link set beyond up");
    lab.in_b("neigh add 10.99.0.9 lladdr 02:00:00:00:00:99 dev narrow nud permanent");
    run(&format!(
        "ip netns exec {} sysctl -qw net.ipv4.ip_forward=1",
        lab.b
    ));
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.99.0.9 self permanent");
    let (mut mirror, told) = limited(&lab);
    let ifindex = lab.found("vx1").device.ifindex;
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(ifindex, 1464)]);
    // The first echo that is too long brings the router's word; nobody answers.
    let echo = format!(
        "ip netns exec {} ping -q -c 2 -i 0.2 -W 1 -M do -s 1400 10.99.0.9",
        lab.a
    );
    let mut words = echo.split(' ');
    std::process::Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    until("the exception is followed", || {
        path_mtu(&mut mirror, "10.99.0.9") == Some(1300)
    });
    assert_eq!(
        told.recv_timeout(Duration::from_secs(20)),
        Ok((ifindex, 1264))
    );
    lab.in_a("route flush cache");
    until("the exception is forgotten", || {
        path_mtu(&mut mirror, "10.99.0.9") == Some(1500)
    });
    assert_eq!(
        told.recv_timeout(Duration::from_secs(20)),
        Ok((ifindex, 1464))
    );
}

/// A mirror of vx1, and what it says about the length of frames.
fn limited(lab: &Lab) -> (Mirror, std::sync::mpsc::Receiver<(u32, u32)>) {
    let (sender, told) = std::sync::mpsc::channel();
    let control = Control::open(&[lab.found("vx1")], &[]).unwrap();
    let control = control.with_frame_limits(move |ifindex, bytes| {
        sender.send((ifindex, bytes)).ok();
    });
    (Mirror::start(control), told)
}

fn path_mtu(mirror: &mut Mirror, vtep: &str) -> Option<u16> {
    let segment = &mirror.reader.snapshot().segments[0];
    let vtep = segment
        .vteps
        .iter()
        .find(|known| known.key.addr == addr(vtep))?;
    Some(vtep.path_mtu)
}

/// G7: whatever happened before, the mirror is where one that starts now would be.
#[test]
fn g07_a_random_history_ends_where_a_fresh_start_begins() {
    let lab = lab();
    for (last, gateway) in [(0x53, "10.9.0.253"), (0x54, "10.9.0.254")] {
        lab.in_a(&format!(
            "neigh add {gateway} lladdr {} dev u0 nud permanent",
            mac(last)
        ));
    }
    lab.in_a("nexthop add id 101 via 10.9.0.2 fdb");
    let mut mirror = lab.mirror();
    let mut random = Random(0x5eed_0007);
    for round in 0..12 {
        for _ in 0..12 {
            let command = operation(&mut random);
            // Many fail, as an operator's do: there is nothing to delete, or it is there already.
            let words = command.replace("NS", &lab.a);
            let mut words = words.split_whitespace();
            std::process::Command::new(words.next().unwrap())
                .args(words)
                .output()
                .unwrap();
        }
        mirror.until_fresh(&lab);
        assert!(round < 1 || mirror.running.report().events > 0);
    }
    let report = mirror.running.report();
    assert!(
        report.publications > 12,
        "the history did something: {report:?}"
    );
}

/// A small generator with a fixed seed: the same history in every run.
struct Random(u64);

impl Random {
    /// A number below `end` (xorshift64).
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn operation(random: &mut Random) -> String {
    let address = mac(1 + random.below(4) as u8);
    let vtep = [
        "10.9.0.2",
        "10.9.0.3",
        "10.20.0.5",
        "10.20.0.6",
        "10.9.0.77",
    ][random.below(5) as usize];
    let gateway = ["10.9.0.253", "10.9.0.254"][random.below(2) as usize];
    match random.below(18) {
        0..3 => format!("bridge -n NS fdb replace {address} dev vx1 dst {vtep} self permanent"),
        3 => format!("bridge -n NS fdb add {address} dev vx1 dst {vtep} self dynamic"),
        4 => format!("bridge -n NS fdb del {address} dev vx1 self"),
        5 => format!("bridge -n NS fdb append 00:00:00:00:00:00 dev vx1 dst {vtep} self permanent"),
        6 => format!("bridge -n NS fdb del 00:00:00:00:00:00 dev vx1 dst {vtep} self"),
        7 => format!("bridge -n NS fdb add {address} dev vx1 nhid 200 self permanent"),
        8 => "ip -n NS nexthop add id 200 group 101 fdb".into(),
        9 => "ip -n NS nexthop del id 200".into(),
        10 => format!("ip -n NS route replace 10.20.0.0/24 via {gateway}"),
        11 => format!("ip -n NS route replace 10.20.0.5/32 via {gateway}"),
        12 => "ip -n NS route del 10.20.0.5/32".into(),
        13 => "ip -n NS link set u0 down".into(),
        14 => "ip -n NS link set u0 up".into(),
        15 => format!(
            "ip -n NS link set vx1 type vxlan id 1 ttl {}",
            1 + random.below(200)
        ),
        16 => format!("ip -n NS neigh replace 10.9.0.77 lladdr {address} dev u0 nud permanent"),
        _ => "bridge -n NS fdb flush dev vx1".into(),
    }
}
