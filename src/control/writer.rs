//! The thread that listens to the kernel and publishes snapshots.
//!
//! Each time it wakes: 1. take what the kernel announced; 2. tell the assembly what it should know, which never waits for a
//! build; 3. when something is in doubt and the last publication is long enough ago, ask, tell, build, publish; 4. sleep
//! until the kernel speaks, until the next publication is due, until some routes are to be asked again (once a second, if
//! there are any), or until it is told to stop. It never spins.
//!
//! Publications are coalesced: at least [`PUBLICATION_GAP`] apart, and after a long build three times as long as that
//! took, so that a storm of changes costs at most a quarter of this thread's time in building. As long as changes wait for
//! that, more of them are heard [`LISTEN_GAP`] apart and not one by one. After a storm, what it took of memory is given back.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TrySendError, unbounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::frame_limit::FrameLimits;
use super::kernel_share::KernelShares;
use super::listening::{Heard, catch_up, listen};
use super::mirror::Mirror;
use super::running::{NewPolicy, Running, Shared, SharedSegment, lock};
use super::{Error, Found};
use crate::heap;
use crate::netlink::{Group, Socket, Subscription};
use crate::stats::PeerBook;
use crate::table::{KernelShare, Policy, Snapshot, Writer};

/// The least time between two publications.
const PUBLICATION_GAP: Duration = Duration::from_millis(5);
/// The least time between two looks at the announcements while a publication is waited for: to be woken costs several times
/// what an announcement does.
const LISTEN_GAP: Duration = Duration::from_millis(1);
/// A build may take this share of the time: one part in four.
const REST_PER_BUILD: u32 = 3;
/// Room for some hundred thousand notifications of about 800 bytes (as the kernel accounts them) while we build.
const QUEUE_BYTES: usize = 64 << 20;
/// How long frames are on their way from the steering programs to a worker, most of the time. Those that were steered
/// before they became the kernel's are still sent by the snapshot that said so.
const ON_THEIR_WAY: Duration = Duration::from_millis(5);
/// How long to wait after a question failed, doubled each time up to 64 times this.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// So many failures in a row, some 10 seconds, are told to the assembly.
const FAILURES_TOLD: u32 = 8;
/// When to look again for old snapshots that readers held back.
const RECLAIM_AFTER: Duration = Duration::from_millis(100);
/// So many announcements leave holes in memory that are worth giving back, when it has been quiet for a while.
const STORM: u64 = 4096;
const QUIET: Duration = Duration::from_secs(1);

const GROUPS: [Group; 10] = [
    Group::Link,
    Group::Neighbour,
    Group::Ipv4Address,
    Group::Ipv4Route,
    Group::Ipv4Rule,
    Group::Ipv6Address,
    Group::Ipv6Route,
    Group::Ipv6Rule,
    Group::Mdb,
    Group::Nexthop,
];

/// What the assembly should hear about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Vxlan devices or their underlay devices changed in a way that may need another assembly: look again with
    /// [`super::discover`].
    Topology,
    /// A watched link, by its index, is not there or not up: frames redirected to it are lost. Told once of each link.
    LinkGone(u32),
    /// The mirror cannot ask the kernel any more, for this reason; the last snapshot stays, the mirror goes on trying.
    Failed(String),
}

/// The mirror, complete and not yet running.
#[derive(Debug)]
pub struct Control {
    mirror: Mirror,
    subscription: Subscription,
    wake: (UnixStream, UnixStream),
    frame_limits: FrameLimits,
    kernel_shares: KernelShares,
    published: Published,
}

/// Is told of every snapshot that was published.
struct Published(Box<dyn FnMut() + Send>);

impl std::fmt::Debug for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Published")
    }
}

impl Control {
    /// Subscribes, dumps, asks the kernel to resolve the next hops. The number of a segment is its device's position
    /// in `devices`, all of which must be eligible. Works in the network namespace of the calling thread.
    pub fn open(devices: &[Found], watched_links: &[u32]) -> Result<Self, Error> {
        Self::open_with(devices, watched_links, &Policy::default(), Arc::default())
    }

    /// As [`Control::open`], with what the operator decides of every segment, and the workers' book of peers.
    pub fn open_with(
        devices: &[Found],
        watched_links: &[u32],
        policy: &Policy,
        book: Arc<PeerBook>,
    ) -> Result<Self, Error> {
        Self::assemble(devices, watched_links, policy, book, QUEUE_BYTES)
    }

    /// As [`Control::open`] with another length of the kernel's queue for us, in bytes.
    pub fn open_with_queue(
        devices: &[Found],
        watched_links: &[u32],
        queue_bytes: usize,
    ) -> Result<Self, Error> {
        let policy = Policy::default();
        Self::assemble(devices, watched_links, &policy, Arc::default(), queue_bytes)
    }

    fn assemble(
        devices: &[Found],
        watched_links: &[u32],
        policy: &Policy,
        book: Arc<PeerBook>,
        queue_bytes: usize,
    ) -> Result<Self, Error> {
        let io = |doing| move |source| Error::Io { doing, source };
        let subscription =
            Subscription::open(&GROUPS, queue_bytes).map_err(io("subscribing to changes"))?;
        let socket = Socket::open().map_err(io("opening a netlink socket"))?;
        let wake =
            UnixStream::pair().map_err(io("making the pair of sockets that ends the thread"))?;
        let mut control = Self {
            mirror: Mirror::new(socket, devices, watched_links, policy, book)?,
            subscription,
            wake,
            frame_limits: FrameLimits::default(),
            kernel_shares: KernelShares::default(),
            published: Published(Box::new(|| {})),
        };
        catch_up(&mut control.subscription, &mut control.mirror)?;
        control.mirror.reconcile(Instant::now())?;
        Ok(control)
    }

    /// The first snapshot.
    pub fn snapshot(&self) -> Snapshot {
        self.mirror.snapshot()
    }

    /// Tells `tell` the index of each device and the longest frame (bytes, Ethernet header included) that the paths to all
    /// of its VTEPs take: at once, and whenever it changes, from the mirror's thread. A limit that shrinks is told before
    /// the snapshot is published that says so.
    #[must_use]
    pub fn with_frame_limits(mut self, tell: impl FnMut(u32, u32) + Send + 'static) -> Self {
        let snapshot = self.mirror.snapshot();
        self.frame_limits.listen(Box::new(tell), &snapshot);
        self
    }

    /// Tells `tell` the index of each device of which some frames are the kernel's, and which: at once, and whenever it
    /// changes, from the mirror's thread. What becomes the kernel's is told before the snapshot is published that says so,
    /// what is no longer when no reader looks at an older one.
    /// Whoever cannot do so says `false`, has left more frames to the kernel, and is told again with a later build.
    #[must_use]
    pub fn with_kernel_shares(
        mut self,
        tell: impl FnMut(u32, &KernelShare) -> bool + Send + 'static,
    ) -> Self {
        let snapshot = self.mirror.snapshot();
        self.kernel_shares.listen(Box::new(tell), &snapshot);
        self
    }

    /// Calls `tell` after every snapshot that is published, from the mirror's thread.
    #[must_use]
    pub fn with_publications(mut self, tell: impl FnMut() + Send + 'static) -> Self {
        self.published = Published(Box::new(tell));
        self
    }

    /// Goes on in a thread of its own, named `vxgate-control`.
    pub fn start(self, writer: Writer, events: Sender<Event>) -> Result<Running, Error> {
        let Self {
            mirror,
            subscription,
            wake: (ours, theirs),
            frame_limits,
            kernel_shares,
            published,
        } = self;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (new_policies, policies) = unbounded();
        let now = Instant::now();
        let mut thread = Thread {
            mirror,
            subscription,
            wake: theirs,
            policies,
            told_when_built: Vec::new(),
            writer,
            events,
            frame_limits,
            kernel_shares,
            published,
            untold: Vec::new(),
            shared: Arc::clone(&shared),
            next_build: now,
            reclaim_at: None,
            heard: 0,
            // The lists that the mirror was made from.
            give_back_at: Some(now + QUIET),
            failures_in_a_row: 0,
        };
        thread.share(None);
        let thread = thread::Builder::new()
            .name("vxgate-control".into())
            .spawn(move || thread.run())
            .map_err(|source| Error::Io {
                doing: "starting the thread vxgate-control",
                source,
            })?;
        Ok(Running {
            wake: Some(ours),
            policies: new_policies,
            thread: Some(thread),
            shared,
        })
    }
}

/// The running thread's own.
struct Thread {
    mirror: Mirror,
    subscription: Subscription,
    wake: UnixStream,
    policies: Receiver<NewPolicy>,
    /// Whoever waits for the next build.
    told_when_built: Vec<Sender<()>>,
    writer: Writer,
    events: Sender<Event>,
    frame_limits: FrameLimits,
    kernel_shares: KernelShares,
    published: Published,
    /// Events for which the channel had no room.
    untold: Vec<Event>,
    shared: Arc<Mutex<Shared>>,
    next_build: Instant,
    reclaim_at: Option<Instant>,
    /// Announcements since memory was given back, and when to do it again.
    heard: u64,
    give_back_at: Option<Instant>,
    failures_in_a_row: u32,
}

impl Thread {
    fn run(mut self) {
        // What was found while the mirror was opened.
        self.tell();
        loop {
            match self.sleep() {
                Ok(Woken::Stop) => break,
                Ok(Woken::Other) => {}
                Err(error) => {
                    self.fail("waiting for changes", &error);
                    break;
                }
            }
            match listen(&mut self.subscription, &mut self.mirror) {
                Ok(heard) => self.count(&heard),
                Err(error) => {
                    self.fail("listening to changes", &error);
                    break;
                }
            }
            self.tell();
            self.take_policies();
            let now = Instant::now();
            if now >= self.next_build && self.mirror.is_doubtful(now) {
                self.build(now);
                self.tell();
            }
            self.reclaim();
            self.give_back();
        }
        // The mirror gives back what it asked for: by what is true now, as far as it can be heard.
        listen(&mut self.subscription, &mut self.mirror).ok();
    }

    /// Takes over what the operator has decided anew.
    fn take_policies(&mut self) {
        for (policy, done) in self.policies.try_iter() {
            self.mirror.set_policy(&policy);
            self.told_when_built.push(done);
        }
    }

    /// Sleeps until there is something to do.
    fn sleep(&mut self) -> io::Result<Woken> {
        let now = Instant::now();
        let doubtful = self.mirror.is_doubtful(now);
        let build = if doubtful {
            Some(self.next_build)
        } else {
            self.mirror.ask_at().map(|at| at.max(self.next_build))
        };
        let retell = (!self.untold.is_empty()).then(|| now + PUBLICATION_GAP);
        let listen = (doubtful && now < self.next_build).then(|| now + LISTEN_GAP);
        let until = [build, self.reclaim_at, self.give_back_at, retell, listen];
        let until = until.into_iter().flatten().min();
        let timeout = until.map(|until| until.saturating_duration_since(now));
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut fds = [
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(&self.subscription, PollFlags::IN),
        ];
        let count = if listen.is_some() { 1 } else { fds.len() };
        match poll(&mut fds[..count], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [wake, _] = &fds;
        if wake.revents().is_empty() {
            return Ok(Woken::Other);
        }
        // A byte for each new policy, of which more may be read at once; the end when it is to stop.
        match (&self.wake).read(&mut [0; 16]) {
            Ok(0) => Ok(Woken::Stop),
            Ok(_) => Ok(Woken::Other),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Woken::Other),
            Err(error) => Err(error),
        }
    }

    /// Brings the segments up to date and publishes them when they changed.
    fn build(&mut self, started: Instant) {
        let resync = self.mirror.doubts_everything();
        match self.ask_and_build(started) {
            Ok(changed) => {
                // Readers have usually moved on since the last time.
                self.writer.reclaim();
                self.reclaim_shares();
                if changed {
                    self.publish();
                }
                self.told_when_built.clear();
                let took = started.elapsed();
                self.next_build = Instant::now() + PUBLICATION_GAP.max(took * REST_PER_BUILD);
                self.reclaim_at =
                    (self.writer.retired() > 0).then(|| Instant::now() + RECLAIM_AFTER);
                if self.heard >= STORM || resync {
                    self.give_back_at = Some(Instant::now() + QUIET);
                }
                self.failures_in_a_row = 0;
                let mut shared = lock(&self.shared);
                shared.counts.resyncs += u64::from(resync);
                shared.counts.publications += u64::from(changed);
                drop(shared);
                self.share(changed.then_some(took));
            }
            Err(error) => {
                self.mirror.doubt_everything();
                self.failures_in_a_row += 1;
                lock(&self.shared).counts.failures += 1;
                self.next_build =
                    Instant::now() + RETRY_AFTER * (1 << self.failures_in_a_row.min(6));
                tracing::warn!(%error, "the kernel's configuration could not be read; trying again");
                if self.failures_in_a_row == FAILURES_TOLD {
                    self.untold.push(Event::Failed(error.to_string()));
                }
            }
        }
    }

    fn publish(&mut self) {
        let snapshot = self.mirror.snapshot();
        if self.kernel_shares.widen(&snapshot) {
            thread::sleep(ON_THEIR_WAY);
        }
        self.frame_limits.shrink(&snapshot);
        // Before anybody is counted there: a place that has another owner is not told as the old one's.
        let roster = self.mirror.roster().clone();
        lock(&self.shared).roster = roster;
        self.writer.publish(snapshot.clone());
        self.frame_limits.grow(&snapshot);
        (self.published.0)();
        self.reclaim_shares();
        self.settle_peers();
    }

    /// Gives the workers what they can take by the newest snapshot, once all of them look at that one.
    fn reclaim_shares(&mut self) {
        if self.writer.retired() == 0 {
            self.kernel_shares.narrow();
        }
    }

    /// Lets the places of peers that are gone be given to others, once all workers look at the newest snapshot.
    fn settle_peers(&mut self) {
        if self.writer.retired() == 0 {
            self.mirror.roster().settle(Instant::now());
        }
    }

    fn ask_and_build(&mut self, now: Instant) -> Result<bool, crate::netlink::Error> {
        if self.mirror.doubts_everything() {
            let heard = catch_up(&mut self.subscription, &mut self.mirror)?;
            self.count(&heard);
        }
        self.mirror.follow_links()?;
        self.tell();
        self.mirror.reconcile(now)
    }

    fn reclaim(&mut self) {
        if self.reclaim_at.is_some_and(|at| at <= Instant::now()) {
            self.writer.reclaim();
            self.reclaim_shares();
            self.settle_peers();
            self.reclaim_at = (self.writer.retired() > 0).then(|| Instant::now() + RECLAIM_AFTER);
        }
    }

    /// Gives back the memory that a storm of changes took.
    fn give_back(&mut self) {
        if self.give_back_at.is_some_and(|at| at <= Instant::now()) {
            heap::give_back();
            (self.heard, self.give_back_at) = (0, None);
        }
    }

    /// Hands events over; those for which there is no room wait.
    fn tell(&mut self) {
        self.untold.extend(self.mirror.take_events());
        let mut untold = std::mem::take(&mut self.untold);
        untold.dedup();
        let mut events = untold.into_iter();
        for event in events.by_ref() {
            match self.events.try_send(event) {
                // Nobody listens any more: nobody needs to know.
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(event)) => {
                    self.untold.push(event);
                    break;
                }
            }
        }
        self.untold.extend(events);
    }

    fn fail(&mut self, doing: &str, error: &io::Error) {
        tracing::error!(%error, "{doing} failed; the mirror stops");
        self.untold.push(Event::Failed(format!("{doing}: {error}")));
        self.tell();
    }

    fn count(&mut self, heard: &Heard) {
        self.heard += heard.events;
        let mut shared = lock(&self.shared);
        shared.counts.events += heard.events;
        shared.counts.overruns += heard.overruns;
    }

    /// Lets reports see the segments.
    fn share(&mut self, last_build: Option<Duration>) {
        let segments = self.mirror.devices().iter().map(|device| SharedSegment {
            segment: device.segment.clone(),
            next_hops: Arc::clone(&device.next_hops),
        });
        let segments = segments.collect();
        let roster = self.mirror.roster().clone();
        let mut shared = lock(&self.shared);
        shared.segments = segments;
        shared.roster = roster;
        if let Some(last_build) = last_build {
            shared.counts.last_build = last_build;
        }
    }
}

enum Woken {
    Stop,
    Other,
}
