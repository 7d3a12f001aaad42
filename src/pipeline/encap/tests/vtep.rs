//! To which VTEPs frames go.

use super::super::super::lab::LOST;
use super::*;
use crate::table::{NextHop, UnresolvedReason};
use crate::wire::MacAddr;

#[test]
fn an_unknown_destination_dies_without_a_flood_list() {
    let mut lab = lab();
    for mac in [
        UNKNOWN,
        MacAddr::BROADCAST,
        MacAddr([1, 0, 0x5e, 0, 0, 1]),
        MacAddr::ZERO,
    ] {
        assert_eq!(lab.fate_out(&inner4(mac, &[])), Err(DropReason::NoTxTarget));
    }
}

#[test]
fn a_vtep_without_next_hop_and_one_on_a_dead_link_are_told_apart() {
    let mut lab = lab();
    assert_eq!(
        lab.fate_out(&inner4(LOST, &[])),
        Err(DropReason::NextHopUnresolved)
    );
    let vteps = Arc::make_mut(&mut lab.snapshot.segments[0].vteps);
    vteps[2].next_hop = NextHop::Unresolved(UnresolvedReason::LinkDown);
    assert_eq!(lab.fate_out(&inner4(LOST, &[])), Err(DropReason::LinkDown));
}

#[test]
fn p01_the_outer_packet_fits_the_mtu_to_the_byte_or_dies() {
    let mut lab = lab();
    let headers = inner4(NEAR, &[]).len();
    let fits = inner4(NEAR, &vec![0; 1500 - 36 - headers]);
    assert_eq!(lab.fate_out(&fits).unwrap().len(), 1514);
    let exceeds = inner4(NEAR, &vec![0; 1500 - 36 - headers + 1]);
    assert_eq!(lab.fate_out(&exceeds), Err(DropReason::Oversize));
    // One VTEP's path narrows, not the other's.
    let vteps = Arc::make_mut(&mut lab.snapshot.segments[0].vteps);
    vteps[0].path_mtu = 1499;
    assert_eq!(lab.fate_out(&fits), Err(DropReason::Oversize));
    assert!(lab.fate_out(&fits[..fits.len() - 1]).is_ok());
    let far = [&FAR.0, &fits[6..]].concat();
    assert_eq!(lab.fate_out(&far).unwrap().len(), 1514);
}

#[test]
fn v09_an_unknown_destination_is_flooded_to_every_vtep_of_the_list_once() {
    let mut lab = flooding(&[0, 1]);
    let inner = inner4(MacAddr::BROADCAST, b"who is there");
    let (verdicts, sent) = lab.encap(&[inner.clone(), inner4(NEAR, &[]), inner.clone()]);
    assert_eq!(
        verdicts,
        [Verdict::Flood, Verdict::Encap(VtepId(0)), Verdict::Flood]
    );
    assert_eq!(destinations(&sent), [2, 3, 2, 2, 3]);
    assert!([0, 1, 3, 4].iter().all(|n| sent[*n][50..] == inner[..]));
    assert_eq!(source_port(&sent[0]), source_port(&sent[1]));
    assert_eq!(
        (
            lab.counters.forwarded.get(),
            lab.counters.flood_copies.get()
        ),
        (3, 2)
    );
    assert_eq!(lab.counters.flood_copies_lost.get(), 0);
}

#[test]
fn v09_a_multicast_destination_in_the_fdb_goes_where_that_says() {
    let mut lab = flooding(&[0, 1]);
    let group = MacAddr([1, 0, 0x5e, 0, 0, 1]);
    lab.snapshot.segments[0].fdb = Arc::new(crate::table::Fdb::new([(group, VtepId(1))]));
    assert_eq!(
        lab.encap(&[inner4(group, &[])]).0,
        [Verdict::Encap(VtepId(1))]
    );
}

#[test]
fn v09_an_unreachable_vtep_of_the_list_costs_a_copy_and_not_the_frame() {
    let mut lab = flooding(&[2, 0, 7, 1]); // 2 is unresolved, 7 does not exist
    let (_, sent) = lab.encap(&[inner4(UNKNOWN, &[])]);
    assert_eq!(destinations(&sent), [2, 3]);
    assert_eq!(
        (
            lab.counters.forwarded.get(),
            lab.counters.flood_copies.get()
        ),
        (1, 1)
    );
    assert_eq!(lab.counters.flood_copies_lost.get(), 2);
    let mut lab = flooding(&[2, 2]);
    assert_eq!(
        lab.fate_out(&inner4(UNKNOWN, &[])),
        Err(DropReason::NextHopUnresolved)
    );
    assert_eq!(lab.counters.flood_copies_lost.get(), 1);
}
