//! Asking the processor for memory before it is looked at.
//!
//! A hundred places in memory that are looked at one after the other are waited for one after the other; asked for first,
//! they come a dozen at a time. So whoever works on a batch asks for what it will look at in one pass, and looks in the next.
//!
//! This is a module of its own, and at the bottom, so that the one place with `unsafe` for it serves `port`, `table` and `pipeline`.
//! Stable Rust has no way without: `core::hint::prefetch_read` is unstable, and the intrinsic of the processor, although any
//! pointer is good for it, may be called freely only by functions that say they need SSE, and so by no others.
#![allow(unsafe_code)] // WHY: the one instruction for it is behind `unsafe`. A look instead of it (a copy that is used later) keeps
// the processor from running ahead: batches of look-ups in an FDB of 1 M entries take 1.47 times as long, `decide` on frames beyond
// the caches up to 3 times.

/// Bytes of a cache line.
pub const LINE: isize = 64;

/// Asks for the cache line where `place` starts, and goes on without waiting.
#[inline(always)]
pub fn line_of<T>(place: &T) {
    line_at(std::ptr::from_ref(place).cast());
}

/// Asks for the cache line around `address`, which may be anything. Does nothing where the language has no way to say it.
#[inline(always)]
pub fn line_at(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 processor has SSE. A prefetch is a hint: it reads nothing that the program could see, and no address is
    // wrong for it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_may_be_asked_for() {
        line_of(&[7u8; 200]);
        for address in [0, 1, usize::MAX] {
            line_at(std::ptr::without_provenance(address));
        }
    }
}
