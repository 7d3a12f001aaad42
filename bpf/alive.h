/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Whether the workers live: what every program asks before it touches a frame. */
#ifndef VXGATE_ALIVE_H
#define VXGATE_ALIVE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "shared.h"

/* A frame is left to the next program, and then to the kernel, by the same value for tcx (TCX_NEXT) and clsact. */
#define NEXT (-1)

/* Set before loading, one copy of the object for each device; `workers` is at least 1. */
const volatile struct steer_settings settings = { .workers = 1 };

/* Shared by all copies of all objects. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, VXGATE_WORKERS_MAX);
	__type(key, __u32);
	__type(value, struct heartbeat_cell);
} heartbeats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} bypass SEC(".maps");

static __always_inline bool bypassed(void)
{
	__u32 zero = 0;
	__u64 *on = bpf_map_lookup_elem(&bypass, &zero);

	return !on || *on;
}

/* At `now_ns`, CLOCK_MONOTONIC_COARSE. */
static __always_inline bool fresh(__u32 worker, __u64 now_ns)
{
	struct heartbeat_cell *cell = bpf_map_lookup_elem(&heartbeats, &worker);

	if (!cell || !cell->at_ns)
		return false;
	/* The coarse clock lags behind the worker's: the age may be negative. */
	return (__s64)(now_ns - cell->at_ns) <= HEARTBEAT_STALE_NS;
}

static __always_inline bool all_fresh(__u64 now_ns)
{
	for (__u32 worker = 0; worker < VXGATE_WORKERS_MAX; worker++) {
		if (worker >= settings.workers)
			break;
		if (!fresh(worker, now_ns))
			return false;
	}
	return true;
}

#endif
