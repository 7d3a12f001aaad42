//! Which frames of each device are the kernel's, told to whoever keeps them away from the data path.
//!
//! What was told and what the workers know never disagree to a frame's harm. Before a snapshot is published, the kernel is
//! given what it will have to keep; when no worker looks at an older one any more, the workers are given what they can now
//! take. In between, a frame on which the snapshots disagree is the kernel's, which brings home any frame.

use std::fmt;

use crate::table::{KernelShare, Snapshot};

/// Takes a device's index, and which of its frames are the kernel's; whether it could do so. If not, it has left more of
/// them to the kernel, and is told again.
type Tell = Box<dyn FnMut(u32, &KernelShare) -> bool + Send>;

/// The listener, and what it was told.
#[derive(Default)]
pub(super) struct KernelShares {
    tell: Option<Tell>,
    /// By segment number.
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Device {
    ifindex: u32,
    told: KernelShare,
    /// What the newest snapshot asks for.
    newest: KernelShare,
}

impl KernelShares {
    /// Tells a new listener everything.
    pub(super) fn listen(&mut self, tell: Tell, snapshot: &Snapshot) {
        self.tell = Some(tell);
        let devices = snapshot.segments.iter().map(|segment| Device {
            ifindex: segment.config.ifindex,
            told: KernelShare::default(),
            newest: KernelShare::default(),
        });
        self.devices = devices.collect();
        self.widen(snapshot);
    }

    /// Before a snapshot is published: what becomes the kernel's. Whether anything does.
    pub(super) fn widen(&mut self, next: &Snapshot) -> bool {
        if self.tell.is_none() {
            return false;
        }
        for (device, segment) in self.devices.iter_mut().zip(&next.segments) {
            device.newest = KernelShare::of(segment);
        }
        self.follow(|device| device.told.union(&device.newest))
    }

    /// When no reader looks at anything older than the newest snapshot: what becomes the workers'.
    pub(super) fn narrow(&mut self) {
        self.follow(|device| device.newest.clone());
    }

    fn follow(&mut self, share_of: impl Fn(&Device) -> KernelShare) -> bool {
        let Some(tell) = &mut self.tell else {
            return false;
        };
        let mut any = false;
        for device in &mut self.devices {
            let share = share_of(device);
            if share != device.told {
                any = true;
                if tell(device.ifindex, &share) {
                    device.told = share;
                }
            }
        }
        any
    }
}

impl fmt::Debug for KernelShares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelShares")
            .field("devices", &self.devices)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::merge::tests::config;
    use super::*;
    use crate::stats::PeerId;
    use crate::table::{Fdb, NextHop, Segment, UnresolvedReason, Vtep, VtepId, VtepKey};
    use crate::wire::MacAddr;

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    /// One entry for each of these VTEPs, with its number as the address's last byte; a flood list.
    fn snapshot(reasons: &[UnresolvedReason], flood: &[u32]) -> Snapshot {
        let config = config();
        let vteps = reasons.iter().zip(0..).map(|(reason, last)| Vtep {
            key: VtepKey {
                addr: [10, 9, 0, last].into(),
                port: config.port,
                vni: config.vni,
            },
            next_hop: NextHop::Unresolved(*reason),
            path_mtu: 1500,
            peer: PeerId::default(),
        });
        let vteps: Vec<_> = vteps.collect();
        let entries = (0..vteps.len() as u32).map(|id| (mac(id as u8), VtepId(id)));
        Snapshot {
            generation: 0,
            segments: vec![Segment {
                fdb: Arc::new(Fdb::new(entries)),
                groups: Arc::default(),
                lists: Arc::default(),
                flood: Arc::new(flood.iter().copied().map(VtepId).collect()),
                peers: Arc::default(),
                vteps: Arc::new(vteps),
                config: Arc::new(config),
            }],
        }
    }

    const OURS: UnresolvedReason = UnresolvedReason::NoNeighbour;
    const KERNELS: UnresolvedReason = UnresolvedReason::LocalAddress;

    #[test]
    fn what_becomes_the_kernels_is_told_before_and_what_becomes_ours_after() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let take = || std::mem::take(&mut *heard.lock().unwrap());
        let mut shares = KernelShares::default();
        shares.widen(&snapshot(&[KERNELS], &[]));
        shares.narrow();
        let sink = Arc::clone(&heard);
        let tell = move |ifindex, share: &KernelShare| {
            assert_eq!(ifindex, config().ifindex);
            sink.lock().unwrap().push(share.clone());
            true
        };
        shares.listen(Box::new(tell), &snapshot(&[OURS, OURS, KERNELS], &[0]));
        assert_eq!(take(), [KernelShare::Only(vec![mac(2)])]);
        shares.narrow();
        assert_eq!(take(), []);

        shares.widen(&snapshot(&[KERNELS, OURS, OURS], &[1]));
        assert_eq!(take(), [KernelShare::Only(vec![mac(0), mac(2)])]);
        shares.narrow();
        assert_eq!(take(), [KernelShare::Only(vec![mac(0)])]);

        // A destination of the flood list becomes the kernel's, and an entry ours.
        shares.widen(&snapshot(&[OURS, KERNELS, OURS], &[0, 1]));
        assert_eq!(take(), [KernelShare::AllBut(vec![mac(2)])]);
        // Another snapshot before all readers have let go of the one before.
        shares.widen(&snapshot(&[OURS, OURS, KERNELS], &[0, 1]));
        assert_eq!(take(), [KernelShare::EVERYTHING]);
        shares.narrow();
        assert_eq!(take(), [KernelShare::Only(vec![mac(2)])]);
        shares.widen(&snapshot(&[OURS], &[0]));
        assert_eq!(take(), []);
        shares.narrow();
        assert_eq!(take(), [KernelShare::default()]);
    }

    #[test]
    fn what_could_not_be_done_is_told_again() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let take = || std::mem::take(&mut *heard.lock().unwrap());
        let (sink, mut good) = (Arc::clone(&heard), [false, false, true].into_iter());
        let tell = move |_, share: &KernelShare| {
            sink.lock().unwrap().push(share.clone());
            good.next().unwrap()
        };
        let mut shares = KernelShares::default();
        shares.listen(Box::new(tell), &snapshot(&[OURS, KERNELS], &[]));
        for _ in 0..2 {
            shares.narrow();
        }
        assert_eq!(take(), vec![KernelShare::Only(vec![mac(1)]); 3]);
        shares.narrow();
        assert_eq!(take(), []);
    }
}
