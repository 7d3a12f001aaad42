//! Every way a frame can die. The list is data: a line a reason, and one that says what to do.
//!
//! Labels are metric values and never change. The kernel's names are those of `enum skb_drop_reason` (6.18), without the
//! prefix `SKB_DROP_REASON_`, where it has one for the same fate.

/// Which way a frame was going when it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the underlay to the overlay: decapsulation.
    Rx,
    /// From the overlay to the underlay: encapsulation.
    Tx,
    /// Either.
    Both,
}

impl Direction {
    /// As in metrics: `rx`, `tx`, `both`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rx => "rx",
            Self::Tx => "tx",
            Self::Both => "both",
        }
    }
}

macro_rules! drop_reasons {
    ($($variant:ident $label:literal $kernel:literal $direction:ident $help:literal $action:literal;)*) => {
        /// Why a frame died. One byte, an index into [`super::PortCounters`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $help] $variant,)* }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The value of the metric label `reason`.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// The kernel's name for the same fate, or `-`.
            pub const fn kernel_name(self) -> &'static str {
                match self { $(Self::$variant => $kernel,)* }
            }

            /// The direction in which it happens.
            pub const fn direction(self) -> Direction {
                match self { $(Self::$variant => Direction::$direction,)* }
            }

            /// What happened.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }

            /// What to do about it.
            pub const fn action(self) -> &'static str {
                match self { $(Self::$variant => $action,)* }
            }
        }
    };
}

impl DropReason {
    /// Whether there may be a frame on record that died of it. The others die in the kernel, which only tells how many.
    pub const fn has_frame(self) -> bool {
        !matches!(
            self,
            Self::RxRingFull | Self::FillRingEmpty | Self::WorkerStale | Self::AccessRingFull
        )
    }
}

drop_reasons! {
    OuterMalformed    "outer_malformed"     "IP_INHDR"           Rx "The outer headers contradict themselves or the frame's length, or the outer IPv4 header checksum is wrong."
        "A sender or the way is broken: capture at it (`tcpdump -i DEVICE -vv udp`).";
    OuterFragment     "outer_fragment"      "-"                  Rx "An outer fragment: steering leaves these to the kernel, so it should not come here."
        "Seldom and few: nothing. Else lower the MTU of the sender's vxlan device by the overhead.";
    OuterChecksum     "outer_csum"          "UDP_CSUM"           Rx "The outer UDP checksum is neither zero nor right."
        "The link corrupts frames, or a device's checksum offload does: `ethtool -K DEVICE tx off rx off` on either end.";
    ZeroChecksum6     "zero_csum6"          "UDP_CSUM"           Rx "The outer UDP checksum is zero over IPv6, and the device does not allow that (udp6zerocsumrx)."
        "Let the peer compute checksums, or the device take zero: `ip link add … udp6zerocsumrx`.";
    MartianSource     "martian_source"      "-"                  Rx "The outer source is our own, zero, loopback, multicast, broadcast or IPv4-mapped."
        "Somebody forges addresses: `vxgate status` does not know it, look for the port at the switch.";
    OtherHost         "other_host"          "OTHERHOST"          Rx "The outer frame is addressed to another station: the link floods, or the device listens to everything."
        "Seldom: nothing, a switch that has forgotten an address floods. Else switch promiscuous mode off.";
    HeaderTruncated   "hdr_truncated"       "PKT_TOO_SMALL"      Rx "UDP payload shorter than the 8 bytes of a VXLAN header."
        "Something else sends to the UDP port of VXLAN: find out what, or use another port.";
    NoIFlag           "no_i_flag"           "VXLAN_INVALID_HDR"  Rx "The I flag is clear: not a valid VNI (RFC 7348 §5)."
        "Something else sends to the UDP port of VXLAN: find out what, or use another port.";
    ReservedBits      "reserved_bits"       "VXLAN_INVALID_HDR"  Rx "A reserved bit of the VXLAN header is set that the device or reserved_bits does not let through; the kernel drops these too."
        "The peer uses an extension (GBP, GPE) that the device has not: give both the same, or set reserved_bits.";
    VniNotFound       "vni_not_found"       "VXLAN_VNI_NOT_FOUND" Rx "No device of ours has this VNI, address and port (it went away while the frame was queued)."
        "Moments after a device went: nothing. Else the peer has a VNI that is not here.";
    UnknownPeer       "unknown_peer"        "-"                  Rx "The outer source is no known VTEP of this VNI."
        "`vxgate status` names the senders. Give a VTEP of ours an FDB entry; else nothing is wrong here.";
    InnerSpoof        "inner_spoof"         "-"                  Rx "The inner source is no station that the FDB knows behind the outer source (peer_check = strict-mac)."
        "`vxgate status` names the senders. Give the station an FDB entry there; else nothing is wrong here.";
    InnerShort        "inner_short"         "PKT_TOO_SMALL"      Rx "No whole Ethernet header after the VXLAN header."
        "The peer is broken: capture at it.";
    InnerTruncated    "inner_truncated"     "PKT_TOO_SMALL"      Rx "The inner IP header is cut short."
        "The peer or a station behind it is broken: capture at it.";
    InvalidSourceMac  "invalid_source_mac"  "MAC_INVALID_SOURCE" Rx "The inner source address is zero or a group address."
        "A station behind the peer is broken or forges addresses.";
    LocalMac          "local_mac"           "LOCAL_MAC"          Rx "The inner source address is the device's own: a loop."
        "Frames of ours come back: look for a loop between bridges, or for a second device with the same address.";
    InnerVlan         "inner_vlan"          "-"                  Both "The inner frame has a VLAN tag, and inner_vlan = drop asks for none (RFC 7348 §6.1)."
        "Take the tag off where the frames come from, or carry it: inner_vlan = \"pass\".";
    TunnelEcn         "tunnel_ecn"          "IP_TUNNEL_ECN"      Rx "Congestion marked outside on a flow that does not speak ECN (RFC 6040 §4.2)."
        "Congestion on the way, and senders that do not know ECN: as the kernel does. Nothing.";
    AccessShort       "access_short"        "PKT_TOO_SMALL"      Tx "A frame from the overlay without a whole Ethernet header, or with its IP header cut short."
        "The bridge or the pod in front of the device is broken: capture at the vxlan device.";
    NoTxTarget        "no_tx_target"        "NO_TX_TARGET"       Tx "No FDB entry for the destination, and no default destination."
        "`bridge fdb show dev DEVICE` has no entry for the station: look at what writes it (flanneld, the CNI).";
    NextHopUnresolved "next_hop_unresolved" "-"                  Tx "The VTEP has no route, or its next hop no neighbour entry yet."
        "`vxgate status` names the VTEP. Look for its route (`ip route get`) and neighbour (`ip neighbour`).";
    Oversize          "oversize"            "PKT_TOO_BIG"        Both "The frame, with its outer headers where it gets them, does not fit the MTU of the port that should send it, or of the path behind it."
        "Lower the MTU of device and pods below the path's, or raise the underlay's: MTU + 50 (IPv6: 70).";
    TxRingFull        "tx_ring_full"        "FULL_RING"          Both "The port that should send it takes no more frames."
        "The port is slower than its frames, or paused by its link: more queues, or less traffic.";
    NoFrame           "no_frame"            "NOMEM"              Both "No free frame in the UMEM for a copy or for the segments of a superframe, or no room in front of one for the outer header."
        "Floods or superframes beyond what memory there is: fewer destinations, or more workers.";
    LinkDown          "link_down"           "DEV_READY"          Both "The port that should send it is down or gone."
        "Look at the device's carrier: `ip link show`.";
    RxRingFull        "rx_ring_full"        "-"                  Both "The worker was too slow: the kernel found its receive ring full."
        "More workers (`workers` in the configuration), or keep others off their cores.";
    FillRingEmpty     "fill_ring_empty"     "-"                  Both "The kernel found no free frame to receive into."
        "More workers (`workers` in the configuration), or keep others off their cores.";
    RxInvalid         "rx_invalid"          "-"                  Both "The kernel could not copy the frame into the UMEM: too long for a chunk. Or a superframe that its header contradicts."
        "Frames longer than the device's MTU arrive: give both ends of the link the same MTU.";
    WorkerStale       "worker_stale"        "-"                  Rx "Decapsulated, but when it reached the vxlan device no worker had stored a heartbeat for 200 ms."
        "A worker hung: see `vxgate workers`, and keep others off its core. The kernel carried meanwhile.";
    AccessRingFull    "access_ring_full"    "FULL_RING"          Tx "The access veth's own ring of 256 frames was full."
        "More workers (`workers` in the configuration), or keep others off their cores.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn labels_are_metric_values_and_unique() {
        let labels: HashSet<_> = DropReason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), DropReason::COUNT);
        assert!(labels.iter().all(|l| {
            l.bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
        }));
    }

    #[test]
    fn every_reason_has_a_meaning_and_something_to_do_about_it() {
        for reason in DropReason::ALL {
            for text in [reason.help(), reason.action()] {
                assert!(text.ends_with('.') && text.len() > 20, "{reason:?}: {text}");
            }
        }
    }

    #[test]
    fn every_reason_indexes_its_own_counter() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
