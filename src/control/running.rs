//! The mirror at work, as the rest of the process holds it.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::report::{GroupReport, PeersReport, Report, SegmentReport, VtepReport};
use super::roster::Roster;
use crate::stats::PeerId;
use crate::table::{Group, NextHop, Policy, Segment, SegmentId, VtepId};

/// The mirror at work. Dropping it stops it as [`Running::stop`] does.
#[derive(Debug)]
pub struct Running {
    /// Writing to it wakes the thread, closing it tells it to stop.
    pub(super) wake: Option<UnixStream>,
    pub(super) policies: Sender<NewPolicy>,
    pub(super) thread: Option<JoinHandle<()>>,
    pub(super) shared: Arc<Mutex<Shared>>,
}

impl Running {
    /// Ends the thread, which gives back what it asked of the kernel.
    pub fn stop(self) {
        drop(self);
    }

    /// Whether the thread is at work: false when it has panicked, or failed, which [`super::Event::Failed`] tells. The tables
    /// are then those of its last publication and follow nothing any more.
    pub fn is_alive(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Decides anew about every segment. The channel that is returned closes when the snapshot that says so is published:
    /// every worker goes by it from its next turn on.
    pub fn set_policy(&self, policy: Policy) -> Receiver<()> {
        let (done, in_force) = bounded(0);
        // Either fails only when the thread has ended: then this order is dropped, too, and so the channel closed.
        let sent = self.policies.send((policy, done));
        if let (Ok(()), Some(mut wake)) = (sent, self.wake.as_ref()) {
            let _ = wake.write(&[0]);
        }
        in_force
    }

    /// The segments as they were published last, by their handles: in the order of their numbers.
    pub fn segments(&self) -> Vec<Segment> {
        let shared = lock(&self.shared);
        let segments = shared.segments.iter();
        segments.map(|shared| shared.segment.clone()).collect()
    }

    /// How often a table was published after the first.
    pub fn publications(&self) -> u64 {
        lock(&self.shared).counts.publications
    }

    /// What the mirror knows now.
    pub fn report(&self) -> Report {
        // Only handles are copied under the lock.
        let shared = lock(&self.shared).clone();
        let segments = shared
            .segments
            .iter()
            .enumerate()
            .map(|(id, segment)| SegmentReport {
                peers: shared.roster.report(id),
                ..segment.report(id)
            })
            .collect();
        Report {
            segments,
            ..shared.counts
        }
    }
}

impl Running {
    /// Tells who has which place in the book of peers, as long as this runs.
    pub fn peer_names(&self) -> PeerNames {
        PeerNames(Arc::clone(&self.shared))
    }
}

/// Who has which place in the book of peers.
#[derive(Debug, Clone)]
pub struct PeerNames(Arc<Mutex<Shared>>);

impl PeerNames {
    /// All that have one of their own, now.
    pub fn all(&self) -> Vec<(PeerId, IpAddr)> {
        // Only handles are copied under the lock.
        let roster = lock(&self.0).roster.clone();
        roster.names().collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(
                "the thread vxgate-control had panicked: managed neighbours may remain"
            );
        }
    }
}

/// What the operator decides anew, and what is dropped once the workers are told.
pub(super) type NewPolicy = (Policy, Sender<()>);

/// What [`Running::report`] is made from.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    pub(super) counts: Report,
    pub(super) segments: Vec<SharedSegment>,
    pub(super) roster: Roster,
}

/// One segment, by its handles.
#[derive(Debug, Clone)]
pub(super) struct SharedSegment {
    pub(super) segment: Segment,
    pub(super) next_hops: Arc<Vec<Option<IpAddr>>>,
}

impl SharedSegment {
    pub(super) fn report(&self, id: usize) -> SegmentReport {
        let Segment {
            config,
            vteps,
            fdb,
            groups,
            flood,
            ..
        } = &self.segment;
        let vteps = vteps
            .iter()
            .zip(self.next_hops.iter())
            .map(|(vtep, next_hop)| VtepReport {
                key: vtep.key,
                next_hop: *next_hop,
                mac: match &vtep.next_hop {
                    NextHop::Resolved(template) => Ok(template.next_hop_mac()),
                    NextHop::Unresolved(reason) => Err(*reason),
                },
                path_mtu: vtep.path_mtu,
            });
        SegmentReport {
            id: SegmentId(u16::try_from(id).unwrap_or(u16::MAX)),
            device: config.name.clone(),
            ifindex: config.ifindex,
            fdb_entries: fdb.len(),
            flood_entries: flood.len(),
            kernel_entries: self.segment.kernel_entries(),
            kernel_floods: self.segment.kernel_floods(),
            vteps: vteps.collect(),
            groups: groups.iter().map(|group| self.group(group)).collect(),
            peers: PeersReport::default(),
        }
    }

    fn group(&self, group: &Group) -> GroupReport {
        let key = |id: VtepId| self.segment.vteps.get(id.0 as usize).map(|vtep| vtep.key);
        GroupReport {
            nexthop: group.nexthop,
            members: group
                .portions()
                .filter_map(|(id, part)| Some((key(id)?, part)))
                .collect(),
        }
    }
}

/// A report is never worth a panic: whoever held the lock only copied.
pub(super) fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panicked_is_not_alive() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            // Ends, in a panic without a message, when the other end is closed.
            std::io::Read::read(&mut theirs, &mut [0]).ok();
            std::panic::resume_unwind(Box::new("for the test"));
        });
        let mut running = Running {
            wake: Some(ours),
            policies: bounded(1).0,
            thread: Some(thread),
            shared: Arc::default(),
        };
        assert!(running.is_alive());
        drop(running.wake.take());
        while running.is_alive() {
            std::thread::yield_now();
        }
    }
}
