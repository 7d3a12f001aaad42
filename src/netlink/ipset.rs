//! Whether there are ipsets (`linux/netfilter/ipset/ip_set.h`), whose members come and go without an announcement.

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{Error, RequestBody, Socket};

/// `NFNL_SUBSYS_IPSET` and `IPSET_CMD_LIST`.
const LIST: u16 = 6 << 8 | 7;
/// `struct nfgenmsg`: family, version, resource.
const HEADER: [u8; 4] = [2, 0, 0, 0];
const PROTOCOL: u16 = 1;
/// The oldest that every kernel still speaks.
const PROTOCOL_VERSION: u8 = 6;
/// `IPSET_ATTR_FLAGS` in network byte order, and `IPSET_FLAG_LIST_SETNAME`: names will do.
const FLAGS: u16 = 8 | 0x4000;
const NAMES_ONLY: u32 = 1 << 1;

/// How many ipsets there are. None on a kernel without them, and where they may not be asked for.
pub fn ipsets() -> Result<usize, Error> {
    let mut socket = Socket::open_to(NETLINK_NETFILTER).map_err(|source| Error::Io {
        doing: "open",
        source,
    })?;
    let body = RequestBody::new(&HEADER)
        .with(PROTOCOL, &[PROTOCOL_VERSION])
        .with(FLAGS, &NAMES_ONLY.to_be_bytes());
    match socket.dump_with(LIST, body.as_bytes(), |message| {
        (message.kind == LIST).then_some(())
    }) {
        Ok(sets) => Ok(sets.len()),
        // The kernel has no such subsystem, or does not let us.
        Err(Error::Kernel { .. }) => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers_whether_it_has_ipsets_or_not() {
        ipsets().unwrap();
    }
}
