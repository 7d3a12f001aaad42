//! A device with a multicast group, by hand (V10, V12): what arrives for it, and where the node floods to.

use std::net::IpAddr;
use std::sync::Mutex;

use super::bytes::{ETHER_ARP, Inner, arp};
use super::compare::{Fates, Pair};
use super::outer::{Family, Outer, vxlan_header};
use super::rows::{Fate, Shared, arrives_at, cells, plain};
use super::setting::{Segment, Setting};
use super::site::{self, Entry};
use super::support::end::Input;

/// By family.
static PAIRS: [Shared; 2] = [
    Shared::new(|| Mutex::new(Pair::new(Setting::with("group 239.9.9.9")))),
    Shared::new(|| Mutex::new(Pair::new(Setting::with6("group ff05::99")))),
];

struct Group {
    ours: IpAddr,
    /// Another one with the same Ethernet address.
    other: IpAddr,
    mac: [u8; 6],
}

fn group(family: Family) -> Group {
    let addr = |text: &str| text.parse().expect("an address");
    match family {
        Family::V4 => Group {
            ours: addr("239.9.9.9"),
            other: addr("238.9.9.9"),
            mac: [1, 0, 0x5e, 9, 9, 9],
        },
        Family::V6 => Group {
            ours: addr("ff05::99"),
            other: addr("ff05::1:0:99"),
            mac: [0x33, 0x33, 0, 0, 0, 0x99],
        },
    }
}

fn to_group(family: Family) -> Outer {
    let Group { ours, mac, .. } = group(family);
    Outer {
        destination: ours,
        destination_mac: mac,
        ..Outer::to(&Segment::over(family))
    }
}

fn arrives(family: Family, outer: &Outer, fate: Fate) {
    arrives_at(&PAIRS[family as usize], outer.around(&plain()), fate);
}

fn good(family: Family) {
    arrives(family, &to_group(family), Fate::Delivered(plain()));
}

fn to_our_own_address(family: Family) {
    let outer = Outer::to(&Segment::over(family));
    arrives(family, &outer, Fate::Delivered(plain()));
}

fn to_another_group(family: Family) {
    let outer = Outer {
        destination: group(family).other,
        ..to_group(family)
    };
    arrives(family, &outer, Fate::Passed("not_ours"));
}

fn of_a_stranger(family: Family) {
    let outer = Outer {
        source: match family {
            Family::V4 => [10, 99, 0, 77].into(),
            Family::V6 => site::ipv6(0x99, 77).into(),
        },
        ..to_group(family)
    };
    arrives(family, &outer, Fate::DroppedByUs("unknown_peer"));
}

fn of_a_foreign_vni(family: Family) {
    let outer = Outer {
        vxlan: vxlan_header(site::VNI + 1),
        ..to_group(family)
    };
    arrives(family, &outer, Fate::Passed("foreign_vni"));
}

fn with_a_reserved_bit(family: Family) {
    let mut outer = to_group(family);
    outer.vxlan[7] = 1;
    arrives(family, &outer, Fate::Dropped("reserved_bits"));
}

/// A flood goes to the group, by its Ethernet address and no further than the link, and to the VTEPs of the all-zero entries.
fn flood(family: Family) {
    let mut frame = Inner::with(ETHER_ARP, arp()).outbound().bytes();
    frame[..6].fill(0xff);
    let mut pair = PAIRS[family as usize].get();
    let Fates { kernel, ours } = pair.fates(Entry::Bridge, &Input::from(frame));
    let Group {
        ours: addr, mac, ..
    } = group(family);
    for output in [kernel, ours] {
        assert_eq!(output.wire.len(), 3, "{output:?}");
        let mut to_group = output.wire.iter().filter(|frame| frame[..6] == mac);
        let frame = to_group.next().expect("a copy to the group");
        assert_eq!(to_group.next(), None);
        let addresses = family.addresses(frame);
        match addr {
            IpAddr::V4(addr) => assert_eq!(addresses[4..], addr.octets()),
            IpAddr::V6(addr) => assert_eq!(addresses[16..], addr.octets()),
        }
        let (_, ttl) = super::outer::class_and_ttl(frame, family);
        assert_eq!(ttl, 1);
    }
}

macro_rules! table {
    ($($module:ident $family:expr;)*) => {
        $(mod $module {
            use super::*;

            cells! {
                v12_to_our_group good($family);
                v12_to_our_own_address to_our_own_address($family);
                v12_to_another_group to_another_group($family);
                v12_to_our_group_from_a_stranger of_a_stranger($family);
                v12_to_our_group_with_a_foreign_vni of_a_foreign_vni($family);
                v02_to_our_group_with_a_reserved_bit with_a_reserved_bit($family);
                v10_a_flood_goes_to_the_group_and_to_the_list flood($family);
            }
        })*
    };
}

table! {
    over_ipv4 Family::V4;
    over_ipv6 Family::V6;
}
