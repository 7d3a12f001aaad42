//! The way to a VTEP: routes, next hops, and who resolves them.

use vxgate::control::Control;
use vxgate::netlink::Socket;
use vxgate::wire::MacAddr;

use crate::lab::{addr, mac, until};
use crate::{LOCAL_ADDRESS, NO_NEIGHBOUR, NO_ROUTE, UNSUPPORTED, b_mac, lab};

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
