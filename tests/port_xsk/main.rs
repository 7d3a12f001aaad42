//! `XskPort` on real sockets: veth pairs in a network namespace of each test's own, an XDP program that redirects every
//! frame of our Ethernet type to the socket of its queue, and raw packet sockets as the independent other end.
//!
//! ```text
//!     packet socket ── b0 ═══════ a0 ── XDP ── XskPort (queue 0, queue 1)
//! ```
//!
//! The namespace has no name: it belongs to the test's thread, and goes with it and all its devices. Needs root.
#![allow(unsafe_code)] // WHY: network namespaces, packet sockets and bpf(2) have no safe form here.

mod checksums;
mod frames;
mod opening;
mod redirect;
mod wide;
mod wire;

use std::ffi::CString;
use std::io;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use vxgate::port::{
    Batch, ChunkSize, Finishes, Frame, Port, Umem, UmemConfig, XskConfig, XskPort, ZeroCopy,
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
