//! One pinned thread: its ports, its turn, its heartbeat, its rest when idle.
