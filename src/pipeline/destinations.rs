//! Tests of frames whose FDB entry leads to several VTEPs, on the bench of `encap`'s own tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::Verdict;
use super::lab::{FAR, Lab, NEAR, OWN, UNKNOWN, config, config6, inner4, segment};
use crate::port::BATCH;
use crate::stats::DropReason;
use crate::table::{BucketUse, Destination, Fdb, Group, GroupId, ListId, Segment, VtepId};
use crate::wire::MacAddr;

/// An address that the FDB gives several destinations.
const MANY: MacAddr = MacAddr([0x0e, 0, 0, 0, 0, 0x77]);
const GROUP: MacAddr = MacAddr([1, 0, 0x5e, 0, 0, 1]);

/// [`MANY`] leads to this group of VTEPs 0 (192.0.2.2), 1 (192.0.2.3) and 2, which is not resolved.
fn grouped(group: Group) -> Segment {
    let mut segment = segment(config());
    segment.fdb = Arc::new(Fdb::new([
        (MANY, Destination::Group(GroupId(0))),
        (NEAR, Destination::Vtep(VtepId(0))),
    ]));
    segment.groups = Arc::new(vec![group]);
    segment
}

fn weighted(weights: &[u32]) -> Group {
    Group::by_weight(1, (0..).map(VtepId).zip(weights.iter().copied()))
}

fn bucketed(buckets: impl IntoIterator<Item = VtepId>) -> Group {
    let buckets: Vec<_> = buckets.into_iter().collect();
    let used = BucketUse::new(buckets.len());
    Group::by_bucket(1, buckets, used)
}

fn flow(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(OWN.0, MANY.0)
        .ipv4([10, 244, 0, 2], [10, 244, 1, 2], 64)
        .tcp(port, 80, 1, 1000)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

/// The last byte of the outer destination.
fn destination(frame: &[u8]) -> u8 {
    frame[33]
}

/// Where 10,000 flows go: VTEP to flows. Every flow is sent twice, with other flows between.
fn spread(lab: &mut Lab) -> BTreeMap<u8, f64> {
    let mut counts = BTreeMap::new();
    let flows: Vec<_> = (20_000..30_000).collect();
    for flows in flows.chunks(BATCH / 2) {
        let first = flows.iter().map(|port| flow(*port, b"one"));
        let again = flows.iter().map(|port| flow(*port, b"and two"));
        let (_, sent) = lab.encap(&first.chain(again).collect::<Vec<_>>());
        let (first, again) = sent.split_at(flows.len());
        for (first, again) in first.iter().zip(again) {
            assert_eq!(
                destination(first),
                destination(again),
                "a flow stays where it is"
            );
            *counts.entry(destination(first)).or_insert(0.0) += 1.0;
        }
    }
    counts
}

/// One degree of freedom: 10.8 is exceeded once in a thousand times by chance, and the flows are the same in every run.
fn assert_shares(counts: &BTreeMap<u8, f64>, shares: &[(u8, f64)]) {
    let term = |(vtep, share): &(u8, f64)| {
        let (seen, expected) = (counts[vtep], share * 10_000.0);
        (seen - expected) * (seen - expected) / expected
    };
    let chi: f64 = shares.iter().map(term).sum();
    assert!(
        chi < 10.8 && counts.len() == shares.len(),
        "χ² = {chi}: {counts:?}"
    );
}

#[test]
fn v09_flows_to_a_group_are_shared_out_by_weight_and_each_sticks() {
    for (weights, shares) in [
        (&[1, 1][..], &[(2, 0.5), (3, 0.5)][..]),
        (&[1, 3], &[(2, 0.25), (3, 0.75)]),
        (&[1], &[(2, 1.0)]),
    ] {
        let mut lab = Lab::new(vec![grouped(weighted(weights))]);
        assert_shares(&spread(&mut lab), shares);
    }
    let buckets = [0, 1, 1, 1, 0, 1, 1, 1].map(VtepId);
    let mut lab = Lab::new(vec![grouped(bucketed(buckets))]);
    assert_shares(&spread(&mut lab), &[(2, 0.25), (3, 0.75)]);
}

#[test]
fn v09_all_fragments_of_a_packet_go_to_one_member() {
    let mut lab = Lab::new(vec![grouped(weighted(&[1, 1]))]);
    for host in 0..40 {
        let mut first = flow(4000, &[7; 64]);
        first[29] = host;
        first[20] = 0x20;
        super::lab::seal(&mut first);
        let mut last = first.clone();
        (last[20], last[21]) = (0, 8);
        last[34..38].fill(0xaa);
        super::lab::seal(&mut last);
        let (_, sent) = lab.encap(&[first, last]);
        assert_eq!(destination(&sent[0]), destination(&sent[1]));
    }
}

#[test]
fn v09_a_member_that_cannot_be_reached_loses_its_flows_and_no_others() {
    let mut lab = Lab::new(vec![grouped(weighted(&[1, 0, 1]))]);
    let fates: Vec<_> = (0..100)
        .map(|port| lab.fate_out(&flow(port, &[])))
        .collect();
    let lost = fates
        .iter()
        .filter(|fate| **fate == Err(DropReason::NextHopUnresolved));
    assert!((30..70).contains(&lost.count()));
    let sent: BTreeSet<_> = fates
        .iter()
        .flatten()
        .map(|frame| destination(frame))
        .collect();
    assert_eq!(sent, [2].into());

    let mut segment = grouped(weighted(&[1, 1]));
    let mut vteps = segment.vteps.to_vec();
    vteps[1].path_mtu = 1000;
    segment.vteps = Arc::new(vteps);
    let mut lab = Lab::new(vec![segment]);
    for port in 0..100 {
        let (short, long) = (
            lab.fate_out(&flow(port, &[])),
            lab.fate_out(&flow(port, &[0; 1000])),
        );
        match destination(&short.unwrap()) {
            2 => assert!(long.is_ok()),
            _ => assert_eq!(long, Err(DropReason::Oversize)),
        }
    }
}

#[test]
fn v09_what_no_entry_names_goes_to_one_member_of_the_all_zero_entrys_group() {
    let mut segment = grouped(weighted(&[1, 1]));
    segment.fdb = Arc::new(Fdb::new([
        (MacAddr::ZERO, Destination::Group(GroupId(0))),
        (NEAR, Destination::Vtep(VtepId(0))),
    ]));
    let mut lab = Lab::new(vec![segment]);
    for unknown in [UNKNOWN, MacAddr::BROADCAST, MacAddr::ZERO, GROUP] {
        let (verdicts, sent) = lab.encap(&[inner4(unknown, &[])]);
        assert!(matches!(verdicts[..], [Verdict::Encap(VtepId(0 | 1))]));
        assert_eq!(sent.len(), 1);
    }
    assert_eq!(
        lab.encap(&[inner4(NEAR, &[])]).0,
        [Verdict::Encap(VtepId(0))]
    );
    assert_eq!(lab.counters.flood_copies.get(), 0);
}

#[test]
fn v09_a_multicast_address_with_a_list_gets_a_copy_to_each_and_others_do_not() {
    let mut segment = segment(config());
    segment.fdb = Arc::new(Fdb::new([
        (GROUP, Destination::List(ListId(1))),
        (FAR, Destination::List(ListId(0))),
    ]));
    segment.lists = Arc::new(vec![vec![VtepId(1)], vec![VtepId(0), VtepId(2), VtepId(1)]]);
    segment.flood = Arc::new(vec![VtepId(1)]);
    let mut lab = Lab::new(vec![segment]);
    let inner = inner4(GROUP, b"to each");
    let (verdicts, sent) = lab.encap(&[inner.clone(), inner4(FAR, &[]), inner4(UNKNOWN, &[])]);
    assert_eq!(
        verdicts,
        [
            Verdict::List(ListId(1)),
            Verdict::List(ListId(0)),
            Verdict::Flood
        ]
    );
    let to: Vec<_> = sent.iter().map(|frame| destination(frame)).collect();
    assert_eq!(to, [2, 3, 3, 3]);
    assert!(sent[..2].iter().all(|frame| frame[50..] == inner[..]));
    let counters = &lab.counters;
    assert_eq!(
        (
            counters.forwarded.get(),
            counters.flood_copies.get(),
            counters.flood_copies_lost.get()
        ),
        (3, 1, 1),
        "the unresolved one costs a copy"
    );
}

#[test]
fn a_destination_that_does_not_exist_is_none() {
    let mut segment = grouped(weighted(&[]));
    segment.fdb = Arc::new(Fdb::new([
        (MANY, Destination::Group(GroupId(0))),
        (NEAR, Destination::Group(GroupId(1))),
        (FAR, Destination::List(ListId(0))),
    ]));
    let mut lab = Lab::new(vec![segment]);
    for mac in [MANY, NEAR, FAR, UNKNOWN] {
        assert_eq!(
            lab.fate_out(&inner4(mac, &[])),
            Err(DropReason::NoTxTarget),
            "{mac}"
        );
    }
}

proptest! {
    /// Whatever the FDB says, each frame has one verdict, one fate, and as many copies as its list has VTEPs.
    #[test]
    fn any_destinations_keep_the_balance(
        entries in prop::collection::vec((0u8..3, 0u32..5), 0..8),
        weights in prop::collection::vec(0u32..4, 0..5),
        lists in prop::collection::vec(prop::collection::vec(0u32..5, 0..5), 0..4),
        frames in prop::collection::vec((0u8..10, any::<u16>()), 0..=40),
        six: bool,
    ) {
        let mut segment = segment(if six { config6() } else { config() });
        let destination = |(kind, id): (u8, u32)| match kind {
            0 => Destination::Vtep(VtepId(id)),
            1 => Destination::Group(GroupId(id)),
            _ => Destination::List(ListId(id)),
        };
        let mac = |last| MacAddr([0x0e, 0, 0, 0, 1, last]);
        segment.fdb = Arc::new(Fdb::new((0..).map(mac).zip(entries.into_iter().map(destination))));
        segment.groups = Arc::new(vec![weighted(&weights), bucketed(weights.iter().map(|n| VtepId(*n)))]);
        segment.lists = Arc::new(lists.iter().map(|list| list.iter().copied().map(VtepId).collect()).collect());
        let mut lab = Lab::new(vec![segment]);
        let frames: Vec<_> = frames.into_iter().map(|(last, port)| {
            let mut frame = flow(port, &[]);
            frame[..6].copy_from_slice(&mac(last).0);
            frame
        }).collect();
        let (verdicts, sent) = lab.encap(&frames); // checks the balance
        prop_assert_eq!(verdicts.len(), frames.len());
        let wanted: usize = verdicts.iter().map(|verdict| match verdict {
            Verdict::List(list) => lists.get(list.0 as usize).map_or(0, |list| list.len().saturating_sub(1)),
            _ => 0,
        }).sum();
        let counters = &lab.counters;
        let copies = counters.flood_copies.get();
        prop_assert_eq!(copies + counters.flood_copies_lost.get(), wanted as u64);
        prop_assert_eq!(counters.forwarded.get() + copies, sent.len() as u64);
    }
}
