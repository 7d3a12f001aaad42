// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The far end of the wire, when a program in user space is to see every frame: the way to its AF_XDP sockets.
 *
 *   vxgate_listener  XDP on the receiving device:  a frame with a signature of a known stream -> the socket of its queue;
 *                                                  any other                                  -> counted, left to the kernel
 */
#include "signature.h"

/* As many entries as the device has queues are made before loading. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct listener_counts);
} listened SEC(".maps");

SEC("xdp.frags")
int vxgate_listener(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u32 queue = ctx->rx_queue_index;
	struct listener_counts *here = bpf_map_lookup_elem(&listened, &zero);
	struct scratch *frame = bpf_map_lookup_elem(&scratches, &zero);
	__u32 len = bpf_xdp_get_buff_len(ctx);
	struct signature found = {};

	if (!here || !frame)
		return XDP_PASS;
	if (!find_signature(ctx, frame, len, false, &found)) {
		here->foreign++;
		return XDP_PASS;
	}
	/* Of the generators, and so nothing for the kernel: without a socket, it is lost here, and that is counted, too. */
	here->generated++;
	return bpf_redirect_map(&sockets, queue, XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
