// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The far end of the wire: which generated frames arrived, how often, in what order, whole or not, and how late.
 *
 *   vxgate_sink  XDP on the receiving device:  a frame with a signature of a known stream -> counted and dropped;
 *                                              any other                                  -> counted, left to the kernel
 *
 * A frame is copied to memory of the CPU first, so that one in several fragments (9000 bytes) is read as any other.
 * Frames may come plain or in VXLAN: whatever the device under test made of them, the inner packet ends with its signature.
 */
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
#define RETRIES 8

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

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STREAMS_MAX);
	__type(key, __u32);
	__type(value, struct stream_counts);
} by_stream SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sink_counts);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STREAMS_MAX);
	__type(key, __u32);
	__type(value, struct stream_progress);
} progress SEC(".maps");

/* As many entries as `streams` need are made before loading. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STREAM_CHUNKS);
	__type(key, __u32);
	__type(value, struct chunk);
} chunks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OCTAVES);
	__type(key, __u32);
	__type(value, struct octave);
} latencies SEC(".maps");

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

/* Reads the signature at the end of the inner packet whose Ethernet header is at `at`; false when there is none. */
static __always_inline bool read_signature(struct scratch *frame, __u32 at, __u32 len, struct signature *found)
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

	__u16 check = load16(frame, signature + 8);

	*(__u16 *)&frame->bytes[signature + 8] = 0;
	sum += load32(frame, ports);
	found->whole = fold(sum + sum_of(frame, payload, end)) == check;
	return true;
}

/* The full sequence number nearest to what was seen last. */
static __always_inline __u64 extend(__u64 next, __u32 low)
{
	__u64 full = next + (__s32)(low - (__u32)next);

	return (__s64)full < 0 ? low : full;
}

/* Whether this one came behind a later one. */
static __always_inline bool is_reordered(struct stream_progress *stream, __u64 sequence)
{
	for (__u32 i = 0; i < RETRIES; i++) {
		__u64 next = *(volatile __u64 *)&stream->next;

		if (sequence < next)
			return true;
		if (__sync_val_compare_and_swap(&stream->next, next, sequence + 1) == next)
			return false;
	}
	return false;
}

static __always_inline void note_arrival(struct stream_progress *stream, __u64 now_ns)
{
	__u64 last_ns = stream->last_ns;

	if (last_ns && now_ns > last_ns && now_ns - last_ns > stream->gap_max_ns)
		stream->gap_max_ns = now_ns - last_ns;
	stream->last_ns = now_ns;
}

/* The position of the highest bit that is set, of a value that has one. */
static __always_inline __u32 log2_of(__u64 value)
{
	__u32 bits = 0;

	if (value >> 32) {
		bits += 32;
		value >>= 32;
	}
	if (value >> 16) {
		bits += 16;
		value >>= 16;
	}
	if (value >> 8) {
		bits += 8;
		value >>= 8;
	}
	if (value >> 4) {
		bits += 4;
		value >>= 4;
	}
	if (value >> 2) {
		bits += 2;
		value >>= 2;
	}
	return bits + (value >> 1 ? 1 : 0);
}

static __always_inline void note_latency(struct sink_counts *here, __u64 now_ns, __u64 intended_ns)
{
	__u64 latency_ns = (now_ns - intended_ns) & ((1ULL << SIGNATURE_TIME_BITS) - 1);
	__u64 step;
	__u32 key = 0;

	/* Intended for the future: the two ends do not share a clock that well. */
	if (latency_ns >> (SIGNATURE_TIME_BITS - 1))
		latency_ns = 0;
	if (!here->latency_count++ || latency_ns < here->latency_min_ns)
		here->latency_min_ns = latency_ns;
	if (latency_ns > here->latency_max_ns)
		here->latency_max_ns = latency_ns;
	if (latency_ns > LATENCY_MAX_NS)
		latency_ns = LATENCY_MAX_NS;
	step = latency_ns;
	if (latency_ns >= OCTAVE_STEPS) {
		key = log2_of(latency_ns) - 6;
		step >>= key - 1;
	}

	struct octave *octave = bpf_map_lookup_elem(&latencies, &key);

	if (octave)
		octave->count[step & (OCTAVE_STEPS - 1)]++;
}

static __always_inline void note_frame(struct stream_counts *counts, struct sink_counts *here,
				       const struct signature *found, __u32 len)
{
	__u64 now_ns = bpf_ktime_get_ns();
	__u32 stream = found->stream;
	struct stream_progress *known = bpf_map_lookup_elem(&progress, &stream);

	if (!known)
		return;

	__u64 sequence = extend(*(volatile __u64 *)&known->next, found->sequence);
	__u32 key = stream * STREAM_CHUNKS + ((sequence / CHUNK_SLOTS) & (STREAM_CHUNKS - 1));
	__u32 lap = (__u32)(sequence / CHUNK_SLOTS / STREAM_CHUNKS) + 1;
	struct chunk *chunk = bpf_map_lookup_elem(&chunks, &key);

	if (!chunk)
		return;
	if (__sync_lock_test_and_set(&chunk->slot[sequence & (CHUNK_SLOTS - 1)], lap) == lap) {
		counts->duplicated++;
		return;
	}
	counts->frames++;
	counts->bytes += len;
	if (is_reordered(known, sequence))
		counts->reordered++;
	note_arrival(known, now_ns);
	note_latency(here, now_ns, found->intended_ns);
	if (!here->first_ns)
		here->first_ns = now_ns;
	here->last_ns = now_ns;
}

SEC("xdp.frags")
int vxgate_sink(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct sink_counts *here = bpf_map_lookup_elem(&totals, &zero);
	struct scratch *frame = bpf_map_lookup_elem(&scratches, &zero);
	__u32 len = bpf_xdp_get_buff_len(ctx);
	struct signature found = {};

	if (!here || !frame)
		return XDP_PASS;
	if (len < ETH_HLEN || len > FRAME_MAX || bpf_xdp_load_bytes(ctx, 0, frame->bytes, len)) {
		here->foreign++;
		return XDP_PASS;
	}
	/* Of a frame shorter than headers, the rest is what an earlier one left: its length says that there is no signature. */
	if (!read_signature(frame, inner_ethernet_at(frame), len, &found) || found.stream >= settings.streams) {
		here->foreign++;
		return XDP_PASS;
	}

	struct stream_counts *counts = bpf_map_lookup_elem(&by_stream, &found.stream);

	if (!counts)
		return XDP_PASS;
	if (!found.whole)
		counts->corrupted++;
	else if (found.stream >= 32 || !(settings.expected & (1U << (found.stream & 31))))
		counts->misdelivered++;
	else
		note_frame(counts, here, &found, len);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
