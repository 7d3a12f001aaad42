//! A socket in a pod that counts what is delivered to it.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::support::netns::Netns;

/// For what is on its way.
const BOUND: Duration = Duration::from_secs(5);
/// For what should not be.
const SILENCE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Pod(UdpSocket);

impl Pod {
    /// On a UDP port of a namespace.
    pub fn listen(netns: &Netns, port: u16) -> Self {
        let socket = netns.enter(|| UdpSocket::bind(("0.0.0.0", port)).expect("a socket"));
        Self(socket)
    }

    /// How many datagrams have arrived since it was asked last: waits for so many, and then for more until none comes.
    pub fn delivered(&self, expected: u64) -> u64 {
        let deadline = Instant::now() + BOUND;
        let mut count = 0;
        while count < expected && Instant::now() < deadline {
            count += u64::from(self.receives_within(BOUND));
        }
        while self.receives_within(SILENCE) {
            count += 1;
        }
        count
    }

    fn receives_within(&self, bound: Duration) -> bool {
        self.0.set_read_timeout(Some(bound)).expect("SO_RCVTIMEO");
        self.0.recv(&mut [0; 2048]).is_ok()
    }
}
