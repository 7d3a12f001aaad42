//! The mirror of nexthop objects, as far as FDB entries use them.
//!
//! The buckets of a resilient group are asked for whenever they may have changed: a group's announcement, a member's
//! deletion and the announcement of a single bucket each put all of the group's buckets in doubt. Those that are in use
//! follow when they may ([`Buckets`]).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use super::buckets::Buckets;
use crate::netlink::{self, Nexthop, NexthopBucket, Socket, nexthop_buckets};
use crate::table::BucketUse;

/// Nexthop objects by number.
#[derive(Debug, Default)]
pub(super) struct Nexthops {
    objects: HashMap<u32, Nexthop>,
    /// Of each resilient group, as far as they are known.
    buckets: HashMap<u32, Buckets>,
    /// Resilient groups whose buckets are to be asked for.
    doubtful: BTreeSet<u32>,
}

/// Where a nexthop object leads. A member without a gateway leads to none, as in the kernel, where its frames die.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lead {
    /// It is no group.
    To(IpAddr),
    /// To a member that the flow's hash decides, in proportion to the weights.
    ByWeight(Vec<(Option<IpAddr>, u32)>),
    /// To the member of the flow's bucket. The workers note which buckets they use.
    ByBucket(Vec<Option<IpAddr>>, BucketUse),
}

impl Nexthops {
    /// Applies one message; whether anything changed or may have.
    pub(super) fn apply(&mut self, exists: bool, nexthop: Nexthop) -> bool {
        let id = nexthop.id;
        if exists {
            let resilient = is_resilient(&nexthop);
            if resilient {
                self.doubtful.insert(id);
            }
            self.objects.insert(id, nexthop.clone()).as_ref() != Some(&nexthop) || resilient
        } else {
            self.buckets.remove(&id);
            self.doubtful.remove(&id);
            // Announced before its groups are; its buckets have already gone to others.
            let groups = self.objects.values().filter(|group| {
                is_resilient(group) && group.group.iter().any(|member| member.id == id)
            });
            self.doubtful.extend(groups.map(|group| group.id));
            self.objects.remove(&id).is_some()
        }
    }

    /// Notes that a bucket has moved; whether that matters to FDB entries.
    pub(super) fn hear_bucket(&mut self, bucket: &NexthopBucket) -> bool {
        let known = self.objects.get(&bucket.group).is_some_and(is_resilient);
        if known {
            self.doubtful.insert(bucket.group);
        }
        known
    }

    /// Puts a complete dump in the place of what was known.
    pub(super) fn replace(&mut self, dump: Vec<Nexthop>) {
        self.doubtful = dump
            .iter()
            .filter(|nexthop| is_resilient(nexthop))
            .map(|group| group.id)
            .collect();
        self.objects = dump
            .into_iter()
            .map(|nexthop| (nexthop.id, nexthop))
            .collect();
        self.buckets.retain(|id, _| self.doubtful.contains(id));
    }

    /// Asks for the buckets that are in doubt. What fails stays in doubt.
    pub(super) fn ask(&mut self, socket: &mut Socket, now: Instant) -> Result<(), netlink::Error> {
        while let Some(id) = self.doubtful.first().copied() {
            let dump = nexthop_buckets(socket, id)?;
            self.take_buckets(id, &dump, now);
        }
        Ok(())
    }

    /// Looks which buckets the workers have used, and moves those that may follow the kernel now; whether any did.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        let mut moved = false;
        for (id, buckets) in &mut self.buckets {
            moved |= settle(buckets, &self.objects, *id, now);
        }
        moved
    }

    /// Where it leads; none when it is unknown or a black hole, or when no member of the group is known.
    pub(super) fn lead(&self, id: u32) -> Option<Lead> {
        let nexthop = self.objects.get(&id)?;
        if nexthop.group.is_empty() {
            return nexthop.gateway.map(Lead::To);
        }
        if let Some(buckets) = self.buckets.get(&id) {
            let gateway = |id: u32| self.objects.get(&id)?.gateway;
            let gateways = buckets.nexthops().map(gateway).collect();
            return Some(Lead::ByBucket(gateways, buckets.used().clone()));
        }
        // A member that is gone is announced before the group without it.
        let members = nexthop.group.iter();
        let members = members.filter_map(|member| {
            let gateway = self.objects.get(&member.id)?.gateway;
            Some((gateway, member.weight))
        });
        let members: Vec<_> = members.collect();
        (!members.is_empty()).then_some(Lead::ByWeight(members))
    }

    /// Takes over a dump of buckets that has each of them once; anything else is no answer, and the weights decide.
    fn take_buckets(&mut self, id: u32, dump: &[NexthopBucket], now: Instant) {
        self.doubtful.remove(&id);
        let mut buckets = dump.to_vec();
        buckets.sort_unstable_by_key(|bucket| bucket.index);
        let group = self.objects.get(&id);
        let resilient = group.and_then(|group| group.resilient);
        let wanted = 0..resilient.map_or(0, |resilient| resilient.buckets);
        if wanted.is_empty() || !buckets.iter().map(|bucket| bucket.index).eq(wanted) {
            self.buckets.remove(&id);
            return;
        }
        let nexthops: Vec<_> = buckets.iter().map(|bucket| bucket.nexthop).collect();
        let all_known = nexthops.iter().all(|id| self.objects.contains_key(id));
        match self
            .buckets
            .get_mut(&id)
            .filter(|known| known.len() == nexthops.len())
        {
            None => {
                self.buckets.insert(id, Buckets::new(&nexthops));
            }
            Some(known) if all_known => {
                known.follow(&nexthops);
                settle(known, &self.objects, id, now);
            }
            Some(_) => {}
        }
        // The last: the answer is ahead of the announcements: those of the new member and of the group are under way, and the
        // buckets as they were lose fewer frames than some that lead nowhere.
    }
}

/// Whether it has buckets that FDB entries may use.
fn is_resilient(nexthop: &Nexthop) -> bool {
    nexthop.fdb && nexthop.resilient.is_some()
}

fn settle(buckets: &mut Buckets, objects: &HashMap<u32, Nexthop>, id: u32, now: Instant) -> bool {
    let group = objects.get(&id);
    let Some((group, resilient)) = group.and_then(|group| Some((group, group.resilient?))) else {
        return false;
    };
    buckets.settle(now, &resilient, |id| {
        objects.contains_key(&id) && group.group.iter().any(|member| member.id == id)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::netlink::{NexthopMember, Resilient};
    use crate::table::{Group, VtepId};
    use std::time::Duration;

    pub(in super::super) fn nexthop(
        id: u32,
        gateway: Option<&str>,
        group: &[(u32, u32)],
    ) -> Nexthop {
        let member = |&(id, weight): &(u32, u32)| NexthopMember { id, weight };
        Nexthop {
            id,
            gateway: gateway.map(|addr| addr.parse().unwrap()),
            group: group.iter().map(member).collect(),
            resilient: None,
            fdb: true,
        }
    }

    fn addr(last: u8) -> Option<IpAddr> {
        Some([10, 9, 0, last].into())
    }

    #[test]
    fn a_group_leads_to_each_member_by_its_weight() {
        let mut nexthops = Nexthops::default();
        nexthops.replace(vec![
            nexthop(101, None, &[]),
            nexthop(103, Some("10.9.0.23"), &[]),
            nexthop(102, Some("10.9.0.22"), &[]),
            nexthop(200, None, &[(103, 1), (102, 4), (101, 2), (104, 9)]),
            nexthop(201, None, &[(104, 1)]),
        ]);
        assert_eq!(
            nexthops.lead(200),
            Some(Lead::ByWeight(vec![
                (addr(23), 1),
                (addr(22), 4),
                (None, 2)
            ])),
            "in the group's order; one without a gateway keeps its share, one that is unknown has none"
        );
        assert!(nexthops.apply(false, nexthop(102, None, &[])));
        assert_eq!(
            nexthops.lead(200),
            Some(Lead::ByWeight(vec![(addr(23), 1), (None, 2)]))
        );
        assert_eq!(nexthops.lead(103), addr(23).map(Lead::To));
        assert_eq!(
            (nexthops.lead(7), nexthops.lead(101), nexthops.lead(201)),
            (None, None, None)
        );
        assert!(
            !nexthops.apply(true, nexthop(103, Some("10.9.0.23"), &[])),
            "the same again is no change"
        );
    }

    fn resilient(count: u16) -> Nexthop {
        Nexthop {
            resilient: Some(Resilient {
                buckets: count,
                idle_timer: Duration::from_secs(120),
                unbalanced_timer: None,
            }),
            ..nexthop(200, None, &[(101, 1), (102, 1)])
        }
    }

    fn buckets(members: &[u32]) -> Vec<NexthopBucket> {
        let bucket = |(index, &nexthop): (usize, &u32)| NexthopBucket {
            group: 200,
            index: index as u16,
            nexthop,
        };
        members.iter().enumerate().map(bucket).collect()
    }

    #[test]
    fn a_resilient_group_leads_where_the_kernels_buckets_lead() {
        let gateways = |nexthops: &Nexthops| match nexthops.lead(200) {
            Some(Lead::ByBucket(gateways, _)) => gateways,
            other => panic!("no buckets: {other:?}"),
        };
        let (mut nexthops, now) = (Nexthops::default(), Instant::now());
        nexthops.apply(true, nexthop(101, Some("10.9.0.21"), &[]));
        nexthops.apply(true, nexthop(102, Some("10.9.0.22"), &[]));
        assert!(nexthops.apply(true, resilient(4)));
        assert!(
            matches!(nexthops.lead(200), Some(Lead::ByWeight(_))),
            "not asked yet"
        );
        let mut shuffled = buckets(&[101, 102, 102, 101]);
        shuffled.reverse();
        nexthops.take_buckets(200, &shuffled, now);
        let by_bucket = vec![addr(21), addr(22), addr(22), addr(21)];
        assert_eq!(gateways(&nexthops), by_bucket);
        assert!(nexthops.doubtful.is_empty());
        nexthops.take_buckets(200, &buckets(&[101, 102, 109, 101]), now);
        assert_eq!(gateways(&nexthops), by_bucket, "a member not announced yet");
        for (dump, why) in [
            (buckets(&[101, 102, 102]), "one is missing"),
            (vec![buckets(&[101])[0]; 4], "one many times over"),
            (Vec::new(), "none"),
        ] {
            nexthops.take_buckets(200, &dump, now);
            assert!(
                matches!(nexthops.lead(200), Some(Lead::ByWeight(_))),
                "{why}"
            );
        }
    }

    #[test]
    fn a_bucket_in_use_waits_for_its_member_alone_and_not_for_one_that_is_gone() {
        let (mut nexthops, now) = (Nexthops::default(), Instant::now());
        for (id, gateway) in [(101, "10.9.0.21"), (102, "10.9.0.22")] {
            nexthops.apply(true, nexthop(id, Some(gateway), &[]));
        }
        nexthops.apply(true, resilient(2));
        nexthops.take_buckets(200, &buckets(&[101, 102]), now);
        let gateways = |nexthops: &Nexthops| {
            let Some(Lead::ByBucket(gateways, used)) = nexthops.lead(200) else {
                panic!("no buckets")
            };
            let worker = Group::by_bucket(200, [VtepId(0); 2], used);
            worker.choose(0);
            worker.choose(1);
            gateways
        };
        assert_eq!(gateways(&nexthops), [addr(21), addr(22)]);
        nexthops.take_buckets(200, &buckets(&[102, 102]), now);
        assert_eq!(gateways(&nexthops), [addr(21), addr(22)], "in use");
        assert!(!nexthops.settle(now + Duration::from_secs(119)));
        // Announced before the group without it: the group still names it.
        nexthops.apply(false, nexthop(101, None, &[]));
        nexthops.take_buckets(200, &buckets(&[102, 102]), now);
        assert_eq!(gateways(&nexthops), [addr(22), addr(22)]);
        nexthops.apply(true, nexthop(101, Some("10.9.0.21"), &[]));
        nexthops.take_buckets(200, &buckets(&[101, 102]), now);
        assert_eq!(gateways(&nexthops), [addr(22), addr(22)], "in use again");
        assert!(!nexthops.settle(now + Duration::from_secs(100)));
        assert!(nexthops.settle(now + Duration::from_secs(220)), "idle");
        assert_eq!(gateways(&nexthops), [addr(21), addr(22)]);
    }

    #[test]
    fn what_may_move_buckets_puts_them_in_doubt() {
        let mut nexthops = Nexthops::default();
        let in_doubt = |nexthops: &mut Nexthops| !std::mem::take(&mut nexthops.doubtful).is_empty();
        nexthops.apply(true, nexthop(101, Some("10.9.0.21"), &[]));
        nexthops.apply(true, nexthop(102, Some("10.9.0.22"), &[]));
        assert!(
            !nexthops.hear_bucket(&buckets(&[101])[0]),
            "of no known group"
        );
        assert!(!in_doubt(&mut nexthops));
        assert!(nexthops.apply(true, resilient(4)));
        assert!(in_doubt(&mut nexthops));
        assert!(
            nexthops.apply(true, resilient(4)) && in_doubt(&mut nexthops),
            "replaced by itself: idle buckets may have moved"
        );
        assert!(nexthops.hear_bucket(&buckets(&[101])[0]) && in_doubt(&mut nexthops));
        assert!(nexthops.apply(false, nexthop(101, None, &[])) && in_doubt(&mut nexthops));
        nexthops.replace(vec![resilient(4)]);
        assert!(in_doubt(&mut nexthops));
        let for_routes = Nexthop {
            fdb: false,
            ..resilient(4)
        };
        nexthops.replace(vec![for_routes]);
        assert!(!in_doubt(&mut nexthops), "no FDB entry can name it");
    }
}
