//! What conntrack knows of a flow (`linux/netfilter/nfnetlink_conntrack.h`).

use std::io;
use std::net::SocketAddr;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::attribute::{attributes, family_of};
use super::{Error, RequestBody, Socket};

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_GET`, and what answers: `IPCTNL_MSG_CT_NEW`.
const GET: u16 = 1 << 8 | 1;
const NEW: u16 = 1 << 8;
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// `CTA_TUPLE_ORIG`: what an answer is sought by, whichever way the flow began.
const TUPLE: u16 = 1;
/// `CTA_STATUS` and `CTA_TIMEOUT`, in network byte order; `CTA_HELP`.
const STATUS: u16 = 3;
const HELP: u16 = 5;
const TIMEOUT: u16 = 7;
/// `IPS_SRC_NAT`, `IPS_DST_NAT`.
const TRANSLATED: u32 = 1 << 4 | 1 << 5;
/// `CTA_TUPLE_IP`, and in it `CTA_IP_V4_SRC` and the next; over IPv6, two more.
const TUPLE_IP: u16 = 1;
const SOURCE: u16 = 1;
const DESTINATION: u16 = 2;
const OF_IPV6: u16 = 2;
/// `CTA_TUPLE_PROTO`, and in it `CTA_PROTO_NUM`, `CTA_PROTO_SRC_PORT` and `CTA_PROTO_DST_PORT`.
const TUPLE_PROTO: u16 = 2;
const PROTOCOL: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
/// It knows no such flow.
const ENOENT: i32 = 2;
/// So many questions are asked at once: their answers find room in a socket of the usual size.
const AT_ONCE: usize = 64;

/// A frame's ends.
#[derive(Debug, Clone, Copy)]
pub struct Tuple {
    /// Where it is from.
    pub from: SocketAddr,
    /// Where it is to.
    pub to: SocketAddr,
    /// IANA protocol number.
    pub protocol: u8,
}

/// What it does with a flow. Nothing with one that it does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tracked {
    /// Translates it.
    pub translated: bool,
    /// Has a helper look into what it says, as of FTP.
    pub helped: bool,
    /// Forgets it when it sees no frame of it for so many seconds.
    pub forgotten_s: Option<u32>,
}

/// Asks conntrack in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Conntrack(Socket);

impl Conntrack {
    /// Opens a socket to it. Asking loads it, where it is not.
    ///
    /// # Errors
    /// The system's.
    pub fn open() -> io::Result<Self> {
        Socket::open_to(NETLINK_NETFILTER).map(Self)
    }

    /// Asks of each of these what it does with the flow that has such frames; `each` is told which of them, and the answer.
    ///
    /// # Errors
    /// Each's own, when the kernel refuses to tell. And when it does not answer, or nobody is there to: then not of all of them
    /// something was told.
    pub fn track(
        &mut self,
        tuples: impl Iterator<Item = Tuple>,
        mut each: impl FnMut(usize, Result<Tracked, Error>),
    ) -> Result<(), Error> {
        let bodies: Vec<_> = tuples.map(|tuple| question(&tuple)).collect();
        for (bodies, first) in bodies.chunks(AT_ONCE).zip((0..).step_by(AT_ONCE)) {
            self.0.ask_each(GET, bodies, |which, answer| {
                let tracked = match answer {
                    // struct nfgenmsg in front.
                    Ok(message) if message.kind == NEW => {
                        Ok(Tracked::read(message.payload.get(4..).unwrap_or_default()))
                    }
                    Ok(_) | Err(Error::Kernel { code: ENOENT, .. }) => Ok(Tracked::default()),
                    Err(error) => Err(error),
                };
                each(first + which, tracked);
            })?;
        }
        Ok(())
    }
}

impl Tracked {
    /// By what an entry says of itself.
    fn read(entry: &[u8]) -> Self {
        let mut tracked = Self::default();
        for (number, value) in attributes(entry) {
            let value = value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
            match number {
                STATUS => tracked.translated |= value.is_some_and(|bits| bits & TRANSLATED != 0),
                HELP => tracked.helped = true,
                TIMEOUT => tracked.forgotten_s = value,
                _ => {}
            }
        }
        tracked
    }
}

fn question(Tuple { from, to, protocol }: &Tuple) -> RequestBody {
    RequestBody::new(&[family_of(from.ip()), 0, 0, 0])
        .with(TUPLE | NESTED, tuple(*from, *to, *protocol).as_bytes())
}

fn tuple(from: SocketAddr, to: SocketAddr, protocol: u8) -> RequestBody {
    let family = if from.is_ipv4() { 0 } else { OF_IPV6 };
    let ends = RequestBody::default()
        .with_ip(SOURCE + family, from.ip())
        .with_ip(DESTINATION + family, to.ip());
    let transport = RequestBody::default()
        .with(PROTOCOL, &[protocol])
        .with(SOURCE_PORT, &from.port().to_be_bytes())
        .with(DESTINATION_PORT, &to.port().to_be_bytes());
    RequestBody::default()
        .with(TUPLE_IP | NESTED, ends.as_bytes())
        .with(TUPLE_PROTO | NESTED, transport.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_of_a_flow_is_read() {
        let said = RequestBody::default()
            .with(STATUS, &0x1e_u32.to_be_bytes())
            .with(TIMEOUT, &30_u32.to_be_bytes());
        let plain = Tracked {
            translated: true,
            helped: false,
            forgotten_s: Some(30),
        };
        assert_eq!(Tracked::read(said.as_bytes()), plain);
        let name = RequestBody::default().with(1, b"ftp\0");
        let said = RequestBody::default()
            .with(STATUS, &0x0e_u32.to_be_bytes())
            .with(HELP | NESTED, name.as_bytes());
        let helped = Tracked {
            helped: true,
            ..Tracked::default()
        };
        assert_eq!(Tracked::read(said.as_bytes()), helped);
    }

    #[test]
    fn a_tuple_has_both_ends_in_the_byte_order_of_the_wire() {
        let (from, to) = ("10.0.0.1:1000", "10.0.0.2:53");
        let four = tuple(from.parse().unwrap(), to.parse().unwrap(), 17);
        let expected = [
            &[20, 0, 1, 0x80][..],
            &[8, 0, 1, 0, 10, 0, 0, 1, 8, 0, 2, 0, 10, 0, 0, 2],
            &[28, 0, 2, 0x80],
            &[5, 0, 1, 0, 17, 0, 0, 0, 6, 0, 2, 0, 3, 232, 0, 0],
            &[6, 0, 3, 0, 0, 53, 0, 0],
        ];
        assert_eq!(four.as_bytes(), expected.concat());
        let (from, to) = ("[fd00::1]:1", "[fd00::2]:2");
        let six = tuple(from.parse().unwrap(), to.parse().unwrap(), 6);
        assert_eq!(six.as_bytes()[4..8], [20, 0, 3, 0]);
        assert_eq!(six.as_bytes()[24..28], [20, 0, 4, 0]);
    }
}
