//! The order of frames: within a flow it is that in which they were sent, whatever becomes of them on the way. Flows may
//! overtake each other.

use std::collections::{BTreeMap, BTreeSet};

use super::bytes::{ETHER_IPV4, ETHER_IPV6, IP, be16, internet_checksum, put16};
use super::compare::show;
use super::outer::inner_of;
use super::site::Output;

/// So many frames of each are shown from where they differ.
const SHOWN: usize = 2;
const DF: u16 = 0x4000;

/// Addresses, protocol and ports; of what has none, the MAC addresses.
type Flow = Vec<u8>;
type Flows = BTreeMap<Flow, Vec<Vec<u8>>>;

/// The first flow whose frames are not the same ones in the same order, for people.
pub fn difference(kernel: &Output, ours: &Output) -> Option<String> {
    of_one("wire", &kernel.wire, &ours.wire)
        .or_else(|| of_one("overlay", &kernel.overlay, &ours.overlay))
}

fn of_one(place: &str, kernel: &[Vec<u8>], ours: &[Vec<u8>]) -> Option<String> {
    let (by_kernel, by_us) = (flows(kernel), flows(ours));
    let known: BTreeSet<_> = by_kernel.keys().chain(by_us.keys()).collect();
    known.into_iter().find_map(|flow| {
        let [kernel, ours] = [&by_kernel, &by_us].map(|flows| flows.get(flow));
        let (mut kernel, mut ours) = (kernel.cloned().unwrap_or_default(), ours.cloned().unwrap_or_default());
        forget_fixed_ids(&mut kernel, &mut ours);
        let same = kernel.iter().zip(&ours).take_while(|(a, b)| a == b).count();
        if same == kernel.len() && same == ours.len() {
            return None;
        }
        let (of_kernel, of_us) = (kernel.len(), ours.len());
        let mut text = format!(
            "  flow {flow:02x?} on the {place}: {of_kernel} frames by the kernel, {of_us} by vxgate, the first {same} the same\n"
        );
        for (who, frames) in [("kernel", &kernel), ("vxgate", &ours)] {
            let shown = &frames[same..frames.len().min(same + SHOWN)];
            show(&mut text, &format!("{who}, {place}"), shown);
        }
        Some(text)
    })
}

/// Segments and datagrams that may not be fragmented may all have the same identification, which then says nothing (RFC 6864). A TAP has no
/// word for that: joined ones come apart with others.
fn forget_fixed_ids(kernel: &mut [Vec<u8>], ours: &mut [Vec<u8>]) {
    let ids: Vec<_> = kernel.iter().map(|frame| atomic_id(frame)).collect();
    for (number, (kernel, ours)) in kernel.iter_mut().zip(ours).enumerate() {
        let neighbours = [number.checked_sub(1), Some(number + 1)];
        let mut others = neighbours
            .into_iter()
            .flatten()
            .filter_map(|other| ids.get(other));
        if ids[number].is_some()
            && others.any(|other| *other == ids[number])
            && atomic_id(ours).is_some()
        {
            forget_id(kernel);
            forget_id(ours);
        }
    }
}

/// Of an inner frame of TCP or UDP in plain IPv4 with DF, whose header is right.
fn atomic_id(frame: &[u8]) -> Option<u16> {
    let inner = inner_of(frame).unwrap_or(frame);
    let header = inner.get(IP..IP + 20)?;
    let plain =
        be16(inner, 12) == Some(ETHER_IPV4) && header[0] == 0x45 && matches!(header[9], 6 | 17);
    let atomic = be16(header, 6) == Some(DF) && internet_checksum(&[header]) == 0;
    be16(header, 4).filter(|_| plain && atomic)
}

fn forget_id(frame: &mut [u8]) {
    let at = inner_of(frame).map_or(0, |inner| frame.len() - inner.len());
    put16(frame, at + IP + 4, 0);
    put16(frame, at + IP + 10, 0);
}

fn flows(frames: &[Vec<u8>]) -> Flows {
    let mut flows = Flows::new();
    for frame in frames {
        let flow = flow_of(inner_of(frame).unwrap_or(frame));
        flows.entry(flow).or_default().push(frame.clone());
    }
    flows
}

fn flow_of(inner: &[u8]) -> Flow {
    let read = match be16(inner, 12) {
        // Whatever is a fragment, or has options, is a flow by its addresses.
        Some(ETHER_IPV4) if inner.get(14) == Some(&0x45) => {
            let fragment = be16(inner, 20).is_none_or(|field| field & 0x3fff != 0);
            let end = if fragment { 34 } else { 38 };
            inner.get(26..end).zip(inner.get(23..24))
        }
        Some(ETHER_IPV4) => inner.get(26..34).zip(inner.get(23..24)),
        Some(ETHER_IPV6) => inner.get(22..58).zip(inner.get(20..21)),
        _ => None,
    };
    match read {
        Some((ends, protocol)) => [ends, protocol].concat(),
        None => inner.iter().take(14).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bytes::{Inner, ipv4};
    use super::*;

    /// A segment of a flow with this identification.
    fn segment(port: u8, id: u16, payload: u8) -> Vec<u8> {
        let mut segment = [0; 24];
        (segment[1], segment[12], segment[23]) = (port, 0x50, payload);
        let mut packet = ipv4(0, 64, DF, 6, &segment);
        put16(&mut packet, 4, id);
        put16(&mut packet, 10, 0);
        let sum = internet_checksum(&[&packet[..20]]);
        put16(&mut packet, 10, sum);
        Inner::with(ETHER_IPV4, packet).bytes()
    }

    fn differ<const N: usize>(kernel: [(u8, u16, u8); N], ours: [(u8, u16, u8); N]) -> bool {
        let output = |segments: [(u8, u16, u8); N]| Output {
            overlay: segments
                .map(|(port, id, payload)| segment(port, id, payload))
                .to_vec(),
            ..Output::default()
        };
        difference(&output(kernel), &output(ours)).is_some()
    }

    #[test]
    fn flows_overtake_each_other_and_segments_of_one_do_not() {
        assert!(!differ(
            [(1, 7, 0), (2, 3, 0), (1, 8, 1)],
            [(2, 3, 0), (1, 7, 0), (1, 8, 1)]
        ));
        assert!(differ([(1, 7, 0), (1, 8, 1)], [(1, 8, 1), (1, 7, 0)]));
    }

    #[test]
    fn identifications_count_where_they_say_anything() {
        assert!(differ([(1, 7, 0), (1, 8, 1)], [(1, 7, 0), (1, 7, 1)]));
        assert!(differ([(1, 7, 0), (1, 9, 1)], [(1, 7, 0), (1, 8, 1)]));
        assert!(!differ([(1, 7, 0), (1, 7, 1)], [(1, 7, 0), (1, 8, 1)]));
        // And all else counts there, too.
        assert!(differ([(1, 7, 0), (1, 7, 1)], [(1, 7, 0), (1, 8, 2)]));
    }

    #[test]
    fn what_is_missing_differs() {
        let output = Output {
            wire: vec![segment(1, 1, 1)],
            ..Output::default()
        };
        assert!(difference(&output, &Output::default()).is_some());
        assert!(difference(&Output::default(), &output).is_some());
        assert!(difference(&output, &output).is_none());
    }
}
