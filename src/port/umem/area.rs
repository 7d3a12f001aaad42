//! The memory itself: huge pages where there are some, and locked.

use std::io;

use super::super::mapping::Mapping;

/// What kind of pages the area has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// 2 MiB pages from the system's pool (`vm.nr_hugepages`): one TLB entry for hundreds of frames.
    Huge,
    /// The system's usual pages, because the pool had not enough huge ones.
    Ordinary,
}

impl Pages {
    /// As shown to people: `2 MiB`, `ordinary`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Huge => "2 MiB",
            Self::Ordinary => "ordinary",
        }
    }
}

/// Huge pages when the pool has enough of them, else ordinary ones; present from the start either way.
pub(super) fn map_area(len: usize) -> io::Result<(Mapping, Pages)> {
    const HUGE: usize = 2 << 20;
    let huge_2m =
        libc::MAP_HUGETLB | (HUGE.trailing_zeros() as libc::c_int) << libc::MAP_HUGE_SHIFT;
    // The kernel reserves huge pages here and now, so this fails rather than a later access.
    if let Ok(area) = Mapping::anonymous(len.next_multiple_of(HUGE), huge_2m | libc::MAP_POPULATE) {
        return Ok((area, Pages::Huge));
    }
    let area = ordinary_area(len).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!(
                "{} KiB for frames: {error}; give fewer frames, or free memory",
                len / 1024
            ),
        )
    })?;
    Ok((area, Pages::Ordinary))
}

/// Ordinary pages, which the kernel makes huge where it can (`transparent_hugepage`). Besides the TLB this serves whoever
/// waits for the end of a killed process: its memory is taken down before its descriptors are closed, page by page.
fn ordinary_area(len: usize) -> io::Result<Mapping> {
    let area = Mapping::anonymous(len, 0)?;
    // Asked before the pages are there; a kernel without them makes small ones.
    let _ = area.advise(libc::MADV_HUGEPAGE);
    match area.advise(libc::MADV_POPULATE_WRITE) {
        // Before Linux 5.14.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Mapping::anonymous(len, libc::MAP_POPULATE)
        }
        outcome => outcome.map(|()| area),
    }
}

pub(super) fn lock_error(error: &io::Error, len: usize) -> io::Error {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a local of the right type.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    io::Error::new(
        error.kind(),
        format!(
            "cannot lock {} KiB for frames: {error}; RLIMIT_MEMLOCK is {} KiB: raise it (LimitMEMLOCK=infinity in a \
             systemd unit, `ulimit -l unlimited` in a shell), or grant CAP_IPC_LOCK",
            len / 1024,
            limit.rlim_cur / 1024
        ),
    )
}
