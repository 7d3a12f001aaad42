/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Express, from pods: who may send a flow's frames, the outer headers that they get, and how what was sent is counted: the same
 * for the classifier on a pod's device and for XDP there.
 */
#ifndef VXGATE_OUTER_H
#define VXGATE_OUTER_H

#include "direct.h"

#define AT_TOS 15
#define AT_TOTAL_LEN 16
#define AT_ID 18
#define AT_IP_CHECK 24
#define AT_UDP_LEN 38
#define AT_UDP_CHECK 40
/* Over IPv6. The lower half of the traffic class, ECN in it, is the upper half of the byte at AT_TOS. */
#define AT6_ECN_SHIFT 4
#define AT6_PAYLOAD_LEN 18
#define AT6_UDP_LEN 58
#define AT6_UDP_CHECK 60

/* The outer identification of the next frame. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} ids SEC(".maps");

/* RFC 6864: different for all packets that may be under way together; no two CPUs give the same ones. */
static __always_inline __u16 next_id(void)
{
	__u32 zero = 0;
	__u32 *next = bpf_map_lookup_elem(&ids, &zero);

	if (!next)
		return 0;
	*next += 1;
	return *next * settings.ids_apart + bpf_get_smp_processor_id();
}

static __always_inline bool same_mac(const __u8 *one, const __u8 *other)
{
	const __u16 *a = (const __u16 *)one, *b = (const __u16 *)other;

	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
}

/* Whether a frame that came by this device is as those which were seen of its flow: UP_REASONS when so. */
static __always_inline enum up_reason judge_sender(const struct ethhdr *eth, const void *end, __u32 ifindex,
						   const struct express_path *path)
{
	if ((const void *)(eth + 1) > end)
		return UP_LENGTH;
	if (path->pod != ifindex || !same_mac(eth->h_source, path->pod_mac) || !same_mac(eth->h_dest, path->gateway_mac))
		return UP_SPOOFED;
	return UP_REASONS;
}

/* The outer UDP checksum. Of an inner one that is unfinished it is right when the device finishes that. */
static __always_inline __be16 udp_checksum(const struct express_path *path, const struct flow_going *going, __u16 udp_len,
					   const struct inner *inner)
{
	__u16 check = ~fold(udp_sum(going, udp_len, inner, inner->ttl - 1));

	if (!(path->checksum & CHECKSUM_SENT))
		return 0;
	return check ? bpf_htons(check) : 0xffff;
}

/* Writes what stands in front of the inner IP header: HEADERS_LEN bytes, over IPv4. */
static __always_inline void write_ipv4(void *headers, const struct express_path *path, const struct flow_going *going,
				       const struct inner *inner)
{
	__u16 tot_len = inner->len + OUTER_LEN - ETH_HLEN;
	__u16 udp_len = tot_len - sizeof(struct iphdr);
	__u8 tos = inner->tos & path->ecn;
	__u16 id = next_id();

	for (int word = 0; word < HEADERS_LEN / 8; word++)
		((__u64 *)headers)[word] = ((const __u64 *)path->headers)[word];
	*(__u8 *)(headers + AT_TOS) = path->headers[AT_TOS] | tos;
	*(__be16 *)(headers + AT_TOTAL_LEN) = bpf_htons(tot_len);
	*(__be16 *)(headers + AT_ID) = bpf_htons(id);
	*(__be16 *)(headers + AT_IP_CHECK) = bpf_htons(~fold(path->ip_sum + tos + tot_len + id));
	*(__be16 *)(headers + AT_SOURCE_PORT) = going->source_port;
	*(__be16 *)(headers + AT_UDP_LEN) = bpf_htons(udp_len);
	*(__be16 *)(headers + AT_UDP_CHECK) = udp_checksum(path, going, udp_len, inner);
}

/* The same over IPv6: HEADERS6_LEN bytes. */
static __always_inline void write_ipv6(void *headers, const struct express_path *path, const struct flow_going *going,
				       const struct inner *inner)
{
	__u16 udp_len = inner->len + OUTER6_LEN - ETH_HLEN - sizeof(struct ipv6hdr);

	for (int word = 0; word < HEADERS6_LEN / 4; word++)
		((__u32 *)headers)[word] = ((const __u32 *)path->headers)[word];
	*(__u8 *)(headers + AT_TOS) = path->headers[AT_TOS] | (inner->tos & path->ecn) << AT6_ECN_SHIFT;
	*(__be16 *)(headers + AT6_PAYLOAD_LEN) = bpf_htons(udp_len);
	*(__be16 *)(headers + AT6_SOURCE_PORT) = going->source_port;
	*(__be16 *)(headers + AT6_UDP_LEN) = bpf_htons(udp_len);
	*(__be16 *)(headers + AT6_UDP_CHECK) = udp_checksum(path, going, udp_len, inner);
}

/* A frame that leaves. */
static __always_inline void count_sent(struct express_flow *flow, const struct express_path *path, const struct inner *inner,
				       struct direct_counts *counts)
{
	struct express_peer *peer = peer_of(path->sent_at);

	flow->out_frames++;
	flow->out_bytes += inner->len;
	if (peer) {
		peer->sent_frames++;
		peer->sent_bytes += inner->len + (is_over_ipv6(path) ? OUTER6_LEN : OUTER_LEN);
		peer->sent_ns = inner->now_ns;
	}
	counts->forwarded++;
	counts->bytes += inner->len;
}

#endif
