//! Generic netlink: families of messages that have names, and a number each that the running kernel has given them
//! (`linux/genetlink.h`).

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;

use super::attribute::{RequestBody, attributes, text_from, u16_from, u32_from};
use super::{Error, Socket, Subscription};

/// `GENL_ID_CTRL`: the family that knows the others.
const CONTROL: u16 = 0x10;
/// `CTRL_CMD_GETFAMILY`.
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_FAMILY_ID`.
const FAMILY_ID: u16 = 1;
/// `CTRL_ATTR_FAMILY_NAME`.
const FAMILY_NAME: u16 = 2;
/// `CTRL_ATTR_MCAST_GROUPS`, a list of groups.
const GROUPS: u16 = 7;
/// `CTRL_ATTR_MCAST_GRP_NAME`.
const GROUP_NAME: u16 = 1;
/// `CTRL_ATTR_MCAST_GRP_ID`.
const GROUP_ID: u16 = 2;
/// Length of `struct genlmsghdr`, in bytes.
const HEADER_LEN: usize = 4;
/// The version of families that have had one only.
const VERSION: u8 = 1;

/// A family of the running kernel, and a socket to ask it through.
#[derive(Debug)]
pub(super) struct Family {
    socket: Socket,
    number: u16,
    /// Names and numbers of its multicast groups.
    groups: Vec<(String, u32)>,
}

impl Family {
    /// The family of this name; none, when the kernel has none.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(super) fn find(name: &str) -> Result<Option<Self>, Error> {
        let mut socket = Socket::open_generic().map_err(opening)?;
        let name = [name.as_bytes(), &[0]].concat();
        let body = request(GET_FAMILY).with(FAMILY_NAME, &name);
        let (mut number, mut groups) = (None, Vec::new());
        let asked = socket.exchange(CONTROL, 0, body.as_bytes(), |answer| {
            number = values(answer.payload, FAMILY_ID)
                .find_map(u16_from)
                .or(number);
            groups.extend(values(answer.payload, GROUPS).flat_map(groups_from));
        });
        match asked {
            Err(error) if error.code() == Some(libc::ENOENT) => Ok(None),
            asked => asked.map(|()| {
                number.map(|number| Self {
                    socket,
                    number,
                    groups,
                })
            }),
        }
    }

    /// Hears what is told to one of its groups; none, when it has no such group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn join(
        &self,
        group: &str,
        queue_bytes: usize,
    ) -> Result<Option<Subscription>, Error> {
        let Some((_, number)) = self.groups.iter().find(|(name, _)| name == group) else {
            return Ok(None);
        };
        Subscription::join(NETLINK_GENERIC, [*number], queue_bytes)
            .map(Some)
            .map_err(opening)
    }

    /// Asks `command` with one attribute; the first value of attribute `wanted` in the answer.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn ask(
        &mut self,
        command: u8,
        (attribute, value): (u16, &[u8]),
        wanted: u16,
    ) -> Result<Option<Vec<u8>>, Error> {
        let body = request(command).with(attribute, value);
        let mut found = None;
        self.socket
            .exchange(self.number, 0, body.as_bytes(), |answer| {
                let value = values(answer.payload, wanted).next();
                found = value.map(<[u8]>::to_vec).or(found.take());
            })?;
        Ok(found)
    }
}

fn opening(source: io::Error) -> Error {
    Error::Io {
        doing: "opening a generic netlink socket",
        source,
    }
}

fn request(command: u8) -> RequestBody {
    RequestBody::new(&[command, VERSION, 0, 0])
}

/// Names and numbers in a list of groups.
fn groups_from(list: &[u8]) -> impl Iterator<Item = (String, u32)> {
    attributes(list).filter_map(|(_, group)| {
        let find = |wanted| attributes(group).find(|(number, _)| *number == wanted);
        let (_, name) = find(GROUP_NAME)?;
        let (_, number) = find(GROUP_ID)?;
        Some((text_from(name), u32_from(number)?))
    })
}

/// The values of an attribute in a message.
fn values(payload: &[u8], wanted: u16) -> impl Iterator<Item = &[u8]> {
    let rest = payload.get(HEADER_LEN..).unwrap_or_default();
    attributes(rest)
        .filter(move |(number, _)| *number == wanted)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_that_does_not_exist_is_none() {
        assert!(Family::find("vxgate-nothing").unwrap().is_none());
    }

    #[test]
    fn the_kernels_own_family_has_its_fixed_number() {
        let control = Family::find("nlctrl").unwrap().unwrap();
        assert_eq!(control.number, CONTROL);
        assert!(control.join("notify", 1 << 16).unwrap().is_some());
        assert!(control.join("nothing", 1 << 16).unwrap().is_none());
    }

    #[test]
    fn values_are_those_behind_the_header_and_a_message_without_one_has_none() {
        let body = request(3).with(1, &[9, 0]).with(2, b"x\0").with(1, &[7, 0]);
        let all: Vec<_> = values(body.as_bytes(), 1).filter_map(u16_from).collect();
        assert_eq!(all, [9, 7]);
        assert_eq!(values(&[3, 1, 0], 1).count(), 0);
    }
}
