//! Who hears what comes to a pod.

use crate::support::frames::RawSocket;
use crate::support::netns::Netns;

/// Counts the UDP frames to a port that come in by a pod's device, whether the pod wants them or not.
pub struct Ear {
    socket: RawSocket,
    port: u16,
    heard: u64,
}

impl Ear {
    pub fn open(pod: &Netns, port: u16) -> Self {
        Self {
            socket: RawSocket::open(pod, "eth0"),
            port,
            heard: 0,
        }
    }

    pub fn heard(&mut self) -> u64 {
        while let Some(frame) = self.socket.receive() {
            let to_port =
                frame.len() >= 42 && frame[23] == 17 && frame[36..38] == self.port.to_be_bytes();
            self.heard += u64::from(to_port);
        }
        self.heard
    }
}
