//! A wire from the generator straight to the sink, made for the calibration.
//!
//! ```text
//!   a network namespace without a name
//!   generator ─▶ wire0 ════ wire1 ─▶ sink
//! ```
//!
//! The namespace exists as long as something of this process is in it or holds it. So the wire goes with the process,
//! however that ends, and leaves no name behind.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use nix::sched::{CloneFlags, unshare};

use super::ends::{End, EndError, Netns};
use crate::netlink::{self, Socket};

const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const SENDING: &str = "wire0";
const RECEIVING: &str = "wire1";

/// Why there is no wire.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The namespace could not be made.
    #[error("cannot make a network namespace: {0}; it needs CAP_SYS_ADMIN")]
    Namespace(io::Error),
    /// Nor the wire in it.
    #[error("cannot make a veth pair: {0}; it needs CAP_NET_ADMIN and the kernel's veth driver")]
    Pair(netlink::Error),
    /// It does not come up.
    #[error("the veth pair has no carrier after {0:?}")]
    Carrier(Duration),
    /// Its ends cannot be used.
    #[error(transparent)]
    End(#[from] EndError),
}

/// Makes a wire for frames of devices with this MTU; returns its sending and its receiving end, which hold it.
pub(super) fn lay(mtu: u32) -> Result<(End, End), WireError> {
    // On a thread of its own: what it enters, it enters for good.
    let inside = thread::scope(|scope| {
        scope
            .spawn(|| {
                let netns = enter_new().map_err(WireError::Namespace)?;
                make_pair(mtu)?;
                Ok::<_, WireError>(netns)
            })
            .join()
            .unwrap_or_else(|cause| std::panic::resume_unwind(cause))
    })?;
    let netns = Netns::Unnamed(Arc::new(inside));
    let end = |name| End::find_in(Some(netns.clone()), name);
    Ok((end(SENDING)?, end(RECEIVING)?))
}

/// Moves this thread into a new namespace, and opens that.
fn enter_new() -> io::Result<File> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    File::open("/proc/thread-self/ns/net")
}

fn make_pair(mtu: u32) -> Result<(), WireError> {
    let mut socket = Socket::open().map_err(WireError::Namespace)?;
    let end = |name: &str| {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::NumTxQueues(1),
            LinkAttribute::NumRxQueues(1),
        ];
        message
    };
    let mut pair = end(SENDING);
    pair.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(end(RECEIVING)))),
    ]));
    let created = socket.request(
        RouteNetlinkMessage::NewLink(pair),
        NLM_F_CREATE | NLM_F_EXCL,
    );
    created.map_err(WireError::Pair)?;
    // A veth cannot be up before it has its peer.
    for name in [SENDING, RECEIVING] {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        let set = socket.request(RouteNetlinkMessage::SetLink(message), 0);
        set.map_err(WireError::Pair)?;
    }
    await_carrier(&mut socket)
}

/// The kernel looks after carriers once a second.
fn await_carrier(socket: &mut Socket) -> Result<(), WireError> {
    const LOOK: Duration = Duration::from_millis(5);
    const PATIENCE: Duration = Duration::from_secs(5);
    let started = Instant::now();
    loop {
        let links = netlink::links(socket).map_err(WireError::Pair)?;
        let ready = |name| links.iter().any(|link| link.name == name && link.running);
        if ready(SENDING) && ready(RECEIVING) {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(WireError::Carrier(PATIENCE));
        }
        thread::park_timeout(LOOK);
    }
}
