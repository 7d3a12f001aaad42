//! Devices that go down, change, go and come again, and those that are refused.

use std::time::Duration;

use vxgate::control::{Control, Event, discover};
use vxgate::netlink::{RequestBody, Socket};
use vxgate::table::{Df, Inherit};

use crate::lab::{Mirror, mac, until};
use crate::{LINK_DOWN, NO_ROUTE, b_mac, lab};

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
