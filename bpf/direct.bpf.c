// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The direct path, at the pods' devices on the host's side and at the NIC.
 *
 *   vxgate_from_pod  tcx ingress on a pod's device:  of a promoted flow       -> encapsulated, to the NIC: express;
 *                                                                              or routed, to the vxlan device: `ring.h`
 *                                                    any other                -> noted, on to the kernel
 *   vxgate_pod_xdp   XDP on a pod's device, where
 *                    the operator wants it:          what is plain (`pod.h`)  -> encapsulated, to the NIC
 *                                                    any other                -> on to `vxgate_from_pod`
 *   vxgate_to_pod    tcx egress on a pod's device:   every frame              -> noted, on to the pod
 *   vxgate_deliver   tcx ingress on the NIC:         what the NIC's program
 *                                                    decapsulated             -> its pod
 *
 * Classifiers, because a pod's device keeps what it has: segmentation offload, checksum offload, any MTU. XDP on it takes
 * the first from the pod, and cannot reach a pod without NAPI (no GRO, no program) at all.
 *
 * What is noted says that the kernel carried a flow, from where, to where, and by which Ethernet addresses. Nothing is noted
 * while the generation is 0: a change of rules is on its way.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "alive.h"
#include "direct.h"
#include "outer.h"
#include "pod.h"
#include "ring.h"
#include "shared.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SIGHTINGS_MIN);
	__type(key, struct flow_key);
	__type(value, struct sighting);
} from_pods SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SIGHTINGS_MIN);
	__type(key, struct flow_key);
	__type(value, struct sighting);
} to_pods SEC(".maps");

/* The start of an inner IP header. */
struct hop {
	__u32 words[HOP_LEN / 4];
};

/* Notes that the kernel carries this flow, unless that is known. */
static __always_inline void note(struct __sk_buff *skb, void *map, const struct inner *inner, __u32 generation, bool from_pod)
{
	struct sighting *known = bpf_map_lookup_elem(map, &inner->key);
	struct ethhdr *eth = (void *)(long)skb->data;
	struct sighting seen = { .generation = generation, .pod = skb->ifindex };

	if (known && known->generation == generation && known->pod == skb->ifindex &&
	    (!inner->key.six || same_ends(&known->ends, &inner->ends)))
		return;
	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return;
	__builtin_memcpy(seen.pod_mac, from_pod ? eth->h_source : eth->h_dest, ETH_ALEN);
	__builtin_memcpy(seen.gateway_mac, from_pod ? eth->h_dest : eth->h_source, ETH_ALEN);
	if (inner->key.six)
		seen.ends = inner->ends;
	bpf_map_update_elem(map, &inner->key, &seen, BPF_ANY);
}

/* Why a frame that was judged does not go express, but as it may in the ring gear; UP_REASONS when it does. */
static __always_inline enum up_reason choose_gear(struct __sk_buff *skb, struct express_flow *flow, __u8 gear,
						  const struct inner *inner)
{
	__u32 now = ticks(inner->now_ns);

	/* The kernel's own device, or a worker, does more for these than this gear could. A flow that has any takes their way with all of
	 * its frames: none is to overtake another. Those in the ring gear do so for good, since it is a while until workers send what they
	 * have. */
	if (skb->gso_size && flow->superframe_at != now)
		flow->superframe_at = now;
	if (skb->gso_size || (gear == GEAR_RING ? flow->superframe_at : lately(flow->superframe_at, now)))
		return UP_SUPERFRAME;
	if (gear == GEAR_RING)
		return UP_RING;
	if ((inner->tos & ECN_MASK) == ECN_CE)
		return UP_ECN;
	return UP_REASONS;
}

static __always_inline bool push_ipv4(struct __sk_buff *skb, const struct express_path *path, const struct flow_going *going,
				      const struct inner *inner, const struct hop *hop)
{
	const __u64 flags = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) |
			    BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
	__u8 headers[HEADERS_LEN + HOP_LEN] __attribute__((aligned(8)));

	if (bpf_skb_adjust_room(skb, OUTER_LEN, BPF_ADJ_ROOM_MAC, flags))
		return false;
	write_ipv4(headers, path, going, inner);
	*(struct hop *)(headers + HEADERS_LEN) = *hop;
	return !bpf_skb_store_bytes(skb, 0, headers, sizeof(headers), 0);
}

static __always_inline bool push_ipv6(struct __sk_buff *skb, const struct express_path *path, const struct flow_going *going,
				      const struct inner *inner, const struct hop *hop)
{
	const __u64 flags = BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) |
			    BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
	__u8 headers[HEADERS6_LEN + HOP_LEN] __attribute__((aligned(8)));

	if (bpf_skb_adjust_room(skb, OUTER6_LEN, BPF_ADJ_ROOM_MAC, flags))
		return false;
	write_ipv6(headers, path, going, inner);
	*(struct hop *)(headers + HEADERS6_LEN) = *hop;
	return !bpf_skb_store_bytes(skb, 0, headers, sizeof(headers), 0);
}

/* Puts the headers of the flow in front of the frame, and makes its TTL one less: both in one write. False when there is no memory
 * for it, and the frame may be anything. */
static __always_inline bool encapsulate(struct __sk_buff *skb, const struct express_path *path, const struct flow_going *going,
					const struct inner *inner)
{
	const void *ip = (void *)(long)skb->data + ETH_HLEN;
	struct hop hop;

	if (ip + sizeof(hop) > (void *)(long)skb->data_end)
		return false;
	copy_halves(&hop, ip, sizeof(hop) / 2);
	write_hop(&hop, inner);
	return is_over_ipv6(path) ? push_ipv6(skb, path, going, inner, &hop) : push_ipv4(skb, path, going, inner, &hop);
}

SEC("tc")
int vxgate_from_pod(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct direct_state *state = bpf_map_lookup_elem(&direct_state, &zero);
	struct inner inner;
	struct direct_counts *counts = counts_of(WAY_OUT);
	const struct express_path *path;
	struct express_flow *flow;
	struct flow_going going;
	enum up_reason why;
	__u32 generation;

	if (!state || !counts)
		return NEXT;
	counts->received++;
	generation = *(volatile __u32 *)&state->generation;
	why = UP_UNSETTLED;
	if (!generation)
		goto up;
	why = read_frame(skb, true, state, &inner);
	if (why != UP_REASONS)
		goto up;
	flow = find_flow(&inner, state, FLOW_OUT, &going);
	why = UP_NO_FLOW;
	if (!flow) {
		note(skb, &from_pods, &inner, generation, true);
		goto up;
	}
	path = path_of(&going);
	if (!path)
		goto up;
	why = UP_NOT_ALIVE;
	inner.now_ns = bpf_ktime_get_coarse_ns();
	if (bypassed() || !all_fresh(inner.now_ns) || !listened(state, inner.now_ns))
		goto up;
	why = judge_sender((void *)(long)skb->data, (void *)(long)skb->data_end, skb->ifindex, path);
	if (why != UP_REASONS)
		goto up;
	why = judge_frame(flow, &inner, &flow->shown_out);
	if (why != UP_REASONS) {
		if (why == UP_SHOWN && path->as_kernel)
			show_to_kernel(skb);
		goto up;
	}
	why = choose_gear(skb, flow, going.gear, &inner);
	if (why != UP_REASONS) {
		counts->up[why]++;
		return send_to_device(skb, flow, path, &inner, why == UP_SUPERFRAME && path->as_kernel);
	}
	why = UP_OVERSIZE;
	if (inner.len > path->frame_max)
		goto up;
	if (!encapsulate(skb, path, &going, &inner)) {
		counts->lost++;
		return TC_ACT_SHOT;
	}
	count_sent(flow, path, &inner, counts);
	return bpf_redirect(path->nic, 0);
up:
	counts->up[why]++;
	return NEXT;
}

SEC("xdp.frags")
int vxgate_pod_xdp(struct xdp_md *ctx)
{
	return take_from_pod(ctx);
}

SEC("tc")
int vxgate_to_pod(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct direct_state *state = bpf_map_lookup_elem(&direct_state, &zero);
	struct express_flow *flow;
	struct flow_going going;
	struct inner inner;
	__u32 generation;

	if (!state)
		return NEXT;
	generation = *(volatile __u32 *)&state->generation;
	/* A superframe's lengths are those of all its segments together, as they have to be here. */
	if (!generation || read_frame(skb, false, state, &inner) != UP_REASONS)
		return NEXT;
	flow = find_flow(&inner, state, FLOW_IN, &going);
	if (!flow)
		note(skb, &to_pods, &inner, generation, false);
	/* It came by another way than the flow goes, or the node itself has said it. */
	else if (begins_or_ends(&inner))
		demote(flow);
	return NEXT;
}

SEC("tc")
int vxgate_deliver(struct __sk_buff *skb)
{
	struct handover *handover = (void *)(long)skb->data_meta;
	__u32 pod;

	if ((void *)(handover + 1) > (void *)(long)skb->data || handover->magic != HANDOVER_MAGIC)
		return NEXT;
	pod = handover->pod;
	/* GRO may have joined several. */
	count_delivered(skb->gso_segs > 1 ? skb->gso_segs : 1, skb->len);
	return bpf_redirect(pod, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
