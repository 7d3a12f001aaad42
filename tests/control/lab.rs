//! Two joined network namespaces for the mirror's tests.
//!
//! ```text
//!   a (the test thread lives here)                b (the other end of the wire)
//!   u0 10.9.0.1/24 ═══════════ veth ═══════════ u0 10.9.0.2/24, 10.9.0.3/24
//!   vx1: VNI 1, local 10.9.0.1, dev u0, UDP 8472, nolearning
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::Receiver;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use vxgate::control::{Control, Event, Found, Running, discover};
use vxgate::netlink::{RequestBody, Socket, links, neighbours};
use vxgate::table::{
    Destination, NextHop, Reader, Segment, Snapshot, UnresolvedReason, publication,
};
use vxgate::wire::MacAddr;

/// How long a condition may take to come true. Far more than it takes: only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The namespaces; removed when dropped.
pub struct Lab {
    pub a: String,
    pub b: String,
}

impl Lab {
    /// Builds the topology and moves the calling thread into `a`.
    pub fn new() -> Self {
        let name = format!(
            "vx{}-{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        let lab = Self {
            a: format!("{name}-a"),
            b: format!("{name}-b"),
        };
        for ns in [&lab.a, &lab.b] {
            run(&format!("ip netns add {ns}"));
            // Fewer unrelated announcements.
            run(&format!(
                "ip netns exec {ns} sysctl -qw net.ipv6.conf.default.disable_ipv6=1"
            ));
        }
        run(&format!(
            "ip link add u0 netns {} type veth peer name u0 netns {}",
            lab.a, lab.b
        ));
        lab.in_a("addr add 10.9.0.1/24 dev u0");
        lab.in_b("addr add 10.9.0.2/24 dev u0");
        lab.in_b("addr add 10.9.0.3/24 dev u0");
        lab.in_a("link set u0 up");
        lab.in_b("link set u0 up");
        lab.in_a("link add vx1 type vxlan id 1 local 10.9.0.1 dev u0 dstport 8472 nolearning");
        lab.in_a("link set vx1 up");
        let file = File::open(format!("/run/netns/{}", lab.a)).expect("the namespace exists");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may enter it");
        lab
    }

    /// `ip -n a ...`
    pub fn in_a(&self, arguments: &str) {
        run(&format!("ip -n {} {arguments}", self.a));
    }

    /// `ip -n b ...`
    pub fn in_b(&self, arguments: &str) {
        run(&format!("ip -n {} {arguments}", self.b));
    }

    /// `bridge -n a fdb ...`
    pub fn fdb(&self, arguments: &str) {
        run(&format!("bridge -n {} fdb {arguments}", self.a));
    }

    /// What `ip -n a neigh show ADDR` prints.
    pub fn neighbour(&self, addr: &str) -> String {
        run(&format!("ip -n {} neigh show {addr}", self.a))
    }

    pub fn found(&self, name: &str) -> Found {
        let all = discover(&mut Socket::open().unwrap()).unwrap();
        all.into_iter()
            .find(|found| found.device.name == name)
            .unwrap_or_else(|| panic!("no device {name}"))
    }

    pub fn ifindex(&self, name: &str) -> u32 {
        let all = links(&mut Socket::open().unwrap()).unwrap();
        let link = all.iter().find(|link| link.name == name);
        link.unwrap_or_else(|| panic!("no link {name}")).ifindex
    }

    /// A mirror of vx1 at work.
    pub fn mirror(&self) -> Mirror {
        self.mirror_watching(&[])
    }

    pub fn mirror_watching(&self, watched: &[u32]) -> Mirror {
        Mirror::start(Control::open(&[self.found("vx1")], watched).unwrap())
    }

    /// What a mirror that starts now sees.
    pub fn fresh(&self) -> View {
        View::of(&Control::open(&[self.found("vx1")], &[]).unwrap().snapshot())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for ns in [&self.a, &self.b] {
            Command::new("ip").args(["netns", "del", ns]).status().ok();
        }
    }
}

/// Runs a command that must succeed; returns what it prints.
pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .expect("iproute2 is installed");
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until a condition holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A running mirror, as the rest of the process sees it.
pub struct Mirror {
    pub running: Running,
    pub reader: Reader,
    pub events: Receiver<Event>,
}

impl Mirror {
    pub fn start(control: Control) -> Self {
        let (writer, mut readers) = publication(1, control.snapshot());
        let (sender, events) = crossbeam::channel::bounded(64);
        let running = control.start(writer, sender).unwrap();
        Self {
            running,
            reader: readers.pop().unwrap(),
            events,
        }
    }

    pub fn view(&mut self) -> View {
        View::of(self.reader.snapshot())
    }

    /// Waits until the mirror shows this.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&View) -> bool) {
        let start = Instant::now();
        loop {
            let view = self.view();
            if holds(&view) {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "never came true: {what}\n{view:#?}\n{:#?}",
                self.running.report()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the mirror shows what one that starts now would.
    pub fn until_fresh(&mut self, lab: &Lab) {
        let mut fresh = lab.fresh();
        self.until(&format!("as after a fresh start: {fresh:#?}"), |view| {
            fresh = lab.fresh();
            *view == fresh
        });
    }
}

/// What a segment says, free of numbering.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// Address to (VTEP, port, VNI), where it leads to one.
    pub fdb: BTreeMap<MacAddr, (IpAddr, u16, u32)>,
    /// Address to the members of its group and the part of the flows that each gets, in 64ths.
    pub groups: BTreeMap<MacAddr, BTreeMap<IpAddr, u32>>,
    /// Address to all of its destinations.
    pub lists: BTreeMap<MacAddr, BTreeSet<IpAddr>>,
    pub flood: BTreeSet<IpAddr>,
    pub peers: Vec<IpAddr>,
    /// VTEP to its next hop's address.
    pub vteps: BTreeMap<(IpAddr, u16, u32), Result<MacAddr, UnresolvedReason>>,
    pub config: String,
}

impl View {
    pub fn of(snapshot: &Snapshot) -> Self {
        snapshot
            .segments
            .first()
            .map(Self::of_segment)
            .unwrap_or_default()
    }

    fn of_segment(segment: &Segment) -> Self {
        let key = |id: vxgate::table::VtepId| {
            let key = segment.vteps[id.0 as usize].key;
            (key.addr, key.port, key.vni.get())
        };
        let mac = |next_hop: &NextHop| match next_hop {
            NextHop::Resolved(template) => Ok(template.next_hop_mac()),
            NextHop::Unresolved(reason) => Err(*reason),
        };
        let (mut fdb, mut groups, mut lists) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (mac, destination) in segment.fdb.iter() {
            match destination {
                Destination::Vtep(id) => drop(fdb.insert(mac, key(id))),
                Destination::Group(id) => {
                    let portions = segment.groups[id.0 as usize].portions();
                    let portions =
                        portions.map(|(id, part)| (key(id).0, (part * 64.0).round() as u32));
                    groups.insert(mac, portions.collect());
                }
                Destination::List(id) => {
                    let list = &segment.lists[id.0 as usize];
                    lists.insert(mac, list.iter().map(|id| key(*id).0).collect());
                }
            }
        }
        Self {
            fdb,
            groups,
            lists,
            flood: segment.flood.iter().map(|id| key(*id).0).collect(),
            peers: segment.peers.to_vec(),
            vteps: segment
                .vteps
                .iter()
                .map(|vtep| {
                    (
                        (vtep.key.addr, vtep.key.port, vtep.key.vni.get()),
                        mac(&vtep.next_hop),
                    )
                })
                .collect(),
            config: format!("{:?}", segment.config),
        }
    }

    /// Where an address 02:00:00:00:00:xx leads.
    pub fn to(&self, last: u8) -> Option<IpAddr> {
        self.fdb.get(&mac(last)).map(|(addr, ..)| *addr)
    }

    /// The members of the group that an address 02:00:00:00:00:xx leads to, by last byte, with their 64ths of the flows.
    pub fn group(&self, last: u8) -> Vec<(u8, u32)> {
        let members = self.groups.get(&mac(last)).into_iter().flatten();
        let last = |addr: &IpAddr| match addr {
            IpAddr::V4(addr) => addr.octets()[3],
            IpAddr::V6(addr) => addr.octets()[15],
        };
        members.map(|(addr, part)| (last(addr), *part)).collect()
    }

    /// The next hop's address of a VTEP with the device's own port and VNI.
    pub fn next_hop(&self, vtep: &str) -> Option<Result<MacAddr, UnresolvedReason>> {
        self.vteps.get(&(addr(vtep), 8472, 1)).copied()
    }
}

pub fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// 02:00:00:00:00:xx
pub fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

/// Writes FDB entries as flannel does: `NUD_PERMANENT` alone, which `bridge fdb` cannot.
pub struct FdbWriter {
    socket: Socket,
    ifindex: u32,
}

impl FdbWriter {
    pub fn new(ifindex: u32) -> Self {
        Self {
            socket: Socket::open().unwrap(),
            ifindex,
        }
    }

    /// `RTM_NEWNEIGH` with create and replace, or `RTM_DELNEIGH`.
    pub fn set(&mut self, mac: MacAddr, dst: Option<Ipv4Addr>) {
        let [a, b, c, d] = self.ifindex.to_ne_bytes();
        let header = [7, 0, 0, 0, a, b, c, d, 0x80, 0, 2, 0];
        let body = RequestBody::new(&header).with(2, &mac.0);
        let (kind, flags, body) = match dst {
            Some(dst) => (28, 0x500, body.with(1, &dst.octets())),
            None => (29, 0, body),
        };
        self.socket
            .exchange(kind, flags, body.as_bytes(), |_| {})
            .unwrap();
    }

    /// How many entries the kernel has.
    pub fn count(&mut self) -> usize {
        neighbours(&mut self.socket, self.ifindex, true)
            .unwrap()
            .len()
    }
}

/// Resident memory of this process, in KiB.
pub fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Voluntary and involuntary context switches of the mirror's thread of the calling thread's namespace.
pub fn context_switches() -> u64 {
    let ours = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let tasks = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| task.ok());
    let thread = tasks.map(|task| task.path()).find(|task| {
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        name.trim() == "vxgate-control"
            && fs::read_link(task.join("ns/net")).is_ok_and(|ns| ns == ours)
    });
    let status = fs::read_to_string(thread.expect("the thread lives").join("status")).unwrap();
    let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
    counts
        .map(|line| {
            line.split_whitespace()
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap()
        })
        .sum()
}
