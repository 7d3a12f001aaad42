//! Nexthop objects (`linux/nexthop.h`, Linux 5.3).

use std::net::IpAddr;

use super::attribute::{attributes, ip_from, u32_from};
use super::message::Message;
use super::{Error, Socket};

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
/// `EOPNOTSUPP`, `EINVAL`: what kernels without nexthop objects answer.
const UNKNOWN: [i32; 2] = [95, 22];

/// A nexthop object, or a group of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nexthop {
    /// Its number.
    pub id: u32,
    /// Where it leads; none for a group or a black hole.
    pub gateway: Option<IpAddr>,
    /// Members of a group, by number.
    pub group: Vec<u32>,
    /// Made for FDB entries (`NHA_FDB`).
    pub fdb: bool,
}

impl Nexthop {
    /// Reads an `RTM_NEWNEXTHOP` (true) or `RTM_DELNEXTHOP` (false).
    pub fn decode(message: &Message<'_>) -> Option<(bool, Self)> {
        let exists = match message.kind {
            RTM_NEWNEXTHOP => true,
            RTM_DELNEXTHOP => false,
            _ => return None,
        };
        let mut nexthop = Self {
            id: 0,
            gateway: None,
            group: Vec::new(),
            fdb: false,
        };
        // struct nhmsg: 8 bytes
        for (number, value) in attributes(message.payload.get(8..)?) {
            match number {
                1 => nexthop.id = u32_from(value)?,
                // struct nexthop_grp: u32 id, u8 weight, u8 high weight, u16 reserved
                2 => nexthop.group = value.chunks_exact(8).filter_map(u32_from).collect(),
                6 => nexthop.gateway = ip_from(value),
                11 => nexthop.fdb = true,
                _ => {}
            }
        }
        (nexthop.id != 0).then_some((exists, nexthop))
    }
}

/// Every nexthop object of the namespace; none on a kernel that does not know them.
pub fn nexthops(socket: &mut Socket) -> Result<Vec<Nexthop>, Error> {
    let answer = socket.dump_with(RTM_GETNEXTHOP, &[0; 8], |message| {
        Nexthop::decode(message).map(|(_, nexthop)| nexthop)
    });
    match answer {
        Err(error) if error.code().is_some_and(|code| UNKNOWN.contains(&code)) => Ok(Vec::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::RequestBody;
    use super::*;

    #[test]
    fn a_group_with_an_attribute_nobody_knows() {
        let members = [101, 0, 0, 0, 0, 0, 0, 0, 102, 0, 0, 0, 2, 0, 0, 0, 1, 2, 3];
        let body = RequestBody::new(&[0; 8])
            .with(1, &200u32.to_ne_bytes())
            .with(2, &members)
            .with(11, &[])
            .with(14, &0x8000_0000u32.to_ne_bytes());
        let payload = body.as_bytes();
        let message = Message {
            kind: 104,
            flags: 0,
            sequence: 0,
            payload,
            bytes: payload,
        };
        let (exists, nexthop) = Nexthop::decode(&message).unwrap();
        assert!(exists && nexthop.fdb);
        assert_eq!(
            (nexthop.id, nexthop.group, nexthop.gateway),
            (200, vec![101, 102], None)
        );
        assert!(
            Nexthop::decode(&Message {
                payload: &[0; 8],
                ..message
            })
            .is_none(),
            "no number"
        );
    }
}
