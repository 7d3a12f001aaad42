//! A netlink message within a datagram (`linux/netlink.h`, `struct nlmsghdr`).

/// Length of `struct nlmsghdr`, in bytes.
pub(super) const HEADER_LEN: usize = 16;

/// `NLMSG_ERROR`: an acknowledgement (error 0) or a refusal.
pub(super) const NLMSG_ERROR: u16 = 2;
/// `NLMSG_DONE`: a dump is complete.
pub(super) const NLMSG_DONE: u16 = 3;

/// One message: borrowed from the receive buffer.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// `nlmsg_type`, for example 28 for `RTM_NEWNEIGH` (`linux/rtnetlink.h`).
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: the number of the request that this answers, 0 in a notification.
    pub sequence: u32,
    /// Fixed header and attributes.
    pub payload: &'a [u8],
    /// Header and payload as received.
    pub bytes: &'a [u8],
}

/// Every message of a datagram, in order. Ends at the first whose length cannot be right.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<HEADER_LEN>()?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
        let bytes = rest.get(..length)?;
        let payload = bytes.get(HEADER_LEN..)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([e, f]),
            flags: u16::from_ne_bytes([g, h]),
            sequence: u32::from_ne_bytes([i, j, k, l]),
            payload,
            bytes,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, length: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(0u16.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn several_messages_share_a_datagram_each_padded_to_four() {
        let mut datagram = message(28, 17, &[1, 0, 0, 0]);
        datagram.extend(message(29, 20, &[2, 3, 4, 5]));
        let all: Vec<_> = messages(&datagram)
            .map(|m| (m.kind, m.sequence, m.payload.to_vec()))
            .collect();
        assert_eq!(all, [(28, 7, vec![1]), (29, 7, vec![2, 3, 4, 5])]);
    }

    #[test]
    fn a_length_that_lies_ends_the_walk() {
        assert_eq!(messages(&message(28, 99, &[1, 2, 3, 4])).count(), 0);
        assert_eq!(messages(&message(28, 15, &[1, 2, 3, 4])).count(), 0);
        assert_eq!(messages(&message(28, 0, &[])).count(), 0);
        assert_eq!(messages(&[0; 15]).count(), 0);
    }
}
