//! Segments joined into superframes, and superframes cut into segments.

use vxgate::port::BATCH;
use vxgate::wire::vnet;

use crate::rig::choices::Choices;
use crate::rig::{tcp, trains, twin};

/// Frames of a batch leave as the twin says: each in one train, none ahead of another of its flow, and alone as it came. A
/// train that is cut gives the frames that it was joined from.
pub fn join(data: &[u8]) {
    let frames = tcp::batch(&mut Choices::new(data));
    let written = trains::join(&frames);
    assert_eq!(written, twin::join(&frames));
    let mut together: Vec<_> = written.iter().map(|train| train.frames).collect();
    together.retain(|frames| *frames > 1);
    let mut left: Vec<Option<&Vec<u8>>> = frames.iter().map(Some).collect();
    for written in written {
        let cut = trains::cut(
            &written.train.header,
            &written.bytes,
            written.train.fixed_ids,
        )
        .expect("a superframe that makes sense");
        assert_eq!(cut.len(), written.frames);
        for frame in cut {
            let found = left.iter_mut().find(|left| **left == Some(&frame));
            *found.unwrap_or_else(|| panic!("{frame:02x?} did not come in")) = None;
        }
    }
    assert!(left.iter().all(Option::is_none));
    join_on(data);
}

/// The same frames behind each other in several batches, and trains that wait from one to the next.
fn join_on(data: &[u8]) {
    let batches = tcp::batches(&mut Choices::new(data), 5);
    assert_eq!(trains::join_on(&batches), twin::join_on(&batches));
}

/// What a TAP gave is cut as the twin says, or is nothing; what comes of a right superframe is right, as an independent parser
/// reads it, and joins again into what it was.
pub fn cut(data: &[u8]) {
    let mut choices = Choices::new(data);
    let (header, frame) = tcp::from_tap(&mut choices);
    let fixed_ids = choices.rare();
    let cut = trains::cut(&header, &frame, fixed_ids);
    let expected = twin::cut(&header, &frame, fixed_ids);
    let Some(frames) = cut else {
        assert_eq!(expected, None);
        return;
    };
    if frames.is_empty() {
        // Longer than a chunk.
        assert!(
            expected
                .expect("the same")
                .iter()
                .any(|frame| frame.len() > 2048 - 256)
        );
        return;
    }
    assert_eq!(Some(&frames), expected.as_ref());
    let is_right = is_right(&header, &frame);
    for frame in &frames {
        if is_right {
            judge(frame);
        }
    }
    if is_right && (2..=BATCH).contains(&frames.len()) && !fixed_ids {
        joins_again(&frames, &header, &frame);
    }
}

/// Whether the sender's word for the pseudo-header holds, in a superframe of TCP over IP without options.
fn is_right(header: &vnet::VnetHeader, frame: &[u8]) -> bool {
    use crate::rig::sums::{fold, pseudo};
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    let Ok(parsed) = SlicedPacket::from_ethernet(frame) else {
        return false;
    };
    let (source, destination, whole) = match &parsed.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let right = header.to_header().calc_header_checksum() == header.header_checksum();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                right && header.options().is_empty(),
            )
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let plain = ip.extensions().is_empty();
            let (source, destination) = (header.source_addr(), header.destination_addr());
            (source.into(), destination.into(), plain)
        }
        _ => return false,
    };
    let Some(TransportSlice::Tcp(tcp)) = &parsed.transport else {
        return false;
    };
    let is_superframe = header.gso_type != vnet::GSO_NONE && parsed.link_exts.is_empty();
    let len = tcp.slice().len();
    let part: u16 = fold(pseudo(source, destination, 6, len));
    is_superframe && whole && tcp.checksum() == part
}

/// Right lengths and checksums.
fn judge(frame: &[u8]) {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    let parsed = SlicedPacket::from_ethernet(frame).expect("an Ethernet frame");
    let Some(TransportSlice::Tcp(tcp)) = &parsed.transport else {
        panic!("no TCP: {frame:02x?}");
    };
    let header = tcp.to_header();
    let (len, right) = match &parsed.net {
        Some(NetSlice::Ipv4(ip)) => {
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            let right = header.calc_checksum_ipv4(&ip, tcp.payload());
            (usize::from(ip.total_len), right)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let ip = ip.header().to_header();
            let right = header.calc_checksum_ipv6(&ip, tcp.payload());
            (40 + usize::from(ip.payload_length), right)
        }
        other => panic!("no IP: {other:?}"),
    };
    assert_eq!(14 + len, frame.len());
    assert_eq!(right.ok(), Some(header.checksum));
}

/// The other way round: flags that a train may have are given back, and so is everything else.
fn joins_again(frames: &[Vec<u8>], header: &vnet::VnetHeader, superframe: &[u8]) {
    let written = trains::join(frames);
    let at = usize::from(header.csum_start) + 13;
    if superframe[at] & (tcp::SYN | tcp::RST | tcp::URG | tcp::CWR) != 0 {
        return;
    }
    assert_eq!(written.len(), 1, "{written:?}");
    // What lay behind the IP packet was nobody's.
    assert_eq!(written[0].bytes, superframe[..written[0].bytes.len()]);
    let told = vnet::VnetHeader {
        hdr_len: header.hdr_len,
        gso_type: written[0].train.header.gso_type | header.gso_type & vnet::GSO_ECN,
        ..written[0].train.header
    };
    assert_eq!(
        told,
        vnet::VnetHeader {
            outer_th_offset: 0,
            inner_nh_offset: 0,
            flags: vnet::NEEDS_CSUM,
            ..*header
        }
    );
}
