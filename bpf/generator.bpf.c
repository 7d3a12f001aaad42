// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The near end of the wire: one generated frame, or none because it is not yet time.
 *
 *   vxgate_generator  run by BPF_PROG_TEST_RUN with live frames, over and over: each call has a blank frame, and either
 *                     makes the next one of the load of it and sends it, or gives it back
 *
 * The kernel recycles frames with all that the receiver wrote into them. So each one starts shorter than any header, grows
 * to its length (the kernel clears what it adds), and gets all its headers anew.
 *
 * A frame carries the time at which it was meant to leave, not that at which it left: when this program is late, or the
 * device stalls it, the frames' latency says so.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "loadgen.h"

#define IPV4_LEN 20
#define IPV6_LEN 40
#define IPV4_LENGTH_AT 2
#define IPV6_LENGTH_AT 4
#define IPV4_CHECKSUM_AT 10
#define UDP_LENGTH_AT 4
#define UDP_CHECKSUM_AT 6
#define HEADERS_MIN 42
#define LEN_MASK 0x3fff
#define FRACTION_BITS 16

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct generator_run);
} runs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STREAMS_MAX);
	__type(key, __u32);
	__type(value, struct generator_stream);
} streams SEC(".maps");

/* Which stream's turn it is, in the proportion of their shares; as many as needed. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} turns SEC(".maps");

/* Lengths of frames, all streams' one behind another, in the proportion of their weights. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sizes SEC(".maps");

/* All streams' flows, one behind another. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct generator_flow);
} flows SEC(".maps");

/* A frame that is being made. */
struct frame {
	void *data;
	void *end;
	__u16 grown; /* bytes of payload */
};

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u16 *word(const struct frame *frame, __u32 at)
{
	__u16 *found = frame->data + (at & 0xff);

	return (void *)(found + 1) > frame->end ? NULL : found;
}

static __always_inline bool grow_length(const struct frame *frame, __u32 at)
{
	__u16 *length = word(frame, at);

	if (!length)
		return false;
	*length = bpf_htons(bpf_ntohs(*length) + frame->grown);
	return true;
}

/* RFC 1624: what is added to the bytes is added to the sum. In UDP, 0 would say that there is none. */
static __always_inline bool grow_checksum(const struct frame *frame, __u32 at, __u32 added, bool udp)
{
	__u16 *checksum = word(frame, at);
	__u16 sum;

	if (!checksum)
		return false;
	sum = ~fold((__u16)~*checksum + added);
	*checksum = udp && !sum ? 0xffff : sum;
	return true;
}

static __always_inline bool grow_ip(const struct frame *frame, __u32 at, __u8 family)
{
	if (family == 4)
		return grow_length(frame, at + IPV4_LENGTH_AT) &&
		       grow_checksum(frame, at + IPV4_CHECKSUM_AT, bpf_htons(frame->grown), false);
	return grow_length(frame, at + IPV6_LENGTH_AT);
}

static __always_inline bool grow_outer(const struct frame *frame, const struct generator_stream *stream)
{
	__u32 udp = ETH_HLEN + (stream->outer_family == 4 ? IPV4_LEN : IPV6_LEN);
	__u16 *checksum = word(frame, udp + UDP_CHECKSUM_AT);

	if (!grow_ip(frame, ETH_HLEN, stream->outer_family) || !grow_length(frame, udp + UDP_LENGTH_AT) || !checksum)
		return false;
	return !*checksum || grow_checksum(frame, udp + UDP_CHECKSUM_AT,
					   (__u32)bpf_htons(frame->grown) * stream->outer_udp_times, true);
}

/* Writes the signature of the last bytes; the sum of the payload as it stands in the frame. */
static __always_inline bool sign(const struct frame *frame, const struct generator_stream *stream, __u16 header_check,
				 __u64 intended_ns, __u32 *payload_sum)
{
	__u16 *at = frame->data + ((stream->header_len + frame->grown - SIGNATURE_LEN) & LEN_MASK);
	bool odd = frame->grown & 1;
	__u16 id = bpf_htons(stream->id);
	__u32 sequence = bpf_htonl(stream->sequence);
	__u16 time_high = bpf_htons(intended_ns >> 32);
	__u32 time_low = bpf_htonl(intended_ns);
	__u16 sum, check;

	if ((void *)at + SIGNATURE_LEN > frame->end)
		return false;
	at[0] = bpf_htons(SIGNATURE_MAGIC);
	at[1] = id;
	*(__u32 *)&at[2] = sequence;
	at[5] = time_high;
	*(__u32 *)&at[6] = time_low;
	sum = fold(fold(sequence) + fold(time_low) + bpf_htons(SIGNATURE_MAGIC) + id + time_high);
	/* Behind an odd number of zeros, the bytes of a word change places in the sum. */
	if (odd)
		sum = __builtin_bswap16(sum);
	check = fold((__u32)header_check + sum);
	at[4] = check;
	*payload_sum = (__u32)sum + (odd ? __builtin_bswap16(check) : check);
	return true;
}

/* Makes the frame; false when there is no room. */
static __always_inline bool make(struct xdp_md *ctx, struct generator_stream *stream, struct generator_flow *flow,
				 __u32 len, __u64 intended_ns)
{
	__u32 blank = bpf_xdp_get_buff_len(ctx);
	__u32 header_len = stream->header_len;
	__u32 inner_ip = stream->inner_at + ETH_HLEN;
	struct frame frame;
	__u32 payload_sum;

	if (header_len < HEADERS_MIN || header_len > HEADERS_MAX || len < header_len + SIGNATURE_LEN || len > LEN_MASK)
		return false;
	if (bpf_xdp_adjust_tail(ctx, (int)(len - blank)) || bpf_xdp_store_bytes(ctx, 0, flow->headers, header_len))
		return false;
	frame.data = (void *)(long)ctx->data;
	frame.end = (void *)(long)ctx->data_end;
	frame.grown = len - header_len;
	if (!sign(&frame, stream, flow->check, intended_ns, &payload_sum) ||
	    !grow_ip(&frame, inner_ip, stream->inner_family))
		return false;
	if (stream->udp && !grow_length(&frame, stream->transport_at + UDP_LENGTH_AT))
		return false;
	if (!grow_checksum(&frame, stream->transport_at + stream->checksum_at,
			   payload_sum + (__u32)bpf_htons(frame.grown) * stream->transport_times, stream->udp))
		return false;
	return !stream->outer_family || grow_outer(&frame, stream);
}

static __always_inline void advance(struct generator_stream *stream)
{
	stream->sequence++;
	if (++stream->size >= stream->size_count)
		stream->size = 0;
	if (++stream->flow >= stream->flow_count)
		stream->flow = 0;
	/* Where both lists would start together again, a flow is left out, so that none keeps the same sizes for ever. */
	if (stream->period && !--stream->period_left) {
		stream->period_left = stream->period;
		if (++stream->flow >= stream->flow_count)
			stream->flow = 0;
	}
}

static __always_inline bool end(struct generator_run *run, __u64 now_ns)
{
	run->end_ns = now_ns;
	run->done = 1;
	return false;
}

/* Takes the next intended time when it has come: false when not, or when the run is over. */
static __always_inline bool begin_burst(struct generator_run *run)
{
	__u64 now_ns = bpf_ktime_get_ns();
	__u64 now_q16;

	if (!run->start_ns)
		run->start_ns = now_ns;
	now_q16 = (now_ns - run->start_ns) << FRACTION_BITS;
	if (!run->interval_q16) {
		/* As fast as it goes, for as long as `next_q16` says. */
		if (now_q16 >= run->next_q16)
			return end(run, now_ns);
		run->burst_at_ns = now_ns;
		return true;
	}
	if (now_q16 < run->next_q16)
		return false;
	if (!run->left)
		return end(run, now_ns);
	if (now_q16 - run->next_q16 > run->resync_q16) {
		__u64 missed = (now_q16 - run->next_q16) / run->interval_q16;

		if (missed > run->left)
			missed = run->left;
		run->late += missed * run->burst;
		run->next_q16 += missed * run->interval_q16;
		run->left -= missed;
		if (!run->left)
			return false;
	}
	run->burst_at_ns = run->start_ns + (run->next_q16 >> FRACTION_BITS);
	run->next_q16 += run->interval_q16;
	run->left--;
	return true;
}

SEC("xdp")
int vxgate_generator(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct generator_run *run = bpf_map_lookup_elem(&runs, &key);
	__u32 *turn;

	if (!run || run->done)
		return XDP_DROP;
	if (!run->in_burst) {
		if (!begin_burst(run))
			return XDP_DROP;
		run->in_burst = run->burst;
	}
	run->in_burst--;
	key = run->turn;
	if (++run->turn >= run->turns)
		run->turn = 0;
	turn = bpf_map_lookup_elem(&turns, &key);

	struct generator_stream *stream = turn ? bpf_map_lookup_elem(&streams, turn) : NULL;

	if (!stream)
		goto failed;
	key = stream->size_first + stream->size;

	__u32 *len = bpf_map_lookup_elem(&sizes, &key);

	key = stream->flow_first + stream->flow;

	struct generator_flow *flow = bpf_map_lookup_elem(&flows, &key);

	if (!len || !flow || !make(ctx, stream, flow, *len, run->burst_at_ns))
		goto failed;
	advance(stream);
	stream->sent++;
	run->bytes += *len;
	return bpf_redirect(run->ifindex, 0);
failed:
	run->failed++;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
