//! The forwarding database that the workers go by, entry by entry, beside the kernel's own: page by page, so that hundreds of
//! thousands of entries hold nobody up.
//!
//! What the workers have is taken from the table that was published last, by its handles: neither they nor the mirror take part.
//! What the table does not keep of an entry, because no frame needs it (who wrote it, whether it ages), the kernel is asked for, once
//! a page.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::netlink::{self, Neighbour, Socket, neighbour_flag, neighbour_state};
use crate::table::{Destination, Segment, VtepKey};
use crate::wire::{MacAddr, Vni};

/// Entries of a page; more only where one address has more destinations than that.
const PAGE: usize = 16_384;

/// Which part of the forwarding database is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FdbQuery {
    /// Only that of devices with this VNI.
    pub vni: Option<u32>,
    /// What is behind this place; from the start without one.
    pub after: Option<FdbPlace>,
}

/// A place in the forwarding database: behind all entries of an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FdbPlace {
    /// The vxlan device's index.
    pub ifindex: u32,
    /// The address, as a number.
    pub mac: u64,
}

/// A part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbPage {
    /// Whether there is a device that was asked for.
    pub known: bool,
    /// Its entries.
    pub entries: Vec<FdbEntryState>,
    /// Where the next part begins; none when this is the last.
    pub next: Option<FdbPlace>,
}

/// An entry of the FDB of a vxlan device that is taken over. Field names are the keys of `vxgate fdb --json`: add, never rename.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FdbEntryState {
    /// The vxlan device's name.
    pub device: String,
    /// The device's VNI.
    pub vni: u32,
    /// The Ethernet address; `00:00:00:00:00:00` for what no other entry names.
    pub mac: String,
    /// The VTEP; none for an entry that names a nexthop object, or nothing.
    pub dst: Option<IpAddr>,
    /// The VTEP's UDP port, where it is not the device's.
    pub port: Option<u16>,
    /// The VNI sent to it, where it is not the device's.
    pub dst_vni: Option<u32>,
    /// The device that its frames must leave from.
    pub via: Option<String>,
    /// The nexthop object that says where it leads.
    pub nexthop: Option<u32>,
    /// What else the kernel says of it, in the words of `bridge fdb`; empty when the kernel has no such entry.
    pub words: Vec<String>,
    /// Whether the kernel has it.
    pub in_kernel: bool,
    /// Whether the workers have it.
    pub published: bool,
    /// Who sends by it: `vxgate`, or `kernel`.
    pub carried_by: String,
}

/// The page of these segments that is asked for.
///
/// # Errors
/// When the kernel does not tell its own entries.
pub(super) fn page(segments: &[Segment], query: &FdbQuery) -> Result<FdbPage, netlink::Error> {
    let mut socket = Socket::open().map_err(|source| netlink::Error::Io {
        doing: "opening a netlink socket",
        source,
    })?;
    let asked = |segment: &&Segment| {
        let vni = segment.config.vni.get();
        query.vni.is_none_or(|asked| asked == vni)
    };
    let mut segments: Vec<_> = segments.iter().filter(asked).collect();
    segments.sort_by_key(|segment| segment.config.ifindex);
    let mut page = FdbPage {
        known: !segments.is_empty() || query.vni.is_none(),
        ..FdbPage::default()
    };
    let start = query.after.as_ref();
    let rest = segments
        .iter()
        .skip_while(|segment| start.is_some_and(|place| segment.config.ifindex < place.ifindex));
    let mut rest = rest.peekable();
    if rest.peek().is_none() {
        return Ok(page);
    }
    let names = device_names(&mut socket)?;
    for segment in rest {
        let behind = start.filter(|place| place.ifindex == segment.config.ifindex);
        if !page.take(&mut socket, segment, behind, &names)? {
            break;
        }
    }
    Ok(page)
}

/// What devices are called, by index.
fn device_names(socket: &mut Socket) -> Result<BTreeMap<u32, String>, netlink::Error> {
    let links = netlink::links(socket)?.into_iter();
    Ok(links.map(|link| (link.ifindex, link.name)).collect())
}

impl FdbPage {
    /// Takes the entries of a device behind a place, as far as there is room; whether that was all of them.
    fn take(
        &mut self,
        socket: &mut Socket,
        segment: &Segment,
        behind: Option<&FdbPlace>,
        names: &BTreeMap<u32, String>,
    ) -> Result<bool, netlink::Error> {
        let room = PAGE.saturating_sub(self.entries.len());
        let wanted = |mac: MacAddr| behind.is_none_or(|behind| mac.to_u64() > behind.mac);
        let add = |list: &mut Vec<(MacAddr, Neighbour)>, entry: &Neighbour| {
            if let Some(mac) = entry.mac
                && entry.flags & neighbour_flag::SELF != 0
                && wanted(mac)
            {
                list.push((mac, *entry));
            }
        };
        let ifindex = segment.config.ifindex;
        let mut kernel = netlink::fdb_into(socket, ifindex, Vec::new, add)?;
        let published = published(segment).filter(|(mac, _)| wanted(*mac));
        let mut published: Vec<_> = published.collect();
        let own = kernel.iter().map(|(mac, _)| mac.to_u64());
        let macs = own.chain(published.iter().map(|(mac, _)| mac.to_u64()));
        let mut macs: Vec<_> = macs.collect();
        // Most are there twice. All of an address are on one page.
        let last = 2 * room.max(1) - 1;
        let end = (last < macs.len()).then(|| *macs.select_nth_unstable(last).1);
        if let Some(end) = end {
            kernel.retain(|(mac, _)| mac.to_u64() <= end);
            published.retain(|(mac, _)| mac.to_u64() <= end);
        }
        self.entries
            .extend(compare(segment, &kernel, &published, names));
        self.next = end
            .filter(|end| macs.iter().any(|mac| mac > end))
            .map(|mac| FdbPlace { ifindex, mac });
        Ok(self.next.is_none())
    }
}

/// All that the workers have, where frames go that no entry names among them.
fn published(segment: &Segment) -> impl Iterator<Item = (MacAddr, Destination)> {
    let flooded = segment.flood.iter().map(|vtep| Destination::Vtep(*vtep));
    let flooded = flooded.map(|destination| (MacAddr::ZERO, destination));
    segment.fdb.iter().chain(flooded)
}

/// The entries that the kernel or the workers have, sorted.
fn compare(
    segment: &Segment,
    kernel: &[(MacAddr, Neighbour)],
    published: &[(MacAddr, Destination)],
    names: &BTreeMap<u32, String>,
) -> Vec<FdbEntryState> {
    let lists = Lists::new(segment, published);
    let mut entries: Vec<_> = kernel
        .iter()
        .map(|(mac, entry)| (*mac, known(segment, &lists, *mac, entry, names)))
        .collect();
    let mut in_kernel: BTreeMap<MacAddr, Vec<Option<VtepKey>>> = BTreeMap::new();
    for (mac, entry) in kernel {
        let keys = in_kernel.entry(*mac).or_default();
        keys.push(key_of(segment, entry));
    }
    for (mac, destination) in published {
        let keys = in_kernel.get(mac).map_or(&[][..], Vec::as_slice);
        // A nexthop object stands for all of its members, and an entry of another device for nobody's address.
        if keys.contains(&None) {
            continue;
        }
        let gone = segment
            .vteps_of(destination)
            .filter(|vtep| !vtep.key.addr.is_unspecified() && !keys.contains(&Some(vtep.key)));
        let nexthop = nexthop_of(segment, destination);
        entries.extend(gone.map(|vtep| (*mac, forgotten(segment, *mac, &vtep.key, nexthop))));
    }
    entries.sort_by(|(a, left), (b, right)| {
        let place = |entry: &FdbEntryState| (entry.dst, entry.port, entry.dst_vni, entry.nexthop);
        (a, place(left), &left.via).cmp(&(b, place(right), &right.via))
    });
    entries.into_iter().map(|(_, entry)| entry).collect()
}

/// What the workers have of addresses with several destinations, to be found quickly.
struct Lists(BTreeSet<(MacAddr, VtepKey)>);

impl Lists {
    fn new(segment: &Segment, published: &[(MacAddr, Destination)]) -> Self {
        let several = published.iter();
        let several =
            several.filter(|(mac, to)| mac.is_zero() || matches!(to, Destination::List(_)));
        let mut all = BTreeSet::new();
        for (mac, destination) in several {
            let vteps = segment.vteps_of(destination);
            all.extend(vteps.map(|vtep| (*mac, vtep.key)));
        }
        Self(all)
    }
}

/// The VTEP that an entry of the kernel's names; none for a nexthop object, or for nothing.
fn key_of(segment: &Segment, entry: &Neighbour) -> Option<VtepKey> {
    let config = &*segment.config;
    if entry.nexthop.is_some() {
        return None;
    }
    let is_others = |via: &u32| *via != 0 && *via != config.underlay_ifindex;
    if entry.via_ifindex.as_ref().is_some_and(is_others) {
        return None;
    }
    let vni = entry.vni.map_or(Some(config.vni), |vni| Vni::new(vni).ok());
    let (addr, vni) = entry.dst.zip(vni)?;
    Some(VtepKey {
        addr,
        port: entry.port.unwrap_or(config.port),
        vni,
    })
}

/// An entry that the kernel has.
fn known(
    segment: &Segment,
    lists: &Lists,
    mac: MacAddr,
    entry: &Neighbour,
    names: &BTreeMap<u32, String>,
) -> FdbEntryState {
    let config = &*segment.config;
    let key = key_of(segment, entry);
    let found = segment.fdb.find(mac);
    // A nexthop object leads where it says; what leads nowhere, or to another device, to nobody's address.
    let leads_to = |other: &VtepKey| match key {
        Some(key) => *other == key,
        None => entry.nexthop.is_some() || other.addr.is_unspecified(),
    };
    let is_published = match (key, &found) {
        (Some(key), Some(Destination::List(_)) | None) => lists.0.contains(&(mac, key)),
        (_, Some(destination)) => segment
            .vteps_of(destination)
            .any(|vtep| leads_to(&vtep.key)),
        (None, None) => {
            let vteps = segment.flood.iter().map(|vtep| Destination::Vtep(*vtep));
            let leads_there =
                |to: Destination| segment.vteps_of(&to).any(|vtep| leads_to(&vtep.key));
            mac.is_zero() && vteps.into_iter().any(leads_there)
        }
    };
    let is_kernels = match (found, mac.is_zero()) {
        (Some(destination), _) => segment.is_kernels(&destination),
        (None, true) => segment.kernel_floods(),
        (None, false) => true,
    };
    let via = entry.via_ifindex.filter(|via| *via != 0).map(|via| {
        let name = names.get(&via).cloned();
        name.unwrap_or_else(|| format!("ifindex {via}"))
    });
    FdbEntryState {
        dst: entry.dst,
        port: entry.port.filter(|port| *port != config.port),
        dst_vni: entry.vni.filter(|vni| *vni != config.vni.get()),
        via,
        nexthop: entry.nexthop,
        words: words(entry),
        in_kernel: true,
        published: is_published,
        carried_by: carrier(!is_published || is_kernels),
        ..nothing(segment, mac)
    }
}

/// An entry that the kernel has no longer.
fn forgotten(
    segment: &Segment,
    mac: MacAddr,
    key: &VtepKey,
    nexthop: Option<u32>,
) -> FdbEntryState {
    let config = &*segment.config;
    FdbEntryState {
        dst: Some(key.addr),
        port: Some(key.port).filter(|port| *port != config.port),
        dst_vni: Some(key.vni.get()).filter(|vni| *vni != config.vni.get()),
        nexthop,
        published: true,
        carried_by: carrier(false),
        ..nothing(segment, mac)
    }
}

fn nexthop_of(segment: &Segment, destination: &Destination) -> Option<u32> {
    match destination {
        Destination::Group(group) => {
            let group = segment.groups.get(group.0 as usize)?;
            Some(group.nexthop)
        }
        Destination::Vtep(_) | Destination::List(_) => None,
    }
}

fn nothing(segment: &Segment, mac: MacAddr) -> FdbEntryState {
    FdbEntryState {
        device: segment.config.name.clone(),
        vni: segment.config.vni.get(),
        mac: mac.to_string(),
        dst: None,
        port: None,
        dst_vni: None,
        via: None,
        nexthop: None,
        words: Vec::new(),
        in_kernel: false,
        published: false,
        carried_by: carrier(true),
    }
}

fn carrier(is_kernels: bool) -> String {
    if is_kernels { "kernel" } else { "vxgate" }.to_owned()
}

/// Flags and state, as iproute2 writes them (`bridge/fdb.c`, in that order).
fn words(entry: &Neighbour) -> Vec<String> {
    let flags = [
        (neighbour_flag::SELF, "self"),
        (neighbour_flag::ROUTER, "router"),
        (neighbour_flag::EXT_LEARNED, "extern_learn"),
        (neighbour_flag::OFFLOADED, "offload"),
        (neighbour_flag::STICKY, "sticky"),
    ];
    let flags = flags.into_iter();
    let flags = flags.filter(|(flag, _)| entry.flags & flag != 0);
    let states = [
        (neighbour_state::PERMANENT, "permanent"),
        (neighbour_state::NOARP, "static"),
        (neighbour_state::STALE, "stale"),
    ];
    let state = states
        .into_iter()
        .find(|(state, _)| entry.state & state != 0);
    let words = flags
        .map(|(_, word)| word)
        .chain(state.map(|(_, word)| word));
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stats::PeerId;
    use crate::table::{
        Df, EcnEncap, Fdb, FlowLabel, Group, GroupId, Inherit, InnerVlan, ListId, NextHop,
        PeerCheck, SegmentConfig, SourcePorts, UdpChecksum, UnresolvedReason, Vtep, VtepId,
    };

    const UNDERLAY: u32 = 2;

    fn addr(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn station(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    fn config() -> SegmentConfig {
        SegmentConfig {
            name: "vx".into(),
            ifindex: 9,
            vni: Vni::new(1).unwrap(),
            local: addr(9),
            group: None,
            port: 4789,
            mac: station(99),
            underlay_ifindex: UNDERLAY,
            underlay_mac: station(98),
            underlay_mtu: 1500,
            source_ports: SourcePorts { low: 1, high: 2 },
            ttl: Inherit::Inner,
            ttl_default: 64,
            tos: Inherit::Inner,
            df: Df::Unset,
            flow_label: FlowLabel::Fixed(0),
            udp_checksum: UdpChecksum::Zero,
            verify_udp_checksum: false,
            accept_udp6_zero_checksum: false,
            gbp: false,
            header_bits: crate::wire::vxlan::USED_BITS,
            peer_check: PeerCheck::Strict,
            ecn_encap: EcnEncap::Kernel,
            inner_vlan: InnerVlan::Pass,
        }
    }

    /// VTEP 0 is nobody's, 1 to 3 are at 192.0.2.1 to 192.0.2.3; frames without an entry go to 2 and 3.
    fn segment(entries: &[(MacAddr, Destination)]) -> Segment {
        let vtep = |last: u8| Vtep {
            key: VtepKey {
                addr: if last == 0 {
                    [0, 0, 0, 0].into()
                } else {
                    addr(last)
                },
                port: 4789,
                vni: Vni::new(1).unwrap(),
            },
            next_hop: NextHop::Unresolved(UnresolvedReason::NoNeighbour),
            path_mtu: 1500,
            peer: PeerId::default(),
        };
        Segment {
            config: Arc::new(config()),
            vteps: Arc::new((0..4).map(vtep).collect()),
            fdb: Arc::new(Fdb::new(entries.iter().copied())),
            groups: Arc::new(vec![Group::by_weight(7, [(VtepId(1), 1), (VtepId(2), 1)])]),
            lists: Arc::new(vec![vec![VtepId(1), VtepId(3)]]),
            flood: Arc::new(vec![VtepId(2), VtepId(3)]),
            peers: Arc::default(),
        }
    }

    fn entry(mac: MacAddr, dst: Option<u8>) -> (MacAddr, Neighbour) {
        let entry = Neighbour {
            fdb: true,
            ifindex: 9,
            state: neighbour_state::PERMANENT,
            flags: neighbour_flag::SELF,
            flags_ext: 0,
            mac: Some(mac),
            dst: dst.map(addr),
            port: None,
            vni: None,
            src_vni: None,
            via_ifindex: None,
            nexthop: None,
            protocol: 0,
        };
        (mac, entry)
    }

    /// Each entry's address and destination, and whether the kernel and the workers have it.
    fn told(segment: &Segment, kernel: &[(MacAddr, Neighbour)]) -> Vec<(u8, u8, bool, bool)> {
        let published: Vec<_> = published(segment).collect();
        let names = BTreeMap::from([(UNDERLAY, "eth1".to_owned())]);
        let entries = compare(segment, kernel, &published, &names);
        let last = |dst: Option<IpAddr>| match dst {
            Some(IpAddr::V4(addr)) => addr.octets()[3],
            _ => 0,
        };
        let last_of = |mac: &str| u8::from_str_radix(&mac[15..], 16).unwrap();
        let entries = entries.iter();
        entries
            .map(|one| {
                let (kernel, workers) = (one.in_kernel, one.published);
                (last_of(&one.mac), last(one.dst), kernel, workers)
            })
            .collect()
    }

    #[test]
    fn what_both_have_is_told_so_and_what_one_has_as_well() {
        let to = |vtep| Destination::Vtep(VtepId(vtep));
        let list = MacAddr([1, 0, 0x5e, 0, 0, 9]);
        let segment = segment(&[
            (station(1), to(1)),
            (station(2), to(2)),
            (station(3), Destination::Group(GroupId(0))),
            (station(4), Destination::Group(GroupId(0))),
            (station(5), to(0)),
            (list, Destination::List(ListId(0))),
        ]);
        let mut nexthop = entry(station(3), None);
        nexthop.1.nexthop = Some(7);
        let mut elsewhere = entry(station(5), Some(8));
        elsewhere.1.via_ifindex = Some(77);
        let kernel = [
            entry(MacAddr::ZERO, Some(2)),
            entry(station(1), Some(1)),
            // The workers have another destination.
            entry(station(2), Some(3)),
            nexthop,
            elsewhere,
            // And nothing of this one.
            entry(station(6), Some(1)),
            entry(list, Some(3)),
        ];
        let expected = [
            (0, 2, true, true),
            (0, 3, false, true),
            (9, 1, false, true),
            (9, 3, true, true),
            (1, 1, true, true),
            (2, 2, false, true),
            (2, 3, true, false),
            (3, 0, true, true),
            (4, 1, false, true),
            (4, 2, false, true),
            (5, 8, true, true),
            (6, 1, true, false),
        ];
        assert_eq!(told(&segment, &kernel), expected);
    }

    #[test]
    fn attributes_are_told_where_they_are_not_the_devices() {
        let segment = segment(&[]);
        let (mac, mut full) = entry(station(1), Some(1));
        full.port = Some(4790);
        full.vni = Some(77);
        full.via_ifindex = Some(UNDERLAY);
        full.flags |= neighbour_flag::EXT_LEARNED | neighbour_flag::STICKY;
        full.state = neighbour_state::NOARP;
        let (_, mut plain) = entry(station(2), Some(1));
        plain.port = Some(4789);
        plain.vni = Some(1);
        plain.via_ifindex = Some(78);
        plain.state = neighbour_state::REACHABLE;
        let names = BTreeMap::from([(UNDERLAY, "eth1".to_owned())]);
        let lists = Lists::new(&segment, &[]);
        let of = |entry: &Neighbour| known(&segment, &lists, mac, entry, &names);
        let told = of(&full);
        assert_eq!((told.port, told.dst_vni), (Some(4790), Some(77)));
        assert_eq!(told.via.as_deref(), Some("eth1"));
        assert_eq!(told.words, ["self", "extern_learn", "sticky", "static"]);
        let told = of(&plain);
        assert_eq!((told.port, told.dst_vni), (None, None));
        assert_eq!(told.via.as_deref(), Some("ifindex 78"));
        assert_eq!(told.words, ["self"]);
    }
}
