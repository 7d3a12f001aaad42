//! The wire as an independent decoder sees it: dumpcap writes, tshark reads.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::netns::Netns;

/// A capture that runs.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    directory: TempDir,
}

/// A decoded frame on the underlay.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// As tshark prints it: `eth:ethertype:ip:udp:vxlan:eth:…`.
    pub protocols: String,
    /// tshark's mark for bytes that contradict their protocol.
    pub malformed: bool,
    /// Source and destination of every IPv4 header, outermost first.
    pub addresses: Vec<(String, String)>,
    /// Source and destination of every UDP header, outermost first.
    pub udp_ports: Vec<(u16, u16)>,
    /// Source and destination of every TCP header.
    pub tcp_ports: Vec<(u16, u16)>,
}

impl Capture {
    /// Starts to write what crosses a device; returns when it does.
    pub fn start(netns: &Netns, device: &str) -> Self {
        let directory = TempDir::with_prefix("vxgate-capture-").expect("a temporary directory");
        let mut child = netns
            .command("dumpcap")
            .args(["-q", "-B", "32", "-i", device, "-w"])
            .arg(directory.path().join("wire.pcapng"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("iproute2 is installed");
        let mut lines =
            BufReader::new(child.stderr.take().expect("the pipe was asked for")).lines();
        // "File: …" comes when the socket is open.
        let open = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.starts_with("File:"));
        assert!(open, "dumpcap captures on {device}");
        // Whatever it says on must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, directory }
    }

    /// Bytes of the file so far. The kernel hands frames over some time after they passed, and those that it has not handed over
    /// when the capture ends are not in it: who counts frames waits for their bytes.
    pub fn bytes(&self) -> u64 {
        let file = self.directory.path().join("wire.pcapng");
        file.metadata().map_or(0, |file| file.len())
    }

    /// Ends the capture and decodes all VXLAN frames of the underlay in it.
    pub fn finish(self) -> Vec<Decoded> {
        let fields = [
            "frame.protocols",
            "_ws.malformed",
            "ip.src",
            "ip.dst",
            "udp.srcport",
            "udp.dstport",
            "tcp.srcport",
            "tcp.dstport",
        ];
        let lines = self.finish_with("udp.dstport==8472", &fields);
        lines.iter().map(|columns| decoded(columns)).collect()
    }

    /// Ends the capture; the fields of every frame that passes the display filter, as tshark prints them. UDP checksums are
    /// verified.
    pub fn finish_with(mut self, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
        signal::kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT)
            .expect("dumpcap still runs");
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "dumpcap ends with {status}");
        let mut tshark = Command::new("tshark");
        tshark
            .arg("-r")
            .arg(self.directory.path().join("wire.pcapng"));
        tshark.args([
            "-n",
            "-o",
            "udp.check_checksum:TRUE",
            "-d",
            "udp.port==8472,vxlan",
            // Ports of the tests' own devices.
            "-d",
            "udp.port==5001-5010,vxlan",
            // A client's own port says nothing of what it sends, even where some protocol is at home on that number.
            "-d",
            "udp.port==32768-60999,data",
            "-d",
            "tcp.port==32768-60999,data",
            "-Y",
            filter,
            "-T",
            "fields",
            "-E",
            "separator=;",
        ]);
        tshark.args(fields.iter().flat_map(|field| ["-e", field]));
        let output = tshark.output().expect("tshark is installed");
        assert!(
            output.status.success(),
            "tshark ends with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| line.split(';').map(str::to_owned).collect())
            .collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asserts that every frame is VXLAN around a decodable Ethernet frame, without a mark of damage.
pub fn assert_clean(frames: &[Decoded]) {
    assert!(!frames.is_empty(), "the capture saw VXLAN frames");
    for frame in frames {
        assert!(!frame.malformed, "no frame is malformed: {frame:?}");
        assert!(
            frame.protocols.contains("udp:vxlan:eth:ethertype:"),
            "every frame decodes: {frame:?}"
        );
    }
}

/// The outer source ports of every inner TCP or UDP flow that a VTEP sent. Fragments and other protocols are left out.
pub fn source_ports(frames: &[Decoded], vtep: &str) -> BTreeMap<String, BTreeSet<u16>> {
    let mut flows: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for frame in frames {
        let [(outer_source, _), (source, destination), ..] = &frame.addresses[..] else {
            continue;
        };
        let inner_ports = if frame.protocols.ends_with(":tcp") || frame.protocols.contains(":tcp:")
        {
            frame.tcp_ports.first()
        } else {
            frame.udp_ports.get(1)
        };
        if let (true, Some(ports), Some(&(outer_port, _))) =
            (outer_source == vtep, inner_ports, frame.udp_ports.first())
        {
            flows
                .entry(format!("{source} {destination} {ports:?}"))
                .or_default()
                .insert(outer_port);
        }
    }
    flows
}

fn decoded(columns: &[String]) -> Decoded {
    let [
        protocols,
        malformed,
        ip_src,
        ip_dst,
        udp_src,
        udp_dst,
        tcp_src,
        tcp_dst,
    ] = columns
    else {
        panic!("tshark prints the columns that were asked for: {columns:?}");
    };
    let ports = |sources: &str, destinations: &str| {
        pairs(sources, destinations)
            .filter_map(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
            .collect()
    };
    Decoded {
        protocols: protocols.to_owned(),
        malformed: !malformed.is_empty(),
        addresses: pairs(ip_src, ip_dst)
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect(),
        udp_ports: ports(udp_src, udp_dst),
        tcp_ports: ports(tcp_src, tcp_dst),
    }
}

fn pairs<'a>(left: &'a str, right: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    left.split(',').zip(right.split(','))
}
