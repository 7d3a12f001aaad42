//! How long the frames of each device may be, told to whoever keeps longer ones away from the data path.

use std::fmt;

use crate::table::Snapshot;

/// Takes a device's index and the longest frame, in bytes, that the paths to all of its VTEPs take.
type Tell = Box<dyn FnMut(u32, u32) + Send>;

/// The listener, and what it was told.
#[derive(Default)]
pub(super) struct FrameLimits {
    tell: Option<Tell>,
    /// By segment number.
    told: Vec<u32>,
}

impl FrameLimits {
    /// Tells a new listener everything.
    pub(super) fn listen(&mut self, tell: Tell, snapshot: &Snapshot) {
        self.tell = Some(tell);
        self.told = Vec::new();
        self.shrink(snapshot);
    }

    /// Before a snapshot is published: what shrank, so that no frame meets the new table which is too long for it.
    pub(super) fn shrink(&mut self, next: &Snapshot) {
        self.follow(next, |told, limit| limit < told);
    }

    /// After it has been published: what grew.
    pub(super) fn grow(&mut self, published: &Snapshot) {
        self.follow(published, |told, limit| limit > told);
    }

    fn follow(&mut self, snapshot: &Snapshot, differs: impl Fn(u32, u32) -> bool) {
        let Some(tell) = &mut self.tell else {
            return;
        };
        self.told.resize(snapshot.segments.len(), u32::MAX);
        for (segment, told) in snapshot.segments.iter().zip(&mut self.told) {
            let limit = segment.frame_len_max();
            if differs(*told, limit) {
                *told = limit;
                tell(segment.config.ifindex, limit);
            }
        }
    }
}

impl fmt::Debug for FrameLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameLimits")
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::merge::tests::config;
    use super::*;
    use crate::stats::PeerId;
    use crate::table::{NextHop, Segment, UnresolvedReason, Vtep, VtepKey};

    /// A segment on an underlay of 1500 bytes with VTEPs at these MTUs; over IPv6 where so said.
    fn snapshot(paths: &[(u16, bool)]) -> Snapshot {
        let config = config();
        let vtep = |(number, (path_mtu, six)): (usize, &(u16, bool))| {
            let last = u8::try_from(number + 2).unwrap();
            let addr = if *six {
                [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last].into()
            } else {
                [10, 9, 0, last].into()
            };
            Vtep {
                key: VtepKey {
                    addr,
                    port: config.port,
                    vni: config.vni,
                },
                next_hop: NextHop::Unresolved(UnresolvedReason::NoNeighbour),
                path_mtu: *path_mtu,
                peer: PeerId::default(),
            }
        };
        Snapshot {
            generation: 0,
            segments: vec![Segment {
                vteps: Arc::new(paths.iter().enumerate().map(vtep).collect()),
                config: Arc::new(config),
                fdb: Arc::default(),
                groups: Arc::default(),
                lists: Arc::default(),
                flood: Arc::default(),
                peers: Arc::default(),
            }],
        }
    }

    #[test]
    fn p01_the_narrowest_path_limits_the_segment() {
        let limit = |paths: &[(u16, bool)]| snapshot(paths).segments[0].frame_len_max();
        assert_eq!(limit(&[]), 1464, "the link's own");
        assert_eq!(limit(&[(1500, false), (1300, false), (1400, false)]), 1264);
        assert_eq!(limit(&[(1300, false), (1310, true)]), 1254);
        assert_eq!(limit(&[(20, false)]), 0);
    }

    #[test]
    fn shrinking_is_told_before_and_growing_after() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let mut limits = FrameLimits::default();
        let wide = snapshot(&[(1500, false)]);
        let narrow = snapshot(&[(1300, false)]);
        let ifindex = wide.segments[0].config.ifindex;
        let sink = Arc::clone(&heard);
        let tell = Box::new(move |ifindex, bytes| sink.lock().unwrap().push((ifindex, bytes)));
        limits.listen(tell, &wide);
        let take = || std::mem::take(&mut *heard.lock().unwrap());
        assert_eq!(take(), [(ifindex, 1464)]);
        limits.shrink(&narrow);
        assert_eq!(take(), [(ifindex, 1264)]);
        limits.grow(&narrow);
        limits.shrink(&wide);
        assert_eq!(take(), []);
        limits.grow(&wide);
        assert_eq!(take(), [(ifindex, 1464)]);
    }
}
