//! The kernel's counts of a port, and what they say about frames.

/// `struct xdp_statistics` (`if_xdp.h`), since the socket was made. The counts overlap: [`Self::rx_drops`] does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortStatistics {
    /// Frames dropped for another reason than a full receive ring: longer than a chunk, or the fill ring was empty.
    pub rx_dropped: u64,
    /// Reserved by the kernel for refused receive descriptors; nothing raises it (Linux 6.18). Refused fill descriptors
    /// are counted inside the kernel and not shown.
    pub rx_invalid_descs: u64,
    /// Transmit descriptors that the kernel refused.
    pub tx_invalid_descs: u64,
    /// Frames dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times the kernel wanted a chunk and the fill ring was empty.
    pub rx_fill_ring_empty_descs: u64,
    /// Times the kernel looked at the transmit ring and found it empty; no fault.
    pub tx_ring_empty_descs: u64,
}

/// Frames that the kernel dropped on reception, each counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RxDrops {
    /// The receive ring was full: the worker is too slow.
    pub ring_full: u64,
    /// The fill ring was empty: the pool has too few frames.
    pub fill_empty: u64,
    /// The frame was longer than a chunk behind its room, or could not be copied.
    pub invalid: u64,
}

impl PortStatistics {
    /// Tells the kernel's drops apart, so that they can be added.
    ///
    /// In copy mode every frame takes its chunk at the moment it arrives (`xsk.c`, `__xsk_rcv`): an empty fill ring
    /// raises `rx_fill_ring_empty_descs` and then `rx_dropped` too, a frame that is too long raises `rx_dropped` alone, a
    /// full receive ring raises `rx_ring_full` alone. So what is left of `rx_dropped` are the too long ones.
    ///
    /// With zero-copy the driver takes chunks ahead of the frames, by batches: `rx_fill_ring_empty_descs` then counts
    /// attempts and no frames (`xp_alloc_batch`, `xp_can_alloc`). The frames lost by it never reached the socket; the
    /// device counts them (`rx_missed_errors`, `rx_out_of_buffer`), so they are not claimed here.
    pub fn rx_drops(&self, zero_copy: bool) -> RxDrops {
        let fill_empty = if zero_copy {
            0
        } else {
            self.rx_fill_ring_empty_descs.min(self.rx_dropped)
        };
        RxDrops {
            ring_full: self.rx_ring_full,
            fill_empty,
            invalid: self.rx_dropped - fill_empty,
        }
    }
}

impl RxDrops {
    /// As told of a socket in copy mode that takes frames of several buffers: none is too long for it, and what else was
    /// dropped found buffers in the fill ring, but too few, which the kernel counts as nothing else (`xp_can_alloc`).
    pub fn of_chains(self) -> Self {
        Self {
            ring_full: self.ring_full,
            fill_empty: self.fill_empty + self.invalid,
            invalid: 0,
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.ring_full + self.fill_empty + self.invalid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_dropped_frame_is_counted_twice() {
        let counts = PortStatistics {
            rx_dropped: 10,
            rx_ring_full: 3,
            rx_fill_ring_empty_descs: 7,
            ..Default::default()
        };
        let drops = counts.rx_drops(false);
        assert_eq!(
            drops,
            RxDrops {
                ring_full: 3,
                fill_empty: 7,
                invalid: 3
            }
        );
        assert_eq!(drops.total(), 13);
    }

    #[test]
    fn a_chain_that_found_too_few_buffers_is_one_of_an_empty_fill_ring() {
        let counts = PortStatistics {
            rx_dropped: 5,
            rx_fill_ring_empty_descs: 2,
            rx_ring_full: 1,
            ..Default::default()
        };
        let drops = counts.rx_drops(false).of_chains();
        assert_eq!(
            (drops.ring_full, drops.fill_empty, drops.invalid),
            (1, 5, 0)
        );
    }

    #[test]
    fn attempts_of_a_zero_copy_driver_are_no_frames() {
        let counts = PortStatistics {
            rx_dropped: 1,
            rx_fill_ring_empty_descs: 5000,
            ..Default::default()
        };
        assert_eq!(
            counts.rx_drops(true),
            RxDrops {
                ring_full: 0,
                fill_empty: 0,
                invalid: 1
            }
        );
        // Nor does more empty rings than drops make the difference negative.
        assert_eq!(counts.rx_drops(false).total(), 1);
    }
}
