/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The direct path: what its programs share with each other and with `src/steer/express`.
 *
 * A flow is named by its inner 5-tuple as the pod knows it, `local` being the pod's end: the same name for both directions. In a
 * name, an IPv6 address is as long as one of IPv4 (`fold_address`), so that four names are a cache line still; who finds one looks
 * at the whole addresses. Two flows with one name are no flow, and which they would be nobody can choose.
 *
 * The promoted ones are in arrays that user space maps. Of a hundred thousand flows, next to nothing that a frame needs is in a cache
 * still, so what it needs is in few lines:
 *
 *   flow_sets      four flows' names, one cache line, and for each a line with what differs by flow: a frame reads both, in one page
 *                  nearly always; the whole addresses of IPv6 are elsewhere (`express_ends`)
 *   express_paths  what flows between one pod and one VTEP have in common: so few that they stay in the caches
 *
 * Only one thread writes there, so that no lock is needed. A place that was given up, be it a flow's or a path's, is not used again
 * before every program that still reads it has ended; until then what is in a path does not change, either. A flow whose frames are to
 * go otherwise gets another path, by one store (`flow_going`); when what routes, MACs or devices say changes, all flows are demoted.
 * So a program that found a flow in this generation may read its path to the end.
 *
 * Whenever a frame is not as all others of its flow are, it is handed up: from the express gear to the ring gear (`ring.h`), and
 * from there to the kernel, which knows all kinds.
 */
#ifndef VXGATE_DIRECT_H
#define VXGATE_DIRECT_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "shared.h"

#define FLOW_WAYS 4
/* Outer headers, over IPv4 and over IPv6; and with the inner Ethernet header. */
#define OUTER_LEN 50
#define OUTER6_LEN 70
#define HEADERS_LEN 64
#define HEADERS6_LEN 84
/* In which ways a flow is promoted: `Ways` of `src/flows`. */
#define FLOW_OUT 1
#define FLOW_IN 2
/* Whether frames of a flow leave with one, and whether that of what arrives is looked at. */
#define CHECKSUM_SENT 1
#define CHECKSUM_VERIFIED 2
/* Where fields are in `express_path.headers`. */
#define AT_ETHERTYPE 12
#define AT_SOURCE 26
#define AT_DESTINATION 30
#define AT_SOURCE_PORT 34
#define AT_PORT 36
#define AT_VXLAN 42
#define AT_INNER 50
/* And over IPv6. */
#define AT6_SOURCE 22
#define AT6_DESTINATION 38
#define AT6_SOURCE_PORT 54
#define AT6_PORT 56
#define AT6_VXLAN 62
#define AT6_INNER 70
/* Of an IP header, from its start: what routing changes is within so many bytes. */
#define HOP_LEN 12

/* An inner IPv4 header is one of the plain kind: version, no options; neither fragment nor reserved bit. */
#define PLAIN_VERSION_IHL 0x45
#define IP_DONT_FRAGMENT 0x4000
#define ECN_MASK 3
#define ECN_CE 3
/* Of the flags' byte of a TCP header: FIN, SYN, RST. */
#define TCP_FLAGS_AT 13
#define TCP_BEGINS_OR_ENDS 0x07

/* What is the same for all. */
struct direct_state {
	__u32 generation; /* entries and sightings of another one count for nothing; 0: none counts */
	__u32 zero;
	__u64 seed;       /* of the hash */
	__u64 heard_ns;   /* CLOCK_MONOTONIC, up to when whatever changed has been heard */
	__u64 fold[4];    /* the seed of `fold_address` */
};

struct flow_key {
	__be32 local; /* of IPv6: folded, as the next */
	__be32 remote;
	__be16 local_port;
	__be16 remote_port;
	__u8 protocol; /* 0: no key */
	__u8 six;      /* 1: over IPv6 */
	__u8 zero[2];
};

/* Both ends' IPv6 addresses; of an IPv4 flow not looked at. */
struct flow_ends {
	__be32 local[4];
	__be32 remote[4];
};

/* How a promoted flow's frames go. One word, so that a flow that stands is told all of it at once; a program reads it once. */
struct flow_going {
	__u16 path;         /* of `express_paths` */
	__be16 source_port; /* of the outer UDP header, as the pod's frames leave */
	__u16 udp_sum;      /* over all that the outer UDP checksum covers but the lengths; see `udp_sum()` */
	__u8 ways;
	__u8 gear;          /* the highest that it may be in: `enum direct_gear` */
};

/* What a promoted flow has of its own: one cache line. Its name is in its set alone; the name's hash tells should the place have
 * become another's since that was read. */
struct express_flow {
	__u32 generation;
	__u32 hash;
	struct flow_going going;
	__u32 shown_out;     /* when the kernel was last shown a frame from the pod, and */
	__u32 shown_in;      /* one to it, and */
	__u32 superframe_at; /* when the pod last sent a superframe of it (0: never): in ticks */
	__u32 place;         /* its own place */
	__u64 out_frames;
	__u64 out_bytes;
	__u64 in_frames;
	__u64 in_bytes;
};

struct flow_set {
	struct flow_key key[FLOW_WAYS];
	struct express_flow flow[FLOW_WAYS];
};

_Static_assert(sizeof(struct flow_going) == 8, "src/steer/express/entries.rs writes it as one word");
_Static_assert(sizeof(struct flow_set) == 5 * 64, "src/steer/express/entries.rs writes it word by word");

/* What promoted flows have in common whose frames go between the same pod and the same VTEP in the same manner. */
struct express_path {
	__u32 pod;         /* index of the pod's device on the host's side */
	__u32 nic;         /* index of the underlay device */
	__u16 frame_max;   /* the longest inner frame from the pod, Ethernet header included, and */
	__u16 deliver_max; /* to it */
	__u32 ip_sum;      /* over the outer IPv4 header as it stands in `headers` */
	__u8 pod_mac[ETH_ALEN];
	__u8 ecn;          /* which inner ECN bits the outer header has */
	__u8 checksum;     /* of outer UDP checksums: CHECKSUM_SENT, CHECKSUM_VERIFIED */
	__u8 gateway_mac[ETH_ALEN];
	__u8 by_xdp;       /* whether the pod's device takes frames from a program on the NIC as they are */
	__u8 nic_by_xdp;   /* whether the underlay device takes frames from a program on a pod's */
	__u32 received_at; /* the place of the peer at the other end, for frames from it, and */
	__u32 sent_at;     /* for frames to it */
	/* Outer Ethernet, IP, UDP and VXLAN headers and the inner Ethernet header, as the pod's frames leave; without lengths,
	 * identification, ECN, source port and checksums. Where no flow leaves by it, only what tells whom frames are from. */
	__u8 headers[HEADERS6_LEN];
	__u8 as_kernel;    /* whether the kernel's own vxlan device sends its frames alike, and to the same VTEP */
	__u8 joined;       /* whether a frame at the NIC may be several of the wire that were joined: its program runs behind GRO */
	__u8 zero[2];
};

_Static_assert(sizeof(struct express_path) == 128, "src/steer/express/paths.rs writes it word by word");

/* What was seen of a flow at a pod's device: last, in one direction. */
struct sighting {
	__u32 generation;
	__u32 pod;
	__u8 pod_mac[ETH_ALEN];
	__u8 gateway_mac[ETH_ALEN];
	struct flow_ends ends;
};

/* What the program on the NIC tells the classifier there, in front of a decapsulated frame. */
struct handover {
	__u32 magic;
	__u32 pod;
};

#define HANDOVER_MAGIC 0x76786731

/* Whether the programs may look for flows at all; else they have neither arrays nor code for it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct direct_state);
} direct_state SEC(".maps");

/* These have as many entries as `settings.flow_sets` needs: that is told before loading. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_set);
} flow_sets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_ends);
} express_ends SEC(".maps");

/* 0 is none's. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct express_path);
} express_paths SEC(".maps");

/* `settings.peers` places of the first CPU, then those of the second, and so on. Not an array of the per-CPU kind: user space
 * maps this one, and adds up thousands of peers without a system call for each. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct express_peer);
} express_peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DIRECT_WAYS);
	__type(key, __u32);
	__type(value, struct direct_counts);
} direct_counts SEC(".maps");

/* What of an inner frame was read to know its flow. */
struct inner {
	struct flow_key key;
	struct flow_ends ends; /* of IPv6, as the next but one */
	__u32 len;    /* of the frame, Ethernet header included */
	__u32 label;  /* the first word of the IP header: version, traffic class, flow label */
	__u16 l4_len; /* behind the IP header */
	__u8 tos;     /* or traffic class */
	__u8 tcp_flags;
	__u8 ttl;     /* or hop limit */
	__be16 check; /* of the IP header, of IPv4 */
	__u64 now_ns; /* the frame's only look at the clock: CLOCK_MONOTONIC_COARSE */
};

static __always_inline struct direct_counts *counts_of(__u32 way)
{
	return bpf_map_lookup_elem(&direct_counts, &way);
}

/* Time is kept in ticks where it need not be exact: 2^20 ns, about a millisecond. 0 is long ago. */
static __always_inline __u32 ticks(__u64 now_ns)
{
	return now_ns >> TICK_SHIFT;
}

/* Whether that was within the last SUPERFRAMES_FOR_TICKS. Another CPU may have been a tick ahead. */
static __always_inline bool lately(__u32 at, __u32 now)
{
	return now + 1 - at <= SUPERFRAMES_FOR_TICKS + 1;
}

/* Whether the kernel was last shown a frame so long ago that it is to see the next one. Whoever promotes a flow has a clock that is
 * not coarse, and ahead. */
static __always_inline bool is_to_be_shown(__u32 shown, __u32 now)
{
	return now + CLOCKS_APART_TICKS - shown > SHOW_EVERY_TICKS + CLOCKS_APART_TICKS;
}

/* Frames that reached their pod's device. */
static __always_inline void count_delivered(__u64 frames, __u64 bytes)
{
	struct direct_counts *here = counts_of(WAY_DELIVERED);

	if (here) {
		here->forwarded += frames;
		here->bytes += bytes;
		here->received += frames;
	}
}

/* Whether somebody listens to what changes: a frame must not be forwarded on the word of one who hangs. */
static __always_inline bool listened(const struct direct_state *state, __u64 now_ns)
{
	__u64 heard_ns = *(volatile __u64 *)&state->heard_ns;

	/* The coarse clock lags behind the listener's: the age may be negative. */
	return (__s64)(now_ns - heard_ns) <= LISTENER_STALE_NS;
}

/* What this CPU has counted at a peer's place. */
static __always_inline struct express_peer *peer_of(__u32 place)
{
	__u32 at = bpf_get_smp_processor_id() * settings.peers + place;

	return bpf_map_lookup_elem(&express_peers, &at);
}

/* Every bit of the key reaches every bit of the result. `FlowKey::hash` of `src/flows` is the same. */
static __always_inline __u32 flow_hash(const struct flow_key *key, __u64 seed)
{
	const __u64 *words = (const __u64 *)key;
	__u64 hash = (words[0] ^ seed) * 0x9e3779b97f4a7c15ULL;

	hash = ((hash ^ (hash >> 32)) ^ words[1]) * 0xbf58476d1ce4e5b9ULL;
	hash = (hash ^ (hash >> 29)) * 0x94d049bb133111ebULL;
	return hash >> 32;
}

/* An IPv6 address as 32 bits of a name. Who does not know the seed cannot tell which addresses become the same (pairwise
 * multiply-shift: of any two, 1 in 2^32 seeds makes them one). `Seed::fold` of `src/flows` is the same. */
static __always_inline __be32 fold_address(const __be32 *address, const struct direct_state *state)
{
	const __u64 *seed = state->fold;

	return ((seed[0] + address[0]) * (seed[1] + address[1]) + (seed[2] + address[2]) * (seed[3] + address[3])) >> 32;
}

static __always_inline bool same_ends(const struct flow_ends *one, const struct flow_ends *other)
{
	__u32 difference = 0;

	for (int word = 0; word < 4; word++)
		difference |= (one->local[word] ^ other->local[word]) | (one->remote[word] ^ other->remote[word]);
	return !difference;
}

static __always_inline bool same_key(const struct flow_key *one, const struct flow_key *other)
{
	const __u64 *a = (const __u64 *)one, *b = (const __u64 *)other;

	return a[0] == b[0] && a[1] == b[1];
}

/* The flow of this name, when it is in this set. */
static __always_inline struct express_flow *flow_in(__u32 at, const struct flow_key *key)
{
	struct flow_set *set = bpf_map_lookup_elem(&flow_sets, &at);
	__u32 found = FLOW_WAYS;

	if (!set)
		return NULL;
	for (__u32 way = 0; way < FLOW_WAYS; way++)
		if (same_key(&set->key[way], key))
			found = way;
	return found < FLOW_WAYS ? &set->flow[found] : NULL;
}

/* Whether it is a frame with which a connection begins or ends. */
static __always_inline bool begins_or_ends(const struct inner *inner)
{
	return inner->tcp_flags & TCP_BEGINS_OR_ENDS;
}

/* Whether a flow is the one whose IPv6 addresses these are. */
static __always_inline bool is_between(const struct express_flow *flow, const struct flow_ends *found)
{
	__u32 place = flow->place;
	struct flow_ends *ends = bpf_map_lookup_elem(&express_ends, &place);

	return ends && same_ends(ends, found);
}

/* The flow of a frame that was read, when it is promoted this way, and how its frames go; none when everything was demoted since. What
 * begins or ends a connection does that to both ways, of which maybe only the other one is promoted. It may be in either of two sets:
 * `FlowTable` of `src/flows`. */
static __always_inline struct express_flow *find_flow(const struct inner *inner, const struct direct_state *state, __u8 way,
						      struct flow_going *going)
{
	const struct flow_key *key = &inner->key;
	__u32 hash = flow_hash(key, state->seed);
	struct express_flow *flow = flow_in(hash & (settings.flow_sets - 1), key);
	__u64 word;

	if (!flow)
		flow = flow_in((hash << 16 | hash >> 16) & (settings.flow_sets - 1), key);
	if (!flow || !state->generation || *(volatile __u32 *)&flow->generation != state->generation || flow->hash != hash)
		return NULL;
	word = *(volatile __u64 *)&flow->going;
	__builtin_memcpy(going, &word, sizeof(*going));
	if (!(going->ways & way || begins_or_ends(inner)))
		return NULL;
	/* Another flow, with the same name. */
	if (key->six && !is_between(flow, &inner->ends))
		return NULL;
	return flow;
}

/* What a flow that was found has in common with others. */
static __always_inline const struct express_path *path_of(const struct flow_going *going)
{
	__u32 place = going->path;

	return bpf_map_lookup_elem(&express_paths, &place);
}

/* Whether frames have outer headers of IPv6. */
static __always_inline bool is_over_ipv6(const struct express_path *path)
{
	return *(const __be16 *)(path->headers + AT_ETHERTYPE) == bpf_htons(ETH_P_IPV6);
}

/* What follows the IP header, whose lengths and addresses are known by now. */
static __always_inline enum up_reason read_transport(const struct udphdr *udp, void *end, bool from_pod, struct inner *inner)
{
	const __u8 *tcp = (const void *)udp;

	inner->tcp_flags = 0;
	if (inner->key.protocol == IPPROTO_UDP) {
		if (bpf_ntohs(udp->len) != inner->l4_len)
			return UP_LENGTH;
		/* Without one, the outer checksum could not be had without the payload. */
		if (!udp->check)
			return UP_CHECKSUM;
	} else if (inner->key.protocol == IPPROTO_TCP) {
		if ((void *)tcp + sizeof(struct tcphdr) > end)
			return UP_LENGTH;
		inner->tcp_flags = tcp[TCP_FLAGS_AT];
	} else {
		return UP_OTHER_PROTOCOL;
	}
	inner->key.local_port = from_pod ? udp->source : udp->dest;
	inner->key.remote_port = from_pod ? udp->dest : udp->source;
	inner->key.zero[0] = 0;
	inner->key.zero[1] = 0;
	return UP_REASONS;
}

static __always_inline enum up_reason read_ipv4(struct iphdr *ip, void *end, __u32 len, bool from_pod, struct inner *inner)
{
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end || ip->version != 4)
		return UP_OTHER_PROTOCOL;
	if (*(__u8 *)ip != PLAIN_VERSION_IHL)
		return UP_OPTIONS;
	if (ip->frag_off & bpf_htons(0xffff & ~IP_DONT_FRAGMENT))
		return UP_FRAGMENT;
	if (bpf_ntohs(ip->tot_len) + ETH_HLEN != len)
		return UP_LENGTH;
	inner->len = len;
	inner->l4_len = bpf_ntohs(ip->tot_len) - sizeof(*ip);
	inner->tos = ip->tos;
	inner->ttl = ip->ttl;
	inner->check = ip->check;
	inner->key.local = from_pod ? ip->saddr : ip->daddr;
	inner->key.remote = from_pod ? ip->daddr : ip->saddr;
	inner->key.protocol = ip->protocol;
	inner->key.six = 0;
	return read_transport(udp, end, from_pod, inner);
}

/* Of extension headers only the kind is looked at: the kernel knows them all. */
static __always_inline enum up_reason read_ipv6(struct ipv6hdr *ip, void *end, __u32 len, bool from_pod,
						const struct direct_state *state, struct inner *inner)
{
	struct udphdr *udp = (void *)(ip + 1);
	const struct in6_addr *local = from_pod ? &ip->saddr : &ip->daddr;
	const struct in6_addr *remote = from_pod ? &ip->daddr : &ip->saddr;

	if ((void *)(udp + 1) > end || ip->version != 6)
		return UP_OTHER_PROTOCOL;
	switch (ip->nexthdr) {
	case IPPROTO_FRAGMENT:
		return UP_FRAGMENT;
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case IPPROTO_AH:
		return UP_OPTIONS;
	}
	if (bpf_ntohs(ip->payload_len) + sizeof(*ip) + ETH_HLEN != len)
		return UP_LENGTH;
	inner->len = len;
	inner->l4_len = bpf_ntohs(ip->payload_len);
	inner->label = bpf_ntohl(*(const __be32 *)ip);
	inner->tos = inner->label >> 20;
	inner->ttl = ip->hop_limit;
	for (int word = 0; word < 4; word++) {
		inner->ends.local[word] = local->in6_u.u6_addr32[word];
		inner->ends.remote[word] = remote->in6_u.u6_addr32[word];
	}
	inner->key.local = fold_address(inner->ends.local, state);
	inner->key.remote = fold_address(inner->ends.remote, state);
	inner->key.protocol = ip->nexthdr;
	inner->key.six = 1;
	return read_transport(udp, end, from_pod, inner);
}

/* Reads an inner frame of `len` bytes at `data`, sent by the pod or to it. Of which kind it is otherwise; UP_REASONS when it is
 * one that may be in the express gear. */
static __always_inline enum up_reason read_inner(void *data, void *end, __u32 len, bool from_pod,
						 const struct direct_state *state, struct inner *inner)
{
	struct ethhdr *eth = data;

	if ((void *)(eth + 1) > end)
		return UP_OTHER_PROTOCOL;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return read_ipv4((void *)(eth + 1), end, len, from_pod, inner);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return read_ipv6((void *)(eth + 1), end, len, from_pod, state, inner);
	return UP_OTHER_PROTOCOL;
}

/* From now on the kernel sees every frame of the flow. */
static __always_inline void demote(struct express_flow *flow)
{
	*(volatile __u32 *)&flow->generation = 0;
}

/* Whether this frame of a promoted flow may stay in the express gear; UP_REASONS when so. */
static __always_inline enum up_reason judge_frame(struct express_flow *flow, const struct inner *inner, __u32 *shown)
{
	__u32 now = ticks(inner->now_ns);

	if (begins_or_ends(inner)) {
		/* It has to see this one, too. */
		demote(flow);
		return UP_TCP_FLAGS;
	}
	if (inner->ttl <= 1)
		return UP_TTL;
	/* So that conntrack and the bridge do not forget what they know of it. */
	if (is_to_be_shown(*shown, now)) {
		*shown = now;
		return UP_SHOWN;
	}
	return UP_REASONS;
}

/* The IPv4 header's checksum after its TTL was made one less (RFC 1624). */
static __always_inline __be16 check_after_hop(__be16 check)
{
	__u32 sum = check + (__u32)bpf_htons(0x0100);

	return sum + (sum >= 0xffff);
}

/* Makes the TTL or hop limit one less, of an IP header that was read. */
static __always_inline void write_hop(void *ip, const struct inner *inner)
{
	struct ipv6hdr *six = ip;
	struct iphdr *four = ip;

	/* No checksum covers a hop limit. */
	if (inner->key.six) {
		six->hop_limit = inner->ttl - 1;
	} else {
		four->ttl = inner->ttl - 1;
		four->check = check_after_hop(inner->check);
	}
}

/* Copies so many half-words. Neither end need be aligned to more, which clang does not believe of a frame: it would copy bytes. */
static __always_inline void copy_halves(void *to, const void *from, int halves)
{
	for (int half = 0; half < halves; half++)
		((__u16 *)to)[half] = ((const __u16 *)from)[half];
}

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* What an outer UDP checksum covers adds up to this, without a look at the payload: the inner packet's own checksums say what that
 * adds up to. All but what differs from frame to frame is in the flow's `going`.
 *
 * TCP or UDP adds up to the complement of its pseudo-header. Of IPv4 the header adds up to nothing: there remain the addresses
 * and protocol of that complement, and its length. Of IPv6 addresses and length are in the header, too, and cancel out: there
 * remain version, traffic class and flow label, the hop limit, and the protocol twice. */
static __always_inline __u32 udp_sum(const struct flow_going *going, __u16 udp_len, const struct inner *inner, __u8 ttl)
{
	__u32 sum = going->udp_sum + 2 * (__u32)udp_len;

	if (inner->key.six)
		return sum + (inner->label >> 16) + (inner->label & 0xffff) + ttl;
	return sum + (__u16)~inner->l4_len;
}

#endif
