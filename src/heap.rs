//! Memory that was freed, given back to the system.
//!
//! The C library gives back by itself only what is free at the end of a heap. A table that was copied to be changed leaves
//! holes in the middle, in sum up to the size of a table: nothing to be lost, since the next storm of changes fills them, but
//! memory that nobody else can use until then.
#![allow(unsafe_code)] // WHY: the allocator's own function is the only way to it.

/// Gives back every free page of memory. Takes a while in proportion to what is free: not for threads that have work to do.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, may be called by any thread at any time, and leaves what is in use as it is.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use std::fs;

    use super::*;

    fn resident_kib() -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse().unwrap()
    }

    #[test]
    fn holes_between_what_is_in_use_are_given_back() {
        // 64 MiB in pieces that are no mappings of their own, of which every hundredth stays.
        let mut pieces: Vec<_> = (0..1 << 14).map(|_| vec![1_u8; 1 << 12]).collect();
        let full_kib = resident_kib();
        let mut number = 0;
        pieces.retain(|_| {
            number += 1;
            number % 100 == 0
        });
        give_back();
        let kib = resident_kib();
        assert!(kib + (32 << 10) < full_kib, "{full_kib} KiB, then {kib}");
        assert!(
            pieces
                .iter()
                .all(|piece| piece.iter().all(|byte| *byte == 1))
        );
    }
}
