//! Segments and datagrams joined into superframes, and superframes cut into them again.

use etherparse::{NetSlice, SlicedPacket};
use vxgate::pipeline::Verdict;
use vxgate::port::BATCH;
use vxgate::stats::DropReason;
use vxgate::wire::vnet;

use crate::rig::bench::Bench;
use crate::rig::choices::Choices;
use crate::rig::sums::{fold, pseudo, sum};
use crate::rig::table::{station, table};
use crate::rig::{tcp, trains, twin};

/// Segments of a superframe at most, where each is encapsulated twice.
const SEGMENTS_MAX: usize = 200;
/// Destinations of a frame at most.
const DESTINATIONS_MAX: usize = 8;

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

/// A superframe that leaves cut is what its segments would be if the twin had cut it and they had come in one by one: byte for
/// byte, in their order, identifications included. Or it dies of what the first of them would have died of. How many frames left,
/// of what makes a superframe.
pub fn encap_cut(data: &[u8]) -> Option<usize> {
    let mut choices = Choices::new(data);
    let (header, mut frame) = tcp::from_tap(&mut choices);
    let to = station(choices.byte());
    let snapshot = table(&mut choices);
    let number = choices.below(snapshot.segments.len());
    if let Some(place) = frame.get_mut(..6) {
        place.copy_from_slice(&to.0);
    }
    let is_known = matches!(
        header.gso_type & !vnet::GSO_ECN,
        vnet::GSO_TCPV4 | vnet::GSO_TCPV6 | vnet::GSO_UDP_L4
    );
    let segments = twin::cut(&header, &frame, false).unwrap_or_default();
    // Devices whose frames carry marks have no TAP.
    let marked = snapshot.segments[number].config.gbp;
    if marked || !is_known || !(2..=SEGMENTS_MAX).contains(&segments.len()) {
        return None;
    }
    let (mut one_by_one, mut expected) = (Bench::new(BATCH * DESTINATIONS_MAX), Vec::new());
    for batch in segments.chunks(BATCH) {
        expected.extend(one_by_one.encap(&snapshot, number, batch).sent.concat());
    }
    let mut bench = Bench::new(segments.len() * DESTINATIONS_MAX);
    let outcome = bench.encap_cut(&snapshot, number, (&header, &frame));
    bench.check();
    let counters = &bench.counters;
    let mut sent = outcome.sent.concat();
    let copies = counters.flood_copies.get();
    assert_eq!(
        sent.len() as u64,
        (counters.forwarded.get() + copies) * segments.len() as u64
    );
    assert_eq!(
        counters.segments_sent.get() + counters.forwarded.get() + copies,
        sent.len() as u64
    );
    assert_eq!(counters.segments_lost.get(), 0);
    if counters.forwarded.get() == 0 {
        let reason = DropReason::ALL
            .iter()
            .find(|reason| counters.drops(**reason) > 0);
        let reason = *reason.expect("it is in the balance");
        // The last is shorter, and may fit where the others do not.
        let others = segments.len() as u64 - 1;
        assert!(one_by_one.counters.drops(reason) >= others, "{reason:?}");
        return Some(0);
    }
    if let [Verdict::Encap(_)] = outcome.verdicts[..] {
        assert_eq!(sent, expected);
        return Some(sent.len());
    }
    // One VTEP after the other here, one segment after the other there; and the last may reach more of them.
    let plain = |frames: &mut Vec<Vec<u8>>| {
        for frame in &mut *frames {
            if frame[12] == 8 {
                frame[18..20].fill(0);
                frame[24..26].fill(0);
            }
        }
        frames.sort();
    };
    plain(&mut sent);
    plain(&mut expected);
    let (count, mut expected) = (sent.len(), expected.into_iter());
    for frame in sent {
        assert!(expected.any(|other| other == frame), "{frame:02x?}");
    }
    Some(count)
}

/// Whether the sender's word for the pseudo-header holds, in a superframe of TCP or UDP over IP without options.
fn is_right(header: &vnet::VnetHeader, frame: &[u8]) -> bool {
    use etherparse::TransportSlice;
    let Ok(parsed) = SlicedPacket::from_ethernet(frame) else {
        return false;
    };
    let whole = match &parsed.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            header.options().is_empty() && fold(sum(header.slice())) == u16::MAX
        }
        Some(NetSlice::Ipv6(ip)) => ip.extensions().is_empty(),
        _ => false,
    };
    let checksum = match &parsed.transport {
        Some(TransportSlice::Tcp(tcp)) => tcp.checksum(),
        Some(TransportSlice::Udp(udp)) => udp.checksum(),
        _ => return false,
    };
    let is_superframe = header.gso_type != vnet::GSO_NONE && parsed.link_exts.is_empty();
    is_superframe && whole && segment(&parsed).is_some_and(|(pseudo, _)| checksum == fold(pseudo))
}

/// Right lengths and checksums.
fn judge(frame: &[u8]) {
    let parsed = SlicedPacket::from_ethernet(frame).expect("an Ethernet frame");
    let len = match &parsed.net {
        Some(NetSlice::Ipv4(ip)) => {
            assert_eq!(fold(sum(ip.header().slice())), u16::MAX);
            usize::from(ip.header().total_len())
        }
        Some(NetSlice::Ipv6(ip)) => 40 + usize::from(ip.header().payload_length()),
        other => panic!("no IP: {other:?}"),
    };
    assert_eq!(14 + len, frame.len());
    let (pseudo, segment) = segment(&parsed).expect("a segment");
    assert_eq!(fold(pseudo + sum(segment)), u16::MAX);
}

/// The segment or datagram, as long as its IP packet says, and the sum over its pseudo-header. Sums are over bytes as they are:
/// headers that were parsed into values and written again have lost their reserved bits.
fn segment<'a>(parsed: &SlicedPacket<'a>) -> Option<(u64, &'a [u8])> {
    let (source, destination) = match &parsed.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        _ => return None,
    };
    let payload = parsed.ip_payload()?;
    let (protocol, bytes) = (payload.ip_number.0, payload.payload);
    if protocol == 17 {
        let udp = etherparse::UdpSlice::from_slice(bytes).ok()?;
        if usize::from(udp.length()) != bytes.len() {
            return None;
        }
    }
    Some((pseudo(source, destination, protocol, bytes.len()), bytes))
}

/// The other way round: flags that a train may have are given back, and so is everything else.
fn joins_again(frames: &[Vec<u8>], header: &vnet::VnetHeader, superframe: &[u8]) {
    let written = trains::join(frames);
    let at = usize::from(header.csum_start) + 13;
    let is_tcp = header.gso_type & !vnet::GSO_ECN != vnet::GSO_UDP_L4;
    if is_tcp && superframe[at] & (tcp::SYN | tcp::RST | tcp::URG | tcp::CWR) != 0 {
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
