//! Which frames the steering programs give to a worker: the rules of `bpf/vxgate.bpf.c`, told once more, because those programs
//! cannot be asked about a frame without sending it. `tests/e2e/trace.rs` sends thousands of frames to the programs, and holds
//! what they count against this.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use crate::port::ROOM;
use crate::state::State;
use crate::stats::PassReason;
use crate::table::{KernelShare, Segment, Snapshot};
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::udp::{self, UdpHeader};
use crate::wire::vxlan::{self, VxlanHeader};
use crate::wire::{MacAddr, Vni};

/// Extension headers of IPv6 behind which the programs do not look, besides fragments: hop-by-hop options, routing, destination
/// options, authentication.
const EXTENSIONS: [u8; 4] = [0, 43, 60, 51];
/// With chunks of this size frames come in several buffers, and a program sees the first only.
const CHUNK_OF_CHAINS: u32 = 16384;

/// What the programs are told.
#[derive(Debug)]
pub struct Steering {
    endpoints: HashSet<Endpoint>,
    segments: HashSet<(Endpoint, Vni)>,
    /// What is the kernel's of each segment's frames.
    shares: Vec<KernelShare>,
    /// The longest frame of each segment.
    limits: Vec<u32>,
    drained: bool,
    /// Whether each worker's heartbeat is fresh.
    alive: Vec<bool>,
    /// The longest frame that a socket takes in one buffer; none where it may take several.
    frame_max: Option<usize>,
    /// The longest frame that an underlay device's MTU allows, by its index.
    underlays: HashMap<u32, usize>,
}

/// One of our own addresses and ports. A group and a link-local address count on one link only; the others on any, which is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Endpoint {
    addr: IpAddr,
    port: u16,
    link: u32,
}

impl Endpoint {
    fn new(addr: IpAddr, port: u16, link: u32) -> Self {
        let scoped =
            addr.is_multicast() || matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
        Self {
            addr,
            port,
            link: if scoped { link } else { 0 },
        }
    }
}

impl Steering {
    /// As the programs are told with this state, whose table this is.
    pub fn new(state: &State, snapshot: &Snapshot) -> Self {
        let (mut endpoints, mut segments) = (HashSet::new(), HashSet::new());
        let mut underlays = HashMap::new();
        for segment in &snapshot.segments {
            let config = &segment.config;
            let longest = usize::from(config.underlay_mtu) + ethernet::LEN;
            underlays.insert(config.underlay_ifindex, longest);
            for addr in [Some(config.local), config.group].into_iter().flatten() {
                let endpoint = Endpoint::new(addr, config.port, config.underlay_ifindex);
                endpoints.insert(endpoint);
                segments.insert((endpoint, config.vni));
            }
        }
        let chained = state.chunk_bytes == CHUNK_OF_CHAINS;
        Self {
            endpoints,
            segments,
            shares: snapshot.segments.iter().map(KernelShare::of).collect(),
            limits: snapshot
                .segments
                .iter()
                .map(Segment::frame_len_max)
                .collect(),
            drained: state.drained,
            alive: state.workers.iter().map(|worker| worker.alive).collect(),
            frame_max: (!chained).then(|| (state.chunk_bytes as usize).saturating_sub(ROOM)),
            underlays,
        }
    }

    /// Why a frame that comes in by an underlay device with this address and index is left to the kernel, if it is
    /// (`steer_underlay`). Of several workers the one that has its queue counts: it is left to the kernel here when all hang.
    pub fn underlay(&self, mac: MacAddr, ifindex: u32, frame: &[u8]) -> Option<PassReason> {
        if let Err(reason) = self.judge(mac, ifindex, frame) {
            return Some(reason);
        }
        if self.drained {
            return Some(PassReason::Bypass);
        }
        if !self.alive.iter().any(|alive| *alive) {
            return Some(PassReason::HeartbeatStale);
        }
        let allowed = self.underlays.get(&ifindex).copied();
        let too_long = self
            .frame_max
            .is_some_and(|max| frame.len() > max.min(allowed.unwrap_or(max)));
        too_long.then_some(PassReason::Oversize)
    }

    /// Why a frame that the kernel sends through the vxlan device of a segment stays with the kernel, if it does
    /// (`steer_egress`).
    pub fn egress(&self, segment: usize, frame: &[u8]) -> Option<PassReason> {
        if self.drained {
            return Some(PassReason::Bypass);
        }
        if !self.alive.iter().all(|alive| *alive) {
            return Some(PassReason::HeartbeatStale);
        }
        if frame.len() > self.frame_len_max(segment) as usize {
            return Some(PassReason::Oversize);
        }
        let share = self.shares.get(segment)?;
        let kernels = match EthernetHeader::parse(frame) {
            Some((header, _)) => share.contains(header.destination()),
            None => !share.is_nothing(),
        };
        kernels.then_some(PassReason::KernelRoute)
    }

    /// The longest frame of a segment that fits the paths to all of its VTEPs.
    pub fn frame_len_max(&self, segment: usize) -> u32 {
        self.limits.get(segment).copied().unwrap_or(0)
    }

    /// What is the kernel's of a segment's frames.
    pub fn share(&self, segment: usize) -> Option<&KernelShare> {
        self.shares.get(segment)
    }

    /// Whether a frame is VXLAN for us (`judge`).
    fn judge(&self, mac: MacAddr, ifindex: u32, frame: &[u8]) -> Result<(), PassReason> {
        let (header, packet) = EthernetHeader::parse(frame).ok_or(PassReason::NotOurs)?;
        if header.destination() != mac && !header.destination().is_multicast() {
            return Err(PassReason::NotOurs);
        }
        let (addr, datagram) = match header.ether_type() {
            ethernet::IPV4 => over_ipv4(packet)?,
            ethernet::IPV6 => over_ipv6(packet)?,
            _ => return Err(PassReason::NotOurs),
        };
        let header = UdpHeader::parse(datagram).ok_or(PassReason::NotOurs)?;
        let endpoint = Endpoint::new(addr, header.destination_port(), ifindex);
        let is_ours = self.endpoints.contains(&endpoint);
        let payload = datagram.get(udp::LEN..).unwrap_or_default();
        let whole = header.len() >= udp::LEN + vxlan::LEN;
        match VxlanHeader::parse(payload).filter(|(vxlan, _)| whole && vxlan.i_flag()) {
            Some((vxlan, _)) if self.segments.contains(&(endpoint, vxlan.vni())) => Ok(()),
            Some(_) if is_ours => Err(PassReason::ForeignVni),
            // Ours, and dead whoever reads it: the worker counts why.
            None if is_ours => Ok(()),
            _ => Err(PassReason::NotOurs),
        }
    }
}

/// The destination, and what should be a UDP datagram (`udp_over_ipv4`).
fn over_ipv4(packet: &[u8]) -> Result<(IpAddr, &[u8]), PassReason> {
    let header = Ipv4Header::parse(packet).ok_or(PassReason::NotOurs)?;
    if header.version() != 4 || header.protocol() != udp::PROTOCOL {
        return Err(PassReason::NotOurs);
    }
    if header.is_fragment() {
        return Err(PassReason::Fragment);
    }
    if header.header_len() != ipv4::LEN {
        return Err(PassReason::IpOptions);
    }
    let datagram = packet.get(ipv4::LEN..).unwrap_or_default();
    Ok((header.destination().into(), datagram))
}

/// As [`over_ipv4`] (`udp_over_ipv6`).
fn over_ipv6(packet: &[u8]) -> Result<(IpAddr, &[u8]), PassReason> {
    let header = Ipv6Header::parse(packet).ok_or(PassReason::NotOurs)?;
    if header.version() != 6 {
        return Err(PassReason::NotOurs);
    }
    match header.next_header() {
        udp::PROTOCOL => {}
        ipv6::FRAGMENT => return Err(PassReason::Fragment),
        other if EXTENSIONS.contains(&other) => return Err(PassReason::IpOptions),
        _ => return Err(PassReason::NotOurs),
    }
    let addr: Ipv6Addr = header.destination();
    if addr.to_ipv4_mapped().is_some() {
        return Err(PassReason::NotOurs);
    }
    Ok((addr.into(), packet.get(ipv6::LEN..).unwrap_or_default()))
}
