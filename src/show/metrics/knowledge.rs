//! Metrics of what is known: the tables, the feed that fills them, offenders, and what the operator decided.

use super::exposition::{Exposition, Total, alone};
use crate::gateway::{DeviceState, MirrorState, Observation};

/// Writes all families.
pub(super) fn write(page: &mut Exposition<'_>, seen: &Observation) {
    let sum = |pick: fn(&DeviceState) -> u64| {
        let taken = seen.devices.iter().filter(|device| device.taken_over);
        taken.map(pick).sum::<u64>()
    };
    page.gauge(
        "vxgate_table_entries",
        "Entries of the tables that the data path uses; kernel: those of fdb and flood whose frames are left to the kernel.",
        [
            ("fdb", sum(|device| device.fdb_entries)),
            ("flood", sum(|device| device.flood_entries)),
            ("kernel", sum(|device| device.kernel_entries)),
            ("peers", seen.vteps.len() as u64),
            ("groups", seen.groups.len() as u64),
        ]
        .map(|(table, count)| (vec![("table", table.to_owned())], count as f64)),
    );
    feed(page, &seen.mirror);
    page.gauge(
        "vxgate_offenders",
        "Senders on record that the peer check found fault with; vxgate status names them.",
        [alone(seen.offenders.len() as f64)],
    );
    let policy = &seen.policy;
    page.gauge(
        "vxgate_policy_info",
        "What the operator decided; always 1.",
        [(
            vec![
                ("peer_check", policy.peer_check.clone()),
                ("reserved_bits", policy.reserved_bits.clone()),
                ("ecn_encap", policy.ecn_encap.clone()),
                ("inner_vlan", policy.inner_vlan.clone()),
                ("udp_checksum_rx", policy.udp_checksum_rx.clone()),
            ],
            1.0,
        )],
    );
}

fn feed(page: &mut Exposition<'_>, mirror: &MirrorState) {
    let source = || vec![("source", "netlink".to_owned())];
    page.counter(
        "vxgate_events_total",
        "Notifications taken from a feed.",
        [(source(), Total::Count(mirror.events))],
    );
    page.counter(
        "vxgate_feed_resyncs_total",
        "Times that everything was read again from a feed.",
        [(source(), Total::Count(mirror.resyncs))],
    );
    page.counter(
        "vxgate_feed_overruns_total",
        "Times that a feed lost notifications.",
        [(source(), Total::Count(mirror.overruns))],
    );
    page.counter(
        "vxgate_table_publications_total",
        "Snapshots of the tables handed to the workers.",
        [(vec![], Total::Count(mirror.publications))],
    );
}
