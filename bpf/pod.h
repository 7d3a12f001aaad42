/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Express from pods by XDP, which forwards a frame in half the time that a classifier takes, and costs the pod its segmentation
 * offload: where the operator wants it (`pod_programs = "xdp"`).
 *
 * It takes what is plain. All else it leaves as it is to the classifier behind it, which counts it and does with it what it does
 * without XDP: nothing is counted here but what is forwarded, and nothing is noted.
 *
 * XDP is not told whether a checksum is finished. What sockets of the pod send has the sum of the pseudo-header in its place, to be
 * finished by a device; that is never plain. A tunnel of the pod's own may have its outer UDP checksum finished and the inner one
 * not: the outer is then made for the finished inner one. So one of UDP has to be right as the datagram stands. TCP carries no
 * tunnel.
 *
 * A tag that stands beside a frame it does not see either. A pod's frames that have one go on without when they are of a promoted
 * flow in everything else, Ethernet addresses too: the pod could have sent them so.
 */
#ifndef VXGATE_POD_H
#define VXGATE_POD_H

#include "alive.h"
#include "direct.h"
#include "outer.h"

/* Longer datagrams are the classifier's. */
#define DATAGRAM_MAX 4096
#define TCP_CHECK_AT 16
#define UDP_CHECK_AT 6

/* A datagram, and the zeroes up to a multiple of four. */
struct datagram {
	__u8 bytes[DATAGRAM_MAX + 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct datagram);
} datagrams SEC(".maps");

/* The pseudo-header's sum, as on the wire. */
static __always_inline __u16 pseudo_sum(const struct inner *inner)
{
	__u32 sum = bpf_htons(inner->l4_len) + bpf_htons(inner->key.protocol);

	if (!inner->key.six)
		return fold(sum + (inner->key.local & 0xffff) + (inner->key.local >> 16) + (inner->key.remote & 0xffff) +
			    (inner->key.remote >> 16));
	for (int word = 0; word < 4; word++)
		sum += (inner->ends.local[word] & 0xffff) + (inner->ends.local[word] >> 16) + (inner->ends.remote[word] & 0xffff) +
		       (inner->ends.remote[word] >> 16);
	return fold(sum);
}

/* Whether a datagram that begins at `at` adds up with its pseudo-header. */
static __always_inline bool adds_up(struct xdp_md *ctx, __u32 at, __u64 len, __u16 pseudo)
{
	__u32 zero = 0;
	struct datagram *datagram = bpf_map_lookup_elem(&datagrams, &zero);

	/* Left alone, compilers make one comparison of these two, of a copy from which the least is taken: Linux 6.12 learns nothing
	 * of `len` by that, and refuses the program. */
	barrier_var(len);
	if (!datagram || len < sizeof(struct udphdr))
		return false;
	barrier_var(len);
	if (len > DATAGRAM_MAX)
		return false;
	if (bpf_xdp_load_bytes(ctx, at, datagram->bytes, len))
		return false;
	*(__u32 *)(datagram->bytes + len) = 0;
	return fold(bpf_csum_diff(NULL, 0, (void *)datagram->bytes, (len + 3) & ~3u, pseudo)) == 0xffff;
}

/* Whether the checksum of a frame that was read is finished. One that is, and happens to be the pseudo-header's sum, passes for
 * unfinished: 1 in 65,536. */
static __always_inline bool is_finished(struct xdp_md *ctx, const struct inner *inner)
{
	__u32 at = ETH_HLEN + (inner->key.six ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	bool tcp = inner->key.protocol == IPPROTO_TCP;
	__u16 *check = (void *)(long)ctx->data + at + (tcp ? TCP_CHECK_AT : UDP_CHECK_AT);
	__u16 pseudo = pseudo_sum(inner);

	/* The two forms of zero are one. */
	if ((void *)(check + 1) > (void *)(long)ctx->data_end || fold(pseudo + (__u16)~*check) == 0xffff)
		return false;
	return tcp || adds_up(ctx, at, inner->l4_len, pseudo);
}

/* Whether the classifier would send this frame of a flow to the NIC, and do nothing else. */
static __always_inline bool is_plain(const struct express_flow *flow, const struct express_path *path,
				     const struct flow_going *going, const struct inner *inner)
{
	__u32 now = ticks(inner->now_ns);

	return !begins_or_ends(inner) && inner->ttl > 1 && !is_to_be_shown(flow->shown_out, now) && going->gear != GEAR_RING &&
	       !lately(flow->superframe_at, now) && (inner->tos & ECN_MASK) != ECN_CE && inner->len <= path->frame_max;
}

/* Writes the headers of the flow in front of the frame, where room was made for them, and makes its TTL one less; false when it is
 * shorter than it was before, which it is not. */
static __always_inline bool write_outer(struct xdp_md *ctx, const struct express_path *path, const struct flow_going *going,
					const struct inner *inner)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (is_over_ipv6(path)) {
		if (data + HEADERS6_LEN + HOP_LEN > end)
			return false;
		write_ipv6(data, path, going, inner);
		write_hop(data + HEADERS6_LEN, inner);
		return true;
	}
	if (data + HEADERS_LEN + HOP_LEN > end)
		return false;
	write_ipv4(data, path, going, inner);
	write_hop(data + HEADERS_LEN, inner);
	return true;
}

static __always_inline int take_from_pod(struct xdp_md *ctx)
{
	__u32 zero = 0;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct direct_state *state = bpf_map_lookup_elem(&direct_state, &zero);
	struct direct_counts *counts = counts_of(WAY_OUT);
	__u32 len = end - data;
	const struct express_path *path;
	struct express_flow *flow;
	struct flow_going going;
	struct inner inner;

	if (!state || !counts || !*(volatile __u32 *)&state->generation)
		return XDP_PASS;
	/* A frame of several buffers is long, and none that this is for. */
	if (bpf_xdp_get_buff_len(ctx) != len || read_inner(data, end, len, true, state, &inner) != UP_REASONS)
		return XDP_PASS;
	flow = find_flow(&inner, state, FLOW_OUT, &going);
	path = flow ? path_of(&going) : NULL;
	if (!flow || !path || !path->nic_by_xdp)
		return XDP_PASS;
	inner.now_ns = bpf_ktime_get_coarse_ns();
	if (bypassed() || !all_fresh(inner.now_ns) || !listened(state, inner.now_ns))
		return XDP_PASS;
	if (judge_sender(data, end, ctx->ingress_ifindex, path) != UP_REASONS || !is_plain(flow, path, &going, &inner) ||
	    !is_finished(ctx, &inner))
		return XDP_PASS;
	/* Where there is no room in front of it, there is behind XDP. */
	if (bpf_xdp_adjust_head(ctx, is_over_ipv6(path) ? -OUTER6_LEN : -OUTER_LEN))
		return XDP_PASS;
	counts->received++;
	if (!write_outer(ctx, path, &going, &inner)) {
		counts->lost++;
		return XDP_DROP;
	}
	counts->by_xdp++;
	count_sent(flow, path, &inner, counts);
	return bpf_redirect(path->nic, 0);
}

#endif
