//! The outer headers, written in front of a frame.

use super::super::{Exit, IpIds};
use crate::port::{Frame, Port, Umem};
use crate::table::{EncapTemplate, OuterFields, SegmentConfig, UdpChecksum};
use crate::wire::layers::Place;
use crate::wire::superframe::{Superframe, Tunnel};
use crate::wire::vnet::{self, VnetHeader};
use crate::wire::{ethernet, udp, vxlan};

/// What is encapsulated besides the frame's bytes.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) superframe: Option<Superframe>,
    /// Of the frame, or of the segments of a superframe.
    pub(super) checksum: Checksum,
}

impl Load {
    /// Frames of the wire.
    #[inline(always)]
    pub(super) fn segments(&self) -> usize {
        self.superframe.map_or(1, |superframe| superframe.segments)
    }
}

/// What becomes of the outer UDP checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    /// There is none.
    Zero,
    /// It is computed here.
    Compute,
    /// The device finishes it.
    Leave,
}

impl Checksum {
    #[inline(always)]
    pub(super) fn of<P: Port>(config: &SegmentConfig, port: &P) -> Self {
        match config.udp_checksum {
            UdpChecksum::Zero => Self::Zero,
            UdpChecksum::Compute if port.finishes_checksums() => Self::Leave,
            UdpChecksum::Compute => Self::Compute,
        }
    }
}

/// Writes the outer headers in front of the frame; `false`, and nothing written, when there is no room.
#[inline(always)]
pub(super) fn push<const SUPER: bool, P>(
    template: &EncapTemplate,
    mut fields: OuterFields,
    load: Load,
    umem: &mut Umem,
    frame: &mut Frame,
    exit: &mut Exit<'_, P>,
) -> bool {
    fields.ip_id = exit.ip_ids.next_id();
    if SUPER {
        return push_from_tap(template, &fields, load, umem, frame, exit.ip_ids);
    }
    if load.checksum == Checksum::Leave {
        return push_unfinished(template, &fields, umem, frame);
    }
    umem.push(frame, template.len())
        .is_some_and(|bytes| template.write(bytes, &fields))
}

/// The same, with a request to the device to finish the UDP checksum.
#[inline]
fn push_unfinished(
    template: &EncapTemplate,
    fields: &OuterFields,
    umem: &mut Umem,
    frame: &mut Frame,
) -> bool {
    let transport = template.len() - vxlan::LEN - udp::LEN;
    umem.push(frame, template.len())
        .is_some_and(|bytes| template.write_superframe(bytes, fields, true))
        && umem.request_checksum(frame, transport as u16, udp::CHECKSUM_OFFSET as u16)
}

/// The same for what came out of a TAP, with the header that tells the next one what to do.
#[inline(never)]
fn push_from_tap(
    template: &EncapTemplate,
    fields: &OuterFields,
    load: Load,
    umem: &mut Umem,
    frame: &mut Frame,
    ip_ids: &mut IpIds,
) -> bool {
    let Some(superframe) = load.superframe else {
        put_header(umem, frame, VnetHeader::default());
        return umem
            .push(frame, template.len())
            .is_some_and(|bytes| template.write(bytes, fields));
    };
    let with_checksum = load.checksum != Checksum::Zero;
    let tunnel = Tunnel {
        len: template.len(),
        transport: template.len() - vxlan::LEN - udp::LEN,
        ipv6: template.is_ipv6(),
        checksum: with_checksum,
    };
    let network = Place::find(umem.bytes(frame)).map_or(ethernet::LEN, |place| place.offset);
    let header = VnetHeader::parse(umem.room(frame))
        .and_then(|header| superframe.tunnelled(&header, network, tunnel));
    let Some(header) = header else { return false };
    put_header(umem, frame, header);
    ip_ids.skip(superframe.segments - 1);
    umem.push(frame, template.len())
        .is_some_and(|bytes| template.write_superframe(bytes, fields, with_checksum))
}

/// Puts a header where a TAP looks for it.
pub(super) fn put_header(umem: &mut Umem, frame: &mut Frame, header: VnetHeader) {
    let room = umem.room_mut(frame);
    if let Some(place) = room.first_chunk_mut::<{ vnet::LEN }>() {
        *place = header.bytes();
    }
}
