//! What a TAP gives, as frames: a superframe is cut into the segments or datagrams that its sender meant, and a checksum
//! that was left to the device is finished. The kernel's GSO, and [`super::join`] the other way round.
//!
//! The rules are those of `tcp_gso_segment`, `__udp_gso_segment`, `inet_gso_segment` and `ipv6_gso_segment` (Linux 6.18). In
//! each segment
//!
//! * the headers are those of the superframe, lengths and checksums apart;
//! * the IPv4 identification counts on by one, unless it is fixed;
//! * the TCP sequence number is that of its first byte, FIN and PSH are the last's only, and CWR the first's only.
//!
//! Each is written into a chunk of its own, payload first and then headers in front of it, with room for the outer headers:
//! what comes out are frames as an access port receives them. Payload is copied once, and summed once, while it is in the first
//! cache: what a finished segment adds to the checksum of a tunnel's header follows from the pseudo-header alone (the kernel's
//! local checksum offload, `lco_csum`), so [`super::encap_cut`] need not look at it again.
//!
//! The sender's field holds the pseudo-header's sum over the superframe's length. It is taken at its word, as in the
//! kernel: so a destination behind an IPv6 routing header needs no care.

use crate::port::{Batch, Frame, ROOM, Umem};
use crate::table::OUTER_IPV6_LEN;
use crate::wire::layers::{Layers, Network};
use crate::wire::tcp::{self, TcpHeader};
use crate::wire::udp::{self, UdpHeader};
use crate::wire::vnet::{self, VnetHeader};
use crate::wire::{checksum, ipv4, ipv4::Ipv4Header, ipv6};

use super::carrier;

/// The most bytes of headers in front of a payload that is put where a received frame would start: the outer headers, and a
/// mark, have to find room in front of them.
const HEADERS_MAX: usize = ROOM - OUTER_IPV6_LEN - carrier::LEN;

/// What was read from a TAP, being cut. A copy of it cuts the same once more.
#[derive(Debug, Clone)]
pub struct Cut<'a> {
    /// All headers of a superframe; nothing of a frame that is none.
    headers: &'a [u8],
    /// What has not been cut off yet.
    payload: &'a [u8],
    /// Payload of each segment but the last.
    size: usize,
    /// Frames still to come, and the number of the next.
    remaining: usize,
    next: usize,
    work: Work,
}

/// What is to be done to each frame.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Nothing.
    Copy,
    /// To finish the sum from one offset on, which goes to another.
    Finish {
        start: usize,
        field: usize,
    },
    Segment(Segmentation),
}

/// Of a superframe.
#[derive(Debug, Clone, Copy)]
struct Segmentation {
    transport: Transport,
    /// Where the network header starts, and the transport header.
    network: usize,
    start: usize,
    /// The IPv4 identification of the first segment; `None` over IPv6.
    id: Option<u16>,
    fixed_ids: bool,
    /// What the field holds of the pseudo-header, the length taken out.
    pseudo: u32,
}

#[derive(Debug, Clone, Copy)]
enum Transport {
    Tcp { sequence: u32, flags: u8 },
    Udp,
}

impl<'a> Cut<'a> {
    /// Of a header and the frame behind it. `None` when they contradict each other, and when it is a superframe of a kind
    /// that is not to be cut here: only TCP and UDP datagrams are, with their checksum left to be finished.
    pub fn new(header: &VnetHeader, frame: &'a [u8]) -> Option<Self> {
        let gso_type = header.gso_type & !vnet::GSO_ECN;
        if gso_type != vnet::GSO_NONE {
            return Self::superframe(gso_type, header, frame);
        }
        let work = match told(header) {
            None => Work::Copy,
            Some((_, field)) if field + 2 > frame.len() => return None,
            Some((start, field)) => Work::Finish { start, field },
        };
        Some(Self {
            headers: &[],
            payload: frame,
            size: frame.len(),
            remaining: 1,
            next: 0,
            work,
        })
    }

    fn superframe(gso_type: u8, header: &VnetHeader, frame: &'a [u8]) -> Option<Self> {
        let layers = Layers::parse(frame)?;
        let found = layers.transport?;
        let segment = frame.get(found.offset..)?.get(..found.len)?;
        let family = layers.place.network;
        let is_kind = match gso_type {
            vnet::GSO_TCPV4 => family == Network::Ipv4 && found.protocol == tcp::PROTOCOL,
            vnet::GSO_TCPV6 => family == Network::Ipv6 && found.protocol == tcp::PROTOCOL,
            vnet::GSO_UDP_L4 => found.protocol == udp::PROTOCOL,
            _ => false,
        };
        let (transport, header_len, field) = if found.protocol == tcp::PROTOCOL {
            let tcp = TcpHeader::parse(segment)?;
            let (sequence, flags) = (tcp.sequence(), tcp.flags());
            let whole = tcp.header_len() >= tcp::LEN;
            let len = whole.then_some(tcp.header_len())?;
            (
                Transport::Tcp { sequence, flags },
                len,
                tcp::CHECKSUM_OFFSET,
            )
        } else {
            let udp = UdpHeader::parse(segment)?;
            let whole = udp.len() == segment.len();
            let len = whole.then_some(udp::LEN)?;
            (Transport::Udp, len, udp::CHECKSUM_OFFSET)
        };
        let size = usize::from(header.gso_size);
        let headers_len = found.offset + header_len;
        let sound = is_kind
            && header.flags & vnet::NEEDS_CSUM != 0
            && usize::from(header.csum_start) == found.offset
            && usize::from(header.csum_offset) == field
            && size > 0
            && headers_len <= HEADERS_MAX;
        let payload = segment.get(header_len..).filter(|_| sound)?;
        let field = segment.get(field..).and_then(<[u8]>::first_chunk)?;
        let whole = u16::try_from(found.len).ok()?;
        let network = frame.get(layers.place.offset..)?;
        Some(Self {
            headers: frame.get(..headers_len)?,
            payload,
            size,
            remaining: payload.len().div_ceil(size).max(1),
            next: 0,
            work: Work::Segment(Segmentation {
                transport,
                network: layers.place.offset,
                start: found.offset,
                id: match family {
                    Network::Ipv4 => Some(Ipv4Header::parse(network)?.identification()),
                    _ => None,
                },
                fixed_ids: false,
                pseudo: u32::from(u16::from_be_bytes(*field)) + u32::from(!whole),
            }),
        })
    }

    /// The same with one IPv4 identification for all segments.
    pub fn fixed_ids(mut self) -> Self {
        if let Work::Segment(work) = &mut self.work {
            work.fixed_ids = true;
        }
        self
    }

    /// Frames still to come.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Length of the longest of them.
    #[inline]
    pub(super) fn frame_len(&self) -> usize {
        self.headers.len() + self.size.min(self.payload.len())
    }

    /// Whether each of the frames fits into a chunk.
    pub fn fits(&self, umem: &Umem) -> bool {
        self.size.min(self.payload.len()) <= umem.chunk_len() - ROOM
    }

    /// Writes frames to the back of the batch until it is full, nothing remains, or there is no chunk for the next; returns
    /// how many.
    pub fn fill(&mut self, umem: &mut Umem, batch: &mut Batch) -> usize {
        let mut written = 0;
        while batch.room() > 0
            && let Some((frame, _)) = self.next(umem)
        {
            if let Err(frame) = batch.push(frame) {
                umem.release(frame);
                break;
            }
            written += 1;
        }
        written
    }

    /// The next frame, and of a segment the sum over its bytes; none when nothing remains, or there is no chunk for it.
    #[inline]
    pub(super) fn next(&mut self, umem: &mut Umem) -> Option<(Frame, Option<u32>)> {
        if self.remaining == 0 {
            return None;
        }
        let mut frame = umem.allocate()?;
        let (payload, rest) = self
            .payload
            .split_at_checked(self.size)
            .unwrap_or((self.payload, &[]));
        let Some(sum) = self.write(payload, &mut frame, umem) else {
            umem.release(frame);
            return None;
        };
        self.payload = rest;
        self.remaining -= 1;
        self.next += 1;
        Some((frame, sum))
    }

    /// The sum over its bytes, of a segment; nothing at all when the chunk is too short.
    #[inline]
    fn write(&self, payload: &[u8], frame: &mut Frame, umem: &mut Umem) -> Option<Option<u32>> {
        if !umem.fill(frame, payload) {
            return None;
        }
        match self.work {
            Work::Copy => Some(None),
            Work::Finish { start, field } => {
                finish(umem.bytes_mut(frame), start, field);
                Some(None)
            }
            Work::Segment(work) => {
                let headers = self.headers;
                let bytes = umem.push(frame, headers.len())?;
                bytes.get_mut(..headers.len())?.copy_from_slice(headers);
                let last = self.remaining == 1;
                Some(Some(work.edit(
                    bytes,
                    self.next,
                    self.next * self.size,
                    last,
                )))
            }
        }
    }
}

impl Segmentation {
    /// Makes the headers at the start of `frame` those of one segment: its number, the bytes of payload in front of it, and
    /// whether it is the last. The sum over all of the frame.
    #[inline]
    fn edit(&self, frame: &mut [u8], number: usize, ahead: usize, last: bool) -> u32 {
        // All within a superframe, whose length has 16 bits.
        let packet_len = frame.len().saturating_sub(self.network) as u16;
        let segment_len = frame.len().saturating_sub(self.start) as u16;
        let packet = frame.get_mut(self.network..).unwrap_or(&mut []);
        match self.id {
            Some(id) => {
                ipv4::set_total_len(packet, packet_len);
                if !self.fixed_ids {
                    ipv4::set_identification(packet, id.wrapping_add(number as u16));
                }
            }
            None => ipv6::set_payload_len(packet, packet_len.saturating_sub(ipv6::LEN as u16)),
        }
        let segment = frame.get_mut(self.start..).unwrap_or(&mut []);
        let pseudo = checksum::fold(self.pseudo + u32::from(segment_len));
        match self.transport {
            Transport::Tcp { sequence, flags } => {
                let not_here = if last { 0 } else { tcp::FIN | tcp::PSH };
                let not_here = not_here | if number == 0 { 0 } else { tcp::CWR };
                tcp::set_sequence(segment, sequence.wrapping_add(ahead as u32));
                tcp::set_flags(segment, flags & !not_here);
                tcp::set_checksum(segment, pseudo);
                let finished = checksum::finish(checksum::sum(segment));
                tcp::set_checksum(segment, finished);
            }
            Transport::Udp => {
                udp::set_len(segment, segment_len);
                udp::set_checksum(segment, pseudo);
                let finished = checksum::finish(checksum::sum(segment));
                udp::set_checksum(segment, checksum::udp_field(finished));
            }
        }
        // With its checksum a segment sums up to what the pseudo-header lacks of zero. It starts at an even offset.
        let ahead = frame.get(..self.start).unwrap_or(&[]);
        checksum::sum(ahead) + u32::from(!pseudo)
    }
}

/// Where the sum starts that the header asks for, and where its field is, in bytes from the frame's start.
#[inline]
fn told(header: &VnetHeader) -> Option<(usize, usize)> {
    let start = usize::from(header.csum_start);
    let field = start + usize::from(header.csum_offset);
    (header.flags & vnet::NEEDS_CSUM != 0).then_some((start, field))
}

/// Finishes the checksum of a frame that is no superframe, where it is, if the header asks for that and tells no nonsense; whether it
/// does.
pub(super) fn finish_told(header: &VnetHeader, frame: &mut [u8]) -> bool {
    match told(header) {
        Some((start, field)) if field + 2 <= frame.len() => {
            finish(frame, start, field);
            true
        }
        _ => false,
    }
}

/// The field holds the pseudo-header's sum, so that the sum over all from `start` on, field included, is the whole sum. Zero
/// becomes the other zero whatever the protocol, as in `skb_checksum_help`.
#[inline]
fn finish(frame: &mut [u8], start: usize, field: usize) {
    let sum = checksum::sum(frame.get(start..).unwrap_or(&[]));
    if let Some(field) = frame.get_mut(field..).and_then(<[u8]>::first_chunk_mut) {
        *field = checksum::udp_field(checksum::finish(sum)).to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{BATCH, ChunkSize, UmemConfig};

    /// 10.0.0.1:1 to 10.0.0.2:2, id 0xffff, DF, sequence 0xfffffffe, CWR ACK PSH FIN, "abcdefgh"; unfinished.
    const TCP4: [u8; 62] = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
        0x45, 0, 0, 48, 0xff, 0xff, 0x40, 0, 64, 6, 0x26, 0xc6, 10, 0, 0, 1, 10, 0, 0,
        2, // IPv4
        0, 1, 0, 2, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 7, 0x50, 0x99, 0, 9, 0x14, 0x25, 0,
        0, // TCP
        b'a', b'b', b'c', b'd', b'e', b'f', b'g', b'h',
    ];
    const TOLD: VnetHeader = VnetHeader {
        flags: vnet::NEEDS_CSUM,
        gso_type: vnet::GSO_TCPV4,
        hdr_len: 54,
        gso_size: 3,
        csum_start: 34,
        csum_offset: 16,
        outer_th_offset: 0,
        inner_nh_offset: 0,
    };

    fn umem(frames: u32) -> Umem {
        Umem::new(UmemConfig {
            chunk: ChunkSize::K2,
            frames,
            lock: false,
        })
        .unwrap()
    }

    fn all(mut cut: Cut<'_>) -> Vec<Vec<u8>> {
        let mut umem = umem(BATCH as u32);
        let mut batch = Batch::new();
        assert_eq!(cut.remaining(), cut.fill(&mut umem, &mut batch));
        let frames = batch.iter().map(|frame| umem.bytes(frame).to_vec());
        frames.collect()
    }

    fn sum_holds(frame: &[u8]) -> bool {
        let len = (frame.len() - 34) as u32;
        let pseudo = checksum::sum(&frame[26..34]) + u32::from(frame[23]) + len;
        checksum::fold(pseudo + checksum::sum(&frame[34..])) == 0xffff
    }

    #[test]
    fn segments_count_on_and_flags_are_the_first_s_or_the_last_s() {
        let frames = all(Cut::new(&TOLD, &TCP4).unwrap());
        let expected = [
            (43, 0xffff, 0xffff_fffe_u32, 0x90, &b"abc"[..]),
            (43, 0, 1, 0x10, b"def"),
            (42, 1, 4, 0x19, b"gh"),
        ];
        assert_eq!(frames.len(), expected.len());
        for (frame, (len, id, sequence, flags, payload)) in frames.iter().zip(expected) {
            let ip = Ipv4Header::parse(&frame[14..]).unwrap();
            assert_eq!((ip.total_len(), ip.identification()), (len, id));
            assert!(checksum::holds(frame[14..34].try_into().unwrap()));
            let tcp = TcpHeader::parse(&frame[34..]).unwrap();
            assert_eq!((tcp.sequence(), tcp.flags()), (sequence, flags));
            assert!(sum_holds(frame));
            assert_eq!((&frame[..14], &frame[54..]), (&TCP4[..14], payload));
        }
    }

    #[test]
    fn the_sum_over_a_segment_is_told_without_a_second_look() {
        let mut odd = TCP4.to_vec();
        odd.push(b'i');
        odd[17] = 49;
        for frame in [TCP4.to_vec(), odd] {
            let mut umem = umem(4);
            let mut cut = Cut::new(&TOLD, &frame).unwrap();
            assert_eq!(cut.frame_len(), 57);
            let mut count = 0;
            while let Some((frame, sum)) = cut.next(&mut umem) {
                let naive = checksum::sum(umem.bytes(&frame));
                assert_eq!(checksum::fold(sum.unwrap()), checksum::fold(naive));
                count += 1;
            }
            assert_eq!(count, 3);
        }
        let mut plain = Cut::new(&VnetHeader::default(), &TCP4).unwrap();
        let (_, sum) = plain.next(&mut umem(1)).unwrap();
        assert_eq!((sum, plain.frame_len()), (None, 0), "nothing is left of it");
    }

    #[test]
    fn identifications_stand_still_where_they_are_fixed() {
        let frames = all(Cut::new(&TOLD, &TCP4).unwrap().fixed_ids());
        for frame in frames {
            assert_eq!(frame[18..20], [0xff, 0xff]);
            assert!(checksum::holds(frame[14..34].try_into().unwrap()));
        }
    }

    #[test]
    fn datagrams_have_their_own_lengths() {
        let mut frame = TCP4[..34].to_vec();
        (frame[17], frame[23]) = (36, 17);
        frame.extend([0, 1, 0, 2, 0, 16, 0x14, 0x24]);
        frame.extend(&TCP4[54..]);
        let told = VnetHeader {
            gso_type: vnet::GSO_UDP_L4,
            csum_offset: 6,
            ..TOLD
        };
        let frames = all(Cut::new(&told, &frame).unwrap());
        let lens: Vec<_> = frames.iter().map(|frame| (frame[17], frame[39])).collect();
        assert_eq!(lens, [(31, 11), (31, 11), (30, 10)]);
        assert!(frames.iter().all(|frame| sum_holds(frame)));
    }

    #[test]
    fn a_frame_that_is_none_comes_out_as_one_and_its_checksum_is_finished() {
        let plain = VnetHeader {
            gso_type: vnet::GSO_NONE,
            ..TOLD
        };
        let [frame] = &all(Cut::new(&plain, &TCP4).unwrap())[..] else {
            panic!("one frame");
        };
        assert!(sum_holds(frame));
        assert_eq!((&frame[..50], &frame[52..]), (&TCP4[..50], &TCP4[52..]));
        let frames = all(Cut::new(&VnetHeader::default(), &TCP4).unwrap());
        assert_eq!(frames, [TCP4]);
    }

    #[test]
    fn more_than_a_batch_or_a_pool_comes_in_parts() {
        let mut frame = TCP4.to_vec();
        frame.resize(54 + 100, 7);
        frame[17] = 140;
        let told = VnetHeader {
            gso_size: 1,
            ..TOLD
        };
        let mut cut = Cut::new(&told, &frame).unwrap();
        let (mut umem, mut batch) = (umem(70), Batch::new());
        assert_eq!(cut.remaining(), 100);
        assert_eq!(cut.fill(&mut umem, &mut batch), 64);
        let mut second = Batch::new();
        assert_eq!(cut.fill(&mut umem, &mut second), 6);
        assert_eq!(cut.fill(&mut umem, &mut second), 0);
        umem.release_all(&mut batch);
        assert_eq!(cut.fill(&mut umem, &mut second), 30);
        assert_eq!(cut.remaining(), 0);
        let last = second.iter().last().unwrap();
        assert_eq!(umem.bytes(last)[47], 0x19);
    }

    #[test]
    fn segments_that_fit_no_chunk_are_told_and_not_written() {
        let mut frame = TCP4.to_vec();
        frame.resize(54 + 2000, 7);
        frame[16..18].copy_from_slice(&2040_u16.to_be_bytes());
        let (mut umem, mut batch) = (umem(4), Batch::new());
        for (size, fits) in [(1792, true), (1793, false)] {
            let told = VnetHeader {
                gso_size: size,
                ..TOLD
            };
            let mut cut = Cut::new(&told, &frame).unwrap();
            assert_eq!(cut.fits(&umem), fits);
            assert_eq!(cut.fill(&mut umem, &mut batch) > 0, fits);
        }
        umem.release_all(&mut batch);
        assert_eq!(umem.free(), 4);
    }

    #[test]
    fn headers_that_contradict_the_frame_are_refused() {
        let wrong: [fn(&mut VnetHeader); 9] = [
            |told| told.gso_size = 0,
            |told| told.flags = 0,
            |told| told.gso_type = vnet::GSO_TCPV6,
            |told| told.gso_type = vnet::GSO_UDP_L4,
            |told| told.gso_type |= vnet::GSO_UDP_TUNNEL_IPV4,
            |told| told.csum_start = 33,
            |told| told.csum_offset = 6,
            |told| (told.gso_type, told.csum_start) = (vnet::GSO_NONE, 45),
            |told| (told.gso_type, told.csum_start) = (vnet::GSO_NONE, u16::MAX),
        ];
        for (number, change) in wrong.into_iter().enumerate() {
            let mut told = TOLD;
            change(&mut told);
            assert!(Cut::new(&told, &TCP4).is_none(), "{number}");
        }
        for len in 0..TCP4.len() {
            assert!(Cut::new(&TOLD, &TCP4[..len]).is_none(), "{len}");
        }
    }
}
