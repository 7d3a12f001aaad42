// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The far end of the wire: which generated frames arrived, how often, in what order, whole or not, and how late.
 *
 *   vxgate_sink  XDP on the receiving device:  a frame with a signature of a known stream -> counted and dropped;
 *                                              any other                                  -> counted, left to the kernel
 */
#include "signature.h"

#define RETRIES 8

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
	if (!find_signature(ctx, frame, len, true, &found)) {
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
