//! What two sites have in common: devices, their attributes, and what is around them.

use super::bytes::be16;
use super::outer::{Family, vni_of};
use super::site::{OVERLAY_MTU, PORT, UNDERLAY_MTU, VNI};
use super::support::vxgate::Superframes;

/// What a device is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub family: Family,
    pub vni: u32,
    pub port: u16,
}

impl Segment {
    pub const USUAL: Self = Self::over(Family::V4);

    pub const fn over(family: Family) -> Self {
        Self {
            family,
            vni: VNI,
            port: PORT,
        }
    }

    /// The one whose frame from the node this is.
    pub fn sent(&self, frame: &[u8]) -> bool {
        Family::of(frame) == Some(self.family)
            && be16(frame, self.family.udp() + 2) == Some(self.port)
            && vni_of(frame, self.family) == Some(self.vni)
    }
}

/// The devices and their attributes.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// `vx1` and so on.
    pub segments: &'static [Segment],
    /// Words of `ip link add … type vxlan`.
    pub attributes: &'static str,
    /// Lowest and highest source port that the kernel may choose.
    pub source_ports: (u16, u16),
    pub overlay: Overlay,
    /// The largest IP packet that enters the overlay.
    pub overlay_mtu: usize,
    /// Of the underlay.
    pub link_mtu: usize,
    /// What the operator decides: arguments of `vxgate run`.
    pub policy: &'static [&'static str],
    /// Whether `vxgate` takes them whole.
    pub superframes: Superframes,
}

/// What the node does between the port and the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    Bridged,
    /// IP, for a host on the port (10.244.1.2, fd00:1::2) and a network behind the third peer (10.244.2.0/24, fd00:2::/64).
    Routed,
}

impl Setting {
    /// As flannel makes its device.
    pub const PLAIN: Self = Self::with("");
    /// The same over IPv6.
    pub const PLAIN6: Self = Self::with6("");

    /// Of the underlay, unless it is narrow: takes every inner frame, tags included.
    pub const fn underlay_mtu(&self) -> usize {
        self.overlay_mtu + UNDERLAY_MTU - OVERLAY_MTU
    }

    pub const fn with(attributes: &'static str) -> Self {
        const SEGMENTS: &[Segment] = &[Segment::over(Family::V4)];
        Self::of(SEGMENTS, attributes)
    }

    pub const fn with6(attributes: &'static str) -> Self {
        const SEGMENTS: &[Segment] = &[Segment::over(Family::V6)];
        Self::of(SEGMENTS, attributes)
    }

    pub const fn of(segments: &'static [Segment], attributes: &'static str) -> Self {
        Self {
            segments,
            attributes,
            source_ports: (32_768, 60_999),
            overlay: Overlay::Bridged,
            overlay_mtu: OVERLAY_MTU,
            link_mtu: UNDERLAY_MTU,
            policy: &[],
            superframes: Superframes::Auto,
        }
    }

    /// The same, with superframes that `vxgate` cuts itself.
    pub const fn cut(self) -> Self {
        Self {
            superframes: Superframes::Cut,
            ..self
        }
    }

    /// The same, with every superframe cut before `vxgate` sees it.
    pub const fn without_superframes(self) -> Self {
        Self {
            superframes: Superframes::Off,
            ..self
        }
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Segment { family, vni, port } in self.segments {
            write!(text, "{family:?} vni {vni} port {port} ")?;
        }
        if self.overlay_mtu != OVERLAY_MTU {
            write!(text, "mtu {} ", self.overlay_mtu)?;
        }
        if self.link_mtu != self.underlay_mtu() {
            write!(text, "link {} ", self.link_mtu)?;
        }
        match self.superframes {
            Superframes::Auto => {}
            Superframes::Cut => text.write_str("superframes cut ")?,
            Superframes::Off => text.write_str("without superframes ")?,
        }
        text.write_str(self.attributes)
    }
}
