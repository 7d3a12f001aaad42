//! UDP in trains: many datagrams that the kernel gets in one write (`UDP_SEGMENT`), and may give in one read (`UDP_GRO`).
//!
//! A train is a superframe on its way through a node. What the other end reads must be the datagrams as they were, each by
//! itself: its length and its bytes follow from its number.

use std::collections::BTreeSet;
use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::sockopt::UdpGroSegment;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg, setsockopt,
};

use super::bulk::any_port;
use super::frames::Random;
use super::netns::Netns;

/// What a train's datagrams have not arrived by then is sent again: a datagram may be lost.
const PATIENCE: Duration = Duration::from_millis(20);
/// A train that is not there after so many goes never will be.
const GOES: usize = 500;
/// How often the receiver looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);
const NUMBER_LEN: usize = 8;

/// Trains of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Trains {
    /// How many.
    pub count: u64,
    /// Datagrams of each: 64 at most.
    pub datagrams: u64,
    /// Bytes of each datagram but the last of a train, which is shorter; 10 at least.
    pub len: u16,
    /// Whether the receiver takes several at once.
    pub merged: bool,
}

impl Trains {
    /// Sends them from one pod to the other until each datagram has arrived. Asserts that whatever arrives is one of them.
    pub fn run(self, from: &Netns, to: &Netns, address: &str) {
        let inlet = to.enter(|| UdpSocket::bind(any_port(address)).expect("a socket"));
        inlet.set_read_timeout(Some(LOOK)).expect("SO_RCVTIMEO");
        if self.merged {
            setsockopt(&inlet, UdpGroSegment, &true).expect("UDP_GRO");
        }
        let port = inlet.local_addr().expect("it is bound").port();
        let outlet = from.enter(|| UdpSocket::bind(any_port(address)).expect("a socket"));
        outlet.connect((address, port)).expect("connecting");
        let (arrivals, arrived) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        let receiver = thread::spawn(move || self.receive(&inlet, &arrivals, &stopped));
        let sent = self.send(&outlet, &arrived);
        drop(stop);
        let reads = receiver.join().expect("every datagram is as it was sent");
        println!(
            "    udp: {} trains of {} datagrams of {} bytes, in {sent} writes and {reads} reads",
            self.count, self.datagrams, self.len
        );
    }

    /// How many writes it took.
    fn send(self, outlet: &UdpSocket, arrived: &Receiver<u64>) -> usize {
        let mut writes = 0;
        for train in 0..self.count {
            let numbers = train * self.datagrams..(train + 1) * self.datagrams;
            let bytes: Vec<u8> = numbers.clone().flat_map(|n| self.datagram(n)).collect();
            let mut missing: BTreeSet<u64> = numbers.collect();
            for go in 0.. {
                assert!(go < GOES, "train {train}: {missing:?} do not arrive");
                self.write(outlet, &bytes);
                writes += 1;
                let deadline = Instant::now() + PATIENCE;
                while !missing.is_empty() {
                    let left = deadline.saturating_duration_since(Instant::now());
                    match arrived.recv_timeout(left) {
                        Ok(number) => missing.remove(&number),
                        Err(mpsc::RecvTimeoutError::Timeout) => break,
                        Err(mpsc::RecvTimeoutError::Disconnected) => {
                            panic!("the receiver has given up")
                        }
                    };
                }
                if missing.is_empty() {
                    break;
                }
            }
        }
        writes
    }

    fn write(self, outlet: &UdpSocket, train: &[u8]) {
        let cut = [ControlMessage::UdpGsoSegments(&self.len)];
        let sent = sendmsg::<()>(
            outlet.as_raw_fd(),
            &[IoSlice::new(train)],
            &cut,
            MsgFlags::empty(),
            None,
        );
        match sent {
            Ok(len) => assert_eq!(len, train.len()),
            // No room now: it is lost, as it may be.
            Err(Errno::ENOBUFS) => {}
            Err(error) => panic!("sending a train of {} bytes: {error}", train.len()),
        }
    }

    /// How many reads had something.
    fn receive(self, inlet: &UdpSocket, arrivals: &Sender<u64>, stopped: &Receiver<()>) -> usize {
        let mut bytes = vec![0; 1 << 16];
        let mut reads = 0;
        loop {
            let (len, cut) = match read_train(inlet, &mut bytes) {
                Ok(train) => train,
                Err(Errno::EAGAIN) => {
                    if stopped.try_recv() == Err(mpsc::TryRecvError::Disconnected) {
                        return reads;
                    }
                    continue;
                }
                Err(error) => panic!("receiving: {error}"),
            };
            reads += 1;
            assert!(self.merged || cut.is_none(), "nobody asked for a train");
            for datagram in bytes[..len].chunks(cut.unwrap_or(len).max(1)) {
                // The sender has all that it wanted when it does not listen any more.
                let _ = arrivals.send(self.judge(datagram));
            }
        }
    }

    /// The number of a datagram, which must be one that was sent.
    fn judge(self, datagram: &[u8]) -> u64 {
        let (number, _) = datagram.split_first_chunk().expect("it has a number");
        let number = u64::from_be_bytes(*number);
        assert!(
            number < self.count * self.datagrams && datagram == self.datagram(number),
            "{} bytes that nobody sent as one datagram, of number {number}",
            datagram.len()
        );
        number
    }

    fn datagram(self, number: u64) -> Vec<u8> {
        let len = usize::from(self.len);
        let len = if (number + 1).is_multiple_of(self.datagrams) {
            NUMBER_LEN + (len - NUMBER_LEN) / 2
        } else {
            len
        };
        let mut random = Random(number);
        let words = (0..len.div_ceil(8)).flat_map(|_| random.next().to_ne_bytes());
        let mut datagram: Vec<u8> = number.to_be_bytes().into_iter().chain(words).collect();
        datagram.truncate(len);
        datagram
    }
}

/// Reads what has arrived: bytes, and how long each datagram among them is where there are several.
pub fn read_train(inlet: &UdpSocket, bytes: &mut [u8]) -> Result<(usize, Option<usize>), Errno> {
    let mut control = cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(bytes)];
    let message = recvmsg::<()>(
        inlet.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    Ok((message.bytes, cut_of(message.cmsgs().expect("room for it"))))
}

/// How long the datagrams of a read are, when it has several. The last may be shorter.
fn cut_of(mut control: impl Iterator<Item = ControlMessageOwned>) -> Option<usize> {
    control.find_map(|message| match message {
        ControlMessageOwned::UdpGroSegments(len) => usize::try_from(len).ok(),
        _ => None,
    })
}
