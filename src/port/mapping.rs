//! One `mmap(2)`, unmapped when its last user goes.
#![allow(unsafe_code)] // WHY: memory shared with the kernel has no safe form in `std`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// A mapping, readable and writable. It hands out only a pointer: what may be read or written when is up to the ring
/// protocol and the ownership of frames, which are kept by `ring` and `umem`.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and this type itself never dereferences the pointer.
unsafe impl Send for Mapping {}
// SAFETY: as above; a shared reference gives nothing but the pointer and the length.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed private memory. `flags` are added to `MAP_PRIVATE | MAP_ANONYMOUS`.
    pub(super) fn anonymous(len: usize, flags: libc::c_int) -> io::Result<Self> {
        Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags, -1, 0)
    }

    /// A part of what a file descriptor stands for, shared with the kernel and present from the start.
    pub(super) fn of_fd(fd: BorrowedFd<'_>, len: usize, offset: u64) -> io::Result<Self> {
        let offset =
            i64::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
        Self::map(
            len,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd.as_raw_fd(),
            offset,
        )
    }

    fn map(len: usize, flags: libc::c_int, fd: libc::c_int, offset: i64) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that exists.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd,
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start =
            NonNull::new(start.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::EFAULT))?;
        Ok(Self { start, len })
    }

    /// Tells the kernel what is wanted of the pages: `MADV_HUGEPAGE` or `MADV_POPULATE_WRITE` (`madvise(2)`).
    pub(super) fn advise(&self, advice: libc::c_int) -> io::Result<()> {
        debug_assert!(matches!(
            advice,
            libc::MADV_HUGEPAGE | libc::MADV_POPULATE_WRITE
        ));
        // SAFETY: the range is this mapping; neither piece of advice changes a byte of it.
        match unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Keeps the pages in memory.
    pub(super) fn lock(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping; locking changes no byte of it.
        match unsafe { libc::mlock(self.start.as_ptr().cast(), self.len) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Its first byte.
    #[inline]
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its length in bytes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping, and its owner is going: nobody holds a pointer into it any longer.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
