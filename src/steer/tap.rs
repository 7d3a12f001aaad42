//! TAPs: the way of superframes.
//!
//! ```text
//!   vxlan device ──tcx egress──▶ access TAP ──▶ a worker reads    a worker writes ──▶ wire TAP ──tcx ingress──▶ NIC's egress
//!                ◀─tcx ingress──            ◀── a worker writes
//! ```
//!
//! A TAP with `virtio_net_hdr` takes superframes of TCP and UDP as the stack made them and gives them to whoever reads, and
//! the other way round; a veth pair would have each of its segments make the way by itself. The access TAP stands beside the access
//! pair of a vxlan device. The wire TAP stands in front of an underlay device: what is written there is the kernel's to cut,
//! as are the superframes of its own vxlan devices.
//!
//! Neither has an address or a route, and both are gone when the last descriptor is closed, whatever ends the process.
#![allow(unsafe_code)] // WHY: no safe crate in use speaks the ioctls of `/dev/net/tun`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::Error;
use super::access::{self, AccessLink, Departures};
use crate::wire::vnet;

const DEVICE: &str = "/dev/net/tun";
/// The kernel puts a number that is free in the place of `%d`.
const ACCESS_NAME: &str = "vxt%d";
const WIRE_NAME: &str = "vxw%d";

/// `linux/if_tun.h`; `USO` are of Linux 6.2, the last two of Linux 6.17.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
const TUNSETVNETLE: libc::c_ulong = 0x4004_54dc;
const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO4: libc::c_ulong = 0x02;
const TUN_F_TSO6: libc::c_ulong = 0x04;
const TUN_F_TSO_ECN: libc::c_ulong = 0x08;
const TUN_F_USO4: libc::c_ulong = 0x20;
const TUN_F_USO6: libc::c_ulong = 0x40;
const TUN_F_UDP_TUNNEL_GSO: libc::c_ulong = 0x80;
const TUN_F_UDP_TUNNEL_GSO_CSUM: libc::c_ulong = 0x100;
const TCP: libc::c_ulong = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
const UDP: libc::c_ulong = TUN_F_USO4 | TUN_F_USO6;
const TUNNEL: libc::c_ulong = TUN_F_UDP_TUNNEL_GSO | TUN_F_UDP_TUNNEL_GSO_CSUM;

/// A TAP made by us, with a queue for every worker. It is gone when this and all clones of its queues are.
#[derive(Debug)]
pub struct Tap {
    /// The device.
    pub link: AccessLink,
    /// Whether it takes trains of datagrams. Before Linux 6.2 none does, and a write of one fails.
    pub takes_trains: bool,
    queues: Vec<File>,
}

impl Tap {
    /// The TAP beside the access pair of this vxlan device.
    ///
    /// # Errors
    /// Names the step; nothing is left behind.
    pub fn access(device_name: &str, queues: u32) -> Result<Self, Error> {
        Self::create(ACCESS_NAME, device_name, queues, TCP)
    }

    /// The TAP in front of this underlay device.
    ///
    /// # Errors
    /// As [`Tap::access`]; and where the kernel does not cut superframes within a UDP tunnel that come from a TAP.
    pub fn wire(nic_name: &str, queues: u32) -> Result<Self, Error> {
        Self::create(WIRE_NAME, nic_name, queues, TCP | TUNNEL)
    }

    /// A descriptor of a queue.
    ///
    /// # Errors
    /// When there is no such queue, or the process has no descriptor left.
    pub fn queue(&self, number: u32) -> Result<OwnedFd, Error> {
        let queue = self
            .queues
            .get(number as usize)
            .ok_or_else(|| Error::Plan(format!("{} has no queue {number}", self.link.name)))?;
        let queue = queue.try_clone().map_err(Error::Descriptor)?;
        Ok(queue.into())
    }

    /// What became of the frames that were redirected to it, and that wait in no queue any more: read, or dropped without room.
    /// More than were redirected where the kernel cut superframes that a TAP does not take, as those of a pod's own tunnel.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn departures(&self) -> Result<Departures, Error> {
        access::departures(&self.link)
    }

    fn create(
        pattern: &str,
        of: &str,
        queues: u32,
        offloads: libc::c_ulong,
    ) -> Result<Self, Error> {
        let first = Queue::open(pattern)?;
        let failed = |doing| {
            let device = first.name.clone();
            move |source| Error::Setting {
                device,
                doing,
                source,
            }
        };
        // The header's length first: without it the kernel does not know what the offloads below would be told by.
        first
            .set_by_value(TUNSETVNETHDRSZ, vnet::LEN as libc::c_int)
            .map_err(failed("make its frames carry a header of 24 bytes"))?;
        first
            .set_by_value(TUNSETVNETLE, 1)
            .map_err(failed("make the header's numbers little-endian"))?;
        // Without those of UDP, on older kernels, trains of datagrams come out one by one, and cannot be written.
        let takes_trains = first.set(TUNSETOFFLOAD, offloads | UDP).is_ok();
        let set = match takes_trains {
            true => Ok(()),
            false => first.set(TUNSETOFFLOAD, offloads),
        };
        set.map_err(|source| {
            let why = match source.raw_os_error() {
                Some(libc::EINVAL) if offloads & TUNNEL != 0 => {
                    "have superframes within a UDP tunnel cut (Linux 6.17 and later do)"
                }
                _ => "have it take superframes",
            };
            failed(why)(source)
        })?;
        let name = first.name.clone();
        let mut files = vec![first.file];
        for _ in 1..queues {
            files.push(Queue::open(&name)?.file);
        }
        let link = access::adopt(&name, of)?;
        Ok(Self {
            link,
            takes_trains,
            queues: files,
        })
    }
}

/// A descriptor with a queue of a TAP.
struct Queue {
    file: File,
    name: String,
}

impl Queue {
    /// Of a new TAP with a name of this pattern, or of the one that has this name.
    fn open(name: &str) -> Result<Self, Error> {
        let failed = |doing| {
            move |source| Error::Setting {
                device: name.to_owned(),
                doing,
                source,
            }
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(DEVICE)
            .map_err(failed("open /dev/net/tun for it"))?;
        let mut request = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_flags: (libc::IFF_TAP
                    | libc::IFF_NO_PI
                    | libc::IFF_VNET_HDR
                    | libc::IFF_MULTI_QUEUE) as libc::c_short,
            },
        };
        let room = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
        for (to, from) in room.zip(name.bytes()) {
            *to = from.cast_signed();
        }
        // SAFETY: the structure is a local of the type that this request takes, and the kernel writes back a name.
        let made = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
        if made < 0 {
            return Err(failed("make it")(io::Error::last_os_error()));
        }
        let bytes = request.ifr_name.iter().map(|byte| byte.cast_unsigned());
        let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
        Ok(Self {
            file,
            name: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// A request that takes a number.
    fn set(&self, request: libc::c_ulong, value: libc::c_ulong) -> io::Result<()> {
        // SAFETY: these requests take their argument as a number and touch no memory.
        let set = unsafe { libc::ioctl(self.file.as_raw_fd(), request, value) };
        checked(set)
    }

    /// A request that takes a place where a number is.
    fn set_by_value(&self, request: libc::c_ulong, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the pointer is to a local of the type that these requests read.
        let set = unsafe { libc::ioctl(self.file.as_raw_fd(), request, &raw const value) };
        checked(set)
    }
}

fn checked(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
