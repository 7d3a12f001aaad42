//! What a device can do for XDP programs (generic netlink, family `netdev`, `linux/netdev.h`).
//!
//! A generic message has a header of its own behind the netlink header: command, version, two zero bytes.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;

use super::attribute::{attributes, text_from, u16_from, u32_from};
use super::{Error, RequestBody, Socket, Subscription};

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, and attributes of families and their groups.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const GROUPS: u16 = 7;
const GROUP_NAME: u16 = 1;
const GROUP_ID: u16 = 2;
const FAMILY: &[u8] = b"netdev\0";
/// Changes of devices.
const GROUP: &str = "mgmt";
/// `NETDEV_CMD_DEV_GET`, `NETDEV_A_DEV_IFINDEX`, `NETDEV_A_DEV_XDP_FEATURES`.
const DEVICE_GET: u8 = 1;
const IFINDEX: u16 = 1;
const FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_NDO_XMIT`.
const TAKES_REDIRECTS: u64 = 4;
const HEADER_LEN: usize = 4;
const VERSION: u8 = 1;

/// Asks for the features of devices.
#[derive(Debug)]
pub struct XdpFeatures {
    socket: Socket,
    family: u16,
    group: u32,
}

impl XdpFeatures {
    /// Finds the family. `None` on a kernel that does not tell (before 6.3).
    pub fn open() -> Result<Option<Self>, Error> {
        let mut socket = Socket::open_to(NETLINK_GENERIC).map_err(|source| Error::Io {
            doing: "open",
            source,
        })?;
        let body = request(GET_FAMILY).with(FAMILY_NAME, FAMILY);
        let (mut family, mut group) = (None, None);
        let asked = socket.exchange(CONTROLLER, 0, body.as_bytes(), |answer| {
            let answer = answer.payload.get(HEADER_LEN..).unwrap_or_default();
            for (number, value) in attributes(answer) {
                match number {
                    FAMILY_ID => family = u16_from(value),
                    GROUPS => group = attributes(value).find_map(|(_, one)| group_of(one)),
                    _ => {}
                }
            }
        });
        match asked {
            // ENOENT: there is no such family.
            Err(error) if error.code() == Some(2) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(family.zip(group).map(|(family, group)| Self {
                socket,
                family,
                group,
            })),
        }
    }

    /// Hears of every device whose features change.
    pub fn changes(&self, queue_bytes: usize) -> io::Result<Subscription> {
        Subscription::join(NETLINK_GENERIC, [self.group], queue_bytes)
    }

    /// Whether XDP programs of other devices may send frames out of this one.
    pub fn takes_redirects(&mut self, ifindex: u32) -> Result<bool, Error> {
        let body = request(DEVICE_GET).with(IFINDEX, &ifindex.to_ne_bytes());
        let mut features = 0;
        self.socket
            .exchange(self.family, 0, body.as_bytes(), |answer| {
                let answer = answer.payload.get(HEADER_LEN..).unwrap_or_default();
                let found = attributes(answer).find(|(number, _)| *number == FEATURES);
                features = found
                    .and_then(|(_, value)| value.first_chunk())
                    .map_or(0, |bytes| u64::from_ne_bytes(*bytes));
            })?;
        Ok(features & TAKES_REDIRECTS != 0)
    }
}

fn request(command: u8) -> RequestBody {
    RequestBody::new(&[command, VERSION, 0, 0])
}

/// The number of a group, if it is the one that we want.
fn group_of(one: &[u8]) -> Option<u32> {
    let find = |wanted| attributes(one).find(|(number, _)| *number == wanted);
    let (_, name) = find(GROUP_NAME)?;
    let (_, id) = find(GROUP_ID)?;
    (text_from(name) == GROUP).then(|| u32_from(id))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_takes_no_redirects_and_one_that_is_not_there_is_an_error() {
        let Some(mut features) = XdpFeatures::open().unwrap() else {
            return; // This kernel does not tell.
        };
        assert!(!features.takes_redirects(1).unwrap());
        assert_eq!(
            features
                .takes_redirects(i32::MAX as u32)
                .unwrap_err()
                .code(),
            Some(19)
        );
        features.changes(1 << 16).unwrap();
    }
}
