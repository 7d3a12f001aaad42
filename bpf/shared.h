/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the BPF programs and `src/steer` agree on. */
#ifndef VXGATE_SHARED_H
#define VXGATE_SHARED_H

#define VXGATE_WORKERS_MAX 64
#define VXGATE_QUEUES_MAX 256
#define VXGATE_DEVICES_MAX 256

/* The order is that of src/stats/pass_reason.rs, where the meanings stand. */
enum pass_reason {
	PASS_NOT_OURS,
	PASS_FOREIGN_VNI,
	PASS_FRAGMENT,
	PASS_IP_OPTIONS,
	PASS_NO_SOCKET,
	PASS_HEARTBEAT_STALE,
	PASS_BYPASS,
	PASS_REASONS,
};

#endif
