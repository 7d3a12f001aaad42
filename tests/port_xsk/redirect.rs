//! A program that gives the frames of a device's queues to sockets.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use vxgate::port::XskPort;

use crate::ifindex;

/// `redirect_map(&map, ctx->rx_queue_index, XDP_PASS)`, attached natively to one device.
pub struct Redirect {
    map: OwnedFd,
    _link: OwnedFd,
}

impl Redirect {
    pub fn attach(device: &str) -> Self {
        Self::attach_with(device, 0)
    }

    /// With `prog_flags` of `BPF_PROG_LOAD`.
    pub fn attach_with(device: &str, flags: u32) -> Self {
        let map = bpf(
            0,
            &MapCreate {
                map_type: 17,
                key_size: 4,
                value_size: 4,
                max_entries: 2,
            },
        );
        let instruction = |code: u8, registers: u8, offset: i16, immediate: i32| -> u64 {
            u64::from(code)
                | u64::from(registers) << 8
                | u64::from(offset as u16) << 16
                | u64::from(immediate as u32) << 32
        };
        let program = [
            instruction(0x61, 0x12, 16, 0), // r2 = *(u32 *)(r1 + rx_queue_index)
            instruction(0x18, 0x11, 0, map.as_raw_fd()), // r1 = the map
            instruction(0, 0, 0, 0),        //
            instruction(0xb7, 0x03, 0, 2),  // r3 = XDP_PASS, when there is no socket
            instruction(0x85, 0, 0, 51),    // call bpf_redirect_map
            instruction(0x95, 0, 0, 0),     // exit
        ];
        let license = c"GPL";
        let mut load = [0_u64; 15];
        load[0] = 6 | (program.len() as u64) << 32; // BPF_PROG_TYPE_XDP
        load[1] = program.as_ptr() as u64;
        load[2] = license.as_ptr() as u64;
        load[5] = u64::from(flags) << 32;
        let loaded = bpf(5, &load);
        // BPF_LINK_CREATE: program, device, BPF_XDP = 37, XDP_FLAGS_DRV_MODE = 4.
        let link = bpf(28, &[loaded.as_raw_fd() as u32, ifindex(device), 37, 4]);
        Self { map, _link: link }
    }

    pub fn steer(&self, queue: u32, port: &XskPort) {
        let socket = port.socket().as_raw_fd();
        let update = [
            self.map.as_raw_fd() as u64,
            &raw const queue as u64,
            &raw const socket as u64,
            0,
        ];
        bpf_raw(2, &update);
    }
}

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

fn bpf_raw<T>(command: libc::c_int, attributes: &T) -> libc::c_int {
    // SAFETY: the pointer and the size are those of the attributes, whose own pointers are to the caller's locals.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    assert!(
        result >= 0,
        "bpf({command}): {}",
        io::Error::last_os_error()
    );
    result as libc::c_int
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> OwnedFd {
    let fd = bpf_raw(command, attributes);
    // SAFETY: these commands return a new descriptor.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
