//! Network devices (`linux/if_link.h`).

use super::attribute::{attributes, mac_from, text_from, u32_from};
use super::message::Message;
use super::{Error, RequestBody, Socket};
use crate::wire::MacAddr;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const AF_UNSPEC: u8 = 0;
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_RUNNING: u32 = 0x40;
const ARPHRD_ETHER: u16 = 1;
const IFLA_EXT_MASK: u16 = 29;
/// Statistics are most of a link's message, and nobody here reads them.
const RTEXT_FILTER_SKIP_STATS: u32 = 8;

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index in this namespace.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; zero when it has none.
    pub mac: MacAddr,
    /// The largest payload, in bytes.
    pub mtu: u32,
    /// Set up (`IFF_UP`).
    pub up: bool,
    /// Carrier and operational state let frames through (`IFF_RUNNING`).
    pub running: bool,
    /// `IFLA_INFO_KIND`, such as `vxlan` or `veth`; physical devices have none.
    pub kind: Option<String>,
    /// `IFLA_IFALIAS`: a free text that root may set.
    pub alias: Option<String>,
    /// Receive queues that it was made with.
    pub rx_queues: u32,
    /// Transmit queues that it was made with.
    pub tx_queues: u32,
    /// The bridge, bond or VRF that it belongs to.
    pub master: Option<u32>,
    /// `IFLA_LINK`: the other end of a veth pair, the device below a VLAN. An index of another namespace when
    /// `IFLA_LINK_NETNSID` says so, and then not given here.
    pub peer: Option<u32>,
    /// The device that a driver drives as this link; virtual devices have none.
    pub parent: Option<ParentDevice>,
    /// The loopback device.
    pub loopback: bool,
    /// Carries Ethernet frames (`ARPHRD_ETHER`).
    pub ethernet: bool,
}

/// A device on a bus, as `/sys/bus/BUS/devices/NAME` has it, in every network namespace alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParentDevice {
    /// `IFLA_PARENT_DEV_BUS_NAME`, such as `pci`.
    pub bus: String,
    /// `IFLA_PARENT_DEV_NAME`, such as `0000:00:03.0`.
    pub name: String,
}

/// A link and the attributes of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkKind {
    /// The link.
    pub link: Link,
    /// `IFLA_INFO_DATA`: attributes that only its kind understands; empty when it has none.
    pub data: Vec<u8>,
    /// The device below it, its other end or its sockets are in another namespace (`IFLA_LINK_NETNSID`).
    pub elsewhere: bool,
    /// `IFLA_QDISC`: the name of its queueing discipline, such as `noqueue`.
    pub qdisc: String,
    /// `IFLA_GROUP`: a number that rules may ask for.
    pub group: u32,
}

/// Every link of the namespace.
pub fn links(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    Ok(links_with_kind(socket)?
        .into_iter()
        .map(|found| found.link)
        .collect())
}

/// Every link of the namespace, with the attributes of its kind.
pub fn links_with_kind(socket: &mut Socket) -> Result<Vec<LinkKind>, Error> {
    let body =
        RequestBody::new(&[0; 16]).with(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    socket.dump_with(
        RTM_GETLINK,
        body.as_bytes(),
        |message| match LinkKind::decode(message) {
            Some((true, found)) => Some(found),
            _ => None,
        },
    )
}

impl LinkKind {
    /// Reads an `RTM_NEWLINK` (true) or `RTM_DELLINK` (false). None for other messages, and for those in which a bridge
    /// speaks about its port (family `AF_BRIDGE`): they come in addition to the device's own.
    pub fn decode(message: &Message<'_>) -> Option<(bool, Self)> {
        let exists = match message.kind {
            RTM_NEWLINK => true,
            RTM_DELLINK => false,
            _ => return None,
        };
        // struct ifinfomsg: u8 family, u8 pad, u16 type, i32 index, u32 flags, u32 change
        let [family, _, t0, t1, i0, i1, i2, i3, f0, f1, f2, f3] = *message.payload.first_chunk()?;
        if family != AF_UNSPEC {
            return None;
        }
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        let mut link = Link {
            ifindex: u32::from_ne_bytes([i0, i1, i2, i3]),
            name: String::new(),
            mac: MacAddr::ZERO,
            mtu: 0,
            up: flags & IFF_UP != 0,
            running: flags & IFF_RUNNING != 0,
            kind: None,
            alias: None,
            rx_queues: 1,
            tx_queues: 1,
            master: None,
            peer: None,
            parent: None,
            loopback: flags & IFF_LOOPBACK != 0,
            ethernet: u16::from_ne_bytes([t0, t1]) == ARPHRD_ETHER,
        };
        let mut data = Vec::new();
        let mut elsewhere = false;
        let mut qdisc = String::new();
        let mut group = 0;
        for (number, value) in attributes(message.payload.get(16..)?) {
            match number {
                1 => link.mac = mac_from(value).unwrap_or_default(),
                3 => link.name = text_from(value),
                4 => link.mtu = u32_from(value)?,
                5 => link.peer = u32_from(value).filter(|peer| *peer != 0),
                6 => qdisc = text_from(value),
                10 => link.master = u32_from(value),
                18 => read_info(value, &mut link.kind, &mut data),
                20 => link.alias = Some(text_from(value)),
                27 => group = u32_from(value)?,
                31 => link.tx_queues = u32_from(value)?,
                32 => link.rx_queues = u32_from(value)?,
                37 => elsewhere = true,
                56 => link.parent.get_or_insert_default().name = text_from(value),
                57 => link.parent.get_or_insert_default().bus = text_from(value),
                _ => {}
            }
        }
        if elsewhere {
            link.peer = None;
        }
        Some((
            exists,
            Self {
                link,
                data,
                elsewhere,
                qdisc,
                group,
            },
        ))
    }
}

/// `IFLA_LINKINFO`: the kind's name and its attributes.
fn read_info(info: &[u8], kind: &mut Option<String>, data: &mut Vec<u8>) {
    for (number, value) in attributes(info) {
        match number {
            1 => *kind = Some(text_from(value)),
            2 => *data = value.to_vec(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newlink(family: u8, attributes: RequestBody) -> Vec<u8> {
        let mut payload = vec![family, 0, 1, 0, 5, 0, 0, 0, 0x41, 0, 0, 0, 0, 0, 0, 0];
        payload.extend(attributes.as_bytes());
        payload
    }

    fn decode(kind: u16, payload: &[u8]) -> Option<(bool, LinkKind)> {
        LinkKind::decode(&Message {
            kind,
            flags: 0,
            sequence: 0,
            payload,
            bytes: payload,
        })
    }

    #[test]
    fn a_link_is_read_and_unknown_attributes_are_skipped() {
        let info = RequestBody::default()
            .with(1, b"veth\0")
            .with(2, &[4, 0, 1, 0]);
        let body = RequestBody::default()
            .with(999, &[1, 2, 3])
            .with(3, b"u0\0")
            .with(1, &[2, 0, 0, 0, 0, 9])
            .with(4, &1500u32.to_ne_bytes())
            .with(5, &7u32.to_ne_bytes())
            .with(18, info.as_bytes())
            .with(56, b"0000:00:03.0\0")
            .with(57, b"pci\0");
        let (exists, found) = decode(16, &newlink(0, body)).unwrap();
        assert!(exists && found.link.up && found.link.running && found.link.ethernet);
        assert_eq!(
            (found.link.ifindex, found.link.name.as_str(), found.link.mtu),
            (5, "u0", 1500)
        );
        assert_eq!(
            (found.link.peer, found.link.kind.as_deref()),
            (Some(7), Some("veth"))
        );
        assert_eq!(found.data, [4, 0, 1, 0]);
        let parent = found.link.parent.unwrap();
        assert_eq!((&*parent.bus, &*parent.name), ("pci", "0000:00:03.0"));
    }

    #[test]
    fn the_peer_of_another_namespace_is_not_ours() {
        let body = RequestBody::default()
            .with(5, &7u32.to_ne_bytes())
            .with(37, &0u32.to_ne_bytes());
        assert_eq!(decode(16, &newlink(0, body)).unwrap().1.link.peer, None);
    }

    #[test]
    fn a_bridge_speaking_about_its_port_is_not_the_device() {
        assert!(decode(17, &newlink(7, RequestBody::default())).is_none());
        assert!(decode(17, &[0; 3]).is_none());
        assert!(!decode(17, &newlink(0, RequestBody::default())).unwrap().0);
    }
}
