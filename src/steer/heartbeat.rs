//! The cells that workers store their heartbeat into, and the flag that makes every program pass: BPF arrays, mapped.
#![allow(unsafe_code)] // WHY: storing without a system call needs the map's memory itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A mapped BPF array whose cells begin with a number.
#[derive(Debug)]
pub(super) struct Cells {
    start: NonNull<libc::c_void>,
    len: usize,
    count: usize,
    stride: usize,
}

// SAFETY: the mapping is plain shared memory that is only touched through atomics, and lives until the last owner drops it.
unsafe impl Send for Cells {}
// SAFETY: as above; every access is atomic.
unsafe impl Sync for Cells {}

impl Cells {
    /// Maps an array of `count` cells of `stride` bytes (a multiple of 8).
    pub fn map(array: impl AsFd, count: usize, stride: usize) -> io::Result<Self> {
        let len = (count * stride).next_multiple_of(page_size());
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at a place of the kernel's choice; the kernel refuses a length that the array has not.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                protection,
                flags,
                array.as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start)
            .ok_or_else(|| io::Error::other("the mapping is at address zero"))?;
        Ok(Self {
            start,
            len,
            count,
            stride,
        })
    }

    /// Stores a number at the start of a cell. A cell that does not exist is not stored to.
    #[inline]
    pub fn store(&self, index: usize, number: u64) {
        if let Some(word) = self.word(index, 0) {
            word.store(number, Ordering::Relaxed);
        }
    }

    /// Stores a number at a word of a cell, after all that was stored before. What does not exist is not stored to.
    pub fn store_word(&self, index: usize, word: usize, number: u64) {
        if let Some(word) = self.word(index, word) {
            word.store(number, Ordering::Release);
        }
    }

    /// A word of a cell; 0 of what does not exist.
    pub fn load_word(&self, index: usize, word: usize) -> u64 {
        self.word(index, word)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }

    #[inline]
    fn word(&self, index: usize, word: usize) -> Option<&AtomicU64> {
        if index >= self.count || word >= self.stride / size_of::<u64>() {
            return None;
        }
        let at = index * self.stride + word * size_of::<u64>();
        // SAFETY: in bounds, because `count` cells of `stride` bytes are mapped.
        let word = unsafe { self.start.as_ptr().byte_add(at) };
        // SAFETY: aligned, because pages and the stride are multiples of 8; alive as long as `self`; shared with BPF programs, which
        // read and write whole words.
        Some(unsafe { AtomicU64::from_ptr(word.cast()) })
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, of which nobody holds a part any more.
        unsafe { libc::munmap(self.start.as_ptr(), self.len) };
    }
}

fn page_size() -> usize {
    // SAFETY: reads a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// A worker's own cell.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    cells: Arc<Cells>,
    worker: usize,
}

impl Heartbeat {
    pub(super) fn new(cells: Arc<Cells>, worker: usize) -> Self {
        Self { cells, worker }
    }

    /// Says that the worker lives, at `now_ns` of `CLOCK_MONOTONIC`. A store, no system call.
    #[inline]
    pub fn store(&self, now_ns: u64) {
        self.cells.store(self.worker, now_ns);
    }
}
