//! What a switch must not let in: reserved header bits, and frames that its tunnel cannot have sent.

use crate::carrier::{Carrier, counter};
use crate::frame::{Mark, STRANGER, ten, vxlan};
use crate::hop::{Hop, Inner, VNI};

scenarios! {
    v02_d01_vxlan_reserved_39_bits
    v02_d01_vxlan_reserved_39_bits_ipv6
    v02_d01_vxlan_reserved_masks
    v11_devlink_trap_tunnel_vxlan
    v11_devlink_trap_tunnel_vxlan_ipv6
}

/// Bit 0 is the first bit of the header; 4 is the I flag, 32 to 55 are the VNI.
fn reserved_bits() -> Vec<u32> {
    (0..64)
        .filter(|bit| *bit != 4 && !(32..56).contains(bit))
        .collect()
}

fn header_with(bits: &[u32]) -> [u8; 8] {
    let mut header = u64::from_be_bytes(vxlan(VNI));
    for bit in bits {
        header |= 1 << (63 - bit);
    }
    header.to_be_bytes()
}

fn v02_d01_vxlan_reserved_39_bits(carrier: Carrier) {
    reserved_39_bits(carrier, false);
}

fn v02_d01_vxlan_reserved_39_bits_ipv6(carrier: Carrier) {
    reserved_39_bits(carrier, true);
}

fn reserved_39_bits(carrier: Carrier, ipv6: bool) {
    one_bit_each(Hop::up(carrier, ipv6), 0);
}

/// Devices with masks of their own: the usual one, and such that do not look at one bit.
fn v02_d01_vxlan_reserved_masks(carrier: Carrier) {
    const USUAL: u64 = 0xf7ff_ffff_0000_00ff;
    one_bit_each(Hop::with_reserved_bits(carrier, USUAL), 0);
    for bit in [0, 10, 31, 56, 63] {
        let mask = USUAL & !(1 << (63 - bit));
        one_bit_each(Hop::with_reserved_bits(carrier, mask), 1);
    }
}

/// Ten clean frames arrive; of 39 with one reserved bit each so many do, and the others are counted.
fn one_bit_each(mut hop: Hop, let_through: usize) {
    let inner = Inner::of(&hop);
    let around = |header: [u8; 8], mark: &Mark| [&header[..], &inner.from(STRANGER, mark)].concat();
    assert_eq!(
        hop.arrive(0, |mark| ten(|| around(vxlan(VNI), mark))),
        10,
        "clean frames"
    );
    let before = Counted::now(&hop, "reserved_bits");
    let bits = reserved_bits();
    assert_eq!(bits.len(), 39);
    let arrived = hop.arrive(0, |mark| {
        let frames = bits.iter().map(|bit| around(header_with(&[*bit]), mark));
        frames.collect()
    });
    assert_eq!(arrived, let_through, "one reserved bit each");
    before.assert_dropped(&hop, "reserved_bits", (39 - let_through) as u64);
    hop.carried.finish(0, 10 + let_through as u64);
}

fn v11_devlink_trap_tunnel_vxlan(carrier: Carrier) {
    traps(carrier, false);
}

fn v11_devlink_trap_tunnel_vxlan_ipv6(carrier: Carrier) {
    traps(carrier, true);
}

fn traps(carrier: Carrier, ipv6: bool) {
    const FRAMES: usize = 10;
    let mut hop = Hop::up(carrier, ipv6);
    let inner = Inner::of(&hop);
    let with =
        |header: [u8; 8], source, mark: &Mark| [&header[..], &inner.from(source, mark)].concat();

    // A switch that traps what RFC 6040 has doubts about sees three kinds; the kernel drops the last one only.
    for (tos, arriving) in [(1, FRAMES), (2, FRAMES), (3, 0)] {
        let before = Counted::now(&hop, "tunnel_ecn");
        let arrived = hop.arrive(tos, |mark| ten(|| with(vxlan(VNI), STRANGER, mark)));
        assert_eq!(arrived, arriving, "outer ECN {tos} around Not-ECT");
        before.assert_dropped(&hop, "tunnel_ecn", (FRAMES - arriving) as u64);
    }

    let before = Counted::now(&hop, "reserved_bits");
    let arrived = hop.arrive(0, |mark| ten(|| with(header_with(&[15]), STRANGER, mark)));
    assert_eq!(arrived, 0, "a reserved bit");
    before.assert_dropped(&hop, "reserved_bits", FRAMES as u64);

    // The kernel drops these before they are its device's: no counter of the device moves.
    for (len, reason) in [(0, "inner_short"), (13, "inner_short")] {
        let before = hop.carried.drops(reason);
        hop.arrive(0, |mark| {
            let whole = with(vxlan(VNI), STRANGER, mark);
            vec![whole[..8 + len].to_vec(); FRAMES]
        });
        if hop.carried.is_vxgate() {
            assert_eq!(
                hop.carried.drops(reason) - before,
                FRAMES as u64,
                "{len} bytes"
            );
        }
    }

    // The kernel's bridge drops what came from a group address, uncounted.
    let before = hop.carried.drops("invalid_source_mac");
    let group = [1, 2, 3, 4, 5, 6];
    let arrived = hop.arrive(0, |mark| ten(|| with(vxlan(VNI), group, mark)));
    assert_eq!(arrived, 0, "a group address as the source");
    if hop.carried.is_vxgate() {
        let counted = hop.carried.drops("invalid_source_mac") - before;
        assert_eq!(counted, FRAMES as u64);
    }
    hop.carried.finish(0, 2 * FRAMES as u64);
}

/// Drops that either carrier counts: the kernel on its device, `vxgate` under a reason.
struct Counted {
    errors: u64,
    drops: u64,
}

impl Counted {
    fn now(hop: &Hop, reason: &str) -> Self {
        Self {
            errors: counter(hop.net.ns("sw"), "vx1", "rx_errors"),
            drops: hop.carried.drops(reason),
        }
    }

    /// Exactly so many since, almost all of them by who carries (a busy core may leave some to the kernel).
    fn assert_dropped(&self, hop: &Hop, reason: &str, wanted: u64) {
        let now = Self::now(hop, reason);
        let (errors, drops) = (now.errors - self.errors, now.drops - self.drops);
        assert_eq!(errors + drops, wanted, "{reason}: {errors} + {drops}");
        if hop.carried.is_vxgate() {
            assert!(drops >= wanted / 2, "{reason}: {drops} dropped by vxgate");
        }
    }
}
