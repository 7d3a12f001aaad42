// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* A device that does a known wrong to frames that pass through it, one at a time and on one CPU.
 *
 *   faulty  tc ingress on one device -> redirected to the other one's egress
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#define FRAME_LEN_MAX 2048
#define FLOWS_MAX (1 << 20)
#define VNIS_MAX (1 << 13)
/* In VXLAN over IPv4: the VNI, and the last three bytes of the inner source address, where tests number their flows. */
#define VNI_AT 46
#define FLOW_AT 59

enum fault {
	NONE,
	DROP,
	DUPLICATE,
	SWAP,
	FLIP,
	/* No wrong at all: notes which flows and VNIs pass. */
	WITNESS,
	/* No more frames a second than one each `every` ns, by the clock. */
	POLICE,
	/* The same by the times at which frames were meant to leave: an exact limit, however busy the machine is. */
	POLICE_INTENDED,
};

const volatile struct {
	__u32 fault;
	__u32 every;   /* it happens to this frame and each multiple */
	__u32 flip_at; /* the byte whose lowest bit changes; of policers: frames that may come at once */
	__u32 out;     /* the other device */
} settings = {};

struct kept {
	__u64 seen;
	__u64 last_ns;   /* policers: when the last frame came, */
	__u64 credit_ns; /* and the time that is left for further ones */
	__u32 len;
	__u8 bytes[FRAME_LEN_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kept);
} state SEC(".maps");

/* How many frames more are dropped, whatever the fault. Set while frames pass. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} breaks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOWS_MAX);
	__type(key, __u32);
	__type(value, __u8);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, VNIS_MAX);
	__type(key, __u32);
	__type(value, __u8);
} vnis SEC(".maps");

/* How many different ones there were. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} distinct SEC(".maps");

static __always_inline __u32 number_at(struct __sk_buff *skb, __u32 at)
{
	__u8 bytes[3] = {};

	bpf_skb_load_bytes(skb, at, bytes, sizeof(bytes));
	return bytes[0] << 16 | bytes[1] << 8 | bytes[2];
}

static __always_inline void note(void *seen_by_number, __u32 number, __u32 kind)
{
	__u8 *seen = bpf_map_lookup_elem(seen_by_number, &number);
	__u64 *count = bpf_map_lookup_elem(&distinct, &kind);

	if (!seen || !count || *seen)
		return;
	*seen = 1;
	(*count)++;
}

/* Keeps the first of two, and sends it behind the second. They must be of one length. */
static __always_inline int swap(struct __sk_buff *skb, struct kept *kept)
{
	__u32 len = skb->len;

	if (len == 0 || len > FRAME_LEN_MAX)
		return TC_ACT_SHOT;
	if (!kept->len) {
		if (bpf_skb_load_bytes(skb, 0, kept->bytes, len))
			return TC_ACT_SHOT;
		kept->len = len;
		return TC_ACT_SHOT;
	}
	if (kept->len != len || bpf_clone_redirect(skb, settings.out, 0) || bpf_skb_store_bytes(skb, 0, kept->bytes, len, 0))
		return TC_ACT_SHOT;
	kept->len = 0;
	return bpf_redirect(settings.out, 0);
}

/* The last 6 bytes of a frame without padding. */
static __always_inline __u64 intended_ns(struct __sk_buff *skb)
{
	__u8 bytes[6] = {};
	__u64 ns = 0;

	if (skb->len < sizeof(bytes))
		return 0;
	bpf_skb_load_bytes(skb, skb->len - sizeof(bytes), bytes, sizeof(bytes));
	for (__u32 i = 0; i < sizeof(bytes); i++)
		ns = ns << 8 | bytes[i];
	return ns;
}

/* A token bucket. Whether the frame may pass. */
static __always_inline int conforms(struct __sk_buff *skb, struct kept *kept)
{
	__u64 now_ns, since_ns, most_ns = (__u64)settings.every * settings.flip_at;

	if (settings.fault == POLICE) {
		now_ns = bpf_ktime_get_ns();
		since_ns = now_ns - kept->last_ns;
	} else {
		now_ns = intended_ns(skb);
		since_ns = now_ns - kept->last_ns;
		/* The generator was late, or a new load began: such frames have their time, and leave none to others. */
		if (since_ns > 2 * settings.every)
			since_ns = settings.every;
	}
	kept->last_ns = now_ns;
	kept->credit_ns += since_ns < most_ns ? since_ns : most_ns;
	if (kept->credit_ns > most_ns)
		kept->credit_ns = most_ns;
	if (kept->credit_ns < settings.every)
		return 0;
	kept->credit_ns -= settings.every;
	return 1;
}

SEC("tc")
int faulty(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct kept *kept = bpf_map_lookup_elem(&state, &zero);
	__u8 byte;

	__u64 *to_drop = bpf_map_lookup_elem(&breaks, &zero);

	if (!kept || !to_drop)
		return TC_ACT_SHOT;
	if (*to_drop) {
		(*to_drop)--;
		return TC_ACT_SHOT;
	}
	if (settings.fault == SWAP)
		return swap(skb, kept);
	if (settings.fault == POLICE || settings.fault == POLICE_INTENDED)
		return conforms(skb, kept) ? bpf_redirect(settings.out, 0) : TC_ACT_SHOT;
	if (settings.fault == WITNESS) {
		note(&flows, number_at(skb, FLOW_AT), 0);
		note(&vnis, number_at(skb, VNI_AT), 1);
	}
	kept->seen++;
	if (settings.every && kept->seen % settings.every == 0) {
		switch (settings.fault) {
		case DROP:
			return TC_ACT_SHOT;
		case DUPLICATE:
			bpf_clone_redirect(skb, settings.out, 0);
			break;
		case FLIP:
			bpf_skb_load_bytes(skb, settings.flip_at, &byte, 1);
			byte ^= 1;
			bpf_skb_store_bytes(skb, settings.flip_at, &byte, 1, 0);
			break;
		}
	}
	return bpf_redirect(settings.out, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
