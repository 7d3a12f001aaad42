//! Recordings that are sent again, as people ask for it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use etherparse::{PacketBuilder, PacketBuilderStep};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, TsResolution};
use tempfile::TempDir;

use crate::frames::{TUNNELLED, frame};
use crate::run::{measured, number, refused};
use crate::traffic::check_whole;
use crate::wire::Wire;

type Ip = PacketBuilderStep<etherparse::IpHeaders>;

fn ip(last: u8) -> Ip {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv4(
        [198, 18, 0, last],
        [198, 19, 0, 1],
        64,
    )
}

fn udp(last: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    ip(last).udp(4000, 53).write(&mut bytes, payload).unwrap();
    bytes
}

/// What a capture has: requests, a TCP segment, a bare ACK, an echo, frames of an overlay, ARP.
fn frames() -> Vec<Vec<u8>> {
    let mut frames: Vec<_> = (1..=5).map(|last| udp(last, &[last; 33])).collect();
    let (mut segment, mut ack, mut echo) = (Vec::new(), Vec::new(), Vec::new());
    ip(6)
        .tcp(4000, 443, 7, 1024)
        .write(&mut segment, &[9; 700])
        .unwrap();
    ip(6).tcp(4000, 443, 8, 1024).write(&mut ack, &[]).unwrap();
    ip(7)
        .icmpv4_echo_request(1, 2)
        .write(&mut echo, &[8; 56])
        .unwrap();
    frames.extend([segment, ack, echo]);
    frames.extend([80, 101, 1500].map(|more| frame(TUNNELLED, 9, 1, 2, 110 + more)));
    let mut arp = vec![0xff; 60];
    (arp[12], arp[13]) = (0x08, 0x06);
    frames.push(arp);
    frames
}

/// Writes them to a file, a millisecond apart.
fn record(frames: &[Vec<u8>]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.pcap");
    let header = PcapHeader {
        datalink: DataLink::ETHERNET,
        ts_resolution: TsResolution::NanoSecond,
        ..PcapHeader::default()
    };
    let file = fs::File::create(&path).unwrap();
    let mut writer = PcapWriter::with_header(file, header).unwrap();
    for (number, bytes) in frames.iter().enumerate() {
        let at = Duration::from_millis(1_000 + number as u64);
        let packet = PcapPacket::new(at, bytes.len() as u32, bytes);
        writer.write_packet(&packet).unwrap();
    }
    (folder, path)
}

#[test]
fn a_recording_arrives_whole_at_its_speed_or_another() {
    let wire = Wire::new("recorded");
    let (_folder, path) = record(&frames());
    let pcap = format!("--pcap {}", path.display());
    // The bare ACK and the ARP frame are left out, the latter from the end: 10 frames in 10 ms are left.
    let document = measured(&wire, &format!("{pcap} --rate 1x --duration 0.3"));
    assert_eq!(document["trials"][0]["asked_fps"], 900.0);
    check_whole(&document, 270);
    assert_eq!(document["engine"], "afxdp");
    let why = document["engine_reason"].as_str().unwrap();
    assert!(
        why.contains("live frames carry no recorded payloads"),
        "{why}"
    );
    let recording = &document["recording"];
    assert_eq!(recording["timing"], "original");
    assert_eq!(number(&recording["frames"]), 10);
    let left_out = recording["left_out"].as_array().unwrap();
    let left_out: Vec<_> = left_out.iter().map(|reason| number(&reason[1])).collect();
    assert_eq!(left_out, [1, 1]);

    let flags = format!("{pcap} --pcap-timing even --rate 5k --duration 0.1");
    check_whole(&measured(&wire, &flags), 500);
    let flags = format!("{pcap} --rate 3x --duration 0.1 --pcap-dst-mac 02:00:00:00:00:99");
    check_whole(&measured(&wire, &flags), 270);
    // By etherparse's reading of every byte, nothing is wrong with any header or checksum either.
    let flags = format!("{pcap} --receiver afxdp --rate 2k --duration 0.1");
    let document = measured(&wire, &flags);
    check_whole(&document, 200);
    for (finding, frames) in document["trials"][0]["inspection"].as_object().unwrap() {
        let expected = if finding == "inspected" { 1 } else { 0 };
        assert_eq!(number(frames).min(1), expected, "{finding}: {document}");
    }
    // One frame has no times, and needs none.
    let (_folder, one) = record(&[udp(1, &[1; 20])]);
    let flags = format!("--pcap {} --rate 1k --duration 0.1", one.display());
    check_whole(&measured(&wire, &flags), 100);
}

#[test]
fn a_recording_that_cannot_be_sent_is_said() {
    let wire = Wire::new("unrecorded");
    let (_folder, path) = record(&frames());
    let pcap = format!("--pcap {}", path.display());
    for (flags, code, words) in [
        ("--engine live", 78, "--engine afxdp"),
        ("--flows 3", 2, "cannot be used with"),
        ("--burst 3", 2, "cannot be used with"),
        ("--profile x.toml", 2, "cannot be used with"),
    ] {
        let (found, said) = refused(&wire, &format!("{pcap} {flags}"));
        assert_eq!(found, Some(code), "{flags}: {said}");
        assert!(said.contains(words), "{flags}: {said}");
    }
    let (code, said) = refused(&wire, "--rate 1x");
    assert_eq!(
        (code, said.contains("--pcap FILE")),
        (Some(78), true),
        "{said}"
    );
    let (code, said) = refused(&wire, "--pcap /nowhere.pcap");
    assert_eq!(
        (code, said.contains("/nowhere.pcap")),
        (Some(78), true),
        "{said}"
    );

    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 7]).unwrap();
    let (code, said) = refused(&wire, &pcap);
    assert_eq!(code, Some(78));
    assert!(said.contains("web.pcap: cut off behind frame 11"), "{said}");

    let mut stranger = udp(1, &[1; 20]);
    stranger[30..34].copy_from_slice(&[8, 8, 8, 8]);
    let (_folder, path) = record(&[udp(1, &[1; 20]), stranger]);
    let pcap = format!("--pcap {} --rate 1k --duration 0.02", path.display());
    let (code, said) = refused(&wire, &pcap);
    assert_eq!(code, Some(78));
    assert!(
        said.contains("8.8.8.8") && said.contains("--i-know-this-network"),
        "{said}"
    );
    check_whole(
        &measured(&wire, &format!("{pcap} --i-know-this-network")),
        20,
    );

    let (_folder, path) = record(&[udp(1, &[1; 3])]);
    let (code, said) = refused(&wire, &format!("--pcap {}", path.display()));
    assert_eq!(code, Some(78));
    assert!(
        said.contains("none of its 1 frames") && said.contains("no room for a signature"),
        "{said}"
    );
}
