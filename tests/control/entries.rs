//! Entries of the FDB, as flanneld and others write them.

use std::net::Ipv4Addr;

use crate::lab::{FdbWriter, addr, mac};
use crate::{NO_NEIGHBOUR, b_mac, lab};

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
