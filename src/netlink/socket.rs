//! A socket for requests: one question, and its answers up to the acknowledgement.

use std::io;
use std::time::Duration;

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};
use rustix::net::{RecvFlags, SendFlags, sockopt};

use super::attribute::{RequestBody, attributes, text_from};
use super::message::{HEADER_LEN, Message, NLMSG_DONE, NLMSG_ERROR, messages};
use crate::fault::{Explained, Fault};

/// `NLM_F_REQUEST` (`linux/netlink.h`).
const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`.
const ACK: u16 = 0x04;
/// `NLM_F_DUMP`.
const DUMP: u16 = 0x300;
/// `NLM_F_DUMP_INTR`: the kernel's list changed while it was being told.
const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_CAPPED`: an error message does not repeat the request's payload.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: attributes follow in an error message.
const ACK_ATTRIBUTES: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`: the kernel's explanation.
const ERROR_TEXT: u16 = 1;

/// Not for everybody.
const EPERM: i32 = 1;

/// How often an interrupted dump is started again before it is an error.
const DUMP_ATTEMPTS: u32 = 16;
/// How long an answer may take. The kernel's big lock may be held by others for seconds, but not for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The kernel fills datagrams of up to 32 KiB for a reader whose buffer is at least that large.
const BUFFER_LEN: usize = 64 * 1024;

/// Why a request got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket failed.
    #[error("netlink: {doing}: {source}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("netlink: the kernel refused: {}{}", io::Error::from_raw_os_error(*code), text.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
    Kernel {
        /// The errno, positive.
        code: i32,
        /// Its explanation (extended acknowledgement), when it gave one.
        text: Option<String>,
    },
    /// The list kept changing while the kernel told it.
    #[error("netlink: the kernel's list changed during each of {0} dumps")]
    Interrupted(u32),
    /// An answer that makes no sense.
    #[error("netlink: {0}")]
    Malformed(&'static str),
}

impl Explained for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Io { .. } | Self::Kernel { .. } | Self::Interrupted(_) | Self::Malformed(_) => {
                Fault::KernelSilent
            }
        }
    }
}

impl Error {
    /// The kernel's errno, positive, when it refused.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Kernel { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// A blocking request socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens it, with strict checking of dump filters and with explanations of errors.
    pub fn open() -> io::Result<Self> {
        Self::open_to(NETLINK_ROUTE)
    }

    /// The same, for generic netlink.
    pub(super) fn open_generic() -> io::Result<Self> {
        Self::open_to(NETLINK_GENERIC)
    }

    /// The same of another family of netlink.
    pub(super) fn open_to(protocol: isize) -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(protocol)?;
        socket.bind_auto()?;
        // Connected to the kernel: other processes' messages to our port are refused.
        socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
        // Explanations and strict filters are conveniences of newer kernels; without them every caller still works.
        socket.set_ext_ack(true).ok();
        socket.set_cap_ack(true).ok();
        socket.set_netlink_get_strict_chk(true).ok();
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER_LEN],
        })
    }

    /// Sends with `NLM_F_REQUEST|NLM_F_ACK|flags` and collects the answers up to the acknowledgement. Answers of a kind
    /// that `netlink-packet-route` does not know are skipped.
    pub fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let mut answers = Vec::new();
        let body = serialize(&message);
        self.exchange(message.message_type(), flags, &body, |answer| {
            answers.extend(route_message(answer))
        })?;
        Ok(answers)
    }

    /// Asks for a list. Starts again when the list changed meanwhile; messages of unknown kinds are skipped.
    pub fn dump(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let body = serialize(&message);
        self.dump_with(message.message_type(), &body, route_message)
    }

    /// As [`Socket::request`], with a body of the caller's, and each answer handed to `each`.
    pub fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<(), Error> {
        let sequence = self.send(kind, REQUEST | ACK | flags, body)?;
        loop {
            let datagram = receive(&self.socket, &mut self.buffer)?;
            for message in messages(datagram).filter(|message| message.sequence == sequence) {
                match message.kind {
                    NLMSG_ERROR => return acknowledgement(&message),
                    NLMSG_DONE => return done(&message),
                    _ => each(&message),
                }
            }
        }
    }

    /// Asks as many questions of one kind at once as there are bodies, of which each has one answer or a refusal; `each` is told
    /// which of them, and what. Two system calls for each would be three times the time that the kernel needs to answer.
    pub fn ask_each(
        &mut self,
        kind: u16,
        bodies: &[RequestBody],
        mut each: impl FnMut(usize, Result<&Message<'_>, Error>),
    ) -> Result<(), Error> {
        let mut bytes = Vec::new();
        for body in bodies {
            self.add_request(&mut bytes, kind, REQUEST, body.as_bytes())?;
        }
        self.send_bytes(&bytes)?;
        let (last, mut missing) = (self.sequence, bodies.len());
        while missing > 0 {
            let datagram = receive(&self.socket, &mut self.buffer)?;
            for message in messages(datagram) {
                let from_last = last.wrapping_sub(message.sequence) as usize;
                let Some(which) = bodies.len().checked_sub(from_last + 1) else {
                    // Of questions that nobody waits for any more.
                    continue;
                };
                missing = missing.saturating_sub(1);
                let answer = match message.kind {
                    NLMSG_ERROR => match acknowledgement(&message) {
                        // Then it reads none of the others.
                        Err(error) if error.code() == Some(EPERM) => return Err(error),
                        answer => answer.map(|()| &message),
                    },
                    _ => Ok(&message),
                };
                each(which, answer);
            }
        }
        Ok(())
    }

    /// As [`Socket::dump`], with a body of the caller's; `decode` says what to keep of each message.
    pub fn dump_with<T>(
        &mut self,
        kind: u16,
        body: &[u8],
        mut decode: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        self.dump_into(kind, body, Vec::new, |list, message| {
            list.extend(decode(message));
        })
    }

    /// The same without a list: each message is added to what `empty` makes, once for every start.
    pub fn dump_into<T>(
        &mut self,
        kind: u16,
        body: &[u8],
        empty: impl Fn() -> T,
        mut add: impl FnMut(&mut T, &Message<'_>),
    ) -> Result<T, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut all = empty();
            let mut interrupted = false;
            self.dump_once(kind, body, |message| {
                interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                if !interrupted {
                    add(&mut all, message);
                }
            })?;
            if !interrupted {
                return Ok(all);
            }
        }
        Err(Error::Interrupted(DUMP_ATTEMPTS))
    }

    /// One dump, to its end even when interrupted: a new one is refused while another runs.
    fn dump_once(
        &mut self,
        kind: u16,
        body: &[u8],
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<(), Error> {
        let sequence = self.send(kind, REQUEST | DUMP, body)?;
        loop {
            let datagram = receive(&self.socket, &mut self.buffer)?;
            for message in messages(datagram).filter(|message| message.sequence == sequence) {
                match message.kind {
                    NLMSG_ERROR => return acknowledgement(&message),
                    NLMSG_DONE => {
                        // The flag may be on the last message only.
                        if message.flags & DUMP_INTERRUPTED != 0 {
                            each(&message);
                        }
                        return done(&message);
                    }
                    _ => each(&message),
                }
            }
        }
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<u32, Error> {
        let mut bytes = Vec::with_capacity(HEADER_LEN + body.len());
        self.add_request(&mut bytes, kind, flags, body)?;
        self.send_bytes(&bytes)?;
        Ok(self.sequence)
    }

    /// Puts a request with a number of its own behind others.
    fn add_request(
        &mut self,
        bytes: &mut Vec<u8>,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = HEADER_LEN + body.len();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(
            u32::try_from(length)
                .map_err(|_| Error::Malformed("request too long"))?
                .to_ne_bytes(),
        );
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(body);
        Ok(())
    }

    fn send_bytes(&self, bytes: &[u8]) -> Result<(), Error> {
        match rustix::net::send(&self.socket, bytes, SendFlags::empty()) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) => Err(Error::Malformed("request sent in part only")),
            Err(errno) => Err(Error::Io {
                doing: "sending a request",
                source: errno.into(),
            }),
        }
    }
}

/// Receives one datagram.
fn receive<'a>(socket: &netlink_sys::Socket, buffer: &'a mut [u8]) -> Result<&'a [u8], Error> {
    let length = loop {
        match rustix::net::recv(socket, &mut *buffer, RecvFlags::TRUNC) {
            Ok((_, length)) => break length,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => {
                return Err(Error::Io {
                    doing: "waiting for an answer",
                    source: errno.into(),
                });
            }
        }
    };
    buffer.get(..length).ok_or(Error::Malformed(
        "an answer is longer than any the kernel sends",
    ))
}

/// Judges an `NLMSG_ERROR`: `struct nlmsgerr`, then the explanation.
fn acknowledgement(message: &Message<'_>) -> Result<(), Error> {
    let Some(error) = message
        .payload
        .first_chunk()
        .map(|bytes| i32::from_ne_bytes(*bytes))
    else {
        return Err(Error::Malformed("an acknowledgement is too short"));
    };
    if error == 0 {
        return Ok(());
    }
    // After the error: the request's header, and its payload unless capped.
    let request = message.payload.get(4..).unwrap_or_default();
    let repeated = match request
        .first_chunk()
        .map(|bytes| u32::from_ne_bytes(*bytes))
    {
        Some(length) if message.flags & CAPPED == 0 => {
            usize::try_from(length).unwrap_or(usize::MAX)
        }
        _ => HEADER_LEN,
    };
    let explained = message.flags & ACK_ATTRIBUTES != 0;
    let tail = request
        .get(repeated.min(request.len()).next_multiple_of(4)..)
        .filter(|_| explained);
    Err(refusal(error, tail.unwrap_or_default()))
}

/// Judges an `NLMSG_DONE`, which may carry an error.
fn done(message: &Message<'_>) -> Result<(), Error> {
    match message
        .payload
        .first_chunk()
        .map(|bytes| i32::from_ne_bytes(*bytes))
    {
        Some(error) if error < 0 => {
            Err(refusal(error, message.payload.get(4..).unwrap_or_default()))
        }
        _ => Ok(()),
    }
}

fn refusal(error: i32, attributes_after: &[u8]) -> Error {
    let text = attributes(attributes_after).find(|(number, _)| *number == ERROR_TEXT);
    Error::Kernel {
        code: error.saturating_neg(),
        text: text.map(|(_, value)| text_from(value)),
    }
}

fn serialize(message: &RouteNetlinkMessage) -> Vec<u8> {
    let mut body = vec![0; message.buffer_len()];
    message.serialize(&mut body);
    body
}

fn route_message(message: &Message<'_>) -> Option<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.message_type = message.kind;
    RouteNetlinkMessage::deserialize(&header, message.payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_message(flags: u16, payload: &[u8]) -> Result<(), Error> {
        acknowledgement(&Message {
            kind: NLMSG_ERROR,
            flags,
            sequence: 1,
            payload,
            bytes: payload,
        })
    }

    #[test]
    fn error_zero_is_the_acknowledgement() {
        assert!(error_message(0, &[0; 20]).is_ok());
    }

    #[test]
    fn the_explanation_is_found_after_a_capped_and_after_a_whole_request() {
        let text = [9, 0, 1, 0, b'd', b'e', b'n', b'y', 0, 0, 0, 0];
        let mut capped = (-22i32).to_ne_bytes().to_vec();
        capped.extend([0; 16]);
        capped.extend(text);
        let mut whole = (-22i32).to_ne_bytes().to_vec();
        whole.extend(20u32.to_ne_bytes());
        whole.extend([0; 16]);
        whole.extend(text);
        for (flags, payload) in [(CAPPED | ACK_ATTRIBUTES, capped), (ACK_ATTRIBUTES, whole)] {
            let Err(Error::Kernel {
                code: 22,
                text: Some(text),
            }) = error_message(flags, &payload)
            else {
                panic!("no explanation with flags {flags:#x}");
            };
            assert_eq!(text, "deny");
        }
    }

    #[test]
    fn a_short_acknowledgement_is_an_error_not_a_panic() {
        assert!(matches!(
            error_message(0, &[0, 0]),
            Err(Error::Malformed(_))
        ));
        let minus_one = (-1i32).to_ne_bytes();
        assert!(matches!(
            error_message(ACK_ATTRIBUTES, &minus_one),
            Err(Error::Kernel {
                code: 1,
                text: None
            })
        ));
    }

    #[test]
    fn of_several_questions_each_has_its_own_answer() {
        let mut socket = Socket::open().unwrap();
        let link = |index: i32| {
            let mut header = [0; 16];
            header[4..8].copy_from_slice(&index.to_ne_bytes());
            RequestBody::new(&header)
        };
        // RTM_GETLINK of the loopback device, of one that does not exist, and again.
        let questions = [link(1), link(i32::MAX), link(1)];
        for _ in 0..2 {
            let mut told = Vec::new();
            let each = |which, answer: Result<&Message<'_>, Error>| {
                let answer = answer.map(|link| link.kind);
                told.push((which, answer.map_err(|error| error.code())));
            };
            socket.ask_each(18, &questions, each).unwrap();
            assert_eq!(told, [(0, Ok(16)), (1, Err(Some(19))), (2, Ok(16))]);
        }
    }

    #[test]
    fn the_kernel_answers_a_dump_and_refuses_nonsense_with_its_errno() {
        let mut socket = Socket::open().unwrap();
        let links = super::super::links(&mut socket).unwrap();
        assert!(links.iter().any(|link| link.name == "lo" && link.loopback));
        // RTM_DELLINK of an index that does not exist.
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
        let error = socket.exchange(17, 0, &header, |_| {}).unwrap_err();
        assert_eq!(error.code(), Some(19), "{error}");
    }
}
