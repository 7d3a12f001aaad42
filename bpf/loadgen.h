/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the load generator's BPF programs and `src/loadgen/engine` agree on. `src/loadgen/headers.rs` and
 * `src/loadgen/signature.rs` say what a frame looks like. */
#ifndef VXGATE_LOADGEN_H
#define VXGATE_LOADGEN_H

#define STREAMS_MAX 16
#define VXLAN_PORTS_MAX 4
#define HEADERS_MAX 144
#define SIGNATURE_LEN 16
#define SIGNATURE_MAGIC 0x5647
#define SIGNATURE_TIME_BITS 48
/* The longest frame that is looked into: 9000 bytes of MTU and an encapsulation. */
#define FRAME_MAX 9216

/* The last 2^20 sequence numbers of each stream, to tell a second copy: in chunks, because an entry of an array is at
 * most some kilobytes. */
#define CHUNK_SLOTS 1024
#define STREAM_CHUNKS 1024

/* Latencies in ns, log-linear: entry 0 of the octaves counts 0 to 127 one by one, entry k the values of k + 7 bits in 128
 * steps of 2^(k-1). Up to 2^41 ns, 36 minutes. */
#define OCTAVE_STEPS 128
#define OCTAVES 35
#define LATENCY_MAX_NS ((1ULL << 41) - 1)

/* The sink is told before it is loaded. */
struct sink_settings {
	__u32 streams;  /* streams that the generators send: 0 to streams - 1 */
	__u32 expected; /* a bit for each stream that belongs here */
	__be16 vxlan_ports[VXLAN_PORTS_MAX]; /* 0: none */
};

/* What came of one stream, on one CPU. */
struct stream_counts {
	__u64 frames;
	__u64 bytes;
	__u64 duplicated;
	__u64 reordered;
	__u64 corrupted;
	__u64 misdelivered;
};

/* What came in all, on one CPU. */
struct sink_counts {
	__u64 foreign;
	__u64 first_ns; /* CLOCK_MONOTONIC; 0: nothing has come */
	__u64 last_ns;
	__u64 latency_max_ns;
	__u64 latency_min_ns; /* of latency_count > 0 */
	__u64 latency_count;
};

/* What came where a socket listens, on one CPU. */
struct listener_counts {
	__u64 foreign;
	__u64 generated; /* what the sockets were to get */
};

/* What is known of one stream over all CPUs, in a cache line of its own. */
struct stream_progress {
	__u64 next; /* the highest sequence number seen, plus one */
	__u64 last_ns;
	__u64 gap_max_ns; /* the longest time between two arrivals */
	__u64 padding[5];
};

struct chunk {
	__u32 slot[CHUNK_SLOTS]; /* sequence / 2^20 + 1 of the last one seen there; 0: none */
};

struct octave {
	__u64 count[OCTAVE_STEPS];
};

/* The generator is told for each run. */
struct generator_run {
	__u64 next_q16;     /* the next intended time, in ns / 2^16 from start_ns */
	__u64 interval_q16; /* between two intended times; 0: as fast as it goes */
	__u64 start_ns;     /* CLOCK_MONOTONIC; 0: the first frame's */
	__u64 end_ns;       /* when all was over */
	__u64 left;         /* intended times that are left */
	__u64 resync_q16;   /* later than this, intended times are given up */
	__u64 late;         /* given up */
	__u64 bytes;        /* of all frames handed over */
	__u64 failed;       /* frames that could not be built */
	__u32 ifindex;      /* where they go */
	__u32 burst;        /* frames for each intended time */
	__u32 in_burst;     /* already sent of this one */
	__u32 turns;        /* entries of `turns` */
	__u32 turn;         /* the next one */
	__u32 done;         /* the run is over: 1 */
	__u64 burst_at_ns;  /* the intended time of the burst that is being sent */
};

/* One stream of the run. */
struct generator_stream {
	__u64 sent;
	__u32 sequence;
	__u32 flow_first; /* in `flows` */
	__u32 flow_count;
	__u32 flow;
	__u32 size_first; /* in `sizes` */
	__u32 size_count;
	__u32 size;
	__u32 period;     /* frames after which flows and sizes would repeat together though they need not; 0: never */
	__u32 period_left;
	__u16 id;
	__u16 header_len;
	__u8 outer_family; /* 0, 4 or 6 */
	__u8 inner_family; /* 4 or 6 */
	__u8 inner_at;
	__u8 outer_udp_times; /* how often the payload's length enters the outer UDP checksum */
	__u8 transport_at;    /* of the inner transport header, from the frame's start */
	__u8 checksum_at;     /* within it */
	__u8 transport_times; /* how often the payload's length enters its checksum */
	__u8 udp;             /* it is UDP: it has a length, and no checksum of 0 */
};

/* One flow of a stream. */
struct generator_flow {
	__u16 check; /* of what a signature's check takes from the headers; as in memory */
	__u16 zero[3];
	__u8 headers[HEADERS_MAX];
};

#endif
