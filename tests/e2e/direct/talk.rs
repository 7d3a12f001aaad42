//! A conversation whose flow may go direct.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use etherparse::PacketBuilder;
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};

use super::PATIENCE;
use super::seen::direct;
use crate::support::frames::{Random, mac};
use crate::support::netns::Netns;
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;

/// An answer that is not there after this was lost.
const ANSWER: Duration = Duration::from_millis(500);

/// A conversation over UDP: one end asks, the other repeats what it hears, and each answer has to be what was said.
pub struct Talk {
    socket: UdpSocket,
    random: Random,
    stop: Arc<AtomicBool>,
    echo: Option<JoinHandle<()>>,
}

impl Talk {
    pub fn start(from: &Netns, to: &Netns, to_address: &str) -> Self {
        let any = any_of(to_address);
        let inlet = to.enter(|| UdpSocket::bind(any).expect("a socket"));
        let port = inlet.local_addr().expect("it is bound").port();
        let wait = Some(Duration::from_millis(50));
        inlet.set_read_timeout(wait).expect("SO_RCVTIMEO");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let echo = thread::spawn(move || {
            let mut bytes = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((len, from)) = inlet.recv_from(&mut bytes) {
                    // Lost where there is no way back: that is for the other end to see.
                    let _ = inlet.send_to(&bytes[..len], from);
                }
            }
        });
        let socket = from.enter(|| UdpSocket::bind(any).expect("a socket"));
        socket.connect((to_address, port)).expect("an address");
        socket.set_read_timeout(Some(ANSWER)).expect("SO_RCVTIMEO");
        Self {
            socket,
            random: Random(7),
            stop,
            echo: Some(echo),
        }
    }

    /// Another conversation from the same port: with who listens behind another address, where this one's answers.
    pub fn beside(&self, from: &Netns, to_address: &str) -> Self {
        let [local, remote] = self.ends();
        sockopt::set_socket_reuseaddr(&self.socket, true).expect("SO_REUSEADDR");
        let socket = from.enter(|| {
            let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket");
            sockopt::set_socket_reuseaddr(&socket, true).expect("SO_REUSEADDR");
            let here = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, local.port());
            bind(&socket, &here).expect("the port");
            UdpSocket::from(socket)
        });
        socket
            .connect((to_address, remote.port()))
            .expect("an address");
        socket.set_read_timeout(Some(ANSWER)).expect("SO_RCVTIMEO");
        Self {
            socket,
            random: Random(8),
            stop: Arc::default(),
            echo: None,
        }
    }

    /// Says something, and does not wait for an answer.
    pub fn say(&mut self, len: usize) -> Option<Vec<u8>> {
        let said: Vec<u8> = (0..len).map(|_| self.random.next() as u8).collect();
        self.socket.send(&said).is_ok().then_some(said)
    }

    /// Says something and hears the answer. Whether there was one; what comes must be what was said.
    pub fn ask(&mut self, len: usize) -> bool {
        let Some(said) = self.say(len) else {
            return false;
        };
        let mut heard = [0; 2048];
        match self.socket.recv(&mut heard) {
            Ok(len) => {
                assert_eq!(&heard[..len], said, "the answer is what was said");
                true
            }
            Err(_) => false,
        }
    }

    /// The socket of the end that asks.
    pub fn twin(&self) -> UdpSocket {
        self.socket.try_clone().expect("a second handle")
    }

    /// Hears out whatever somebody else had said in its name.
    pub fn hear_out(&self) {
        let mut heard = [0; 2048];
        while self.socket.recv(&mut heard).is_ok() {}
    }

    /// Asks until this flow is promoted: until all of the last answers went the direct path, both ways.
    pub fn until_direct(&mut self, vxgate: &Vxgate) {
        wait_until("the flow goes the direct path", PATIENCE, || {
            let before = direct(&vxgate.status());
            let answers = (0..20).filter(|_| self.ask(64)).count() as u64;
            let now = direct(&vxgate.status());
            answers == 20 && now.out >= before.out + 20 && now.into >= before.into + 20
        });
    }

    /// Both ends, as the one that asks knows them.
    pub fn ends(&self) -> [SocketAddr; 2] {
        let ends = [self.socket.local_addr(), self.socket.peer_addr()];
        ends.map(|end| end.expect("it is connected"))
    }

    /// The next frame that its second end could send, between the two nodes' vxlan devices.
    pub fn answer(&self, devices: [[u8; 6]; 2]) -> Vec<u8> {
        let [local, remote] = self.ends().map(four);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(devices[0], devices[1])
            .ipv4(remote.ip().octets(), local.ip().octets(), 63)
            .udp(remote.port(), local.port())
            .write(&mut frame, &[0; 64])
            .expect("writing to memory");
        frame
    }

    /// The next frame that its first end could send, by another hand.
    pub fn forged(&self, from: &str, to: &str) -> Vec<u8> {
        let frame = PacketBuilder::ethernet2(mac(from), mac(to));
        let [local, remote] = self.ends();
        let packet = match (local.ip(), remote.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => frame.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => frame.ipv6(from.octets(), to.octets(), 64),
            (from, to) => panic!("{from} and {to} are of two families"),
        };
        let mut frame = Vec::new();
        packet
            .udp(local.port(), remote.port())
            .write(&mut frame, &[0; 64])
            .expect("writing to memory");
        frame
    }
}

/// Any address and port of the family of this one.
pub fn any_of(address: &str) -> SocketAddr {
    let any = if address.contains(':') {
        IpAddr::from(Ipv6Addr::UNSPECIFIED)
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    SocketAddr::new(any, 0)
}

/// An end over IPv4.
fn four(end: SocketAddr) -> SocketAddrV4 {
    match end {
        SocketAddr::V4(end) => end,
        SocketAddr::V6(end) => panic!("{end} is of IPv4"),
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(echo) = self.echo.take() {
            let _ = echo.join();
        }
    }
}
