//! Whether the process that made an access device still lives.
//!
//! It holds a socket with a name of its own in the kernel's abstract namespace. Such names belong to a network namespace,
//! as the device does, and vanish with the process. A process number would not do: two containers that share the network
//! of their node do not share process numbers, and each would take the other for dead.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Held as long as the access device is in use.
#[derive(Debug)]
pub(super) struct Claim {
    _socket: UnixDatagram,
}

impl Claim {
    /// Claims a key.
    ///
    /// # Errors
    /// `AddrInUse` when somebody else holds it.
    pub fn new(key: &str) -> io::Result<Self> {
        let name = SocketAddr::from_abstract_name(format!("vxgate/access/{key}"))?;
        let socket = UnixDatagram::bind_addr(&name)?;
        Ok(Self { _socket: socket })
    }

    /// Whether somebody holds this key. In doubt, somebody does.
    pub fn is_held(key: &str) -> bool {
        Self::new(key).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_held_until_its_claim_is_dropped() {
        let key = format!("test/{}", std::process::id());
        assert!(!Claim::is_held(&key));
        let claim = Claim::new(&key).unwrap();
        assert!(Claim::is_held(&key));
        let second = Claim::new(&key).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(claim);
        assert!(!Claim::is_held(&key));
    }
}
