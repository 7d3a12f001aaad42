//! Where programs are attached, and how. Every attachment is a link, held by a file descriptor that dies with the
//! process; only on kernels without tcx (before 6.6) a clsact filter stands in, which outlives a killed process and
//! passes every frame then, because the way to the program that steers is gone.
#![allow(unsafe_code)] // WHY: libbpf-rs has no tcx, no choice of the XDP mode, and no question for what is attached.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libbpf_sys as sys;

use super::{XdpProgram, qdisc};

/// How XDP runs on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// After the driver has made an skb: slower, on any device.
    Generic,
}

/// A place for a classifier on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Ingress,
    Egress,
}

/// An attachment, undone by dropping it.
#[derive(Debug)]
pub(super) enum Hook {
    Link { link: Link },
    Filter { filter: Filter },
}

/// A BPF link.
#[derive(Debug)]
pub(super) struct Link {
    fd: OwnedFd,
}

impl Drop for Link {
    /// Closing would do, unless a child of this process still holds the descriptor between `fork` and `exec`.
    fn drop(&mut self) {
        // SAFETY: takes a descriptor that is open, and touches no memory.
        let detached = unsafe { sys::bpf_link_detach(self.fd.as_raw_fd()) };
        if let Err(error) = checked(detached) {
            tracing::debug!(%error, "cannot detach a link; closing it does the same");
        }
    }
}

impl Hook {
    /// Whether it is in its place still: its device may be gone and another one have its index. What the kernel does not tell of is
    /// taken to be.
    pub fn is_attached(&self) -> bool {
        match self {
            Self::Link { link } => link.ifindex() != Some(0),
            Self::Filter { filter } => filter.is_attached(),
        }
    }
}

impl Link {
    /// The index of its device, 0 when that is gone; of a link of tcx, or of XDP, which tell it in the same place.
    fn ifindex(&self) -> Option<u32> {
        let mut info = sys::bpf_link_info::default();
        let mut len = size_of::<sys::bpf_link_info>() as u32;
        // SAFETY: the structure lives through the call, and `len` is its size.
        let asked = unsafe {
            sys::bpf_link_get_info_by_fd(self.fd.as_raw_fd(), &raw mut info, &raw mut len)
        };
        checked(asked).ok()?;
        // SAFETY: any bits are a valid number, and the kernel has filled in this part of the union.
        Some(unsafe { info.__bindgen_anon_1.xdp.ifindex })
    }
}

/// A clsact filter.
#[derive(Debug)]
pub(super) struct Filter {
    ifindex: u32,
    /// Whether the `clsact` queueing discipline goes with it, unless others use it by then. Somebody else's stays.
    qdisc_too: bool,
    side: Side,
    handle: u32,
    priority: u32,
}

/// `BPF_MPROG_MAX`: a hook takes no more programs.
const TCX_PROGRAMS_MAX: usize = 64;
/// Our filters have this priority; `tc filter show` tells them by it and by the program's name.
pub(super) const FILTER_PRIORITY: u32 = 0x7678;

/// Attaches to XDP in this mode.
pub(super) fn attach_xdp(program: BorrowedFd<'_>, ifindex: u32, mode: XdpMode) -> io::Result<Hook> {
    let flags = match mode {
        XdpMode::Native => sys::XDP_FLAGS_DRV_MODE,
        XdpMode::Generic => sys::XDP_FLAGS_SKB_MODE,
    };
    link(program, ifindex, sys::BPF_XDP, flags)
}

/// Attaches a classifier: by tcx, or where the kernel has none by clsact.
pub(super) fn attach_classifier(
    program: BorrowedFd<'_>,
    ifindex: u32,
    side: Side,
    by_link: bool,
) -> io::Result<Hook> {
    if by_link {
        match link(program, ifindex, attach_type(side), 0) {
            // Kernels before 6.6 do not know the attach type.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            outcome => return outcome,
        }
    }
    let filter = Filter::attach(program, ifindex, side)?;
    Ok(Hook::Filter { filter })
}

/// Attaches a classifier by tcx, and in no other way: whatever becomes of the process, the attachment ends with it. Behind
/// those that are there already.
pub(super) fn attach_tcx(program: BorrowedFd<'_>, ifindex: u32, side: Side) -> io::Result<Hook> {
    link(program, ifindex, attach_type(side), 0)
}

/// The same, in front of those that are there.
pub(super) fn attach_tcx_first(
    program: BorrowedFd<'_>,
    ifindex: u32,
    side: Side,
) -> io::Result<Hook> {
    link(program, ifindex, attach_type(side), sys::BPF_F_BEFORE)
}

fn attach_type(side: Side) -> sys::bpf_attach_type {
    match side {
        Side::Ingress => sys::BPF_TCX_INGRESS,
        Side::Egress => sys::BPF_TCX_EGRESS,
    }
}

fn link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: sys::bpf_attach_type,
    flags: u32,
) -> io::Result<Hook> {
    let options = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as u64,
        flags,
        ..Default::default()
    };
    // SAFETY: the options live through the call and tell their own size.
    let fd = unsafe {
        sys::bpf_link_create(
            program.as_raw_fd(),
            ifindex.cast_signed(),
            attach_type,
            &raw const options,
        )
    };
    let fd: RawFd = checked(fd)?;
    // SAFETY: a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(Hook::Link { link: Link { fd } })
}

impl Filter {
    fn attach(program: BorrowedFd<'_>, ifindex: u32, side: Side) -> io::Result<Self> {
        let mut hook = tc_hook(ifindex, side);
        // SAFETY: the structure lives through the call and tells its own size.
        let made = unsafe { sys::bpf_tc_hook_create(&raw mut hook) };
        let qdisc_too = match checked(made) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        let mut options = sys::bpf_tc_opts {
            sz: size_of::<sys::bpf_tc_opts>() as u64,
            prog_fd: program.as_raw_fd(),
            priority: FILTER_PRIORITY,
            handle: 1,
            flags: sys::BPF_TC_F_REPLACE,
            ..Default::default()
        };
        // SAFETY: both structures live through the call and tell their own size.
        checked(unsafe { sys::bpf_tc_attach(&raw const hook, &raw mut options) })?;
        Ok(Self {
            ifindex,
            qdisc_too,
            side,
            handle: options.handle,
            priority: options.priority,
        })
    }

    /// A device that is made anew has none; nor has one whose `clsact` somebody removed.
    fn is_attached(&self) -> bool {
        let hook = tc_hook(self.ifindex, self.side);
        let mut found = sys::bpf_tc_opts {
            sz: size_of::<sys::bpf_tc_opts>() as u64,
            handle: self.handle,
            priority: self.priority,
            ..Default::default()
        };
        // SAFETY: both structures live through the call and tell their own size.
        match checked(unsafe { sys::bpf_tc_query(&raw const hook, &raw mut found) }) {
            Ok(_) => true,
            Err(error) => !is_gone(&error),
        }
    }

    fn detach(&self) -> io::Result<()> {
        let hook = tc_hook(self.ifindex, self.side);
        let options = sys::bpf_tc_opts {
            sz: size_of::<sys::bpf_tc_opts>() as u64,
            handle: self.handle,
            priority: self.priority,
            ..Default::default()
        };
        // SAFETY: both structures live through the call and tell their own size.
        checked(unsafe { sys::bpf_tc_detach(&raw const hook, &raw const options) })?;
        if self.qdisc_too
            && let Err(error) = qdisc::remove_unused_clsact(self.ifindex)
        {
            tracing::debug!(%error, ifindex = self.ifindex, "a clsact qdisc stays behind; empty, it does nothing");
        }
        Ok(())
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        match self.detach() {
            // The device went, and the filter with it.
            Err(error) if !is_gone(&error) => {
                tracing::warn!(%error, ifindex = self.ifindex, "a clsact filter stays behind; it passes every frame");
            }
            _ => {}
        }
    }
}

/// Whether an error says that there is no such filter: the device is gone, its `clsact`, or the filter alone.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)
    )
}

/// Whether a device has a filter of ours with this program.
pub(super) fn has_filter(ifindex: u32, side: Side, program_name: &str) -> bool {
    let hook = tc_hook(ifindex, side);
    let mut found = sys::bpf_tc_opts {
        sz: size_of::<sys::bpf_tc_opts>() as u64,
        handle: 1,
        priority: FILTER_PRIORITY,
        ..Default::default()
    };
    // SAFETY: both structures live through the call and tell their own size.
    let asked = unsafe { sys::bpf_tc_query(&raw const hook, &raw mut found) };
    checked(asked).is_ok() && program_named(found.prog_id).as_deref() == Some(program_name)
}

/// Removes a filter of ours that a killed process left on a device, if there is one. Returns whether there was.
pub(super) fn remove_filter(ifindex: u32, side: Side, program_name: &str) -> bool {
    if !has_filter(ifindex, side, program_name) {
        return false;
    }
    Filter {
        ifindex,
        // Whose it is nobody knows any more.
        qdisc_too: true,
        side,
        handle: 1,
        priority: FILTER_PRIORITY,
    }
    .detach()
    .is_ok()
}

/// The names of the classifiers that links hold on a device, in the order in which they run.
pub(super) fn tcx_programs(ifindex: u32, side: Side) -> io::Result<Vec<String>> {
    let mut ids = [0_u32; TCX_PROGRAMS_MAX];
    let mut options = sys::bpf_prog_query_opts {
        sz: size_of::<sys::bpf_prog_query_opts>() as u64,
        prog_ids: ids.as_mut_ptr(),
        ..Default::default()
    };
    options.__bindgen_anon_1.count = TCX_PROGRAMS_MAX as u32;
    let attach_type = match side {
        Side::Ingress => sys::BPF_TCX_INGRESS,
        Side::Egress => sys::BPF_TCX_EGRESS,
    };
    // SAFETY: the structure lives through the call, tells its own size, and names a buffer and how many numbers it holds.
    let asked =
        unsafe { sys::bpf_prog_query_opts(ifindex.cast_signed(), attach_type, &raw mut options) };
    checked(asked)?;
    let ids = ids.into_iter().take_while(|id| *id != 0);
    Ok(ids
        .map(|id| program_named(id).unwrap_or_else(|| format!("id {id}")))
        .collect())
}

/// The XDP program on a device, in words, and how it runs in those of `ip link`; none when there is none.
pub(super) fn xdp_program(ifindex: u32) -> Option<(String, &'static str)> {
    let mut options = sys::bpf_xdp_query_opts {
        sz: size_of::<sys::bpf_xdp_query_opts>() as u64,
        ..Default::default()
    };
    // SAFETY: the structure lives through the call and tells its own size.
    let asked = unsafe { sys::bpf_xdp_query(ifindex.cast_signed(), 0, &raw mut options) };
    checked(asked).ok()?;
    let (id, mode) = [
        (options.drv_prog_id, "xdp"),
        (options.skb_prog_id, "xdpgeneric"),
        (options.hw_prog_id, "xdpoffload"),
    ]
    .into_iter()
    .find(|(id, _)| *id != 0)?;
    let name = program_named(id).unwrap_or_else(|| XdpProgram::NAMELESS.to_owned());
    Some((format!("id {id}, {name}"), mode))
}

fn program_named(id: u32) -> Option<String> {
    let fd = libbpf_rs::Program::fd_from_id(id).ok()?;
    let mut info = sys::bpf_prog_info::default();
    let mut len = size_of::<sys::bpf_prog_info>() as u32;
    // SAFETY: the structure lives through the call, and `len` is its size.
    let asked =
        unsafe { sys::bpf_prog_get_info_by_fd(fd.as_raw_fd(), &raw mut info, &raw mut len) };
    checked(asked).ok()?;
    let name: Vec<u8> = info
        .name
        .iter()
        .map(|letter| letter.to_ne_bytes()[0])
        .take_while(|letter| *letter != 0)
        .collect();
    Some(String::from_utf8_lossy(&name).into_owned()).filter(|name| !name.is_empty())
}

fn tc_hook(ifindex: u32, side: Side) -> sys::bpf_tc_hook {
    sys::bpf_tc_hook {
        sz: size_of::<sys::bpf_tc_hook>() as u64,
        ifindex: ifindex.cast_signed(),
        attach_point: match side {
            Side::Ingress => sys::BPF_TC_INGRESS,
            Side::Egress => sys::BPF_TC_EGRESS,
        },
        ..Default::default()
    }
}

/// libbpf 1.x returns a negative errno.
fn checked(outcome: i32) -> io::Result<i32> {
    if outcome < 0 {
        Err(io::Error::from_raw_os_error(-outcome))
    } else {
        Ok(outcome)
    }
}
