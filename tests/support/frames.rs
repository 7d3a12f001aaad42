//! Frames as a remote could send them, good and bad, put straight onto a wire.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use super::netns::Netns;

/// Where the parts of an IPv4 VXLAN frame begin.
pub mod offset {
    /// Outer IPv4 header.
    pub const IP: usize = 14;
    /// Outer UDP header.
    pub const UDP: usize = 34;
    /// VXLAN header.
    pub const VXLAN: usize = 42;
    /// Inner Ethernet header.
    pub const INNER: usize = 50;
    /// Inner IPv4 header.
    pub const INNER_IP: usize = 64;
}

/// The addresses of a VXLAN frame around a small UDP datagram.
#[derive(Debug, Clone)]
pub struct VxlanFrame {
    /// Outer source and destination MAC.
    pub outer_macs: [[u8; 6]; 2],
    /// Outer source and destination address.
    pub outer: [Ipv4Addr; 2],
    /// Inner source and destination MAC.
    pub inner_macs: [[u8; 6]; 2],
    /// Inner source and destination address.
    pub inner: [Ipv4Addr; 2],
    /// Inner destination port.
    pub port: u16,
}

impl VxlanFrame {
    /// The frame with a good header chain: VNI 1, port 8472, no outer UDP checksum.
    pub fn bytes(&self, payload: &[u8]) -> Vec<u8> {
        let mut inner = Vec::new();
        PacketBuilder::ethernet2(self.inner_macs[0], self.inner_macs[1])
            .ipv4(self.inner[0].octets(), self.inner[1].octets(), 63)
            .udp(40_000, self.port)
            .write(&mut inner, payload)
            .expect("writing to memory");
        self.around(&inner)
    }

    /// The outer headers around any bytes.
    pub fn around(&self, inner: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let payload = [&[0x08, 0, 0, 0, 0, 0, 1, 0], inner].concat();
        PacketBuilder::ethernet2(self.outer_macs[0], self.outer_macs[1])
            .ipv4(self.outer[0].octets(), self.outer[1].octets(), 64)
            .udp(50_000, 8472)
            .write(&mut frame, &payload)
            .expect("writing to memory");
        frame[offset::UDP + 6..offset::UDP + 8].fill(0);
        frame
    }
}

/// Writes the checksum of a frame's first IPv4 header anew after an edit.
pub fn finish_outer_ip(frame: &mut [u8]) {
    let header = &mut frame[offset::IP..offset::UDP];
    header[10..12].fill(0);
    let checksum = !sum(&[header]);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Sum of 16-bit words in ones' complement (RFC 1071); each part is padded to whole words.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A MAC address from its text.
pub fn mac(text: &str) -> [u8; 6] {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next().expect("six bytes"), 16).expect("hexadecimal");
    }
    bytes
}

/// Its text.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// An `AF_PACKET` socket on one device: sends frames as they are, receives all that the device sees.
#[derive(Debug)]
pub struct RawSocket(OwnedFd);

impl RawSocket {
    /// On a device of a namespace.
    pub fn open(netns: &Netns, device: &str) -> Self {
        netns.enter(|| {
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
            .expect("an AF_PACKET socket");
            let address = getifaddrs()
                .expect("the devices of the namespace")
                .filter(|interface| interface.interface_name == device)
                .find_map(|interface| interface.address?.as_link_addr().copied())
                .unwrap_or_else(|| panic!("no device {device} in {}", netns.name()));
            bind(socket.as_raw_fd(), &address).expect("binding to the device");
            Self(socket)
        })
    }

    /// Sends one frame.
    pub fn send(&self, frame: &[u8]) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match send(self.0.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => return,
                // The device's queue is full: its reader is slower than we are.
                Err(Errno::ENOBUFS | Errno::EAGAIN) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_micros(200))
                }
                Err(error) => panic!("sending {} bytes: {error}", frame.len()),
            }
        }
    }

    /// The next frame, or `None` when there is none now.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 1 << 16];
        let len = loop {
            match recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => break len,
                // The device was down meanwhile, which is told once: what came before it is still there.
                Err(Errno::ENETDOWN) => {}
                Err(_) => return None,
            }
        };
        bytes.truncate(len);
        Some(bytes)
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A small generator of numbers that repeats from its seed (splitmix64): a failing flood can be sent again.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
