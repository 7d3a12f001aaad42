//! One flow of UDP in which single datagrams and trains (`UDP_SEGMENT`) follow each other as they come: whatever ways they
//! take through a node, none may overtake another.

use std::io::IoSlice;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBufForce, UdpGroSegment};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt};

use super::bulk::any_port;
use super::datagrams::read_train;
use super::frames::Random;
use super::netns::Netns;

/// Datagrams that may be on their way: fewer than any queue between the ends holds.
const WINDOW: u64 = 150;
/// What has not come by then is lost.
const PATIENCE: Duration = Duration::from_millis(100);
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
const NUMBER_LEN: usize = 8;
const TRAIN_MAX: u64 = 40;
const LEN_MAX: usize = 1300;

/// A flow of so many writes.
#[derive(Debug, Clone, Copy)]
pub struct Sequence {
    pub writes: usize,
    /// Of so many writes one is a train.
    pub train_in: usize,
    /// Whether the receiver takes several datagrams at once.
    pub merged: bool,
}

impl Sequence {
    /// Sends it from one pod to the other; asserts that what arrives is what was sent, in order, and most of it. How many
    /// datagrams arrived.
    pub fn run(self, from: &Netns, to: &Netns, address: &str) -> u64 {
        let inlet = to.enter(|| UdpSocket::bind(any_port(address)).expect("a socket"));
        inlet.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        setsockopt(&inlet, RcvBufForce, &RECEIVE_BUFFER_BYTES).expect("CAP_NET_ADMIN");
        if self.merged {
            setsockopt(&inlet, UdpGroSegment, &true).expect("UDP_GRO");
        }
        let port = inlet.local_addr().expect("it is bound").port();
        let outlet = from.enter(|| UdpSocket::bind(any_port(address)).expect("a socket"));
        outlet.connect((address, port)).expect("connecting");
        let (arrivals, arrived) = mpsc::channel();
        let receiver = thread::spawn(move || receive(&inlet, &arrivals));
        let mut random = Random(self.writes as u64);
        let (mut sent, mut seen) = (0, 0);
        for _ in 0..self.writes {
            let (count, len) = if random.below(self.train_in) == 0 {
                let len = NUMBER_LEN + random.below(LEN_MAX - NUMBER_LEN);
                (2 + random.below(TRAIN_MAX as usize - 2) as u64, len)
            } else {
                (1, NUMBER_LEN + random.below(LEN_MAX - NUMBER_LEN))
            };
            write(&outlet, sent..sent + count, len);
            sent += count;
            while sent > seen + WINDOW {
                // Either the next, or there is no more: the receiver has not gone, or it says why.
                seen = arrived.recv().ok().flatten().unwrap_or(sent);
            }
        }
        // Until nothing has come for long, all of it is here.
        let mut silences = 0;
        while silences < 2 && seen + 1 < sent {
            match arrived.recv() {
                Ok(Some(number)) => (seen, silences) = (number, 0),
                Ok(None) => silences += 1,
                Err(_) => break,
            }
        }
        drop(arrived);
        let count = receiver.join().expect("all that arrives is in order");
        println!("    udp: {count} of {sent} datagrams in order, {self:?}");
        assert!(count <= sent && count > sent / 2, "{count} of {sent}");
        count
    }
}

fn write(outlet: &UdpSocket, numbers: std::ops::Range<u64>, len: usize) {
    let train = numbers.end - numbers.start > 1;
    let bytes: Vec<u8> = numbers.flat_map(|number| datagram(number, len)).collect();
    let len = len as u16;
    let cut = [ControlMessage::UdpGsoSegments(&len)];
    let sent = sendmsg::<()>(
        outlet.as_raw_fd(),
        &[IoSlice::new(&bytes)],
        if train { &cut } else { &[] },
        MsgFlags::empty(),
        None,
    );
    match sent {
        Ok(len) => assert_eq!(len, bytes.len()),
        // No room now: it is lost, as it may be.
        Err(Errno::ENOBUFS) => {}
        Err(error) => panic!("sending {} bytes: {error}", bytes.len()),
    }
}

fn datagram(number: u64, len: usize) -> Vec<u8> {
    let mut random = Random(number);
    let words = (0..len.div_ceil(8)).flat_map(|_| random.next().to_ne_bytes());
    let mut datagram: Vec<u8> = number.to_be_bytes().into_iter().chain(words).collect();
    datagram.truncate(len);
    datagram
}

/// Until nobody listens any more; how many came. Tells of each, and when none comes.
fn receive(inlet: &UdpSocket, arrivals: &Sender<Option<u64>>) -> u64 {
    let mut bytes = vec![0; 1 << 16];
    let (mut count, mut next) = (0, 0);
    loop {
        let (len, cut) = match read_train(inlet, &mut bytes) {
            Ok(train) => train,
            Err(Errno::EAGAIN) if arrivals.send(None).is_ok() => continue,
            Err(Errno::EAGAIN) => return count,
            Err(error) => panic!("receiving: {error}"),
        };
        for piece in bytes[..len].chunks(cut.unwrap_or(len).max(1)) {
            let (number, _) = piece.split_first_chunk().expect("it has a number");
            let number = u64::from_be_bytes(*number);
            assert!(number >= next, "{number} came behind {}", next - 1);
            assert_eq!(piece, datagram(number, piece.len()), "number {number}");
            (count, next) = (count + 1, number + 1);
            if arrivals.send(Some(number)).is_err() {
                return count;
            }
        }
    }
}
