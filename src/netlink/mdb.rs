//! Multicast databases: where a device sends frames to IP groups (`linux/if_bridge.h`). Of these only whether there is
//! something in them.

use super::attribute::attributes;
use super::message::Message;
use super::{Error, Socket};

const RTM_NEWMDB: u16 = 84;
const RTM_DELMDB: u16 = 85;
const RTM_GETMDB: u16 = 86;
const AF_BRIDGE: u8 = 7;
const MDBA_MDB: u16 = 1;
/// `EOPNOTSUPP`, `EINVAL`: what kernels without such databases answer.
const UNKNOWN: [i32; 2] = [95, 22];

/// A part of a device's multicast database: an announcement, or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MdbPart {
    /// The device: a bridge, or a vxlan device by itself.
    pub ifindex: u32,
    /// Whether there is any entry in it.
    pub has_entries: bool,
}

impl MdbPart {
    /// Reads an `RTM_NEWMDB` or `RTM_DELMDB`.
    pub fn decode(message: &Message<'_>) -> Option<Self> {
        if !matches!(message.kind, RTM_NEWMDB | RTM_DELMDB) {
            return None;
        }
        // struct br_port_msg: u8 family, 3 bytes of padding, u32 index
        let [_, _, _, _, i0, i1, i2, i3] = *message.payload.first_chunk()?;
        let mut lists = attributes(message.payload.get(8..)?);
        Some(Self {
            ifindex: u32::from_ne_bytes([i0, i1, i2, i3]),
            has_entries: lists.any(|(number, list)| number == MDBA_MDB && !list.is_empty()),
        })
    }
}

/// The devices of the namespace whose multicast database is not empty; none on a kernel that does not know such.
pub fn devices_with_mdb(socket: &mut Socket) -> Result<Vec<u32>, Error> {
    let answer = socket.dump_with(RTM_GETMDB, &[AF_BRIDGE, 0, 0, 0, 0, 0, 0, 0], |message| {
        MdbPart::decode(message).filter(|part| part.has_entries)
    });
    match answer {
        Err(error) if error.code().is_some_and(|code| UNKNOWN.contains(&code)) => Ok(Vec::new()),
        answer => Ok(answer?.into_iter().map(|part| part.ifindex).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::RequestBody;
    use super::*;

    #[test]
    fn a_database_without_entries_is_empty_and_other_messages_are_none() {
        let part = |kind, body: RequestBody| {
            let payload = body.as_bytes();
            MdbPart::decode(&Message {
                kind,
                flags: 0,
                sequence: 0,
                payload,
                bytes: payload,
            })
        };
        let header = [AF_BRIDGE, 0, 0, 0, 9, 0, 0, 0];
        let body = |list: &[u8]| RequestBody::new(&header).with(MDBA_MDB, list);
        let of_9 = |has_entries| {
            Some(MdbPart {
                ifindex: 9,
                has_entries,
            })
        };
        for kind in [RTM_NEWMDB, RTM_DELMDB] {
            assert_eq!(part(kind, body(&[4, 0, 1, 0])), of_9(true));
            assert_eq!(part(kind, body(&[])), of_9(false));
            assert_eq!(part(kind, RequestBody::new(&header)), of_9(false));
            assert_eq!(part(kind, RequestBody::new(&header[..7])), None);
        }
        assert_eq!(part(16, body(&[4, 0, 1, 0])), None);
    }
}
