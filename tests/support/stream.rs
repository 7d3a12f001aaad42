//! A numbered UDP stream: 1,000 frames a second whose losses, duplicates, damage and silences are counted. Two between the same two
//! sockets, one each way, are a flow that a direct path takes.
//!
//! A silence is measured so that only the network can cause it: from the moment a frame was sent that should have arrived (or
//! from the last arrival, when that was later) to the next arrival. A sender that the scheduler kept waiting sends nothing, and
//! that is no silence. Arrivals carry the kernel's time stamps, so a receiver that was kept waiting does not count either.

use std::fs;
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use super::netns::Netns;
use super::wait_until;

const INTERVAL: Duration = Duration::from_millis(1);
/// How long the receiver listens on after the last frame was sent.
const GRACE: Duration = Duration::from_millis(500);
const PAYLOAD_LEN: usize = 120;
/// Lost frames that a report has one by one.
const LOST_TOLD: usize = 8;

/// A stream that runs.
#[derive(Debug)]
pub struct Stream {
    name: String,
    backlogs_dropped: u64,
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Vec<u64>>,
    receiver: JoinHandle<Vec<Arrival>>,
}

/// What became of a stream.
#[derive(Debug, Clone)]
pub struct StreamReport {
    /// Frames sent.
    pub sent: usize,
    /// Frames that never arrived.
    pub lost: usize,
    /// Arrivals beyond the first of the same frame.
    pub duplicated: usize,
    /// Arrivals whose payload was not what had been sent.
    pub damaged: usize,
    /// The longest silence in milliseconds.
    pub longest_gap_ms: f64,
    /// The first that never arrived: what to look for in a log.
    pub first_lost: Vec<Lost>,
    /// What the kernel's backlogs, which all namespaces share, had dropped meanwhile, of whatever streams.
    pub backlogs_dropped: u64,
}

/// A frame that never arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its number in the stream.
    pub sequence: usize,
    /// When it was sent, on the clock of logs.
    pub sent_at_ns: u64,
    /// How many others were sent within the millisecond before it: a sender that was kept waiting sends a burst.
    pub burst: usize,
}

#[derive(Debug, Clone, Copy)]
struct Arrival {
    /// `None`: damaged.
    sequence: Option<usize>,
    at_ns: u64,
}

impl Stream {
    /// Starts sending from a pod to an address of another pod. `name` appears in the report.
    pub fn start(name: &str, from: &Netns, to: &Netns, to_address: &str) -> Self {
        let inlet = bind(to);
        let target = target(&inlet, to_address);
        Self::between(name, bind(from), inlet, target)
    }

    /// Starts one each way between two pods, each given with the other's address, over the same two sockets. The first is the
    /// one from `a`.
    pub fn both_ways(
        names: [&str; 2],
        (a, to_b): (&Netns, &str),
        (b, to_a): (&Netns, &str),
    ) -> [Self; 2] {
        let sockets = [bind(a), bind(b)];
        let targets = [target(&sockets[1], to_b), target(&sockets[0], to_a)];
        let [near, far] = &sockets;
        // Two first frames that meet would be two connections to conntrack, of which one wins.
        for (from, to, target) in [(near, far, targets[0]), (far, near, targets[1])] {
            wait_until("the first frame arrives", Duration::from_secs(10), || {
                from.send_to(&[], target).is_ok() && to.recv(&mut [0]).is_ok()
            });
            // Those that were sent too often.
            while to.recv(&mut [0]).is_ok() {}
        }
        let twin = |socket: &UdpSocket| socket.try_clone().expect("a second handle");
        [
            Self::between(names[0], twin(near), twin(far), targets[0]),
            Self::between(names[1], twin(far), twin(near), targets[1]),
        ]
    }

    fn between(name: &str, outlet: UdpSocket, inlet: UdpSocket, target: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sender_done = Arc::new(AtomicBool::new(false));
        let sender = {
            let (stop, sender_done) = (Arc::clone(&stop), Arc::clone(&sender_done));
            thread::spawn(move || {
                let sent_at = send(&outlet, target, &stop);
                sender_done.store(true, Ordering::Release);
                sent_at
            })
        };
        let receiver = thread::spawn(move || receive(&inlet, &sender_done));
        Self {
            name: name.to_owned(),
            backlogs_dropped: backlogs_dropped(),
            stop,
            sender,
            receiver,
        }
    }

    /// Stops sending, waits for what is under way, and reports. The report is printed, too.
    pub fn finish(self) -> StreamReport {
        self.stop.store(true, Ordering::Release);
        let sent_at = self.sender.join().expect("the sender does not panic");
        let arrivals = self.receiver.join().expect("the receiver does not panic");
        let report = StreamReport {
            backlogs_dropped: backlogs_dropped() - self.backlogs_dropped,
            ..judge(&sent_at, &arrivals)
        };
        println!(
            "    {}: {} sent, {} lost, {} duplicated, {} damaged, longest gap {:.1} ms",
            self.name,
            report.sent,
            report.lost,
            report.duplicated,
            report.damaged,
            report.longest_gap_ms
        );
        report
    }
}

/// A socket in a pod that tells when what it receives arrived.
fn bind(pod: &Netns) -> UdpSocket {
    let socket = pod.enter(|| UdpSocket::bind("0.0.0.0:0").expect("binding in the pod"));
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).expect("SO_TIMESTAMPNS");
    setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).expect("SO_RCVBUFFORCE");
    let wait = Some(Duration::from_millis(50));
    socket.set_read_timeout(wait).expect("SO_RCVTIMEO");
    socket
}

/// Where a socket is reached, by an address of its pod.
fn target(socket: &UdpSocket, address: &str) -> SocketAddr {
    let bound = socket.local_addr().expect("it is bound");
    SocketAddr::new(address.parse().expect("an address"), bound.port())
}

fn send(outlet: &UdpSocket, target: SocketAddr, stop: &AtomicBool) -> Vec<u64> {
    let mut sent_at = Vec::with_capacity(1 << 16);
    let mut due = Instant::now();
    while !stop.load(Ordering::Acquire) {
        sent_at.push(now_ns());
        // A refused send (no route while a link is down) is a lost frame like any other: the sequence number is spent.
        let _ = outlet.send_to(&payload(sent_at.len() - 1), target);
        due += INTERVAL;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    sent_at
}

fn receive(inlet: &UdpSocket, sender_done: &AtomicBool) -> Vec<Arrival> {
    let mut arrivals = Vec::with_capacity(1 << 16);
    let mut last_heard = Instant::now();
    let mut bytes = [0_u8; 2 * PAYLOAD_LEN];
    let mut control = cmsg_space!(TimeSpec);
    loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<SockaddrIn>(
            inlet.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        )
        .ok()
        .map(|message| (message.bytes, stamp(message.cmsgs().into_iter().flatten())));
        match received {
            Some((len, at_ns)) => {
                arrivals.push(Arrival {
                    sequence: read_payload(&bytes[..len]),
                    at_ns,
                });
                last_heard = Instant::now();
            }
            None if !sender_done.load(Ordering::Acquire) => last_heard = Instant::now(),
            None if last_heard.elapsed() > GRACE => return arrivals,
            None => {}
        }
    }
}

fn stamp(mut messages: impl Iterator<Item = ControlMessageOwned>) -> u64 {
    let time = messages.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(time),
        _ => None,
    });
    time.map_or_else(now_ns, |time| Duration::from(time).as_nanos() as u64)
}

fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_nanos() as u64
}

/// The sequence number, then bytes that follow from it.
fn payload(sequence: usize) -> [u8; PAYLOAD_LEN] {
    let mut bytes = [0; PAYLOAD_LEN];
    bytes[..8].copy_from_slice(&(sequence as u64).to_be_bytes());
    for (index, byte) in bytes[8..].iter_mut().enumerate() {
        *byte = (sequence.wrapping_mul(31) + index) as u8;
    }
    bytes
}

fn read_payload(bytes: &[u8]) -> Option<usize> {
    let sequence = u64::from_be_bytes(*bytes.first_chunk()?) as usize;
    (bytes == payload(sequence)).then_some(sequence)
}

fn judge(sent_at: &[u64], arrivals: &[Arrival]) -> StreamReport {
    let mut seen = vec![0_usize; sent_at.len()];
    let mut damaged = 0;
    let mut longest_gap_ns = 0;
    let mut last_arrival_ns = 0;
    // The oldest frame that was sent after every frame that arrived so far.
    let mut expected = 0;
    for arrival in arrivals {
        let Some(count) = arrival.sequence.and_then(|sequence| seen.get_mut(sequence)) else {
            damaged += 1;
            continue;
        };
        *count += 1;
        if let Some(&offered_ns) = sent_at.get(expected) {
            longest_gap_ns = longest_gap_ns.max(
                arrival
                    .at_ns
                    .saturating_sub(offered_ns.max(last_arrival_ns)),
            );
        }
        last_arrival_ns = last_arrival_ns.max(arrival.at_ns);
        expected = expected.max(arrival.sequence.map_or(0, |sequence| sequence + 1));
    }
    // A silence that lasted to the end.
    if let (Some(&offered_ns), Some(&end_ns)) = (sent_at.get(expected), sent_at.last()) {
        longest_gap_ns = longest_gap_ns.max(end_ns.saturating_sub(offered_ns));
    }
    let lost = seen.iter().enumerate().filter(|(_, count)| **count == 0);
    let first_lost = lost.map(|(sequence, _)| Lost::of(sent_at, sequence));
    StreamReport {
        sent: sent_at.len(),
        first_lost: first_lost.take(LOST_TOLD).collect(),
        lost: seen.iter().filter(|&&count| count == 0).count(),
        duplicated: seen.iter().map(|count| count.saturating_sub(1)).sum(),
        damaged,
        longest_gap_ms: longest_gap_ns as f64 / 1e6,
        backlogs_dropped: 0,
    }
}

/// Of all processors: the second column of `softnet_stat`.
fn backlogs_dropped() -> u64 {
    let text = fs::read_to_string("/proc/net/softnet_stat").expect("the kernel has it");
    let dropped = text.lines().map(|line| line.split(' ').nth(1));
    dropped
        .map(|count| u64::from_str_radix(count.expect("a column"), 16).expect("a number"))
        .sum()
}

impl Lost {
    fn of(sent_at: &[u64], sequence: usize) -> Self {
        let sent_at_ns = sent_at[sequence];
        let begin_ns = sent_at_ns.saturating_sub(INTERVAL.as_nanos() as u64);
        let before = sent_at[..sequence].iter().rev();
        Self {
            sequence,
            sent_at_ns,
            burst: before.take_while(|at_ns| **at_ns > begin_ns).count(),
        }
    }
}

/// The ruler itself is measured: a test that cannot see a gap proves nothing.
#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn arrival(sequence: usize, at_ms: u64) -> Arrival {
        Arrival {
            sequence: Some(sequence),
            at_ns: at_ms * MS,
        }
    }

    #[test]
    fn a_gap_runs_from_the_first_lost_frame_to_the_next_arrival() {
        let sent_at: Vec<u64> = (0..10).map(|ms| ms * MS).collect();
        let report = judge(
            &sent_at,
            &[
                arrival(0, 0),
                arrival(1, 1),
                arrival(7, 7),
                arrival(8, 8),
                arrival(9, 9),
            ],
        );
        assert_eq!((report.lost, report.duplicated, report.damaged), (5, 0, 0));
        assert!((report.longest_gap_ms - 5.0).abs() < 1e-9);
        let first = Lost {
            sequence: 2,
            sent_at_ns: 2 * MS,
            burst: 0,
        };
        assert_eq!(
            (report.first_lost.len(), &report.first_lost[0]),
            (5, &first)
        );
        // A burst after a pause of the sender.
        let report = judge(&[0, MS, MS + 10, MS + 20], &[arrival(0, 0)]);
        let bursts = report.first_lost.iter().map(|lost| lost.burst);
        assert_eq!(bursts.collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_sender_that_paused_is_no_gap_but_late_frames_are() {
        let report = judge(
            &[0, MS, 500 * MS, 501 * MS],
            &[
                arrival(0, 0),
                arrival(1, 1),
                arrival(2, 500),
                arrival(3, 541),
            ],
        );
        assert_eq!(report.lost, 0);
        assert!((report.longest_gap_ms - 40.0).abs() < 1e-9);
    }

    #[test]
    fn duplicates_and_damage_are_told_apart_from_loss() {
        let damaged = Arrival {
            sequence: None,
            at_ns: 2 * MS,
        };
        let report = judge(
            &[0, MS, 2 * MS],
            &[arrival(0, 0), arrival(0, 1), damaged, arrival(1, 3)],
        );
        assert_eq!(
            (report.sent, report.lost, report.duplicated, report.damaged),
            (3, 1, 1, 1)
        );
    }

    #[test]
    fn a_payload_is_read_back_only_when_whole() {
        let mut bytes = payload(4711);
        assert_eq!(read_payload(&bytes), Some(4711));
        bytes[40] ^= 1;
        assert_eq!(read_payload(&bytes), None);
        assert_eq!(read_payload(&[0; 4]), None);
    }
}
