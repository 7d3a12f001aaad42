// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Steering: which frames go to a worker's AF_XDP socket, and which stay with the kernel.
 *
 *   vxgate_underlay  XDP on the NIC:            VXLAN to the NIC's own Ethernet address,
 *                                               for one of our (address, port, VNI)        -> socket, else kernel;
 *                                               of a promoted flow (`express.h`)           -> decapsulated, to its pod;
 *                                                                                             one in ten seconds -> kernel
 *   vxgate_access    XDP on the access device:  every frame                                -> socket
 *   vxgate_egress    tcx on the vxlan device:   every frame that fits the paths, and that
 *                                               not the kernel alone can bring home        -> access device (TCP and
 *                                                                                             superframes to its
 *                                                                                             TAP), else kernel
 *                                               of a promoted flow (`ring.h`): bulk, and
 *                                               one frame in ten seconds                   -> kernel
 *   vxgate_ingress   tcx on the access device:  what a worker decapsulated                 -> the vxlan device's ingress;
 *                                               of a promoted flow (`ring.h`)              -> routed, to its pod
 *   vxgate_wire      tcx on the wire TAP:       superframes that a worker encapsulated     -> the NIC's egress, to be cut
 *
 * Each program first asks whether the workers live: a cell that a worker has not stored into for HEARTBEAT_STALE_NS says
 * that it hangs, and then frames take the kernel's own path. When the process dies, the way from `vxgate_underlay` and
 * `vxgate_egress` to what steers dies at once, and the links with it.
 * Where frames may be longer than a buffer, the XDP programs are loaded for frames of several (`Copy::load`): all that they
 * look at is in the first.
 * Whenever in doubt, a frame passes. Nothing is changed in a frame here, but that the marks of a device with the Group Policy
 * extension travel in two tags of their own between `vxgate_egress`, the workers and `vxgate_ingress`, and in frames of
 * promoted flows.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "alive.h"
#include "express.h"
#include "shared.h"

#define IP_FRAGMENT_OR_OFFSET 0x3fff
#define IHL_WITHOUT_OPTIONS 5
#define IPV4_MAPPED 0xffff
#define IPV6_LINK_LOCAL 0xfe80 /* of the first 16 bits, 10 count */
#define IPV6_LINK_LOCAL_MASK 0xffc0
#define IPV4_MULTICAST 0xe0 /* of the first byte, 4 bits count */
#define IPV4_MULTICAST_MASK 0xf0
#define IPV6_MULTICAST 0xff
#define VERSION_IPV4 4
#define VERSION_IPV6 6
#define TCP_OFFSET_AT 12 /* the upper four bits of this byte of a TCP header: its length in words */
#define VXLAN_I_FLAG 0x08
#define VLAN_TAG_LEN 4
/* More than the headers of any segment: two tags, and a tunnel of the sender's own with all options. */
#define SEGMENT_HEADERS_MAX 256
/* Ethernet, IPv4, UDP. */
#define SEGMENT_HEADERS_MIN 42

struct vxlan_header {
	__u8 flags;
	__u8 reserved[3];
	__be32 vni; /* 24 bits and a reserved byte */
};

/* Shared by all copies. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, VXGATE_ENDPOINTS_MAX);
	__type(key, struct endpoint);
	__type(value, __u8);
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, VXGATE_ENDPOINTS_MAX);
	__type(key, struct segment_key);
	__type(value, __u8);
} segments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, VXGATE_WAYS);
	__type(key, __u32);
	__type(value, struct way);
} ways SEC(".maps");

/* One of each for every copy. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, VXGATE_QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS_KINDS);
	__type(key, __u32);
	__type(value, struct steer_counts);
} counts SEC(".maps");

/* The longest frame, Ethernet header and tags included, whose encapsulation fits the path to every VTEP of the device. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} frame_limit SEC(".maps");

/* The frames that only the kernel's own device brings to where they go, by inner destination address: `enum share_kind`.
 * Both places are empty where there are none, which costs a device nothing but looking. A list changes address by address;
 * one is replaced by the other in one store, and the kernel waits for programs that still read the old one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SHARE_KINDS);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_HASH);
		__uint(map_flags, BPF_F_NO_PREALLOC);
		__uint(max_entries, 1); /* those made later have more */
		__type(key, __u64); /* the address as on the wire, then two zero bytes */
		__type(value, __u8);
	});
} kernel_share SEC(".maps");

static __always_inline void count_passed(__u32 kind, enum pass_reason reason, __u64 frames)
{
	struct steer_counts *here = bpf_map_lookup_elem(&counts, &kind);

	if (here)
		here->passed[reason] += frames;
}

static __always_inline void count_steered(__u32 kind, __u64 frames)
{
	struct steer_counts *here = bpf_map_lookup_elem(&counts, &kind);

	if (here)
		here->steered += frames;
}

static __always_inline void count_lost(__u32 kind, __u64 frames)
{
	struct steer_counts *here = bpf_map_lookup_elem(&counts, &kind);

	if (here)
		here->lost += frames;
}

static __always_inline void count_express(__u32 kind, __u64 bytes)
{
	struct steer_counts *here = bpf_map_lookup_elem(&counts, &kind);

	if (here) {
		here->express++;
		here->express_bytes += bytes;
	}
}

static __always_inline bool any_fresh(void)
{
	__u64 now_ns = bpf_ktime_get_coarse_ns();

	for (__u32 worker = 0; worker < VXGATE_WORKERS_MAX; worker++) {
		if (worker >= settings.workers)
			break;
		if (fresh(worker, now_ns))
			return true;
	}
	return false;
}

/* Whether the frame is for this host: to the NIC's own address or to a group. What a promiscuous NIC hears beyond that is
 * dropped by the kernel (PACKET_OTHERHOST) or belongs to a device on top, such as a macvlan or a bridge: none of it is a
 * worker's. */
static __always_inline bool to_this_host(const struct ethhdr *eth)
{
	const __u16 *destination = (const __u16 *)eth->h_dest;

	if (eth->h_dest[0] & 1)
		return true;
	return destination[0] == settings.mac[0] && destination[1] == settings.mac[1] && destination[2] == settings.mac[2];
}

/* The UDP header behind an IPv4 header, with `endpoint` told where it is for; NULL and why when it is left to the kernel. */
static __always_inline struct udphdr *udp_over_ipv4(struct iphdr *ip, void *end, __u32 link, struct endpoint *endpoint,
						    enum pass_reason *why)
{
	if ((void *)(ip + 1) > end || ip->version != 4 || ip->protocol != IPPROTO_UDP)
		return NULL;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT_OR_OFFSET)) {
		*why = PASS_FRAGMENT;
		return NULL;
	}
	if (ip->ihl != IHL_WITHOUT_OPTIONS) {
		*why = PASS_IP_OPTIONS;
		return NULL;
	}
	endpoint->addr[2] = bpf_htonl(IPV4_MAPPED);
	endpoint->addr[3] = ip->daddr;
	if ((*(__u8 *)&ip->daddr & IPV4_MULTICAST_MASK) == IPV4_MULTICAST)
		endpoint->scope = link;
	return (void *)(ip + 1);
}

/* The same behind an IPv6 header. What follows an extension header is not looked for: the kernel does that. */
static __always_inline struct udphdr *udp_over_ipv6(struct ipv6hdr *ip, void *end, __u32 link, struct endpoint *endpoint,
						    enum pass_reason *why)
{
	if ((void *)(ip + 1) > end || ip->version != 6)
		return NULL;
	switch (ip->nexthdr) {
	case IPPROTO_UDP:
		break;
	case IPPROTO_FRAGMENT:
		*why = PASS_FRAGMENT;
		return NULL;
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case IPPROTO_AH:
		*why = PASS_IP_OPTIONS;
		return NULL;
	default:
		return NULL;
	}
	for (int word = 0; word < 4; word++)
		endpoint->addr[word] = ip->daddr.in6_u.u6_addr32[word];
	/* No address of IPv6, but the key of one of IPv4. */
	if (!endpoint->addr[0] && !endpoint->addr[1] && endpoint->addr[2] == bpf_htonl(IPV4_MAPPED))
		return NULL;
	if (ip->daddr.in6_u.u6_addr8[0] == IPV6_MULTICAST ||
	    (ip->daddr.in6_u.u6_addr16[0] & bpf_htons(IPV6_LINK_LOCAL_MASK)) == bpf_htons(IPV6_LINK_LOCAL))
		endpoint->scope = link;
	return (void *)(ip + 1);
}

/* Whether a worker is to see the frame; otherwise why the kernel keeps it. */
static __always_inline bool judge(void *data, void *end, __u32 link, enum pass_reason *why)
{
	struct ethhdr *eth = data;
	struct udphdr *udp = NULL;
	struct vxlan_header *vxlan;
	struct segment_key key = {};

	*why = PASS_NOT_OURS;
	if ((void *)(eth + 1) > end || !to_this_host(eth))
		return false;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		udp = udp_over_ipv4((void *)(eth + 1), end, link, &key.endpoint, why);
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		udp = udp_over_ipv6((void *)(eth + 1), end, link, &key.endpoint, why);
	if (!udp || (void *)(udp + 1) > end)
		return false;
	key.endpoint.port = udp->dest;
	vxlan = (void *)(udp + 1);
	/* Ours, and dead whoever reads it: the worker counts why. What follows the datagram's own end is Ethernet padding. */
	if ((void *)(vxlan + 1) > end || bpf_ntohs(udp->len) < sizeof(*udp) + sizeof(*vxlan) ||
	    !(vxlan->flags & VXLAN_I_FLAG))
		return !!bpf_map_lookup_elem(&endpoints, &key.endpoint);
	key.vni = bpf_ntohl(vxlan->vni) >> 8;
	/* A segment is one of an endpoint: most frames need but this one look. */
	if (bpf_map_lookup_elem(&segments, &key))
		return true;
	if (bpf_map_lookup_elem(&endpoints, &key.endpoint))
		*why = PASS_FOREIGN_VNI;
	return false;
}

SEC("xdp")
int steer_underlay(struct xdp_md *ctx)
{
	enum pass_reason why = PASS_NOT_OURS;
	enum up_reason up_why = UP_REASONS;
	__u32 queue = ctx->rx_queue_index;
	__u64 now_ns = bpf_ktime_get_coarse_ns();
	bool forbidden = bypassed(), alive = fresh(queue % settings.workers, now_ns);
	__u32 inner_len = 0;

	/* Before anything is looked up: that a flow was promoted says all that `judge` would. */
	if (settings.flow_sets && !forbidden && alive) {
		int express = take_express(ctx, now_ns, &inner_len, &up_why);

		if (express != XDP_ABORTED) {
			count_express(COUNTS_UNDERLAY, inner_len);
			return express;
		}
	}
	if (judge((void *)(long)ctx->data, (void *)(long)ctx->data_end, ctx->ingress_ifindex, &why)) {
		count_up(up_why);
		if (forbidden) {
			why = PASS_BYPASS;
		} else if (!alive) {
			why = PASS_HEARTBEAT_STALE;
		} else if (up_why == UP_SHOWN) {
			/* A worker would have to be woken for this one frame. */
			why = PASS_SHOWN;
		} else if ((void *)(long)ctx->data_end - (void *)(long)ctx->data > settings.frame_max) {
			/* Where our program is generic, it gets what GRO has joined, or a veth's peer sends uncut. No socket could take
			 * most of these, and the node would route none. */
			why = PASS_OVERSIZE;
		} else if (bpf_redirect_map(&sockets, queue, XDP_PASS) == XDP_REDIRECT) {
			count_steered(COUNTS_UNDERLAY, 1);
			return XDP_REDIRECT;
		} else {
			why = PASS_NO_SOCKET;
		}
	}
	count_passed(COUNTS_UNDERLAY, why, 1);
	return XDP_PASS;
}

SEC("xdp")
int vxgate_access(struct xdp_md *ctx)
{
	/* The other end of the pair gets frames from `vxgate_egress` alone, and behind this one there is nobody else. */
	if (bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP) == XDP_REDIRECT) {
		count_steered(COUNTS_WORKER_SIDE, 1);
		return XDP_REDIRECT;
	}
	count_lost(COUNTS_WORKER_SIDE, 1);
	return XDP_DROP;
}

/* What a frame carries right behind its IP header, and where; 0 when that cannot be read. Over IPv6, an extension header is that. */
static __always_inline __u8 carried_at(struct __sk_buff *skb, __u32 *at)
{
	struct ipv6hdr six;
	struct iphdr four;
	__be16 protocol;

	*at = sizeof(struct ethhdr);
	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_proto), &protocol, sizeof(protocol)))
		return 0;
	if (protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, *at, &four, sizeof(four)))
			return 0;
		*at += four.ihl * 4;
		return four.protocol;
	}
	if (protocol != bpf_htons(ETH_P_IPV6) || bpf_skb_load_bytes(skb, *at, &six, sizeof(six)))
		return 0;
	*at += sizeof(six);
	return six.nexthdr;
}

/* How long all headers of a frame of TCP are; 0 when that cannot be read. */
static __always_inline __u32 tcp_headers_len(struct __sk_buff *skb, __u32 at)
{
	__u8 offset;

	if (bpf_skb_load_bytes(skb, at + TCP_OFFSET_AT, &offset, sizeof(offset)))
		return 0;
	return at + (offset >> 4) * 4;
}

/* The length of the segments that the kernel will cut a superframe into. Exact for TCP behind an IP header and nothing
 * else; for the rest a bound: what a UDP datagram carries may be a tunnel with headers of its own. */
static __always_inline __u32 segment_len(struct __sk_buff *skb)
{
	__u32 at, headers = 0;

	if (carried_at(skb, &at) == IPPROTO_TCP)
		headers = tcp_headers_len(skb, at);
	return (headers ? headers : SEGMENT_HEADERS_MAX) + skb->gso_size;
}

/* Whether the frame, or one of its segments, is too long for the path to some VTEP. The kernel's own device then does what
 * it does: it learns, tells the sender, fragments or not, as the node is set up. */
static __always_inline bool oversize(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u64 *limit = bpf_map_lookup_elem(&frame_limit, &zero);
	/* This tag is not among the bytes yet. */
	__u32 tag = skb->vlan_present ? VLAN_TAG_LEN : 0;

	if (!limit)
		return true;
	if (!skb->gso_size)
		return (__u64)skb->len + tag > *limit;
	/* Routed segments are no longer than the device's MTU allows; bridged ones may be, and then are by far. */
	if ((__u64)settings.frame_max + tag <= *limit && (__u64)skb->gso_size + SEGMENT_HEADERS_MIN + tag <= *limit)
		return false;
	return (__u64)segment_len(skb) + tag > *limit;
}

/* Whether the frame is in the kernel's share. */
static __always_inline bool kernels(struct __sk_buff *skb)
{
	__u32 kernel_only = SHARE_KERNEL_ONLY, all_but = SHARE_ALL_BUT;
	void *list = bpf_map_lookup_elem(&kernel_share, &all_but);
	bool listed_is_kernels = !list;
	__u64 key = 0;

	if (!list)
		list = bpf_map_lookup_elem(&kernel_share, &kernel_only);
	if (!list)
		return false;
	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_dest), &key, ETH_ALEN))
		return true;
	return !!bpf_map_lookup_elem(list, &key) == listed_is_kernels;
}

/* Puts the mark into two tags in front of the frame's own: a tag has 16 bits. The outer one is the upper half. */
static __always_inline bool push_mark(struct __sk_buff *skb)
{
	__u32 mark = skb->mark;

	return !bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021AD), mark & 0xffff) &&
	       !bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021AD), mark >> 16);
}

/* Takes one of these tags off. The kernel has moved the outermost tag from the bytes beside them. */
static __always_inline bool pop_half(struct __sk_buff *skb, __u32 *half)
{
	if (!skb->vlan_present || skb->vlan_proto != bpf_htons(ETH_P_8021AD))
		return false;
	*half = skb->vlan_tci & 0xffff;
	return !bpf_skb_vlan_pop(skb);
}

static __always_inline bool pop_mark(struct __sk_buff *skb)
{
	__u32 upper, lower;

	if (!pop_half(skb, &upper) || !pop_half(skb, &lower))
		return false;
	skb->mark = upper << 16 | lower;
	return true;
}

/* Whether a frame of UDP goes through the TAP. Superframes should, and lone datagrams are faster over the pair; but what is on
 * its way must not be overtaken by what comes behind it. So a flow changes its way only when nothing of it has gone the other
 * one for so long that it has left, or that its worker hangs. The state is that of all flows with the same hash: a store that
 * another CPU's overtakes is of another flow, or of frames that have no order. `pipeline::lane` has the same rule for what comes
 * from the wire. */
static __always_inline bool datagram_takes_tap(struct __sk_buff *skb, __u32 at, __u32 ends)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct way *way;
	__u32 ports, place;
	bool tap;

	if (bpf_skb_load_bytes(skb, at, &ports, sizeof(ports)))
		return false;
	/* Not the kernel's hash, which dissects each frame for it: 2^32 divided by the golden ratio. */
	place = ((ends ^ (ports << 13 | ports >> 19)) * 0x9e3779b9u) >> VXGATE_WAYS_SHIFT;
	way = bpf_map_lookup_elem(&ways, &place);
	if (!way)
		return false;
	if (skb->gso_size)
		tap = now - way->pair_ns > HEARTBEAT_STALE_NS;
	else
		tap = now - way->tap_ns <= HEARTBEAT_STALE_NS;
	if (tap)
		way->tap_ns = now;
	else
		way->pair_ns = now;
	return tap;
}

/* Whether the frame goes through the TAP: TCP or UDP right behind an IP header, whole and without a tag. Each flow goes one
 * way, but for fragments, which wait for each other anyway. */
static __always_inline bool takes_tap(struct __sk_buff *skb)
{
	__u32 at = sizeof(struct ethhdr), ends = 0;
	struct ipv6hdr six;
	struct iphdr four;
	__be16 protocol;
	__u8 carried;

	if (!settings.tap || skb->vlan_present ||
	    bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_proto), &protocol, sizeof(protocol)))
		return false;
	if (protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &four, sizeof(four)) || four.version != VERSION_IPV4 ||
		    four.frag_off & bpf_htons(IP_FRAGMENT_OR_OFFSET))
			return false;
		carried = four.protocol;
		at += four.ihl * 4;
		ends = four.saddr ^ (four.daddr << 16 | four.daddr >> 16);
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		if (bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &six, sizeof(six)) || six.version != VERSION_IPV6)
			return false;
		carried = six.nexthdr;
		at += sizeof(six);
		for (int word = 0; word < 4; word++)
			ends = (ends << 5 | ends >> 27) ^ six.saddr.in6_u.u6_addr32[word] ^
			       (six.daddr.in6_u.u6_addr32[word] << 16 | six.daddr.in6_u.u6_addr32[word] >> 16);
	} else {
		return false;
	}
	if (carried == IPPROTO_UDP)
		return datagram_takes_tap(skb, at, ends);
	return carried == IPPROTO_TCP;
}

SEC("tc")
int steer_egress(struct __sk_buff *skb)
{
	/* Of a superframe that a guest made, nobody has counted the segments yet (0): it counts as one. */
	__u64 frames = skb->gso_segs > 1 ? skb->gso_segs : 1;

	if (bypassed()) {
		count_passed(COUNTS_EGRESS, PASS_BYPASS, frames);
		return NEXT;
	}
	if (!all_fresh(bpf_ktime_get_coarse_ns())) {
		count_passed(COUNTS_EGRESS, PASS_HEARTBEAT_STALE, frames);
		return NEXT;
	}
	if (oversize(skb)) {
		count_passed(COUNTS_EGRESS, PASS_OVERSIZE, frames);
		return NEXT;
	}
	if (kernels(skb)) {
		count_passed(COUNTS_EGRESS, PASS_KERNEL_ROUTE, frames);
		return NEXT;
	}
	if (is_left_to_device(skb)) {
		count_passed(COUNTS_EGRESS, PASS_SUPERFRAME, frames);
		return NEXT;
	}
	if (is_shown_to_kernel(skb)) {
		count_passed(COUNTS_EGRESS, PASS_SHOWN, frames);
		return NEXT;
	}
	if (takes_tap(skb)) {
		/* The TAP itself chooses the queue, by the flow. */
		count_steered(COUNTS_EGRESS, frames);
		count_steered(COUNTS_TAP, 1);
		return bpf_redirect(settings.tap, 0);
	}
	/* One flow, one queue, one worker. The queue's number is stored with one added (`skb_record_rx_queue`). */
	if (settings.workers > 1)
		skb->queue_mapping = bpf_get_hash_recalc(skb) % settings.workers + 1;
	if (settings.gbp && !push_mark(skb)) {
		/* No memory, and maybe one tag too many: it cannot go on as it is. */
		count_lost(COUNTS_EGRESS, 1);
		return TC_ACT_SHOT;
	}
	count_steered(COUNTS_EGRESS, frames);
	return bpf_redirect(settings.kernel_side, 0);
}

/* How many frames of the wire a worker joined to this one: segments of TCP, or datagrams. */
static __always_inline __u64 joined(struct __sk_buff *skb)
{
	__u32 at, headers;

	if (!skb->gso_size)
		return 1;
	if (carried_at(skb, &at) == IPPROTO_TCP)
		headers = tcp_headers_len(skb, at);
	else
		headers = at + sizeof(struct udphdr);
	return headers < skb->len ? (skb->len - headers + skb->gso_size - 1) / skb->gso_size : 1;
}

SEC("tc")
int vxgate_ingress(struct __sk_buff *skb)
{
	__u32 pod;

	/* Whatever comes in while no worker lives was not decapsulated by one. Bypass does not stop frames here: a worker
	 * that drains still hands on what it had received. */
	if (!any_fresh()) {
		count_lost(COUNTS_INGRESS, joined(skb));
		return TC_ACT_SHOT;
	}
	if (settings.gbp && !pop_mark(skb)) {
		count_lost(COUNTS_INGRESS, 1);
		return TC_ACT_SHOT;
	}
	count_steered(COUNTS_INGRESS, 1);
	if (settings.flow_sets && (pod = take_from_worker(skb, joined(skb))))
		return bpf_redirect(pod, 0);
	return bpf_redirect(settings.device, BPF_F_INGRESS);
}

SEC("tc")
int vxgate_wire(struct __sk_buff *skb)
{
	/* Nobody but a worker writes here, and what it wrote belongs on the wire whatever has become of it since. */
	return bpf_redirect(settings.device, 0);
}

/* The kernel empties an array of programs when its last descriptor is closed: the way to `steer_...` ends with the process,
 * for all devices together, while dropping a link takes the kernel a grace period of RCU or more for each. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} underlay_alive SEC(".maps") = { .values = { (void *)&steer_underlay } };

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} egress_alive SEC(".maps") = { .values = { (void *)&steer_egress } };

SEC("xdp")
int vxgate_underlay(struct xdp_md *ctx)
{
	bpf_tail_call_static(ctx, &underlay_alive, 0);
	return XDP_PASS;
}

SEC("tc")
int vxgate_egress(struct __sk_buff *skb)
{
	bpf_tail_call_static(skb, &egress_alive, 0);
	return NEXT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
