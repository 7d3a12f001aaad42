//! The captures that run: each has a ring of every worker, which a thread of its own reads, and goes on from one session to the
//! next.
//!
//! ```text
//!   worker 0 ── Tap ── lane 1 ── Ring ──┐
//!   worker 1 ── Tap ── lane 1 ── Ring ──┴─▶ Capture, on the thread that serves who asked for it
//! ```
//!
//! A capture costs memory for its rings while it runs, and nothing before and after. When it ends, its rings are taken back from the
//! workers: what they hold then is all that there is, so that the counts are exact.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::control::PeerNames;
use crate::fault::{Explained, Fault};
use crate::port::now_ns;
use crate::stats::tap::{CAPTURES_MAX, Fate, Point, Points, Record, Ring, Tap, Wanted};
use crate::stats::{PeerId, Shape};

/// A worker has a ring in hand for as long as a batch takes: microseconds, unless it hangs.
const TAKE_BACK: Duration = Duration::from_millis(200);
/// How often to look.
const LOOK: Duration = Duration::from_micros(200);
/// How often it is asked again who a peer is that nobody knew.
const NAMES_AGAIN: Duration = Duration::from_secs(1);
/// The role of an underlay device.
const UNDERLAY: &str = "underlay";
/// Records read from one worker's ring before those of the others.
const TURN: usize = 256;

/// What is asked of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Where frames are seen.
    pub points: Points,
    /// At which devices, by name; at all, when there is none.
    pub ports: Vec<String>,
    /// So many bytes of each frame.
    pub snaplen: u32,
    /// Memory for what has not been read yet, in bytes, for each worker.
    pub buffer: usize,
    /// The process that asks, where the kernel tells.
    pub pid: Option<i32>,
}

/// A port whose frames can be captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedPort {
    /// The index of an underlay device, or of a vxlan device.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// `underlay` or `access`.
    pub role: String,
    /// That of a vxlan device.
    pub vni: Option<u32>,
}

/// A capture that runs, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaptureState {
    /// The process that has asked for it, where that is known.
    pub pid: Option<i32>,
    /// Where it sees frames.
    pub points: Vec<String>,
    /// At which devices; at all, when there is none.
    pub ports: Vec<String>,
    /// For how long, in seconds.
    pub age_s: u64,
    /// Frames that it has been handed.
    pub seen: u64,
    /// Frames that it has lost because they were not read in time.
    pub lost: u64,
}

/// Why there is no capture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// Others run.
    #[error("{CAPTURES_MAX} captures run already, of {}", pids(.0))]
    Busy(Vec<Option<i32>>),
    /// There is no such port.
    #[error("no port is called {name}; there {}", names_of(.known))]
    NoSuchPort {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
}

fn pids(pids: &[Option<i32>]) -> String {
    let pids = pids.iter().map(|pid| match pid {
        Some(pid) => format!("pid {pid}"),
        None => "another PID namespace".to_owned(),
    });
    pids.collect::<Vec<_>>().join(", ")
}

fn names_of(names: &[String]) -> String {
    match names {
        [] => "is none: the kernel carries all traffic".to_owned(),
        [name] => format!("is {name}"),
        names => format!("are {}", names.join(", ")),
    }
}

impl Explained for CaptureError {
    fn fault(&self) -> Fault {
        match self {
            Self::Busy(_) => Fault::CapturesBusy,
            Self::NoSuchPort { .. } => Fault::CapturePortUnknown,
        }
    }
}

/// A handle on all captures.
#[derive(Debug, Clone, Default)]
pub struct Captures(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// The workers' of the present session.
    taps: Vec<Arc<Tap>>,
    ports: Vec<CapturedPort>,
    names: Option<PeerNames>,
    /// Sessions so far.
    sessions: u64,
    running: Vec<Running>,
    /// Lost by those that have ended.
    lost: u64,
}

#[derive(Debug)]
struct Running {
    lane: usize,
    asked: Asked,
    since: Instant,
    /// Of the workers of the present session.
    rings: Vec<Arc<Ring>>,
    /// Those that whoever reads has not taken up yet, of former sessions among them.
    fresh: Vec<Arc<Ring>>,
    counts: Arc<Counts>,
    /// Its rings are being taken back: another session's workers get none.
    ends: bool,
}

/// What has come of a capture.
#[derive(Debug, Default)]
struct Counts {
    seen: AtomicU64,
    /// In the rings of workers that are no more.
    lost_before: AtomicU64,
}

impl Captures {
    /// Begins one.
    ///
    /// # Errors
    /// When there are too many, or there is no such port.
    pub fn start(&self, asked: Asked) -> Result<Capture, CaptureError> {
        let mut inner = self.lock();
        let taken = |lane: &usize| inner.running.iter().any(|one| one.lane == *lane);
        let Some(lane) = (0..CAPTURES_MAX).find(|lane| !taken(lane)) else {
            let pids = inner.running.iter().map(|one| one.asked.pid);
            return Err(CaptureError::Busy(pids.collect()));
        };
        for name in &asked.ports {
            if !inner.ports.iter().any(|port| port.name == *name) {
                return Err(CaptureError::NoSuchPort {
                    name: name.clone(),
                    known: inner.ports.iter().map(|port| port.name.clone()).collect(),
                });
            }
        }
        let counts = Arc::new(Counts::default());
        let mut running = Running {
            lane,
            asked,
            since: Instant::now(),
            rings: Vec::new(),
            fresh: Vec::new(),
            counts: Arc::clone(&counts),
            ends: false,
        };
        running.lend(&inner.taps, &inner.ports);
        inner.running.push(running);
        drop(inner);
        Ok(Capture {
            captures: self.clone(),
            lane,
            counts,
            session: None,
            rings: Vec::new(),
            ports: Vec::new(),
            names: Names::default(),
            ended: false,
        })
    }

    /// Those that run.
    pub fn states(&self) -> Vec<CaptureState> {
        let inner = self.lock();
        let state = |one: &Running| CaptureState {
            pid: one.asked.pid,
            points: one
                .asked
                .points
                .iter()
                .map(|point| point.label().to_owned())
                .collect(),
            ports: one.asked.ports.clone(),
            age_s: one.since.elapsed().as_secs(),
            seen: one.counts.seen.load(Ordering::Relaxed),
            lost: one.lost(),
        };
        inner.running.iter().map(state).collect()
    }

    /// Frames that all captures have lost so far.
    pub fn lost(&self) -> u64 {
        let inner = self.lock();
        inner.lost + inner.running.iter().map(Running::lost).sum::<u64>()
    }

    /// Workers take up their work, by these taps.
    pub(super) fn begin_session(
        &self,
        taps: Vec<Arc<Tap>>,
        ports: Vec<CapturedPort>,
        names: PeerNames,
    ) {
        let mut inner = self.lock();
        let Inner { running, .. } = &mut *inner;
        for one in running {
            one.lend(&taps, &ports);
        }
        (inner.taps, inner.ports, inner.names) = (taps, ports, Some(names));
        inner.sessions += 1;
    }

    /// All workers have ended.
    pub(super) fn end_session(&self) {
        let mut inner = self.lock();
        inner.running.iter_mut().for_each(Running::end_session);
        inner.taps.clear();
        inner.ports.clear();
        inner.names = None;
        inner.sessions += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while somebody held it leaves nothing half-done that could mislead.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Captures {
    /// Of the workers with these taps.
    pub fn tapped(taps: Vec<Arc<Tap>>) -> Self {
        let captures = Self::default();
        captures.lock().taps = taps;
        captures
    }
}

impl Running {
    /// Lends every worker a ring.
    fn lend(&mut self, taps: &[Arc<Tap>], ports: &[CapturedPort]) {
        if self.ends {
            return;
        }
        let asked = |port: &&CapturedPort| self.asked.ports.contains(&port.name);
        let mut wanted = Wanted {
            points: self.asked.points,
            ports: ports
                .iter()
                .filter(asked)
                .map(|port| port.ifindex)
                .collect(),
            snaplen: self.asked.snaplen,
        };
        if wanted.ports.is_empty() && !self.asked.ports.is_empty() {
            // What was asked for has gone, and nothing else was: no device has this index.
            wanted.ports.push(0);
        }
        for tap in taps {
            let ring = Ring::new(tap.worker(), wanted.clone(), self.asked.buffer);
            let ring = Arc::new(ring);
            tap.lend(self.lane, Arc::clone(&ring));
            self.fresh.push(Arc::clone(&ring));
            self.rings.push(ring);
        }
    }

    /// All workers have ended. Whoever does not read for several sessions loses all but the last one's: each has as much memory
    /// as was asked for.
    fn end_session(&mut self) {
        let rings = std::mem::take(&mut self.rings);
        let is_last = |ring: &&Arc<Ring>| rings.iter().any(|last| Arc::ptr_eq(last, ring));
        let fresh = self.fresh.iter().filter(|ring| !is_last(ring));
        let unread: usize = fresh.map(|ring| ring.read(usize::MAX, |_, _| {})).sum();
        self.fresh.retain(|ring| is_last(&ring));
        let lost = unread as u64 + rings.iter().map(|ring| ring.lost()).sum::<u64>();
        self.counts.lost_before.fetch_add(lost, Ordering::Relaxed);
    }

    fn lost(&self) -> u64 {
        let rings = self.rings.iter().map(|ring| ring.lost());
        self.counts.lost_before.load(Ordering::Relaxed) + rings.sum::<u64>()
    }
}

/// A capture. It ends when it is dropped.
#[derive(Debug)]
pub struct Capture {
    captures: Captures,
    lane: usize,
    counts: Arc<Counts>,
    /// The session whose rings these are.
    session: Option<u64>,
    rings: Vec<Arc<Ring>>,
    ports: Vec<CapturedPort>,
    names: Names,
    ended: bool,
}

/// Who has which place, as far as was asked.
#[derive(Debug, Default)]
struct Names {
    source: Option<PeerNames>,
    known: HashMap<PeerId, IpAddr>,
    asked: Option<Instant>,
}

impl Names {
    fn of(&mut self, peer: PeerId) -> Option<IpAddr> {
        if let Some(addr) = self.known.get(&peer) {
            return Some(*addr);
        }
        let lately = self.asked.is_some_and(|at| at.elapsed() < NAMES_AGAIN);
        if lately {
            return None;
        }
        self.asked = Some(Instant::now());
        self.known = self.source.as_ref()?.all().into_iter().collect();
        self.known.get(&peer).copied()
    }
}

/// Whether a frame has outer headers where it was seen.
fn is_in_tunnel(ports: &[CapturedPort], record: &Record) -> bool {
    match (record.spot.point, record.fate) {
        (Point::UnderlayRx | Point::UnderlayTx, _) => true,
        (Point::Drop, Fate::Dropped(_, shape)) => {
            let mut ports = ports.iter();
            let port = ports.find(|port| port.ifindex == record.spot.port);
            let came = port.is_some_and(|port| port.role == UNDERLAY);
            came == (shape == Shape::Arrived)
        }
        _ => false,
    }
}

/// A frame that was seen.
#[derive(Debug)]
pub struct Sighting<'a> {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// The worker that had it.
    pub worker: u16,
    /// What is noted of it.
    pub record: Record,
    /// Who the peer is, where it is known by its count; the outer headers may tell where not.
    pub peer: Option<IpAddr>,
    /// Whether it has outer headers.
    pub in_tunnel: bool,
    /// Its bytes, as many as were asked for.
    pub bytes: &'a [u8],
}

impl Capture {
    /// Hands out what has come, up to some hundred frames of each worker; returns how many. Those of one worker come in order.
    pub fn read(&mut self, mut each: impl FnMut(Sighting<'_>)) -> usize {
        self.follow();
        let beyond = SystemTime::now().duration_since(UNIX_EPOCH);
        let beyond = beyond.map_or(0, |since| since.as_nanos() as u64);
        // The clock of the day may be set at any time.
        let offset = beyond.wrapping_sub(now_ns());
        let (names, ports, mut read) = (&mut self.names, &self.ports, 0);
        self.rings.retain(|ring| {
            // Held by the worker's tap, by the list of what runs, and here: nobody writes to one that is only here.
            let is_over = Arc::strong_count(ring) == 1;
            let of_ring = ring.read(TURN, |record, bytes| {
                each(Sighting {
                    time_ns: record.time_ns.wrapping_add(offset),
                    worker: ring.worker(),
                    record,
                    peer: names.of(record.peer),
                    in_tunnel: is_in_tunnel(ports, &record),
                    bytes,
                });
            });
            read += of_ring;
            of_ring > 0 || !is_over
        });
        self.counts.seen.fetch_add(read as u64, Ordering::Relaxed);
        read
    }

    /// The ports that there are, after [`Capture::read`] has looked.
    pub fn ports(&self) -> &[CapturedPort] {
        &self.ports
    }

    /// Frames that were lost so far.
    pub fn lost(&self) -> u64 {
        let inner = self.captures.lock();
        let mut running = inner.running.iter();
        let running = running.find(|one| Arc::ptr_eq(&one.counts, &self.counts));
        let former = self.counts.lost_before.load(Ordering::Relaxed);
        running.map_or(former, Running::lost)
    }

    /// Has the workers write nothing more. What they have written is still to be read, and with it everything is.
    pub fn end(&mut self) {
        if self.ended {
            return;
        }
        let mine = |one: &Running| Arc::ptr_eq(&one.counts, &self.counts);
        let mut inner = self.captures.lock();
        if let Some(running) = inner.running.iter_mut().find(|one| mine(one)) {
            running.ends = true;
        }
        let taps = inner.taps.clone();
        drop(inner);
        self.follow();
        self.ended = true;
        taps.iter().for_each(|tap| tap.close(self.lane));
        let until = Instant::now() + TAKE_BACK;
        for tap in &taps {
            while tap.take_back(self.lane).is_none() && Instant::now() < until {
                thread::sleep(LOOK);
            }
        }
        // The lane is another's only now.
        let mut inner = self.captures.lock();
        let mine = |one: &Running| Arc::ptr_eq(&one.counts, &self.counts);
        if let Some(position) = inner.running.iter().position(mine) {
            let lost = inner.running[position].lost();
            inner.running.remove(position);
            inner.lost += lost;
            self.counts.lost_before.store(lost, Ordering::Relaxed);
        }
    }

    /// Takes up the rings of another session.
    fn follow(&mut self) {
        let mut inner = self.captures.lock();
        if self.session == Some(inner.sessions) || self.ended {
            return;
        }
        self.session = Some(inner.sessions);
        let mut running = inner.running.iter_mut();
        if let Some(running) = running.find(|one| Arc::ptr_eq(&one.counts, &self.counts)) {
            self.rings.append(&mut running.fresh);
        }
        if !inner.ports.is_empty() {
            self.ports = inner.ports.clone();
        }
        self.names = Names {
            source: inner.names.clone(),
            ..Names::default()
        };
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;
    use crate::stats::tap::PortTap;

    fn asked(ports: &[&str]) -> Asked {
        Asked {
            points: Point::ALL.into_iter().collect(),
            ports: ports.iter().map(|name| (*name).to_owned()).collect(),
            snaplen: 100,
            buffer: 1 << 16,
            pid: Some(77),
        }
    }

    fn port(ifindex: u32, name: &str) -> CapturedPort {
        CapturedPort {
            ifindex,
            name: name.to_owned(),
            role: "underlay".to_owned(),
            vni: None,
        }
    }

    fn begin(captures: &Captures, workers: u16) -> Vec<Arc<Tap>> {
        let taps: Vec<_> = (0..workers).map(|n| Arc::new(Tap::new(n))).collect();
        let mut inner = captures.lock();
        let ports = vec![port(4, "eth1"), port(9, "flannel.1")];
        let Inner { running, .. } = &mut *inner;
        for one in running {
            one.lend(&taps, &ports);
        }
        (inner.taps, inner.ports) = (taps.clone(), ports);
        inner.sessions += 1;
        taps
    }

    fn pass(tap: &Arc<Tap>, port: u32, byte: u8) {
        let port = PortTap::new(Arc::clone(tap), port);
        if port.wants(Point::AccessRx) {
            let mut staged = port.stage(Point::AccessRx, now_ns());
            staged.add(Fate::Encap, PeerId(0), 1, iter::once(&[byte][..]));
            staged.commit(1);
        }
    }

    fn read(capture: &mut Capture) -> Vec<(u16, u8)> {
        let mut seen = Vec::new();
        while capture.read(|one| seen.push((one.worker, one.bytes[0]))) > 0 {}
        seen
    }

    #[test]
    fn a_capture_goes_on_from_session_to_session_and_loses_nothing_by_it() {
        let captures = Captures::default();
        let first = begin(&captures, 2);
        let mut capture = captures.start(asked(&[])).unwrap();
        pass(&first[0], 4, 1);
        pass(&first[1], 9, 2);
        captures.end_session();
        drop(first);
        let second = begin(&captures, 1);
        pass(&second[0], 4, 3);
        assert_eq!(read(&mut capture), [(0, 1), (1, 2), (0, 3)]);
        assert_eq!(capture.rings.len(), 1);
        assert_eq!(captures.states()[0].seen, 3);
        pass(&second[0], 4, 4);
        capture.end();
        pass(&second[0], 4, 5);
        assert_eq!(read(&mut capture), [(0, 4)]);
        assert_eq!((capture.lost(), captures.states()), (0, vec![]));
        assert!(second[0].take_back(0).is_none());
    }

    #[test]
    fn what_is_lost_is_counted_beyond_its_end() {
        let captures = Captures::default();
        let taps = begin(&captures, 1);
        let small = Asked {
            buffer: 1024,
            ..asked(&[])
        };
        let mut capture = captures.start(small).unwrap();
        (0..100).for_each(|byte| pass(&taps[0], 4, byte));
        let lost = capture.lost();
        assert_eq!(captures.states()[0].lost, lost);
        capture.end();
        let seen = read(&mut capture).len() as u64;
        assert_eq!((seen + lost, capture.lost()), (100, lost));
        assert!(lost > 0);
        drop(capture);
        assert_eq!(captures.lost(), lost);
    }

    #[test]
    fn there_are_so_many_at_a_time_and_each_sees_its_own_ports() {
        let captures = Captures::default();
        let taps = begin(&captures, 1);
        let mut all: Vec<_> = ["eth1", "flannel.1", "eth1"]
            .iter()
            .map(|name| captures.start(asked(&[name])).unwrap())
            .collect();
        all.push(captures.start(asked(&[])).unwrap());
        let error = captures.start(asked(&[])).unwrap_err();
        assert_eq!(error, CaptureError::Busy(vec![Some(77); 4]));
        pass(&taps[0], 4, 1);
        pass(&taps[0], 9, 2);
        let seen: Vec<_> = all.iter_mut().map(|one| read(one).len()).collect();
        assert_eq!(seen, [1, 1, 1, 2]);
        drop(all.remove(1));
        let error = captures.start(asked(&["eth9"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no port is called eth9; there are eth1, flannel.1"
        );
        captures.start(asked(&["flannel.1"])).unwrap();
    }

    #[test]
    fn a_capture_that_nobody_reads_has_no_ring_of_every_session() {
        let captures = Captures::default();
        let mut capture = None;
        for byte in 0..20 {
            let taps = begin(&captures, 2);
            capture.get_or_insert_with(|| captures.start(asked(&[])).unwrap());
            pass(&taps[0], 4, byte);
            captures.end_session();
        }
        let held = captures.lock().running[0].fresh.len();
        assert_eq!(held, 2, "those of the last session's workers");
        let mut capture = capture.unwrap();
        assert_eq!(captures.states()[0].lost, 19);
        assert_eq!(read(&mut capture), [(0, 19)]);
        assert_eq!(capture.lost(), 19);
    }

    #[test]
    fn a_capture_that_is_never_without_frames_lets_go_of_what_it_has_read() {
        let captures = Captures::default();
        let mut capture = None;
        for byte in 0..20 {
            let taps = begin(&captures, 1);
            let capture = capture.get_or_insert_with(|| captures.start(asked(&[])).unwrap());
            pass(&taps[0], 4, byte);
            assert_eq!(capture.read(|one| assert_eq!(one.bytes[0], byte)), 1);
            captures.end_session();
        }
        let held = capture.map(|capture| capture.rings.len());
        assert_eq!(held, Some(1), "that of the last session");
    }

    #[test]
    fn a_session_that_begins_while_a_capture_ends_lends_it_nothing() {
        let captures = Captures::default();
        let taps = begin(&captures, 1);
        let mut capture = captures.start(asked(&[])).unwrap();
        // In hand, so that the end waits.
        let port = PortTap::new(Arc::clone(&taps[0]), 4);
        let staged = port.stage(Point::AccessRx, 1);
        let end = thread::spawn(move || {
            capture.end();
            capture
        });
        while taps[0].wants(Point::AccessRx) {
            thread::yield_now();
        }
        captures.end_session();
        let next = begin(&captures, 1);
        staged.commit(0);
        end.join().unwrap();
        assert!(!next[0].wants(Point::AccessRx), "nobody would read it");
        assert!(next[0].take_back(0).is_none());
    }

    /// A worker that hangs has its ring in hand.
    #[test]
    fn a_worker_that_hangs_holds_up_no_end_and_no_next_one() {
        let captures = Captures::default();
        let taps = begin(&captures, 1);
        let capture = captures.start(asked(&[])).unwrap();
        let port = PortTap::new(Arc::clone(&taps[0]), 4);
        let staged = port.stage(Point::AccessRx, 1);
        drop(capture);
        let mut next = captures.start(asked(&[])).unwrap();
        staged.commit(0);
        pass(&taps[0], 4, 7);
        assert_eq!(read(&mut next), [(0, 7)]);
    }
}
