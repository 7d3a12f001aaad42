//! Paths that are narrower than the vxlan device: the pods are told so in the kernel's own words, and what fits goes on
//! through `vxgate`.
//!
//! Forwarding IPv4, a kernel tells senders what it learned of a path only where `ip_forward_use_pmtu` says so. By default it
//! sends two outer fragments, or loses the frame where the device sets DF.

use std::process::Output;
use std::time::Duration;

use crate::support::bulk::Transfer;
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::Superframes::{Auto, Off};
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;
use crate::who::Who;

const BULK_BYTES: u64 = 8 << 20;
/// Where `vxgate` runs; pods of this node send.
const NODE: Node = Node::Worker;

#[test]
fn p03_p05_senders_hear_of_a_narrow_link_what_the_plain_kernel_tells_them() {
    let settings = [(Who::None, Auto), (Who::Worker, Auto), (Who::Worker, Off)];
    let [plain, ours, without] = settings.map(|(who, superframes)| {
        let lab = Lab::with(LabOptions {
            dual_stack: true,
            ..LabOptions::default()
        });
        for node in [Node::Master, Node::Worker] {
            // The vxlan devices stay as they are: 1450 and 1430.
            lab.node(node).run("ip link set eth1 mtu 1400");
        }
        let gateways = who.start_with(&lab, superframes, &[]);
        let (client, peer) = (lab.client(NODE), lab.client_address(NODE.peer()));
        client.run(&format!("ping -q -c 5 -i 0.1 -W 3 -M do -s 1422 {peer}"));
        tell_senders(&lab);
        let words = [
            refused(&client, &peer, 1422),
            refused(&client, &lab.client_address6(NODE.peer()), 1382),
        ];
        for (_, vxgate) in &gateways {
            assert_narrow(vxgate, &lab.vtep_address(NODE.peer()), 1400);
            assert_narrow(vxgate, &lab.vtep_address6(NODE.peer()), 1400);
            assert!(oversize(vxgate) > 0, "the kernel had frames to judge");
            assert_eq!(vxgate.status().drops("access", "oversize"), 0);
            small_frames_are_ours(&lab, vxgate);
        }
        transfer(&lab);
        for (_, vxgate) in gateways {
            transfer_was_ours(&vxgate);
            vxgate.stop();
        }
        words
    });
    println!("    kernel: {plain:?}");
    assert_eq!((&plain, &plain), (&ours, &without));
    assert!(plain[0].contains("mtu = 1350"), "{}", plain[0]);
    assert!(plain[1].contains("mtu=1330"), "{}", plain[1]);
}

#[test]
fn p08_a_narrow_link_behind_a_router_is_learned_and_followed() {
    let [plain, ours] = [Who::None, Who::Worker].map(|who| {
        let lab = Lab::with(LabOptions {
            routed: true,
            ..LabOptions::default()
        });
        for node in [Node::Master, Node::Worker] {
            // With DF in the outer header, routers say what does not fit instead of fragmenting it.
            lab.node(node)
                .run("ip link set flannel.1 type vxlan id 1 df set");
        }
        let gateways = who.start(&lab);
        tell_senders(&lab);
        for (net, device, own) in [
            ("10.0.0", "eth0", "10.0.0.1"),
            ("10.0.1", "eth1", "10.0.1.1"),
        ] {
            lab.netns("r1").run(&format!(
                "ip route replace {net}.0/24 dev {device} proto kernel src {own} mtu 1300"
            ));
        }
        for (_, vxgate) in &gateways {
            assert_eq!(path_mtu(vxgate, &lab.vtep_address(NODE.peer())), 1500);
        }
        let (client, peer) = (lab.client(NODE), lab.client_address(NODE.peer()));
        // The router's word is about a frame that is lost; the next one makes the kernel tell the pod.
        wait_until("the pod hears of it", Duration::from_secs(20), || {
            echoes(&client, &peer, 1422).contains("mtu = 1250")
        });
        let words = refused(&client, &peer, 1422);
        for (_, vxgate) in &gateways {
            assert_narrow(vxgate, &lab.vtep_address(NODE.peer()), 1300);
            small_frames_are_ours(&lab, vxgate);
        }
        transfer(&lab);
        for (_, vxgate) in gateways {
            transfer_was_ours(&vxgate);
            vxgate.stop();
        }
        words
    });
    println!("    kernel: {plain}");
    assert_eq!(plain, ours);
    assert!(plain.contains("mtu = 1250"), "{plain}");
}

fn tell_senders(lab: &Lab) {
    for node in [Node::Master, Node::Worker] {
        lab.node(node)
            .run("sysctl -qw net.ipv4.ip_forward_use_pmtu=1");
    }
}

/// What `ping` prints about echoes that must not be fragmented.
fn echoes(client: &Netns, peer: &str, size: u32) -> String {
    let size = size.to_string();
    let output: Output = client
        .command("ping")
        .args(["-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", &size])
        .arg(peer)
        .output()
        .expect("ping is installed");
    [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat()
}

/// The first answer that says how much fits, without the number of the echo; the pod forgets it again.
fn refused(client: &Netns, peer: &str, size: u32) -> String {
    let mut words = None;
    wait_until(
        "an answer that says how much fits",
        Duration::from_secs(20),
        || {
            for family in ["-4", "-6"] {
                client.run(&format!("ip {family} route flush cache"));
            }
            let said = echoes(client, peer, size);
            let mut answers = said
                .lines()
                .filter(|line| line.starts_with("From ") && line.contains("mtu"));
            words = answers.next().map(|line| {
                let kept = line
                    .split(' ')
                    .filter(|word| !word.starts_with("icmp_seq="));
                kept.collect::<Vec<_>>().join(" ")
            });
            words.is_some()
        },
    );
    words.expect("waited for")
}

fn path_mtu(vxgate: &Vxgate, vtep: &str) -> u64 {
    let status = vxgate.status();
    let mut vteps = status.list("vteps");
    vteps.find(|known| known["addr"] == vtep).expect("a VTEP")["path_mtu"]
        .as_u64()
        .expect("a number")
}

/// `vxgate` knows how narrow the path is, and warns of it.
fn assert_narrow(vxgate: &Vxgate, vtep: &str, mtu: u64) {
    wait_until(
        &format!("{vtep} has a path of {mtu}"),
        Duration::from_secs(10),
        || path_mtu(vxgate, vtep) == mtu,
    );
    let status = vxgate.status();
    assert!(
        status.list("warnings").any(|warning| {
            let warning = warning.as_str().expect("text");
            warning.contains(vtep) && warning.contains(&format!("the path takes {mtu} bytes"))
        }),
        "{}",
        status.0
    );
}

/// Frames that stayed with the kernel for their length.
fn oversize(vxgate: &Vxgate) -> u64 {
    let status = vxgate.status();
    let ports = status.list("ports");
    ports
        .map(|port| port["passed"]["oversize"].as_u64().expect("a count"))
        .sum()
}

/// The largest echo that fits goes through `vxgate`, both ways.
fn small_frames_are_ours(lab: &Lab, vxgate: &Vxgate) {
    let before = vxgate.status();
    let (client, peer) = (lab.client(NODE), lab.client_address(NODE.peer()));
    let path = path_mtu(vxgate, &lab.vtep_address(NODE.peer()));
    // Outer headers 50, inner IPv4 and ICMP 28.
    let size = path - 50 - 28;
    client.run(&format!(
        "ping -q -c 20 -i 0.01 -W 3 -M do -s {size} {peer}"
    ));
    let after = vxgate.status();
    for role in ["underlay", "access"] {
        let frames = after.forwarded(role) - before.forwarded(role);
        assert!(frames >= 20, "{frames} frames forwarded from {role}");
    }
}

/// Hashed at both ends.
fn transfer(lab: &Lab) {
    Transfer::start(
        &lab.client(NODE),
        &lab.client(NODE.peer()),
        &lab.client_address(NODE.peer()),
        BULK_BYTES,
        None,
    )
    .finish();
}

/// Both ends have learned what fits, so that their segments go through `vxgate`: far more than a few.
fn transfer_was_ours(vxgate: &Vxgate) {
    let status = vxgate.balanced();
    let (forwarded, passed) = (status.forwarded_segments("access"), oversize(vxgate));
    println!("    forwarded {forwarded}, oversize {passed}");
    assert!(
        forwarded > BULK_BYTES / 1400 / 2,
        "{forwarded} frames forwarded"
    );
    assert!(passed < forwarded / 10, "{passed} frames were too long");
}
