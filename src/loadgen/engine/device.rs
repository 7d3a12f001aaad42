//! What the kernel says of a network device.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::EngineError;

/// The largest answer: one device with all its statistics.
const ANSWER_MAX: usize = 64 * 1024;
/// Bytes of an Ethernet header and one VLAN tag, which the kernel lets pass beyond the MTU.
const BEYOND_MTU: u32 = 18;

/// A network device of this thread's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// The largest payload, in bytes.
    pub mtu: u32,
    /// Set up (`IFF_UP`).
    pub up: bool,
    /// Frames can leave (`IFF_RUNNING`): there is a carrier.
    pub running: bool,
    /// Queues that it has room to receive by; it may use fewer.
    pub rx_queues: u32,
}

impl Device {
    /// Asks for the device of that index.
    ///
    /// # Errors
    /// [`EngineError::Device`] when there is none, [`EngineError::System`] when the kernel cannot be asked.
    pub fn find(ifindex: u32) -> Result<Self, EngineError> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        let answer = ask(message).map_err(|source| EngineError::System {
            doing: format!("ask the kernel for device {ifindex}"),
            source,
        })?;
        let missing = || EngineError::Device {
            device: format!("device {ifindex}"),
            why: "there is no such device in this network namespace".to_owned(),
        };
        let link = answer.ok_or_else(missing)?;
        let mut device = Self {
            ifindex,
            name: format!("device {ifindex}"),
            mtu: 0,
            up: link.header.flags.contains(LinkFlags::Up),
            running: link.header.flags.contains(LinkFlags::Running),
            rx_queues: 1,
        };
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name = name,
                LinkAttribute::Mtu(mtu) => device.mtu = mtu,
                LinkAttribute::NumRxQueues(queues) => device.rx_queues = queues,
                _ => {}
            }
        }
        Ok(device)
    }

    /// The longest frame that it sends, in bytes without FCS.
    pub fn len_max(&self) -> usize {
        self.mtu.saturating_add(BEYOND_MTU) as usize
    }

    /// Whether it can send frames of this length, in bytes without FCS.
    ///
    /// # Errors
    /// [`EngineError::Device`] with the reason.
    pub fn check(&self, frame_len: usize) -> Result<(), EngineError> {
        let name = &self.name;
        let refuse = |why| {
            Err(EngineError::Device {
                device: name.clone(),
                why,
            })
        };
        if !self.up {
            return refuse(format!("it is down: `ip link set dev {name} up`"));
        }
        if !self.running {
            return refuse("it has no carrier: is the other end up and connected?".to_owned());
        }
        if frame_len > self.len_max() {
            let mtu = self.mtu;
            return refuse(format!(
                "frames of {frame_len} bytes do not fit its MTU of {mtu}: raise the MTU, or send smaller frames"
            ));
        }
        Ok(())
    }
}

/// The device, or none when there is none.
fn ask(message: LinkMessage) -> io::Result<Option<LinkMessage>> {
    let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(message));
    request.header.flags = NLM_F_REQUEST;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answer = vec![0; ANSWER_MAX];
    let len = socket.recv(&mut &mut answer[..], 0)?;
    let answer = answer
        .get(..len)
        .ok_or_else(|| invalid("a netlink message without end"))?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer)
        .map_err(|_| invalid("an unreadable netlink message"))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(Some(link)),
        NetlinkPayload::Error(error) if error.raw_code() == -libc::ENODEV => Ok(None),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(invalid("an unexpected netlink message")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_there_and_another_is_not() {
        let loopback = Device::find(1).unwrap();
        assert_eq!((loopback.name.as_str(), loopback.ifindex), ("lo", 1));
        assert!(loopback.mtu > 0);
        let words = Device::find(1_999_999_999).unwrap_err().to_string();
        assert!(
            words.contains("1999999999") && words.contains("no such device"),
            "{words}"
        );
    }

    #[test]
    fn what_cannot_be_sent_is_said() {
        let device = Device {
            ifindex: 7,
            name: "eth7".to_owned(),
            mtu: 1500,
            up: true,
            running: true,
            rx_queues: 1,
        };
        assert!(device.check(1518).is_ok());
        let words = |device: &Device, len| device.check(len).unwrap_err().to_string();
        assert!(words(&device, 1519).contains("MTU of 1500"));
        let down = Device {
            up: false,
            ..device.clone()
        };
        assert!(words(&down, 60).contains("ip link set dev eth7 up"));
        let unplugged = Device {
            running: false,
            ..device
        };
        assert!(words(&unplugged, 60).contains("carrier"));
    }
}
