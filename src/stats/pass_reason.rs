//! Every way a steering program leaves a frame to the kernel. The order is the order of the counters in `bpf/shared.h`.

use super::reasons::reasons;

reasons! {
    /// Why a frame was left to the kernel's own path.
    PassReason:
    NotOurs        "not_ours"        "Not VXLAN to one of our addresses and ports.";
    ForeignVni     "foreign_vni"     "VXLAN to our address and port, but a VNI that is not ours: another device may own it.";
    Fragment       "fragment"        "An outer fragment: the kernel reassembles it.";
    IpOptions      "ip_options"      "An outer IPv4 header with options, or an IPv6 header with extension headers.";
    NoSocket       "no_socket"       "No AF_XDP socket on this queue.";
    HeartbeatStale "heartbeat_stale" "The worker has not stored its heartbeat for 200 ms: it hangs or is stopped.";
    Bypass         "bypass"          "Bypass was asked for: starting or draining.";
    Oversize       "oversize"        "A frame of the overlay that does not fit the path to some VTEP once it is encapsulated: the kernel tells its sender, fragments it or loses it, as the node is set up. Or one of the underlay that is longer than its MTU: joined, or a superframe that was never cut, which only a device with generic XDP hands over.";
    KernelRoute    "kernel_route"    "A frame of the overlay that only the kernel brings to its VTEP: by another device, to an address of this host, without a route, or flooded to such a VTEP among others.";
    Superframe     "superframe"      "A pod's superframe of a flow that goes the direct path, or a frame between such ones: around routing and filters like all of its flow, but by the kernel's own vxlan device, which sends superframes whole.";
    Shown          "shown"           "One frame in ten seconds of a flow that goes the direct path, each way: the kernel sees it, so that nothing there forgets the flow, and its own vxlan device sends or takes it.";
}
