//! One raw end of a device: frames go in and come out exactly as they are.

// WHY: neither nix nor rustix has the options of AF_PACKET sockets; one call of setsockopt(2) is all there is.
#![allow(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvmsg,
    sendmsg, setsockopt, socket,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::netns::Netns;

const PACKET_AUXDATA: i32 = 8;
const PACKET_VNET_HDR: i32 = 15;
const PACKET_IGNORE_OUTGOING: i32 = 23;
/// `TP_STATUS_VLAN_VALID` and `TP_STATUS_VLAN_TPID_VALID` (`linux/if_packet.h`).
const VLAN_VALID: u32 = 1 << 4;
const VLAN_TPID_VALID: u32 = 1 << 6;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM` (`linux/virtio_net.h`).
const NEEDS_CHECKSUM: u8 = 1;
const RECEIVE_BUFFER_BYTES: usize = 64 << 20;

/// A frame to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// All of it, from the destination address on.
    pub bytes: Vec<u8>,
    /// What the sender leaves to its device.
    pub offload: Option<Offload>,
}

/// Work for a device (`struct virtio_net_hdr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offload {
    /// A checksum: where the summed part starts.
    pub start: u16,
    /// Where its field is, from there.
    pub field: u16,
    /// A superframe.
    pub segmentation: Option<Segmentation>,
}

/// How a superframe is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    /// `VIRTIO_NET_HDR_GSO_*`.
    pub kind: u8,
    /// All headers, in bytes.
    pub headers_len: u16,
    /// Payload of each frame, in bytes.
    pub payload_len: u16,
}

impl Input {
    /// How many frames come of it.
    pub fn count(&self) -> u64 {
        match self.offload.and_then(|offload| offload.segmentation) {
            Some(cut) => {
                let payload = self.bytes.len() - usize::from(cut.headers_len);
                payload.div_ceil(usize::from(cut.payload_len)) as u64
            }
            None => 1,
        }
    }
}

impl From<Vec<u8>> for Input {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            offload: None,
        }
    }
}

/// An `AF_PACKET` socket on one device.
#[derive(Debug)]
pub struct End {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl End {
    /// On a device of a namespace; with `listen` it receives what the device receives, and not what the device sends.
    pub fn open(netns: &Netns, device: &str, listen: bool) -> Self {
        let socket = netns.enter(|| {
            let protocol = if listen {
                Some(SockProtocol::EthAll)
            } else {
                None
            };
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                protocol,
            )
            .expect("an AF_PACKET socket");
            set_packet(&socket, PACKET_VNET_HDR);
            if listen {
                set_packet(&socket, PACKET_IGNORE_OUTGOING);
                set_packet(&socket, PACKET_AUXDATA);
                setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER_BYTES).expect("CAP_NET_ADMIN");
            }
            let address = getifaddrs()
                .expect("the devices of the namespace")
                .filter(|interface| interface.interface_name == device)
                .find_map(|interface| interface.address?.as_link_addr().copied())
                .unwrap_or_else(|| panic!("no device {device} in {}", netns.name()));
            bind(socket.as_raw_fd(), &address).expect("binding");
            socket
        });
        Self {
            socket,
            buffer: vec![0; 1 << 16],
        }
    }

    /// Sends one frame.
    pub fn send(&self, input: &Input) {
        let mut header = [0; 10];
        if let Some(offload) = input.offload {
            header[0] = NEEDS_CHECKSUM;
            header[6..8].copy_from_slice(&offload.start.to_ne_bytes());
            header[8..10].copy_from_slice(&offload.field.to_ne_bytes());
            if let Some(cut) = offload.segmentation {
                header[1] = cut.kind;
                header[2..4].copy_from_slice(&cut.headers_len.to_ne_bytes());
                header[4..6].copy_from_slice(&cut.payload_len.to_ne_bytes());
            }
        }
        let parts = [IoSlice::new(&header), IoSlice::new(&input.bytes)];
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match sendmsg::<()>(
                self.socket.as_raw_fd(),
                &parts,
                &[],
                MsgFlags::empty(),
                None,
            ) {
                Ok(_) => return,
                // The device's queue is full: its reader is slower than we are.
                Err(Errno::ENOBUFS | Errno::EAGAIN) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_micros(100));
                }
                Err(error) => panic!("sending {} bytes: {error}", input.bytes.len()),
            }
        }
    }

    /// The next frame, or `None` when there is none now. A VLAN tag that the kernel has taken off is put back.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; 10];
        let mut control = cmsg_space!([u8; 20]);
        let (len, tag) = {
            let mut parts = [
                IoSliceMut::new(&mut header),
                IoSliceMut::new(&mut self.buffer),
            ];
            let message = recvmsg::<()>(
                self.socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::MSG_DONTWAIT,
            )
            .ok()?;
            let tag = message
                .cmsgs()
                .expect("room for the auxiliary data")
                .find_map(|control| match control {
                    ControlMessageOwned::Unknown(data) => tag_of(&data.data_bytes),
                    _ => None,
                });
            (message.bytes, tag)
        };
        let mut frame = self.buffer[..len - header.len()].to_vec();
        if let Some(tag) = tag {
            frame.splice(12..12, tag);
        }
        Some(frame)
    }

    /// Waits until there is something to receive, at most `bound`.
    pub fn wait(&self, bound: Duration) {
        let timeout = Timespec {
            tv_sec: bound.as_secs().cast_signed(),
            tv_nsec: i64::from(bound.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&timeout));
    }
}

/// The tag of a `tpacket_auxdata` (`linux/if_packet.h`), as it was on the wire.
fn tag_of(data: &[u8]) -> Option<[u8; 4]> {
    let status = u32::from_ne_bytes(*data.first_chunk()?);
    let [tci_low, tci_high, tpid_low, tpid_high] = *data.get(16..20)?.first_chunk()?;
    if status & VLAN_VALID == 0 {
        return None;
    }
    let tci = u16::from_ne_bytes([tci_low, tci_high]).to_be_bytes();
    let tpid = if status & VLAN_TPID_VALID == 0 {
        [0x81, 0x00]
    } else {
        u16::from_ne_bytes([tpid_low, tpid_high]).to_be_bytes()
    };
    Some([tpid[0], tpid[1], tci[0], tci[1]])
}

/// Switches an option of `AF_PACKET` on.
fn set_packet(socket: &OwnedFd, option: i32) {
    let on: i32 = 1;
    let len = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel reads `len` bytes from `on`, which outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            len,
        )
    };
    assert_eq!(
        done,
        0,
        "option {option}: {}",
        std::io::Error::last_os_error()
    );
}
