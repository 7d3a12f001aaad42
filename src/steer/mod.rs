//! The BPF programs and their maps, loaded and attached; the access devices; heartbeat and fail-open.
