//! Allocations counted, for tests and benchmarks of what must not allocate: [`Watched`] as the binary's global allocator
//! counts the calls of those threads that asked for it.

// WHY: a global allocator is an unsafe trait.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, with an eye on some threads.
pub struct Watched;

thread_local! {
    /// Whether this thread is being watched.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// Calls of watched threads.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static FREES: AtomicU64 = AtomicU64::new(0);

fn count(calls: &AtomicU64) {
    if WATCHED.get() {
        calls.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(&ALLOCATIONS);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(&FREES);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count(&ALLOCATIONS);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, len) }
    }
}

/// Counts the calls of this thread from here on, or no more.
pub fn watch(on: bool) {
    WATCHED.set(on);
}

/// Allocations and frees of all threads while they were watched.
pub fn calls() -> (u64, u64) {
    (
        ALLOCATIONS.load(Ordering::Relaxed),
        FREES.load(Ordering::Relaxed),
    )
}

/// Allocations and frees of this thread while it does something.
pub fn calls_during<T>(action: impl FnOnce() -> T) -> (u64, u64, T) {
    let before = calls();
    watch(true);
    let result = action();
    watch(false);
    let after = calls();
    (after.0 - before.0, after.1 - before.1, result)
}
