//! Who runs `vxgate` in a test.

use crate::support::lab::{Lab, Node};
use crate::support::vxgate::{Status, Superframes, Vxgate};

/// Arguments of `vxgate run`.
pub type Flags = &'static [&'static str];

/// With a direct path.
pub const DIRECT: Flags = &["--direct", "flows"];
/// With one that no flow goes past the workers.
pub const DIRECT_BY_RING: Flags = &["--direct", "flows", "--express", "false"];
/// With one that filters count for nothing on.
pub const ALWAYS: Flags = &["--direct", "always"];
/// With both.
pub const ALWAYS_BY_RING: Flags = &["--direct", "always", "--express", "false"];
/// With one on which XDP takes what pods send.
pub const DIRECT_BY_XDP: Flags = &["--direct", "flows", "--pod-programs", "xdp"];

/// Conntrack follows connections that come back from the direct path, and what it calls invalid is dropped, as kube-proxy does.
pub const KUBE_PROXY: &str = "sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1
    nft 'table ip kube { chain forward { type filter hook forward priority 0; ct state invalid counter drop; ct state established,related accept; }; }'";

/// Whether `vxgate` is to have a direct path.
pub fn is_direct(flags: &[&str]) -> bool {
    flags.contains(&"--direct")
}

/// The kinds of direct path that a test is played with: this one, and with `VXGATE_DIRECT_KINDS=all` each of the five.
pub fn kinds(usual: Flags) -> Vec<Flags> {
    match std::env::var("VXGATE_DIRECT_KINDS").as_deref() {
        Ok("all") => vec![
            DIRECT,
            DIRECT_BY_RING,
            DIRECT_BY_XDP,
            ALWAYS,
            ALWAYS_BY_RING,
        ],
        _ => vec![usual],
    }
}

/// Gives both nodes the rules and the conntrack of one that is ready for a direct path.
pub fn kube_proxy(lab: &Lab) {
    for node in [Node::Master, Node::Worker] {
        lab.node(node).script(KUBE_PROXY);
    }
}

/// Readies a lab for flags with which XDP takes what pods send, if these are some.
pub fn ready_for_xdp(lab: &Lab, flags: &[&str]) {
    if flags.contains(&"--pod-programs") {
        take_redirects(lab);
        finish_checksums(lab);
    }
}

/// Has both nodes' underlay devices take frames from XDP on others: a veth does while its other end has GRO on.
pub fn take_redirects(lab: &Lab) {
    let switch = lab.netns("sw");
    for port in ["p1", "p2"] {
        switch.run(&format!("ethtool -K {port} gro on"));
    }
}

/// Has the client pods finish the checksums of what they send, as those do that make their frames themselves: XDP leaves others to the
/// classifier.
pub fn finish_checksums(lab: &Lab) {
    for node in [Node::Master, Node::Worker] {
        lab.client(node).run("ethtool -K eth0 tx off");
    }
}

/// Which nodes run `vxgate`; the others run the plain kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Nobody: the control that proves the test itself.
    None,
    /// Node 2.
    Worker,
    /// Node 1.
    Master,
    /// Both.
    Both,
}

impl Who {
    /// The nodes.
    pub fn nodes(self) -> &'static [Node] {
        match self {
            Self::None => &[],
            Self::Worker => &[Node::Worker],
            Self::Master => &[Node::Master],
            Self::Both => &[Node::Worker, Node::Master],
        }
    }

    /// Starts `vxgate` on each of them.
    pub fn start(self, lab: &Lab) -> Vec<(Node, Vxgate)> {
        let start = |&node| (node, Vxgate::start(&lab.node(node), &[]));
        self.nodes().iter().map(start).collect()
    }

    /// As [`Who::start`], with superframes or without, and with more arguments.
    pub fn start_with(
        self,
        lab: &Lab,
        superframes: Superframes,
        arguments: &[&str],
    ) -> Vec<(Node, Vxgate)> {
        let start = |&node| {
            let vxgate = Vxgate::start_with(&lab.node(node), superframes, arguments);
            (node, vxgate)
        };
        self.nodes().iter().map(start).collect()
    }
}

/// The status of each gateway.
pub fn statuses(gateways: &[(Node, Vxgate)]) -> Vec<Status> {
    gateways.iter().map(|(_, vxgate)| vxgate.status()).collect()
}

/// Asserts that every gateway has forwarded both ways since `before`: that the traffic went through it and not beside it.
pub fn assert_forwarded_since(gateways: &[(Node, Vxgate)], before: &[Status]) {
    for ((node, vxgate), before) in gateways.iter().zip(before) {
        let now = vxgate.status();
        for role in ["underlay", "access"] {
            let frames = now.forwarded(role) - before.forwarded(role);
            println!("    {node:?}: {frames} frames forwarded from the {role}");
            assert!(
                frames > 0,
                "vxgate on {node:?} forwards frames that enter by its {role} port: {}",
                now.0
            );
        }
    }
}
