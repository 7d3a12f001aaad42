/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the BPF programs and `src/steer` agree on. */
#ifndef VXGATE_SHARED_H
#define VXGATE_SHARED_H

#define VXGATE_WORKERS_MAX 64
#define VXGATE_QUEUES_MAX 256
#define VXGATE_DEVICES_MAX 256
/* Of each device its own address, and its group. */
#define VXGATE_ENDPOINTS_MAX (2 * VXGATE_DEVICES_MAX)

#define HEARTBEAT_STALE_NS 200000000LL

/* Places in `ways`: flows of UDP that share one share their way to the workers. */
#define VXGATE_WAYS_SHIFT 20
#define VXGATE_WAYS (1u << (32 - VXGATE_WAYS_SHIFT))

/* The order is that of src/stats/pass_reason.rs, where the meanings stand. */
enum pass_reason {
	PASS_NOT_OURS,
	PASS_FOREIGN_VNI,
	PASS_FRAGMENT,
	PASS_IP_OPTIONS,
	PASS_NO_SOCKET,
	PASS_HEARTBEAT_STALE,
	PASS_BYPASS,
	PASS_OVERSIZE,
	PASS_KERNEL_ROUTE,
	PASS_SUPERFRAME,
	PASS_SHOWN,
	PASS_REASONS,
};

/* What one device's programs are told before they are loaded. */
struct steer_settings {
	__u32 workers;
	__u32 kernel_side; /* index of the access device's end that `vxgate_egress` sends to */
	__u32 device;      /* index of the vxlan device that `vxgate_ingress` sends to */
	__u32 frame_max;   /* longest frame, in bytes: of a device, its MTU and an Ethernet header; of a NIC no more than a socket takes */
	__u16 mac[3];      /* Ethernet address of the NIC that `vxgate_underlay` runs on, as on the wire */
	__u16 gbp;         /* whether the device's frames carry their marks over the access device */
	__u32 tap;         /* index of the TAP that `vxgate_egress` sends TCP and superframes to; 0 without one */
	__u32 flow_sets;   /* how many sets of promoted flows there are, a power of two; 0: no direct path */
	__u32 ids_apart;   /* a power of two, and no less than how many processors there may be */
	__u32 peers;       /* how many places for peers `express_peers` has of each processor */
};

/* One entry of the counters for each program. */
enum counts_kind {
	COUNTS_UNDERLAY,
	COUNTS_EGRESS,
	COUNTS_INGRESS,
	COUNTS_WORKER_SIDE,
	COUNTS_TAP, /* frames that `vxgate_egress` sent to the TAP: a superframe is one */
	COUNTS_KINDS,
};

/* What one program did, on one CPU, in frames. */
struct steer_counts {
	__u64 steered;
	__u64 lost;
	__u64 express; /* taken by the express gear: of a NIC only */
	__u64 express_bytes; /* without outer headers */
	__u64 passed[PASS_REASONS];
};

/* CLOCK_MONOTONIC of a worker's last turn; a pair of cache lines of its own. */
struct heartbeat_cell {
	__u64 at_ns;
	__u64 padding[15];
};

/* When a flow of UDP last went to the access device, and when to its TAP: CLOCK_MONOTONIC_COARSE. */
struct way {
	__u64 pair_ns;
	__u64 tap_ns;
};

/* A VTEP address and UDP port of ours, as on the wire. IPv4 addresses are mapped (::ffff:a.b.c.d); a link-local address
 * means something only together with its link, and a multicast group is joined on one link: its index is the scope. */
struct endpoint {
	__be32 addr[4];
	__be16 port;
	__u16 zero;
	__u32 scope;
};

struct segment_key {
	struct endpoint endpoint;
	__u32 vni;
};

/* Two lists of inner destination addresses in `kernel_share`, of which at most one counts. */
enum share_kind {
	SHARE_KERNEL_ONLY, /* the kernel keeps the frames to these */
	SHARE_ALL_BUT,     /* the kernel keeps all frames but those to these; wins when both are there */
	SHARE_KINDS,
};

/* Flows of which it is known that the kernel carries them, each way: as many as may be promoted, but no fewer than this. Beyond that,
 * the oldest are forgotten. `entries_of` of src/steer/copy.rs. */
#define SIGHTINGS_MIN 65536

/* The ways of the direct path. */
enum direct_way {
	WAY_OUT,       /* express, from a pod to the underlay */
	WAY_IN,        /* express, from the underlay: decapsulated */
	WAY_DELIVERED, /* and of these: handed to a pod's device */
	WAY_RING_OUT,  /* from a pod to its vxlan device, in frames of the wire */
	WAY_RING_IN,   /* from the workers to a pod, in frames of the wire */
	DIRECT_WAYS,
};

/* The gears of a promoted flow. */
enum direct_gear {
	GEAR_EXPRESS,
	GEAR_RING, /* and no higher */
};

/* Why a frame was handed up. The order is that of src/stats/up_reason.rs, where the meanings stand. */
enum up_reason {
	UP_NO_FLOW,
	UP_OTHER_PROTOCOL,
	UP_OPTIONS,
	UP_FRAGMENT,
	UP_LENGTH,
	UP_CHECKSUM,
	UP_TCP_FLAGS,
	UP_TTL,
	UP_ECN,
	UP_SUPERFRAME,
	UP_OVERSIZE,
	UP_SPOOFED,
	UP_SHOWN,
	UP_NO_ROOM,
	UP_NOT_ALIVE,
	UP_UNSETTLED,
	UP_RING,
	UP_REASONS,
};

/* What one way did, on one CPU, in frames. Who reads it copies word by word in this order: no frame has a fate in the copy that
 * has not been received. */
struct direct_counts {
	__u64 forwarded;
	__u64 bytes; /* of inner frames */
	__u64 by_xdp; /* of these forwarded from pods: by the program on the pod's device */
	__u64 lost;  /* without a fate but death */
	__u64 up[UP_REASONS];
	__u64 received;
};

/* What one CPU forwarded of a peer's frames, each way, and when last: CLOCK_MONOTONIC_COARSE. src/stats/peers.rs says who has which
 * place. A cache line of its own. */
struct express_peer {
	__u64 received_frames;
	__u64 received_bytes; /* of inner frames */
	__u64 received_ns;
	__u64 sent_frames;
	__u64 sent_bytes; /* as sent */
	__u64 sent_ns;
	__u64 padding[2];
};

/* For so long the gear goes on without a word of who listens to what changes. With what the programs' clock lags behind, a period of
 * the slowest timer (10 ms), it is 100 ms. */
#define LISTENER_STALE_NS 90000000LL

/* See `ticks` in direct.h. */
#define TICK_SHIFT 20

/* How often, every ten seconds, the kernel is shown a frame of a promoted flow, in each direction: more often than conntrack forgets a
 * UDP flow (30 s), and a bridge an address (300 s). */
#define SHOW_EVERY_TICKS 9536

/* CLOCK_MONOTONIC_COARSE lags behind CLOCK_MONOTONIC by less: 67 ms are several periods of the slowest timer. */
#define CLOCKS_APART_TICKS 64

/* For so long, a second, a flow stays in the ring gear after the last superframe of its pod's. */
#define SUPERFRAMES_FOR_TICKS 954

#endif
