//! Generic netlink: families of messages that have names, and a number each that the running kernel has given them
//! (`linux/genetlink.h`).

use std::io;

use super::attribute::{RequestBody, attributes, u16_from};
use super::{Error, Socket};

/// `GENL_ID_CTRL`: the family that knows the others.
const CONTROL: u16 = 0x10;
/// `CTRL_CMD_GETFAMILY`.
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_FAMILY_ID`.
const FAMILY_ID: u16 = 1;
/// `CTRL_ATTR_FAMILY_NAME`.
const FAMILY_NAME: u16 = 2;
/// Length of `struct genlmsghdr`, in bytes.
const HEADER_LEN: usize = 4;
/// The version of families that have had one only.
const VERSION: u8 = 1;

/// A family of the running kernel, and a socket to ask it through.
#[derive(Debug)]
pub(super) struct Family {
    socket: Socket,
    number: u16,
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
        let mut number = None;
        let asked = socket.exchange(CONTROL, 0, body.as_bytes(), |answer| {
            number = values(answer.payload, FAMILY_ID)
                .find_map(u16_from)
                .or(number);
        });
        match asked {
            Err(error) if error.code() == Some(libc::ENOENT) => Ok(None),
            asked => asked.map(|()| number.map(|number| Self { socket, number })),
        }
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
    }

    #[test]
    fn values_are_those_behind_the_header_and_a_message_without_one_has_none() {
        let body = request(3).with(1, &[9, 0]).with(2, b"x\0").with(1, &[7, 0]);
        let all: Vec<_> = values(body.as_bytes(), 1).filter_map(u16_from).collect();
        assert_eq!(all, [9, 7]);
        assert_eq!(values(&[3, 1, 0], 1).count(), 0);
    }
}
