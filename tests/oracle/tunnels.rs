//! Tunnels of other kinds, around an inner frame that would be delivered (V12): the kernel's at both sites, whatever it makes of
//! them, and never decapsulated by `vxgate`.

use super::bytes::{IP, put16};
use super::compare::Fates;
use super::outer::{self, Family, Outer, plain_udp};
use super::rows::{cells, plain, plain_pair};
use super::setting::Segment;
use super::site::{self, Entry};
use super::support::end::Input;

/// Transparent Ethernet bridging, in network order.
const BRIDGING: [u8; 2] = [0x65, 0x58];
const ETHERNET_LEN: usize = 14;

/// The kernel gets it at both sites, and nothing of it comes out on the overlay.
fn is_the_kernels(family: Family, frame: Vec<u8>) {
    let mut pair = plain_pair(family).get();
    let before = pair.ours.status().passed("underlay", "not_ours");
    let Fates { kernel, ours } = pair.fates(Entry::Wire, &Input::from(frame));
    let after = pair.ours.status().passed("underlay", "not_ours");
    assert_eq!(kernel, ours);
    assert!(ours.overlay.is_empty(), "{ours:?}");
    // The answer to an IPv6 frame may ask for a neighbour first, whose word is not ours either.
    assert!(after > before, "passed as not_ours");
}

/// UDP to another port: this header in front of the inner frame.
fn over_udp(family: Family, port: u16, header: [u8; 8]) {
    let outer = Outer {
        destination_port: port,
        vxlan: header,
        ..Outer::to(&Segment::over(family))
    };
    is_the_kernels(family, outer.around(&plain()));
}

/// Another protocol over IP, and all that follows.
fn over_ip(family: Family, protocol: u8, payload: &[u8]) {
    let mut frame = Outer::to(&Segment::over(family)).around(&[]);
    frame.truncate(family.udp());
    frame.extend(payload);
    match family {
        Family::V4 => {
            let len = frame.len() - IP;
            put16(&mut frame, IP + 2, len as u16);
            frame[IP + 9] = protocol;
        }
        Family::V6 => {
            put16(&mut frame, IP + 4, payload.len() as u16);
            frame[IP + 6] = protocol;
        }
    }
    outer::finish_ip(&mut frame);
    assert_eq!(plain_udp(&frame), None);
    is_the_kernels(family, frame);
}

fn gre(family: Family) {
    let header = [&[0, 0][..], &BRIDGING].concat();
    over_ip(family, 47, &[&header[..], &plain()].concat());
}

/// A GRE header with a key, as NVGRE has it (RFC 7637 §3.2), which says our VNI.
fn nvgre(family: Family) {
    let key = (site::VNI << 8).to_be_bytes();
    let header = [&[0x20, 0][..], &BRIDGING, &key].concat();
    over_ip(family, 47, &[&header[..], &plain()].concat());
}

/// With our VNI (RFC 8926 §3.4).
fn geneve(family: Family) {
    let [_, high, middle, low] = site::VNI.to_be_bytes();
    let [b, c] = BRIDGING;
    over_udp(family, 6081, [0, 0, b, c, high, middle, low, 0]);
}

/// Our own VXLAN frame, one tunnel deeper.
fn nested(family: Family, protocol: u8) {
    let inside = match protocol {
        4 => Family::V4,
        _ => Family::V6,
    };
    let frame = Outer::to(&Segment::over(inside)).around(&plain());
    over_ip(family, protocol, &frame[ETHERNET_LEN..]);
}

macro_rules! table {
    ($($module:ident $family:expr;)*) => {
        $(mod $module {
            use super::*;

            cells! {
                v12_gre gre($family);
                v12_nvgre nvgre($family);
                v12_geneve geneve($family);
                v12_gue over_udp($family, 6080, [0, 47, 0, 0, 0, 0, 0x65, 0x58]);
                v12_vxlan_gpe over_udp($family, 4790, [0x0c, 0, 0, 3, 0, 3, 0xe8, 0]);
                v12_vxlan_on_the_port_beside over_udp($family, site::PORT + 1, outer::vxlan_header(site::VNI));
                v12_ipv4_in_ip nested($family, 4);
                v12_ipv6_in_ip nested($family, 41);
                v12_esp over_ip($family, 50, &[&[0, 0, 0, 1, 0, 0, 0, 1][..], &plain()].concat());
            }
        })*
    };
}

table! {
    over_ipv4 Family::V4;
    over_ipv6 Family::V6;
}
