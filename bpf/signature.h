/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Which frames are the generators': what finds the signature in a frame, for every program that receives.
 *
 * A frame is copied to memory of the CPU first, so that one in several fragments (9000 bytes) is read as any other.
 * Frames may come plain or in VXLAN: whatever the device under test made of them, the inner packet ends with its signature.
 */
#ifndef VXGATE_SIGNATURE_H
#define VXGATE_SIGNATURE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "loadgen.h"

#define IP_FRAGMENT_OR_OFFSET 0x3fff
#define IPV4_LEN 20
#define IPV6_LEN 40
#define UDP_LEN 8
#define TCP_LEN 20
#define ICMP_LEN 8
#define VXLAN_LEN 8
#define VXLAN_I_FLAG 0x08
#define BLOCK 512 /* what bpf_csum_diff takes at once on every kernel */
#define BLOCKS (FRAME_MAX / BLOCK)

#ifndef IPPROTO_ICMPV6
#define IPPROTO_ICMPV6 58
#endif

/* Set before loading. */
const volatile struct sink_settings settings = { .streams = 1, .expected = 1 };

struct scratch {
	__u8 bytes[FRAME_MAX + BLOCK + 16];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct signature {
	__u32 stream;
	__u32 sequence;
	__u64 intended_ns;
	bool whole;
};

static __always_inline __u16 load16(const struct scratch *from, __u32 at)
{
	return *(const __u16 *)&from->bytes[at];
}

static __always_inline __u32 load32(const struct scratch *from, __u32 at)
{
	return *(const __u32 *)&from->bytes[at];
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u64 sum_of(struct scratch *frame, __u32 from, __u32 end)
{
	__u32 left = (end - from + 3) & ~3U;
	__u32 at = from;
	__s64 sum = 0;

	/* What stands behind the packet is not part of it. */
	*(__u32 *)&frame->bytes[end] = 0;
	for (__u32 i = 0; i < BLOCKS; i++) {
		if (left < BLOCK)
			break;
		sum = bpf_csum_diff(NULL, 0, (__be32 *)&frame->bytes[at], BLOCK, sum);
		at += BLOCK;
		left -= BLOCK;
	}
	if (at > FRAME_MAX)
		return 0;
	left &= BLOCK - 4;
	if (left)
		sum = bpf_csum_diff(NULL, 0, (__be32 *)&frame->bytes[at], left, sum);
	return (__u32)sum;
}

static __always_inline bool to_vxlan(const struct scratch *frame, __u32 udp_at)
{
	__u16 port = load16(frame, udp_at + 2);

	for (__u32 i = 0; i < VXLAN_PORTS_MAX; i++)
		if (settings.vxlan_ports[i] && settings.vxlan_ports[i] == port)
			return frame->bytes[udp_at + UDP_LEN] & VXLAN_I_FLAG;
	return false;
}

/* Where the inner Ethernet header is: at the start of a plain frame. */
static __always_inline __u32 inner_ethernet_at(const struct scratch *frame)
{
	if (load16(frame, 12) == bpf_htons(ETH_P_IP) && frame->bytes[ETH_HLEN] == 0x45 &&
	    frame->bytes[ETH_HLEN + 9] == IPPROTO_UDP && !(load16(frame, ETH_HLEN + 6) & bpf_htons(IP_FRAGMENT_OR_OFFSET)) &&
	    to_vxlan(frame, ETH_HLEN + IPV4_LEN))
		return ETH_HLEN + IPV4_LEN + UDP_LEN + VXLAN_LEN;
	if (load16(frame, 12) == bpf_htons(ETH_P_IPV6) && frame->bytes[ETH_HLEN + 6] == IPPROTO_UDP &&
	    to_vxlan(frame, ETH_HLEN + IPV6_LEN))
		return ETH_HLEN + IPV6_LEN + UDP_LEN + VXLAN_LEN;
	return 0;
}

/* Reads the signature at the end of the inner packet whose Ethernet header is at `at`; false when there is none. Whether the
 * packet is whole is found out on demand only: it takes all of its bytes. */
static __always_inline bool read_signature(struct scratch *frame, __u32 at, __u32 len, bool judges, struct signature *found)
{
	__u32 ip = at + ETH_HLEN;
	__u32 transport, ports, payload, end, signature;
	__u64 sum = (__u64)load16(frame, at) + load16(frame, at + 2) + load16(frame, at + 4);
	__u8 protocol;

	if (load16(frame, at + 12) == bpf_htons(ETH_P_IP)) {
		if (frame->bytes[ip] != 0x45 || load16(frame, ip + 6) & bpf_htons(IP_FRAGMENT_OR_OFFSET))
			return false;
		protocol = frame->bytes[ip + 9];
		end = ip + bpf_ntohs(load16(frame, ip + 2));
		transport = ip + IPV4_LEN;
		for (__u32 i = 0; i < 8; i += 4)
			sum += load32(frame, ip + 12 + i);
	} else if (load16(frame, at + 12) == bpf_htons(ETH_P_IPV6)) {
		protocol = frame->bytes[ip + 6];
		end = ip + IPV6_LEN + bpf_ntohs(load16(frame, ip + 4));
		transport = ip + IPV6_LEN;
		for (__u32 i = 0; i < 32; i += 4)
			sum += load32(frame, ip + 8 + i);
	} else {
		return false;
	}
	ports = transport;
	switch (protocol) {
	case IPPROTO_UDP:
		payload = transport + UDP_LEN;
		break;
	case IPPROTO_TCP:
		payload = transport + TCP_LEN;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		payload = transport + ICMP_LEN;
		ports += 4;
		break;
	default:
		return false;
	}
	if (end > len || end > FRAME_MAX || end < payload + SIGNATURE_LEN)
		return false;
	signature = end - SIGNATURE_LEN;
	if (signature > FRAME_MAX || load16(frame, signature) != bpf_htons(SIGNATURE_MAGIC))
		return false;
	found->stream = bpf_ntohs(load16(frame, signature + 2));
	found->sequence = bpf_ntohl(load32(frame, signature + 4));
	found->intended_ns = (__u64)bpf_ntohs(load16(frame, signature + 10)) << 32 | bpf_ntohl(load32(frame, signature + 12));
	if (!judges)
		return true;

	__u16 check = load16(frame, signature + 8);

	*(__u16 *)&frame->bytes[signature + 8] = 0;
	sum += load32(frame, ports);
	found->whole = fold(sum + sum_of(frame, payload, end)) == check;
	return true;
}

/* Copies a frame and looks for the signature of a known stream; `judges`: and whether the frame is whole. What an earlier
 * frame left behind a short one makes no signature: its length says so. */
static __always_inline bool find_signature(struct xdp_md *ctx, struct scratch *frame, __u32 len, bool judges,
					   struct signature *found)
{
	if (len < ETH_HLEN || len > FRAME_MAX || bpf_xdp_load_bytes(ctx, 0, frame->bytes, len))
		return false;
	return read_signature(frame, inner_ethernet_at(frame), len, judges, found) && found->stream < settings.streams;
}

#endif
