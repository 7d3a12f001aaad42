// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* A hop that loses, delays and doubles UDP datagrams: each by its number and a seed, so the same numbers every time.
 *
 *   lossy  tc ingress on one device -> redirected to the other one's egress; whatever is not UDP goes its own way
 *
 * A frame is delayed by keeping its bytes, and sending them behind one of the next frames. One at a time is kept. Several
 * processors may be here at once.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAME_LEN_MAX 2048
/* The protocol in an IPv4 header, and the next header in an IPv6 header. */
#define PROTOCOL_AT (ETH_HLEN + 9)
#define NEXT_HEADER_AT (ETH_HLEN + 6)

const volatile struct {
	__u32 out;       /* the other device */
	__u32 seed;
	__u32 drop_in;   /* one in so many is lost, */
	__u32 delay_in;  /* delayed, */
	__u32 delay_max; /* behind so many frames at most, */
	__u32 copy_in;   /* or sent twice */
} settings = {};

/* What became of the frames. */
struct tally {
	__u64 seen;
	__u64 dropped;
	__u64 delayed;
	__u64 copied;
	__u64 uncut;  /* superframes, which no wire could carry: passed on */
	__u64 failed; /* lost for want of memory */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tally);
} tally SEC(".maps");

enum { FREE, BUSY, WAITING };

struct kept {
	__u64 state;
	__u64 due; /* the number of the frame that it goes behind */
	__u32 len;
	__u8 bytes[FRAME_LEN_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kept);
} kept SEC(".maps");

/* splitmix64 */
static __always_inline __u64 mix(__u64 number)
{
	number = (number + 1) * 0x9e3779b97f4a7c15ULL;
	number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9ULL;
	number = (number ^ number >> 27) * 0x94d049bb133111ebULL;
	return number ^ number >> 31;
}

static __always_inline int drawn(__u64 lot, __u32 one_in)
{
	return one_in && (lot & 0xffff) % one_in == 0;
}

static __always_inline int is_udp(struct __sk_buff *skb)
{
	__u8 protocol = 0;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		bpf_skb_load_bytes(skb, PROTOCOL_AT, &protocol, 1);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		bpf_skb_load_bytes(skb, NEXT_HEADER_AT, &protocol, 1);
	return protocol == IPPROTO_UDP;
}

/* Whether the frame's bytes are kept now. */
static __always_inline int keep(struct __sk_buff *skb, struct kept *kept, __u64 due)
{
	__u32 len = skb->len;

	if (len < ETH_HLEN || len > FRAME_LEN_MAX)
		return 0;
	if (__sync_val_compare_and_swap(&kept->state, FREE, BUSY) != FREE)
		return 0;
	if (bpf_skb_load_bytes(skb, 0, kept->bytes, len)) {
		__sync_lock_test_and_set(&kept->state, FREE);
		return 0;
	}
	kept->len = len;
	kept->due = due;
	__sync_lock_test_and_set(&kept->state, WAITING);
	return 1;
}

/* Makes a frame that has left already the one whose bytes were kept. The kernel lets nobody change the length of a frame that it
 * takes for encapsulated itself, as some are that its own vxlan device sent: then a later one is taken. */
static __always_inline int become(struct __sk_buff *skb, struct kept *kept, struct tally *count)
{
	__u32 len = kept->len;

	if (len < ETH_HLEN || len > FRAME_LEN_MAX || bpf_skb_change_tail(skb, len, 0)) {
		__sync_lock_test_and_set(&kept->state, WAITING);
		return TC_ACT_SHOT;
	}
	if (bpf_skb_store_bytes(skb, 0, kept->bytes, len, 0)) {
		__sync_fetch_and_add(&count->failed, 1);
		__sync_lock_test_and_set(&kept->state, FREE);
		return TC_ACT_SHOT;
	}
	__sync_lock_test_and_set(&kept->state, FREE);
	return bpf_redirect(settings.out, 0);
}

SEC("tc")
int lossy(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct tally *count = bpf_map_lookup_elem(&tally, &zero);
	struct kept *late = bpf_map_lookup_elem(&kept, &zero);
	__u64 number, lot;

	if (!count || !late)
		return TC_ACT_SHOT;
	if (!is_udp(skb))
		return TC_ACT_OK;
	number = __sync_fetch_and_add(&count->seen, 1);
	if (skb->gso_segs > 1) {
		__sync_fetch_and_add(&count->uncut, 1);
		return bpf_redirect(settings.out, 0);
	}
	lot = mix(settings.seed + number);
	if (drawn(lot, settings.drop_in)) {
		__sync_fetch_and_add(&count->dropped, 1);
		return TC_ACT_SHOT;
	}
	if (settings.delay_max && drawn(lot >> 16, settings.delay_in) &&
	    keep(skb, late, number + 1 + (lot >> 48) % settings.delay_max)) {
		__sync_fetch_and_add(&count->delayed, 1);
		return TC_ACT_SHOT;
	}
	if (drawn(lot >> 32, settings.copy_in)) {
		__sync_fetch_and_add(&count->copied, 1);
		bpf_clone_redirect(skb, settings.out, 0);
	}
	if (late->due <= number && __sync_val_compare_and_swap(&late->state, WAITING, BUSY) == WAITING) {
		/* Not before this one has left. */
		bpf_clone_redirect(skb, settings.out, 0);
		return become(skb, late, count);
	}
	return bpf_redirect(settings.out, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
