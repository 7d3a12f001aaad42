use super::super::engine::Tag;
use super::super::range::Mac;
use super::super::signature::{self, Signature};
use super::*;
use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, TsResolution};
use proptest::prelude::*;
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

const PLAIN: Rewrite = Rewrite {
    source_mac: None,
    destination_mac: None,
    arrival_mac: None,
    vxlan_port: 8472,
};

fn udp(payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let mut bytes = Vec::new();
    ethernet
        .ipv4([198, 18, 0, 1], [198, 19, 0, 1], 7)
        .udp(1000, 53)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

fn tcp6(payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let mut bytes = Vec::new();
    ethernet
        .ipv6(ip6(1), ip6(2), 9)
        .tcp(1000, 443, 7, 1024)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

fn ip6(last: u8) -> [u8; 16] {
    [0x20, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

fn in_vxlan6(inner: &[u8]) -> Vec<u8> {
    let payload = [&[8, 0, 0, 0, 0, 0, 5, 0], inner].concat();
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 4])
        .ipv6(ip6(3), ip6(4), 9)
        .udp(50_000, 8472)
        .write(&mut bytes, &payload)
        .unwrap();
    bytes
}

fn judged(bytes: &[u8]) -> Result<Recorded, LeftOut> {
    Recorded::new(bytes, bytes.len() as u32, &PLAIN)
}

/// A frame of that time.
pub fn frame_at(at_ns: u64) -> Recorded {
    let mut frame = judged(&udp(&[7; 20])).unwrap();
    frame.at_ns = at_ns;
    frame
}

fn tag() -> Tag {
    Tag {
        stream: 3,
        sequence: 77,
        intended_ns: 0x1234_5678_9abc,
    }
}

fn sent(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xee; bytes.len() + 3];
    let len = judged(bytes).unwrap().write(tag(), &mut frame).unwrap();
    frame.truncate(len);
    frame
}

#[test]
fn a_device_without_an_end_is_too_long() {
    let error = Recording::read(Path::new("/dev/zero"), &PLAIN).unwrap_err();
    assert!(error.to_string().contains("longer than 256 MiB"), "{error}");
}

/// All but the signature and the checksums over it stays; etherparse, whose hand wrote the frame, writes the same one with the
/// signature as its payload's end.
#[test]
fn only_the_end_of_the_payload_and_the_checksums_change() {
    for len in [16, 17, 40, 41, 1000] {
        let payload: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
        for build in [udp as fn(&[u8]) -> Vec<u8>, tcp6] {
            let plain = build(&payload);
            let frame = sent(&plain);
            let mark = Signature::parse(frame.last_chunk().unwrap()).unwrap();
            assert_eq!((mark.stream, mark.sequence), (3, 77));
            assert_eq!(mark.intended_ns, 0x1234_5678_9abc);
            let signed = [&payload[..len - signature::LEN], &mark.to_bytes()[..]].concat();
            assert_eq!(frame, build(&signed), "{len}");
            let frame = sent(&in_vxlan6(&plain));
            assert_eq!(frame, in_vxlan6(&build(&signed)), "{len}, encapsulated");
        }
    }
}

#[test]
fn checksums_that_a_card_was_to_fill_in_are_right() {
    let payload = [5; 30];
    let mut broken = udp(&payload);
    (broken[24], broken[25]) = (0xde, 0xad);
    (broken[40], broken[41]) = (0xbe, 0xef);
    assert_eq!(sent(&broken), sent(&udp(&payload)));
}

/// Without a checksum of the inner UDP header, the outer one must take in the signature.
#[test]
fn an_inner_packet_without_checksum_keeps_none() {
    let mut inner = udp(&[5; 31]);
    (inner[40], inner[41]) = (0, 0);
    let frame = sent(&inner);
    assert_eq!(frame[40..42], [0, 0]);
    let encapsulated = sent(&in_vxlan6(&inner));
    let mark: &[u8; 16] = encapsulated.last_chunk().unwrap();
    let mut signed = udp(&[&[5; 15][..], mark].concat());
    (signed[40], signed[41]) = (0, 0);
    assert_eq!(encapsulated, in_vxlan6(&signed));
}

#[test]
fn padding_stays_behind_the_signature() {
    let plain = udp(&[1; 16]);
    let padded = [plain.as_slice(), &[0xaa; 4]].concat();
    let frame = sent(&padded);
    assert_eq!(frame[..plain.len()], sent(&plain));
    assert_eq!(frame[plain.len()..], [0xaa; 4]);
}

#[test]
fn addresses_are_rewritten_outside_and_named_all() {
    let rewrite = Rewrite {
        source_mac: Some(Mac([2, 9, 9, 9, 9, 1])),
        destination_mac: Some(Mac([2, 9, 9, 9, 9, 2])),
        ..PLAIN
    };
    let bytes = in_vxlan6(&udp(&[1; 16]));
    let frame = Recorded::new(&bytes, bytes.len() as u32, &rewrite).unwrap();
    let mut written = vec![0; frame.len()];
    frame.write(tag(), &mut written).unwrap();
    assert_eq!(written[..12], [2, 9, 9, 9, 9, 2, 2, 9, 9, 9, 9, 1]);
    assert_eq!(written[70..82], bytes[70..82], "inner addresses stay");
    let addresses: Vec<_> = ["2001:2::3", "2001:2::4", "198.18.0.1", "198.19.0.1"]
        .map(|addr| addr.parse::<IpAddr>().unwrap())
        .to_vec();
    assert_eq!(frame.addresses(8472), addresses);
    assert_eq!(frame.addresses(4789), addresses[..2]);
}

/// As if it had been recorded with that destination.
#[test]
fn the_check_is_of_the_destination_of_arrival() {
    let mac = [2, 9, 9, 9, 9, 9];
    let rewrite = Rewrite {
        arrival_mac: Some(Mac(mac)),
        ..PLAIN
    };
    let mut bytes = udp(&[1; 16]);
    let mut written = vec![0; bytes.len()];
    let frame = Recorded::new(&bytes, bytes.len() as u32, &rewrite).unwrap();
    frame.write(tag(), &mut written).unwrap();
    assert_eq!(written[..6], bytes[..6]);
    bytes[..6].copy_from_slice(&mac);
    written[..6].copy_from_slice(&mac);
    assert_eq!(written, sent(&bytes));
}

#[test]
fn what_cannot_carry_a_signature_is_left_out_for_its_reason() {
    let good = udp(&[0; 16]);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        judged(&bytes).unwrap_err()
    };
    assert_eq!(judged(&udp(&[0; 15])).unwrap_err(), LeftOut::Short);
    assert_eq!(judged(&tcp6(&[])).unwrap_err(), LeftOut::Short);
    assert_eq!(with(12, 0x81), LeftOut::NotIp);
    assert_eq!(with(14, 0x46), LeftOut::Options);
    assert_eq!(with(20, 0x20), LeftOut::Fragment);
    assert_eq!(with(23, 47), LeftOut::Protocol);
    assert_eq!(with(17, 200), LeftOut::Lengths);
    assert_eq!(with(39, 3), LeftOut::Lengths);
    let cut = Recorded::new(&good, good.len() as u32 + 1, &PLAIN);
    assert_eq!(cut.unwrap_err(), LeftOut::Truncated);
    assert_eq!(judged(&udp(&[0; 9300])).unwrap_err(), LeftOut::Long);
    assert_eq!(judged(&in_vxlan6(&[0; 60])).unwrap_err(), LeftOut::NotIp);
}

fn pcap(frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let header = PcapHeader {
        datalink: DataLink::ETHERNET,
        ts_resolution: TsResolution::NanoSecond,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for (at_ns, bytes) in frames {
        let packet = PcapPacket::new(Duration::from_nanos(*at_ns), bytes.len() as u32, bytes);
        writer.write_packet(&packet).unwrap();
    }
    writer.into_writer()
}

/// Microseconds, which a pcapng file counts in unless it says otherwise; or what the option says.
fn pcapng(frames: &[(u64, Vec<u8>)], resolution: Option<u8>) -> Vec<u8> {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    let options = resolution.map(InterfaceDescriptionOption::IfTsResol);
    let interface = InterfaceDescriptionBlock {
        linktype: DataLink::ETHERNET,
        snaplen: 0,
        options: options.into_iter().collect(),
    };
    writer.write_pcapng_block(interface).unwrap();
    for (units, bytes) in frames {
        let packet = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(*units),
            original_len: bytes.len() as u32,
            data: Cow::Borrowed(bytes),
            options: Vec::new(),
        };
        writer.write_pcapng_block(packet).unwrap();
    }
    writer.into_inner()
}

fn three(unit: u64) -> Vec<(u64, Vec<u8>)> {
    [1_000, 1_500, 3_000]
        .map(|at| (at * unit, udp(&[at as u8; 40])))
        .to_vec()
}

#[test]
fn both_kinds_of_file_are_read_with_their_times() {
    let files = [
        pcap(&three(1_000)),
        pcapng(&three(1), None),
        pcapng(&three(1_000), Some(9)),
    ];
    for bytes in files {
        let (recording, read) = Recording::parse(&bytes, &PLAIN).unwrap();
        assert_eq!(read, 3);
        let times: Vec<_> = recording.frames.iter().map(|frame| frame.at_ns).collect();
        assert_eq!(times, [0, 500_000, 2_000_000]);
        assert_eq!(recording.rate_fps().unwrap(), 1000.0);
        assert_eq!((recording.len_max(), recording.mean_size()), (82, 86.0));
        assert!(recording.left_out.is_empty());
    }
}

#[test]
fn times_that_go_back_stand_still() {
    let mut frames = three(1_000);
    frames.swap(0, 1);
    let (recording, _) = Recording::parse(&pcap(&frames), &PLAIN).unwrap();
    let times: Vec<_> = recording.frames.iter().map(|frame| frame.at_ns).collect();
    assert_eq!(times, [0, 0, 1_500_000]);
}

#[test]
fn a_damaged_file_is_said_with_the_frame_behind_which_it_is() {
    let wrong = |bytes: &[u8]| Recording::parse(bytes, &PLAIN).unwrap_err();
    let whole = pcap(&three(1));
    let words = wrong(&whole[..whole.len() - 1]);
    assert_eq!(words, "cut off behind frame 2");
    assert_eq!(wrong(b"#!/bin/sh"), "neither a pcap nor a pcapng file");
    assert_eq!(wrong(b""), "neither a pcap nor a pcapng file");
    let whole = pcapng(&three(1), None);
    assert_eq!(wrong(&whole[..whole.len() - 1]), "cut off behind frame 2");
    let mut raw = pcap(&three(1));
    raw[20] = 101;
    assert!(
        wrong(&raw).contains("only recordings of Ethernet"),
        "{}",
        wrong(&raw)
    );
}

#[test]
fn reasons_are_counted() {
    let frames = [udp(&[1; 3]), udp(&[1; 30]), udp(&[1; 4]), vec![0; 60]];
    let frames: Vec<_> = frames.into_iter().map(|bytes| (0, bytes)).collect();
    let (recording, read) = Recording::parse(&pcap(&frames), &PLAIN).unwrap();
    assert_eq!((recording.frames.len(), read), (1, 4));
    assert_eq!(
        Reasons(&recording.left_out).to_string(),
        "2 with less than 16 bytes of payload, no room for a signature, 1 neither IPv4 nor IPv6, or with a VLAN tag"
    );
    assert!(matches!(
        recording.rate_fps(),
        Err(RecordingError::NoTiming)
    ));
}

proptest! {
    #[test]
    fn no_file_is_too_strange(
        ng in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut bytes = if ng { pcapng(&three(1), Some(9)) } else { pcap(&three(1)) };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = Recording::parse(&bytes, &PLAIN);
        bytes.truncate(cut.index(bytes.len()));
        let _ = Recording::parse(&bytes, &PLAIN);
    }

    #[test]
    fn no_frame_is_too_strange(
        kind in 0..3_usize,
        len in 0..80_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let payload = vec![7; len];
        let mut bytes = [udp(&payload), tcp6(&payload), in_vxlan6(&udp(&payload))][kind].clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(frame) = judged(&bytes) {
            let mut written = vec![0; bytes.len()];
            prop_assert_eq!(frame.write(tag(), &mut written), Some(bytes.len()));
            prop_assert!(!frame.addresses(8472).is_empty());
        }
    }
}
