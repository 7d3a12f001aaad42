//! Every cell and row of the specification by hand: a frame, what must become of it in the kernel (the control) and in
//! `vxgate`, and the reason under which `vxgate` counts it.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use super::bytes::{ETHER_IPV4, ETHER_IPV6, IP, Inner, UDP, VXLAN, ipv4, ipv6, put16, udp};
use super::compare::{Fates, Pair};
use super::outer::{self, Family, Outer};
use super::setting::Setting;
use super::site::{self, Entry};
use super::support::end::Input;

/// One pair for all cells of a kind: building one takes a second, a cell a few milliseconds.
pub struct Shared(LazyLock<Mutex<Pair>>);

impl Shared {
    pub const fn new(build: fn() -> Mutex<Pair>) -> Self {
        Self(LazyLock::new(build))
    }

    pub fn get(&self) -> MutexGuard<'_, Pair> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub static PLAIN: Shared = Shared::new(|| Mutex::new(Pair::new(Setting::PLAIN)));
pub static PLAIN6: Shared = Shared::new(|| Mutex::new(Pair::new(Setting::PLAIN6)));

/// The pair whose underlay is of this family.
pub fn plain_pair(family: Family) -> &'static Shared {
    match family {
        Family::V4 => &PLAIN,
        Family::V6 => &PLAIN6,
    }
}

/// What must become of a frame.
pub enum Fate {
    /// Both deliver this to the overlay, and nothing else comes out.
    Delivered(Vec<u8>),
    /// Nothing comes out anywhere, and `vxgate` counts it so.
    Dropped(&'static str),
    /// The kernel gets it at both sites, for this reason, and nothing comes out.
    Passed(&'static str),
    /// The kernel delivers it; `vxgate` drops it, and the requirement in the test's name says why.
    DroppedByUs(&'static str),
    /// The kernel drops it; `vxgate` delivers this.
    DeliveredByUs(Vec<u8>),
}

/// A frame from the wire, over IPv4.
pub fn arrives(frame: Vec<u8>, fate: Fate) {
    arrives_at(&PLAIN, frame, fate);
}

/// A frame from the wire.
pub fn arrives_at(pair: &Shared, frame: impl Into<Input>, fate: Fate) {
    let mut pair = pair.get();
    let before = pair.ours.status();
    let Fates { kernel, ours } = pair.fates(Entry::Wire, &frame.into());
    let after = pair.ours.status();
    assert!(
        kernel.wire.is_empty() && ours.wire.is_empty(),
        "{kernel:?} {ours:?}"
    );
    let (by_kernel, by_us, dropped, passed) = match fate {
        Fate::Delivered(inner) => (Some(inner.clone()), Some(inner), None, None),
        Fate::Dropped(reason) => (None, None, Some(reason), None),
        Fate::Passed(reason) => (None, None, None, Some(reason)),
        Fate::DroppedByUs(reason) => {
            assert_eq!(kernel.overlay.len(), 1, "the kernel delivers it");
            (kernel.overlay.first().cloned(), None, Some(reason), None)
        }
        Fate::DeliveredByUs(inner) => (None, Some(inner), None, None),
    };
    assert_eq!(kernel.overlay, Vec::from_iter(by_kernel), "kernel");
    assert_eq!(ours.overlay, Vec::from_iter(by_us), "vxgate");
    if let Some(reason) = dropped {
        let [before, after] = [&before, &after].map(|status| status.drops("underlay", reason));
        assert_eq!(after, before + 1, "dropped as {reason}");
    }
    if let Some(reason) = passed {
        let [before, after] = [&before, &after].map(|status| status.passed("underlay", reason));
        assert_eq!(after, before + 1, "passed as {reason}");
    }
}

/// What comes out on the wire of a frame from the overlay: one frame, the same from both.
pub fn leaves(pair: &Shared, frame: Vec<u8>) -> Vec<u8> {
    let mut pair = pair.get();
    let Fates { kernel, ours } = pair.fates(Entry::Bridge, &Input::from(frame.clone()));
    assert_eq!(kernel, ours);
    assert_eq!(
        (kernel.wire.len(), kernel.overlay.len()),
        (1, 0),
        "{kernel:?}"
    );
    let sent = &ours.wire[0];
    let inner = outer::inner_of(sent).expect("it is VXLAN");
    assert_eq!(inner, frame, "the inner frame is as it was");
    sent.clone()
}

/// An inner frame that everybody delivers.
pub fn plain() -> Vec<u8> {
    Inner::with(ETHER_IPV4, ipv4(0, 64, 0, 17, &udp(b"payload"))).bytes()
}

pub fn with(change: impl FnOnce(&mut Outer)) -> Vec<u8> {
    let mut outer = Outer::good();
    change(&mut outer);
    outer.around(&plain())
}

/// The good frame, changed at will, with the outer header's checksum made right again.
fn bent(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Outer::good().around(&plain());
    change(&mut frame);
    outer::finish_ip(&mut frame);
    frame
}

pub fn v4(class: u8) -> Vec<u8> {
    Inner::with(ETHER_IPV4, ipv4(class, 9, 0, 17, &udp(b"payload"))).bytes()
}

pub fn v6(class: u8) -> Vec<u8> {
    Inner::with(ETHER_IPV6, ipv6(class, 9, 59, b"payload")).bytes()
}

/// The cells of a table, each a test of its own.
macro_rules! cells {
    ($($name:ident $call:expr;)*) => {
        $(#[test]
        fn $name() {
            $call;
        })*
    };
}
pub(crate) use cells;

#[test]
fn v01_a_clear_i_flag() {
    arrives(with(|outer| outer.vxlan[0] = 0), Fate::Dropped("no_i_flag"));
}

#[test]
fn d13_a_foreign_vni_is_the_kernels() {
    let frame = with(|outer| outer.vxlan = outer::vxlan_header(1001));
    arrives(frame, Fate::Passed("foreign_vni"));
}

#[test]
fn v11_a_vxlan_header_of_4_bytes() {
    let frame = bent(|frame| {
        frame.truncate(VXLAN + 4);
        put16(frame, IP + 2, 32);
        put16(frame, UDP + 4, 12);
    });
    arrives(frame, Fate::Dropped("hdr_truncated"));
}

/// The identification of an IPv4 header behind two tags, of all things, is what the kernel reads as an EtherType.
#[test]
fn v08_congestion_outside_changes_no_tag_whatever_is_behind_it() {
    let mut inner = Inner::with(ETHER_IPV4, ipv4(0, 64, 0, 17, &udp(b"payload")))
        .tagged(&[(0x88a8, 20), (0x8100, 0x4000)])
        .bytes();
    put16(&mut inner, 22 + 4, ETHER_IPV4);
    let mut header = Outer::good();
    header.tos = 3;
    arrives(header.around(&inner), Fate::DeliveredByUs(inner));
}

#[test]
fn a_wrong_outer_ip_checksum() {
    let mut frame = Outer::good().around(&plain());
    frame[IP + 10] ^= 1;
    arrives(frame, Fate::Dropped("outer_malformed"));
}

#[test]
fn an_ip_length_beyond_the_frame() {
    let frame = bent(|frame| put16(frame, IP + 2, 400));
    arrives(frame, Fate::Dropped("outer_malformed"));
}

#[test]
fn a_udp_length_beyond_the_ip_packet() {
    let frame = bent(|frame| put16(frame, UDP + 4, 400));
    arrives(frame, Fate::Dropped("outer_malformed"));
}

#[test]
fn f04_a_udp_length_20_bytes_short() {
    let inner = Inner::with(ETHER_IPV4, ipv4(0, 64, 0, 17, &udp(&[7; 60]))).bytes();
    let mut frame = Outer::good().around(&inner);
    let len = (frame.len() - UDP - 20) as u16;
    put16(&mut frame, UDP + 4, len);
    arrives(frame, Fate::Delivered(inner[..inner.len() - 20].to_vec()));
}

#[test]
fn f04_padding_behind_the_ip_packet() {
    let frame = bent(|frame| frame.extend([9; 30]));
    arrives(frame, Fate::Delivered(plain()));
}

#[test]
fn d02_an_unknown_peer() {
    let frame = with(|outer| outer.source = [10, 99, 0, 77].into());
    arrives(frame, Fate::DroppedByUs("unknown_peer"));
}

/// A source that no frame can come from.
fn martian(source: [u8; 4]) {
    arrives(
        with(|outer| outer.source = source.into()),
        Fate::Dropped("martian_source"),
    );
}

cells! {
    v10_from_our_own_address martian(site::NODE);
    v10_from_loopback martian([127, 0, 0, 1]);
    v10_from_a_group_address martian([224, 0, 0, 1]);
    v10_from_the_broadcast_address martian([255, 255, 255, 255]);
}

#[test]
fn v10_from_the_zero_address() {
    // A probe for an address (RFC 1122 §3.2.1.3); the kernel takes it only where it is to a broadcast address.
    martian([0, 0, 0, 0]);
}

#[test]
fn v10_from_this_network() {
    // RFC 1122 §3.2.1.3 gives none of 0.0.0.0/8 to a host; to the kernel only the zero address is impossible.
    let frame = with(|outer| outer.source = [0, 1, 2, 3].into());
    arrives(frame, Fate::DroppedByUs("martian_source"));
}

#[test]
fn v12_to_an_address_that_is_not_ours() {
    let frame = with(|outer| outer.destination = [10, 99, 0, 9].into());
    arrives(frame, Fate::Passed("not_ours"));
}

#[test]
fn v12_to_a_station_that_is_not_ours() {
    let frame = with(|outer| outer.destination_mac = [2, 0, 0, 0, 0, 9]);
    arrives(frame, Fate::Passed("not_ours"));
}

#[test]
fn v12_to_all_stations() {
    let frame = with(|outer| outer.destination_mac = [0xff; 6]);
    arrives(frame, Fate::Delivered(plain()));
}

#[test]
fn an_outer_ttl_of_1_and_of_0() {
    for ttl in [0, 1] {
        arrives(with(|outer| outer.ttl = ttl), Fate::Delivered(plain()));
    }
}

#[test]
fn v12_a_port_without_listener_is_answered_by_the_kernel() {
    let frame = with(|outer| outer.destination_port = 4789);
    let Fates { kernel, ours } = PLAIN.get().fates(Entry::Wire, &Input::from(frame));
    assert_eq!(kernel, ours);
    assert_eq!((ours.wire.len(), ours.overlay.len()), (1, 0));
    // Destination unreachable, port unreachable.
    assert_eq!(
        (ours.wire[0][IP + 9], &ours.wire[0][UDP..UDP + 2]),
        (1, &[3, 3][..])
    );
}

#[test]
fn d12_outer_fragments_are_put_together_by_the_kernel() {
    let whole = with(|outer| outer.id = 0x7777);
    let cut = UDP + 32;
    let part = |bytes: &[u8], fragment: u16| {
        let mut frame = [&whole[..UDP], bytes].concat();
        put16(&mut frame, IP + 2, 20 + bytes.len() as u16);
        put16(&mut frame, IP + 6, fragment);
        outer::finish_ip(&mut frame);
        frame
    };
    arrives(part(&whole[UDP..cut], 0x2000), Fate::Passed("fragment"));
    arrives(part(&whole[cut..], 32 / 8), Fate::Delivered(plain()));
}
