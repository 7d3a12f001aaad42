/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Express, from the wire: the program on the NIC takes the outer headers off and does what the node's routing and bridge
 * would do.
 *
 * Where the pod's device takes frames from programs (its other end has NAPI: GRO is on, or a program there), the frame goes
 * straight to it. A pod is not obliged to have that, and most have not. For those the frame goes up the NIC's own receive path,
 * where GRO joins TCP's segments as if no tunnel had been, and the classifier behind it (`vxgate_deliver` in `direct.bpf.c`)
 * brings it to its pod. Which one that is stands in front of the frame, where nobody but a program on the NIC can write. Should
 * the classifier be gone by then, the kernel drops the frame: it is for another Ethernet address than the NIC's.
 */
#ifndef VXGATE_EXPRESS_H
#define VXGATE_EXPRESS_H

#include "direct.h"
#include "ring.h"

static __always_inline bool outer_check_holds(const struct iphdr *ip)
{
	const __u32 *words = (const __u32 *)ip;
	__u64 sum = 0;

	for (int word = 0; word < 5; word++)
		sum += words[word];
	sum = (sum & 0xffffffff) + (sum >> 32);
	return fold((__u32)sum + (__u32)(sum >> 32)) == 0xffff;
}

/* RFC 6040 §4.2: the inner bits stay as they are in these cells. */
static __always_inline bool ecn_stays(__u8 outer, const struct inner *inner)
{
	return !outer || (outer != ECN_CE && outer == (inner->tos & ECN_MASK));
}

/* Whether the outer headers are those that the flow's far end sends: UP_REASONS when so. */
static __always_inline enum up_reason judge_ipv4(const struct express_path *path, const struct iphdr *ip, __u32 len,
						 const struct inner *inner)
{
	const struct udphdr *udp = (const void *)(ip + 1);
	const __u8 *vxlan = (const void *)(udp + 1);
	const __u8 *eth = vxlan + 8;

	if (bpf_ntohs(ip->tot_len) + ETH_HLEN != len || bpf_ntohs(udp->len) + ETH_HLEN + sizeof(*ip) != len)
		return UP_LENGTH;
	if (is_over_ipv6(path) || ip->saddr != *(const __be32 *)(path->headers + AT_DESTINATION) ||
	    ip->daddr != *(const __be32 *)(path->headers + AT_SOURCE) || !outer_check_holds(ip) ||
	    udp->dest != *(const __be16 *)(path->headers + AT_PORT) ||
	    *(const __u32 *)vxlan != *(const __u32 *)(path->headers + AT_VXLAN) ||
	    *(const __u32 *)(vxlan + 4) != *(const __u32 *)(path->headers + AT_VXLAN + 4))
		return UP_SPOOFED;
	/* Between the two vxlan devices' own addresses: what was routed on both sides. */
	for (int half = 0; half < 3; half++)
		if (((const __u16 *)eth)[half] != ((const __u16 *)(path->headers + AT_INNER))[half + 3] ||
		    ((const __u16 *)eth)[half + 3] != ((const __u16 *)(path->headers + AT_INNER))[half])
			return UP_SPOOFED;
	return ecn_stays(ip->tos & ECN_MASK, inner) ? UP_REASONS : UP_ECN;
}

/* The same over IPv6. That there are no extension headers is known. */
static __always_inline enum up_reason judge_ipv6(const struct express_path *path, const struct ipv6hdr *ip, __u32 len,
						 const struct inner *inner)
{
	const struct udphdr *udp = (const void *)(ip + 1);
	const __u16 *vxlan = (const void *)(udp + 1);
	const __u16 *eth = vxlan + 4;
	const __u16 *expected = (const __u16 *)(path->headers + AT6_VXLAN); /* and behind it the inner addresses */
	const __be32 *source = (const __be32 *)(path->headers + AT6_SOURCE);
	const __be32 *destination = (const __be32 *)(path->headers + AT6_DESTINATION);

	if (bpf_ntohs(ip->payload_len) + ETH_HLEN + sizeof(*ip) != len || bpf_ntohs(udp->len) + ETH_HLEN + sizeof(*ip) != len)
		return UP_LENGTH;
	/* Whether that is allowed, a worker knows (RFC 6935 §5). */
	if (!udp->check)
		return UP_CHECKSUM;
	if (!is_over_ipv6(path) || udp->dest != *(const __be16 *)(path->headers + AT6_PORT) || vxlan[0] != expected[0])
		return UP_SPOOFED;
	for (int word = 0; word < 4; word++)
		if (ip->saddr.in6_u.u6_addr32[word] != destination[word] || ip->daddr.in6_u.u6_addr32[word] != source[word])
			return UP_SPOOFED;
	for (int half = 0; half < 3; half++)
		if (vxlan[half + 1] != expected[half + 1] || eth[half] != expected[half + 7] || eth[half + 3] != expected[half + 4])
			return UP_SPOOFED;
	return ecn_stays(bpf_ntohl(*(const __be32 *)ip) >> 20 & ECN_MASK, inner) ? UP_REASONS : UP_ECN;
}

/* Whether the outer UDP checksum, if there is one, is right, and with it the inner ones: else a worker has a look. The far end
 * chooses its source port itself; all else is as in the other direction. */
static __always_inline bool udp_check_holds(const struct flow_going *going, void *data, void *end, bool six,
					    const struct inner *inner)
{
	const struct udphdr *udp = data + ETH_HLEN + (six ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));

	if ((void *)(udp + 1) > end)
		return false;
	if (!udp->check)
		return true;
	return fold(udp_sum(going, bpf_ntohs(udp->len), inner, inner->ttl) + (__u16)~bpf_ntohs(going->source_port) +
		    bpf_ntohs(udp->source) + bpf_ntohs(udp->check)) == 0xffff;
}

/* Has the ring gear leave the flow to the kernel while this frame may be with a worker. */
static __always_inline void note_foreign(const struct express_flow *flow, __u64 now_ns)
{
	struct ring_flow *ring = ring_of(flow);

	if (ring)
		ring->foreign_ns = now_ns;
}

/* Makes the frame one that the pod is sent by its gateway; false when it is shorter than it was before, which it is not. */
static __always_inline bool route(struct xdp_md *ctx, const struct express_path *path, const struct inner *inner)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	void *ip = eth + 1;

	/* A hop limit is within that, too. */
	if (ip + sizeof(struct iphdr) > (void *)(long)ctx->data_end)
		return false;
	copy_halves(eth->h_dest, path->pod_mac, ETH_ALEN / 2);
	copy_halves(eth->h_source, path->gateway_mac, ETH_ALEN / 2);
	write_hop(ip, inner);
	return true;
}

/* Takes the outer headers off, and sends the frame on its way. XDP_ABORTED, and the frame as it was, when there is no room for
 * what the classifier is told. */
static __always_inline int hand_over(struct xdp_md *ctx, const struct express_path *path, const struct inner *inner, int outer_len)
{
	struct handover *handover;

	if (path->by_xdp) {
		if (bpf_xdp_adjust_head(ctx, outer_len))
			return XDP_ABORTED;
		if (!route(ctx, path, inner))
			return XDP_DROP;
		count_delivered(1, inner->len);
		return bpf_redirect(path->pod, 0);
	}
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*handover)))
		return XDP_ABORTED;
	if (bpf_xdp_adjust_head(ctx, outer_len)) {
		bpf_xdp_adjust_meta(ctx, sizeof(*handover));
		return XDP_ABORTED;
	}
	handover = (void *)(long)ctx->data_meta;
	if ((void *)(handover + 1) > (void *)(long)ctx->data || !route(ctx, path, inner))
		return XDP_DROP;
	handover->magic = HANDOVER_MAGIC;
	handover->pod = path->pod;
	return XDP_PASS;
}

/* Whether a frame is to the NIC's own address and has nothing but an IP header, over IPv6 (`six`) or IPv4, in front of one of UDP:
 * as many bytes are there. */
static __always_inline bool is_plain_outer(const struct ethhdr *eth, bool six)
{
	const struct iphdr *ip = (const void *)(eth + 1);
	const struct ipv6hdr *ip6 = (const void *)(eth + 1);
	const __u16 *destination = (const __u16 *)eth->h_dest;

	if (destination[0] != settings.mac[0] || destination[1] != settings.mac[1] || destination[2] != settings.mac[2])
		return false;
	if (six)
		return eth->h_proto == bpf_htons(ETH_P_IPV6) && ip6->version == 6 && ip6->nexthdr == IPPROTO_UDP;
	return eth->h_proto == bpf_htons(ETH_P_IP) && *(const __u8 *)ip == PLAIN_VERSION_IHL && ip->protocol == IPPROTO_UDP &&
	       !(ip->frag_off & bpf_htons(0xffff & ~IP_DONT_FRAGMENT));
}

/* A frame that is VXLAN for us, and was not taken. */
static __always_inline void count_up(enum up_reason why)
{
	struct direct_counts *counts = why < UP_REASONS ? counts_of(WAY_IN) : NULL;

	if (counts) {
		counts->up[why]++;
		counts->received++;
	}
}

/* Takes a frame over IPv6 (`six`) or IPv4, if it is one of a promoted flow and as all others of it, and tells its length without
 * outer headers. XDP_ABORTED, and why, when it is not: nobody knows yet whether it is ours. */
static __always_inline int take_from(struct xdp_md *ctx, bool six, __u64 now_ns, __u32 *inner_len, enum up_reason *told)
{
	const int outer_len = six ? OUTER6_LEN : OUTER_LEN;
	__u32 zero = 0;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct direct_state *state = bpf_map_lookup_elem(&direct_state, &zero);
	__u32 len = end - data;
	struct inner inner;
	struct direct_counts *counts = counts_of(WAY_IN);
	const struct express_path *path;
	struct express_flow *flow;
	struct flow_going going;
	struct express_peer *peer;
	enum up_reason why;
	int verdict;

	if (!state || !counts)
		return XDP_ABORTED;
	why = UP_UNSETTLED;
	if (!state->generation)
		goto up;
	if (data + outer_len + ETH_HLEN + sizeof(struct iphdr) + sizeof(struct udphdr) > end || !is_plain_outer(data, six)) {
		why = UP_OTHER_PROTOCOL;
		goto up;
	}
	why = read_inner(data + outer_len, end, len - outer_len, false, state, &inner);
	if (why != UP_REASONS)
		goto up;
	flow = find_flow(&inner, state, FLOW_IN, &going);
	why = UP_NO_FLOW;
	if (!flow)
		goto up;
	path = path_of(&going);
	if (!path)
		goto up;
	why = UP_NOT_ALIVE;
	inner.now_ns = now_ns;
	if (!listened(state, inner.now_ns))
		goto up;
	why = six ? judge_ipv6(path, data + ETH_HLEN, len, &inner) : judge_ipv4(path, data + ETH_HLEN, len, &inner);
	/* What further buffers hold nobody has looked at, and the kernel would cut it off. */
	if (why == UP_REASONS && bpf_xdp_get_buff_len(ctx) != len)
		why = UP_LENGTH;
	/* A group's address is no VTEP's, and a frame that came in by another NIC is not routed as this flow was. */
	if (why == UP_REASONS && path->nic != ctx->ingress_ifindex)
		why = UP_SPOOFED;
	if (why != UP_REASONS) {
		if (why != UP_ECN)
			note_foreign(flow, inner.now_ns);
		goto up;
	}
	/* The ring gear judges it behind the worker that gets it now. Joined frames count as one here, and what says of them that they
	 * are tunnelled no program can take away with the outer headers. */
	why = UP_RING;
	if (going.gear == GEAR_RING || path->joined)
		goto up;
	why = judge_frame(flow, &inner, &flow->shown_in);
	if (why != UP_REASONS)
		goto up;
	why = UP_OVERSIZE;
	if (inner.len > path->deliver_max)
		goto up;
	why = UP_CHECKSUM;
	if (path->checksum & CHECKSUM_VERIFIED && !udp_check_holds(&going, data, end, six, &inner))
		goto up;
	why = UP_NO_ROOM;
	verdict = hand_over(ctx, path, &inner, outer_len);
	if (verdict == XDP_ABORTED)
		goto up;
	counts->received++;
	if (verdict == XDP_DROP) {
		counts->lost++;
		return verdict;
	}
	flow->in_frames++;
	flow->in_bytes += inner.len;
	peer = peer_of(path->received_at);
	if (peer) {
		peer->received_frames++;
		peer->received_bytes += inner.len;
		peer->received_ns = inner.now_ns;
	}
	counts->forwarded++;
	counts->bytes += inner.len;
	*inner_len = inner.len;
	return verdict;
up:
	*told = why;
	return XDP_ABORTED;
}

static __always_inline int take_express(struct xdp_md *ctx, __u64 now_ns, __u32 *inner_len, enum up_reason *told)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return take_from(ctx, true, now_ns, inner_len, told);
	return take_from(ctx, false, now_ns, inner_len, told);
}

#endif
