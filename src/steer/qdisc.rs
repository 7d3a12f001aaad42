//! Queueing disciplines: those of an access device, and the `clsact` of devices with filters.
//!
//! A veth that has a queue in front of its ring pushes back when the ring is full, instead of dropping (Linux 6.16 and
//! later). Each of its queues gets a `pfifo` of its own: behind a common one, frames for a worker that is busy would hold
//! up those for another.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcStats2};

use super::access::{NLM_F_CREATE, NLM_F_REPLACE};
use crate::netlink::{Error, Socket};

/// The handle of `mq`, whose classes `1:1`, `1:2`, ... are a device's transmit queues.
const MQ_HANDLE: TcHandle = TcHandle { major: 1, minor: 0 };
const LEAF: &str = "pfifo";
/// The handle of `clsact`, and the parts of it that filters hang on: `TC_H_MIN_INGRESS`, `TC_H_MIN_EGRESS`
/// (`linux/pkt_sched.h`).
const CLSACT: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0,
};
const CLSACT_HOOKS: [u16; 2] = [0xfff2, 0xfff3];

/// Puts a `pfifo` in front of each of a device's transmit queues.
pub(super) fn give_queues(socket: &mut Socket, ifindex: u32, queues: u32) -> Result<(), Error> {
    if queues <= 1 {
        // `mq` refuses a device with one queue.
        return replace(socket, ifindex, TcHandle::ROOT, TcHandle::UNSPEC, LEAF);
    }
    replace(socket, ifindex, TcHandle::ROOT, MQ_HANDLE, "mq")?;
    for minor in 1..=u16::try_from(queues).unwrap_or(u16::MAX) {
        let queue = TcHandle { minor, ..MQ_HANDLE };
        replace(socket, ifindex, queue, TcHandle::UNSPEC, LEAF)?;
    }
    Ok(())
}

/// Frames that the queues of [`give_queues`] dropped. The kernel counts each one's in 32 bits.
pub(super) fn drops(socket: &mut Socket, ifindex: u32) -> Result<u64, Error> {
    let all = all(socket)?;
    let ours = all
        .iter()
        // `mq` tells the sum of its leaves once more.
        .filter(|queue| queue.header.index == ifindex.cast_signed() && is_kind(queue, LEAF));
    Ok(ours.map(dropped).sum())
}

/// Indexes of all devices that can have filters: `ingress` is one half of `clsact`, and limits what pods send.
pub(super) fn devices_with_clsact(socket: &mut Socket) -> Result<Vec<u32>, Error> {
    let all = all(socket)?;
    let can = |queue: &&TcMessage| {
        ["clsact", "ingress"]
            .iter()
            .any(|kind| is_kind(queue, kind))
    };
    let with = all.iter().filter(can);
    Ok(with
        .map(|queue| queue.header.index.cast_unsigned())
        .collect())
}

/// Removes a device's `clsact`, unless somebody's filters hang on it.
pub(super) fn remove_unused_clsact(ifindex: u32) -> Result<(), Error> {
    let mut socket = Socket::open().map_err(|source| Error::Io {
        doing: "open",
        source,
    })?;
    let at = |parent| {
        let mut message = TcMessage::default();
        message.header.index = ifindex.cast_signed();
        message.header.parent = parent;
        message
    };
    for minor in CLSACT_HOOKS {
        let filters = RouteNetlinkMessage::GetTrafficFilter(at(TcHandle { minor, ..CLSACT }));
        if !socket.dump(filters)?.is_empty() {
            return Ok(());
        }
    }
    let mut clsact = at(TcHandle::CLSACT);
    clsact.header.handle = CLSACT;
    socket
        .request(RouteNetlinkMessage::DelQueueDiscipline(clsact), 0)
        .map(drop)
}

fn replace(
    socket: &mut Socket,
    ifindex: u32,
    parent: TcHandle,
    handle: TcHandle,
    kind: &str,
) -> Result<(), Error> {
    let mut queue = TcMessage::default();
    queue.header.index = ifindex.cast_signed();
    queue.header.parent = parent;
    queue.header.handle = handle;
    queue.attributes = vec![TcAttribute::Kind(kind.to_owned())];
    socket
        .request(
            RouteNetlinkMessage::NewQueueDiscipline(queue),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map(drop)
}

fn all(socket: &mut Socket) -> Result<Vec<TcMessage>, Error> {
    let answers = socket.dump(RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()))?;
    let queues = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewQueueDiscipline(queue) => Some(queue),
        _ => None,
    });
    Ok(queues.collect())
}

fn is_kind(queue: &TcMessage, kind: &str) -> bool {
    queue
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, TcAttribute::Kind(name) if name == kind))
}

fn dropped(queue: &TcMessage) -> u64 {
    let statistics = queue
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            TcAttribute::Stats2(parts) => Some(parts),
            _ => None,
        });
    let drops = statistics.flatten().filter_map(|part| match part {
        TcStats2::Queue(queue) => Some(u64::from(queue.drops)),
        _ => None,
    });
    drops.sum()
}
