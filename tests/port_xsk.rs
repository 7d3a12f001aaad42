//! `XskPort` on real sockets: veth pairs in a network namespace of each test's own, an XDP program that redirects every
//! frame of our Ethernet type to the socket of its queue, and raw packet sockets as the independent other end.
//!
//! ```text
//!     packet socket ── b0 ═══════ a0 ── XDP ── XskPort (queue 0, queue 1)
//! ```
//!
//! The namespace has no name: it belongs to the test's thread, and goes with it and all its devices. Needs root.
#![allow(unsafe_code)] // WHY: network namespaces, packet sockets and bpf(2) have no safe form here.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use vxgate::fault;
use vxgate::port::{
    Batch, ChunkSize, Finishes, Frame, Link, OpenError, Port, RxDrops, Sleeper, Umem, UmemConfig,
    XskConfig, XskPort, ZeroCopy, takes_chains,
};

/// Local experimental Ethernet type (IEEE 802): nobody else sends it.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
const RING: u32 = 64;
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test in a new network namespace, on a thread that ends with it.
fn in_own_netns(test: impl FnOnce() + Send) {
    let result = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: changes the namespace of this thread only.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(
                result,
                0,
                "a network namespace needs root: {}",
                io::Error::last_os_error()
            );
            // No router solicitations among the test's frames.
            std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
            test();
        });
        thread.join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn run(line: &str) {
    let mut words = line.split_ascii_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A veth pair, both ends up. A packet socket sends on whichever queue its processor has: with one, it is that of the port.
fn pair(near: &str, far: &str, queues: u32) {
    run(&format!(
        "ip link add {near} numrxqueues {queues} numtxqueues {queues} type veth peer name {far} numrxqueues {queues} numtxqueues {queues}"
    ));
    run(&format!("ip link set {near} up"));
    run(&format!("ip link set {far} up"));
}

fn ifindex(name: &str) -> u32 {
    let name = CString::new(name).unwrap();
    // SAFETY: a string with its end, which the call only reads.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0);
    index
}

/// `redirect_map(&map, ctx->rx_queue_index, XDP_PASS)`, attached natively to one device.
struct Redirect {
    map: OwnedFd,
    _link: OwnedFd,
}

impl Redirect {
    fn attach(device: &str) -> Self {
        Self::attach_with(device, 0)
    }

    /// With `prog_flags` of `BPF_PROG_LOAD`.
    fn attach_with(device: &str, flags: u32) -> Self {
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

    fn steer(&self, queue: u32, port: &XskPort) {
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

/// An independent end of the wire: a packet socket on one device, for frames of our Ethernet type.
struct Wire {
    fd: OwnedFd,
}

impl Wire {
    fn new(device: &str) -> Self {
        Self::of(device, ETHERTYPE)
    }

    /// As [`Wire::new`], for frames of another Ethernet type.
    fn of(device: &str, ether_type: [u8; 2]) -> Self {
        let protocol = u16::from_ne_bytes(ether_type);
        // SAFETY: makes a new descriptor.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(protocol)) };
        assert!(fd >= 0);
        // SAFETY: just made.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: integers, for which zeroes are valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = ifindex(device) as i32;
        // SAFETY: pointer and length of a local.
        let bound = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        assert_eq!(bound, 0);
        // By default a dozen long frames fill it.
        let room: libc::c_int = 8 << 20;
        // SAFETY: pointer and length of a local.
        let set = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const room).cast(),
                size_of_val(&room) as libc::socklen_t,
            )
        };
        assert_eq!(set, 0);
        Self { fd }
    }

    fn send(&self, bytes: &[u8]) {
        // SAFETY: pointer and length of a slice.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        assert_eq!(sent, bytes.len() as isize, "{}", io::Error::last_os_error());
    }

    /// The next frame from the other end, if there is one.
    fn next(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 16_384];
        // SAFETY: integers, for which zeroes are valid.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&from) as libc::socklen_t;
        // SAFETY: pointers and lengths of locals.
        let received = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT,
                (&raw mut from).cast(),
                &raw mut len,
            )
        };
        if received < 0 {
            return None;
        }
        bytes.truncate(received as usize);
        (from.sll_pkttype != libc::PACKET_OUTGOING).then_some(bytes)
    }
}

/// Waits until `attempt` gives something.
fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn bytes(number: u16, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; 12];
    bytes.extend(ETHERTYPE);
    bytes.extend(number.to_be_bytes());
    bytes.resize(len, number as u8);
    bytes
}

fn umem(chunk: ChunkSize) -> Umem {
    Umem::new(UmemConfig {
        chunk,
        frames: 1024,
        lock: true,
    })
    .unwrap()
}

fn config(device: &str, queue: u32) -> XskConfig {
    XskConfig {
        ifindex: ifindex(device),
        name: device.to_owned(),
        queue,
        ring_len: RING,
        zero_copy: ZeroCopy::Try,
        frame_len_max: 1518,
        finishes: Finishes::default(),
        busy_wait: Duration::from_secs(2),
    }
}

fn open(umem: &Umem, device: &str, queue: u32, share: Option<&XskPort>) -> XskPort {
    XskPort::open(umem, &config(device, queue), share).unwrap()
}

fn frame(umem: &mut Umem, bytes: &[u8]) -> Frame {
    let mut frame = umem.allocate().unwrap();
    assert!(umem.fill(&mut frame, bytes));
    frame
}

/// Receives until there are `count` frames.
fn receive(umem: &mut Umem, port: &mut XskPort, count: usize) -> Batch {
    let mut batch = Batch::new();
    until(&format!("{count} frames received"), || {
        port.receive(umem, &mut batch);
        (batch.len() >= count).then_some(())
    });
    batch
}

#[test]
fn bytes_cross_in_both_directions_and_zero_copy_is_refused_with_the_reason() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        let mode = port.mode().clone();
        assert!(!mode.zero_copy && !mode.shared);
        assert_eq!(mode.why_not.as_deref(), Some("the driver has no zero-copy"));
        assert_eq!(port.refill(&mut umem), RING as usize);
        let redirect = Redirect::attach("a0");
        redirect.steer(0, &port);
        let wire = Wire::new("b0");

        let sent = bytes(1, 1000);
        wire.send(&sent);
        let mut batch = until("a frame received", || {
            let mut batch = Batch::new();
            (port.receive(&mut umem, &mut batch) > 0).then_some(batch)
        });
        let mut received = batch.pop().unwrap();
        assert_eq!(umem.bytes(&received), sent);
        assert_eq!(umem.room_in_front(&received), 256);

        // The same frame goes back with a header pushed in front.
        let head = umem.push(&mut received, 50).unwrap();
        head[..14].copy_from_slice(&sent[..14]);
        head[14..50].fill(0xaa);
        let expected = umem.bytes(&received).to_vec();
        batch.push(received).unwrap();
        assert_eq!(port.transmit(&mut batch), 1);
        assert_eq!(until("a frame sent", || wire.next()), expected);
        until("its completion", || {
            (port.reclaim(&mut umem) == 1).then_some(())
        });
        assert_eq!(umem.free() + port.frames_held(), umem.frames() as usize);
        assert_eq!((port.foreign(), port.tx_errors()), (0, 0));
    });
}

#[test]
fn one_umem_serves_two_devices_with_two_queues_each() {
    in_own_netns(|| {
        pair("a0", "b0", 2);
        let mut umem = umem(ChunkSize::K4);
        let first = open(&umem, "a0", 0, None);
        let mut ports = vec![("a0", 0, first)];
        for (device, queue) in [("a0", 1), ("b0", 0), ("b0", 1)] {
            let port = open(&umem, device, queue, Some(&ports[0].2));
            assert!(
                port.mode().shared && !port.mode().zero_copy,
                "{:?}",
                port.mode()
            );
            assert_eq!(
                port.mode().why_not.as_deref(),
                Some("the driver has no zero-copy")
            );
            ports.push((device, queue, port));
        }
        let redirects = [Redirect::attach("a0"), Redirect::attach("b0")];
        for (device, queue, port) in &mut ports {
            assert_eq!(port.refill(&mut umem), RING as usize);
            redirects[usize::from(*device == "b0")].steer(*queue, port);
        }
        // From each port to the one at the other end with the same queue.
        for (from, to) in [(0, 2), (1, 3), (2, 0), (3, 1)] {
            let mut batch = Batch::new();
            for n in 0..40 {
                batch
                    .push(frame(
                        &mut umem,
                        &bytes(from as u16 * 100 + n, 60 + n as usize),
                    ))
                    .unwrap();
            }
            assert_eq!(ports[from].2.transmit(&mut batch), 40);
            let mut received = receive(&mut umem, &mut ports[to].2, 40);
            for (n, frame) in received.iter().enumerate() {
                assert_eq!(
                    umem.bytes(frame),
                    bytes(from as u16 * 100 + n as u16, 60 + n),
                    "queue and order"
                );
            }
            assert_eq!(umem.release_all(&mut received), 40);
            until("completions", || {
                ports[from].2.reclaim(&mut umem);
                (ports[from].2.frames_held() == RING as usize).then_some(())
            });
            assert_eq!(ports[to].2.refill(&mut umem), 40);
        }
        let held: usize = ports.iter().map(|(_, _, port)| port.frames_held()).sum();
        assert_eq!(umem.free() + held, umem.frames() as usize);
    });
}

#[test]
fn a_second_registration_of_the_same_memory_takes_the_same_frames() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        pair("c0", "d0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut inward = open(&umem, "a0", 0, None);
        let never = XskConfig {
            zero_copy: ZeroCopy::Never,
            ..config("c0", 0)
        };
        let mut outward = XskPort::open(&umem, &never, None).unwrap();
        assert!(!outward.mode().shared && !outward.mode().zero_copy);
        assert_eq!(
            outward.mode().why_not.as_deref(),
            Some("not asked for on c0")
        );
        inward.refill(&mut umem);
        let redirect = Redirect::attach("a0");
        redirect.steer(0, &inward);
        Wire::new("b0").send(&bytes(7, 700));
        let far = Wire::new("d0");
        let mut batch = until("a frame received", || {
            let mut batch = Batch::new();
            (inward.receive(&mut umem, &mut batch) > 0).then_some(batch)
        });
        assert_eq!(outward.transmit(&mut batch), 1);
        assert_eq!(
            until("the frame at the far end", || far.next()),
            bytes(7, 700)
        );
        until("its completion", || {
            (outward.reclaim(&mut umem) == 1).then_some(())
        });
        assert_eq!(umem.free() + inward.frames_held(), umem.frames() as usize);
    });
}

#[test]
fn a_taken_queue_is_named_and_who_may_have_it() {
    in_own_netns(|| {
        pair("a0", "b0", 2);
        let umem = umem(ChunkSize::K2);
        let _port = open(&umem, "a0", 1, None);
        let hurried = XskConfig {
            busy_wait: Duration::from_millis(30),
            ..config("a0", 1)
        };
        let error = XskPort::open(&umem, &hurried, None).unwrap_err();
        assert!(
            matches!(error, OpenError::Busy { queue: 1, .. }),
            "{error:?}"
        );
        let text = fault::line(&error);
        assert!(
            text.contains("a0 queue 1 is taken") && text.contains("(this process)"),
            "{text}"
        );
    });
}

#[test]
fn what_cannot_be_opened_says_why() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let umem = umem(ChunkSize::K2);
        let text =
            |config: &XskConfig| fault::line(&XskPort::open(&umem, config, None).unwrap_err());
        let error = text(&config("a0", 9));
        assert!(
            error.contains("a0 queue 9") && error.contains("no such queue"),
            "{error}"
        );
        let error = text(&XskConfig {
            ifindex: 4711,
            ..config("a0", 0)
        });
        assert!(error.contains("no such device"), "{error}");
        let error = text(&XskConfig {
            ring_len: 48,
            ..config("a0", 0)
        });
        assert!(error.contains("power of two"), "{error}");
        // Nothing of this holds the queue.
        let port = open(&umem, "a0", 0, None);
        let foreign = Umem::new(UmemConfig {
            chunk: ChunkSize::K2,
            frames: 16,
            lock: false,
        })
        .unwrap();
        let error = XskPort::open(&foreign, &config("b0", 0), Some(&port)).unwrap_err();
        assert!(matches!(error, OpenError::ForeignUmem { .. }), "{error:?}");
        let error = XskPort::open(&umem, &config("a0", 0), Some(&port)).unwrap_err();
        assert!(
            matches!(error, OpenError::Refused { .. } | OpenError::Busy { .. }),
            "{error:?}"
        );
    });
}

#[test]
fn a_closed_port_can_be_opened_again_at_once() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        for round in 0..3 {
            let mut port = open(&umem, "a0", 0, None);
            let wire = Wire::new("b0");
            let mut batch = Batch::new();
            batch.push(frame(&mut umem, &bytes(round, 60))).unwrap();
            assert_eq!(port.transmit(&mut batch), 1);
            assert_eq!(until("a frame sent", || wire.next()), bytes(round, 60));
        }
    });
}

#[test]
fn a_device_that_is_down_takes_nothing_and_works_again_when_up() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        let wire = Wire::new("b0");
        assert_eq!(port.link().unwrap(), Link::Up);
        run("ip link set a0 down");
        assert_eq!(port.link().unwrap(), Link::Down);
        let mut batch = Batch::new();
        batch.push(frame(&mut umem, &bytes(1, 60))).unwrap();
        // The first one finds it out; nothing after that is taken.
        port.transmit(&mut batch);
        assert!(port.link_down());
        batch.push(frame(&mut umem, &bytes(2, 60))).unwrap();
        let waiting = batch.len();
        assert_eq!((port.transmit(&mut batch), batch.len()), (0, waiting));
        run("ip link set a0 up");
        assert_eq!(port.link().unwrap(), Link::Up);
        until("the device taking frames again", || {
            (port.transmit(&mut batch) > 0).then_some(())
        });
        assert!(!port.link_down());
        let mut arrived = vec![until("the first frame", || wire.next())];
        arrived.push(until("the second frame", || {
            port.reclaim(&mut umem);
            wire.next()
        }));
        assert_eq!(arrived, [bytes(1, 60), bytes(2, 60)]);
    });
}

#[test]
fn a_deleted_device_is_gone() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        port.refill(&mut umem);
        run("ip link del a0");
        assert_eq!(port.link().unwrap(), Link::Gone);
        let mut batch = Batch::new();
        for n in 0..3 {
            batch.push(frame(&mut umem, &bytes(n, 60))).unwrap();
        }
        port.transmit(&mut batch);
        assert!(port.link_down());
        batch.push(frame(&mut umem, &bytes(9, 60))).unwrap();
        assert_eq!(port.transmit(&mut batch), 0);
        assert!(port.link_down());
        // A new device takes a new port with the same memory.
        pair("a0", "b0", 1);
        let mut next = open(&umem, "a0", 0, None);
        let wire = Wire::new("b0");
        assert!(next.transmit(&mut batch) > 0);
        assert_eq!(until("a frame sent", || wire.next()), bytes(9, 60));
    });
}

#[test]
fn a_full_transmit_ring_pushes_back_and_loses_nothing() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        let wire = Wire::new("b0");
        // Nothing is reclaimed: the completion ring fills, then the transmit ring.
        let (mut taken, mut batch) = (0, Batch::new());
        let mut next = 0;
        while batch.is_empty() {
            while batch.room() > 0 {
                batch.push(frame(&mut umem, &bytes(next, 100))).unwrap();
                next += 1;
            }
            taken += port.transmit(&mut batch);
            assert!(
                taken <= 2 * RING as usize,
                "the rings have no more room than that"
            );
        }
        assert_eq!(taken, 2 * RING as usize);
        assert!(!port.link_down());
        let back = umem.release_all(&mut batch);
        // Reclaiming makes room, and sends what was left, without another transmit.
        let mut reclaimed = 0;
        until("all completions", || {
            reclaimed += port.reclaim(&mut umem);
            (reclaimed == taken).then_some(())
        });
        for n in 0..taken as u16 {
            assert_eq!(
                until("every frame, in order", || wire.next()),
                bytes(n, 100)
            );
        }
        assert_eq!(
            (usize::from(next), umem.free()),
            (taken + back, umem.frames() as usize)
        );
    });
}

#[test]
fn the_kernels_drops_are_told_apart() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        run("ip link set a0 mtu 3000");
        run("ip link set b0 mtu 3000");
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        let redirect = Redirect::attach("a0");
        redirect.steer(0, &port);
        let wire = Wire::new("b0");
        let drops = |port: &XskPort| port.statistics().unwrap().rx_drops(port.mode().zero_copy);
        let expect = |port: &XskPort, expected: RxDrops| {
            until(&format!("{expected:?}"), || {
                (drops(port) == expected).then_some(())
            });
        };
        let send = |count: u16, len: usize| (0..count).for_each(|n| wire.send(&bytes(n, len)));

        send(5, 60);
        expect(
            &port,
            RxDrops {
                fill_empty: 5,
                ..Default::default()
            },
        );
        assert_eq!(
            port.statistics().unwrap().rx_dropped,
            5,
            "the kernel counts them twice"
        );
        assert_eq!(port.refill(&mut umem), RING as usize);
        send(1, 1900);
        expect(
            &port,
            RxDrops {
                fill_empty: 5,
                invalid: 1,
                ..Default::default()
            },
        );
        send(RING as u16, 60);
        // Some of them are in the receive ring, so there is room in the fill ring again: no frame dies for want of a chunk.
        until("fill descriptors taken", || {
            (port.refill(&mut umem) > 0).then_some(())
        });
        send(3, 60);
        expect(
            &port,
            RxDrops {
                ring_full: 3,
                fill_empty: 5,
                invalid: 1,
            },
        );
        let mut batch = receive(&mut umem, &mut port, RING as usize);
        assert_eq!(umem.release_all(&mut batch), RING as usize);
        assert_eq!(port.statistics().unwrap().tx_invalid_descs, 0);
    });
}

#[test]
fn frames_that_the_kernel_would_refuse_never_reach_it() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        let wire = Wire::new("b0");
        let mut batch = Batch::new();
        for len in [1519, 1514] {
            batch.push(frame(&mut umem, &bytes(1, len))).unwrap();
        }
        batch.push(umem.allocate().unwrap()).unwrap();
        assert_eq!(port.transmit(&mut batch), 1);
        assert_eq!(batch.iter().map(Frame::len).collect::<Vec<_>>(), [1519, 0]);
        assert!(batch.iter().all(|frame| !port.accepts(frame)));
        assert_eq!(until("the good one", || wire.next()).len(), 1514);
        until("its completion", || {
            (port.reclaim(&mut umem) == 1).then_some(())
        });
        let statistics = port.statistics().unwrap();
        assert_eq!(
            (
                statistics.tx_invalid_descs,
                port.foreign(),
                port.tx_errors()
            ),
            (0, 0, 0)
        );
        umem.release_all(&mut batch);
        assert_eq!(umem.free(), umem.frames() as usize);
    });
}

#[test]
fn a_sleeping_worker_is_woken_by_a_frame() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        port.refill(&mut umem);
        let redirect = Redirect::attach("a0");
        redirect.steer(0, &port);
        let mut sleeper = Sleeper::new(port.poll_fd());
        assert!(!sleeper.sleep(Duration::ZERO));
        Wire::new("b0").send(&bytes(1, 60));
        assert!(sleeper.sleep(PATIENCE));
        assert!(sleeper.ready(0));
        assert_eq!(receive(&mut umem, &mut port, 1).len(), 1);
    });
}

/// `BPF_F_XDP_HAS_FRAGS`: the program takes frames of several buffers.
const HAS_FRAGS: u32 = 1 << 5;
const WIDE_MTU: usize = 9000;

/// A pair whose frames take several buffers.
fn wide_pair(near: &str, far: &str) {
    pair(near, far, 1);
    for end in [near, far] {
        run(&format!("ip link set {end} mtu {WIDE_MTU}"));
    }
}

fn open_wide(umem: &Umem, device: &str, share: Option<&XskPort>) -> XskPort {
    let config = XskConfig {
        frame_len_max: WIDE_MTU + 18,
        ..config(device, 0)
    };
    XskPort::open(umem, &config, share).unwrap()
}

/// Of one buffer, of two and of three, on both sides of each border (3,840 bytes each).
const MIXED: [usize; 10] = [60, 3840, 3841, 9014, 1500, 7680, 7681, 14, 9014, 8964];

#[test]
fn frames_of_several_buffers_cross_in_both_directions_between_shorter_ones() {
    in_own_netns(|| {
        assert!(takes_chains(), "AF_XDP has them from Linux 6.6 on");
        wide_pair("a0", "b0");
        wide_pair("c0", "d0");
        let mut umem = umem(ChunkSize::K16);
        let mut inward = open_wide(&umem, "a0", None);
        // Joins the registration, and inherits that frames may take several buffers.
        let mut outward = open_wide(&umem, "c0", Some(&inward));
        assert!(outward.mode().shared);
        inward.refill(&mut umem);
        let redirect = Redirect::attach_with("a0", HAS_FRAGS);
        redirect.steer(0, &inward);
        let (near, far) = (Wire::new("b0"), Wire::new("d0"));
        let sent: Vec<_> = (0..).zip(MIXED).map(|(n, len)| bytes(n, len)).collect();
        for round in 0..20 {
            sent.iter().for_each(|bytes| near.send(bytes));
            let mut batch = receive(&mut umem, &mut inward, MIXED.len());
            for (frame, sent) in batch.iter().zip(&sent) {
                assert_eq!(umem.room_in_front(frame), 256);
                assert!(umem.bytes(frame) == sent, "{} bytes", sent.len());
            }
            // On with other headers in front, as after encapsulation and decapsulation.
            let mut expected = Vec::new();
            for frame in batch.iter_mut() {
                let header = umem.bytes(frame)[..14].to_vec();
                let (pushed, pulled) = if round % 2 == 0 { (4, 0) } else { (0, 50) };
                if frame.len() > 64 {
                    assert!(umem.push(frame, pushed).is_some());
                    assert!(umem.pull(frame, pulled));
                }
                umem.bytes_mut(frame)[..14].copy_from_slice(&header);
                expected.push(umem.bytes(frame).to_vec());
            }
            assert_eq!(outward.transmit(&mut batch), MIXED.len());
            for expected in expected {
                let arrived = until("a frame at the far end", || far.next());
                assert!(arrived == expected, "{} bytes", expected.len());
            }
            let mut reclaimed = 0;
            until("its completions", || {
                reclaimed += outward.reclaim(&mut umem);
                (reclaimed == MIXED.len()).then_some(())
            });
            inward.refill(&mut umem);
            let held = inward.frames_held() + outward.frames_held();
            assert_eq!(umem.free() + held, umem.frames() as usize);
        }
        for port in [&inward, &outward] {
            assert_eq!((port.foreign(), port.tx_errors()), (0, 0));
            let statistics = port.statistics().unwrap();
            assert_eq!(statistics.tx_invalid_descs, 0, "{statistics:?}");
            assert_eq!(statistics.rx_drops(false).total(), 0, "{statistics:?}");
        }
    });
}

#[test]
fn a_frame_that_finds_too_few_buffers_is_dropped_whole_and_counted_once() {
    in_own_netns(|| {
        wide_pair("a0", "b0");
        let mut umem = umem(ChunkSize::K16);
        let mut port = open_wide(&umem, "a0", None);
        let redirect = Redirect::attach_with("a0", HAS_FRAGS);
        redirect.steer(0, &port);
        let wire = Wire::new("b0");
        assert_eq!(port.refill(&mut umem), RING as usize);
        // Three buffers each: 21 frames fill 63 of 64 entries, and one is left.
        for n in 0..25 {
            wire.send(&bytes(n, 9014));
        }
        wire.send(&bytes(25, 60));
        let drops = port.statistics_handle().unwrap();
        until("four drops", || {
            (drops.rx_drops().unwrap().total() == 4).then_some(())
        });
        let expected = RxDrops {
            fill_empty: 4,
            ..Default::default()
        };
        assert_eq!(drops.rx_drops().unwrap(), expected);
        let mut batch = receive(&mut umem, &mut port, 22);
        for (n, frame) in (0..).zip(batch.iter()).take(21) {
            assert!(umem.bytes(frame) == bytes(n, 9014), "frame {n}");
        }
        let last = batch.iter().last().unwrap();
        assert_eq!(umem.bytes(last), bytes(25, 60));
        umem.release_all(&mut batch);
        assert_eq!(umem.free() + port.frames_held(), umem.frames() as usize);
    });
}

#[test]
fn a_transmit_ring_with_room_for_a_part_of_a_frame_takes_none_of_it_and_all_go_in_the_end() {
    in_own_netns(|| {
        wide_pair("a0", "b0");
        let mut umem = umem(ChunkSize::K16);
        let mut port = open_wide(&umem, "a0", None);
        let wire = Wire::new("b0");
        let mut next = 0;
        let mut batch = Batch::new();
        let mut fill = |umem: &mut Umem, batch: &mut Batch| {
            while batch.room() > 0 {
                let len = [9014, 60, 5000][next as usize % 3];
                batch.push(frame(umem, &bytes(next, len))).unwrap();
                next += 1;
            }
        };
        // Nothing is reclaimed: the completion ring fills, then the transmit ring. Frames have 3 + 1 + 2 buffers.
        let (mut taken, mut arrived) = (0, 0);
        loop {
            fill(&mut umem, &mut batch);
            let more = port.transmit(&mut batch);
            taken += more;
            while let Some(seen) = wire.next() {
                let len = [9014, 60, 5000][arrived as usize % 3];
                assert!(seen == bytes(arrived, len), "frame {arrived}");
                arrived += 1;
            }
            if more == 0 {
                break;
            }
        }
        // The rings have 128 entries, of which a frame may leave the last ones free.
        let entries = |frames: usize| frames / 3 * 6 + [0, 3, 4][frames % 3];
        assert!((125..=128).contains(&entries(taken)), "{taken} taken");
        let left = batch.len();
        assert_eq!(umem.release_all(&mut batch), left);
        let mut reclaimed = 0;
        until("all of them", || {
            reclaimed += port.reclaim(&mut umem);
            while let Some(seen) = wire.next() {
                let len = [9014, 60, 5000][arrived as usize % 3];
                assert!(seen == bytes(arrived, len), "frame {arrived}");
                arrived += 1;
            }
            (reclaimed == taken && usize::from(arrived) == taken).then_some(())
        });
        assert_eq!(umem.free(), umem.frames() as usize);
        assert_eq!(port.statistics().unwrap().tx_invalid_descs, 0);
    });
}

const NEAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const UDP_PORT: u16 = 9000;
/// Behind the Ethernet and the IPv4 header.
const UDP: usize = 34;

/// A datagram from 10.0.0.1 to port 9000 of 10.0.0.2, whose UDP checksum is left: the field holds the sum over the pseudo-header.
fn unfinished_datagram(payload: &[u8]) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2(NEAR_MAC, FAR_MAC);
    let mut bytes = Vec::new();
    builder
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(4000, UDP_PORT)
        .write(&mut bytes, payload)
        .unwrap();
    let len = (bytes.len() - UDP) as u32;
    let addresses = bytes[26..UDP].chunks(2);
    let sum: u32 = addresses
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let sum = sum + 17 + len;
    let folded = (sum & 0xffff) + (sum >> 16);
    bytes[UDP + 6..UDP + 8].copy_from_slice(&(folded as u16).to_be_bytes());
    bytes
}

/// Whether the UDP checksum of such a datagram is the right one.
fn has_right_checksum(bytes: &[u8]) -> bool {
    let sliced = etherparse::SlicedPacket::from_ethernet(bytes).unwrap();
    let (Some(etherparse::NetSlice::Ipv4(ip)), Some(etherparse::TransportSlice::Udp(udp))) =
        (sliced.net, sliced.transport)
    else {
        panic!("a datagram: {bytes:x?}");
    };
    let (header, ip) = (udp.to_header(), ip.header().to_header());
    header.calc_checksum_ipv4(&ip, udp.payload()).unwrap() == header.checksum
}

/// The kernel's own socket is the judge: it takes a datagram whose checksum is right or known to be finished later, and no
/// other. What is left to a veth stays unfinished on it, as the kernel's own frames do; one without the offload shows what
/// the kernel finishes.
#[test]
fn a_checksum_that_is_asked_for_is_finished_by_the_device_or_else_by_the_kernel() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        run("ip link set b0 address 02:00:00:00:00:02");
        run("ip address add 10.0.0.2/24 dev b0");
        let socket = std::net::UdpSocket::bind(("10.0.0.2", UDP_PORT)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let wire = Wire::of("b0", [8, 0]);
        let mut umem = umem(ChunkSize::K2);
        let config = XskConfig {
            finishes: Finishes {
                copied: true,
                zero_copy: true,
            },
            ..config("a0", 0)
        };
        let mut port = XskPort::open(&umem, &config, None).unwrap();
        assert!(port.finishes_checksums() && port.mode().has_requests);

        for (offload, right_on_the_wire) in [("on", false), ("off", true)] {
            run(&format!("ethtool -K a0 tx {offload}"));
            assert_eq!(
                vxgate::steer::finishes_checksums("a0").unwrap(),
                offload == "on"
            );
            let mut batch = Batch::new();
            // Of the first nobody asks for anything, and nobody takes it.
            for (payload, asks) in [(&b"left alone"[..], false), (b"odd", true), (b"even", true)] {
                let mut frame = frame(&mut umem, &unfinished_datagram(payload));
                assert!(!asks || umem.request_checksum(&mut frame, UDP as u16, 6));
                batch.push(frame).unwrap();
            }
            assert_eq!(port.transmit(&mut batch), 3);
            for payload in [&b"odd"[..], b"even"] {
                let mut buffer = [0; 64];
                let len = until("a datagram", || socket.recv(&mut buffer).ok());
                assert_eq!(buffer[..len], *payload, "tx {offload}");
            }
            let seen: Vec<bool> = std::iter::from_fn(|| wire.next())
                .map(|bytes| has_right_checksum(&bytes))
                .collect();
            assert_eq!(seen, [false, right_on_the_wire, right_on_the_wire]);
            let mut back = 0;
            until("all frames back", || {
                back += port.reclaim(&mut umem);
                (back == 3).then_some(())
            });
        }
        let statistics = port.statistics().unwrap();
        assert_eq!(
            (
                statistics.tx_invalid_descs,
                port.foreign(),
                port.tx_errors()
            ),
            (0, 0, 0)
        );
    });
}

#[test]
fn ports_that_share_a_memory_with_requests_need_room_for_them_and_only_some_heed_them() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        pair("c0", "d0", 1);
        let mut umem = umem(ChunkSize::K2);
        let finishes = Finishes {
            copied: true,
            zero_copy: false,
        };
        let first = XskConfig {
            finishes,
            ..config("a0", 0)
        };
        let first = XskPort::open(&umem, &first, None).unwrap();
        let mut second = open(&umem, "c0", 0, Some(&first));
        assert!(first.finishes_checksums() && !second.finishes_checksums());
        assert!(second.mode().shared && second.mode().has_requests);
        let wire = Wire::new("d0");
        let mut batch = Batch::new();
        for room in [23, 24] {
            let mut sent = frame(&mut umem, &bytes(room, 60));
            let more = umem.room_in_front(&sent) - usize::from(room);
            umem.push(&mut sent, more)
                .unwrap()
                .copy_from_slice(&bytes(room, 60 + more));
            batch.push(sent).unwrap();
        }
        assert_eq!((second.transmit(&mut batch), batch.len()), (1, 1));
        let arrived = until("the one with room", || wire.next());
        assert_eq!(arrived[14..16], 24_u16.to_be_bytes());
        let statistics = second.statistics().unwrap();
        assert_eq!((statistics.tx_invalid_descs, second.tx_errors()), (0, 0));
        umem.release_all(&mut batch);
        drop(first);
    });
}

#[test]
fn memory_of_frames_in_several_buffers_has_no_place_for_requests() {
    in_own_netns(|| {
        wide_pair("a0", "b0");
        let umem = umem(ChunkSize::K16);
        let config = XskConfig {
            finishes: Finishes {
                copied: true,
                zero_copy: true,
            },
            frame_len_max: WIDE_MTU + 18,
            ..config("a0", 0)
        };
        let port = XskPort::open(&umem, &config, None).unwrap();
        assert!(!port.finishes_checksums() && !port.mode().has_requests);
    });
}
