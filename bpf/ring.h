/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The ring gear: a promoted flow's frames go through the workers, but around the kernel's routing, bridge and filters.
 *
 *   pod's device  --- vxgate_from_pod: routed --->  the vxlan device's egress  --- as ever --->  worker  --->  NIC
 *                                                                              --- bulk --->  the device itself  --->  NIC
 *   NIC  --->  worker  --->  access device or TAP  --- vxgate_ingress: routed --->  pod's device
 *
 * No AF_XDP socket is on a pod's device. One would need a program of XDP there, which takes segmentation offload from the pod, and
 * would be given its checksums unfinished; and each of its frames would be copied once more. Between classifiers a superframe
 * crosses whole, with its checksum left to whoever cuts it: a pod's superframes are what this gear is for, where express could move
 * but segments. Besides that it takes whatever express cannot.
 *
 * The way out leads through the vxlan device's egress as every frame's does, already routed. So it needs no care of its own: there
 * the lane is chosen, the frame is counted, and left to the kernel's own device when no worker lives. Superframes, and what else is
 * sent of their flows meanwhile, are left to that device anyway, if it does the same with them as a worker (`as_kernel`): it puts one
 * header in front of 64 KB and passes the pod's own pages on, where a worker would copy them twice.
 *
 * What comes in has been judged by the workers as every frame is. Who sent it is known no longer behind them, neither here nor
 * to anything in the kernel: but for the outer addresses, a frame that another known VTEP forges has here the marks that the
 * kernel could tell it by. Express compares these addresses; when one is not the flow's, whatever comes of that flow meanwhile
 * is left to the kernel.
 */
#ifndef VXGATE_RING_H
#define VXGATE_RING_H

#include "alive.h"
#include "direct.h"

/* Ethernet, IPv4, TCP; and with IPv6. */
#define INNER_HEADERS_LEN 54
#define INNER6_HEADERS_LEN 74
/* Of a frame, from its start: what routing changes is within so many bytes. */
#define ROUTED_LEN (ETH_HLEN + HOP_LEN)
/* The upper four bits of this byte of a TCP header: its length in words. */
#define TCP_WORDS_AT 12
/* See `leave_to_device`. */
#define LEFT_AT 1
#define LEFT_TO_DEVICE 0xfe76786c
#define SHOWN_TO_KERNEL 0x7678

/* What the gear keeps of a promoted flow, in the same place as the rest of it. A cache line of its own. */
struct ring_flow {
	__u64 out_frames;
	__u64 out_bytes;
	__u64 in_frames;
	__u64 in_bytes;
	__u64 foreign_ns; /* when a frame with its key came that its far end had not sent */
	__u32 device;     /* index of the vxlan device */
	__u32 zero;
	__u64 padding[2];
};

_Static_assert(sizeof(struct ring_flow) == 64, "src/steer/ring.rs writes it word by word");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ring_flow);
} ring_flows SEC(".maps");

static __always_inline struct ring_flow *ring_of(const struct express_flow *flow)
{
	__u32 place = flow->place;

	return bpf_map_lookup_elem(&ring_flows, &place);
}

/* Reads the headers of a frame at a classifier; UP_REASONS when it may be of a promoted flow. */
static __always_inline enum up_reason read_frame(struct __sk_buff *skb, bool from_pod, const struct direct_state *state,
						 struct inner *inner)
{
	__u32 headers_len = skb->protocol == bpf_htons(ETH_P_IPV6) ? INNER6_HEADERS_LEN : INNER_HEADERS_LEN;
	void *data = (void *)(long)skb->data;

	if (skb->vlan_present)
		return UP_OTHER_PROTOCOL;
	/* Headers that are not in the frame's first piece. */
	if (data + headers_len > (void *)(long)skb->data_end && skb->len >= headers_len) {
		if (bpf_skb_pull_data(skb, headers_len))
			return UP_LENGTH;
		data = (void *)(long)skb->data;
	}
	return read_inner(data, (void *)(long)skb->data_end, skb->len, from_pod, state, inner);
}

/* Whether the frame, or each segment that it will be cut into, is no longer than `max`. */
static __always_inline bool fits(struct __sk_buff *skb, const struct inner *inner, __u32 max)
{
	__u32 transport = inner->len - inner->l4_len;
	__u32 len = sizeof(struct udphdr);
	__u8 words;

	if (!skb->gso_size)
		return inner->len <= max;
	if (inner->key.protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, transport + TCP_WORDS_AT, &words, sizeof(words)))
			return false;
		len = (words >> 4) * 4;
	}
	return transport + len + skb->gso_size <= max;
}

/* Makes the frame one that was routed, from one Ethernet address to another; false when there is no memory for it, and the frame
 * is as it was. */
static __always_inline bool route_frame(struct __sk_buff *skb, const __u8 *to, const __u8 *from, const struct inner *inner)
{
	void *data = (void *)(long)skb->data;
	__u8 headers[ROUTED_LEN] __attribute__((aligned(8)));

	if (data + ROUTED_LEN > (void *)(long)skb->data_end)
		return false;
	copy_halves(headers, to, ETH_ALEN / 2);
	copy_halves(headers + ETH_ALEN, from, ETH_ALEN / 2);
	copy_halves(headers + 2 * ETH_ALEN, data + 2 * ETH_ALEN, (ROUTED_LEN - 2 * ETH_ALEN) / 2);
	write_hop(headers + ETH_HLEN, inner);
	return !bpf_skb_store_bytes(skb, 0, headers, sizeof(headers), 0);
}

/* The two vxlan devices' addresses, of a frame from the pod: to, and from. */
static __always_inline const __u8 *tunnel_ends(const struct express_path *path)
{
	return path->headers + (is_over_ipv6(path) ? AT6_INNER : AT_INNER);
}

/* How many frames of the wire a pod's frame is. Of a superframe that a guest made, nobody has counted them yet (0). */
static __always_inline __u64 wire_frames(const struct __sk_buff *skb)
{
	return skb->gso_segs > 1 ? skb->gso_segs : 1;
}

/* Tells the vxlan device's egress to leave a frame to the device. Not by its mark, which rules and routes of the underlay may look at.
 * Where this stands, IP keeps how many bytes of options there are: none of its frames has as many. Who else could leave it there
 * would have a frame sent by the kernel, which is its way anyway. */
static __always_inline void leave_to_device(struct __sk_buff *skb)
{
	skb->cb[LEFT_AT] = LEFT_TO_DEVICE;
}

static __always_inline bool is_left_to_device(const struct __sk_buff *skb)
{
	return skb->cb[LEFT_AT] == LEFT_TO_DEVICE;
}

/* Tells the vxlan device's egress the same of a frame that is to be shown to the kernel, and takes its whole way there: its control
 * block is not ours for so long. Nothing in the kernel but traffic control looks at this, and most frames that have it leave by that
 * device. */
static __always_inline void show_to_kernel(struct __sk_buff *skb)
{
	skb->tc_index = SHOWN_TO_KERNEL;
}

static __always_inline bool is_shown_to_kernel(const struct __sk_buff *skb)
{
	return skb->tc_index == SHOWN_TO_KERNEL;
}

/* Sends a pod's frame, that was judged, to the vxlan device: for the workers, or for the device itself when it is `bulk`. */
static __always_inline int send_to_device(struct __sk_buff *skb, const struct express_flow *flow, const struct express_path *path,
					  const struct inner *inner, bool bulk)
{
	struct direct_counts *counts = counts_of(WAY_RING_OUT);
	struct ring_flow *ring = ring_of(flow);
	const __u8 *ends = tunnel_ends(path);
	__u64 frames = wire_frames(skb);

	if (!counts || !ring)
		return NEXT;
	counts->received += frames;
	if (!fits(skb, inner, path->frame_max)) {
		counts->up[UP_OVERSIZE] += frames;
		return NEXT;
	}
	if (!route_frame(skb, ends, ends + ETH_ALEN, inner)) {
		counts->up[UP_NO_ROOM] += frames;
		return NEXT;
	}
	ring->out_frames += frames;
	ring->out_bytes += inner->len;
	counts->forwarded += frames;
	counts->bytes += inner->len;
	if (bulk)
		leave_to_device(skb);
	return bpf_redirect(ring->device, 0);
}

/* Whether a frame is between the two vxlan devices' own addresses: what was routed on both sides. */
static __always_inline bool is_routed(struct __sk_buff *skb, const struct express_path *path)
{
	const __u16 *ends = (const __u16 *)tunnel_ends(path);
	const __u16 *found = (void *)(long)skb->data;

	if ((void *)(found + ETH_ALEN) > (void *)(long)skb->data_end)
		return false;
	for (int half = 0; half < 3; half++)
		if (found[half] != ends[half + 3] || found[half + 3] != ends[half])
			return false;
	return true;
}

/* The pod's device that a frame of so many of the wire, which a worker decapsulated for the vxlan device, is for, with what its
 * routing would change: 0, and the frame as it was, when the kernel is to see it. */
static __always_inline __u32 take_from_worker(struct __sk_buff *skb, __u64 frames)
{
	__u32 zero = 0;
	struct direct_state *state = bpf_map_lookup_elem(&direct_state, &zero);
	struct direct_counts *counts = counts_of(WAY_RING_IN);
	struct inner inner;
	const struct express_path *path;
	struct express_flow *flow;
	struct flow_going going;
	struct ring_flow *ring;
	enum up_reason why;

	if (!state || !counts)
		return 0;
	counts->received += frames;
	why = UP_UNSETTLED;
	if (!*(volatile __u32 *)&state->generation)
		goto up;
	why = read_frame(skb, false, state, &inner);
	if (why != UP_REASONS)
		goto up;
	flow = find_flow(&inner, state, FLOW_IN, &going);
	why = UP_NO_FLOW;
	if (!flow)
		goto up;
	path = path_of(&going);
	ring = ring_of(flow);
	if (!path || !ring)
		goto up;
	why = UP_NOT_ALIVE;
	inner.now_ns = bpf_ktime_get_coarse_ns();
	if (!listened(state, inner.now_ns))
		goto up;
	why = UP_SPOOFED;
	/* A worker that holds it up for longer is none. */
	if (ring->device != settings.device || !is_routed(skb, path) ||
	    (ring->foreign_ns && (__s64)(inner.now_ns - ring->foreign_ns) <= HEARTBEAT_STALE_NS))
		goto up;
	why = judge_frame(flow, &inner, &flow->shown_in);
	if (why != UP_REASONS)
		goto up;
	why = UP_OVERSIZE;
	if (!fits(skb, &inner, path->deliver_max))
		goto up;
	why = UP_NO_ROOM;
	if (!route_frame(skb, path->pod_mac, path->gateway_mac, &inner))
		goto up;
	ring->in_frames += frames;
	ring->in_bytes += inner.len;
	counts->forwarded += frames;
	counts->bytes += inner.len;
	return path->pod;
up:
	counts->up[why] += frames;
	return 0;
}

#endif
