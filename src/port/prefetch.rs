//! Asking the processor for memory before it is looked at.
#![allow(unsafe_code)] // WHY: the one instruction for it takes a pointer. What it buys: frames beyond the caches, `decide`.

/// Asks for the cache line where `place` starts, and goes on without waiting. Of a hundred such places, memory is then waited
/// for a few times and not a hundred.
#[inline]
pub fn prefetch<T>(place: &T) {
    prefetch_line(std::ptr::from_ref(place).cast());
}

/// Asks for the cache line around `address`, which may be anything. Does nothing where the language has no way to say it.
#[inline]
pub(super) fn prefetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it reads nothing that the program could see, and no address is wrong for it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
