//! IP addresses of links (`linux/if_addr.h`).

use std::net::IpAddr;

use super::attribute::{attributes, ip_from};
use super::message::Message;
use super::{Error, Socket};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

/// An address that a link holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// The link.
    pub ifindex: u32,
    /// Our own end of it.
    pub local: IpAddr,
    /// How many of its bits, from the first, are the network's.
    pub prefix_len: u8,
}

impl Address {
    /// Reads an `RTM_NEWADDR` (true) or `RTM_DELADDR` (false).
    pub fn decode(message: &Message<'_>) -> Option<(bool, Self)> {
        let exists = match message.kind {
            RTM_NEWADDR => true,
            RTM_DELADDR => false,
            _ => return None,
        };
        // struct ifaddrmsg: u8 family, u8 prefix length, u8 flags, u8 scope, u32 index
        let [_, prefix_len, _, _, i0, i1, i2, i3] = *message.payload.first_chunk()?;
        let (mut address, mut local) = (None, None);
        for (number, value) in attributes(message.payload.get(8..)?) {
            match number {
                1 => address = ip_from(value),
                2 => local = ip_from(value),
                _ => {}
            }
        }
        // On a point-to-point link `IFA_ADDRESS` is the other end; IPv6 has no `IFA_LOCAL` without one.
        Some((
            exists,
            Self {
                ifindex: u32::from_ne_bytes([i0, i1, i2, i3]),
                local: local.or(address)?,
                prefix_len,
            },
        ))
    }
}

/// Every address of the namespace.
pub fn addresses(socket: &mut Socket) -> Result<Vec<Address>, Error> {
    socket.dump_with(RTM_GETADDR, &[0; 8], |message| {
        Address::decode(message).map(|(_, address)| address)
    })
}

#[cfg(test)]
mod tests {
    use super::super::RequestBody;
    use super::*;

    #[test]
    fn our_own_end_of_a_point_to_point_address() {
        let body = RequestBody::new(&[2, 32, 0, 0, 3, 0, 0, 0])
            .with(1, &[10, 0, 0, 2])
            .with(2, &[10, 0, 0, 1]);
        let payload = body.as_bytes();
        let message = Message {
            kind: 20,
            flags: 0,
            sequence: 0,
            payload,
            bytes: payload,
        };
        let (exists, address) = Address::decode(&message).unwrap();
        assert!(exists);
        assert_eq!(
            address,
            Address {
                ifindex: 3,
                local: "10.0.0.1".parse().unwrap(),
                prefix_len: 32,
            }
        );
        assert!(
            Address::decode(&Message {
                payload: &payload[..8],
                ..message
            })
            .is_none()
        );
    }
}
