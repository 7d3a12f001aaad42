//! Every way a steering program leaves a frame to the kernel. The order is the order of the counters in `bpf/shared.h`.

macro_rules! pass_reasons {
    ($($variant:ident $label:literal $help:literal;)*) => {
        /// Why a frame was left to the kernel's own path.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum PassReason { $(#[doc = $help] $variant,)* }

        impl PassReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The value of the metric label `reason`.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// What it means.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

pass_reasons! {
    NotOurs        "not_ours"        "Not VXLAN to one of our addresses and ports.";
    ForeignVni     "foreign_vni"     "VXLAN to our address and port, but a VNI that is not ours: another device may own it.";
    Fragment       "fragment"        "An outer fragment: the kernel reassembles it.";
    IpOptions      "ip_options"      "An outer IPv4 header with options, or an IPv6 header with extension headers.";
    NoSocket       "no_socket"       "No AF_XDP socket on this queue.";
    HeartbeatStale "heartbeat_stale" "The worker has not stored its heartbeat for 200 ms: it hangs or is stopped.";
    Bypass         "bypass"          "Bypass was asked for: starting or draining.";
    Oversize       "oversize"        "A frame of the overlay that does not fit the path to some VTEP once it is encapsulated: the kernel tells its sender, fragments it or loses it, as the node is set up. Or an uncut superframe of the underlay, which only a virtual device with generic XDP hands over.";
    KernelRoute    "kernel_route"    "A frame of the overlay that only the kernel brings to its VTEP: by another device, to an address of this host, without a route, or flooded to such a VTEP among others.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_indexes_its_own_counter() {
        for (index, reason) in PassReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
