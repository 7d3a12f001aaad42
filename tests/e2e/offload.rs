//! Outer UDP checksums: left to a device that finishes them, as the kernel leaves those of its own vxlan, and computed where
//! the device does not. The plain kernel at the other end takes both, over IPv4 and IPv6.

use crate::support::bulk;
use crate::support::capture::Capture;
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::vxgate::Superframes::Off;
use crate::who::{Who, assert_forwarded_since, statuses};

/// Of tshark.
const WRONG: &str = "0";
const GOOD: &str = "1";

#[test]
fn outer_checksums_are_left_to_a_device_that_finishes_them_and_to_no_other() {
    for (offloads, by, on_the_wire) in [(true, "device", WRONG), (false, "worker", GOOD)] {
        let lab = Lab::with(LabOptions {
            dual_stack: true,
            offloads,
            ..LabOptions::default()
        });
        // Without superframes every frame leaves by a socket.
        let gateways = Who::Worker.start_with(&lab, Off, &[]);
        let before = statuses(&gateways);
        let port = before[0]
            .list("ports")
            .find(|port| port["role"] == "underlay");
        let port = port.expect("an underlay device");
        assert_eq!(port["outer_checksums"], by, "{port}");
        assert!(port["numa_node"].is_null(), "a veth is on no node: {port}");
        let [master, worker] = [Node::Master, Node::Worker].map(|node| lab.client(node));
        let wire = Capture::start(&lab.netns("sw"), "p2");
        for address in [
            lab.client_address(Node::Master),
            lab.client_address6(Node::Master),
        ] {
            bulk::tcp_flows(&worker, &master, &address, 8);
            bulk::udp_flows(&worker, &master, &address, 8);
        }
        assert_forwarded_since(&gateways, &before);
        let from = lab.mac(Node::Worker, "eth1");
        let sent = wire.finish_with(
            &format!("eth.src=={from} && vxlan"),
            &["ip.version", "udp.checksum.status"],
        );
        let outermost = |column: &String| column.split(',').next().unwrap_or_default().to_owned();
        for version in ["4", "6"] {
            let of_family = sent
                .iter()
                .filter(|columns| outermost(&columns[0]) == version);
            let statuses: Vec<_> = of_family.map(|columns| outermost(&columns[1])).collect();
            // A worker that was kept off a busy core for 200 ms left frames to the kernel, whose sums fare alike.
            assert!(statuses.len() > 100, "{} of IPv{version}", statuses.len());
            assert!(
                statuses.iter().all(|status| status == on_the_wire),
                "IPv{version}, by the {by}: {statuses:?}"
            );
        }
        let refused = lab
            .node(Node::Master)
            .run("nstat -asz UdpInCsumErrors Udp6InCsumErrors");
        let counts = refused.lines().filter(|line| !line.starts_with('#'));
        for line in counts {
            assert_eq!(line.split_ascii_whitespace().nth(1), Some("0"), "{refused}");
        }
        for (_, vxgate) in gateways {
            vxgate.balanced();
            vxgate.stop();
        }
    }
}
