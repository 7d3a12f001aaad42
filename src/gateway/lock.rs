//! One vxgate a device.
//!
//! The lock is a listening socket in the kernel's abstract namespace, named after the device's index. Those names belong
//! to a network namespace, exactly as device indexes do, and vanish with the process: nothing to clean after a crash.
//! Whoever finds the name taken connects to it, and the kernel tells which process listens. One that is dying is waited for.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::predecessor::Patience;
use crate::fault::{Explained, Fault};

/// How long to wait for a place in the queue of whoever has a lock. There is one at once, or never: nobody serves it.
const QUEUED: Duration = Duration::from_millis(1);

/// Held while a device is taken over; dropping it gives the device free.
#[derive(Debug)]
pub struct DeviceLock {
    _listener: UnixListener,
}

/// Why a device could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "{device} is already taken over by vxgate, pid {}",
        holder.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
    )]
    Taken {
        /// The device's name.
        device: String,
        /// The process that holds it, when the kernel tells.
        holder: Option<i32>,
    },
    /// The lock could not be made at all.
    #[error("cannot lock {device}: {source}")]
    Io {
        /// The device's name.
        device: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Explained for LockError {
    fn fault(&self) -> Fault {
        match self {
            Self::Taken { .. } => Fault::DeviceTaken,
            Self::Io { .. } => Fault::DeviceNotLocked,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            Self::Taken {
                holder: Some(pid), ..
            } => Some(format!(
                "stop that one first (kill {pid}), or choose other devices with --vxlan"
            )),
            _ => None,
        }
    }
}

impl DeviceLock {
    /// Takes the device, or tells who has it. A process that was killed gives it back within the time that this waits.
    ///
    /// # Errors
    /// When another process holds it, or no socket can be made.
    pub fn acquire(device: &str, ifindex: u32) -> Result<Self, LockError> {
        let failed = |source| LockError::Io {
            device: device.to_owned(),
            source,
        };
        let address = SocketAddr::from_abstract_name(lock_name(ifindex)).map_err(failed)?;
        let mut waiting: Option<(Patience, Option<i32>)> = None;
        loop {
            match UnixListener::bind_addr(&address) {
                Ok(listener) => {
                    return Ok(Self {
                        _listener: listener,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(failed(error)),
            }
            // Asked once: a listener that nobody serves lets only so many connect.
            let (patience, holder) =
                waiting.get_or_insert_with(|| (Patience::new(), peer_pid_of(ifindex)));
            if !patience.again(*holder) {
                return Err(LockError::Taken {
                    device: device.to_owned(),
                    // By now it may be another one.
                    holder: peer_pid_of(ifindex).or(*holder),
                });
            }
        }
    }
}

/// The name of a device's lock in the abstract namespace, by the device's index.
pub fn lock_name(ifindex: u32) -> String {
    format!("vxgate/device/{ifindex}")
}

fn peer_pid_of(ifindex: u32) -> Option<i32> {
    let address = SocketAddrUnix::new_abstract_name(lock_name(ifindex).as_bytes());
    peer_pid(&connect(&address.ok()?, QUEUED).ok()?)
}

/// Connects, and waits so long at most for a place in the queue of a listener: that of one that does not look gets full, of those
/// who have gone away, too, and then connect(2) waits for ever.
///
/// # Errors
/// When nobody listens there; as [`io::ErrorKind::WouldBlock`] when the queue stays full.
pub fn connect(address: &SocketAddrUnix, patience: Duration) -> io::Result<UnixStream> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, address))?;
    set_socket_timeout(&socket, Timeout::Send, None)?;
    Ok(socket.into())
}

/// The process at the other end; none when it is in another PID namespace, which the kernel tells as 0.
pub fn peer_pid(stream: &UnixStream) -> Option<i32> {
    let credentials = getsockopt(stream, PeerCredentials).ok()?;
    Some(credentials.pid()).filter(|pid| *pid != 0)
}

/// Whether the process at the other end may change what this one does: root, and whoever has the rights that it runs with.
pub fn peer_may_change(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let peer = getsockopt(stream, PeerCredentials).map(|credentials| credentials.uid());
    peer.is_ok_and(|uid| uid == 0 || uid == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it_and_the_third_finds_it_free() {
        let ifindex = 0x7000_0000 + std::process::id() % 0x0fff_ffff;
        let first = DeviceLock::acquire("flannel.1", ifindex).unwrap();
        match DeviceLock::acquire("flannel.1", ifindex) {
            Err(LockError::Taken { device, holder }) => {
                assert_eq!(device, "flannel.1");
                assert_eq!(holder, i32::try_from(std::process::id()).ok());
            }
            other => panic!("expected the holder's pid, got {other:?}"),
        }
        drop(first);
        DeviceLock::acquire("flannel.1", ifindex).unwrap();
    }

    #[test]
    fn a_lock_whose_queue_is_full_holds_nobody_up() {
        let ifindex = 0x6000_0000 + std::process::id() % 0x0fff_ffff;
        let address = SocketAddrUnix::new_abstract_name(lock_name(ifindex).as_bytes()).unwrap();
        let family = AddressFamily::UNIX;
        let held = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&held, &address).unwrap();
        // Room for one who asks, and no more.
        rustix::net::listen(&held, 0).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(DeviceLock::acquire("flannel.1", ifindex)));
        let outcome = told.recv_timeout(Duration::from_secs(30)).expect("an end");
        let own = i32::try_from(std::process::id()).ok();
        assert!(
            matches!(&outcome, Err(LockError::Taken { holder, .. }) if *holder == own),
            "{outcome:?}"
        );
    }
}
