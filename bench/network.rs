//! What the worker knows and what it is sent: one segment of any number of stations, each behind a VTEP.
//!
//! ```text
//!   access 0 ── worker, 10.0.0.1 ── underlay 0 ── VTEPs 100.0.0.0, 100.0.0.1, ...
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use vxgate::stats::{PEERS_MAX, PeerId};
use vxgate::table::{EncapTemplate, Fdb, NextHop, Segment, Snapshot, Vtep, VtepId, VtepKey};
use vxgate::wire::{MacAddr, checksum};

use crate::rig::{self, LOCAL, OUTER_LEN, Size, UDP_PORT, UNDERLAY_MTU, device_mac, vni};
use crate::shuffle::order;

/// How large it is.
#[derive(Clone, Copy)]
pub struct Network {
    /// As it is called in names.
    pub name: &'static str,
    /// Entries of the FDB.
    pub stations: usize,
    /// VTEPs; station `n` is behind VTEP `n` modulo this.
    pub vteps: usize,
}

pub const ONE: Network = Network {
    name: "1",
    stations: 1,
    vteps: 1,
};

pub const THOUSAND: Network = Network {
    name: "1k",
    stations: 1 << 10,
    vteps: 1 << 10,
};

/// Every station behind a VTEP of its own.
pub const MANY: Network = Network {
    name: "64k",
    stations: 1 << 16,
    vteps: 1 << 16,
};

/// As [`THOUSAND`], but for the size of the FDB.
pub const LARGE_FDB: Network = Network {
    name: "1M-fdb",
    stations: 1 << 20,
    vteps: 1 << 10,
};

impl Network {
    pub fn snapshot(self) -> Snapshot {
        let mut snapshot = rig::snapshot(
            Size {
                segments: 1,
                queues: 1,
                ..Size::default()
            },
            0,
        );
        let segment = &mut snapshot.segments[0];
        let vteps: Vec<_> = (0..self.vteps as u32).map(|n| vtep(segment, n)).collect();
        segment.peers = Arc::new(rig::peers(&vteps));
        segment.vteps = Arc::new(vteps);
        segment.fdb = Arc::new(Fdb::new(self.entries()));
        segment.flood = Arc::default();
        snapshot
    }

    /// The FDB.
    pub fn entries(self) -> impl Iterator<Item = (MacAddr, VtepId)> {
        let vteps = self.vteps as u32;
        (0..self.stations as u32).map(move |n| (station(n), VtepId(n % vteps)))
    }
}

fn vtep(segment: &Segment, number: u32) -> Vtep {
    let key = VtepKey {
        addr: IpAddr::V4(vtep_addr(number)),
        port: UDP_PORT,
        vni: vni(0),
    };
    let [.., a, b, c] = number.to_be_bytes();
    let neighbour = MacAddr([4, 0, 1, a, b, c]);
    let template = EncapTemplate::ipv4(
        &segment.config,
        &key,
        segment.config.underlay_mac,
        neighbour,
    );
    Vtep {
        key,
        next_hop: NextHop::Resolved(template.expect("an IPv4 pair")),
        path_mtu: UNDERLAY_MTU,
        peer: peer(number),
    }
}

/// Where a VTEP is counted: at a place of its own, as far as there are any.
fn peer(number: u32) -> PeerId {
    let place = (number as usize).checked_add(1).filter(|n| *n < PEERS_MAX);
    PeerId(place.unwrap_or(0) as u16)
}

pub fn station(number: u32) -> MacAddr {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

/// In no FDB.
pub fn stranger(number: u32) -> MacAddr {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddr([2, 1, a, b, c, d])
}

pub fn vtep_addr(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 0, 0, 0)) + number)
}

/// Which way frames go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Encap,
    Decap,
}

/// Frames of one length, one after the other to (or from) all stations in random order. Each station has a flow of its own,
/// and every checksum is right.
pub struct Traffic {
    direction: Direction,
    frame: Vec<u8>,
    /// What lies in front of the inner frame.
    outer_len: usize,
    vteps: u32,
    order: Vec<u32>,
    next: usize,
}

impl Traffic {
    /// `len` is that of the inner frame.
    pub fn new(network: Network, direction: Direction, len: usize) -> Self {
        let mut inner = match direction {
            Direction::Encap => rig::inner(station(0), device_mac(0), len),
            Direction::Decap => rig::inner(device_mac(0), station(0), len),
        };
        set_flow(&mut inner, 0);
        // What `set_flow` writes adds up to a constant, so that from here on the checksum is right for every flow.
        let (ip, udp) = (&inner[14..34], &inner[34..]);
        let addresses = checksum::sum(&ip[12..]);
        let rest = checksum::sum(&[&udp[..6], &udp[8..]].concat());
        let sum = addresses + rest + 17 + udp.len() as u32;
        inner[40..42].copy_from_slice(&checksum::udp_field(checksum::finish(sum)).to_be_bytes());
        let (frame, outer_len) = match direction {
            Direction::Encap => (inner, 0),
            Direction::Decap => (rig::outer(vni(0), LOCAL, &inner), OUTER_LEN),
        };
        Self {
            direction,
            frame,
            outer_len,
            vteps: network.vteps as u32,
            order: order(network.stations),
            next: 0,
        }
    }

    /// The next frame.
    pub fn next(&mut self) -> &[u8] {
        let number = self.order[self.next];
        self.next = (self.next + 1) % self.order.len();
        match self.direction {
            Direction::Encap => self.frame[..6].copy_from_slice(&station(number).0),
            Direction::Decap => self.set_outer(number),
        }
        set_flow(&mut self.frame[self.outer_len..], number as u16);
        &self.frame
    }

    /// The outer source, the inner source, and no UDP checksum: the default of vxlan devices.
    fn set_outer(&mut self, number: u32) {
        let source = vtep_addr(number % self.vteps).octets();
        self.frame[26..30].copy_from_slice(&source);
        self.frame[24..26].fill(0);
        let checksum = checksum::finish(checksum::sum(&self.frame[14..34]));
        self.frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        self.frame[40..42].fill(0);
        self.frame[OUTER_LEN + 6..OUTER_LEN + 12].copy_from_slice(&station(number).0);
    }
}

/// The inner source port, and its complement in the first bytes of the payload.
fn set_flow(inner: &mut [u8], flow: u16) {
    inner[34..36].copy_from_slice(&flow.to_be_bytes());
    inner[42..44].copy_from_slice(&(!flow).to_be_bytes());
}
