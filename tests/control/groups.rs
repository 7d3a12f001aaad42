//! Nexthop groups of FDB entries, and addresses with several destinations, as the kernel announces them.

use std::collections::BTreeMap;
use std::net::UdpSocket;

use super::lab;
use super::lab::{Lab, View, addr, mac, run};
use vxgate::netlink::{RequestBody, Socket};
use vxgate::table::{Destination, Snapshot};
use vxgate::wire::MacAddr;

/// 01:00:5e:00:00:xx
fn multicast(last: u8) -> MacAddr {
    MacAddr([1, 0, 0x5e, 0, 0, last])
}

/// Nexthops 101 to 103 to 10.9.0.2 to 10.9.0.4.
fn lab_with_members() -> Lab {
    let lab = super::lab();
    for member in 1..=3 {
        lab.in_a(&format!(
            "nexthop add id {} via 10.9.0.{} fdb",
            100 + member,
            1 + member
        ));
    }
    lab
}

#[test]
fn entries_follow_their_group_and_die_with_it() {
    let lab = lab_with_members();
    lab.in_a("nexthop add id 200 group 102,3/101 fdb");
    lab.fdb("add 02:00:00:00:00:01 dev vx1 nhid 200 self permanent");
    let mut mirror = lab.mirror();
    let view = mirror.view();
    assert_eq!(view.group(1), [(2, 16), (3, 48)]);
    assert_eq!(
        view.peers,
        [addr("10.9.0.2"), addr("10.9.0.3")],
        "every member may send"
    );
    lab.in_a("nexthop replace id 200 group 101,5/102,2/103 fdb");
    mirror.until("other weights, one more member", |view| {
        view.group(1) == [(2, 40), (3, 16), (4, 8)] && view.peers.len() == 3
    });
    lab.in_a("nexthop replace id 103 via 10.9.0.7 fdb");
    mirror.until("a member leads elsewhere", |view| {
        view.group(1) == [(2, 40), (3, 16), (7, 8)]
    });
    lab.in_a("nexthop del id 101");
    mirror.until("a member is gone", |view| {
        view.group(1) == [(3, 43), (7, 21)]
    });
    lab.in_a("nexthop add id 300 group 102 fdb");
    lab.fdb("add 02:00:00:00:00:02 dev vx1 nhid 300 self permanent");
    mirror.until("an entry made while running, with one member", |view| {
        view.to(2) == Some(addr("10.9.0.3"))
    });
    lab.fdb("replace 02:00:00:00:00:02 dev vx1 nhid 200 self permanent");
    mirror.until("an entry takes another group", |view| {
        view.group(2) == [(3, 43), (7, 21)]
    });
    mirror.until_fresh(&lab);
    lab.in_a("nexthop del id 102");
    mirror.until(
        "one member is left of the first group, the other is gone",
        |view| {
            view.to(1) == Some(addr("10.9.0.7"))
                && view.to(2) == view.to(1)
                && view.peers.len() == 1
        },
    );
    lab.in_a("nexthop del id 103");
    mirror.until(
        "the group goes, and its entries with it, in silence",
        |view| view.fdb.is_empty() && view.groups.is_empty() && view.vteps.is_empty(),
    );
    mirror.until_fresh(&lab);
}

#[test]
fn a_weight_above_256_is_read_in_both_of_its_bytes() {
    let lab = lab_with_members();
    // iproute2 of Debian 12 does not know such weights: 300 : 100, each stored less one.
    let members = [101, 0, 0, 0, 43, 1, 0, 0, 102, 0, 0, 0, 99, 0, 0, 0];
    let body = RequestBody::new(&[0; 8])
        .with(1, &200u32.to_ne_bytes())
        .with(2, &members)
        .with(11, &[]);
    let mut socket = Socket::open().unwrap();
    let made = socket.exchange(104, 0x400, body.as_bytes(), |_| {});
    if made.as_ref().is_err_and(|error| error.code() == Some(22)) {
        println!("    this kernel (before 6.12) has no such weights");
        return;
    }
    made.unwrap();
    lab.fdb("add 02:00:00:00:00:01 dev vx1 nhid 200 self permanent");
    assert_eq!(lab.fresh().group(1), [(2, 48), (3, 16)]);
}

/// The VTEP of each bucket that the address 02:00:00:00:00:01 leads to.
fn buckets(snapshot: &Snapshot, count: u32) -> Vec<String> {
    let segment = &snapshot.segments[0];
    let Some(Destination::Group(id)) = segment.fdb.find(mac(1)) else {
        return Vec::new();
    };
    let group = &segment.groups[id.0 as usize];
    let vtep = |bucket| {
        let vtep = group.choose(bucket).expect("a bucket");
        segment.vteps[vtep.0 as usize].key.addr.to_string()
    };
    (0..count).map(vtep).collect()
}

/// The same as the kernel tells it.
fn kernel_buckets(lab: &Lab) -> Vec<String> {
    let text = run(&format!("ip -n {} -json nexthop bucket show id 200", lab.a));
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let of = |bucket: &serde_json::Value| {
        let bucket = &bucket["bucket"];
        let index = bucket["index"].as_u64().expect("an index");
        let vtep = bucket["nhid"].as_u64().expect("a nexthop") - 99;
        (index, format!("10.9.0.{vtep}"))
    };
    let buckets: BTreeMap<_, _> = json.as_array().expect("a list").iter().map(of).collect();
    buckets.into_values().collect()
}

#[test]
fn a_resilient_group_has_the_kernels_buckets_through_every_change() {
    const COUNT: u32 = 64;
    let lab = lab_with_members();
    lab.in_a("nexthop add id 200 group 101,3/102 type resilient buckets 64 idle_timer 1 fdb");
    lab.fdb("add 02:00:00:00:00:01 dev vx1 nhid 200 self permanent");
    let mut mirror = lab.mirror();
    assert_eq!(mirror.view().group(1), [(2, 48), (3, 16)]);
    let first = buckets(mirror.reader.snapshot(), COUNT);
    assert_eq!(first, kernel_buckets(&lab));
    lab.in_a(
        "nexthop replace id 200 group 101,3/102/103,4 type resilient buckets 64 idle_timer 1 fdb",
    );
    // The kernel moves what is idle for a second, some now, some later by itself.
    mirror.until("the new member has its share", |view| {
        view.group(1) == [(2, 24), (3, 8), (4, 32)]
    });
    let second = buckets(mirror.reader.snapshot(), COUNT);
    assert_eq!(second, kernel_buckets(&lab));
    lab.in_a("nexthop del id 101");
    mirror.until("a member is gone", |view| {
        let members: Vec<_> = view.group(1).iter().map(|(vtep, _)| *vtep).collect();
        members == [3, 4]
    });
    lab::until("the kernel's buckets", || {
        buckets(mirror.reader.snapshot(), COUNT) == kernel_buckets(&lab)
    });
    for (before, after) in second.iter().zip(buckets(mirror.reader.snapshot(), COUNT)) {
        assert!(
            *before == after || before == "10.9.0.2",
            "only the lost member's buckets move: {before} to {after}"
        );
    }
    mirror.until_fresh(&lab);
    lab.in_a("nexthop del id 200");
    mirror.until("the entry goes with its group", |view| {
        view.groups.is_empty() && view.fdb.is_empty()
    });
}

#[test]
fn buckets_that_the_kernel_moves_by_itself_are_followed() {
    let lab = lab_with_members();
    lab.in_a("nexthop add id 200 group 101/102 type resilient buckets 64 idle_timer 1 fdb");
    lab.fdb("add 02:00:00:00:00:01 dev vx1 nhid 200 self permanent");
    lab.in_a("addr add 10.244.0.1/24 dev vx1");
    lab.in_a("neigh add 10.244.0.2 lladdr 02:00:00:00:00:01 dev vx1 nud permanent");
    let mut mirror = lab.mirror();
    assert_eq!(mirror.view().group(1), [(2, 32), (3, 32)]);
    // No bucket is idle: enough flows through the kernel's own path.
    for _ in 0..1000 {
        let flow = UdpSocket::bind("10.244.0.1:0").unwrap();
        flow.send_to(&[0; 8], "10.244.0.2:9").unwrap();
    }
    lab.in_a(
        "nexthop replace id 200 group 101/102/103,2 type resilient buckets 64 idle_timer 1 fdb",
    );
    // What follows is announced bucket by bucket.
    mirror.until(
        "the new member has its share when the flows have ended",
        |view| view.group(1) == [(2, 16), (3, 16), (4, 32)],
    );
    assert_eq!(buckets(mirror.reader.snapshot(), 64), kernel_buckets(&lab));
    mirror.until_fresh(&lab);
}

#[test]
fn a_group_takes_the_frames_of_multicast_and_all_zero_addresses_too() {
    let lab = lab_with_members();
    lab.in_a("nexthop add id 200 group 101/102 fdb");
    let mut mirror = lab.mirror();
    lab.fdb("add 00:00:00:00:00:00 dev vx1 nhid 200 self permanent");
    lab.fdb("add 01:00:5e:00:00:01 dev vx1 nhid 200 self permanent");
    let halves = BTreeMap::from([(addr("10.9.0.2"), 32), (addr("10.9.0.3"), 32)]);
    let both = BTreeMap::from([(MacAddr::ZERO, halves.clone()), (multicast(1), halves)]);
    mirror.until("both", |view| view.groups == both && view.flood.is_empty());
    mirror.until_fresh(&lab);
    lab.fdb("del 00:00:00:00:00:00 dev vx1 nhid 200 self");
    mirror.until("one", |view| view.groups.len() == 1);
    lab.in_a("nexthop del id 200");
    mirror.until("none", |view| {
        *view
            == View {
                config: view.config.clone(),
                ..View::default()
            }
    });
    mirror.until_fresh(&lab);
}

#[test]
fn a_multicast_address_has_all_of_its_destinations() {
    let lab = super::lab();
    let mut mirror = lab.mirror();
    let list = |view: &View| view.lists.get(&multicast(1)).cloned().unwrap_or_default();
    for vtep in 2..=4 {
        lab.fdb(&format!(
            "append 01:00:5e:00:00:01 dev vx1 dst 10.9.0.{vtep} self permanent"
        ));
    }
    mirror.until("three destinations", |view| {
        list(view) == [addr("10.9.0.2"), addr("10.9.0.3"), addr("10.9.0.4")].into()
    });
    assert_eq!(mirror.running.report().segments[0].kernel_entries, 0);
    mirror.until_fresh(&lab);
    lab.fdb("del 01:00:5e:00:00:01 dev vx1 dst 10.9.0.3 self");
    mirror.until("two", |view| {
        list(view) == [addr("10.9.0.2"), addr("10.9.0.4")].into()
    });
    lab.fdb("del 01:00:5e:00:00:01 dev vx1 dst 10.9.0.2 self");
    mirror.until("one, which needs no list", |view| {
        view.lists.is_empty() && view.fdb.get(&multicast(1)) == Some(&(addr("10.9.0.4"), 8472, 1))
    });
    mirror.until_fresh(&lab);
}
