//! Descriptions of frames, on the state of a node.

use etherparse::{EtherType, NetSlice, SlicedPacket, TransportSlice};

use super::{InputError, describe};
use crate::state::State;
use crate::trace::{At, Fate, Tracer};

fn state() -> State {
    State::parse(include_bytes!("../../../tests/fuzz/corpus/state/node.json")).unwrap()
}

const UNDERLAY: At = At::Underlay(0);
const ACCESS: At = At::Access(0);

fn bytes(at: At, text: &str) -> Vec<u8> {
    describe(&state(), at, text).unwrap().bytes
}

#[test]
fn what_is_not_said_is_as_in_a_frame_that_gets_through() {
    let mut tracer = Tracer::new(state()).unwrap();
    for at in [UNDERLAY, ACCESS] {
        for text in [
            "",
            "proto=tcp dport=443",
            "proto=udp",
            "src=fd00::5",
            "dst=fd00::5 proto=tcp",
            "proto=47",
            "vlan=10 vlan=20",
            "len=1400",
        ] {
            let frame = bytes(at, text);
            let outcome = tracer.judge(at, &frame, 0);
            assert_eq!(outcome.fate, Fate::Forward, "{at:?} {text:?}");
        }
    }
}

#[test]
fn what_is_said_is_in_the_frame() {
    let text = "src=10.244.1.5 dst=10.244.3.7 proto=tcp sport=1234 dport=80 ttl=7 ecn=ect0 df=yes len=200 \
                smac=02:00:00:00:00:aa dmac=02:00:00:00:00:bb";
    let frame = bytes(ACCESS, text);
    assert_eq!(frame.len(), 200);
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &packet.net else {
        panic!("{packet:?}");
    };
    let header = ip.header();
    assert_eq!(header.source(), [10, 244, 1, 5]);
    assert_eq!(header.destination(), [10, 244, 3, 7]);
    assert_eq!((header.ttl(), header.ecn().value()), (7, 2));
    assert!(header.dont_fragment());
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else {
        panic!("{packet:?}");
    };
    assert_eq!((tcp.source_port(), tcp.destination_port()), (1234, 80));
    assert_eq!(frame[..12], [2, 0, 0, 0, 0, 0xbb, 2, 0, 0, 0, 0, 0xaa]);

    let text = "outer-src=10.0.0.12 outer-ttl=9 outer-ecn=ce outer-sport=5 vni=77 flags=0x88 outer-csum=yes proto=arp";
    let frame = bytes(UNDERLAY, text);
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &packet.net else {
        panic!("{packet:?}");
    };
    let header = ip.header();
    assert_eq!(header.source(), [10, 0, 0, 12]);
    assert_eq!((header.ttl(), header.ecn().value()), (9, 3));
    let Some(TransportSlice::Udp(udp)) = &packet.transport else {
        panic!("{packet:?}");
    };
    assert_eq!((udp.source_port(), udp.destination_port()), (5, 8472));
    assert!(udp.checksum() != 0);
    assert_eq!(udp.payload()[..8], [0x88, 0, 0, 0, 0, 0, 77, 0]);
    let inner = SlicedPacket::from_ethernet(&udp.payload()[8..]).unwrap();
    let Some(etherparse::LinkSlice::Ethernet2(ethernet)) = &inner.link else {
        panic!("{inner:?}");
    };
    assert_eq!(ethernet.ether_type(), EtherType::ARP);
}

#[test]
fn an_arp_request_is_padded_to_its_length() {
    let bare = bytes(ACCESS, "proto=arp");
    assert_eq!(bare.len(), 14 + 28);
    assert_eq!(bytes(ACCESS, "proto=arp len=42"), bare);
    let padded = bytes(ACCESS, "proto=arp len=60");
    assert_eq!(padded, [&bare[..], &[0; 18]].concat());
}

#[test]
fn a_station_behind_a_vtep_is_found_by_the_vteps_address() {
    let frame = bytes(ACCESS, "to=10.0.0.12");
    assert_eq!(frame[..6], [0x0e, 0x24, 0x40, 0, 2, 0]);
    let frame = bytes(UNDERLAY, "outer-src=10.0.0.12");
    assert_eq!(frame[56..62], [0x0e, 0x24, 0x40, 0, 2, 0]);
    assert_eq!(describe(&state(), ACCESS, "mark=0x10").unwrap().mark, 16);
}

#[test]
fn what_cannot_be_is_named() {
    let words = |at, text: &str| match describe(&state(), at, text) {
        Err(InputError::Description(why)) => why,
        other => panic!("{text}: {other:?}"),
    };
    for (at, text, why) in [
        (
            ACCESS,
            "scr=10.0.0.1",
            "scr: no such key; did you mean src?",
        ),
        (
            ACCESS,
            "colour=red",
            "colour: no such key; there is src, dst",
        ),
        (ACCESS, "src", "\"src\" is not KEY=VALUE"),
        (ACCESS, "src=10.0.0.256", "src=10.0.0.256: invalid IP"),
        (ACCESS, "src=10.0.0.1 dst=fd00::1", "are of two families"),
        (ACCESS, "src=10.0.0.1 src=10.0.0.1", "src is there twice"),
        (ACCESS, "vni=1", "has no outer headers yet"),
        (ACCESS, "outer-ttl=1", "has no outer headers yet"),
        (ACCESS, "to=10.9.9.9", "no FDB entry leads to this VTEP"),
        (ACCESS, "proto=gre", "proto=gre: tcp, udp"),
        (ACCESS, "proto=arp src=fd00::1 dst=fd00::2", "only of IPv4"),
        (ACCESS, "proto=arp len=41", "len=41 has no room"),
        (ACCESS, "proto=arp ttl=3", "ttl: proto=arp has no IP header"),
        (ACCESS, "src=fd00::1 df=no", "df: an IPv6 header has no"),
        (ACCESS, "sport=9", "sport: only proto=tcp and proto=udp"),
        (ACCESS, "len=20", "has no room for the headers"),
        (ACCESS, "len=99999999", "is too long"),
        (ACCESS, "ttl=256", "ttl=256 is no number that it could be"),
        (ACCESS, "ecn=7", "ecn=7: not-ect"),
        (ACCESS, "df=maybe", "df=maybe: yes or no"),
        (ACCESS, "vlan=4096", "vlan=4096: 0 to 4095"),
        (ACCESS, "smac=1:2:3:4:5:6", "is no Ethernet address"),
        (UNDERLAY, "to=10.0.0.11", "outer-src says from where"),
        (UNDERLAY, "vni=16777216", "at most 16777215"),
        (UNDERLAY, "outer-src=fd00::1", "are of two families"),
        (UNDERLAY, "flags=0x100", "flags=0x100 is no number"),
    ] {
        let said = words(at, text);
        assert!(said.contains(why), "{text}: {said}");
    }
}
