//! Every way a gear of the direct path hands a frame up: express to the ring gear or the workers, and that to the kernel. The
//! order is the order of the counters in `bpf/shared.h`.

use super::reasons::reasons;

reasons! {
    /// Why a frame did not go the direct path.
    UpReason:
    NoFlow        "no_flow"        "Of a flow that is not promoted, or not this way, or was demoted.";
    OtherProtocol "other_protocol" "Neither TCP nor UDP right behind an IP header, or tagged.";
    Options       "options"        "An inner IP header with options, or with extension headers.";
    Fragment      "fragment"       "An inner fragment.";
    Length        "length"         "Lengths that contradict each other, or padding.";
    Checksum      "checksum"       "An inner UDP datagram without a checksum, or an outer one over IPv6.";
    TcpFlags      "tcp_flags"      "A TCP segment that begins or ends a connection: the flow is demoted.";
    Ttl           "ttl"            "An inner TTL or hop limit that is used up: the kernel tells the sender.";
    Ecn           "ecn"            "ECN bits that the way through the tunnel changes, or may: the workers do that.";
    Superframe    "superframe"     "A pod's superframe, or a frame of a flow that has some: the ring gear takes them whole, to the kernel's own vxlan device, or to the workers where that would send them otherwise.";
    Oversize      "oversize"       "A frame that does not fit the path once it is encapsulated, or the pod's device: the kernel tells its sender.";
    Spoofed       "spoofed"        "A frame with addresses, a port, a VNI or a device that are not its flow's.";
    Shown         "shown"          "One frame in ten seconds, so that the kernel does not forget the flow: its own vxlan device sends or takes it.";
    NoRoom        "no_room"        "No room in front of the frame for what the classifier behind has to know.";
    NotAlive      "not_alive"      "A worker hangs, or who listens to what changes, or bypass was asked for.";
    Unsettled     "unsettled"      "Something that the kernel decides by has just changed, or forbids the direct path: see why_not.";
    Ring          "ring"           "Of a flow that goes no higher than the ring gear.";
}
