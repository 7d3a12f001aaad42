//! Twelve flood destinations, and surgery on their list: each destination gets exactly the copies that the list said.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::carrier::{Carried, Carrier};
use crate::frame::{Mark, Seen, ethernet_ip, is_marked, probe};
use crate::net::Net;
use crate::probe::{Observer, Sender, play};
use crate::support::frames::mac_text;
use crate::support::wait_until;

const VNI: u32 = 10;
const PORT: u16 = 4789;
/// Last parts of the addresses of the flood destinations.
const REMOTES: std::ops::RangeInclusive<u8> = 2..=13;
/// A VTEP behind which is the address of the sentinels, and which is in no flood list.
const SENTINEL_VTEP: u8 = 99;
const SENTINEL_MAC: [u8; 6] = [2, 0, 0x5e, 0x10, 0, 0x63];
const UNKNOWN: [u8; 6] = [0xde, 0xad, 0xbe, 0xef, 0x13, 0x37];
/// Other traffic, all the time: to one destination, not flooded.
const STEADY_MAC: [u8; 6] = [2, 0, 0x5e, 0x10, 0, 0x64];
const STEADY_VTEP: u8 = 100;

/// Destinations that are deleted before a frame is sent, and the copies that each of the twelve has got after it.
const STEPS: [(&[u8], [usize; 12]); 7] = [
    (&[], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    (&[8, 9, 10], [2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2]),
    (&[2, 3, 4], [2, 2, 2, 3, 3, 3, 1, 1, 1, 3, 3, 3]),
    (&[11, 12, 13], [2, 2, 2, 4, 4, 4, 1, 1, 1, 3, 3, 3]),
    (&[5], [2, 2, 2, 4, 5, 5, 1, 1, 1, 3, 3, 3]),
    (&[6], [2, 2, 2, 4, 5, 6, 1, 1, 1, 3, 3, 3]),
    (&[7], [2, 2, 2, 4, 5, 6, 1, 1, 1, 3, 3, 3]),
];

scenarios! {
    vxlan_flooding_list_surgery_under_traffic
    vxlan_flooding_list_surgery_under_traffic_ipv6
}

fn vxlan_flooding_list_surgery_under_traffic(carrier: Carrier) {
    surgery(carrier, false);
}

fn vxlan_flooding_list_surgery_under_traffic_ipv6(carrier: Carrier) {
    surgery(carrier, true);
}

fn vtep(ipv6: bool, number: u8) -> IpAddr {
    let text = if ipv6 {
        format!("2001:db8:9::{number}")
    } else {
        format!("198.51.100.{number}")
    };
    text.parse().expect("an address")
}

/// h1 ── br1 with vx1 (sw) ── r, behind which all VTEPs are said to be.
fn build(ipv6: bool) -> Net {
    let net = Net::new(&["h1", "sw", "r"], ipv6);
    net.cable(["h1", "eth0"], ["sw", "swp1"]);
    net.cable(["sw", "rp1"], ["r", "rp2"]);
    let [own, router, len, subnet] = if ipv6 {
        ["2001:db8:2::1", "2001:db8:2::2", "64", "2001:db8:9::/64"]
    } else {
        ["192.0.2.1", "192.0.2.2", "24", "198.51.100.0/24"]
    };
    net.script("r", &format!("ip addr add {router}/{len} dev rp2"));
    let mut lines = format!(
        "ip addr add {own}/{len} dev rp1
         ip route add {subnet} via {router}
         ip link add br1 type bridge mcast_snooping 0
         ip link set br1 address $(cat /sys/class/net/swp1/address) up
         ip link set swp1 master br1
         ip link add vx1 type vxlan id {VNI} local {own} dstport {PORT} nolearning noudpcsum ttl 20 tos inherit
         ip link set vx1 master br1 up
         ping -q -c 1 -W 5 {router}\n"
    );
    for (mac, number) in [(SENTINEL_MAC, SENTINEL_VTEP), (STEADY_MAC, STEADY_VTEP)] {
        let (mac, address) = (mac_text(mac), vtep(ipv6, number));
        lines += &format!("bridge fdb add {mac} dev vx1 dst {address} self permanent\n");
    }
    for number in REMOTES {
        let address = vtep(ipv6, number);
        lines += &format!("bridge fdb append 00:00:00:00:00:00 dev vx1 dst {address} self\n");
    }
    net.script("sw", &lines);
    wait_until("both ports forward", Duration::from_secs(20), || {
        net.ns("sw")
            .run("bridge link")
            .matches("state forwarding")
            .count()
            == 2
    });
    net
}

fn surgery(carrier: Carrier, ipv6: bool) {
    let net = build(ipv6);
    let carried = Carried::start(carrier, net.ns("sw"), &["vx1"]);
    wait_flood_list(&carried, REMOTES.count());
    let mac = net.mac("h1", "eth0");
    let hosts: [IpAddr; 2] = if ipv6 {
        ["2001:db8:1::1", "2001:db8:1::99"]
    } else {
        ["203.0.113.1", "203.0.113.99"]
    }
    .map(|text| text.parse().expect("an address"));
    let to = |to, mark: &Mark| ethernet_ip(to, mac, &probe(hosts, 0, mark));
    let sender = Sender::on(net.ns("h1"), "eth0");
    let steady = Sender::on(net.ns("h1"), "eth0");
    let mut router = Observer::on(net.ns("r"), "rp2");
    let done = AtomicBool::new(false);
    let steady_mark = crate::probe::fresh_mark();
    let (steady_sent, left) = thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut sent = 0_u64;
            while !done.load(Ordering::Acquire) {
                steady.send(to(STEADY_MAC, &steady_mark));
                sent += 1;
                thread::sleep(Duration::from_millis(1));
            }
            sent
        });
        // The traffic ends with the steps, whatever becomes of them.
        let _end = Ending(&done);
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        let mut left = REMOTES.count();
        for (number, (deleted, expected)) in STEPS.into_iter().enumerate() {
            for remote in deleted {
                net.ns("sw").run(&format!(
                    "bridge fdb del 00:00:00:00:00:00 dev vx1 dst {} self",
                    vtep(ipv6, *remote)
                ));
            }
            left -= deleted.len();
            wait_flood_list(&carried, left);
            let seen = play(
                &sender,
                &mut [&mut router],
                |mark| vec![to(UNKNOWN, mark)],
                |mark| to(SENTINEL_MAC, mark),
            );
            for frame in &seen[0] {
                let outer = Seen::of(frame).expect("an IP frame");
                assert_eq!(outer.vxlan(PORT).expect("VXLAN").0, VNI);
                assert!(!is_marked(frame, &steady_mark));
                *counts.entry(outer.addresses[1]).or_default() += 1;
            }
            let got: Vec<_> = REMOTES
                .map(|remote| counts.get(&vtep(ipv6, remote)).copied().unwrap_or(0))
                .collect();
            assert_eq!(got, expected, "after frame {}", number + 1);
            assert_eq!(
                counts.values().sum::<usize>(),
                expected.iter().sum::<usize>()
            );
        }
        done.store(true, Ordering::Release);
        (traffic.join().expect("the traffic"), left)
    });
    assert_eq!(left, 0);
    if let Some(vxgate) = carried.vxgate() {
        let status = vxgate.balanced();
        assert!(
            status.drops("access", "no_tx_target") >= 1,
            "the frame of the empty list has a fate: {}",
            status.0
        );
    }
    carried.finish(steady_sent + 6, 0);
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn wait_flood_list(carried: &Carried, len: usize) {
    carried.wait_status(&format!("{len} VTEPs in the flood list"), |status| {
        status
            .device("vx1")
            .is_some_and(|device| device["flood_entries"] == len)
    });
}
