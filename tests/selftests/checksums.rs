//! Outer UDP checksums: sent as the device says, and judged when received.

use crate::carrier::Carrier;
use crate::frame::{BROADCAST, Mark, STRANGER, ethernet_ip, probe, ten, udp, vxlan};
use crate::hop::{Hop, Inner, VNI};

scenarios! {
    d07_u01_checksums_are_sent_as_the_device_says
    d08_received_checksums_that_are_wrong
}

/// Where the outer UDP checksum is, over IPv4 and IPv6.
fn field(ipv6: bool) -> std::ops::Range<usize> {
    if ipv6 { 60..62 } else { 40..42 }
}

fn d07_u01_checksums_are_sent_as_the_device_says(carrier: Carrier) {
    for (ipv6, attributes, computed) in [
        (false, "nolearning noudpcsum", false),
        (false, "nolearning udpcsum", true),
        (true, "nolearning", true),
        (true, "nolearning udp6zerocsumtx", false),
    ] {
        let mut hop = Hop::with(carrier, ipv6, attributes, &[]);
        // The kernel leaves the sum to the device, and a veth leaves it to nobody.
        hop.net.script("sw", "ethtool -K rp1 tx off >/dev/null");
        let ([there, here], mac) = (hop.hosts(), hop.host_mac());
        let inner = |mark: &Mark| ethernet_ip(BROADCAST, mac, &probe([here, there], 0, mark));
        let frames = hop.depart(|mark| vec![inner(mark); 10]);
        assert_eq!(frames.len(), 10);
        let ([router, switch], field) = (hop.vteps(), field(ipv6));
        for frame in frames {
            let seen = crate::frame::Seen::of(&frame).expect("an IP frame");
            let again = udp(
                [switch, router],
                seen.tos,
                seen.ports.expect("UDP"),
                &seen.payload,
            );
            let right = &again[field.start - 14..field.end - 14];
            let expected = if computed { right } else { &[0, 0] };
            assert_eq!(&frame[field.clone()], expected, "{attributes}");
        }
        hop.carried.finish(10, 0);
    }
}

/// Over either family a wrong checksum is dropped and counted; over IPv4 none at all is as good as a right one.
fn d08_received_checksums_that_are_wrong(carrier: Carrier) {
    for ipv6 in [false, true] {
        // Virtual underlays are not looked at otherwise: their sums may be unfinished.
        let verify = ["--udp-checksum-rx", "verify"];
        let mut hop = Hop::with(carrier, ipv6, "nolearning", &verify);
        let (vteps, inner, field) = (hop.vteps(), Inner::of(&hop), field(ipv6));
        let mut arrive = |change: &dyn Fn(&mut [u8])| {
            hop.arrive_changed(
                vteps,
                0,
                |mark| ten(|| [&vxlan(VNI)[..], &inner.from(STRANGER, mark)].concat()),
                |mut frame| {
                    change(&mut frame[field.clone()]);
                    frame
                },
            )
        };
        assert_eq!(arrive(&|_| {}), 10, "right");
        let none = arrive(&|sum| sum.fill(0));
        assert_eq!(none, if ipv6 { 0 } else { 10 }, "none");
        assert_eq!(arrive(&|sum| sum[1] ^= 1), 0, "wrong");
        let reasons = ["outer_csum", "zero_csum6"].map(|reason| hop.carried.drops(reason));
        if hop.carried.is_vxgate() {
            assert_eq!(reasons, [10, if ipv6 { 10 } else { 0 }]);
        }
        hop.carried.finish(0, if ipv6 { 10 } else { 20 });
    }
}

/// RFC 6936 §5 is stricter than the kernel: what comes without a checksum is believed from known VTEPs only, even where
/// anybody else may send.
#[test]
fn u03_without_a_checksum_only_known_vteps_are_believed() {
    for (carrier, expected) in [
        (Carrier::Kernel, [10; 4]),
        (Carrier::Vxgate, [10, 10, 10, 0]),
    ] {
        let anybody = ["--peer-check", "off"];
        let mut hop = Hop::with(carrier, true, "nolearning udp6zerocsumrx", &anybody);
        let (inner, [router, switch]) = (Inner::of(&hop), hop.vteps());
        let stranger = "2001:db8:2::66".parse().expect("an address");
        let mut counts = Vec::new();
        for source in [router, stranger] {
            for zero in [false, true] {
                counts.push(hop.arrive_changed(
                    [source, switch],
                    0,
                    |mark| ten(|| [&vxlan(VNI)[..], &inner.from(STRANGER, mark)].concat()),
                    |mut frame| {
                        if zero {
                            frame[field(true)].fill(0);
                        }
                        frame
                    },
                ));
            }
        }
        assert_eq!(counts, expected, "{carrier:?}");
        if hop.carried.is_vxgate() {
            assert_eq!(hop.carried.drops("unknown_peer"), 10);
        }
        hop.carried.finish(0, 30);
    }
}
