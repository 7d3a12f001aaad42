//! A worker as a thread: it starts, forwards, sleeps, wakes, stops without losing a frame, and does not die unnoticed.

mod rig;

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rig::*;
use vxgate::port::{Batch, Frame, MemoryPort, Port, PortStatistics, Umem};
use vxgate::table::{Writer, publication};
use vxgate::wire::MacAddr;
use vxgate::worker::{Pinning, Plan, Running, Worker};

/// Long enough for any machine; only a failure waits for so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A [`MemoryPort`] in a worker's thread, with its kernel's ends in the test: what is put into `arriving` arrives, what
/// the worker sends comes out of `sent`, and a socket pair makes it something to wait on, as a device's socket is.
struct Device {
    inner: MemoryPort,
    arriving: mpsc::Receiver<Vec<u8>>,
    sent: mpsc::Sender<Vec<u8>>,
    /// Readable while something has arrived.
    signal: UnixStream,
    panics_on: Option<usize>,
}

/// The test's hold on a [`Device`].
struct Wire {
    arriving: mpsc::Sender<Vec<u8>>,
    sent: mpsc::Receiver<Vec<u8>>,
    signal: UnixStream,
}

impl Wire {
    fn put(&mut self, bytes: Vec<u8>) {
        self.arriving.send(bytes).unwrap();
        self.signal.write_all(&[1]).unwrap();
    }

    fn take(&self) -> Vec<u8> {
        self.sent
            .recv_timeout(PATIENCE)
            .expect("a frame within the time")
    }
}

fn device(ring_len: usize) -> (Device, Wire) {
    let (to_device, arriving) = mpsc::channel();
    let (sent, from_device) = mpsc::channel();
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let inner = MemoryPort::new(ring_len);
    (
        Device {
            inner,
            arriving,
            sent,
            signal: near,
            panics_on: None,
        },
        Wire {
            arriving: to_device,
            sent: from_device,
            signal: far,
        },
    )
}

impl Port for Device {
    fn receive(&mut self, umem: &mut Umem, batch: &mut Batch) -> usize {
        let received = self.inner.receive(umem, batch);
        if self
            .panics_on
            .is_some_and(|len| batch.iter().any(|frame| frame.len() == len))
        {
            panic!("a frame of the wrong length");
        }
        received
    }

    fn transmit(&mut self, batch: &mut Batch) -> usize {
        self.inner.transmit(batch)
    }

    fn reclaim(&mut self, umem: &mut Umem) -> usize {
        while let Some(bytes) = self.inner.collect(umem) {
            // The test may have gone already.
            let _ = self.sent.send(bytes);
        }
        self.inner.reclaim(umem)
    }

    fn refill(&mut self, umem: &mut Umem) -> usize {
        let refilled = self.inner.refill(umem);
        while let Ok(bytes) = self.arriving.try_recv() {
            let _ = self.signal.read(&mut [0]);
            assert!(
                self.inner.deliver(umem, &bytes),
                "the test sends no more than the ring takes"
            );
        }
        refilled
    }

    fn accepts(&self, frame: &Frame) -> bool {
        self.inner.accepts(frame)
    }

    fn poll_fd(&self) -> Option<RawFd> {
        Some(self.signal.as_raw_fd())
    }

    fn statistics(&self) -> io::Result<PortStatistics> {
        self.inner.statistics()
    }
}

/// One underlay queue, one access port.
const SIZE: Size = Size {
    segments: 1,
    queues: 1,
    vteps: 2,
    ring_len: 64,
    frames: 512,
};

struct Lab {
    underlay: Wire,
    access: Wire,
    heartbeats: Arc<AtomicU64>,
    writer: Writer,
}

fn lab(change: impl FnOnce(&mut Plan<Device>)) -> (Plan<Device>, Lab) {
    let (writer, mut readers) = publication(1, snapshot(SIZE, 0));
    let mut wires = Vec::new();
    let mut plan = plan(SIZE, readers.remove(0), || {
        let (device, wire) = device(SIZE.ring_len);
        wires.push(wire);
        device
    });
    let heartbeats = Arc::new(AtomicU64::new(0));
    plan.heartbeat = Box::new({
        let (heartbeats, last) = (Arc::clone(&heartbeats), std::cell::Cell::new(0));
        move |now_ns| {
            assert!(now_ns >= last.get(), "the clock goes backwards");
            last.set(now_ns);
            heartbeats.fetch_add(1, Ordering::Relaxed);
        }
    });
    change(&mut plan);
    let (access, underlay) = (wires.pop().unwrap(), wires.pop().unwrap());
    (
        plan,
        Lab {
            underlay,
            access,
            heartbeats,
            writer,
        },
    )
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "in vain waited for: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn check_and_join(running: Running<Device>) -> Plan<Device> {
    let plan = running.join().unwrap();
    let ports = plan
        .underlays
        .iter()
        .map(|underlay| (&underlay.port, &underlay.counters));
    let ports = ports.chain(
        plan.accesses
            .iter()
            .map(|access| (&access.port, &access.counters)),
    );
    let mut held = 0;
    for (port, counters) in ports {
        held += port.inner.frames_held();
        assert_eq!(
            counters.received.get(),
            counters.forwarded.get() + drops(counters)
        );
    }
    assert_eq!(plan.umem.free() + held, plan.umem.frames() as usize);
    plan
}

#[test]
fn frames_pass_in_both_directions_and_across_publications() {
    let (plan, mut lab) = lab(|_| ());
    let running = Worker::spawn(plan).unwrap();
    for turn in 0..20 {
        lab.writer.publish(snapshot(SIZE, turn));
        let frame = inner(host(0, 0), device_mac(0), 60);
        lab.access.put(frame.clone());
        let (vtep, _, carried) = read_outer(&lab.underlay.take());
        assert_eq!((vtep, carried), (vtep_addr(turn % 2), frame));
        let frame = inner(device_mac(0), host(0, 0), 61);
        lab.underlay.put(outer(vni(0), vtep_addr(0), &frame));
        assert_eq!(lab.access.take(), frame);
    }
    running.stop();
    let plan = check_and_join(running);
    assert_eq!(plan.accesses[0].counters.forwarded.get(), 20);
    assert_eq!(plan.underlays[0].counters.forwarded.get(), 20);
}

#[test]
fn an_idle_worker_sleeps_lives_lets_go_of_its_snapshot_and_costs_next_to_nothing() {
    let (plan, mut lab) = lab(|plan| plan.number = 40);
    let counters = Arc::clone(&plan.counters);
    let running = Worker::spawn(plan).unwrap();
    wait_for("the first sleep", || counters.sleeps.get() >= 1);

    let (cpu_ns, start, sleeps) = (
        thread_cpu_ns("vxgate-w40"),
        Instant::now(),
        counters.sleeps.get(),
    );
    let (heartbeats, turns) = (lab.heartbeats.load(Ordering::Relaxed), counters.turns.get());
    wait_for("twenty sleeps", || counters.sleeps.get() >= sleeps + 20);
    let used_ns = thread_cpu_ns("vxgate-w40") - cpu_ns;
    assert!(
        u128::from(used_ns) * 100 < start.elapsed().as_nanos(),
        "{used_ns} ns of {:?}",
        start.elapsed()
    );
    assert!(lab.heartbeats.load(Ordering::Relaxed) >= heartbeats + 19);
    // Each turn without work ends in sleep: it does not spin again after each waking.
    assert!(counters.turns.get() - turns <= counters.sleeps.get() - sleeps + 2);
    assert!(counters.asleep_ns.get() > counters.awake_ns.get());

    lab.writer.publish(snapshot(SIZE, 1));
    wait_for("the old snapshot to be let go", || {
        lab.writer.reclaim();
        lab.writer.retired() == 0
    });
    let frame = inner(host(0, 0), device_mac(0), 60);
    lab.access.put(frame);
    assert_eq!(read_outer(&lab.underlay.take()).0, vtep_addr(1));
    running.stop();
    check_and_join(running);
}

/// Time on the processor of the thread with this name (`/proc/PID/task/TID/schedstat`, first field).
fn thread_cpu_ns(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|task| task.unwrap().path());
    let named = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let task = tasks
        .into_iter()
        .find(named)
        .expect("a thread of this name");
    let text = std::fs::read_to_string(task.join("schedstat")).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_worker_that_is_told_to_stop_forwards_what_had_arrived() {
    let (mut plan, mut lab) = lab(|_| ());
    // The stop is there before the worker's first look, and so are the frames.
    plan.stop.store(true, Ordering::Relaxed);
    for _ in 0..10 {
        lab.access.put(inner(host(0, 0), device_mac(0), 60));
        lab.access.put(inner(MacAddr::BROADCAST, device_mac(0), 60));
    }
    let Plan { umem, accesses, .. } = &mut plan;
    accesses[0].port.refill(umem);
    let plan = check_and_join(Worker::spawn(plan).unwrap());
    assert_eq!(plan.accesses[0].counters.forwarded.get(), 20);
    // Two VTEPs: a copy each.
    assert_eq!(lab.underlay.sent.try_iter().count(), 30);
    // All came back from the kernel before it ended.
    assert_eq!(plan.underlays[0].port.inner.frames_held(), SIZE.ring_len);
}

#[test]
fn a_drain_ends_although_a_frame_never_comes_back() {
    let size = Size {
        segments: 1,
        queues: 1,
        ..Size::default()
    };
    let (_writer, mut readers) = publication(1, snapshot(size, 0));
    let mut plan = plan(size, readers.remove(0), || MemoryPort::new(64));
    let Plan { umem, accesses, .. } = &mut plan;
    let port = &mut accesses[0].port;
    port.refill(umem);
    assert!(port.deliver(umem, &inner(host(0, 0), device_mac(0), 60)));
    let running = Worker::spawn(plan).unwrap();
    running.stop();
    let plan = running.join().unwrap();
    assert_eq!(plan.accesses[0].counters.forwarded.get(), 1);
    // Still in the transmit ring of a device that never sends.
    assert_eq!(plan.underlays[0].port.frames_held(), 64 + 1);
}

#[test]
fn a_panic_is_noticed_with_its_message() {
    let (plan, mut lab) = lab(|plan| {
        plan.number = 3;
        plan.accesses[0].port.panics_on = Some(66);
    });
    let running = Worker::spawn(plan).unwrap();
    assert!(running.is_alive());
    lab.access.put(inner(host(0, 0), device_mac(0), 66));
    wait_for("the worker to end", || !running.is_alive());
    let panicked = running.join().unwrap_err();
    assert_eq!(
        (panicked.number, panicked.message.as_str()),
        (3, "a frame of the wrong length")
    );
}

#[test]
fn a_worker_is_pinned_where_it_can_be_and_says_where_it_cannot() {
    let allowed = core_affinity::get_core_ids().unwrap()[0].id;
    for (core, pinning) in [
        (None, Pinning::Free),
        (Some(allowed), Pinning::Pinned(allowed)),
        (Some(1023), Pinning::Refused(1023)),
        (Some(usize::MAX), Pinning::Refused(usize::MAX)),
    ] {
        let (plan, _lab) = lab(|plan| plan.core = core);
        let running = Worker::spawn(plan).unwrap();
        assert_eq!(running.standing().pinning, pinning);
        assert!(running.is_alive());
        running.stop();
        running.join().unwrap();
    }
}
