//! An independent end of the wire.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::{ETHERTYPE, ifindex};

/// An independent end of the wire: a packet socket on one device, for frames of our Ethernet type.
pub struct Wire {
    fd: OwnedFd,
}

impl Wire {
    pub fn new(device: &str) -> Self {
        Self::of(device, ETHERTYPE)
    }

    /// As [`Wire::new`], for frames of another Ethernet type.
    pub fn of(device: &str, ether_type: [u8; 2]) -> Self {
        let protocol = u16::from_ne_bytes(ether_type);
        // SAFETY: makes a new descriptor.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(protocol)) };
        assert!(fd >= 0);
        // SAFETY: just made.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: integers, for which zeroes are valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = ifindex(device) as i32;
        // SAFETY: pointer and length of a local.
        let bound = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        assert_eq!(bound, 0);
        // By default a dozen long frames fill it.
        let room: libc::c_int = 8 << 20;
        // SAFETY: pointer and length of a local.
        let set = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const room).cast(),
                size_of_val(&room) as libc::socklen_t,
            )
        };
        assert_eq!(set, 0);
        Self { fd }
    }

    pub fn send(&self, bytes: &[u8]) {
        // SAFETY: pointer and length of a slice.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        assert_eq!(sent, bytes.len() as isize, "{}", io::Error::last_os_error());
    }

    /// The next frame from the other end, if there is one.
    pub fn next(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 16_384];
        // SAFETY: integers, for which zeroes are valid.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&from) as libc::socklen_t;
        // SAFETY: pointers and lengths of locals.
        let received = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT,
                (&raw mut from).cast(),
                &raw mut len,
            )
        };
        if received < 0 {
            return None;
        }
        bytes.truncate(received as usize);
        (from.sll_pkttype != libc::PACKET_OUTGOING).then_some(bytes)
    }
}
