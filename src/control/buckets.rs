//! The buckets of a resilient nexthop group: the kernel's, except those that would disturb flows.
//!
//! The kernel moves a bucket to another member when its own is gone, or when its own has more than its share and the bucket
//! is idle, or the group has been out of balance for too long (`nh_res_bucket_should_migrate`). It does not see the frames
//! that the workers carry, so that every bucket is idle to it. Therefore its choice is taken over at once only where the
//! member is gone or the workers do not use the bucket; the others follow when they have been idle for the group's
//! `idle_timer`, or when its `unbalanced_timer` is over.

use std::time::Instant;

use crate::netlink::Resilient;
use crate::table::BucketUse;

/// The buckets of one group.
#[derive(Debug)]
pub(super) struct Buckets {
    all: Vec<Bucket>,
    used: BucketUse,
    /// Since when a bucket in use is held where the kernel does not have it any more.
    held_since: Option<Instant>,
}

/// One bucket, by numbers of nexthop objects.
#[derive(Debug)]
struct Bucket {
    kernels: u32,
    /// Where the workers send.
    ours: u32,
    /// When a frame of it was last known of.
    used_at: Option<Instant>,
}

impl Buckets {
    /// As the kernel has them.
    pub(super) fn new(kernels: &[u32]) -> Self {
        let bucket = |&nexthop: &u32| Bucket {
            kernels: nexthop,
            ours: nexthop,
            used_at: None,
        };
        Self {
            all: kernels.iter().map(bucket).collect(),
            used: BucketUse::new(kernels.len()),
            held_since: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Where the workers send each bucket's frames.
    pub(super) fn nexthops(&self) -> impl Iterator<Item = u32> {
        self.all.iter().map(|bucket| bucket.ours)
    }

    /// Where the workers note which buckets they use.
    pub(super) fn used(&self) -> &BucketUse {
        &self.used
    }

    /// Takes over what the kernel says, as many buckets as there are.
    pub(super) fn follow(&mut self, kernels: &[u32]) {
        for (bucket, nexthop) in self.all.iter_mut().zip(kernels) {
            bucket.kernels = *nexthop;
        }
    }

    /// Moves the buckets that may move to where the kernel has them; whether any did.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        resilient: &Resilient,
        is_member: impl Fn(u32) -> bool,
    ) -> bool {
        let over = self
            .held_since
            .zip(resilient.unbalanced_timer)
            .is_some_and(|(since, timer)| now.saturating_duration_since(since) >= timer);
        let (mut moved, mut held) = (false, false);
        for (index, bucket) in self.all.iter_mut().enumerate() {
            if self.used.take(index) {
                bucket.used_at = Some(now);
            }
            if bucket.ours == bucket.kernels {
                continue;
            }
            let in_use = bucket
                .used_at
                .is_some_and(|at| now.saturating_duration_since(at) < resilient.idle_timer);
            if in_use && !over && is_member(bucket.ours) {
                held = true;
            } else {
                bucket.ours = bucket.kernels;
                moved = true;
            }
        }
        self.held_since = held.then(|| self.held_since.unwrap_or(now));
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::table::{Group, VtepId};

    const RESILIENT: Resilient = Resilient {
        buckets: 4,
        idle_timer: Duration::from_secs(10),
        unbalanced_timer: None,
    };

    fn nexthops(buckets: &Buckets) -> Vec<u32> {
        buckets.nexthops().collect()
    }

    /// A worker sends a frame of this bucket.
    fn use_bucket(buckets: &Buckets, bucket: u32) {
        let vteps = buckets.nexthops().map(VtepId);
        Group::by_bucket(1, vteps, buckets.used().clone()).choose(bucket);
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_bucket_in_use_stays_until_it_is_idle_and_others_follow_the_kernel_at_once() {
        let start = Instant::now();
        let mut buckets = Buckets::new(&[1, 1, 2, 2]);
        use_bucket(&buckets, 1);
        buckets.follow(&[3, 3, 2, 2]);
        assert!(buckets.settle(start, &RESILIENT, |_| true));
        assert_eq!(nexthops(&buckets), [3, 1, 2, 2]);
        // Still in use, then not any more.
        use_bucket(&buckets, 1);
        assert!(!buckets.settle(after(start, 9), &RESILIENT, |_| true));
        assert!(!buckets.settle(after(start, 18), &RESILIENT, |_| true));
        assert_eq!(nexthops(&buckets), [3, 1, 2, 2]);
        assert!(buckets.settle(after(start, 19), &RESILIENT, |_| true));
        assert_eq!(nexthops(&buckets), [3, 3, 2, 2]);
    }

    #[test]
    fn a_bucket_whose_member_is_gone_moves_even_in_use_and_no_other_does() {
        let now = Instant::now();
        let mut buckets = Buckets::new(&[1, 1, 2, 2]);
        for bucket in 0..4 {
            use_bucket(&buckets, bucket);
        }
        buckets.follow(&[2, 3, 3, 2]);
        assert!(buckets.settle(now, &RESILIENT, |member| member != 1));
        assert_eq!(nexthops(&buckets), [2, 3, 2, 2]);
    }

    #[test]
    fn the_unbalanced_timer_moves_what_never_gets_idle() {
        let start = Instant::now();
        let forced = Resilient {
            unbalanced_timer: Some(Duration::from_secs(30)),
            ..RESILIENT
        };
        let mut buckets = Buckets::new(&[1, 1, 1, 1]);
        let mut settle = |seconds, resilient: &Resilient| {
            use_bucket(&buckets, 0);
            buckets.follow(&[2, 1, 1, 1]);
            buckets.settle(after(start, seconds), resilient, |_| true)
        };
        for seconds in [100, 105, 120, 129] {
            assert!(!settle(seconds, &forced) && !settle(seconds, &RESILIENT));
        }
        assert!(!settle(130, &RESILIENT) && settle(130, &forced));
    }

    #[test]
    fn a_bucket_that_the_kernel_moves_back_was_never_away() {
        let start = Instant::now();
        let mut buckets = Buckets::new(&[1, 2, 1, 2]);
        use_bucket(&buckets, 0);
        for kernels in [[2, 2, 1, 2], [1, 2, 1, 2]] {
            buckets.follow(&kernels);
            assert!(!buckets.settle(start, &RESILIENT, |_| true));
        }
        assert_eq!(
            (nexthops(&buckets), buckets.held_since),
            (vec![1, 2, 1, 2], None)
        );
    }

    proptest! {
        /// Frames, moves of the kernel, members that go, and time that passes, against the rule said for one bucket.
        #[test]
        fn each_bucket_is_where_the_rule_says(
            steps in prop::collection::vec((0u64..8, prop::collection::vec(0usize..4, 0..3), 0usize..4, 1u32..5, 1u32..6), 0..60),
        ) {
            let start = Instant::now();
            let mut buckets = Buckets::new(&[1, 2, 3, 4]);
            let (mut kernels, mut ours, mut used_at) = ([1, 2, 3, 4], [1, 2, 3, 4], [None; 4]);
            let mut now = 0;
            for (passes, frames, moved, to, gone) in steps {
                now += passes;
                kernels[moved] = to;
                for frame in frames {
                    use_bucket(&buckets, frame as u32);
                    used_at[frame] = Some(now);
                }
                for bucket in 0..4 {
                    let in_use = used_at[bucket].is_some_and(|at: u64| now - at < 10);
                    if !in_use || ours[bucket] == gone {
                        ours[bucket] = kernels[bucket];
                    }
                }
                let before = nexthops(&buckets);
                buckets.follow(&kernels);
                let any_moved = buckets.settle(after(start, now), &RESILIENT, |member| member != gone);
                prop_assert_eq!(nexthops(&buckets), ours);
                prop_assert_eq!(any_moved, before != ours);
            }
        }
    }
}
